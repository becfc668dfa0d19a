//! `logweir verify` beside a running daemon, and on files that were rotated, archived, compressed, deleted or named twice
//! since they were indexed.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use integration_tests::machine::memory;
use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{append, lines};
use integration_tests::{Node, Workspace};
use serde_json::{Value, json};

const QUICK: &str = "read: {scan_interval: 300ms, settle_time: 300ms}";

struct Place {
    node: &'static Node,
    workspace: Workspace,
    target: String,
}

impl Place {
    fn new(name: &str, glob: &str, source: &str) -> Self {
        let node = Node::shared();
        let workspace = Workspace::new(node);
        let source =
            format!("  - {{name: web, paths: ['{{logs}}/{glob}'], format: combined, dataset: verify.{name}{source}}}");
        workspace.configure(&source, QUICK);
        Self { node, workspace, target: format!("logs-verify.{name}-default") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workspace.logs().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        append(&self.path(name), text);
    }

    fn once(&self) {
        let _ = self.workspace.run(&["run", "--once"]).ok();
    }

    /// The report of a proof that succeeds.
    fn proof(&self) -> Value {
        let (report, satisfied) = self.workspace.verify();
        assert!(satisfied && report["proven"] == true, "{report:#}");
        report
    }

    /// The report of one that does not.
    fn refutation(&self) -> Value {
        let (report, satisfied) = self.workspace.verify();
        assert!(!satisfied && report["proven"] == false, "{report:#}");
        report
    }

    /// Some document of the target, with its index and id.
    fn document(&self) -> Value {
        self.node.search(&self.target, &json!({"size": 1, "sort": ["log.offset"]}))["hits"]["hits"][0].clone()
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program}");
}

/// Rotates `access.log` as logrotate's `delaycompress` does.
fn rotate(place: &Place, rotations: u32) {
    for number in (1..=rotations).rev() {
        for suffix in ["", ".gz"] {
            let name = |n: u32| if n == 0 { "access.log".to_owned() } else { format!("access.log.{n}{suffix}") };
            if place.path(&name(number - 1)).is_file() {
                fs::rename(place.path(&name(number - 1)), place.path(&name(number))).expect("renamed");
            }
        }
    }
    if place.path("access.log.2").is_file() {
        run("gzip", &[&place.path("access.log.2")]);
    }
}

#[test]
fn verify_finds_nothing_wrong_while_the_daemon_reads_what_rotates_and_is_compressed() {
    const PROOFS: u32 = 2;
    const MAX_ROTATIONS: u32 = 20;
    let place = Place::new("running", "access.log*", "");
    let daemon = place.workspace.start(&[]);
    place.append("access.log", &lines(0..1000));
    until("the first lines", PATIENCE, || (place.node.count(&place.target) >= 1000).then_some(()));
    let proofs = AtomicU32::new(0);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 1000;
            for rotation in 1..=MAX_ROTATIONS {
                if proofs.load(Ordering::Relaxed) >= PROOFS {
                    break;
                }
                for _ in 0..10 {
                    place.append("access.log", &lines(written..written + 200));
                    written += 200;
                    std::thread::sleep(Duration::from_millis(20));
                }
                rotate(&place, rotation);
            }
            written
        });
        let mut most = 0;
        while !writer.is_finished() {
            let (report, satisfied) = place.workspace.verify();
            assert!(satisfied, "{report:#}\n{}", daemon.log());
            proofs.fetch_add(1, Ordering::Relaxed);
            most = most.max(report["total"]["lines"].as_u64().expect("a count"));
        }
        assert!(most > 0, "never anything to compare");
        writer.join().expect("it wrote")
    });
    let proven = || (place.workspace.verify().0["total"]["behind"] == 0).then_some(());
    until("all lines", PATIENCE, || (place.node.count(&place.target) >= written).then_some(()));
    until("the checkpoint", PATIENCE, proven);
    assert_eq!(daemon.stop(), Some(0));
    place.workspace.assert_proven(written);
}

