//! What changes between two runs, other than the files: the configuration, the name of the host, the number of the device.
//! What was read stays read, in the place it went to; nothing is lost and nothing is there twice. Each life is stopped
//! cleanly or killed, as the promise allows.

use std::fs;

use integration_tests::mount::Mount;
use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{append, assert_each_is_there_once, lines};
use integration_tests::{Daemon, Node, Workspace};

struct Place {
    node: &'static Node,
    workspace: Workspace,
    /// All targets of this test.
    targets: String,
    lines: u64,
}

impl Place {
    /// Data sets of the test begin with `reconfigured.{name}`.
    fn new(name: &str) -> Self {
        let node = Node::shared();
        Self { node, workspace: Workspace::new(node), targets: format!("logs-reconfigured.{name}*"), lines: 0 }
    }

    fn configure(&self, source: &str, more: &str) {
        self.workspace.configure(
            &format!("  - {{paths: ['{{logs}}/*.log'], {source}}}"),
            &format!("read: {{settle_time: 200ms, scan_interval: 200ms}}\n{more}"),
        );
    }

    fn write(&mut self, name: &str) {
        append(&self.workspace.logs().join(name), &lines(self.lines..self.lines + 100));
        self.lines += 100;
    }

    /// 0 while an index is being made.
    fn count(&self) -> u64 {
        let _ = self.node.ask("POST", &format!("{}/_refresh", self.targets), None);
        self.node.ask("GET", &format!("{}/_count", self.targets), None).1["count"].as_u64().unwrap_or(0)
    }

    fn all_there(&self, daemon: &Daemon) {
        until(&format!("{} documents, now {}\n{}", self.lines, self.count(), daemon.log()), PATIENCE, || {
            (self.count() >= self.lines).then_some(())
        });
    }

    /// One life: what is new is read, then the daemon is stopped or killed.
    fn live(&mut self, arguments: &[&str], kill: bool) {
        for name in ["grows.log".to_owned(), format!("new-{}.log", self.lines)] {
            self.write(&name);
        }
        let daemon = self.workspace.start(arguments);
        self.all_there(&daemon);
        if kill {
            daemon.kill();
        } else {
            assert_eq!(daemon.stop(), Some(0));
        }
        assert_eq!(self.count(), self.lines);
    }

    fn assert_once(&self) {
        let _ = self.workspace.run(&["run", "--once", "--deadline", "60s"]).ok();
        assert_each_is_there_once(self.node, &self.targets, 0..self.lines);
    }
}

#[test]
fn another_format_mode_source_name_or_host_and_other_limits_repeat_nothing_even_after_a_kill() {
    let mut place = Place::new("same");
    let dataset = "dataset: reconfigured.same";
    place.configure(&format!("name: web, format: combined, {dataset}"), "");
    place.live(&[], true);
    for (source, arguments) in [
        ("name: web, format: auto", &[][..]),
        ("name: other, format: combined", &["--set", "checkpoint.reserve_ahead=4KiB"]),
        ("name: other, format: combined", &["--set", "batch.max_docs=7", "--set", "checkpoint.reserve_ahead=1KiB"]),
        ("name: other, format: combined", &["--set", "batch.max_docs=5000", "--set", "checkpoint.reserve_ahead=64MiB"]),
        ("name: other, format: combined, mode: chunks", &[]),
        ("name: other, format: combined, mode: tail", &[]),
        ("name: other, format: combined", &["--set", "host=renamed"]),
        ("name: other, format: combined, exclude: ['*new*']", &[]),
        ("name: other, format: combined", &[]),
    ] {
        place.node.roll_over("logs-reconfigured.same-default");
        place.configure(&format!("{source}, {dataset}"), "");
        if source.contains("exclude") {
            // What is left out is not read; nor forgotten, so that it goes on later.
            place.write("grows.log");
            let hidden = place.lines;
            append(&place.workspace.logs().join("new-0.log"), &lines(hidden..hidden + 50));
            let daemon = place.workspace.start(arguments);
            place.all_there(&daemon);
            daemon.kill();
            assert_eq!(place.count(), hidden);
            place.lines += 50;
        } else {
            place.live(arguments, true);
        }
    }
    place.assert_once();
    place.workspace.assert_proven(place.lines);
}

#[test]
fn another_dataset_or_namespace_gets_what_comes_after_a_clean_stop_and_nothing_else() {
    let mut place = Place::new("moved");
    let mut counts = Vec::new();
    for (dataset, namespace) in [("moved.one", "default"), ("moved.two", "default"), ("moved.two", "other")] {
        place.configure(
            &format!("name: web, format: combined, dataset: reconfigured.{dataset}"),
            &format!("elasticsearch: {{urls: ['{{url}}'], namespace: {namespace}}}"),
        );
        place.live(&[], false);
        counts.push(place.node.count(&format!("logs-reconfigured.{dataset}-{namespace}")));
    }
    assert_eq!(counts, [200, 200, 200], "each target has what came in its time");
    place.assert_once();
}

#[test]
fn files_go_on_where_they_were_when_their_file_system_has_another_device_number() {
    let mut place = Place::new("device");
    let mount = Mount::image();
    fs::remove_dir(place.workspace.logs()).expect("it was empty");
    std::os::unix::fs::symlink(mount.path(), place.workspace.logs()).expect("a link");
    place.configure("name: web, format: combined, dataset: reconfigured.device", "");
    let device = || {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(mount.path()).expect("it is mounted").dev()
    };
    for kill in [false, true, false] {
        place.live(&[], kill);
        place.node.roll_over("logs-reconfigured.device-default");
        let before = device();
        mount.mount_anew();
        assert_ne!(device(), before);
    }
    place.write("grows.log");
    place.assert_once();
    place.workspace.assert_proven(place.lines);
}
