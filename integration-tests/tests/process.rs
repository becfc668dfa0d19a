//! Killed at any step of its work, the daemon goes on where it stood: nothing is lost, and nothing is there twice, even
//! though the target rolls over after each kill, so that Elasticsearch would take every id again.
//!
//! The unmodified binary is killed under its own system calls (by strace, when a thread enters a call for the nth time) or
//! by a proxy that holds its request or its reply.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use integration_tests::mount::Mount;
use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{append, assert_each_is_there_once, lines, numbers_found, orders};
use integration_tests::proxy::{Fault, Times, Which};
use integration_tests::{Daemon, Node, Proxy, Workspace};
use serde_json::Value;

const KILL: i32 = 9;

/// Occurrences of a step at which the daemon is killed; more of them with `LOGWEIR_TEST_LONG` set.
fn occurrences() -> &'static [u32] {
    if std::env::var_os("LOGWEIR_TEST_LONG").is_some() { &[1, 2, 3, 4, 5, 8, 13, 20] } else { &[1, 2, 5] }
}

/// Lines that each life finds.
const LINES: u64 = 400;

const SMALL: [&str; 4] = ["--set", "checkpoint.reserve_ahead=4KiB", "--set", "batch.max_docs=40"];

struct Place {
    node: &'static Node,
    workspace: Workspace,
    target: String,
    lines: u64,
    lives: u64,
}

impl Place {
    fn new(name: &str, source: &str) -> Self {
        Self::through(&Node::shared().url, name, source)
    }

    fn through(url: &str, name: &str, source: &str) -> Self {
        let workspace = Workspace::through(url, Node::shared());
        let source =
            format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: process.{name}{source}}}");
        workspace.configure(&source, "read: {settle_time: 200ms, scan_interval: 300ms}");
        Self { node: Node::shared(), workspace, target: format!("logs-process.{name}-default"), lines: 0, lives: 0 }
    }

    /// A file that grows, and one that is new in each life.
    fn write(&mut self) {
        let half = LINES / 2;
        let logs = self.workspace.logs();
        append(&logs.join("grows.log"), &lines(self.lines..self.lines + half));
        append(&logs.join(format!("life-{}.log", self.lives)), &lines(self.lines + half..self.lines + LINES));
        self.lines += LINES;
        self.lives += 1;
    }

    /// Only whole new files.
    fn write_chunks(&mut self) {
        for _ in 0..2 {
            let path = self.workspace.path(&format!("chunk-{}.tmp", self.lives));
            fs::write(&path, lines(self.lines..self.lines + LINES / 2)).expect("room");
            fs::rename(&path, self.workspace.logs().join(format!("chunk-{}.log", self.lives))).expect("moved in");
            self.lines += LINES / 2;
            self.lives += 1;
        }
    }

    fn roll_over(&self) {
        let (status, answer) = self.node.ask("POST", &format!("{}/_rollover", self.target), None);
        assert!(matches!(status, 200 | 404), "{answer}");
    }

    /// Starts the daemon so that it is killed when one of its threads enters one of `calls` on `path` for the `nth` time.
    fn start_to_die(&self, calls: &str, path: &Path, nth: u32) -> Daemon {
        self.start_to_die_with(calls, path, nth, &[])
    }

    fn start_to_die_with(&self, calls: &str, path: &Path, nth: u32, more: &[&str]) -> Daemon {
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=SIGKILL:when={nth}"));
        let (path, out) = (path.to_str().expect("UTF-8"), self.workspace.path("strace"));
        let out = out.to_str().expect("UTF-8");
        let strace = ["strace", "-D", "-f", "-qq", "-o", out, "-P", path, "-e", &trace, "-e", &inject];
        self.workspace.start_under(&strace, &[], &[&SMALL[..], more].concat())
    }

    /// Expects that it was killed by what was injected.
    fn killed(&self, daemon: Daemon, step: &str) {
        let log = self.workspace.path("daemon.log");
        let status = daemon.ended();
        let said = fs::read_to_string(log).unwrap_or_default();
        assert_eq!(status.signal(), Some(KILL), "{step}: {status:?}\n{said}");
    }

    /// Kills one life at each of [`occurrences`] of a step, and then proves that all is there once.
    fn survives(mut self, step: &str, calls: &str, path: &Path) {
        for &nth in occurrences() {
            self.write();
            let daemon = self.start_to_die(calls, path, nth);
            self.killed(daemon, &format!("{step}, time {nth}"));
            self.roll_over();
        }
        self.prove();
    }

    fn prove(&self) {
        let _ = self.workspace.run(&["run", "--once", "--deadline", "60s"]).ok();
        assert_each_is_there_once(self.node, &self.target, 0..self.lines);
        self.workspace.assert_proven(self.lines);
    }

    fn state(&self, name: &str) -> PathBuf {
        self.workspace.path("state").join(name)
    }
}

