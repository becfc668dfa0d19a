//! Which file is which: each line is indexed once whatever inodes, names, first lines and copies say.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{append, counted};
use integration_tests::place::{LOG, Place, QUICK};
use integration_tests::proxy::{Fault, Proxy, Times, Which};
use integration_tests::{Daemon, Node, Workspace};
use serde_json::json;

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").ino()
}

/// The messages of all documents, sorted.
fn messages(node: &Node, target: &str) -> Vec<String> {
    let answer = node.search(target, &json!({"size": 10_000, "_source": ["message"]}));
    let hits = answer["hits"]["hits"].as_array().expect("hits");
    let mut found: Vec<String> =
        hits.iter().map(|hit| hit["_source"]["message"].as_str().expect("text").to_owned()).collect();
    found.sort_unstable();
    found
}

fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Removes `name` and writes the next `n` lines to a new file of that name, until the file system gives it the inode that
/// the old one had; `read` sees to it that the old one was read and is not held open.
fn with_the_same_inode(place: &mut Place, name: &str, n: u64, read: impl Fn(&mut Place)) {
    for _ in 0..50 {
        read(place);
        let before = inode(&place.path(name));
        fs::remove_file(place.path(name)).expect("removed");
        File::create(place.path(name)).expect("room");
        if inode(&place.path(name)) == before {
            place.append(name, n);
            return;
        }
        // Others create files on this file system too. Empty, it gives nothing to read.
        place.append(name, 1);
    }
    panic!("the file system never gave an inode again");
}

#[test]
fn a_file_with_the_inode_of_one_that_was_read_before_is_read_from_its_start() {
    let mut place = Place::new("inode.stopped", "*.log", "");
    place.append(LOG, 40);
    for n in [5, 100, 40] {
        with_the_same_inode(&mut place, LOG, n, |place| place.once());
        place.once();
        place.assert_each_is_there_once();
        place.workspace.assert_proven_with(n, place.lines);
    }
}

#[test]
fn an_inode_used_again_while_the_daemon_runs_is_another_file() {
    let mut place = Place::with("inode.running", "*.log", "", ", max_open_files: 4");
    // These are held open, and nothing else.
    for n in 1..=4 {
        place.append(&format!("other-{n}.log"), 10);
    }
    let daemon = place.start();
    place.caught_up(&daemon);
    place.append(LOG, 30);
    for n in [5, 100, 40] {
        with_the_same_inode(&mut place, LOG, n, |place| {
            place.caught_up(&daemon);
            // One that is held open keeps its inode.
            until("the descriptor to be given back", PATIENCE, || (!holds_open(&daemon, LOG)).then_some(()));
        });
        place.caught_up(&daemon);
    }
    place.end(daemon);
    place.assert_each_is_there_once();
    place.workspace.assert_proven_with(4 * 10 + 40, place.lines);
}

fn holds_open(daemon: &Daemon, name: &str) -> bool {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs");
    entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).any(|to| to.ends_with(name))
}

#[test]
fn files_with_an_equal_first_kilobyte_are_two_files_when_they_differ_later() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let source = "  - {name: equal, paths: ['{logs}/*.log'], format: text, dataset: files.kilobyte}";
    workspace.configure(source, &format!("{QUICK}}}"));
    let target = "logs-files.kilobyte-default";
    let long = "equal ".repeat(300) + "\n";
    let rows = |of: &str| (0..100).map(|n| format!("row {n} of {of}\n")).collect::<String>();
    // From the start; and grown from an equal beginning, one while the daemon runs and one while it is stopped.
    append(&workspace.logs().join("a.log"), &(long.clone() + &rows("a")));
    append(&workspace.logs().join("b.log"), &(long.clone() + &rows("b")));
    let daemon = workspace.start(&[]);
    counted(node, target, 202, &daemon);
    for name in ["c.log", "d.log", "e.log"] {
        append(&workspace.logs().join(name), &(long.clone() + &rows("all")));
    }
    counted(node, target, 303, &daemon);
    append(&workspace.logs().join("d.log"), &rows("d"));
    counted(node, target, 403, &daemon);
    append(&workspace.logs().join("c.log"), &rows("c"));
    counted(node, target, 604, &daemon);
    assert_eq!(daemon.stop(), Some(0));
    append(&workspace.logs().join("e.log"), &rows("e"));
    let _ = workspace.run(&["run", "--once"]).ok();
    let texts = ["a.log", "b.log", "c.log", "d.log", "e.log"]
        .map(|name| fs::read_to_string(workspace.logs().join(name)).expect("text"));
    assert_eq!(messages(node, target), sorted_lines(&texts.concat()));
    workspace.assert_proven(805);
}

