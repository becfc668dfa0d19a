//! A damaged store is never believed: whatever was done to it, a start either refuses it and says what to type, or goes
//! on from what was truly there. Nothing is lost and nothing is there twice, whichever it is.

use std::fs;
use std::path::{Path, PathBuf};

use integration_tests::dice::Dice;
use integration_tests::node::{PATIENCE, repository, until};
use integration_tests::numbered::{append, assert_each_is_there_once, counted, lines};
use integration_tests::{Node, Run, Workspace};
use serde_json::Value;

/// A workspace with logs, a target of its own, and a store.
struct Place {
    node: &'static Node,
    workspace: Workspace,
    target: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let node = Node::shared();
        let workspace = Workspace::new(node);
        workspace.configure(
            &format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: store.{name}}}"),
            "",
        );
        Self { node, workspace, target: format!("logs-store.{name}-default") }
    }

    fn state(&self) -> PathBuf {
        self.workspace.path("state")
    }

    fn append(&self, name: &str, text: &str) {
        append(&self.workspace.logs().join(name), text);
    }

    /// Reads lines `0..2000` of four files, kills the daemon, and rolls the target over: from here on Elasticsearch takes
    /// every id a second time.
    fn crash_and_roll_over(&self) {
        for file in 0..4 {
            self.append(&format!("{file}.log"), &lines(file * 500..(file + 1) * 500));
        }
        let daemon = self.workspace.start(&[]);
        counted(self.node, &self.target, 2000, &daemon);
        until("the checkpoint", PATIENCE, || (self.total("lines") == 2000).then_some(()));
        daemon.kill();
        self.roll_over();
    }

    fn roll_over(&self) {
        self.node.roll_over(&self.target);
    }

    fn once(&self) -> Run {
        self.workspace.run(&["run", "--once", "--deadline", "60s"])
    }

    fn check(&self) -> (Value, Option<i32>) {
        let run = self.workspace.run(&["checkpoints", "check", "--output", "json"]);
        (run.json(), run.status)
    }

    fn total(&self, what: &str) -> u64 {
        self.check().0["total"][what].as_u64().expect("a number")
    }

    fn reset(&self) {
        let _ = self.workspace.run(&["checkpoints", "reset"]).ok();
    }

    fn assert_all_is_there_once(&self, lines: u64) {
        assert_each_is_there_once(self.node, &self.target, 0..lines);
        self.workspace.assert_proven(lines);
    }
}

/// Every file of a directory with its bytes.
fn content(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    let mut all: Vec<_> = paths.map(|path| (path.clone(), fs::read(&path).expect("readable"))).collect();
    all.sort();
    all
}

/// Writes back what [`content`] gave, as another directory if need be.
fn put_back(content: &[(PathBuf, Vec<u8>)], directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).expect("a directory");
    for (path, bytes) in content {
        fs::write(directory.join(path.file_name().expect("a name")), bytes).expect("room");
    }
}

/// Expects that the run refused the store, changed nothing, and said what to type.
fn assert_refused(place: &Place, run: &Run, before: &[(PathBuf, Vec<u8>)]) {
    assert_eq!(run.status, Some(74), "{}\n{}", run.stdout, run.stderr);
    let path = place.state().join("store.db");
    for words in [path.to_str().expect("UTF-8"), "damaged", "logweir checkpoints check", "logweir checkpoints reset"] {
        assert!(run.stderr.contains(words), "{words} is not in {}", run.stderr);
    }
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert_unchanged(place, before);
}

/// But for what SQLite makes when it opens a database: its index of the log, and a log with nothing in it.
fn assert_unchanged(place: &Place, before: &[(PathBuf, Vec<u8>)]) {
    let after = content(&place.state());
    let other = |one: &[(PathBuf, Vec<u8>)], two: &[(PathBuf, Vec<u8>)]| {
        let changed = one.iter().filter(|file| !two.contains(file) && !file.1.is_empty());
        let changed = changed.filter(|(path, _)| !path.ends_with("store.db-shm"));
        changed.map(|(path, bytes)| format!("{} ({} bytes)", path.display(), bytes.len())).collect::<Vec<_>>()
    };
    let (gone, new) = (other(before, &after), other(&after, before));
    assert!(gone.is_empty() && new.is_empty(), "a store that is refused is not changed: {gone:?} became {new:?}");
}