#[test]
fn what_was_archived_is_found_under_the_archive_compressed_and_sorted_away_too() {
    let place = Place::new("archived", "*.log", ", mode: chunks, on_done: archive, archive_dir: '{dir}/done'");
    let done = place.workspace.path("done");
    fs::create_dir(&done).expect("made");
    for (n, name) in ["a.log", "b.log", "c.log"].iter().enumerate() {
        place.append(name, &lines(n as u64 * 100..(n as u64 + 1) * 100));
    }
    place.once();
    assert_eq!(fs::read_dir(place.workspace.logs()).expect("the logs").count(), 0);
    assert_eq!(place.proof()["total"]["lines"], 300);
    // By hand, or by a timer.
    run("gzip", &[&done.join("a.log")]);
    fs::create_dir_all(done.join("2024/06")).expect("made");
    fs::rename(done.join("b.log"), done.join("2024/06/other-name")).expect("moved");
    run("zstd", &[Path::new("-q"), Path::new("--rm"), &done.join("c.log")]);
    let report = place.proof();
    assert_eq!(report["total"]["once"], 300, "{report:#}");
    assert_eq!(report["gone"], json!([]));
    place.workspace.assert_proven(300);
}

#[test]
fn what_was_rotated_out_of_the_globs_and_compressed_is_found_beside_its_old_place() {
    let place = Place::new("rotated", "access.log", "");
    place.append("access.log", &lines(0..100));
    place.once();
    fs::rename(place.path("access.log"), place.path("access-20240603.log")).expect("renamed");
    assert_eq!(place.proof()["files"][0]["path"], json!(place.path("access-20240603.log")));
    run("gzip", &[&place.path("access-20240603.log")]);
    place.append("access.log", &lines(100..110));
    let report = place.proof();
    assert_eq!((&report["total"]["lines"], &report["gone"]), (&json!(100), &json!([])), "{report:#}");
    assert_eq!(report["total"]["behind"], lines(100..110).len(), "{report:#}");
    place.once();
    place.workspace.assert_proven(110);
}

#[test]
fn what_was_deleted_is_counted_and_a_line_of_it_too_few_or_too_many_is_noticed() {
    let place = Place::new("deleted", "*.log", ", mode: chunks, on_done: delete, exclude_lines: ['line/7 ']");
    place.append("a.log", &lines(0..50));
    place.append("b.log", &lines(50..5050));
    place.once();
    assert!(!place.path("a.log").is_file() && !place.path("b.log").is_file());
    let report = place.proof();
    let gone: Vec<_> = report["gone"].as_array().expect("a list").iter().collect();
    assert_eq!(gone.len(), 2, "{report:#}");
    for file in gone {
        let counted = &file["counted"];
        let (lines, skipped) = if file["lines"] == 50 { (50, 1) } else { (5000, 0) };
        assert_eq!((&file["lines"], &file["skipped"]), (&json!(lines), &json!(skipped)), "{report:#}");
        assert_eq!(counted["documents"], lines - skipped, "{report:#}");
        assert_eq!(counted["once"], lines - skipped, "{report:#}");
    }
    let said = place.workspace.run(&["verify"]).ok().stdout;
    assert!(said.contains("2 files with 5050 lines are gone, by count they are there exactly once"), "{said}");

    let document = place.document();
    let (index, id) = (document["_index"].as_str().expect("an index"), document["_id"].as_str().expect("an id"));
    place.node.ok("DELETE", &format!("{index}/_doc/{id}?refresh=true"), None);
    let report = place.refutation();
    assert!(report["conclusion"].as_str().expect("text").contains("1 are missing, 0 there twice"), "{report:#}");
    // Back again, and once more in the next backing index: as many documents as lines, where only one other is taken away.
    place.node.ok("PUT", &format!("{}/_create/{id}?refresh=true", place.target), Some(&document["_source"]));
    place.proof();
    place.node.roll_over(&place.target);
    place.node.ok("PUT", &format!("{}/_create/{id}?refresh=true", place.target), Some(&document["_source"]));
    let other = place.node.search(&place.target, &json!({"query": {"term": {"url.path": "/line/30"}}}));
    let other = &other["hits"]["hits"][0];
    let (index, id) = (other["_index"].as_str().expect("an index"), other["_id"].as_str().expect("an id"));
    place.node.ok("DELETE", &format!("{index}/_doc/{id}?refresh=true"), None);
    let report = place.refutation();
    assert!(report["conclusion"].as_str().expect("text").contains("1 are missing, 1 there twice"), "{report:#}");
}

