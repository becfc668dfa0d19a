//! What sending and settling costs: the stage with ready bodies against a sink on loopback that reads a request and says
//! that everything was created. The sink is a process of its own, so that its cost is not counted.
//!
//!     cargo bench --bench index            # seconds and documents a second, processor time a document

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use logweir::client::Client;
use logweir::config;
use logweir::config::Login;
use logweir::index::dead_letter::DeadLetters;
use logweir::index::events::Silent;
use logweir::index::{Deps, Indexer};
use logweir::record::{Batch, FileId, Item, LineId, Outcomes, Progress, Run, Span};
use tokio_util::sync::CancellationToken;

const DOCUMENTS: usize = 6000;
const DOCUMENT_BYTES: usize = 800;
const BATCHES: usize = 2000;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("sink") {
        return sink();
    }
    let program = std::env::current_exe().expect("this program");
    let mut child =
        std::process::Command::new(program).arg("sink").stdout(std::process::Stdio::piped()).spawn().expect("sink");
    let mut url = String::new();
    BufReader::new(child.stdout.take().expect("output")).read_line(&mut url).expect("address");
    for max_in_flight in [1, 2, 4] {
        measure(url.trim(), max_in_flight);
    }
    child.kill().and_then(|()| child.wait()).expect("sink ends");
}

fn measure(url: &str, max_in_flight: usize) {
    let dir = tempfile::tempdir().expect("directory");
    let cfg = config::Elasticsearch { urls: vec![url.to_owned()], max_in_flight, ..config::Elasticsearch::default() };
    let letters = config::DeadLetters { path: dir.path().to_path_buf(), ..config::DeadLetters::default() };
    let settled = Arc::new(Settled::default());
    let deps = Deps {
        client: Arc::new(Client::new(&cfg, Login::None).expect("client")),
        progress: Arc::clone(&settled) as Arc<dyn Progress>,
        dead_letters: Arc::new(DeadLetters::open(&letters).expect("dead letters")),
        events: Arc::new(Silent),
        instance: "bench".to_owned(),
    };
    let ready = batch();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let (start, before) = (Instant::now(), processor_time());
    runtime.block_on(async {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let stage = tokio::spawn(Indexer::new(cfg, deps).run(receiver, CancellationToken::new()));
        for _ in 0..BATCHES {
            let (body, items, runs) = (ready.body.clone(), ready.items.clone(), ready.runs.clone());
            let batch = Batch { target: ready.target.clone(), pipeline: None, body, items, runs, share: None };
            sender.send(batch).await.expect("stage");
        }
        drop(sender);
        stage.await.expect("no panic");
    });
    let (wall, cpu) = (start.elapsed().as_secs_f64(), (processor_time() - before).as_secs_f64());
    let documents = (BATCHES * DOCUMENTS) as f64;
    assert_eq!(settled.0.load(Ordering::Relaxed), documents as u64);
    println!(
        "max_in_flight {max_in_flight}: {wall:.2} s, {:.2} M documents/s, {:.1} ns of processor time a document",
        documents / wall / 1e6,
        cpu / documents * 1e9
    );
}

#[derive(Default)]
struct Settled(AtomicU64);

impl Progress for Settled {
    fn reserve<'a>(&'a self, _runs: &'a [Run]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }

    fn settle(&self, _run: &Run, outcomes: Outcomes) {
        self.0.fetch_add(outcomes.created, Ordering::Relaxed);
    }
}

fn batch() -> Batch {
    let file = FileId([1; 8]);
    let mut body = Vec::new();
    let mut items = Vec::new();
    for n in 0..DOCUMENTS as u64 {
        let (start, id) = (body.len(), LineId::new(file, n, b""));
        body.extend(format!("{{\"create\":{{\"_id\":\"{}\"}}}}\n", id.as_str()).bytes());
        let source = body.len();
        body.extend(format!("{{\"message\":\"{}\"}}\n", "x".repeat(DOCUMENT_BYTES - 15)).bytes());
        items.push(Item { start: start as u32, source: source as u32, run: 0, id, offset: n });
    }
    let lines = DOCUMENTS as u64;
    let run = Run {
        file,
        path: Path::new("/var/log/a.log").into(),
        span: Span { start: 0, end: lines },
        tail_hash: 0,
        lines,
        skipped: 0,
        doubtful: false,
        read_at: tokio::time::Instant::now(),
    };
    let body = Bytes::from(body);
    Batch { target: "logs-bench-default".into(), pipeline: None, body, items, runs: vec![run], share: None }
}

/// User and system time of this process; a tick is 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

fn sink() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    println!("http://{}", listener.local_addr().expect("address"));
    for stream in listener.incoming() {
        let stream = stream.expect("connection");
        std::thread::spawn(move || answer(&stream));
    }
}

fn answer(stream: &TcpStream) {
    stream.set_nodelay(true).expect("no delay");
    let items = vec![r#"{"create":{"status":201}}"#; DOCUMENTS].join(",");
    let body = format!(r#"{{"errors":false,"items":[{items}]}}"#);
    let length = body.len();
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let mut scratch = vec![0; 1 << 18];
    loop {
        let mut left = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                left = length.trim().parse().expect("length");
            }
            if line == "\r\n" {
                break;
            }
        }
        while left > 0 {
            let part = left.min(scratch.len());
            match reader.read(&mut scratch[..part]) {
                Ok(0) | Err(_) => return,
                Ok(read) => left -= read,
            }
        }
        let mut writer = stream;
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}
