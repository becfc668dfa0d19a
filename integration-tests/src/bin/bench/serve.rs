//! Stands in for Elasticsearch and counts: an answer of the right form to every request that logweir makes, nothing
//! kept, one thread a connection, bodies counted as they arrive. It says what it cost itself, since on a small machine
//! that is time the daemon did not get.
//!
//! It can be slow (a delay for each bulk request), and it can read what it is sent ([`Proof`], [`stamp`]) or keep it
//! ([`Recording`]), which costs more than counting. What it counted is under `GET /_sink`. It ends when its standard
//! input does, so that it cannot outlive the benchmark.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http::{Head, Requests, invalid};
use crate::measure::own_cpu_seconds;
use crate::recording::Recording;
use crate::reply::BulkReply;
use crate::sink::{Counted, Options};
use crate::stamp::{self, Delays};
use crate::stats::unix_ns;
use crate::tally::{Body, Proof};

const INFO: &str = r#"{"name":"sink","cluster_name":"bench","cluster_uuid":"c2luaw","version":{"number":"9.2.0","build_flavor":"default","lucene_version":"10.3.1","minimum_wire_compatibility_version":"8.19.0","minimum_index_compatibility_version":"8.0.0"},"tagline":"You Know, for Search"}"#;
const NO_HITS: &str = r#"{"took":0,"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"total":{"value":0,"relation":"eq"},"max_score":null,"hits":[]}}"#;
const NOT_FOUND: &str =
    r#"{"error":{"type":"resource_not_found_exception","reason":"there is no such thing"},"status":404}"#;
const REFUSED: &str = r#"{"error":{"type":"illegal_argument_exception","reason":"The bulk request must be terminated by a newline [\\n]"},"status":400}"#;

/// Everything that the connections share.
#[derive(Debug)]
struct Shared {
    delay: Duration,
    proof: Option<Mutex<Proof>>,
    /// In microseconds, a line each.
    delays: Option<Mutex<Vec<u32>>>,
    recording: Option<Mutex<Recording>>,
    documents: AtomicU64,
    bulks: AtomicU64,
    body_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    refused: AtomicU64,
    connections: AtomicU64,
    /// `u64::MAX` before there is one.
    first_answer_ns: AtomicU64,
    last_answer_ns: AtomicU64,
}

