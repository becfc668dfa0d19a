//! Two real logs, counted by Elasticsearch and by an independent reference: the same numbers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use integration_tests::reference::{AccessLog, Malformed};
use integration_tests::{Node, Workspace};
use serde_json::{Value, json};

const NASA: &str = "nasa-http-1995-08-01.log";
const APACHE: &str = "apache-combined-2015-05.log";

/// Whoever published this part of NASA's log put a newline behind every 4,096 bytes of it, and so cut 49 lines in two and
/// the last one short. Of these 99 pieces, the following are no log lines any more. The other ten are what follows a cut
/// inside the host name, such as `com - - [01/Aug/1995:…`: a whole line with half a name.
const NASA_BROKEN: [usize; 89] = [
    38, 39, 77, 78, 116, 117, 154, 155, 193, 194, 231, 232, 269, 270, 307, 308, 344, 345, 382, 383, 421, 422, 460, 500,
    501, 540, 541, 579, 580, 619, 620, 659, 660, 698, 699, 737, 738, 776, 813, 814, 852, 853, 889, 890, 927, 968, 1006,
    1007, 1045, 1084, 1085, 1122, 1123, 1160, 1161, 1198, 1199, 1237, 1238, 1275, 1314, 1352, 1353, 1392, 1429, 1430,
    1468, 1505, 1506, 1543, 1544, 1582, 1583, 1620, 1621, 1658, 1659, 1697, 1698, 1737, 1738, 1776, 1777, 1815, 1853,
    1854, 1892, 1893, 1930,
];
const NASA_CUT_EVERY: usize = 4096 + 1;

/// Nobody spoilt this one.
const APACHE_BROKEN: [usize; 0] = [];

/// One log to index.
struct Case<'a> {
    file: &'a str,
    format: &'a str,
    /// Unique among the tests of this file.
    dataset: &'a str,
    /// More keys of the source, as YAML.
    source: &'a str,
    /// More sections of the configuration.
    more: &'a str,
    /// Where the documents are to be found.
    target: &'a str,
}

/// Indexes the log, compares what Elasticsearch counts with `expected`, and has it proven.
fn check(node: &Node, case: &Case<'_>, expected: &AccessLog) {
    let workspace = Workspace::new(node);
    workspace.take_data(case.file);
    let Case { format, dataset, source, .. } = case;
    workspace.configure(
        &format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: {format}, dataset: {dataset}{source}}}"),
        case.more,
    );
    let _ = workspace.run(&["run", "--once"]).ok();
    assert_eq!(node.count(case.target), expected.lines);
    assert_counts_equal(node, case.target, expected);
    assert_malformed_are_documents(node, case.target, &expected.malformed);
    workspace.assert_proven(expected.lines);
}

fn assert_counts_equal(node: &Node, target: &str, expected: &AccessLog) {
    let answer = node.search(
        target,
        &json!({
            "size": 0,
            "track_total_hits": true,
            "query": {"bool": {"must_not": {"term": {"tags": "_parse_failure"}}}},
            "aggs": {
                "status": {"terms": {"field": "http.response.status_code", "size": 1000}},
                "method": {"terms": {"field": "http.request.method", "size": 1000}},
                "day": {"date_histogram": {"field": "@timestamp", "calendar_interval": "day", "min_doc_count": 1}},
                "bytes": {"sum": {"field": "http.response.body.bytes"}},
                "hosts": {"terms": {"field": "source.address", "size": 10_000}},
                "hosts_number": {"cardinality": {"field": "source.address", "precision_threshold": 40_000}},
            },
        }),
    );
    assert_eq!(answer["hits"]["total"]["value"], expected.well_formed(), "{target}");
    let found = &answer["aggregations"];
    assert_eq!(buckets(&found["status"], Value::to_string), expected.by_status, "{target}: status");
    assert_eq!(buckets(&found["method"], text), expected.by_method, "{target}: method");
    let day = |key: &Value| key.as_i64().expect("milliseconds") / (24 * 3600 * 1000);
    assert_eq!(buckets(&found["day"], day), expected.by_day, "{target}: day");
    #[expect(clippy::cast_precision_loss, reason = "Elasticsearch adds up in doubles, exact for such sums")]
    let bytes = expected.bytes as f64;
    assert_eq!(found["bytes"]["value"].as_f64(), Some(bytes), "{target}: bytes");
    let hosts = buckets(&found["hosts"], text);
    let expected_hosts: Vec<String> =
        expected.hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
    assert_eq!(hosts.into_keys().collect::<Vec<_>>(), expected_hosts, "{target}: hosts");
    assert_eq!(found["hosts_number"]["value"], expected_hosts.len(), "{target}: number of hosts");
}

/// Each malformed line is there whole, with a sentence about it, and no other document has the tag.
fn assert_malformed_are_documents(node: &Node, target: &str, expected: &[Malformed]) {
    let answer = node
        .search(target, &json!({"size": 1000, "query": {"term": {"tags": "_parse_failure"}}, "sort": ["log.offset"]}));
    let found: Vec<(u64, String)> = hits(&answer)
        .map(|document| {
            let said = text(&document["error"]["message"]);
            assert!(said.starts_with("at byte "), "{document:#}");
            (document["log"]["offset"].as_u64().expect("an offset"), text(&document["message"]))
        })
        .collect();
    let expected: Vec<(u64, String)> =
        expected.iter().map(|line| (line.offset as u64, String::from_utf8_lossy(&line.bytes).into_owned())).collect();
    assert_eq!(found, expected, "{target}");
}

