//! A disk that is full stops what needs it and nothing else: the daemon lives, says what it waits for, sends nothing that
//! is not reserved, settles nothing that is not synced, and goes on by itself when there is room. Each disk here is a
//! small file system in memory, really full.

use std::fs;

use integration_tests::mount::Mount;
use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{append, assert_each_is_there_once, counted, lines, orders};
use integration_tests::{Node, Workspace};
use serde_json::json;

fn source(name: &str, format: &str, more: &str) -> String {
    format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: {format}, dataset: full.{name}{more}}}")
}

/// Sends nothing that a small reservation does not cover, so that reservations are made all the time.
const SMALL: [&str; 6] =
    ["--set", "checkpoint.reserve_ahead=4KiB", "--set", "batch.max_docs=40", "--set", "shutdown.grace_period=2s"];

/// From here on the configuration has this directory on `mount`.
fn move_to(workspace: &Workspace, name: &str, mount: &Mount) {
    let (from, to) = (workspace.path(name), mount.path().join(name));
    let file = workspace.path("logweir.yaml");
    let text = fs::read_to_string(&file).expect("it is there");
    let changed = text.replace(from.to_str().expect("UTF-8"), to.to_str().expect("UTF-8"));
    assert_ne!(text, changed);
    fs::write(file, changed).expect("room");
}

#[test]
fn a_full_disk_for_the_state_stops_sending_until_there_is_room_and_loses_nothing() {
    let node = Node::shared();
    let target = "logs-full.state-default";
    let mount = Mount::tmpfs("1m");
    let workspace = Workspace::new(node);
    workspace.configure(&source("state", "combined", ""), "");
    move_to(&workspace, "state", &mount);
    let arguments = SMALL;
    let log = workspace.logs().join("access.log");
    append(&log, &lines(0..500));
    let mut daemon = workspace.start(&arguments);
    counted(node, target, 500, &daemon);

    let mut next = 500;
    for round in 0..2 {
        let filler = mount.fill(0);
        append(&log, &lines(next..next + 2000));
        daemon.waits_for("checkpoint_store");
        let waiting = daemon.waiting();
        assert_eq!(waiting[0]["cause"], "checkpoint_store", "{waiting:#}");
        assert!(waiting[0]["reason"].as_str().is_some_and(|reason| reason.contains("full")), "{waiting:#}");
        // What is sent was reserved before; a reservation is 4 KiB ahead, some forty lines, and a batch is forty.
        let sent = node.count(target);
        assert!(sent < next + 1000, "{sent} of {} while nothing can be reserved", next + 2000);
        assert!(daemon.is_running(), "{}", daemon.log());
        if round == 1 {
            // Ended while the disk is full, it does not wait for ever; started on the full disk, it takes no harm.
            daemon.signal("TERM");
            let log = daemon.log();
            assert_eq!(daemon.ended().code(), Some(74), "{log}");
            // What folding the log into the store has freed is taken too.
            let filler = mount.fill(0);
            let run = workspace.run(&[&["run", "--once", "--deadline", "5s"], &arguments[..]].concat());
            assert_eq!(run.status, Some(69), "{}", run.stderr);
            assert!(run.stderr.contains("waiting for the checkpoint store"), "{}", run.stderr);
            daemon = workspace.start(&arguments);
            daemon.waits_for("checkpoint_store");
            // Nothing was begun that a stop could leave undone.
            assert_eq!(daemon.stop(), Some(0));
            daemon = workspace.start(&arguments);
            daemon.waits_for("checkpoint_store");
            node.roll_over(target);
            fs::remove_file(filler).expect("it was there");
        } else {
            fs::remove_file(filler).expect("it was there");
        }
        next += 2000;
        counted(node, target, next, &daemon);
        until("the hold to end", PATIENCE, || (daemon.waiting() == json!([])).then_some(()));
    }
    assert_eq!(daemon.stop(), Some(0));
    assert_each_is_there_once(node, target, 0..next);
    workspace.assert_proven(next);
}

