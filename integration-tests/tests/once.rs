//! `run --once` again and again: nothing is sent twice, nothing is created twice, and `verify` notices when somebody
//! tampers with the files or the index.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::FileExt;

use integration_tests::{Node, Workspace};
use serde_json::{Value, json};

/// A log of its own, with a data set of its own.
struct Log {
    node: &'static Node,
    workspace: Workspace,
    target: String,
    lines: u64,
}

const APACHE: &str = "apache-combined-2015-05.log";
const APACHE_LINES: u64 = 2000;

/// Where each line of `lines` well-formed ones starts, and all of them.
fn log_lines(lines: u64) -> (Vec<u64>, String) {
    let mut text = String::new();
    let mut offsets = Vec::new();
    for n in 0..lines {
        offsets.push(text.len() as u64);
        let (second, minute) = (n % 60, n / 60 % 60);
        let _ = writeln!(
            text,
            "192.0.2.{} - - [17/May/2015:10:{minute:02}:{second:02} +0000] \"GET /item/{n:06}?q=1 HTTP/1.1\" 200 {} \
             \"http://example.org/\" \"curl/8.5.0\"",
            n % 250,
            1000 + n,
        );
    }
    (offsets, text)
}

impl Log {
    /// The real log, into a data stream.
    fn in_stream(dataset: &str) -> Self {
        let log = Self::new(&format!("logs-{dataset}-default"), APACHE_LINES);
        log.workspace.take_data(APACHE);
        log.configure(dataset, "", "");
        log
    }

    /// The real log, into an index a day.
    fn in_dated_indices(prefix: &str) -> Self {
        let log = Self::new(&format!("{prefix}-*"), APACHE_LINES);
        log.workspace.take_data(APACHE);
        log.configure("web", "", &format!("elasticsearch: {{urls: ['{{url}}'], index: '{prefix}-%Y.%m.%d'}}"));
        log
    }

    /// A small log, into a data stream; and where its lines start.
    fn small(dataset: &str, source: &str) -> (Self, Vec<u64>) {
        let log = Self::new(&format!("logs-{dataset}-default"), 200);
        let (offsets, text) = log_lines(log.lines);
        std::fs::write(log.file(), text).expect("room");
        log.configure(dataset, source, "");
        (log, offsets)
    }

    fn new(target: &str, lines: u64) -> Self {
        let node = Node::shared();
        Self { node, workspace: Workspace::new(node), target: target.to_owned(), lines }
    }

    fn configure(&self, dataset: &str, source: &str, more: &str) {
        let source =
            format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: {dataset}{source}}}");
        self.workspace.configure(&source, more);
    }

    fn file(&self) -> std::path::PathBuf {
        self.workspace.logs().join("small.log")
    }

    fn run_once(&self) {
        let _ = self.workspace.run(&["run", "--once"]).ok();
    }

    fn lose_the_store(&self) {
        std::fs::remove_dir_all(self.workspace.path("state")).expect("the store is there");
    }

    fn roll_over(&self) {
        self.node.roll_over(&self.target);
    }

    /// What Elasticsearch was sent: bulk requests that reached a shard, documents it tried to index, and created.
    fn sent(&self) -> [u64; 3] {
        let stats = self.node.ok("GET", &format!("{}/_stats/indexing,bulk,docs", self.target), None);
        let all = &stats["_all"]["primaries"];
        let number = |value: &Value| value.as_u64().expect("a number");
        [
            number(&all["bulk"]["total_operations"]),
            number(&all["indexing"]["index_total"]) + number(&all["indexing"]["index_failed"]),
            self.node.count(&self.target),
        ]
    }

    fn assert_all_is_there_once(&self) {
        assert_eq!(self.node.count(&self.target), self.lines);
        self.workspace.assert_proven(self.lines);
    }

    /// Expects that `verify` is not satisfied, that `kind` is the one count of what is wrong, at `offset`, and that its
    /// text says so too.
    fn assert_refuted(&self, kind: &str, offset: u64) {
        let (report, satisfied) = self.workspace.verify();
        assert!(!satisfied, "{report:#}");
        for other in ["missing", "twice", "changed"] {
            assert_eq!(report["total"][other], u64::from(other == kind), "{other}: {report:#}");
        }
        assert_eq!(report["total"]["once"], self.lines - 1, "{report:#}");
        assert_eq!(report["files"][0][format!("{kind}_at")], json!([offset]), "{report:#}");
        let run = self.workspace.run(&["verify"]);
        assert_eq!(run.status, Some(1), "{}\n{}", run.stdout, run.stderr);
        let said = format!("{}\n{}", run.stdout, run.stderr);
        assert!(said.contains(kind) && said.contains(&offset.to_string()), "{said}");
        assert!(said.contains("small.log"), "{said}");
    }

    /// Index, id and source of the line at `offset`.
    fn document_at(&self, offset: u64) -> (String, String, Value) {
        let answer = self.node.search(&self.target, &json!({"query": {"term": {"log.offset": offset}}}));
        let hit = &answer["hits"]["hits"][0];
        let text = |key: &str| hit[key].as_str().expect(key).to_owned();
        (text("_index"), text("_id"), hit["_source"].clone())
    }
}

