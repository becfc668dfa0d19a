//! Connections to Elasticsearch, OpenSearch and Kibana: which node, who we are, whom we trust, how long we wait.
//!
//! A request goes to one node and is never sent twice from here: what failed is the caller's to judge, and [`SendError`]
//! tells what could not have been applied from what may have been. Every request has a deadline that covers the reading
//! of its answer. Content types are the plain ones, never those of one product's version, so that OpenSearch and
//! Elasticsearch 7 are targets too. System proxies are not used: an address in the configuration is the address.

use std::error::Error as _;
use std::fmt::Debug;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use elasticsearch::auth::{ClientCertificate, Credentials};
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Url;
use elasticsearch::http::headers::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT, X_OPAQUE_ID,
};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};

use crate::config::{self, Login};
use health::Health;

mod health;

pub use elasticsearch::http::Method;

/// A larger answer is refused. It is a bound against strange servers: our own requests are answered with far less.
const MAX_REPLY_BYTES: u64 = 64 << 20;

/// How much of an answer that is not JSON is shown.
const MAX_WORDS: usize = 300;

const AGENT: &str = concat!("logweir/", env!("CARGO_PKG_VERSION"));

/// Why there is no client. Wrong configuration stops the start.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An address that cannot be used.
    #[error("cannot use the address {address}: {words}")]
    Address {
        /// As configured, without a password.
        address: String,
        /// What would be right.
        words: String,
    },
    /// A certificate file that cannot be used.
    #[error("cannot use the certificate file {}: {words}", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        words: String,
    },
    /// The login has characters that no header can carry.
    #[error("the API key has characters that cannot be sent: expected the encoded form, without spaces or line breaks")]
    Login,
    /// TLS or the HTTP client did not start.
    #[error("cannot build a client for {address}: {words}")]
    Build {
        /// For which address.
        address: String,
        /// Why.
        words: String,
    },
}

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// There is none, or one JSON value.
    #[default]
    Json,
    /// One JSON value a line.
    Ndjson,
    /// A form with a file in it, made by [`form`].
    Form,
}

macro_rules! boundary {
    () => {
        "logweir-4b1f6e0c9a7d"
    };
}

/// A form whose only field, `file`, is a file of this name and content. The content must have no line that starts with
/// `--`, as no JSON has.
#[must_use]
pub fn form(name: &str, content: &str) -> Bytes {
    debug_assert!(!content.lines().any(|line| line.starts_with("--")), "it would end there");
    let between = concat!("--", boundary!());
    let about = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"");
    Bytes::from(format!("{between}\r\n{about}\r\nContent-Type: application/ndjson\r\n\r\n{content}\r\n{between}--\r\n"))
}

/// One request.
#[derive(Debug)]
pub struct Request<'a> {
    /// What to do.
    pub method: Method,
    /// Where, below the node's address; percent-encoded where necessary.
    pub path: &'a str,
    /// Parameters, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// With what.
    pub body: Option<Bytes>,
    /// What the body is.
    pub kind: Kind,
    /// Whether the body is gzip.
    pub gzip: bool,
    /// Name by which the request can be found in the cluster's tasks.
    pub opaque_id: Option<&'a str>,
    /// How long to wait for the whole answer.
    pub deadline: Duration,
    /// Which node to ask; `None`: the one whose turn it is.
    pub node: Option<usize>,
}

impl<'a> Request<'a> {
    /// A request without body or parameters.
    #[must_use]
    pub fn new(method: Method, path: &'a str, deadline: Duration) -> Self {
        Self {
            method,
            path,
            query: &[],
            body: None,
            kind: Kind::Json,
            gzip: false,
            opaque_id: None,
            deadline,
            node: None,
        }
    }
}

/// A whole answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// All of the body.
    pub body: Bytes,
    /// Which node answered.
    pub node: usize,
    /// How long the node asks us to stay away.
    pub retry_after: Option<Duration>,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection was made: the request cannot have been applied.
    #[error("cannot connect to {address}: {words}")]
    NotSent {
        /// The node.
        address: String,
        /// Why.
        words: String,
    },
    /// The request, or a part of it, may have left: it may have been applied, or may yet be.
    #[error("no whole answer from {address}: {words}")]
    Ambiguous {
        /// The node.
        address: String,
        /// Its number, for [`Request::node`].
        node: usize,
        /// Why.
        words: String,
    },
}

/// What a cluster says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Version, such as `9.2.0`; `None` where there is no such answer.
    pub version: Option<String>,
    /// `opensearch` there; Elasticsearch does not say.
    pub distribution: Option<String>,
}

