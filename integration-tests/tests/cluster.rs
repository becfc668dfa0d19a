//! Nodes end, hang and come back while lines arrive: nothing is lost, nothing is there twice, and what is not known is not
//! claimed.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{Load, append, assert_each_is_there_once, counted, lines};
use integration_tests::{Daemon, Node, Workspace};

const VERSION: &str = "9.2.0";
/// Lines a second.
const RATE: u64 = 100;

/// Three nodes, for one test at a time; a node that hangs is given up after some seconds instead of half a minute.
fn three_nodes() -> MutexGuard<'static, Node> {
    static CLUSTER: OnceLock<Mutex<Node>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        let mut options = vec!["--nodes", "3", "--heap", "512m"];
        for setting in [
            "cluster.fault_detection.follower_check.interval=500ms",
            "cluster.fault_detection.follower_check.timeout=3s",
            "cluster.fault_detection.follower_check.retry_count=2",
            "cluster.fault_detection.leader_check.interval=500ms",
            "cluster.fault_detection.leader_check.timeout=3s",
            "cluster.fault_detection.leader_check.retry_count=2",
            // What a new master publishes first goes to the old one too.
            "cluster.publish.timeout=3s",
        ] {
            options.extend(["--set", setting]);
        }
        Mutex::new(Node::start(VERSION, &options))
    });
    let node = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    node.is_green();
    node
}

/// A log that is indexed into all nodes of a cluster.
struct Way {
    workspace: Workspace,
    target: String,
}

impl Way {
    fn new(node: &Node, name: &str, replicas: u64) -> Self {
        let workspace = Workspace::new(node);
        workspace.configure(
            &format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: cluster.{name}}}"),
            &format!(
                "elasticsearch: {{urls: ['{}'], request_timeout: 5s, retry: {{max_delay: 500ms}}, \
                 template: {{replicas: {replicas}}}}}\nbatch: {{max_docs: 100}}",
                node.urls.join("', '")
            ),
        );
        Self { workspace, target: format!("logs-cluster.{name}-default") }
    }

    fn log(&self) -> PathBuf {
        self.workspace.logs().join("access.log")
    }

    fn roll_over(&self, node: &Node) {
        let path = format!("{}/_rollover", self.target);
        until("a rollover", PATIENCE, || (node.ask("POST", &path, None).1["rolled_over"] == true).then_some(()));
    }

    fn ends(&self, node: &Node, daemon: Daemon, lines: u64) {
        counted(node, &self.target, lines, &daemon);
        let log = daemon.log();
        assert_eq!(daemon.stop(), Some(0), "{log}");
        assert_each_is_there_once(node, &self.target, 0..lines);
        self.workspace.assert_proven(lines);
    }
}

#[test]
fn a_node_that_is_restarted_and_killed_under_load_costs_no_line() {
    let mut node = Node::start(VERSION, &[]);
    let way = Way::new(&node, "single", 0);
    let daemon = way.workspace.start(&[]);
    let load = Load::start(way.log(), 0, RATE);
    counted(&node, &way.target, 100, &daemon);
    for end in ["stop", "kill"] {
        node.control(end);
        daemon.waits_for("elasticsearch_unreachable");
        node.restart(VERSION);
        way.roll_over(&node);
        let reached = load.next() + RATE;
        counted(&node, &way.target, reached, &daemon);
    }
    let lines = load.stop();
    way.ends(&node, daemon, lines);
}

#[test]
fn of_three_nodes_one_is_killed_paused_and_restarted_in_turn_and_indexing_goes_on() {
    // Longer: each node meets each fault.
    let rounds: usize = std::env::var("LOGWEIR_TEST_ROUNDS").map_or(1, |n| n.parse().expect("a number"));
    let mut cluster = three_nodes();
    let way = Way::new(&cluster, "turns", 1);
    let daemon = way.workspace.start(&[]);
    let load = Load::start(way.log(), 0, RATE);
    counted(&cluster, &way.target, 100, &daemon);
    cluster.is_green();
    for round in 0..rounds {
        for (turn, fault) in ["kill", "pause", "restart"].into_iter().enumerate() {
            let one = (round + turn) % 3 + 1;
            cluster.url = cluster.urls[one % 3].clone();
            match fault {
                "restart" => cluster.end_one(one),
                _ => cluster.control_one(fault, one),
            }
            way.roll_over(&cluster);
            // Without it: two of three hold everything.
            counted(&cluster, &way.target, load.next() + RATE, &daemon);
            println!("node {one}: {fault}, {} lines so far", load.next());
            if fault == "pause" {
                cluster.control_one("resume", one);
            } else {
                cluster.restart(VERSION);
            }
            cluster.is_green();
        }
    }
    let lines = load.stop();
    // A node that hung with a shard's part of a request passes it on once it is back: what that brings twice is swept.
    let all = || cluster.count(&way.target);
    until("each line is there, and no second copy any more", 3 * PATIENCE, || (all() == lines).then_some(()));
    way.ends(&cluster, daemon, lines);
}

#[test]
fn a_shard_without_a_living_copy_is_waited_for_and_nothing_is_claimed_meanwhile() {
    let mut cluster = three_nodes();
    let way = Way::new(&cluster, "red", 0);
    append(&way.log(), &lines(0..100));
    let daemon = way.workspace.start(&[]);
    counted(&cluster, &way.target, 100, &daemon);
    let shards = cluster.ok("GET", &format!("{}/_search_shards", way.target), None);
    let id = shards["shards"][0][0]["node"].as_str().expect("a node");
    let name = shards["nodes"][id]["name"].as_str().expect("a name");
    let one: usize = name.trim_start_matches("node-").parse().expect("a number");
    cluster.url = cluster.urls[one % 3].clone();
    cluster.control_one("kill", one);
    append(&way.log(), &lines(100..200));
    until("something to be waited for", PATIENCE, || (daemon.waiting() != serde_json::json!([])).then_some(()));
    // What cannot be seen is neither there nor missing.
    until("an answer to verify", PATIENCE, || {
        let run = way.workspace.run(&["verify", "--output", "json"]);
        assert_ne!(run.status, Some(0), "{}", run.stdout);
        assert_ne!(run.status, Some(1), "{}\n{}", run.stdout, run.stderr);
        (run.status == Some(69)).then_some(())
    });
    // New documents would find a living index; those in doubt may be in the one that is not seen.
    way.roll_over(&cluster);
    append(&way.log(), &lines(200..300));
    cluster.restart(VERSION);
    cluster.is_green();
    way.ends(&cluster, daemon, 300);
}
