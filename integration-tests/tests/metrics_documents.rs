//! What logweir says of itself in documents: their sums are what was indexed, whatever happened meanwhile.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{append, lines, orders};
use integration_tests::proxy::{Fault, Times, Which};
use integration_tests::{Node, Proxy, Workspace};
use serde_json::{Value, json};

const ON: [&str; 4] = ["--set", "telemetry.documents.enabled=true", "--set", "telemetry.documents.interval=1s"];

/// The last document is waited for no longer than 3 s.
const AT_ONCE: Duration = Duration::from_secs(8);

/// The documents about the daemons of one test, which has a namespace of its own.
struct Said {
    target: String,
}

impl Said {
    fn of(namespace: &str) -> Self {
        Self { target: format!("logs-logweir.metrics-{namespace}") }
    }

    fn all(&self) -> Vec<Value> {
        let node = Node::shared();
        let answer = node.search(&self.target, &json!({"size": 10_000, "sort": ["@timestamp"]}));
        answer["hits"]["hits"].as_array().expect("hits").iter().map(|hit| hit["_source"].clone()).collect()
    }

    fn daemon(&self) -> Vec<Value> {
        self.all().into_iter().filter(|document| document["logweir"]["scope"] == "daemon").collect()
    }

    fn source(&self, name: &str) -> Vec<Value> {
        self.all().into_iter().filter(|document| document["logweir"]["source"]["name"] == name).collect()
    }
}

/// What is at a dotted path; nothing where there is none.
fn at<'a>(document: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(&document["logweir"], |value, key| &value[key])
}

fn sum(documents: &[Value], path: &str) -> u64 {
    documents.iter().filter_map(|document| at(document, path).as_u64()).sum()
}

fn outcomes(documents: &[Value], object: &str) -> [u64; 4] {
    ["created", "duplicate", "dead_lettered", "skipped"].map(|outcome| sum(documents, &format!("{object}.{outcome}")))
}

fn workspace_at(url: &str, namespace: &str) -> Workspace {
    let workspace = Workspace::through(url, Node::shared());
    let sources =
        "  - {name: web, paths: ['{logs}/web*.log'], dataset: web, format: combined, exclude_lines: ['/line/7 ']}
  - {name: app, paths: ['{logs}/app*.log'], dataset: app, format: json}";
    let more = format!("elasticsearch: {{urls: ['{{url}}'], namespace: {namespace}, retry: {{max_delay: 200ms}}}}");
    workspace.configure(sources, &more);
    workspace
}

fn once(more: &[&str]) -> Vec<String> {
    ["run", "--once"].iter().chain(&ON).chain(more).map(ToString::to_string).collect()
}

