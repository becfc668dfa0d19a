//! A request whose reply does not come, comes late, or comes in part may have been applied: nothing of it is lost, and
//! nothing is there twice, whatever rolls over meanwhile. Through a proxy in front of the real node.

use std::time::{Duration, Instant};

use integration_tests::Way;
use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{Load, counted};
use integration_tests::proxy::{Fault, Times, Which};
use serde_json::Value;

const RATE: u64 = 300;

/// A request may take `timeout`.
fn way(name: &str, timeout: &str) -> Way {
    let elasticsearch = format!("request_timeout: {timeout}, retry: {{max_delay: 500ms}}");
    Way::new(&format!("lost.{name}"), &elasticsearch, "batch: {max_docs: 200}")
}

/// Lines that come all the time.
fn load(way: &Way, from: u64) -> Load {
    Load::start(way.log(), from, RATE)
}

/// Documents of each index of the data stream, oldest first.
fn indices(way: &Way) -> Vec<u64> {
    let stats = way.node.ok("GET", &format!("{}/_stats/docs", way.target), None);
    let mut indices: Vec<(&String, &Value)> = stats["indices"].as_object().expect("indices").iter().collect();
    indices.sort_by_key(|(name, _)| name.rsplit('-').next().map(ToOwned::to_owned));
    indices.iter().map(|(_, index)| index["primaries"]["docs"]["count"].as_u64().expect("a count")).collect()
}

#[test]
fn replies_that_are_lost_halved_late_or_cut_under_load_repeat_nothing() {
    let way = way("mixed", "3s");
    let daemon = way.started(10);
    let load = load(&way, 10);
    for _ in 0..3 {
        for fault in [Fault::LoseReply, Fault::HalfReply, Fault::Delay(Duration::from_millis(300))] {
            let (name, before) = (fault.name(), way.proxy.count(fault.name()));
            way.proxy.inject(Which::Bulk, fault, Times::Next(2));
            way.done(name, before + 2);
        }
        way.roll_over();
        // Whatever it is: a look-up, or a list of tasks.
        let lost = way.proxy.count("lose_reply");
        way.proxy.inject(Which::Any, Fault::LoseReply, Times::Next(3));
        way.done("lose_reply", lost + 3);
        way.proxy.cut();
        way.proxy.refuse(true);
        daemon.waits_for("elasticsearch_unreachable");
        way.proxy.refuse(false);
    }
    let lines = load.stop();
    assert!(daemon.counter("logweir_bulk_retries_total", "timeout") > 0, "{}", daemon.served("/metrics"));
    way.ends(daemon, lines);
}

#[test]
fn a_reply_lost_before_a_rollover_is_found_where_ids_alone_would_repeat_it() {
    let way = way("rollover", "20s");
    let daemon = way.started(10);
    way.proxy.inject(Which::Bulk, Fault::LoseReply, Times::Next(1));
    // What follows waits until the target has rolled over.
    let kept = way.proxy.inject(Which::Any, Fault::Keep, Times::Always);
    way.append(10..110);
    way.done("lose_reply", 1);
    way.roll_over();
    way.proxy.lift(kept);
    way.append(110..120);
    counted(way.node, &way.target, 120, &daemon);
    assert_eq!(indices(&way), [110, 10]);
    until("a look-up to find them", PATIENCE, || {
        (daemon.counter("logweir_documents_total", "duplicate") >= 100).then_some(())
    });
    way.ends(daemon, 120);
}

#[test]
fn a_lost_reply_a_kill_and_a_rollover_before_the_restart_repeat_nothing() {
    let way = way("restart", "20s");
    let mut daemon = way.started(10);
    let mut lines = 10;
    for round in 1..=3 {
        let passed = way.proxy.count("bulk");
        let losing = way.proxy.inject(Which::Bulk, Fault::LoseReply, Times::Always);
        way.append(lines..lines + 500);
        lines += 500;
        way.done("lose_reply", round);
        until("documents that nobody was told of", PATIENCE, || (way.node.count(&way.target) > 10).then_some(()));
        daemon.kill();
        way.roll_over();
        way.proxy.lift(losing);
        daemon = way.workspace.start(&[]);
        counted(way.node, &way.target, lines, &daemon);
        assert!(way.proxy.count("bulk") > passed);
    }
    way.ends(daemon, lines);
}

#[test]
fn a_request_that_is_passed_on_after_its_deadline_meets_its_own_ids() {
    let way = way("late", "2s");
    let daemon = way.started(10);
    let kept = way.proxy.inject(Which::Bulk, Fault::Keep, Times::Next(1));
    way.append(10..110);
    way.done("keep", 1);
    // Given up, looked up, sent again.
    counted(way.node, &way.target, 110, &daemon);
    let passed = way.proxy.count("passed");
    way.proxy.lift(kept);
    way.done("passed", passed + 1);
    way.append(110..120);
    counted(way.node, &way.target, 120, &daemon);
    way.ends(daemon, 120);
}

#[test]
fn of_a_late_request_and_its_successor_behind_a_rollover_one_copy_stays() {
    let way = way("twins", "5s");
    let daemon = way.started(10);
    let first = way.proxy.inject(Which::Bulk, Fault::Keep, Times::Next(1));
    let second = way.proxy.inject(Which::Bulk, Fault::Keep, Times::Next(1));
    way.append(10..110);
    // The first was given up and looked up before the second was sent.
    way.done("keep", 2);
    way.proxy.lift(first);
    counted(way.node, &way.target, 110, &daemon);
    way.roll_over();
    way.proxy.lift(second);
    counted(way.node, &way.target, 210, &daemon);
    assert_eq!(indices(&way), [110, 100], "two copies for a moment");
    until("the younger to go", PATIENCE, || (way.node.count(&way.target) == 110).then_some(()));
    assert_eq!(indices(&way)[0], 110);
    way.ends(daemon, 110);
}

#[test]
fn requests_that_are_swallowed_are_given_up_at_their_deadline_and_nothing_is_lost() {
    let way = way("hole", "2s");
    let daemon = way.started(10);
    let load = load(&way, 10);
    way.proxy.inject(Which::Any, Fault::BlackHole, Times::Always);
    way.done("black_hole", 6);
    daemon.waits_for("elasticsearch_unreachable");
    way.proxy.lift_all();
    let reached = load.next();
    counted(way.node, &way.target, reached, &daemon);
    let lines = load.stop();
    way.ends(daemon, lines);
}

#[test]
fn replies_that_drip_are_waited_for_up_to_the_deadline_and_looked_up_beyond_it() {
    let way = way("drip", "4s");
    let daemon = way.started(10);
    // Slow, but whole within the deadline: some hundred bytes.
    let slow = way.proxy.inject(Which::Bulk, Fault::Drip(100, Duration::from_millis(50)), Times::Always);
    way.append(10..30);
    counted(way.node, &way.target, 30, &daemon);
    until("the reply", PATIENCE, || (daemon.counter("logweir_documents_total", "created") >= 30).then_some(()));
    assert_eq!(daemon.counter("logweir_bulk_retries_total", ""), 0, "{}", daemon.served("/metrics"));
    way.proxy.lift(slow);
    // A byte a second: never whole.
    way.proxy.inject(Which::Bulk, Fault::Drip(1, Duration::from_secs(1)), Times::Next(2));
    let began = Instant::now();
    way.append(30..60);
    until("a look-up to find them", PATIENCE, || {
        (daemon.counter("logweir_documents_total", "duplicate") >= 30).then_some(())
    });
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    way.ends(daemon, 60);
}