/// Whoever answers requests: the nodes behind a [`Client`], or a model of them.
pub trait Cluster: Send + Sync + Debug {
    /// Sends `request` once. Dropping the future gives it up; what was sent may be applied all the same.
    fn send<'a>(&'a self, request: Request<'a>) -> Answer<'a>;

    /// Whether all of it is on this machine, where compression costs more than it saves.
    fn is_loopback(&self) -> bool;

    /// How many nodes there are to be named by [`Request::node`].
    fn nodes(&self) -> usize {
        1
    }

    /// Sends a small request whose answer is JSON: its status and its value; where it is none, its beginning as text.
    fn json<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        query: &'a [(&'a str, &'a str)],
        body: Option<&serde_json::Value>,
        deadline: Duration,
    ) -> Answer<'a, (u16, serde_json::Value)> {
        let body = body.map(|value| Bytes::from(value.to_string()));
        Box::pin(async move {
            let reply = self.send(Request { query, body, ..Request::new(method, path, deadline) }).await?;
            let value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| {
                let text = String::from_utf8_lossy(&reply.body[..reply.body.len().min(MAX_WORDS)]);
                serde_json::Value::String(text.split_whitespace().collect::<Vec<_>>().join(" "))
            });
            Ok((reply.status, value))
        })
    }
}

/// A request on its way.
pub type Answer<'a, T = Reply> = Pin<Box<dyn Future<Output = Result<T, SendError>> + Send + 'a>>;

impl Cluster for Client {
    fn send<'a>(&'a self, request: Request<'a>) -> Answer<'a> {
        Box::pin(Self::send(self, request))
    }

    fn is_loopback(&self) -> bool {
        Self::is_loopback(self)
    }

    fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

/// Connections to the nodes of one cluster.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<Node>,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Node {
    index: usize,
    address: String,
    host: String,
    transport: Transport,
}

impl Client {
    /// A client for the configured cluster; nothing is sent yet.
    pub fn new(cfg: &config::Elasticsearch, login: Login) -> Result<Self, ClientError> {
        Self::build(&cfg.urls, &cfg.tls, &login, HeaderMap::new())
    }

