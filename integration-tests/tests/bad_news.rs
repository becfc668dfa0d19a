//! What bad things get: each is waited for, put aside or refused as documented, and nothing is lost by it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{self, assert_each_is_there_once, counted, lines, numbers_found, orders};
use integration_tests::{Daemon, Node, Workspace};
use serde_json::{Value, json};

const VERSION: &str = "9.2.0";

/// Configures a source into a data set of its own; its target.
fn configure(workspace: &Workspace, dataset: &str, format: &str, sections: &str) -> String {
    let source = format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: {format}, dataset: bad.{dataset}}}");
    workspace.configure(&source, sections);
    format!("logs-bad.{dataset}-default")
}

/// The shared node, and a directory that is indexed into the target.
fn place(dataset: &str, format: &str, sections: &str) -> (&'static Node, Workspace, String) {
    let workspace = Workspace::new(Node::shared());
    let target = configure(&workspace, dataset, format, sections);
    (Node::shared(), workspace, target)
}

fn append(workspace: &Workspace, text: &str) {
    numbered::append(&workspace.logs().join("access.log"), text);
}

fn stop(daemon: Daemon) {
    let log = daemon.log();
    assert_eq!(daemon.stop(), Some(0), "{log}");
}

/// How often a warning with these words is in the log.
fn warned(daemon: &Daemon, words: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(" WARN ") && line.contains(words)).count()
}

#[test]
fn an_elasticsearch_that_comes_late_is_killed_and_hangs_is_waited_for() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let workspace = Workspace::for_url(&format!("http://127.0.0.1:{port}"));
    let more = "elasticsearch: {urls: ['{url}'], request_timeout: 5s, retry: {max_delay: 1s}}\nbatch: {max_docs: 500}";
    let target = configure(&workspace, "late", "combined", more);

    // Down at the start.
    append(&workspace, &lines(0..5000));
    let mut daemon = workspace.start(&[]);
    daemon.said("waiting for elasticsearch");
    daemon.said(&format!("127.0.0.1:{port}"));
    append(&workspace, &lines(5000..6000));
    let mut node = Node::start(VERSION, &["--port", &port.to_string()]);
    assert!(daemon.is_running(), "{}", daemon.log());
    counted(&node, &target, 6000, &daemon);
    daemon.said("no longer waiting for elasticsearch");
    assert_each_is_there_once(&node, &target, 0..6000);

    // Killed in the middle.
    append(&workspace, &lines(6000..20_000));
    counted(&node, &target, 6500, &daemon);
    node.control("kill");
    let before = (warned(&daemon, "waiting for elasticsearch "), daemon.counter("logweir_bulk_retries_total", ""));
    append(&workspace, &lines(20_000..21_000));
    daemon.waits_for("elasticsearch_unreachable");
    until("some attempts", PATIENCE, || {
        (daemon.counter("logweir_bulk_retries_total", "") >= before.1 + 6).then_some(())
    });
    // Once, then rarely.
    let times = warned(&daemon, "waiting for elasticsearch ") - before.0;
    node.restart(VERSION);
    counted(&node, &target, 21_000, &daemon);

    // Hangs in the middle: what it was sent it may do later.
    append(&workspace, &lines(21_000..28_000));
    counted(&node, &target, 21_500, &daemon);
    node.control("pause");
    append(&workspace, &lines(28_000..30_000));
    daemon.waits_for("elasticsearch_unreachable");
    node.control("resume");
    counted(&node, &target, 30_000, &daemon);
    stop(daemon);
    assert_each_is_there_once(&node, &target, 0..30_000);
    workspace.assert_proven(30_000);
    let log = fs::read_to_string(workspace.path("daemon.log")).expect("the log");
    assert!(times <= 2, "one outage was told {times} times:\n{log}");
}