/// What every such file begins with.
const HEADER: &str = "time;amount;currency\n";

fn rows(of: &str) -> String {
    (0..50).map(|n| format!("{n};{of};EUR\n")).collect()
}

#[test]
fn files_with_an_equal_first_line_are_two_as_soon_as_they_differ() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let source = "  - {name: csv, paths: ['{logs}/*.csv'], format: text, dataset: files.csv}";
    workspace.configure(source, &format!("{QUICK}}}"));
    let target = "logs-files.csv-default";
    let path = |name: &str| workspace.logs().join(name);
    append(&path("a.csv"), HEADER);
    append(&path("b.csv"), HEADER);
    let daemon = workspace.start(&[]);
    counted(node, target, 1, &daemon);
    append(&path("a.csv"), &rows("a"));
    append(&path("b.csv"), &rows("b"));
    counted(node, target, 102, &daemon);
    // A third one when the first two have moved on.
    append(&path("c.csv"), &(HEADER.to_owned() + &rows("c")));
    counted(node, target, 153, &daemon);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(
        messages(node, target),
        sorted_lines(&[&HEADER.repeat(3), &rows("a")[..], &rows("b"), &rows("c")].concat())
    );
    workspace.assert_proven(153);
}

#[test]
fn what_one_of_two_equal_files_has_more_than_the_other_is_read() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let source = "  - {name: csv, paths: ['{logs}/*.csv'], format: text, dataset: files.header}";
    workspace.configure(source, &format!("{QUICK}}}"));
    let target = "logs-files.header-default";
    let path = |name: &str| workspace.logs().join(name);
    append(&path("a.csv"), HEADER);
    let daemon = workspace.start(&[]);
    counted(node, target, 1, &daemon);
    // The first has no rows, and never gets any.
    append(&path("b.csv"), &(HEADER.to_owned() + &rows("b")));
    append(&path("c.csv"), HEADER);
    counted(node, target, 52, &daemon);
    append(&path("c.csv"), &rows("c"));
    counted(node, target, 103, &daemon);
    assert_eq!(daemon.stop(), Some(0));
    append(&path("d.csv"), &(HEADER.to_owned() + &rows("d")));
    let _ = workspace.run(&["run", "--once"]).ok();
    assert_eq!(
        messages(node, target),
        sorted_lines(&[&HEADER.repeat(4), &rows("b")[..], &rows("c"), &rows("d")].concat())
    );
    workspace.assert_proven(154);
}

#[test]
fn twins_that_differ_only_since_a_crash_are_told_apart_by_which_of_them_was_read() {
    let node = Node::shared();
    let proxy = Proxy::start(&node.url);
    let workspace = Workspace::for_url(&proxy.url());
    let source = "  - {name: csv, paths: ['{logs}/*.csv'], format: text, dataset: files.twins}";
    workspace.configure(source, &format!("{QUICK}}}"));
    let target = "logs-files.twins-default";
    let (a, b) = (workspace.logs().join("a.csv"), workspace.logs().join("b.csv"));
    append(&a, HEADER);
    let daemon = workspace.start(&[]);
    counted(node, target, 1, &daemon);
    append(&b, HEADER);
    // Its rows arrive, but the daemon never hears of it, and dies.
    proxy.inject(Which::Bulk, Fault::LoseReply, Times::Always);
    proxy.inject(Which::Line("_search"), Fault::BlackHole, Times::Always);
    append(&a, &rows("a"));
    until("rows in doubt", PATIENCE, || (node.count(target) == 51).then_some(()));
    daemon.kill();
    proxy.lift_all();
    append(&b, &rows("b"));
    // Whichever is listed first.
    let long_ago = SystemTime::now() - Duration::from_secs(86_400);
    OpenOptions::new().append(true).open(&b).and_then(|file| file.set_modified(long_ago)).expect("its time");
    let _ = workspace.run(&["run", "--once"]).ok();
    assert_eq!(messages(node, target), sorted_lines(&[HEADER, &rows("a"), HEADER, &rows("b")].concat()));
    workspace.assert_proven(102);
}

