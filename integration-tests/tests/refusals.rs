//! What a real node refuses, for now or for good: what can pass later passes later, what cannot is kept with its reason,
//! and the neighbours of both are indexed.

use std::time::{Duration, Instant};

use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{Load, append, assert_each_is_there_once, counted, lines, orders};
use integration_tests::proxy::{Fault, Response, Times, Which};
use integration_tests::{Daemon, Node, Way, Workspace};
use serde_json::{Value, json};

const VERSION: &str = "9.2.0";

/// A workspace that indexes numbered lines into `url`, and its target.
fn workspace(url: &str, dataset: &str, elasticsearch: &str, more: &str) -> (Workspace, String) {
    let workspace = Workspace::for_url(url);
    workspace.configure(
        &format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: refused.{dataset}}}"),
        &format!("elasticsearch: {{urls: ['{{url}}'], {elasticsearch}}}\n{more}"),
    );
    (workspace, format!("logs-refused.{dataset}-default"))
}

fn write(workspace: &Workspace, text: &str) {
    append(&workspace.logs().join("access.log"), text);
}

fn ends(node: &Node, workspace: &Workspace, target: &str, daemon: Daemon, lines: u64) {
    counted(node, target, lines, &daemon);
    let log = daemon.log();
    assert_eq!(daemon.stop(), Some(0), "{log}");
    assert_each_is_there_once(node, target, 0..lines);
    workspace.assert_proven(lines);
    assert_eq!(workspace.letters(), [Value::Null; 0]);
}

#[test]
fn a_node_that_is_out_of_room_for_writes_is_tried_again_until_all_is_there() {
    // Less than a batch takes: while one is written, the next is refused.
    let node = Node::start(VERSION, &["--set", "indexing_pressure.memory.limit=200kb"]);
    let more = "batch: {max_docs: 200}";
    let (workspace, target) = workspace(&node.url, "storm", "max_in_flight: 8, retry: {max_delay: 300ms}", more);
    for n in 0..8 {
        let file = workspace.logs().join(format!("{n}.log"));
        append(&file, &lines(n * 500..n * 500 + 500));
    }
    let daemon = workspace.start(&[]);
    counted(&node, &target, 4000, &daemon);
    let refused = daemon.counter("logweir_bulk_retries_total", "too_many_requests");
    println!("{refused} refusals");
    assert!(refused > 0, "no storm: {}", daemon.served("/metrics"));
    ends(&node, &workspace, &target, daemon, 4000);
}

#[test]
fn a_request_that_the_node_finds_too_large_is_halved_and_a_line_too_large_alone_is_kept() {
    let node = Node::start(VERSION, &["--set", "http.max_content_length=512kb"]);
    let (workspace, target) = workspace(&node.url, "large", "max_in_flight: 2", "");
    write(&workspace, &lines(0..3000));
    // Its document is larger than any request may be.
    let huge = lines(3000..3001).replace("/line/3000", &format!("/line/3000?{}", "x".repeat(600_000)));
    write(&workspace, &huge);
    write(&workspace, &lines(3001..6000));
    let run = workspace.run(&["run", "--once"]).ok();
    assert!(run.stderr.contains("dead letters"), "{}", run.stderr);
    let kept = workspace.letters();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((&kept[0]["status"], &kept[0]["type"]), (&json!(413), &json!("request_too_large")), "{kept:#?}");
    assert_eq!(node.count(&target), 5999);
    let (report, satisfied) = workspace.verify();
    let total = &report["total"];
    assert!(satisfied && total["once"] == 5999 && total["dead_lettered"] == 1, "{report:#}");
    let none = json!({"query": {"term": {"http.response.body.bytes": 3000}}});
    assert_eq!(node.search(&target, &none)["hits"]["total"]["value"], 0);
}