#[test]
fn once_waits_for_an_elasticsearch_that_takes_nothing_yet() {
    let (node, workspace, target) = place("oncewaits", "combined", "");
    append(&workspace, &lines(0..10));
    let _ = workspace.run(&["run", "--once"]).ok();
    flood(node, &target, true);
    append(&workspace, &lines(10..500));
    let mut waits = workspace.start(&["--once"]);
    waits.said("waiting for the target in elasticsearch");
    assert!(waits.is_running(), "{}", waits.log());
    flood(node, &target, false);
    until("the end", PATIENCE, || (!waits.is_running()).then_some(()));
    assert_each_is_there_once(node, &target, 0..500);
    workspace.assert_proven(500);
}

/// Expects these lines once each, and no others.
fn assert_found(node: &Node, target: &str, numbers: impl Iterator<Item = u64>) {
    assert_eq!(numbers_found(node, target), numbers.map(|number| (number, 1)).collect());
}

#[test]
fn what_the_mapping_rejects_is_kept_with_its_reason_and_the_rest_goes_on() {
    let (node, workspace, target) = place("mapping", "json", "");
    append(&workspace, &orders(0..10, |_| false));
    let _ = workspace.run(&["run", "--once"]).ok();
    append(&workspace, &(orders(10..15, |_| false) + &orders(15..18, |_| true) + &orders(18..30, |_| false)));
    let run = workspace.run(&["run", "--once"]).ok();
    let told = run.stderr.lines().find(|line| line.contains(" WARN ") && line.contains("dead letters"));
    let told = told.unwrap_or_else(|| panic!("not told:\n{}", run.stderr));
    for words in ["documents=3", "access.log", "document_parsing_exception", "order"] {
        assert!(told.contains(words), "{words} not in {told}");
    }
    assert_found(node, &target, (0..15).chain(18..30));
    let (report, satisfied) = workspace.verify();
    let total = &report["total"];
    assert!(satisfied && total["dead_lettered"] == 3 && total["once"] == 27 && total["lines"] == 30, "{report:#}");

    let kept = workspace.letters();
    assert_eq!(kept.len(), 3, "{kept:?}");
    let listed = workspace.run(&["dead-letters", "list"]).ok().stdout;
    let row: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert!(row.len() > 3 && row[0] == "3" && row[2] == "document_parsing_exception", "{listed}");
    let id = kept[1]["id"].as_str().expect("an id");
    let shown = workspace.run(&["dead-letters", "show", id]).ok().json();
    assert_eq!(shown["document"]["order"], "number 16", "{shown:#}");
    assert_eq!(shown["status"], 400, "{shown:#}");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("[order]")), "{shown:#}");
    assert!(shown["path"].as_str().is_some_and(|path| path.ends_with("logs/access.log")), "{shown:#}");
    assert_eq!(shown["offset"], (orders(0..15, |_| false) + &orders(15..16, |_| true)).len(), "{shown:#}");
    assert_eq!(workspace.run(&["dead-letters", "show", "AAAAAAAAAAAAAAAAAAAAAAAA"]).status, Some(1));

    // Sent again to the same mapping they are refused again, and kept.
    assert_eq!(workspace.run(&["dead-letters", "replay"]).status, Some(1));
    assert_eq!(workspace.letters().len(), 3);

    // An index that has not seen an order yet takes it as it comes.
    node.roll_over(&target);
    let _ = workspace.run(&["dead-letters", "replay", id]).ok();
    assert_eq!(workspace.letters().len(), 2);
    let dropped = workspace.run(&["dead-letters", "drop", kept[0]["id"].as_str().expect("an id")]).ok();
    assert_eq!(dropped.stdout, "1 dropped\n");
    let _ = workspace.run(&["dead-letters", "replay"]).ok();
    assert_eq!(workspace.letters(), [Value::Null; 0]);
    assert_found(node, &target, (0..15).chain(16..30));
    // What was given up is not there, and verify says so.
    let (report, satisfied) = workspace.verify();
    assert!(!satisfied && report["total"]["missing"] == 1 && report["total"]["twice"] == 0, "{report:#}");
    let _ = workspace.run(&["run", "--once"]).ok();
    assert_eq!(node.count(&target), 29, "nothing is sent again by itself");
}