fn ids(workspace: &Workspace) -> Vec<String> {
    let letters = workspace.letters().into_iter();
    let mut ids: Vec<String> = letters.map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn a_full_disk_for_dead_letters_stops_settling_until_there_is_room_and_keeps_each_letter_once() {
    let node = Node::shared();
    let target = "logs-full.letters-default";
    let mount = Mount::tmpfs("1m");
    let workspace = Workspace::new(node);
    workspace.configure(&source("letters", "json", ""), "");
    move_to(&workspace, "dead-letters", &mount);
    let log = workspace.logs().join("orders.log");
    append(&log, &orders(0..10, |_| false));
    let mut daemon = workspace.start(&["--set", "batch.max_docs=20"]);
    counted(node, target, 10, &daemon);
    append(&log, &orders(10..20, |_| true));
    until("letters", PATIENCE, || (ids(&workspace).len() == 10).then_some(()));

    // Room for some letters, then for half of one.
    let filler = mount.fill(2500);
    append(&log, &(orders(20..120, |_| true) + &orders(120..130, |_| false)));
    daemon.waits_for("dead");
    assert!(daemon.is_running(), "{}", daemon.log());
    let kept = ids(&workspace).len();
    assert!(kept < 110, "{kept} letters without room");
    // What has no letter is not settled: a start has it in doubt.
    let check = workspace.run(&["checkpoints", "check", "--output", "json"]).ok().json();
    assert!(check["total"]["lines"].as_u64() < Some(130), "{check:#}");
    daemon.kill();
    fs::remove_file(filler).expect("it was there");
    let daemon = workspace.start(&["--set", "batch.max_docs=20"]);
    counted(node, target, 20, &daemon);
    until("the letters", PATIENCE, || (ids(&workspace).len() >= 110).then_some(()));
    assert_eq!(daemon.stop(), Some(0));
    let mut all = ids(&workspace);
    let letters = all.len();
    all.dedup();
    assert_eq!((letters, all.len()), (110, 110), "each is a letter once");
    let (report, satisfied) = workspace.verify();
    assert!(satisfied && report["total"]["dead_lettered"] == 110 && report["total"]["once"] == 20, "{report:#}");
}

#[test]
fn a_full_archive_keeps_the_chunks_where_they_are_until_there_is_room() {
    let node = Node::shared();
    let target = "logs-full.archive-default";
    let mount = Mount::tmpfs("1m");
    let done = mount.path().join("done");
    fs::create_dir(&done).expect("room");
    let workspace = Workspace::new(node);
    let chunks = format!(", mode: chunks, on_done: archive, archive_dir: '{}'", done.display());
    workspace.configure(&source("archive", "combined", &chunks), "read: {settle_time: 200ms, scan_interval: 300ms}");
    // Room for half of the first chunk.
    let filler = mount.fill(20_000);
    for n in 0..4 {
        append(&workspace.logs().join(format!("{n}.log")), &lines(n * 500..n * 500 + 500));
    }
    let mut daemon = workspace.start(&[]);
    counted(node, target, 2000, &daemon);
    daemon.said("delete or archive");
    daemon.said("No space left");
    assert_eq!(fs::read_dir(workspace.logs()).expect("the logs").count(), 4, "none has left");
    assert!(daemon.is_running());
    // Documents go on meanwhile.
    append(&workspace.logs().join("4.log"), &lines(2000..2100));
    counted(node, target, 2100, &daemon);
    let faults = daemon.counter("logweir_faults_total", "done");
    assert!((1..1000).contains(&faults), "{faults} attempts told");
    fs::remove_file(filler).expect("it was there");
    until("the archive", PATIENCE, || (fs::read_dir(workspace.logs()).expect("the logs").count() == 0).then_some(()));
    assert_eq!(daemon.stop(), Some(0));
    let mut names: Vec<_> =
        fs::read_dir(&done).expect("the archive").map(|entry| entry.expect("it").file_name()).collect();
    names.sort();
    assert_eq!(names, ["0.log", "1.log", "2.log", "3.log", "4.log"], "no half copy is left");
    let text: String = names.iter().map(|name| fs::read_to_string(done.join(name)).expect("text")).collect();
    assert_eq!(text, lines(0..2100));
    assert_each_is_there_once(node, target, 0..2100);
}