#[test]
fn a_storm_of_429_with_a_time_to_stay_away_is_obeyed_and_nothing_is_lost() {
    let way = Way::new("refused.away", "retry: {min_delay: 10ms, max_delay: 5s}", "batch: {max_docs: 100}");
    let daemon = way.started(10);
    let load = Load::start(way.log(), 10, 300);
    let mut away = Response::new(429, "application/json", r#"{"error":{"type":"too_many_requests","reason":"slow"}}"#);
    away.headers.push(("retry-after".to_owned(), "2".to_owned()));
    let storm = way.proxy.inject(Which::Bulk, Fault::Say(away), Times::Always);
    way.done("say", 1);
    let began = Instant::now();
    way.done("say", 8);
    assert!(began.elapsed() > Duration::from_secs(2), "{:?} for 8 requests: {}", began.elapsed(), daemon.log());
    daemon.waits_for("elasticsearch_overloaded");
    way.proxy.lift(storm);
    let lines = load.stop();
    way.ends(daemon, lines);
}

#[test]
fn conflicts_with_the_mapping_under_load_spare_their_neighbours_and_are_replayed_once_it_is_mended() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    workspace.configure(
        "  - {name: web, paths: ['{logs}/*.log'], format: json, dataset: refused.mapping}",
        "batch: {max_docs: 100}",
    );
    let target = "logs-refused.mapping-default";
    write(&workspace, &orders(0..10, |_| false));
    let daemon = workspace.start(&[]);
    counted(node, target, 10, &daemon);
    // Every seventh, so that none of the batches is without one.
    let refused = |n: u64| n % 7 == 3;
    for part in 0..20 {
        write(&workspace, &orders(10 + part * 100..110 + part * 100, refused));
    }
    let all = 2010;
    let conflicts = (10..all).filter(|&n| refused(n)).count() as u64;
    counted(node, target, all - conflicts, &daemon);
    until("the letters", PATIENCE, || {
        (daemon.counter("logweir_documents_total", "dead_lettered") >= conflicts).then_some(())
    });
    let log = daemon.log();
    assert_eq!(daemon.stop(), Some(0), "{log}");
    let kept = workspace.letters();
    assert_eq!(kept.len() as u64, conflicts);
    for letter in &kept {
        assert_eq!(letter["type"], "document_parsing_exception", "{letter:#}");
    }
    let (report, satisfied) = workspace.verify();
    assert!(satisfied && report["total"]["dead_lettered"] == conflicts, "{report:#}");
    assert_eq!(node.count(target), all - conflicts);

    // Mended: what is new has a mapping that takes both.
    let order = json!({"template": {"mappings": {"properties": {"order": {"type": "object", "enabled": false}}}}});
    node.ok("PUT", "_component_template/logweir@custom", Some(&order));
    let template = node.ok("GET", "_index_template/logweir-refused.mapping", None);
    let mut template = template["index_templates"][0]["index_template"].clone();
    template["composed_of"].as_array_mut().expect("a list").push(json!("logweir@custom"));
    for key in ["created_date", "created_date_millis", "modified_date", "modified_date_millis"] {
        template.as_object_mut().expect("an object").remove(key);
    }
    node.ok("PUT", "_index_template/logweir-refused.mapping", Some(&template));
    node.roll_over(target);
    let _ = workspace.run(&["dead-letters", "replay"]).ok();
    assert_eq!(workspace.letters(), [Value::Null; 0]);
    // Again: there is nothing to replay, and nothing comes twice.
    let _ = workspace.run(&["dead-letters", "replay"]).ok();
    assert_each_is_there_once(node, target, 0..all);
    workspace.assert_proven(all);
}

#[test]
fn documents_go_through_a_pipeline_that_exists_and_wait_for_one_that_does_not() {
    let node = Node::shared();
    let (workspace, target) = workspace(&node.url, "pipeline", "pipeline: refused-late, retry: {max_delay: 300ms}", "");
    write(&workspace, &lines(0..500));
    let daemon = workspace.start(&[]);
    daemon.waits_for("elasticsearch_target");
    assert!(
        daemon.waiting().to_string().contains("pipeline with id [refused-late] does not exist"),
        "{}",
        daemon.log()
    );
    assert_eq!(node.count(&target), 0);
    assert_eq!(workspace.letters(), [Value::Null; 0]);
    // This node has no processors: what a pipeline can be seen by here is that it was asked for.
    node.ok("PUT", "_ingest/pipeline/refused-late", Some(&json!({"processors": []})));
    ends(node, &workspace, &target, daemon, 500);
    let stats = node.ok("GET", "_nodes/stats/ingest", None);
    let nodes = stats["nodes"].as_object().expect("nodes");
    let total = |key: &str| nodes.values().filter_map(|node| node["ingest"]["total"][key].as_u64()).sum::<u64>();
    assert_eq!(total("count") - total("failed"), 500, "each once, and none beside it: {stats}");
}

#[test]
fn documents_pass_no_faster_than_the_rate_that_is_configured() {
    let node = Node::shared();
    let (workspace, target) =
        workspace(&node.url, "rate", "rate_limit: {max_docs: 500}", "batch: {max_docs: 100, max_age: 10ms}");
    write(&workspace, &lines(0..3000));
    let daemon = workspace.start(&[]);
    let created = || daemon.counter("logweir_documents_total", "created");
    daemon.said("telemetry is served");
    until("the first documents", PATIENCE, || (created() > 0).then_some(()));
    let (began, before) = (Instant::now(), created());
    counted(node, &target, 3000, &daemon);
    // A second's worth may come at once; a busy machine may be slower, but not that it would look unlimited.
    let least = Duration::from_secs((3000 - before - 500) / 500);
    assert!(began.elapsed() + Duration::from_secs(1) >= least, "{:?} for {}", began.elapsed(), 3000 - before);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    ends(node, &workspace, &target, daemon, 3000);
}