#[test]
fn full_dead_letters_stop_the_pump_until_there_is_room() {
    let (node, workspace, target) = place("full", "json", "batch: {max_docs: 10}");
    append(&workspace, &orders(0..5, |_| false));
    let small = ["--set", "dead_letters.max_bytes=8KiB", "--set", "dead_letters.max_segment_bytes=4KiB"];
    let daemon = workspace.start(&small);
    counted(node, &target, 5, &daemon);
    append(&workspace, &(orders(5..205, |_| true) + &orders(205..210, |_| false)));
    daemon.said("waiting for room for dead letters");
    let kept = workspace.letters().len();
    assert!(kept > 0 && kept < 200, "{kept}");
    let mut dropped = 0;
    until("the rest", PATIENCE, || {
        let run = workspace.run(&["dead-letters", "drop", "--all"]).ok();
        dropped += run.stdout.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).expect("a count");
        (dropped >= 200 && node.count(&target) == 10).then_some(())
    });
    assert_eq!(dropped, 200, "each is a letter once");
    stop(daemon);
    assert_found(node, &target, (0..5).chain(205..210));
}

/// What Elasticsearch does to an index when the disk is nearly full.
fn flood(node: &Node, target: &str, flooded: bool) {
    let value = if flooded { json!(true) } else { Value::Null };
    let settings = json!({"index.blocks.read_only_allow_delete": value});
    node.ok("PUT", &format!("{target}/_settings"), Some(&settings));
}

#[test]
fn an_index_at_the_flood_stage_holds_and_goes_on_by_itself_each_time() {
    let (node, workspace, target) = place("flood", "combined", "");
    append(&workspace, &lines(0..10));
    let daemon = workspace.start(&[]);
    counted(node, &target, 10, &daemon);
    for round in 1..=2 {
        flood(node, &target, true);
        append(&workspace, &lines(round * 500..round * 500 + 500));
        // Each time: the second is soon after the first.
        until(&format!("hold {round} to show\n{}", daemon.log()), PATIENCE / 4, || {
            daemon.waiting().to_string().contains("elasticsearch_target").then_some(())
        });
        assert_eq!(daemon.waiting()[0]["cause"], "elasticsearch_target");
        assert!(daemon.waiting()[0]["reason"].as_str().is_some_and(|reason| reason.contains("read-only")));
        assert_eq!(workspace.letters(), [Value::Null; 0]);
        flood(node, &target, false);
        counted(node, &target, 10 + round * 500, &daemon);
        until("the hold to end", PATIENCE, || (daemon.waiting() == json!([])).then_some(()));
    }
    stop(daemon);
    assert_eq!(node.count(&target), 1010);
    workspace.assert_proven(1010);
}

#[test]
fn a_second_daemon_on_one_store_is_refused_with_its_path() {
    let (node, workspace, target) = place("second", "combined", "");
    append(&workspace, &lines(0..10));
    let mut first = workspace.start(&[]);
    counted(node, &target, 10, &first);
    for arguments in [&["run"][..], &["run", "--once"]] {
        let second = workspace.run(arguments);
        assert_eq!(second.status, Some(74), "{}", second.stderr);
        let path = workspace.path("state").display().to_string();
        assert!(second.stderr.contains(&path), "{path} not named: {}", second.stderr);
    }
    assert!(first.is_running(), "{}", first.log());
    append(&workspace, &lines(10..20));
    counted(node, &target, 20, &first);
    // Whoever only looks is let in; what is in Elasticsearch is settled a moment later.
    until("the checkpoint", PATIENCE, || (workspace.verify().0["total"]["behind"] == 0).then_some(()));
    workspace.assert_proven(20);
    let _ = workspace.run(&["checkpoints", "list"]).ok();
    stop(first);
}

