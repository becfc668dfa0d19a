//! `/metrics`, `/livez` and `/readyz`, over plain HTTP on an address that is loopback unless configured otherwise.
//!
//! Read only. Bounded in connections, in the size of a request's head (its body is never read), and in time; what a client
//! does can neither hold up nor end the process.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::events::Fault;
use super::export::PROMETHEUS_CONTENT_TYPE;
use super::health::{Health, Verdict};
use super::metrics::Metrics;
use super::names::FaultCause;

const MAX_CONNECTIONS: usize = 16;
/// A request's head; hyper takes no less than 8 KiB.
const MAX_HEAD_BYTES: usize = 8 * 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection carries one request and is closed after this, whatever it does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting pauses after the system refused.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The server could not start.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.listen: cannot listen on `{listen}`: {source}; give a free address (port 0: any), or \"\" for none")]
pub struct ListenError {
    /// What was configured.
    pub listen: String,
    /// What the system said.
    pub source: io::Error,
}

/// A server that runs.
#[derive(Debug)]
pub struct TelemetryServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl TelemetryServer {
    /// Listens on `listen` until `end`.
    ///
    /// # Errors
    /// Where the address is no address, is taken, or is not ours.
    pub async fn start(
        listen: &str,
        metrics: Metrics,
        health: Health,
        end: CancellationToken,
    ) -> Result<Self, ListenError> {
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|source| ListenError { listen: listen.to_owned(), source })?;
        tracing::info!(%address, "telemetry is served");
        let task = tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = accept(listener, metrics, health) => {}
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens, with the port the system chose if 0 was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns once it has ended. Cancel safe.
    pub async fn ended(self) {
        // A panic in there has been reported by its hook, and a scrape that fails is no reason to fail with it.
        let _ended_either_way = self.task.await;
    }
}

async fn accept(listener: TcpListener, metrics: Metrics, health: Health) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    // It is never closed; dropping the set when this future is dropped ends all connections.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let (metrics, health) = (metrics.clone(), health.clone());
                connections.spawn(async move {
                    serve(stream, &metrics, &health).await;
                    drop(permit);
                });
            }
            Err(error) => {
                let subject = "telemetry.listen".as_ref();
                Fault { cause: FaultCause::Telemetry, doing: "accepting a connection", subject, error: &error }
                    .emit(&metrics);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, metrics: &Metrics, health: &Health) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), metrics, health);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // What goes wrong here is the client's, and it has been told.
    let _clients_own = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

fn answer(method: &Method, path: &str, metrics: &Metrics, health: &Health) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match metrics.prometheus_text() {
            Ok(body) => respond(StatusCode::OK, PROMETHEUS_CONTENT_TYPE, body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/livez" => match health.verdict() {
            Verdict::Alive => json(StatusCode::OK, &serde_json::json!({"alive": true})),
            Verdict::Stuck(still) => {
                let body = serde_json::json!({"alive": false, "still_seconds": still.as_secs()});
                json(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
        },
        "/readyz" => {
            let readiness = health.readiness();
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(status, &readiness)
        }
        _ => text(StatusCode::NOT_FOUND, "/metrics, /livez and /readyz are here\n"),
    }
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    respond(status, "application/json", body)
}

fn text(status: StatusCode, body: impl Into<Vec<u8>>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::telemetry::names::HoldCause;

    struct Running {
        server: TelemetryServer,
        metrics: Metrics,
        health: Health,
        end: CancellationToken,
    }

    async fn start() -> Running {
        let metrics = Metrics::new("web-1");
        // Anything that is work is stuck at once.
        let health = Health::new(metrics.clone(), Duration::ZERO);
        let end = CancellationToken::new();
        let server = TelemetryServer::start("127.0.0.1:0", metrics.clone(), health.clone(), end.clone()).await.unwrap();
        Running { server, metrics, health, end }
    }

    impl Running {
        async fn send(&self, request: &[u8]) -> String {
            let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            // A server that refuses a head in the middle may also reset the connection.
            let _answer_or_reset = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        }

        async fn get(&self, path: &str) -> (String, String) {
            let answer = self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split("\r\n").next().unwrap().to_owned(), body.to_owned())
        }
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let running = start().await;
        running.metrics.lines_read(42, 4200);
        let (status, body) = running.get("/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(body.contains("\nlogweir_lines_total{outcome=\"read\"} 42\n"), "{body}");
        assert!(body.contains("target_info{"), "{body}");
    }

    #[tokio::test]
    async fn live_fails_when_the_watchdog_does_and_ready_only_before_and_after_running() {
        let running = start().await;
        assert_eq!(running.get("/readyz").await.0, "HTTP/1.1 503 Service Unavailable");
        running.health.running();
        running.health.hold(HoldCause::Login, "401 Unauthorized");
        let (status, body) = running.get("/readyz").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["waiting"][0]["cause"], "elasticsearch_login");
        assert_eq!(body["waiting"][0]["reason"], "401 Unauthorized");

        running.metrics.lines_read(1, 10);
        assert_eq!(running.get("/livez").await.0, "HTTP/1.1 200 OK");
        running.health.clear(HoldCause::Login);
        assert_eq!(running.get("/livez").await.0, "HTTP/1.1 503 Service Unavailable");
        running.health.stopping();
        assert_eq!(running.get("/readyz").await.0, "HTTP/1.1 503 Service Unavailable");
    }

    #[tokio::test]
    async fn what_is_not_there_or_not_allowed_says_so() {
        let running = start().await;
        assert_eq!(running.get("/").await.0, "HTTP/1.1 404 Not Found");
        let posted = running.send(b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").await;
        assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
        let head = running.send(b"HEAD /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 503 ") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        let running = start().await;
        let mut request = b"GET /metrics HTTP/1.1\r\nx: ".to_vec();
        request.resize(1024 * 1024, b'a');
        let mut stream = TcpStream::connect(running.server.address()).await.unwrap();
        // The refusal may come before all of it is sent.
        let _sent_or_refused = stream.write_all(&request).await;
        let mut answer = Vec::new();
        let _answer_or_reset = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        assert_eq!(running.get("/metrics").await.0, "HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_its_key() {
        let running = start().await;
        let taken = running.server.address().to_string();
        let end = CancellationToken::new();
        let second = TelemetryServer::start(&taken, running.metrics.clone(), running.health.clone(), end).await;
        let error = second.unwrap_err().to_string();
        assert!(error.starts_with(&format!("telemetry.listen: cannot listen on `{taken}`: ")), "{error}");
    }

    #[tokio::test]
    async fn it_ends_when_told_even_with_a_client_that_says_nothing() {
        let running = start().await;
        let mut silent = TcpStream::connect(running.server.address()).await.unwrap();
        assert_eq!(running.get("/readyz").await.0, "HTTP/1.1 503 Service Unavailable");
        running.end.cancel();
        running.server.ended().await;
        let mut nothing = Vec::new();
        let _end_or_reset = silent.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
    }
}
