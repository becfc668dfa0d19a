//! Instructions a line, stage by stage, with budgets: `cargo bench --bench instructions` fails where one is exceeded.
//!
//! Instructions, counted by callgrind, are the same on every machine and under any load, so that a regression of a few
//! percent can be refused where a clock would need an idle machine. They are not time: `make bench` measures that.
//! Each budget is what was measured when it was set and 5 % more; who gains something lowers it. Needs `valgrind`, and
//! `gungraun-runner` in the version of the crate `gungraun`.

#![expect(missing_docs, unused_qualifications, reason = "of what the macros make")]

use std::hint::black_box;
use std::path::Path;

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use integration_tests::TEN_FIELDS;
use logweir::checkpoint::FileRow;
use logweir::checkpoint::ledger::Ledger;
use logweir::config;
use logweir::encode::{Buffers, FileFields, Item, Layout, Shapes};
use logweir::enrich::Chain;
use logweir::index::reply::decode;
use logweir::parse::{Cache, Format};
use logweir::record::{Document, FileId, LineId, Outcomes, Position, RawLine, Run, Span, tail_hash};
use tokio::time::Instant;

/// Lines in one measurement: so many that what happens once does not count.
const LINES: usize = 1000;
const FILE: FileId = FileId([1, 2, 3, 4, 5, 6, 7, 8]);
const TIME: i64 = 1_431_857_103_000_000_000;

/// At most so many instructions a line.
fn budget(a_line: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, a_line * LINES as u64)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// A thousand lines of a real log, and everything that a pump keeps between lines, warm.
struct Bench {
    lines: Vec<Vec<u8>>,
    format: Format,
    chain: Chain,
    layout: Layout,
    file: FileFields,
    document: Document,
    cache: Cache,
    buffers: Buffers,
    shapes: Shapes,
    out: Vec<u8>,
}

fn log() -> impl Iterator<Item = &'static str> {
    include_str!("../integration-tests/data/apache-combined-2015-05.log").lines().take(LINES)
}

impl Bench {
    fn new(keep: &[&str]) -> Self {
        Self::of("combined", keep, log().map(|line| line.as_bytes().to_vec()).collect())
    }

    /// The same requests, told by an application: an object of ten members a line, half of them with dotted keys.
    fn json() -> Self {
        let object = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let agent = line.rsplit('"').nth(1).unwrap_or_default();
            let object = serde_json::json!({
                "@timestamp": "2015-05-17T10:05:03.120Z", "level": "INFO", "service.name": "shop", "thread": "worker-7",
                "message": format!("{} {} answered {}", words[5].trim_matches('"'), words[6], words[8]),
                "http.request.method": words[5].trim_matches('"'), "http.response.status_code": words[8].parse::<u16>().ok(),
                "url.original": words[6], "source.address": words[0], "user_agent.original": agent,
            });
            object.to_string().into_bytes()
        };
        Self::of("json", &[], log().map(object).collect())
    }

    fn of(format: &str, keep: &[&str], lines: Vec<Vec<u8>>) -> Self {
        let source: config::Source = serde_json::from_value(serde_json::json!({
            "name": "web", "paths": [], "dataset": "apache.access", "format": format, "keep_fields": keep,
        }))
        .expect("a valid source");
        let enrich = config::Enrich::default();
        let layout =
            Layout::new(&source, &enrich, &config::Elasticsearch::default(), "web-1.example").expect("a layout");
        let mut bench = Self {
            format: Format::compile(&source.format, &source.map).expect("a format"),
            chain: Chain::new(&enrich, layout.keep()),
            layout,
            file: FileFields::new(Path::new("/var/log/apache2/access.log"), FILE),
            document: Document::default(),
            cache: Cache::default(),
            buffers: Buffers::default(),
            shapes: Shapes::default(),
            out: Vec::with_capacity(4 << 20),
            lines,
        };
        bench.lines(true, true);
        bench.out.clear();
        bench
    }

    /// All lines through parsing and as far as asked.
    fn lines(&mut self, enrich: bool, encode: bool) {
        let mut offset = 0;
        for line in &self.lines {
            self.document.clear();
            self.format.parse(black_box(line), &mut self.document, &mut self.cache);
            if enrich {
                let time = self.document.time.unwrap_or(TIME);
                self.chain.apply(line, time, &mut self.document);
            }
            if encode {
                let id = LineId::new(FILE, offset, line);
                let raw = RawLine { bytes: line, offset, cut: false };
                let item = Item { line: raw, id, file: &self.file, time: TIME, index: None };
                self.layout.encode(&item, &mut self.document, &mut self.buffers, &mut self.shapes, &mut self.out);
                offset += line.len() as u64 + 1;
            }
            black_box(&self.document);
        }
    }
}