#[test]
fn killed_in_the_middle_of_a_commit() {
    let place = Place::new("writing", "");
    let log = place.state("store.db-wal");
    place.survives("writing a commit", "pwrite64", &log);
}

#[test]
fn killed_before_a_commit_is_on_disk() {
    let place = Place::new("syncing", "");
    let log = place.state("store.db-wal");
    place.survives("syncing a commit", "fsync,fdatasync", &log);
}

#[test]
fn killed_after_a_commit_and_before_anybody_was_told() {
    let place = Place::new("noting", "");
    let lock = place.state("lock");
    place.survives("noting a commit", "pwrite64", &lock);
}

/// Lines that this life knows to be in Elasticsearch.
fn settled(daemon: &Daemon) -> u64 {
    let metrics = daemon.metrics().unwrap_or_default();
    let lines = metrics.lines().filter(|line| line.starts_with("logweir_lines_total{"));
    let there = lines.filter(|line| line.contains("\"created\"") || line.contains("\"duplicate\""));
    there.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

#[test]
fn killed_while_the_store_is_made() {
    let mut place = Place::new("making", "");
    place.write();
    let mut steps = 0;
    for (calls, file) in [
        ("openat", "store.new"),
        ("pwrite64", "store.new"),
        ("fsync,fdatasync", "store.new"),
        ("pwrite64", "lock"),
        ("rename,renameat,renameat2", "store.new"),
        ("fsync,fdatasync", ""),
        ("openat", "store.db-wal"),
    ] {
        for nth in 1..=2 {
            let _ = fs::remove_dir_all(place.state(""));
            let mut daemon = place.start_to_die(calls, &place.workspace.path("state").join(file), nth);
            // Some steps are done once only: that life goes on, and settles all lines.
            until("its end or all lines", PATIENCE, || {
                (!daemon.is_running() || settled(&daemon) >= place.lines).then_some(())
            });
            steps += usize::from(!daemon.is_running());
            daemon.kill();
            place.roll_over();
        }
    }
    println!("{steps} kills while the store was made");
    assert!(steps >= 8, "only {steps} of the steps were met");
    place.write();
    place.prove();
}

#[test]
fn killed_while_the_log_is_folded_into_the_store_at_the_end() {
    let mut place = Place::new("folding", "");
    // Making the store writes it too.
    place.write();
    let _ = place.workspace.run(&["run", "--once"]).ok();
    for (calls, file) in [
        ("pwrite64", "store.db"),
        ("fsync,fdatasync", "store.db"),
        ("unlink,unlinkat", "store.db-shm"),
        ("unlink,unlinkat", "store.db-wal"),
    ] {
        place.write();
        let daemon = place.start_to_die_with(calls, &place.state(file), 1, &["--once"]);
        place.killed(daemon, &format!("{calls} of {file}"));
        assert_eq!(place.node.count(&place.target), place.lines, "it was killed before its end");
        place.roll_over();
    }
    place.prove();
}

/// Kills the daemon at what `at` does with its nth bulk request, and proves.
fn killed_by_the_proxy(name: &str, more: &[&str], at: impl Fn(&Proxy, Daemon)) {
    let proxy = Proxy::start(&Node::shared().url);
    let mut place = Place::through(&proxy.url(), name, "");
    for &nth in occurrences() {
        place.write();
        let before = proxy.count("bulk");
        let slow = proxy.inject(Which::Bulk, Fault::Delay(Duration::from_millis(20)), Times::Always);
        let daemon = place.workspace.start(&[&SMALL[..], more].concat());
        until(&format!("request {nth}\n{}", daemon.log()), PATIENCE, || {
            (proxy.count("bulk") + 1 >= before + u64::from(nth)).then_some(())
        });
        proxy.lift(slow);
        at(&proxy, daemon);
        proxy.lift_all();
        place.roll_over();
    }
    place.prove();
}

#[test]
fn killed_after_the_reservation_and_before_the_request_is_out() {
    killed_by_the_proxy("unsent", &[], |proxy, daemon| {
        let before = proxy.count("black_hole");
        proxy.inject(Which::Bulk, Fault::BlackHole, Times::Always);
        until("a request", PATIENCE, || (proxy.count("black_hole") > before).then_some(()));
        daemon.kill();
    });
}

#[test]
fn killed_after_the_request_was_done_and_before_its_reply() {
    killed_by_the_proxy("noreply", &[], |proxy, daemon| {
        let pid = daemon.pid();
        let died = Arc::new(AtomicU32::new(0));
        let told = Arc::clone(&died);
        let kill = move |reply| {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            told.fetch_add(1, Ordering::SeqCst);
            reply
        };
        proxy.inject(Which::Bulk, Fault::change(kill), Times::Next(1));
        until("the kill", PATIENCE, || (died.load(Ordering::SeqCst) > 0).then_some(()));
        assert_eq!(daemon.ended().signal(), Some(KILL));
    });
}

#[test]
fn killed_after_the_request_was_passed_on_and_before_elasticsearch_did_it() {
    killed_by_the_proxy("late", &[], |proxy, daemon| {
        let (kept, passed) = (proxy.count("keep"), proxy.count("passed"));
        proxy.inject(Which::Bulk, Fault::Keep, Times::Always);
        until("a request", PATIENCE, || (proxy.count("keep") > kept).then_some(()));
        daemon.kill();
        let waiting = proxy.count("keep") - kept;
        proxy.lift_all();
        until("the late request", PATIENCE, || (proxy.count("passed") >= passed + waiting).then_some(()));
    });
}

#[test]
fn killed_after_the_reply_and_before_it_is_committed() {
    // Nothing is committed but reservations.
    killed_by_the_proxy("uncommitted", &["--set", "checkpoint.interval=60s"], |_, daemon| {
        until("a reply", PATIENCE, || (daemon.counter("logweir_documents_total", "created") > 0).then_some(()));
        daemon.kill();
    });
}

/// Expects each chunk's lines in the archive once, and nothing else.
fn assert_archived(place: &Place, done: &Path) {
    let mut text = String::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(done).expect("the archive") {
        let path = entry.expect("an entry").path();
        text += &fs::read_to_string(&path).expect("text");
        names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    names.sort();
    let mut found: Vec<&str> = text.lines().collect();
    let all = lines(0..place.lines);
    let mut expected: Vec<&str> = all.lines().collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert!(found == expected, "{} lines of {} in {names:?}", found.len(), expected.len());
    assert_eq!(names.len() as u64, place.lives, "{names:?}");
    assert_eq!(fs::read_dir(place.workspace.logs()).expect("the logs").count(), 0, "all is archived");
}

/// System calls, and the path they are made on.
type ArchiveStep<'a> = (&'a str, &'a dyn Fn(&Place) -> PathBuf);

/// Kills at a step of archiving, then proves documents and archive.
fn killed_while_archiving(name: &str, done: &Path, steps: &[ArchiveStep]) {
    let source = format!(", mode: chunks, on_done: archive, archive_dir: '{}'", done.display());
    let mut place = Place::new(name, &source);
    for (calls, path) in steps {
        place.write_chunks();
        let path = path(&place);
        let daemon = place.start_to_die(calls, &path, 1);
        place.killed(daemon, &format!("{calls} of {}", path.display()));
        place.roll_over();
    }
    place.write_chunks();
    let _ = place.workspace.run(&["run", "--once", "--deadline", "60s"]).ok();
    assert_each_is_there_once(place.node, &place.target, 0..place.lines);
    assert_archived(&place, done);
    // The store knows what became of each, also of those that were out of the way before a kill.
    place.workspace.assert_proven(place.lines);
}

/// The last chunk as it lies in the logs.
fn chunk(place: &Place) -> PathBuf {
    place.workspace.logs().join(format!("chunk-{}.log", place.lives - 1))
}

#[test]
fn killed_before_and_after_a_chunk_is_renamed_into_the_archive() {
    let done = tempfile::tempdir().expect("room");
    let directory = done.path().to_owned();
    killed_while_archiving(
        "rename",
        done.path(),
        &[
            ("rename,renameat,renameat2", &chunk),
            ("fsync,fdatasync", &|_| directory.clone()),
            ("rename,renameat,renameat2", &chunk),
            ("fsync,fdatasync", &|_| directory.clone()),
        ],
    );
}

#[test]
fn killed_while_a_chunk_is_copied_to_an_archive_on_another_file_system() {
    let mount = Mount::tmpfs("4m");
    let partial = |place: &Place| mount.path().join(format!("chunk-{}.log.partial", place.lives - 1));
    killed_while_archiving(
        "copy",
        mount.path(),
        &[
            ("copy_file_range,sendfile,write", &partial),
            ("fsync,fdatasync", &partial),
            ("rename,renameat,renameat2", &partial),
            ("fsync,fdatasync", &|_| mount.path().to_owned()),
            ("unlink,unlinkat", &chunk),
        ],
    );
}

#[test]
fn killed_while_a_dead_letter_is_written() {
    let mut place = Place::new("letters", "");
    place.workspace.configure("  - {name: web, paths: ['{logs}/*.log'], format: json, dataset: process.letters}", "");
    let log = place.workspace.logs().join("orders.log");
    let write = |place: &mut Place, refused: bool| {
        let numbers = place.lines..place.lines + 20;
        append(&log, &orders(numbers, |n| refused && n % 2 == 0));
        place.lines += 20;
    };
    write(&mut place, false);
    let _ = place.workspace.run(&["run", "--once"]).ok();
    let letters = place.workspace.path("dead-letters");
    let steps = ["write", "fsync,fdatasync", "openat", "write", "fsync,fdatasync"];
    for (lives, calls) in (1..).zip(steps) {
        write(&mut place, true);
        // The segment that comes next, or the one that is there: names are numbers of first letters.
        let last = fs::read_dir(&letters).expect("the directory").filter_map(|entry| {
            let path = entry.expect("an entry").path();
            path.extension().is_some_and(|extension| extension == "ndjson").then_some(path)
        });
        let first = letters.join("00000000000000000000.ndjson");
        let segment = last.max().unwrap_or(first);
        let mut daemon = place.start_to_die_with(
            calls,
            &segment,
            if calls == "openat" { 2 } else { 1 },
            &["--set", "dead_letters.max_segment_bytes=4KiB"],
        );
        until("its end, or letters in another segment", PATIENCE, || {
            (!daemon.is_running() || listed(&place).len() >= lives * 10).then_some(())
        });
        daemon.kill();
    }
    // Without rolling over: the next index would have taken what this one refuses.
    let _ = place.workspace.run(&["run", "--once", "--deadline", "60s"]).ok();
    let mut kept = listed(&place);
    kept.sort_unstable();
    let refused: Vec<u64> = (20..place.lines).filter(|n| n % 2 == 0).collect();
    assert_eq!(kept, refused, "each is a letter once");
    let expected = (0..place.lines).filter(|n| !refused.contains(n)).map(|n| (n, 1)).collect();
    assert_eq!(numbers_found(place.node, &place.target), expected);
    let (report, satisfied) = place.workspace.verify();
    assert!(satisfied && report["total"]["dead_lettered"] == refused.len(), "{report:#}");
}

/// Numbers of the orders in the dead letters.
fn listed(place: &Place) -> Vec<u64> {
    let number = |letter: &Value| {
        let id = letter["id"].as_str().expect("an id");
        let shown = place.workspace.run(&["dead-letters", "show", id]).ok().json();
        shown["document"]["http"]["response"]["body"]["bytes"].as_u64().unwrap_or_else(|| panic!("{shown:#}"))
    };
    place.workspace.letters().iter().map(number).collect()
}