#[test]
fn a_file_moved_between_two_directories_of_one_source_goes_on() {
    let mut place = Place::new("moved", "*/*.log", "");
    for name in ["a", "b"] {
        fs::create_dir(place.path(name)).expect("made");
    }
    place.append("a/one.log", 50);
    let daemon = place.start();
    place.caught_up(&daemon);
    place.rename("a/one.log", "b/one.log");
    place.append("b/one.log", 20);
    place.caught_up(&daemon);
    place.rename("b/one.log", "a/two.log");
    place.append("a/two.log", 20);
    place.finish(daemon);
    place.rename("a/two.log", "b/three.log");
    place.append("b/three.log", 5);
    place.once();
    place.proven();
}

#[test]
fn a_file_moved_to_the_directory_of_another_source_keeps_the_source_that_first_read_it() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let sources = "  - {name: second, paths: ['{logs}/b/*.log'], format: text, dataset: files.second}\n  \
                   - {name: first, paths: ['{logs}/a/*.log'], format: text, dataset: files.first}";
    workspace.configure(sources, &format!("{QUICK}}}"));
    let (a, b) = (workspace.logs().join("a"), workspace.logs().join("b"));
    for dir in [&a, &b] {
        fs::create_dir(dir).expect("made");
    }
    let counts = || (node.count("logs-files.first-default"), node.count("logs-files.second-default"));
    let lines = |from: u32, to: u32| (from..to).map(|n| format!("line {n}\n")).collect::<String>();
    append(&a.join("x.log"), &lines(0, 50));
    append(&b.join("y.log"), "a line of the other\n");
    let daemon = workspace.start(&[]);
    until("documents", PATIENCE, || (counts() == (50, 1)).then_some(()));
    fs::rename(a.join("x.log"), b.join("x.log")).expect("moved");
    append(&b.join("x.log"), &lines(50, 70));
    until("documents", PATIENCE, || (counts() == (70, 1)).then_some(()));
    assert_eq!(daemon.stop(), Some(0));
    append(&b.join("x.log"), &lines(70, 75));
    let _ = workspace.run(&["run", "--once"]).ok();
    assert_eq!(counts(), (75, 1));
    assert_eq!(messages(node, "logs-files.first-default"), sorted_lines(&lines(0, 75)));
    workspace.assert_proven(76);
}

#[test]
fn a_gz_that_is_being_written_is_read_as_it_grows_and_no_line_is_torn() {
    let mut place = Place::new("gz.growing", "*.gz", "");
    let path = place.path("access.log.gz");
    let daemon = place.start();
    let mut encoder = GzEncoder::new(File::create(&path).expect("room"), Compression::fast());
    for _ in 0..3 {
        let before = place.lines;
        let text = place.next(500);
        let middle = text.len() - 40;
        encoder.write_all(&text.as_bytes()[..middle]).and_then(|()| encoder.flush()).expect("room");
        // It stands still for longer than the settle time, in the middle of a line.
        place.counted(&daemon, before + 499);
        encoder.write_all(&text.as_bytes()[middle..]).and_then(|()| encoder.flush()).expect("room");
        place.caught_up(&daemon);
    }
    encoder.finish().expect("room");
    // More members, as `gzip >> file` writes them.
    for n in [300, 1] {
        let file = OpenOptions::new().append(true).open(&path).expect("the file");
        let mut encoder = GzEncoder::new(file, Compression::fast());
        encoder.write_all(place.next(n).as_bytes()).expect("room");
        encoder.finish().expect("room");
        place.caught_up(&daemon);
    }
    place.finish(daemon);
}