fn buckets<K: Ord>(aggregation: &Value, key: impl Fn(&Value) -> K) -> BTreeMap<K, u64> {
    let list = aggregation["buckets"].as_array().expect("buckets");
    list.iter().map(|bucket| (key(&bucket["key"]), bucket["doc_count"].as_u64().expect("a count"))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn hits(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["hits"]["hits"].as_array().expect("hits").iter().map(|hit| &hit["_source"])
}

fn nasa() -> AccessLog {
    AccessLog::common(&integration_tests::node::repository().join("integration-tests/data").join(NASA))
}

fn apache() -> AccessLog {
    AccessLog::combined(&integration_tests::node::repository().join("integration-tests/data").join(APACHE))
}

#[test]
fn the_malformed_lines_of_both_logs_are_those_that_were_cut_when_published() {
    let numbers = |log: &AccessLog| log.malformed.iter().map(|line| line.number).collect::<Vec<_>>();
    let nasa = nasa();
    assert_eq!(numbers(&nasa), NASA_BROKEN);
    for line in &nasa.malformed {
        let follows_a_cut = line.offset % NASA_CUT_EVERY == 0;
        let ends_at_a_cut = (line.offset + line.bytes.len() + 1) % NASA_CUT_EVERY == 0;
        assert!(follows_a_cut || ends_at_a_cut, "line {}", line.number);
    }
    assert_eq!((nasa.lines, nasa.well_formed()), (1930, 1841));
    let apache = apache();
    assert_eq!(numbers(&apache), APACHE_BROKEN);
    assert_eq!((apache.lines, apache.well_formed()), (2000, 2000));
}

#[test]
fn elasticsearch_counts_nasas_log_as_the_reference_does() {
    let case = Case {
        file: NASA,
        format: "common",
        dataset: "real.nasa",
        source: "",
        more: "",
        target: "logs-real.nasa-default",
    };
    check(Node::shared(), &case, &nasa());
}

#[test]
fn elasticsearch_counts_apaches_log_as_the_reference_does() {
    let case = Case {
        file: APACHE,
        format: "combined",
        dataset: "real.apache",
        source: "",
        more: "",
        target: "logs-real.apache-default",
    };
    check(Node::shared(), &case, &apache());
}

#[test]
fn a_format_that_logweir_finds_by_itself_gives_the_same_counts() {
    let case = Case {
        file: NASA,
        format: "auto",
        dataset: "found.nasa",
        source: "",
        more: "",
        target: "logs-found.nasa-default",
    };
    check(Node::shared(), &case, &nasa());
    let case = Case { file: APACHE, dataset: "found.apache", target: "logs-found.apache-default", ..case };
    check(Node::shared(), &case, &apache());
}

#[test]
fn date_named_indices_hold_the_same_a_day_each() {
    let case = Case {
        file: APACHE,
        format: "combined",
        dataset: "dated",
        source: "",
        more: "elasticsearch: {urls: ['{url}'], index: 'realdated-%Y.%m.%d'}",
        target: "realdated-*",
    };
    check(Node::shared(), &case, &apache());
    assert_days_have_their_index(Node::shared(), "realdated-*", &apache());
}

#[test]
fn a_small_memory_and_small_batches_change_no_count() {
    let case = Case {
        file: NASA,
        format: "common",
        dataset: "small.nasa",
        source: "",
        more: "read: {max_line_bytes: 1KiB}\nbatch: {max_bytes: 4KiB, max_memory: 8KiB, max_docs: 7}",
        target: "logs-small.nasa-default",
    };
    check(Node::shared(), &case, &nasa());
}

/// One old node at a time: each takes a gigabyte.
static OLD_NODE: Mutex<()> = Mutex::new(());

#[test]
fn elasticsearch_7_17_counts_the_same_in_date_named_indices() {
    let _one_at_a_time = OLD_NODE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::start("7.17.29", &[]);
    let case = Case {
        file: NASA,
        format: "common",
        dataset: "nasa",
        source: ", index: 'nasa-%Y.%m.%d'",
        more: "",
        target: "nasa-*",
    };
    check(&node, &case, &nasa());
    assert_days_have_their_index(&node, "nasa-*", &nasa());
    let case = Case {
        file: APACHE,
        format: "combined",
        dataset: "web",
        source: "",
        more: "elasticsearch: {urls: ['{url}'], index: 'web-%Y.%m.%d'}",
        target: "web-*",
    };
    check(&node, &case, &apache());
    assert_days_have_their_index(&node, "web-*", &apache());
}

#[test]
fn elasticsearch_8_19_counts_the_same_in_data_streams_and_date_named_indices() {
    check_both_targets("8.19.0");
}

#[test]
fn opensearch_2_counts_the_same_in_data_streams_and_date_named_indices() {
    check_both_targets("opensearch-2.19.1");
}

/// The one log into a data stream of a node of this version, the other into an index a day.
fn check_both_targets(version: &str) {
    let _one_at_a_time = OLD_NODE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::start(version, &[]);
    let case =
        Case { file: NASA, format: "common", dataset: "nasa", source: "", more: "", target: "logs-nasa-default" };
    check(&node, &case, &nasa());
    let case = Case {
        file: APACHE,
        format: "combined",
        dataset: "web",
        source: ", index: 'web-%Y.%m.%d'",
        more: "",
        target: "web-*",
    };
    check(&node, &case, &apache());
    assert_days_have_their_index(&node, "web-*", &apache());
}

/// As many indices as days, and in each the lines of one day.
fn assert_days_have_their_index(node: &Node, target: &str, expected: &AccessLog) {
    let by_index: Vec<u64> = node.counts_by(target, "_index").into_values().collect();
    let mut by_day: Vec<u64> = expected.by_day.values().copied().collect();
    // Pieces of lines go where the line before them went: the cut log is all of one day.
    if let [only] = by_day.as_mut_slice() {
        *only = expected.lines;
    }
    assert_eq!(by_index, by_day);
}