#[library_benchmark]
#[bench::combined(args = (Bench::new(&[])), config = budget(1229))]
fn parse(mut bench: Bench) -> Bench {
    bench.lines(false, false);
    bench
}

#[library_benchmark]
#[bench::combined(args = (Bench::new(&[])), config = budget(1686))]
fn parse_enrich(mut bench: Bench) -> Bench {
    bench.lines(true, false);
    bench
}

#[library_benchmark]
#[bench::default_document(args = (Bench::new(&[])), config = budget(3566))]
#[bench::ten_fields(args = (Bench::new(&TEN_FIELDS)), config = budget(2618))]
#[bench::json(args = (Bench::json()), config = budget(31_365))]
fn parse_enrich_encode(mut bench: Bench) -> Bench {
    bench.lines(true, true);
    bench
}

#[library_benchmark]
#[bench::combined(args = (Bench::new(&[])), config = budget(390))]
fn id(bench: Bench) -> Bench {
    for line in &bench.lines {
        black_box(LineId::new(FILE, 123_456, black_box(line)));
    }
    bench
}

fn answer() -> String {
    format!(r#"{{"errors":false,"items":[{}]}}"#, vec![r#"{"create":{"status":201}}"#; LINES].join(","))
}

#[library_benchmark]
#[bench::created(args = (answer()), config = budget(50))]
fn reply(answer: String) -> String {
    black_box(decode(answer.as_bytes(), LINES).expect("an answer"));
    answer
}

/// A ledger with one file, and a thousand runs of it.
fn ledger_of_one() -> (Ledger, Vec<Run>) {
    let mut ledger = Ledger::default();
    let path: std::sync::Arc<Path> = Path::new("/var/log/apache2/access.log").into();
    let row = FileRow {
        id: FILE,
        source: "web".into(),
        path: path.clone(),
        inode: 1,
        birth_ns: 1,
        head_len: 1,
        head_hash: 1,
        ordinal: 0,
        start: 0,
        position: Position { offset: 0, tail_hash: tail_hash(&[]) },
        reserved: 0,
        size: 0,
        mtime_ns: 0,
        format: None,
        last_time_ns: None,
        done: false,
        outcomes: Outcomes::default(),
        first_seen: 0,
        last_seen: 0,
    };
    ledger.admit(row, 64 << 20).expect("new");
    let run = |number: usize| Run {
        file: FILE,
        path: path.clone(),
        span: Span { start: number as u64 * 100, end: (number as u64 + 1) * 100 },
        tail_hash: number as u64,
        lines: 1,
        skipped: 0,
        doubtful: false,
        read_at: Instant::now(),
    };
    (ledger, (0..LINES).map(run).collect())
}

// A run here is one line; in life it is some thousands. Its maps hash with a seed of their own, so that it varies by 4 %.
#[library_benchmark]
#[bench::runs(args = (ledger_of_one()), config = budget(940))]
fn ledger((mut ledger, runs): (Ledger, Vec<Run>)) -> (Ledger, Vec<Run>) {
    for run in &runs {
        ledger.read(run, Some(TIME)).expect("in order");
    }
    for run in runs.iter().rev() {
        ledger.settle(FILE, run.span, Outcomes { created: 1, ..Outcomes::default() }).expect("read");
    }
    black_box(ledger.take_changes());
    (ledger, runs)
}

library_benchmark_group!(name = stages, benchmarks = [parse, parse_enrich, parse_enrich_encode, id, reply, ledger]);
main!(library_benchmark_groups = stages);
