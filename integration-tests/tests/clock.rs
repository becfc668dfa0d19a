//! Clocks jump, and rows of files that are gone expire: neither loses a line nor repeats one. The clock is that of
//! libfaketime, for the daemon alone; the files keep the times of the system, so that the two disagree as they do after a
//! real jump.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{append, assert_each_is_there_once, counted, lines};
use integration_tests::{Node, Workspace};

/// Jumps, as libfaketime writes them.
const JUMPS: [&str; 6] = ["-1h", "+1h", "-30d", "+30d", "-20y", "+20y"];

struct Place {
    node: &'static Node,
    workspace: Workspace,
    target: String,
    lines: u64,
}

impl Place {
    fn new(name: &str, source: &str, read: &str) -> Self {
        let workspace = Workspace::new(Node::shared());
        let source =
            format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: clock.{name}{source}}}");
        workspace.configure(&source, &format!("read: {{settle_time: 300ms, scan_interval: 200ms{read}}}"));
        Self { node: Node::shared(), workspace, target: format!("logs-clock.{name}-default"), lines: 0 }
    }

    fn write(&mut self, name: &str, lines_more: u64) {
        append(&self.workspace.logs().join(name), &lines(self.lines..self.lines + lines_more));
        self.lines += lines_more;
    }

    fn roll_over(&self) {
        self.node.roll_over(&self.target);
    }

    fn prove(&self) {
        let _ = self.workspace.run(&["run", "--once", "--deadline", "60s"]).ok();
        assert_each_is_there_once(self.node, &self.target, 0..self.lines);
        self.workspace.assert_proven(self.lines);
    }
}

/// The environment of a process whose clock is off by what the file says, from when it says so.
fn clock(file: &Path) -> Vec<(&'static str, String)> {
    let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|machine| PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1")))
        .into_iter()
        .find(|path| path.is_file());
    let library = library.expect("libfaketime is missing: apt-get install libfaketime");
    [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // A clock that jumps is that of the wall only, and files keep their times.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ]
    .to_vec()
}

fn refs<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

#[test]
fn a_clock_that_jumps_while_the_daemon_runs_and_between_two_lives_loses_and_repeats_nothing() {
    let mut place = Place::new("jumps", "", "");
    let file = place.workspace.path("clock");
    fs::write(&file, "+0").expect("room");
    let environment = clock(&file);
    for (n, jump) in JUMPS.into_iter().enumerate() {
        place.write("grows.log", 50);
        place.write(&format!("new-{n}.log"), 50);
        let daemon = place.workspace.start_under(&[], &refs(&environment), &["--set", "batch.max_docs=20"]);
        counted(place.node, &place.target, place.lines, &daemon);
        fs::write(&file, jump).expect("room");
        place.write("grows.log", 50);
        place.write(&format!("newer-{n}.log"), 50);
        counted(place.node, &place.target, place.lines, &daemon);
        // The log is where the daemon says what time it is.
        let year = |text: &str| text.lines().last().and_then(|line| line.get(..4)).map(str::to_owned);
        if jump.ends_with('y') {
            let log = daemon.log();
            assert_ne!(year(&log).as_deref(), Some(&jiff_year()[..]), "the clock did not jump:\n{log}");
        }
        if n % 2 == 0 {
            daemon.kill();
        } else {
            assert_eq!(daemon.stop(), Some(0));
        }
        place.roll_over();
        fs::write(&file, JUMPS[(n + 3) % JUMPS.len()]).expect("room");
    }
    place.prove();
}

fn jiff_year() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    (1970 + since.as_secs() / 31_556_952).to_string()
}

#[test]
fn a_store_made_while_the_clock_was_wrong_repeats_nothing_that_was_there_before_it() {
    for (name, jump) in [("past", "-20y"), ("future", "+20y")] {
        let mut place = Place::new(name, "", "");
        place.write("a.log", 200);
        place.write("b.log", 200);
        let _ = place.workspace.run(&["run", "--once"]).ok();
        place.roll_over();
        fs::remove_dir_all(place.workspace.path("state")).expect("the store was there");
        let file = place.workspace.path("clock");
        fs::write(&file, jump).expect("room");
        let daemon = place.workspace.start_under(&[], &refs(&clock(&file)), &["--once"]);
        assert_eq!(daemon.ended().code(), Some(0));
        // What comes later is new, and is neither lost.
        place.write("c.log", 100);
        place.prove();
    }
}

#[test]
fn a_chunk_that_is_still_written_is_not_taken_for_complete_when_the_clock_jumps_ahead() {
    let mut place = Place::new("chunks", ", mode: chunks, on_done: delete", ", notify: false");
    let file = place.workspace.path("clock");
    fs::write(&file, "+0").expect("room");
    place.write("first.log", 10);
    let daemon = place.workspace.start_under(&[], &refs(&clock(&file)), &["--set", "read.settle_time=3s"]);
    counted(place.node, &place.target, 10, &daemon);
    until("the first chunk to go", PATIENCE, || (!place.workspace.logs().join("first.log").is_file()).then_some(()));
    fs::write(&file, "+30d").expect("room");
    // Written slowly, a piece each second, half lines among them; complete when it stood still for three.
    let text = lines(10..40);
    let path = place.workspace.logs().join("slow.log");
    for piece in text.as_bytes().chunks(text.len() / 4 + 1) {
        append(&path, std::str::from_utf8(piece).expect("ASCII"));
        let began = std::time::Instant::now();
        until("a second", PATIENCE, || (began.elapsed() >= Duration::from_secs(1)).then_some(()));
    }
    place.lines = 40;
    counted(place.node, &place.target, 40, &daemon);
    until("the chunk to go", PATIENCE, || (!path.is_file()).then_some(()));
    assert_eq!(daemon.stop(), Some(0));
    assert_each_is_there_once(place.node, &place.target, 0..40);
}

#[test]
fn a_file_that_was_forgotten_and_comes_back_is_not_repeated() {
    let mut place = Place::new("expiry", "", ", forget_after: 1h, forget_after_scans: 3");
    place.write("stays.log", 50);
    place.write("leaves.log", 100);
    let file = place.workspace.path("clock");
    fs::write(&file, "+0").expect("room");
    let daemon = place.workspace.start_under(&[], &refs(&clock(&file)), &[]);
    counted(place.node, &place.target, 150, &daemon);
    let files = || {
        let check = place.workspace.run(&["checkpoints", "check", "--output", "json"]).ok().json();
        check["total"]["files"].as_u64()
    };
    until("its rows", PATIENCE, || (files() == Some(2)).then_some(()));
    // As a file system that is not mounted: it keeps inode and times.
    let away = place.workspace.path("leaves.log");
    fs::rename(place.workspace.logs().join("leaves.log"), &away).expect("moved");
    // Each time another two hours: it counts from when it was missed.
    let mut hours = 0;
    until(&format!("it to be forgotten\n{}", daemon.log()), PATIENCE, || {
        hours += 2;
        fs::write(&file, format!("+{hours}h")).expect("room");
        (files() == Some(1)).then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
    place.roll_over();
    fs::rename(&away, place.workspace.logs().join("leaves.log")).expect("moved");
    place.write("leaves.log", 20);
    place.prove();
}
