//! What a line costs between parsing and the body of a batch: `cargo bench --bench encode`.
//!
//! Each figure is the best of many rounds over a thousand lines of different length, beside a plain copy of the bytes that
//! were written. The documents are filled as a parser fills them.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use integration_tests::TEN_FIELDS;
use logweir::config;
use logweir::encode::{Buffers, FileFields, Item, Layout};
use logweir::enrich::Chain;
use logweir::record::{Document, Field, FileId, LineId, RawLine, Value};

const LINES: usize = 1000;
const ROUNDS: usize = 400;
const TIME: i64 = 1_431_857_103_000_000_000;

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.77 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];

/// A line of the combined format, and where its fields are.
struct Line {
    bytes: Vec<u8>,
    fields: Vec<(Field, usize, usize)>,
    status: i64,
    size: i64,
}

fn line(number: usize) -> Line {
    let mut bytes = Vec::new();
    let mut fields = Vec::new();
    let mut add = |before: &str, field: Option<Field>, text: &str| {
        bytes.extend_from_slice(before.as_bytes());
        if let Some(field) = field {
            fields.push((field, bytes.len(), bytes.len() + text.len()));
        }
        bytes.extend_from_slice(text.as_bytes());
    };
    add("", Some(Field::SourceAddress), &format!("83.149.{}.{}", number % 256, number * 7 % 256));
    add(" - - [17/May/2015:10:05:03 +0000] \"", Some(Field::HttpRequestMethod), "GET");
    let extension = ["png", "html", "js"][number % 3];
    let url = format!("/images/kibana-search-{number}.{extension}?page={number}");
    add(" ", Some(Field::UrlOriginal), &url);
    add(" HTTP/", Some(Field::HttpVersion), "1.1");
    add("\" 200 203023 \"", Some(Field::HttpRequestReferrer), "http://semicomplete.com/");
    add("\" \"", Some(Field::UserAgentOriginal), AGENTS[number % AGENTS.len()]);
    add("\"", None, "");
    Line { bytes, fields, status: 200, size: 203_023 + number as i64 }
}

fn fill(doc: &mut Document, line: &Line) {
    doc.clear();
    doc.time = Some(TIME);
    doc.put(Field::EventKind, Value::Text("event"));
    doc.put(Field::EventCategory, Value::StaticJson("[\"web\"]"));
    doc.put(Field::EventType, Value::StaticJson("[\"access\"]"));
    doc.put(Field::EventOutcome, Value::Text("success"));
    doc.put(Field::HttpResponseStatusCode, Value::Int(line.status));
    doc.put(Field::HttpResponseBodyBytes, Value::Int(line.size));
    for &(field, start, end) in &line.fields {
        doc.put_line(field, start, end);
    }
}

/// The best time a line in nanoseconds.
fn best(mut round: impl FnMut()) -> f64 {
    let fastest = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    fastest.min().unwrap_or_default().as_nanos() as f64 / LINES as f64
}

fn measure(name: &str, keep: &[&str], lines: &[Line]) {
    let source: config::Source = serde_json::from_value(serde_json::json!({
        "name": "web", "paths": [], "dataset": "nginx.access", "format": "combined", "keep_fields": keep,
        "fields": {"service.name": "shop"},
    }))
    .expect("a valid source");
    let enrich = config::Enrich::default();
    let layout =
        Layout::new(&source, &enrich, &config::Elasticsearch::default(), "web-1.example").expect("a valid layout");
    let file_id = FileId([1, 2, 3, 4, 5, 6, 7, 8]);
    let file = FileFields::new(Path::new("/var/log/nginx/access.log"), file_id);
    let mut chain = Chain::new(&enrich, layout.keep());
    let mut doc = Document::default();
    let mut buffers = Buffers::default();
    let mut out = Vec::with_capacity(4 << 20);

    let parsed = best(|| {
        for line in lines {
            fill(black_box(&mut doc), line);
        }
    });
    let enriched = best(|| {
        for line in lines {
            fill(&mut doc, line);
            chain.apply(&line.bytes, black_box(&mut doc));
        }
    });
    let id = best(|| {
        for line in lines {
            black_box(LineId::new(file_id, 123_456, black_box(&line.bytes)));
        }
    });
    let mut offset = 0;
    let all = best(|| {
        out.clear();
        for line in lines {
            fill(&mut doc, line);
            chain.apply(&line.bytes, &mut doc);
            offset = (offset + line.bytes.len() as u64) & 0xff_ffff;
            let id = LineId::new(file_id, offset, &line.bytes);
            let raw = RawLine { bytes: &line.bytes, offset, cut: false };
            layout.encode(
                &Item { line: raw, id, file: &file, time: TIME, index: None },
                &mut doc,
                &mut buffers,
                &mut out,
            );
        }
        black_box(&out);
    });
    let mut copy = Vec::with_capacity(4 << 20);
    let items: Vec<&[u8]> = out.chunks(out.len() / LINES).collect();
    let copied = best(|| {
        copy.clear();
        for item in &items {
            copy.extend_from_slice(black_box(item));
        }
        black_box(&copy);
    });
    println!(
        "{name}: {} bytes; enrich {:.0} ns, id {id:.0} ns, encode {:.0} ns, together {:.0} ns; plain copy {copied:.0} ns",
        out.len() / LINES,
        enriched - parsed,
        all - enriched - id,
        all - parsed,
    );
}

fn main() {
    let lines: Vec<Line> = (0..LINES).map(line).collect();
    measure("full document", &[], &lines);
    measure("ten fields", &TEN_FIELDS, &lines);
}