#[test]
fn a_flipped_bit_in_any_page_is_told_of_or_changes_nothing_that_the_store_says() {
    let place = Place::new("flipped");
    place.crash_and_roll_over();
    let whole = content(&place.state());
    let (right, status) = place.check();
    assert_eq!((status, &right["total"]["files"]), (Some(0), &4.into()), "{right:#}");
    assert!(whole.iter().any(|(path, bytes)| path.ends_with("store.db-wal") && bytes.len() > 4096), "no log");

    let mut dice = Dice::for_test();
    let (mut told, mut harmless, mut sample) = (0, 0, Vec::new());
    for (path, bytes) in &whole {
        if path.ends_with("store.db-shm") {
            continue; // SQLite makes it anew
        }
        let pages = (bytes.len() as u64).div_ceil(4096);
        // The header of every page, what begins it, and a few bits anywhere in it.
        for page in 0..pages {
            for pick in 0..8 {
                let within = [0, 3, 5, 8 + dice.below(40)].get(pick).copied().unwrap_or_else(|| dice.below(4096));
                let at = usize::try_from((page * 4096 + within).min(bytes.len() as u64 - 1)).expect("small");
                let mut harmed = whole.clone();
                let one = harmed.iter_mut().find(|(other, _)| other == path).expect("it is there");
                one.1[at] ^= 1 << dice.below(8);
                put_back(&harmed, &place.state());
                let (found, status) = place.check();
                assert!(content(&place.state()) == harmed, "looking changes nothing");
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                match status {
                    Some(1) => {
                        let problems = found["problems"].as_array().expect("a list");
                        assert!(!problems.is_empty() && found["verdict"] == "refuse", "{name} byte {at}: {found:#}");
                        told += 1;
                        if told % 40 == 1 {
                            sample.push((true, harmed));
                        }
                    }
                    status => {
                        assert_eq!(status, Some(0), "{name} byte {at}: {found:#}");
                        // A copied store doubts what is not settled; all else it must say as before.
                        let keys =
                            ["id", "path", "resume_at", "created", "duplicate", "dead_lettered", "skipped", "done"];
                        for (one, other) in found["files"]
                            .as_array()
                            .expect("files")
                            .iter()
                            .zip(right["files"].as_array().expect("files"))
                        {
                            for key in keys {
                                assert_eq!(one[key], other[key], "{name} byte {at}, {key}");
                            }
                            assert!(one["reserved"].as_u64() >= other["reserved"].as_u64(), "{name} byte {at}");
                        }
                        assert_eq!(found["total"]["files"], 4, "{name} byte {at}");
                        harmless += 1;
                        if harmless % 40 == 1 {
                            sample.push((false, harmed));
                        }
                    }
                }
            }
        }
    }
    println!("{told} flips told of, {harmless} changed nothing, {} of them also met a start", sample.len());
    assert!(told > 50 && sample.iter().any(|(refused, _)| !refused), "{told} {harmless}");

    // Some of both kinds in whole runs, over the roll-over.
    for (refused, harmed) in sample {
        put_back(&harmed, &place.state());
        let run = place.once();
        if refused {
            assert_refused(&place, &run, &harmed);
        } else {
            let _ = run.ok();
            place.assert_all_is_there_once(2000);
        }
    }
    put_back(&whole, &place.state());
    place.append("0.log", &lines(2000..2100));
    let _ = place.once().ok();
    place.assert_all_is_there_once(2100);
}

#[test]
fn a_torn_or_truncated_store_is_refused_or_whole_and_after_a_reset_nothing_is_twice() {
    let place = Place::new("torn");
    place.crash_and_roll_over();
    let whole = content(&place.state());
    let (right, _) = place.check();
    let mut refused = Vec::new();
    let mut cuts = 0;
    for name in ["store.db", "store.db-wal", "lock"] {
        let index = whole.iter().position(|(path, _)| path.ends_with(name)).expect("it is there");
        let length = whole[index].1.len();
        let mut ends: Vec<usize> =
            (0..length.div_ceil(4096)).flat_map(|page| [page * 4096, page * 4096 + 1777]).collect();
        ends.push(length - 1);
        ends.retain(|end| *end < length);
        for end in ends {
            let mut harmed = whole.clone();
            harmed[index].1.truncate(end);
            put_back(&harmed, &place.state());
            let (found, status) = place.check();
            cuts += 1;
            if status == Some(1) {
                refused.push((format!("{name} cut at {end}"), harmed));
            } else {
                assert_eq!(status, Some(0), "{name} cut at {end}: {found:#}");
                let position = |value: &Value| {
                    value["files"]
                        .as_array()
                        .map(|files| files.iter().map(|file| file["resume_at"].clone()).collect::<Vec<_>>())
                };
                assert_eq!(position(&found), position(&right), "{name} cut at {end}");
            }
        }
    }
    println!("{} of {cuts} cuts refused", refused.len());
    assert!(refused.len() >= 5, "{}", refused.len());
    // Both halves gone.
    let mut gone = whole.clone();
    gone.retain(|(path, _)| !path.ends_with("store.db"));
    refused.push(("store.db is gone".to_owned(), gone));

    let every = refused.len().div_ceil(4);
    for (what, harmed) in refused.iter().step_by(every) {
        put_back(harmed, &place.state());
        println!("{what}");
        assert_refused(&place, &place.once(), harmed);
    }
    let (what, harmed) = refused.last().expect("one");
    println!("start over after: {what}");
    put_back(harmed, &place.state());
    place.append("1.log", &lines(2000..2050));
    place.reset();
    assert_eq!(place.check().0["verdict"], "create");
    let aside = content(&place.state());
    let kept =
        |bytes: &[u8]| aside.iter().any(|(path, found)| path.to_string_lossy().contains("reset-") && found == bytes);
    assert!(
        harmed.iter().filter(|(path, _)| path.to_string_lossy().contains("store.db-wal")).all(|(_, bytes)| kept(bytes))
    );
    let _ = place.once().ok();
    place.assert_all_is_there_once(2050);
}

