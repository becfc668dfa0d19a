//! Stands in for Elasticsearch and counts: an answer of the right form to every request that logweir makes, nothing
//! kept, one thread a connection, bodies counted as they arrive. It says what it cost itself, since on a small machine
//! that is time the daemon did not get.
//!
//! It can be slow (a delay for each bulk request), and it can read what it is sent ([`Proof`]), which costs much more
//! than counting. What it counted is under `GET /_sink`. It ends when its standard input does, so that it cannot
//! outlive the benchmark.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::http::{Head, Requests, invalid};
use crate::measure::own_cpu_seconds;
use crate::reply::BulkReply;
use crate::tally::{Body, Proof};

const INFO: &str = r#"{"name":"sink","cluster_name":"bench","cluster_uuid":"c2luaw","version":{"number":"9.2.0","build_flavor":"default","lucene_version":"10.3.1","minimum_wire_compatibility_version":"8.19.0","minimum_index_compatibility_version":"8.0.0"},"tagline":"You Know, for Search"}"#;
const NO_HITS: &str = r#"{"took":0,"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"total":{"value":0,"relation":"eq"},"max_score":null,"hits":[]}}"#;
const NOT_FOUND: &str =
    r#"{"error":{"type":"resource_not_found_exception","reason":"there is no such thing"},"status":404}"#;
const REFUSED: &str = r#"{"error":{"type":"illegal_argument_exception","reason":"The bulk request must be terminated by a newline [\\n]"},"status":400}"#;

/// How to answer.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Port on the loopback address; 0 for a free one, which is printed
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Milliseconds that each bulk request takes
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) delay: u64,
    /// Check that bodies are valid and no id comes twice
    #[arg(long)]
    pub(crate) verify: bool,
}

/// What a sink counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) documents: u64,
    pub(crate) bulks: u64,
    /// Bulk bodies, as they were before compression.
    pub(crate) body_bytes: u64,
    /// Bulk bodies, as they were sent.
    pub(crate) sent_bytes: u64,
    /// Bulk bodies that were no pairs of lines.
    pub(crate) refused: u64,
    pub(crate) connections: u64,
    /// From the first bulk request to the last.
    pub(crate) busy_seconds: f64,
    /// Time of processors that the sink had.
    pub(crate) cpu_seconds: f64,
    /// With `--verify`: different ids.
    pub(crate) ids: Option<u64>,
    /// With `--verify`: what was wrong.
    pub(crate) faults: Option<u64>,
    pub(crate) first_fault: Option<String>,
}

/// A sink that runs as a process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: String,
    child: Child,
    /// Dropped before the wait for the child, or there would be nothing to end it.
    input: Option<ChildStdin>,
}

impl Sink {
    /// Starts one.
    pub(crate) fn start(program: &Path, options: &Options) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["sink", "--port", &options.port.to_string(), "--delay", &options.delay.to_string()]);
        if options.verify {
            command.arg("--verify");
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start the sink")?;
        let input = child.stdin.take();
        let mut line = String::new();
        let output = child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().strip_prefix("http://").context("the sink did not say where it is")?.to_owned();
        Ok(Self { address, child, input })
    }

    /// What it counted until now.
    pub(crate) fn counted(&self) -> Result<Counted> {
        let url = format!("http://{}/_sink", self.address);
        ureq::get(&url).call().and_then(|mut answer| answer.body_mut().read_json()).context("the sink does not answer")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Everything that the connections share.
#[derive(Debug)]
struct Shared {
    delay: Duration,
    proof: Option<Mutex<Proof>>,
    began: Instant,
    documents: AtomicU64,
    bulks: AtomicU64,
    body_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    refused: AtomicU64,
    connections: AtomicU64,
    /// Nanoseconds after `began`; the first is `u64::MAX` before there is one.
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

/// The sink's process.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", options.port))
        .with_context(|| format!("cannot listen on port {}", options.port))?;
    println!("http://{}", listener.local_addr()?);
    let shared = Arc::new(Shared::new(options));
    std::thread::spawn(move || accept(&listener, &shared));
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            let _ = stream.set_nodelay(true);
            // A client that goes away is no fault of ours; what is missing then shows in the count.
            let _ = serve(&stream, &shared);
        });
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut requests = Requests::new(stream);
    let mut bulk_reply = BulkReply::default();
    let mut output = stream;
    while let Some(head) = requests.head()? {
        let (status, body) = match head.path.strip_suffix("/_bulk") {
            Some(target) => shared.bulk(&mut requests, &head, target.trim_start_matches('/'), &mut bulk_reply)?,
            None => {
                requests.body(head.length, |_| Ok(()))?;
                let (status, body) = shared.small(&head.method, &head.path);
                (status, body.into_bytes())
            }
        };
        let mut answer = format!(
            "HTTP/1.1 {status} {}\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            if status < 300 { "OK" } else { "No" },
            body.len()
        )
        .into_bytes();
        if head.method != "HEAD" {
            answer.extend_from_slice(&body);
        }
        output.write_all(&answer)?;
        if head.close {
            break;
        }
    }
    Ok(())
}