#[test]
fn a_time_out_of_the_window_is_replaced_and_tagged() {
    let (node, workspace, target) = place("window", "combined", "");
    let at = |date: &str, n: u64| lines(n..n + 1).replace("17/May/2015", date);
    append(&workspace, &(at("01/Jan/1970", 0) + &at("17/May/2015", 1) + &at("31/Dec/2199", 2)));
    let began = now_ms();
    let _ = workspace.run(&["run", "--once"]).ok();
    let answer = node.search(
        &target,
        &json!({"sort": ["log.offset"], "docvalue_fields": [{"field": "@timestamp", "format": "epoch_millis"}]}),
    );
    let hits = answer["hits"]["hits"].as_array().expect("hits");
    assert_eq!(hits.len(), 3, "{answer:#}");
    for (n, hit) in hits.iter().enumerate() {
        let time: u64 = hit["fields"]["@timestamp"][0].as_str().and_then(|text| text.parse().ok()).expect("a time");
        let tags = &hit["_source"]["tags"];
        assert_eq!(hit["_source"]["url"]["path"], format!("/line/{n}"));
        if n == 1 {
            assert_eq!((time, tags), (1_431_857_103_000, &Value::Null));
        } else {
            assert!(time >= began && time <= now_ms(), "{hit:#}");
            assert_eq!(tags, &json!(["_time_rejected"]), "{hit:#}");
        }
    }
    workspace.assert_proven(3);
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("not that late")
}

#[test]
fn a_directory_that_vanishes_and_comes_back_takes_nothing_with_it() {
    let (node, workspace, target) = place("vanishes", "combined", "read: {scan_interval: 300ms}");
    append(&workspace, &lines(0..100));
    let mut daemon = workspace.start(&[]);
    counted(node, &target, 100, &daemon);
    fs::rename(workspace.logs(), workspace.path("away")).expect("renamed");
    daemon.said("fault");
    assert!(daemon.is_running(), "{}", daemon.log());
    fs::rename(workspace.path("away"), workspace.logs()).expect("renamed");
    append(&workspace, &lines(100..150));
    counted(node, &target, 150, &daemon);
    assert!(warned(&daemon, "fault") <= 3, "said once a cause: {}", daemon.log());
    stop(daemon);
    assert_each_is_there_once(node, &target, 0..150);
    workspace.assert_proven(150);
}

/// Runs what follows it bound by permissions, as every user but root is.
const BOUND: &[&str] = &["setpriv", "--bounding-set=-dac_override,-dac_read_search"];

#[test]
fn a_file_that_may_not_be_read_is_said_once_and_read_when_it_may() {
    let (node, workspace, target) = place("unreadable", "combined", "read: {scan_interval: 1s}");
    append(&workspace, &lines(0..10));
    let locked = workspace.logs().join("locked.log");
    numbered::append(&locked, &lines(10..20));
    let permit = |mode| fs::set_permissions(&locked, fs::Permissions::from_mode(mode)).expect("it is ours");
    permit(0o000);
    let wrapper = if nix::unistd::geteuid().is_root() { BOUND } else { &[] };

    let once = workspace.start_under(wrapper, &[], &["--once"]);
    assert_eq!(once.ended().code(), Some(74), "not all was read");
    let daemon = workspace.start_under(wrapper, &[], &[]);
    counted(node, &target, 10, &daemon);
    until("some scans", PATIENCE, || (daemon.counter("logweir_faults_total", "cause=\"read\"") >= 4).then_some(()));
    let log = daemon.log();
    let said = log.lines().filter(|line| line.contains("locked.log") && line.contains("ermission denied")).count();
    assert_eq!(said, 2, "once a process:\n{log}");
    permit(0o644);
    counted(node, &target, 20, &daemon);
    stop(daemon);
    assert_each_is_there_once(node, &target, 0..20);
    workspace.assert_proven(20);
}
