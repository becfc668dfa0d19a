//! Numbered log lines, written at once or under load, and a count of them that asks Elasticsearch alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::node::{Node, PATIENCE, until};

/// Field that holds the number of a line.
const NUMBER: &str = "http.response.body.bytes";
/// Between two writes of a load.
const TICK: Duration = Duration::from_millis(5);

/// Well-formed lines in combined format, each another.
#[must_use]
pub fn lines(numbers: Range<u64>) -> String {
    let mut text = String::new();
    for n in numbers {
        let _ = writeln!(
            text,
            "192.0.2.7 - - [17/May/2015:10:05:03 +0000] \"GET /line/{n} HTTP/1.1\" 200 {n} \"-\" \"curl/8.5.0\""
        );
    }
    text
}

/// As JSON, each with an `order` that is an object, as the mapping will have it, or a text, which that refuses.
#[must_use]
pub fn orders(numbers: Range<u64>, refused: impl Fn(u64) -> bool) -> String {
    let mut text = String::new();
    for n in numbers {
        let order = if refused(n) { json!(format!("number {n}")) } else { json!({"number": n}) };
        let http = json!({"response": {"body": {"bytes": n}}});
        let line = json!({"@timestamp": "2024-06-03T10:00:00Z", "http": http, "order": order});
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Appends to a log, which is made if it is not there.
///
/// # Panics
/// If there is no room.
pub fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the log");
    file.write_all(text.as_bytes()).expect("room");
}

/// A log that grows at a steady rate until told.
#[derive(Debug)]
pub struct Load {
    ends: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Load {
    /// Appends lines to `path`, numbered from `from`.
    #[must_use]
    pub fn start(path: PathBuf, from: u64, per_second: u64) -> Self {
        let (ends, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(from)));
        let (told, number) = (Arc::clone(&ends), Arc::clone(&next));
        let writer = std::thread::spawn(move || {
            let began = Instant::now();
            while !told.load(Ordering::Relaxed) {
                let due = from + u64::try_from(began.elapsed().as_millis()).expect("short") * per_second / 1000;
                append(&path, &lines(number.load(Ordering::Relaxed)..due));
                number.store(due, Ordering::Relaxed);
                std::thread::sleep(TICK);
            }
        });
        Self { ends, next, writer: Some(writer) }
    }

    /// The number after the last line so far.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Ends it; the number after the last line.
    ///
    /// # Panics
    /// If it could not write.
    pub fn stop(mut self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.writer.take().expect("it runs").join().expect("it wrote");
        self.next()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// Waits until there are so many documents.
///
/// # Panics
/// If they do not come within two minutes.
pub fn counted(node: &Node, target: &str, documents: u64, daemon: &Daemon) {
    let began = Instant::now();
    until("documents", 3 * PATIENCE, || {
        let count = node.count(target);
        let late = began.elapsed() > 2 * PATIENCE;
        assert!(!late, "{count} documents of {documents} in {target}\n{}", daemon.log());
        (count >= documents).then_some(())
    });
}

/// How often each number is there, without asking logweir: every single one is looked at.
///
/// # Panics
/// If only a part of the cluster answers, or a document has no number.
#[must_use]
pub fn numbers_found(node: &Node, target: &str) -> BTreeMap<u64, u64> {
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    let mut after = Value::Null;
    loop {
        let mut pages = json!({"size": 10_000, "sources": [{"n": {"terms": {"field": NUMBER}}}]});
        if !after.is_null() {
            pages["after"] = after;
        }
        let answer = node.search(target, &json!({"size": 0, "aggs": {"all": {"composite": pages}}}));
        assert_eq!(answer["_shards"]["failed"], 0, "{answer}");
        let page = &answer["aggregations"]["all"];
        for bucket in page["buckets"].as_array().expect("buckets") {
            let number = bucket["key"]["n"].as_u64().expect("a number");
            *found.entry(number).or_default() += bucket["doc_count"].as_u64().expect("a count");
        }
        after = page["after_key"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(found.values().sum::<u64>(), node.count(target), "documents in {target} without a number");
    found
}

/// Expects each of these numbers exactly once, and no other, without asking logweir.
///
/// # Panics
/// If a number is missing, there twice, or none that was written.
pub fn assert_each_is_there_once(node: &Node, target: &str, numbers: Range<u64>) {
    let found = numbers_found(node, target);
    let missing: Vec<u64> = numbers.clone().filter(|number| !found.contains_key(number)).take(20).collect();
    assert!(missing.is_empty(), "missing in {target}, of {numbers:?}: {missing:?}…");
    let wrong: Vec<_> = found.iter().filter(|(n, count)| **count != 1 || !numbers.contains(n)).take(20).collect();
    if !wrong.is_empty() {
        let wrong: Vec<u64> = wrong.iter().map(|(n, _)| **n).collect();
        let query = json!({"query": {"terms": {NUMBER: wrong}}, "sort": [NUMBER, "_index"], "size": 100,
            "_source": false, "seq_no_primary_term": true});
        let hits = node.search(target, &query)["hits"]["hits"].take();
        let hits: Vec<String> = hits.as_array().into_iter().flatten().map(Value::to_string).collect();
        panic!("in {target}, of {numbers:?}, not once: {wrong:?}…\n{}", hits.join("\n"));
    }
}