impl Shared {
    fn new(options: &Options) -> Self {
        Self {
            delay: Duration::from_millis(options.delay),
            proof: options.verify.then(Mutex::default),
            began: Instant::now(),
            documents: AtomicU64::default(),
            bulks: AtomicU64::default(),
            body_bytes: AtomicU64::default(),
            sent_bytes: AtomicU64::default(),
            refused: AtomicU64::default(),
            connections: AtomicU64::default(),
            first_ns: AtomicU64::new(u64::MAX),
            last_ns: AtomicU64::default(),
        }
    }

    fn bulk(
        &self,
        requests: &mut Requests<impl Read>,
        head: &Head,
        target: &str,
        reply: &mut BulkReply,
    ) -> io::Result<(u16, Vec<u8>)> {
        self.first_ns.fetch_min(self.now_ns(), Ordering::Relaxed);
        let mut body = Body { kept: self.proof.as_ref().map(|_| Vec::new()), ..Body::default() };
        if head.gzip {
            let mut plain = flate2::write::GzDecoder::new(body);
            requests.body(head.length, |piece| plain.write_all(piece))?;
            body = plain.finish()?;
        } else {
            requests.body(head.length, |piece| body.write_all(piece))?;
        }
        if let (Some(proof), Some(kept)) = (&self.proof, &body.kept) {
            proof.lock().unwrap_or_else(PoisonError::into_inner).read(kept);
        }
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        let Some(documents) = body.lines.documents() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok((400, REFUSED.into()));
        };
        self.documents.fetch_add(documents, Ordering::Relaxed);
        self.bulks.fetch_add(1, Ordering::Relaxed);
        self.body_bytes.fetch_add(body.lines.bytes, Ordering::Relaxed);
        self.sent_bytes.fetch_add(head.length, Ordering::Relaxed);
        self.last_ns.fetch_max(self.now_ns(), Ordering::Relaxed);
        let documents = usize::try_from(documents).map_err(|_| invalid("that many documents"))?;
        Ok((200, reply.body(head.parameter("filter_path"), target, documents)))
    }

    /// Anything but a bulk request: status and body.
    fn small(&self, method: &str, path: &str) -> (u16, String) {
        let last = path.rsplit('/').next().unwrap_or_default();
        match (method, last) {
            ("GET" | "HEAD", "") => (200, INFO.to_owned()),
            ("GET", "_sink") => (200, serde_json::to_string(&self.counted()).unwrap_or_default()),
            ("GET", "_tasks") => (200, r#"{"nodes":{}}"#.to_owned()),
            (_, "_search") => (200, NO_HITS.to_owned()),
            (_, "_refresh") => (200, r#"{"_shards":{"total":1,"successful":1,"failed":0}}"#.to_owned()),
            ("GET", "_settings") if self.documents.load(Ordering::Relaxed) > 0 => {
                let target = path.trim_matches('/').split('/').next().unwrap_or_default();
                let settings = r#"{"settings":{"index":{"creation_date":"1767225600000"}}}"#;
                (200, format!(r#"{{".ds-{target}-2026.01.01-000001":{settings}}}"#))
            }
            // Templates, and settings of what is not there yet.
            ("GET" | "HEAD", _) => (404, NOT_FOUND.to_owned()),
            _ => (200, r#"{"acknowledged":true}"#.to_owned()),
        }
    }

    fn counted(&self) -> Counted {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let busy = value(&self.last_ns).saturating_sub(value(&self.first_ns));
        let proof = self.proof.as_ref().map(|proof| proof.lock().unwrap_or_else(PoisonError::into_inner));
        Counted {
            documents: value(&self.documents),
            bulks: value(&self.bulks),
            body_bytes: value(&self.body_bytes),
            sent_bytes: value(&self.sent_bytes),
            refused: value(&self.refused),
            connections: value(&self.connections),
            busy_seconds: Duration::from_nanos(busy).as_secs_f64(),
            cpu_seconds: own_cpu_seconds(),
            ids: proof.as_ref().map(|proof| proof.ids() as u64),
            faults: proof.as_ref().map(|proof| proof.faults),
            first_fault: proof.as_ref().and_then(|proof| proof.first_fault.clone()),
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sink(verify: bool) -> (String, Arc<Shared>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::new(&Options { verify, ..Options::default() }));
        let served = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &served));
        (url, shared)
    }

    fn ask(method: &str, url: &str, encoding: &str, body: &[u8]) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = ureq::http::Request::builder().method(method).uri(url).header("content-encoding", encoding);
        let mut answer = agent.run(request.body(body).unwrap()).unwrap();
        assert_eq!(answer.headers()["x-elastic-product"], "Elasticsearch");
        (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
    }

    #[test]
    fn bodies_are_counted_plain_and_compressed_and_answered_per_item() {
        let (url, shared) = sink(true);
        let plain = "{\"create\":{\"_id\":\"a\"}}\n{\"x\":1}\n{\"create\":{\"_id\":\"b\"}}\n{\"x\":2}\n";
        let url = format!("{url}/logs-web-default/_bulk?filter_path=errors%2Citems.*.status");
        let created = serde_json::json!({"create": {"status": 201}});
        let expected = serde_json::json!({"errors": false, "items": [created, created]});
        assert_eq!(ask("POST", &url, "identity", plain.as_bytes()), (200, expected.clone()));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(plain.replace("\"a\"", "\"c\"").replace("\"b\"", "\"d\"").as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(ask("POST", &url, "gzip", &gzip), (200, expected));

        let counted = shared.counted();
        assert_eq!((counted.documents, counted.bulks, counted.refused), (4, 2, 0));
        assert_eq!(counted.body_bytes, 2 * plain.len() as u64);
        assert_eq!(counted.sent_bytes, (plain.len() + gzip.len()) as u64);
        assert_eq!((counted.ids, counted.faults), (Some(4), Some(0)));

        assert_eq!(ask("POST", &url, "identity", b"{\"create\":{}}\n{}").0, 400);
        let counted = shared.counted();
        assert_eq!((counted.documents, counted.refused, counted.faults), (4, 1, Some(1)));
    }

    #[test]
    fn small_requests_are_answered_as_by_an_empty_cluster() {
        let (url, shared) = sink(false);
        let (status, info) = ask("GET", &format!("{url}/"), "identity", b"");
        assert_eq!((status, &info["version"]["number"]), (200, &"9.2.0".into()));
        for (method, path, status) in [
            ("GET", "_index_template/logweir-web", 404),
            ("PUT", "_index_template/logweir-web", 200),
            ("GET", "_tasks?actions=*bulk*", 200),
            ("POST", "logs-web-default/_refresh", 200),
            ("POST", "logs-web-default/_search?size=0", 200),
            ("GET", "logs-web-default/_settings", 404),
        ] {
            assert_eq!(ask(method, &format!("{url}/{path}"), "identity", b"").0, status, "{method} {path}");
        }
        let (_, found) = ask("POST", &format!("{url}/x/_search"), "identity", b"{}");
        assert_eq!(found["hits"]["total"]["value"], 0);
        assert_eq!(shared.counted().documents, 0);
    }
}