fn run_once(workspace: &Workspace) {
    let arguments = once(&[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _ = workspace.run(&arguments).ok();
}

#[test]
fn the_sums_are_what_was_indexed_and_the_levels_are_right_at_the_end() {
    let node = Node::shared();
    let workspace = workspace_at(&node.url, "sums");
    let said = Said::of("sums");
    let (web, app) = (workspace.logs().join("web.log"), workspace.logs().join("app.log"));
    append(&web, &lines(0..300));
    append(&app, &orders(0..200, |n| n % 50 == 49));
    let daemon = workspace.start(&ON);
    // More than one document has something to say.
    until("the first lines are told of", PATIENCE, || {
        (node.ask("GET", &said.target, None).0 == 200 && sum(&said.daemon(), "lines.created") > 0).then_some(())
    });
    append(&web, &lines(300..500));
    append(&workspace.logs().join("web-2.log"), &lines(500..600));
    until("all is settled", PATIENCE, || {
        let created = node.count("logs-web-sums") + node.count("logs-app-sums");
        (created == 599 + 196 && daemon.metric("logweir_checkpoint_lag_bytes")? == 0.0).then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));

    let documents = said.daemon();
    assert_eq!(outcomes(&documents, "lines"), [795, 0, 4, 1]);
    assert_eq!(sum(&documents, "lines.read"), 800);
    assert!(documents.iter().filter(|document| at(document, "lines.created").as_u64() > Some(0)).count() >= 2);
    for (name, expected) in [("web", [599, 0, 0, 1]), ("app", [196, 0, 4, 0])] {
        assert_eq!(outcomes(&said.source(name), "source.lines"), expected, "{name}");
    }
    let files = ["web.log", "web-2.log", "app.log"].map(|name| workspace.logs().join(name));
    let bytes = files.iter().map(|file| std::fs::metadata(file).expect("it is there").len()).sum::<u64>();
    assert_eq!(sum(&documents, "read.bytes"), bytes);
    assert_eq!(sum(&documents, "documents.created"), 795);
    assert!(sum(&documents, "bulk.requests") >= 2 && sum(&documents, "bulk.bytes") > bytes);

    let last = documents.last().expect("there are some");
    for (level, expected) in [("lag", 0), ("lines.in_flight", 0), ("files.watched", 3), ("memory.usage", 0)] {
        assert_eq!(at(last, level), expected, "{level} in {last:#}");
    }
    assert_eq!(at(last, "memory.limit"), 128 << 20);
    assert_eq!(at(last, "holds"), &json!([]));
    let letters = std::fs::read_dir(workspace.path("dead-letters")).expect("letters");
    let letters: u64 = letters.map(|file| file.expect("a file").metadata().expect("its size").len()).sum();
    assert_eq!(at(last, "dead_letters.size"), letters);
    for (name, files) in [("web", 2), ("app", 1)] {
        let of_source = said.source(name);
        let last = of_source.last().expect("there are some");
        assert_eq!((at(last, "source.lag"), at(last, "source.files")), (&json!(0), &json!(files)), "{name}");
    }
    for document in &documents {
        let [p50, p95, max] = ["p50", "p95", "max"].map(|name| at(document, &format!("bulk.duration.{name}")).as_u64());
        assert_eq!(max.is_some(), sum(std::slice::from_ref(document), "bulk.requests") > 0, "{document:#}");
        assert!(p50 <= p95 && p95 <= max, "{document:#}");
        assert_eq!(document["host"]["name"], "test-host");
    }
    assert!(workspace.verify().1, "they are no lines");
}

#[test]
fn each_field_has_the_type_that_the_template_gives_it() {
    let node = Node::shared();
    let workspace = workspace_at(&node.url, "types");
    append(&workspace.logs().join("web.log"), &lines(0..10));
    run_once(&workspace);
    let target = "logs-logweir.metrics-types";
    let answer = node.ok("GET", &format!("{target}/_field_caps?fields=logweir.*,service.*,event.*"), None);
    let fields = answer["fields"].as_object().expect("fields");
    let mut types = BTreeSet::new();
    for (name, kinds) in fields {
        let kinds: Vec<&String> = kinds.as_object().expect("types").keys().filter(|kind| *kind != "object").collect();
        types.extend(kinds.iter().map(|kind| format!("{name}: {kind}")));
    }
    for expected in [
        "logweir.scope: keyword",
        "logweir.holds: keyword",
        "logweir.source.name: keyword",
        "logweir.source.lag: long",
        "logweir.lines.created: long",
        "logweir.delivery.latency.p99: long",
        "logweir.bulk.retries.too_many_requests: long",
        "service.version: keyword",
    ] {
        assert!(types.contains(expected), "{expected} is not in {types:#?}");
    }
}

#[test]
fn a_restart_counts_nothing_twice() {
    let node = Node::shared();
    let workspace = workspace_at(&node.url, "restart");
    let said = Said::of("restart");
    let web = workspace.logs().join("web.log");
    append(&web, &lines(10..110));
    run_once(&workspace);
    append(&web, &lines(110..160));
    run_once(&workspace);
    run_once(&workspace);
    let created: Vec<u64> =
        said.daemon().iter().map(|document| at(document, "lines.created").as_u64().unwrap_or(0)).collect();
    assert_eq!(created.iter().filter(|count| **count > 0).count(), 2, "{created:?}");
    assert_eq!(created.iter().sum::<u64>(), 150);
    assert_eq!(outcomes(&said.source("web"), "source.lines"), [150, 0, 0, 0]);
    assert_eq!(outcomes(&said.source("app"), "source.lines"), [0; 4]);
    assert!(created.len() >= 3, "each run says one thing at its end: {created:?}");
}

#[test]
fn documents_that_were_made_in_an_outage_arrive_after_it() {
    let node = Node::shared();
    let proxy = Proxy::start(&node.url);
    let workspace = workspace_at(&proxy.url(), "outage");
    let said = Said::of("outage");
    let web = workspace.logs().join("web.log");
    append(&web, &lines(10..110));
    let daemon = workspace.start(&ON);
    until("the first lines are told of", PATIENCE, || {
        (node.ask("GET", &said.target, None).0 == 200 && sum(&said.daemon(), "lines.created") == 100).then_some(())
    });
    let before = said.daemon().len();
    proxy.refuse(true);
    proxy.cut();
    append(&web, &lines(110..160));
    // A document is made each second: three of them fail to be sent, or wait behind one that did.
    let faults = || daemon.metric("logweir_faults_total{cause=\"telemetry\"}");
    until("documents cannot be sent", PATIENCE, || (faults()? >= 3.0).then_some(()));
    assert_eq!(said.daemon().len(), before);
    proxy.refuse(false);
    until("the rest is told of", PATIENCE, || (sum(&said.daemon(), "lines.created") == 150).then_some(()));
    assert_eq!(daemon.log().matches("send metrics documents").count(), 1, "it is said once:\n{}", daemon.log());
    assert_eq!(daemon.stop(), Some(0));

    let documents = said.daemon();
    let in_outage = documents.iter().filter(|document| at(document, "holds") == &json!(["elasticsearch_unreachable"]));
    assert!(in_outage.count() >= 2, "{documents:#?}");
    assert_eq!(outcomes(&documents, "lines"), [150, 0, 0, 0]);
    assert_eq!(outcomes(&said.source("web"), "source.lines"), [150, 0, 0, 0]);
    assert!(sum(&documents, "faults") >= 3 && sum(&documents, "bulk.retries.total") >= 1);
}

#[test]
fn a_document_whose_reply_was_lost_is_there_once() {
    let node = Node::shared();
    let proxy = Proxy::start(&node.url);
    let workspace = workspace_at(&proxy.url(), "lost");
    let said = Said::of("lost");
    append(&workspace.logs().join("web.log"), &lines(10..110));
    proxy.inject(Which::Line("metrics-lost/_bulk"), Fault::LoseReply, Times::Next(2));
    let daemon = workspace.start(&ON);
    until("the replies are lost", PATIENCE, || (proxy.count(Fault::LoseReply.name()) == 2).then_some(()));
    until("the lines are told of", PATIENCE, || (sum(&said.daemon(), "lines.created") >= 100).then_some(()));
    assert_eq!(daemon.stop(), Some(0));
    let documents = said.daemon();
    let times: BTreeSet<String> = documents.iter().map(|document| document["@timestamp"].to_string()).collect();
    assert_eq!(times.len(), documents.len());
    assert_eq!(sum(&documents, "lines.created"), 100);
}

#[test]
fn a_cluster_that_hangs_does_not_hold_up_the_end() {
    let proxy = Proxy::start(&Node::shared().url);
    let workspace = workspace_at(&proxy.url(), "hangs");
    append(&workspace.logs().join("web.log"), &lines(10..110));
    proxy.inject(Which::Line("metrics-hangs/_bulk"), Fault::BlackHole, Times::Always);
    let daemon = workspace.start(&ON);
    until("a document is swallowed", PATIENCE, || (proxy.count(Fault::BlackHole.name()) > 0).then_some(()));
    until("lines are not in its way", PATIENCE, || (Node::shared().count("logs-web-hangs") == 100).then_some(()));
    let began = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(workspace.verify().1);
}

#[test]
fn switched_off_nothing_is_sent_and_no_template_is_put() {
    let node = Node::shared();
    let workspace = workspace_at(&node.url, "off");
    append(&workspace.logs().join("web.log"), &lines(10..20));
    let _ = workspace.run(&["run", "--once"]).ok();
    assert_eq!(node.count("logs-web-off"), 10);
    assert_eq!(node.ask("GET", "logs-logweir.metrics-off", None).0, 404);
    let setup = |more: &[&str]| {
        let arguments: Vec<&str> = ["setup", "--dry-run"].iter().chain(more).copied().collect();
        workspace.run(&arguments).ok().stdout
    };
    assert!(!setup(&[]).contains("metrics"), "{}", setup(&[]));
    let on = setup(&ON);
    for object in ["_component_template/logweir-metrics-mappings", "_index_template/logweir-logweir.metrics"] {
        assert!(on.contains(object), "{on}");
    }
}

#[test]
fn where_all_sources_are_dated_so_are_these_documents() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let source = "  - {name: web, paths: ['{logs}/*.log'], dataset: web, format: combined, index: 'dated-metrics-%Y'}";
    workspace.configure(source, "");
    append(&workspace.logs().join("web.log"), &lines(10..30));
    run_once(&workspace);
    let said = Said { target: "logweir-metrics-*".to_owned() };
    assert_eq!(sum(&said.daemon(), "lines.created"), 20);
    let indices = node.counts_by(&said.target, "_index");
    let mut pattern = String::from("logweir-metrics-");
    let _ = write!(pattern, "{}", &said.daemon()[0]["@timestamp"].as_str().expect("a time")[..10].replace('-', "."));
    assert!(indices.contains_key(&pattern), "{indices:?}");
    let mapping = node.ok("GET", &format!("{pattern}/_mapping/field/logweir.lag"), None);
    assert_eq!(mapping[&pattern]["mappings"]["logweir.lag"]["mapping"]["lag"]["type"], "long", "{mapping}");
}