#[test]
fn a_second_run_sends_nothing() {
    for log in [Log::in_stream("once.second"), Log::in_dated_indices("oncesecond")] {
        log.run_once();
        let sent = log.sent();
        assert!(sent[0] > 0 && sent[1] == log.lines, "{sent:?}");
        log.run_once();
        assert_eq!(log.sent(), sent, "{}", log.target);
        log.assert_all_is_there_once();
    }
}

#[test]
fn a_second_run_sends_only_what_was_appended() {
    let (mut log, _) = Log::small("once.appended", "");
    log.run_once();
    let (_, more) = log_lines(250);
    let appended = more.lines().skip(200).map(|line| format!("{line}\n")).collect::<String>();
    let mut file = std::fs::OpenOptions::new().append(true).open(log.file()).expect("the log");
    std::io::Write::write_all(&mut file, appended.as_bytes()).expect("room");
    let before = log.sent();
    log.run_once();
    assert_eq!(log.sent()[1] - before[1], 50);
    log.lines = 250;
    log.assert_all_is_there_once();
}

#[test]
fn a_data_stream_gets_nothing_twice_after_the_store_was_lost() {
    let log = Log::in_stream("once.lost");
    log.run_once();
    log.lose_the_store();
    log.run_once();
    log.assert_all_is_there_once();
}

#[test]
fn date_named_indices_get_nothing_twice_after_the_store_was_lost() {
    let log = Log::in_dated_indices("oncelost");
    log.run_once();
    log.lose_the_store();
    log.run_once();
    log.assert_all_is_there_once();
}

#[test]
fn nothing_is_twice_after_a_rollover_and_the_loss_of_the_store() {
    let log = Log::in_stream("once.rollover");
    log.run_once();
    log.roll_over();
    log.lose_the_store();
    log.run_once();
    log.assert_all_is_there_once();
    let empty = log.node.counts_by(&log.target, "_index");
    assert_eq!(empty.len(), 1, "the new backing index got documents: {empty:?}");
}

#[test]
fn what_is_missing_after_a_rollover_and_the_loss_of_the_store_is_created_and_the_rest_is_not() {
    let (log, offsets) = Log::small("once.partly", "");
    log.run_once();
    for offset in [offsets[0], offsets[77], offsets[199]] {
        let (index, id, _) = log.document_at(offset);
        log.node.ok("DELETE", &format!("{index}/_doc/{id}?refresh=true"), None);
    }
    log.roll_over();
    log.lose_the_store();
    log.run_once();
    log.assert_all_is_there_once();
    let by_index: BTreeSet<u64> = log.node.counts_by(&log.target, "_index").into_values().collect();
    assert_eq!(by_index, BTreeSet::from([3, 197]));
}

#[test]
fn keep_fields_leaves_the_rest_out() {
    let kept = [
        "@timestamp",
        "event.dataset",
        "event.outcome",
        "http.request.method",
        "http.response.body.bytes",
        "http.response.status_code",
        "log.file.id",
        "log.offset",
        "source.address",
        "url.path",
    ];
    // The time is always kept.
    let (log, _) = Log::small("once.keep", &format!(", keep_fields: {}", json!(&kept[1..])));
    log.run_once();
    let answer = log.node.search(&log.target, &json!({"size": 1000}));
    let hits = answer["hits"]["hits"].as_array().expect("hits");
    assert_eq!(hits.len() as u64, log.lines);
    for hit in hits {
        let mut keys = BTreeSet::new();
        leaves("", &hit["_source"], &mut keys);
        assert_eq!(keys, kept.iter().map(ToString::to_string).collect());
    }
    log.assert_all_is_there_once();
}

/// Dotted names of all values.
fn leaves(path: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, member, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn verify_is_satisfied_with_what_nobody_touched() {
    let (log, _) = Log::small("once.untouched", "");
    log.run_once();
    log.assert_all_is_there_once();
    let run = log.workspace.run(&["verify"]).ok();
    assert!(run.stdout.contains("small.log"), "{}", run.stdout);
}

#[test]
fn verify_names_a_line_that_was_changed_after_it_was_indexed() {
    let (log, offsets) = Log::small("once.changed", "");
    log.run_once();
    let file = std::fs::OpenOptions::new().write(true).open(log.file()).expect("the log");
    file.write_all_at(b"198.51", offsets[100]).expect("written");
    log.assert_refuted("changed", offsets[100]);
}

#[test]
fn verify_names_the_last_line_if_that_was_changed() {
    let (log, offsets) = Log::small("once.last", "");
    log.run_once();
    let file = std::fs::OpenOptions::new().write(true).open(log.file()).expect("the log");
    file.write_all_at(b"198.51", offsets[199]).expect("written");
    log.assert_refuted("changed", offsets[199]);
}

#[test]
fn verify_names_a_line_whose_document_was_deleted() {
    let (log, offsets) = Log::small("once.deleted", "");
    log.run_once();
    let (index, id, _) = log.document_at(offsets[3]);
    log.node.ok("DELETE", &format!("{index}/_doc/{id}?refresh=true"), None);
    log.assert_refuted("missing", offsets[3]);
}

#[test]
fn verify_names_a_line_that_is_in_two_backing_indices() {
    let (log, offsets) = Log::small("once.twice", "");
    log.run_once();
    let (_, id, document) = log.document_at(offsets[150]);
    log.roll_over();
    log.node.ok("PUT", &format!("{}/_create/{id}?refresh=true", log.target), Some(&document));
    assert_eq!(log.node.count(&log.target), log.lines + 1);
    log.assert_refuted("twice", offsets[150]);
}