#[test]
fn a_gz_chunk_that_breaks_off_is_not_deleted_before_the_rest_of_it_came() {
    let mut place = Place::new("gz.chunk", "*.gz", ", mode: chunks, on_done: delete");
    let path = place.path("chunk.log.gz");
    let daemon = place.start();
    let mut encoder = GzEncoder::new(File::create(&path).expect("room"), Compression::fast());
    // It stands still for longer than the settle time, at the end of a line.
    encoder.write_all(place.next(700).as_bytes()).and_then(|()| encoder.flush()).expect("room");
    place.caught_up(&daemon);
    // A chunk that comes later and is whole, is deleted: so would this one have been.
    fs::write(place.path("whole.log.gz"), gzip(&place.next(10))).expect("room");
    until("the whole one to be deleted", PATIENCE, || (!place.path("whole.log.gz").is_file()).then_some(()));
    assert!(path.is_file(), "deleted before it was whole\n{}", daemon.log());
    encoder.write_all(place.next(300).as_bytes()).expect("room");
    encoder.finish().expect("room");
    until("it to be deleted", PATIENCE, || (!path.is_file()).then_some(()));
    assert_eq!(place.count(), place.lines);
    place.end(daemon);
    place.assert_each_is_there_once();
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// Small enough that Elasticsearch is soon behind.
const SMALL: &str =
    "\nbatch: {max_bytes: 16KiB, max_memory: 64KiB}\nelasticsearch: {urls: ['{url}'], retry: {max_delay: 500ms}}";

#[test]
fn a_gz_made_of_a_half_read_file_goes_on_where_that_was_let_go_of() {
    let limits = [("held", ""), ("large", ", max_deleted_bytes: 1KiB"), ("old", ", max_deleted_age: 2s")];
    for (name, limit) in limits {
        let more = format!(", max_line_bytes: 4KiB{limit}{SMALL}");
        let mut place = Place::with(&format!("gz.{name}"), "access.log*", "", &more);
        let daemon = place.begin(LOG);
        place.append(LOG, 5000);
        daemon.said("waiting for the target in elasticsearch");
        place.logrotate("create\ncompress");
        assert!(place.path("access.log.1.gz").is_file() && !place.path("access.log.1").is_file());
        place.append(LOG, 100);
        let held = "logweir_files_deleted_bytes ";
        until(&format!("what becomes of the deleted file\n{}", daemon.log()), PATIENCE, || match name {
            "held" => (daemon.metric(held)? > 100_000.0).then_some(()),
            _ => daemon.log().contains("before all of it was read").then_some(()),
        });
        place.block(false);
        place.caught_up(&daemon);
        place.logrotate("create\ncompress");
        place.append(LOG, 3);
        place.caught_up(&daemon);
        place.end(daemon);
        place.assert_each_is_there_once();
        // The daemon says that a file is gone before its time: it cannot know that its lines are in another.
        let (report, satisfied) = place.workspace.verify();
        assert!(satisfied && report["total"]["lines"] == place.lines, "{report:#}");
    }
}

#[test]
fn a_file_cut_and_filled_again_before_any_of_it_was_read_is_another_file() {
    let mut place = Place::with("unread", "*.log*", "", &format!(", max_line_bytes: 4KiB{SMALL}"));
    let daemon = place.begin("hog.log");
    place.append("hog.log", 5000);
    daemon.said("waiting for the target in elasticsearch");
    place.append(LOG, 20);
    daemon.said(LOG);
    place.logrotate("copytruncate");
    // Longer than before, so that its size says nothing.
    place.append(LOG, 200);
    place.block(false);
    place.caught_up(&daemon);
    place.finish(daemon);
    // Nothing in memory says which it was.
    place.once();
    place.proven();
}

#[test]
fn a_file_that_was_gone_for_a_while_can_be_appended_to_again() {
    let mut place = Place::with("back", "sub/*.log", "", &format!(", max_line_bytes: 4KiB{SMALL}"));
    fs::create_dir(place.path("sub")).expect("made");
    let daemon = place.begin("sub/access.log");
    place.append("sub/access.log", 5000);
    daemon.said("waiting for the target in elasticsearch");
    place.rename("sub", "away");
    let began = Instant::now();
    until("it to be gone for longer than the settle time", PATIENCE, || {
        let held = daemon.metric("logweir_files_deleted_bytes ")? > 0.0;
        (held && began.elapsed() > Duration::from_secs(2)).then_some(())
    });
    place.rename("away", "sub");
    let line = place.next(1);
    append(&place.path("sub/access.log"), &line[..30]);
    until("it to be found again", PATIENCE, || (daemon.metric("logweir_files_deleted_bytes ")? == 0.0).then_some(()));
    place.block(false);
    place.counted(&daemon, place.lines - 1);
    append(&place.path("sub/access.log"), &line[30..]);
    place.finish(daemon);
}
