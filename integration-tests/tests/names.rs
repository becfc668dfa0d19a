//! Names of files prove nothing and may be anything: each line is indexed once whatever its file is called.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use integration_tests::place::{LOG, Place};
use serde_json::json;

/// Names as no one should give them.
const ODD: [&[u8]; 9] = [
    b"\xff\xfe not UTF-8.log",
    b"two\nlines.log",
    b"quotes \"and' these.log",
    b" blank and tab\t.log",
    b"star*.log",
    b"[brackets].log",
    b"{braces,and}.log",
    b"back\\slash\\.log",
    b"\xf0\x9f\x98\x80 \x1b[31m.log",
];

#[test]
fn files_of_any_name_are_followed_through_a_rotation_and_a_restart() {
    let mut place = Place::new("odd", "*.log*", "");
    let daemon = place.start();
    for name in ODD {
        let text = place.next(10);
        fs::write(place.workspace.logs().join(OsStr::from_bytes(name)), text).expect("room");
    }
    place.caught_up(&daemon);
    for name in ODD {
        let path = place.workspace.logs().join(OsStr::from_bytes(name));
        let mut rotated = path.as_os_str().to_owned();
        rotated.push(OsStr::from_bytes(b".1\xfe\n"));
        fs::rename(&path, rotated).expect("renamed");
        fs::write(&path, place.next(5)).expect("room");
    }
    place.finish(daemon);
    for name in ODD {
        let path = place.workspace.logs().join(OsStr::from_bytes(name));
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("the file");
        file.write_all(place.next(3).as_bytes()).expect("room");
    }
    place.once();
    place.proven();
    // For people, too.
    let text = place.workspace.run(&["verify"]).ok().stdout;
    assert!(text.contains("star*.log"), "{text}");
    let listed = place.workspace.run(&["checkpoints", "list"]).ok().stdout;
    assert!(!listed.contains('\u{1b}'), "a name must not command the terminal: {listed:?}");
    assert!(!text.contains('\u{1b}'), "a name must not command the terminal: {text:?}");
}

#[test]
fn a_late_chunk_with_a_name_used_before_is_a_file_of_its_own() {
    let mut place = Place::new("late", "*.log", ", mode: chunks");
    let arrive = |place: &mut Place, lines: u64| {
        let text = place.next(lines);
        fs::write(place.workspace.path("aside"), text).expect("room");
        fs::rename(place.workspace.path("aside"), place.path("chunk.log")).expect("moved in");
    };
    let daemon = place.start();
    // Shorter, longer and as long as the one before.
    for lines in [100, 20, 150, 150] {
        arrive(&mut place, lines);
        place.caught_up(&daemon);
    }
    place.end(daemon);
    arrive(&mut place, 60);
    place.once();
    place.assert_each_is_there_once();
    place.workspace.assert_proven_with(60, place.lines);
    let (report, _) = place.workspace.verify();
    let gone: u64 = report["gone"].as_array().expect("a list").iter().filter_map(|file| file["lines"].as_u64()).sum();
    assert_eq!(gone, place.lines - 60, "{report:#}");
}

#[test]
fn links_that_change_where_they_lead_lose_nothing() {
    let mut place = Place::new("links", LOG, "");
    fs::create_dir(place.workspace.path("store")).expect("made");
    let store = |place: &Place, day: u32| place.workspace.path(&format!("store/2024-06-{day:02}.log"));
    let daemon = place.start();
    for day in 1..=4 {
        let text = place.next(50);
        fs::write(store(&place, day), text).expect("room");
        // At no moment is there no link.
        std::os::unix::fs::symlink(store(&place, day), place.path("aside")).expect("linked");
        place.rename("aside", LOG);
        place.caught_up(&daemon);
        place.append(LOG, 10);
        if day % 2 == 0 {
            place.caught_up(&daemon);
        }
    }
    place.caught_up(&daemon);
    place.end(daemon);
    place.assert_each_is_there_once();

    // A hard link that outlives the name it was read by.
    fs::hard_link(store(&place, 4), place.path("kept")).expect("linked");
    fs::remove_file(place.path(LOG)).expect("removed");
    place.rename("kept", LOG);
    place.append(LOG, 5);
    place.once();
    place.assert_each_is_there_once();
}

#[test]
fn a_link_and_its_file_in_two_watched_directories_are_one_file() {
    let mut place = Place::new("both", "*/*.log", "");
    for name in ["a", "b"] {
        fs::create_dir(place.path(name)).expect("made");
    }
    place.append("a/x.log", 30);
    fs::hard_link(place.path("a/x.log"), place.path("b/hard.log")).expect("linked");
    std::os::unix::fs::symlink(place.path("a/x.log"), place.path("b/soft.log")).expect("linked");
    let daemon = place.start();
    place.caught_up(&daemon);
    // By each of its names.
    for name in ["b/hard.log", "b/soft.log", "a/x.log"] {
        place.append(name, 10);
        place.caught_up(&daemon);
    }
    fs::remove_file(place.path("a/x.log")).expect("removed");
    place.append("b/hard.log", 10);
    place.finish(daemon);
    let paths =
        place.node.search(&place.target, &json!({"size": 0, "aggs": {"by": {"terms": {"field": "log.file.id"}}}}));
    assert_eq!(paths["aggregations"]["by"]["buckets"].as_array().map(Vec::len), Some(1), "{paths}");
}