/// The sink's process.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", options.port))
        .with_context(|| format!("cannot listen on port {}", options.port))?;
    let shared = Arc::new(Shared::new(options)?);
    println!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || accept(&listener, &shared));
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
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
    let mut first_bulk = true;
    while let Some(head) = requests.head()? {
        if head.waits {
            output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let bulk = head.path.strip_suffix("/_bulk");
        let (status, body, times) = match bulk {
            Some(target) => {
                shared.connections.fetch_add(u64::from(std::mem::take(&mut first_bulk)), Ordering::Relaxed);
                shared.bulk(&mut requests, &head, target.trim_start_matches('/'), &mut bulk_reply)?
            }
            None => {
                requests.body(head.length, |_| Ok(()))?;
                let (status, body) = shared.small(&head.method, &head.path);
                (status, body.into_bytes(), Vec::new())
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
        if bulk.is_some() {
            shared.answered(&times);
        }
        if head.close {
            break;
        }
    }
    Ok(())
}

impl Shared {
    fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            delay: Duration::from_millis(options.delay),
            proof: options.verify.then(Mutex::default),
            delays: options.stamps.then(Mutex::default),
            recording: options.record.as_deref().map(Recording::create).transpose()?.map(Mutex::new),
            documents: AtomicU64::default(),
            bulks: AtomicU64::default(),
            body_bytes: AtomicU64::default(),
            sent_bytes: AtomicU64::default(),
            refused: AtomicU64::default(),
            connections: AtomicU64::default(),
            first_answer_ns: AtomicU64::new(u64::MAX),
            last_answer_ns: AtomicU64::default(),
        })
    }

    /// Status, body of the answer, and the times that lines carry.
    fn bulk(
        &self,
        requests: &mut Requests<impl Read>,
        head: &Head,
        target: &str,
        reply: &mut BulkReply,
    ) -> io::Result<(u16, Vec<u8>, Vec<u64>)> {
        let keeps = self.proof.is_some() || self.delays.is_some() || self.recording.is_some();
        let mut body = Body { kept: keeps.then(Vec::new), ..Body::default() };
        if head.gzip {
            let mut plain = flate2::write::GzDecoder::new(body);
            requests.body(head.length, |piece| plain.write_all(piece))?;
            body = plain.finish()?;
        } else {
            requests.body(head.length, |piece| body.write_all(piece))?;
        }
        let kept = body.kept.unwrap_or_default();
        if let Some(proof) = &self.proof {
            locked(proof).read(&kept);
        }
        if let Some(recording) = &self.recording {
            locked(recording).add(&head.target(), &kept)?;
        }
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        let Some(documents) = body.lines.documents() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok((400, REFUSED.into(), Vec::new()));
        };
        self.bulks.fetch_add(1, Ordering::Relaxed);
        self.body_bytes.fetch_add(body.lines.bytes, Ordering::Relaxed);
        self.sent_bytes.fetch_add(head.length, Ordering::Relaxed);
        self.documents.fetch_add(documents, Ordering::Relaxed);
        let times = if self.delays.is_some() { stamp::times(&kept) } else { Vec::new() };
        let documents = usize::try_from(documents).map_err(|_| invalid("that many documents"))?;
        Ok((200, reply.body(head.parameter("filter_path"), target, documents), times))
    }

    /// The answer to a bulk request is on its way.
    fn answered(&self, times: &[u64]) {
        let now = unix_ns();
        self.first_answer_ns.fetch_min(now, Ordering::Relaxed);
        self.last_answer_ns.fetch_max(now, Ordering::Relaxed);
        if let Some(delays) = &self.delays {
            let micros = |time: &u64| u32::try_from(now.saturating_sub(*time) / 1000).unwrap_or(u32::MAX);
            locked(delays).extend(times.iter().map(micros));
        }
    }

    /// Anything but a bulk request: status and body.
    fn small(&self, method: &str, path: &str) -> (u16, String) {
        let last = path.rsplit('/').next().unwrap_or_default();
        match (method, last) {
            ("GET" | "HEAD", "") => (200, INFO.to_owned()),
            ("GET", "_sink") => (200, serde_json::to_string(&self.counted()).unwrap_or_default()),
            ("GET", "_documents") => (200, self.documents.load(Ordering::Relaxed).to_string()),
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
        let proof = self.proof.as_ref().map(locked);
        Counted {
            documents: value(&self.documents),
            bulks: value(&self.bulks),
            body_bytes: value(&self.body_bytes),
            sent_bytes: value(&self.sent_bytes),
            refused: value(&self.refused),
            connections: value(&self.connections),
            first_answer_ns: Some(value(&self.first_answer_ns)).filter(|first| *first < u64::MAX),
            last_answer_ns: value(&self.last_answer_ns),
            cpu_seconds: own_cpu_seconds(),
            ids: proof.as_ref().map(|proof| proof.ids() as u64),
            faults: proof.as_ref().map(|proof| proof.faults),
            first_fault: proof.as_ref().and_then(|proof| proof.first_fault.clone()),
            delays: self.delays.as_ref().map(|delays| Delays::of(locked(delays).clone())),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::recording::Recorded;

    fn sink(options: &Options) -> (String, Arc<Shared>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::new(options).unwrap());
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
        let (url, shared) = sink(&Options { verify: true, ..Options::default() });
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
    fn lines_that_say_when_they_were_written_are_timed_and_bodies_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bodies");
        let (url, shared) = sink(&Options { stamps: true, record: Some(file.clone()), ..Options::default() });
        let written = unix_ns() - 3_000_000_000;
        let item = format!("{{\"create\":{{\"_id\":\"a\"}}}}\n{{\"user\":{{\"name\":\"at-{written}\"}}}}\n");
        assert_eq!(ask("POST", &format!("{url}/x/_bulk?a=b"), "identity", item.repeat(2).as_bytes()).0, 200);
        let delays =
            std::iter::repeat_with(|| shared.counted().delays.unwrap()).find(|delays| delays.count > 0).unwrap();
        assert_eq!(delays.count, 2);
        assert!(delays.p50_ms >= 3000.0 && delays.max_ms < 13_000.0, "{delays:?}");
        let mut body = Vec::new();
        let mut recorded = Recorded::open(&file).unwrap();
        assert_eq!(recorded.next(&mut body).unwrap().as_deref(), Some("/x/_bulk?a=b"));
        assert_eq!(body, item.repeat(2).as_bytes());
    }

    #[test]
    fn small_requests_are_answered_as_by_an_empty_cluster() {
        let (url, shared) = sink(&Options::default());
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