#[test]
fn a_store_put_back_from_a_backup_repeats_nothing() {
    for (name, in_place) in [("backup", false), ("backupinplace", true)] {
        let place = Place::new(name);
        place.append("0.log", &lines(0..300));
        let _ = place.once().ok();
        let backup = content(&place.state());
        // What the backup does not know: more of a file, and a file.
        place.append("0.log", &lines(300..700));
        place.append("1.log", &lines(700..1000));
        let _ = place.once().ok();
        place.roll_over();

        if in_place {
            for (path, bytes) in &backup {
                fs::write(path, bytes).expect("room");
            }
        } else {
            put_back(&backup, &place.state());
        }
        let (found, _) = place.check();
        assert_eq!(found["store"]["at_home"], false, "{found:#}");
        assert_eq!(found["verdict"], "resume", "{found:#}");
        place.append("1.log", &lines(1000..1200));
        let _ = place.once().ok();
        place.assert_all_is_there_once(1200);
        // Said once: from here on this is where it is.
        let (found, _) = place.check();
        assert_eq!(found["store"]["at_home"], true, "{found:#}");
        assert_eq!(found["total"]["bytes_in_doubt"], 0, "{found:#}");
    }
}

#[test]
fn a_store_of_an_older_format_goes_on_and_one_of_a_newer_format_is_refused() {
    let place = Place::new("formats");
    let golden = repository().join("src/checkpoint/testdata/store-v1.db");
    fs::create_dir(place.state()).expect("room");
    fs::copy(golden, place.state().join("store.db")).expect("the golden store");
    let (found, _) = place.check();
    assert_eq!((&found["store"]["format"], &found["total"]["files"]), (&1.into(), &4.into()), "{found:#}");
    assert!(found["start"].to_string().contains("turns format 1 into format 2"), "{found:#}");
    place.append("0.log", &lines(0..500));
    let _ = place.once().ok();
    place.assert_all_is_there_once(500);
    let (found, _) = place.check();
    assert_eq!((&found["store"]["format"], &found["total"]["files"]), (&2.into(), &5.into()), "{found:#}");

    // The format is the header's number at byte 60.
    let path = place.state().join("store.db");
    let mut bytes = fs::read(&path).expect("the store");
    assert_eq!(bytes[60..64], [0, 0, 0, 2]);
    bytes[63] = 9;
    fs::write(&path, &bytes).expect("room");
    let before = content(&place.state());
    let run = place.once();
    assert_eq!(run.status, Some(74), "{}", run.stderr);
    for words in ["format 9", "newer version", "logweir checkpoints check"] {
        assert!(run.stderr.contains(words), "{words} is not in {}", run.stderr);
    }
    assert_unchanged(&place, &before);
    assert_eq!(place.check().1, Some(1));
}

#[test]
fn a_store_can_be_looked_at_while_a_daemon_uses_it_and_after_it_was_killed() {
    let place = Place::new("looked");
    let (found, status) = place.check();
    assert_eq!((status, &found["verdict"]), (Some(0), &"create".into()), "{found:#}");
    assert!(!place.state().is_dir(), "looking makes nothing");

    place.append("0.log", &lines(0..400));
    let mut daemon = place.workspace.start(&[]);
    counted(place.node, &place.target, 400, &daemon);
    until("the checkpoint", PATIENCE, || (place.total("created") == 400).then_some(()));
    for n in 0..20 {
        place.append("0.log", &lines(400 + n * 10..410 + n * 10));
        let (found, status) = place.check();
        assert_eq!(
            (status, &found["in_use"], &found["verdict"]),
            (Some(0), &true.into(), &"resume".into()),
            "{found:#}"
        );
    }
    assert!(daemon.is_running(), "{}", daemon.log());
    counted(place.node, &place.target, 600, &daemon);
    daemon.kill();

    let before = content(&place.state());
    let text = place.workspace.run(&["checkpoints", "check"]).ok().stdout;
    for words in ["files: 1", "lines:", "in doubt:", "a start goes on", "a start looks up"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let (found, _) = place.check();
    assert_eq!(found["in_use"], false);
    assert!(found["files"][0]["in_doubt"].as_u64() > Some(0), "{found:#}");
    assert!(content(&place.state()) == before, "looking changes nothing, not even the log");
    let _ = place.once().ok();
    place.assert_all_is_there_once(600);
}