    /// A client for Kibana or OpenSearch Dashboards at `url`. Each wants a header of its own on everything that writes,
    /// and does not mind the other's, so that nobody needs to know before which of them answers.
    pub fn kibana(url: &str, tls: &config::Tls, login: Login) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        for name in ["kbn-xsrf", "osd-xsrf"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("logweir"));
        }
        Self::build(&[url.to_owned()], tls, &login, headers)
    }

    fn build(urls: &[String], tls: &config::Tls, login: &Login, headers: HeaderMap) -> Result<Self, ClientError> {
        let nodes = urls.iter().enumerate();
        let nodes = nodes.map(|(index, url)| Node::new(index, url, tls, login, headers.clone()));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err(ClientError::Address {
                address: "(none)".to_owned(),
                words: "expected at least one".to_owned(),
            });
        }
        let health = Mutex::new(Health::new(nodes.len()));
        Ok(Self { nodes, health })
    }

    /// Whether every node is on this machine, where compression costs more than it saves.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.nodes.iter().all(|node| {
            let host = node.host.trim_matches(['[', ']']);
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        })
    }

    /// Sends `request` to the node whose turn it is, once. Dropping the future closes the connection; what was sent may
    /// be applied all the same.
    pub async fn send(&self, request: Request<'_>) -> Result<Reply, SendError> {
        let node = request.node.unwrap_or_else(|| self.health().choose(Instant::now()));
        let deadline = request.deadline;
        let result = match tokio::time::timeout(deadline, self.nodes[node].send(request)).await {
            Ok(result) => result,
            Err(_) => Err(self.nodes[node].ambiguous(format!("nothing within {deadline:?}"))),
        };
        match &result {
            Ok(_) => self.health().answered(node),
            Err(_) => self.health().failed(node, Instant::now()),
        }
        result
    }

    /// What the cluster says of itself: nothing where `GET /` is refused or missing. What is no cluster's answer, or one
    /// for now, is no whole answer.
    pub async fn info(&self, deadline: Duration) -> Result<Info, SendError> {
        let (status, said) = self.json(Method::Get, "", &[], None, deadline).await?;
        if matches!(status, 408 | 429 | 500..) || (status < 300 && !said.is_object()) {
            return Err(self.nodes[0].ambiguous(format!("status {status}: {said}")));
        }
        let text = |key: &str| Some(said.get("version")?.get(key)?.as_str()?.to_owned());
        Ok(Info { version: text("number"), distribution: text("distribution") })
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn new(
        index: usize,
        address: &str,
        tls: &config::Tls,
        login: &Login,
        headers: HeaderMap,
    ) -> Result<Self, ClientError> {
        let url = parse(address)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let shown = url.to_string();
        let build = |words: String| ClientError::Build { address: shown.clone(), words };

        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
            .headers(headers)
            .enable_meta_header(false)
            .disable_proxy();
        if let Some(path) = &tls.client_certificate_file {
            let pem = read(path)?;
            builder = builder.auth(Credentials::Certificate(ClientCertificate::Pem(pem)));
        }
        if let Some(path) = &tls.ca_file {
            let words = |words: String| ClientError::Certificate { path: path.clone(), words };
            let chain = Certificate::from_pem(&read(path)?).map_err(|error| words(error.to_string()))?;
            builder = builder.cert_validation(CertificateValidation::Full(chain));
        }
        if tls.insecure {
            builder = builder.cert_validation(CertificateValidation::None);
        }
        let transport = builder.build().map_err(|error| match &tls.client_certificate_file {
            // The only thing built here that comes from the user.
            Some(path) => ClientError::Certificate { path: path.clone(), words: error.to_string() },
            None => build(error.to_string()),
        })?;
        // After building: a client certificate takes the same place, and both may be wanted.
        match login {
            Login::None => {}
            Login::ApiKey(key) if HeaderValue::from_str(key.expose()).is_err() => return Err(ClientError::Login),
            Login::ApiKey(key) => transport.set_auth(Credentials::EncodedApiKey(key.expose().to_owned())),
            Login::Basic { username, password } => {
                transport.set_auth(Credentials::Basic(username.clone(), password.expose().to_owned()));
            }
        }
        Ok(Self { index, address: shown, host, transport })
    }

    async fn send(&self, request: Request<'_>) -> Result<Reply, SendError> {
        let query = (!request.query.is_empty()).then_some(request.query);
        let headers = headers(&request);
        let sent = self.transport.send(request.method, request.path, headers, query, request.body, None).await;
        let response = sent.map_err(|error| self.error(&error))?;
        let status = response.status_code().as_u16();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // The crate reads an answer without a length whole; one that states its length is refused before.
        if response.content_length().is_some_and(|length| length > MAX_REPLY_BYTES) {
            return Err(self.ambiguous("the answer is larger than 64 MiB".to_owned()));
        }
        let body = response.bytes().await.map_err(|error| self.ambiguous(chain(&error)))?;
        if body.len() as u64 > MAX_REPLY_BYTES {
            return Err(self.ambiguous("the answer is larger than 64 MiB".to_owned()));
        }
        Ok(Reply { status, body, node: self.index, retry_after: retry_after.map(Duration::from_secs) })
    }

    fn error(&self, error: &elasticsearch::Error) -> SendError {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if inner.downcast_ref().is_some_and(hyper_util::client::legacy::Error::is_connect) {
                return SendError::NotSent { address: self.address.clone(), words: chain(error) };
            }
            cause = inner.source();
        }
        self.ambiguous(chain(error))
    }

    fn ambiguous(&self, words: String) -> SendError {
        SendError::Ambiguous { address: self.address.clone(), node: self.index, words }
    }
}

fn headers(request: &Request<'_>) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, json.clone());
    // Our answers are small or compress to little use: unpacking them would cost more than it saves.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(
        CONTENT_TYPE,
        match request.kind {
            Kind::Json => json,
            Kind::Ndjson => HeaderValue::from_static("application/x-ndjson"),
            Kind::Form => HeaderValue::from_static(concat!("multipart/form-data; boundary=", boundary!())),
        },
    );
    if request.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(id) = request.opaque_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(HeaderName::from_static(X_OPAQUE_ID), id);
    }
    headers
}

fn parse(address: &str) -> Result<Url, ClientError> {
    let wrong = |words: &str| ClientError::Address { address: without_password(address), words: words.to_owned() };
    let url = Url::parse(address).map_err(|error| wrong(&format!("{error}; expected http://HOST:PORT")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("expected http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("expected no login in it: that belongs into auth"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("expected nothing after the path"));
    }
    Ok(url)
}

/// The address with everything between `//` and `@` left out.
fn without_password(address: &str) -> String {
    match (address.find("//"), address.rfind('@')) {
        (Some(start), Some(at)) if start + 2 < at => format!("{}***{}", &address[..start + 2], &address[at..]),
        _ => address.to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|error| ClientError::Certificate { path: path.to_path_buf(), words: error.to_string() })
}

/// The error and its causes in one line, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    // The outermost says no more than which address, and that is said already.
    let mut words = String::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !words.contains(&more) && !more.contains("error sending request for url") {
            if !words.is_empty() {
                words.push_str(": ");
            }
            words.push_str(&more);
        }
        cause = inner.source();
    }
    if words.is_empty() { error.to_string() } else { words }
}

#[cfg(test)]
mod tests;