#[test]
fn one_file_with_two_names_is_counted_once() {
    let place = Place::new("names", "*.log*", "");
    place.append("a.log", &lines(0..100));
    place.once();
    fs::hard_link(place.path("a.log"), place.path("hard.log")).expect("linked");
    fs::copy(place.path("a.log"), place.path("a.log.bak")).expect("copied");
    run("gzip", &[Path::new("-k"), &place.path("a.log.bak")]);
    // A copy in the making.
    fs::write(place.path("begun.log"), lines(0..50)).expect("room");
    let report = place.proof();
    assert_eq!(report["files"].as_array().map(Vec::len), Some(1), "{report:#}");
    assert_eq!(report["total"]["behind"], 0, "{report:#}");
    place.workspace.assert_proven(100);
}

#[test]
fn a_file_that_ignore_older_leaves_alone_is_neither_missing_nor_behind() {
    let place = Place::new("older", "*.log", ", ignore_older: 30d");
    place.append("old.log", &lines(0..10));
    let old = OpenOptions::new().append(true).open(place.path("old.log")).expect("the log");
    old.set_modified(SystemTime::now() - Duration::from_secs(40 * 86_400)).expect("its time");
    // Without a store all that is to be read is missing; with one it is behind.
    assert_eq!(place.proof()["total"]["lines"], 0);
    place.append("new.log", &lines(10..30));
    assert_eq!(place.refutation()["total"]["missing"], 20);
    place.once();
    place.workspace.assert_proven(20);
    assert_eq!(place.proof()["files"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_document_that_no_line_accounts_for_is_noticed() {
    let place = Place::new("extra", "*.log", "");
    place.append("a.log", &lines(0..100));
    place.once();
    let report = place.proof();
    assert_eq!(report["files"][0]["documents"], 100, "{report:#}");
    let mut document = place.document()["_source"].clone();
    document["log"]["offset"] = json!(13);
    place.node.ok("PUT", &format!("{}/_create/forged?refresh=true", place.target), Some(&document));
    let report = place.refutation();
    assert_eq!((&report["total"]["extra"], &report["total"]["once"]), (&json!(1), &json!(100)), "{report:#}");
    let run = place.workspace.run(&["verify"]);
    assert!(run.stderr.contains("1 documents that no line accounts for"), "{}", run.stderr);
}

#[test]
fn other_content_in_the_place_of_a_file_is_not_missing_lines() {
    let place = Place::new("replaced", "*.log", "");
    place.append("a.log", &format!("header\n{}", lines(0..100)));
    place.once();
    // Truncated and written again, longer than before, before anybody looked: the old content is nowhere.
    let other = format!("header\n{}", lines(100..300));
    fs::write(place.path("a.log"), &other).expect("room");
    let report = place.proof();
    assert_eq!(report["total"]["lines"], 0, "{report:#}");
    assert_eq!(report["total"]["behind"], other.len(), "{report:#}");
    assert_eq!(report["gone"][0]["lines"], 101, "{report:#}");
    assert_eq!(report["gone"][0]["counted"]["once"], 101, "{report:#}");
    place.once();
    place.workspace.assert_proven_with(201, 302);
}

#[test]
fn a_damaged_store_gives_no_proof() {
    let place = Place::new("damaged", "*.log", "");
    place.append("a.log", &lines(0..100));
    place.once();
    fs::write(place.workspace.path("state/store.db"), "no database").expect("written");
    let run = place.workspace.run(&["verify"]);
    assert_eq!(run.status, Some(74), "{}\n{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("store.db") && run.stderr.contains("checkpoints check"), "{}", run.stderr);
}

#[test]
fn the_report_has_what_a_person_keeps() {
    let place = Place::new("report", "*.log", "");
    let text = lines(0..100);
    place.append("a.log", &text);
    place.once();
    let report = place.proof();
    let keys: Vec<&str> = report.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = [
        "logweir",
        "host",
        "store_id",
        "cluster",
        "started_at",
        "ended_at",
        "proven",
        "conclusion",
        "total",
        "files",
        "gone",
    ];
    expected.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(report["host"], "test-host");
    assert!(report["cluster"]["uuid"].as_str().is_some_and(|uuid| uuid.len() > 10), "{report:#}");
    assert_eq!(report["cluster"]["urls"], json!([place.node.url]));
    let started = report["started_at"].as_str().expect("a time");
    assert!(started.ends_with('Z') && started < report["ended_at"].as_str().expect("a time"), "{report:#}");
    let file = &report["files"][0];
    assert_eq!(file["bytes"], text.len(), "{report:#}");
    assert_eq!(file["source"], "web");
    assert_eq!(file["target"], place.target);
    assert_eq!(file["first_id"], place.document()["_id"]);
    assert_eq!(file["file_id"], place.document()["_source"]["log"]["file"]["id"]);
    let last = place.node.search(&place.target, &json!({"size": 1, "sort": [{"log.offset": "desc"}]}));
    assert_eq!(file["last_id"], last["hits"]["hits"][0]["_id"]);
    // With a compressed copy instead the same bytes are compared.
    run("gzip", &[&place.path("a.log")]);
    assert_eq!(place.proof()["files"][0]["hash"], file["hash"]);
}

/// Lines, and the most memory that `verify` took for them, in bytes.
fn peak_of_verify(place: &Place) -> (u64, u64) {
    let mut child = Command::new(integration_tests::daemon::binary())
        .args(["verify", "--output", "json", "--config"])
        .arg(place.workspace.path("logweir.yaml"))
        .stdout(fs::File::create(place.workspace.path("report.json")).expect("room"))
        .spawn()
        .expect("it starts");
    let mut peak = 0;
    while child.try_wait().expect("it can be asked").is_none() {
        peak = peak.max(memory(child.id(), "VmHWM").unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = fs::read_to_string(place.workspace.path("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["proven"], true, "{report:#}");
    (report["total"]["once"].as_u64().expect("a count"), peak)
}

#[test]
fn memory_does_not_grow_with_lines() {
    // Both take several requests, so that what the allocator keeps between them is in both.
    const SMALL: u64 = 60_000;
    const LARGE: u64 = 360_000;
    let place = Place::new("memory", "*.log", ", keep_fields: [log.file.id, log.offset]");
    place.append("a.log", &lines(0..SMALL));
    place.once();
    let (lines_of_small, small) = peak_of_verify(&place);
    place.append("a.log", &lines(SMALL..LARGE));
    place.once();
    let (lines_of_large, large) = peak_of_verify(&place);
    println!("{lines_of_small} lines: {} KiB, {lines_of_large} lines: {} KiB", small >> 10, large >> 10);
    assert_eq!((lines_of_small, lines_of_large), (SMALL, LARGE));
    // The ids alone of the lines between would take another 7 MiB, with their offsets 11, their answers ten times that.
    assert!(small > 5 << 20 && large < small + (6 << 20), "{small} bytes, then {large}");
}
