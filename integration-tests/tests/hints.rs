//! Notifications are hints: whatever the system does not tell is found all the same.

use std::fs;
use std::time::{Duration, Instant};

use integration_tests::node::until;
use integration_tests::numbered::append;
use integration_tests::place::{LOG, Place};

/// As good as never.
const NO_SCANS: &str = ", scan_interval: 1h";

/// Like [`Place::with`], with nothing in `read` but this.
fn place(name: &str, glob: &str, read: &str) -> Place {
    let place = Place::new(name, glob, "");
    let source = format!("  - {{name: web, paths: ['{{logs}}/{glob}'], format: combined, dataset: files.{name}}}");
    place.workspace.configure(&source, &format!("read: {{settle_time: 300ms{read}}}"));
    place
}

#[test]
fn when_the_system_loses_notifications_nothing_is_lost() {
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .expect("inotify");
    let mut place = place("overflow", "*.log*", NO_SCANS);
    place.append(LOG, 10);
    place.append("other.log", 10);
    let daemon = place.start();
    place.caught_up(&daemon);
    daemon.signal("STOP");
    // Two events that are equal and follow each other count as one.
    for n in 0..=limit / 2 + 1000 {
        let name = ["noise-a", "noise-b"][n % 2];
        fs::write(place.path(name), "x").expect("room");
    }
    // The queue is full: none of this is told.
    place.rotate();
    place.append(LOG, 50);
    place.append("other.log", 50);
    place.append("access.log.1", 5);
    place.append("new.log", 20);
    daemon.signal("CONT");
    place.caught_up(&daemon);
    // And what comes after is heard of again.
    place.append(LOG, 5);
    place.append("new.log", 5);
    place.finish(daemon);
}

#[test]
fn without_notifications_files_that_grow_are_polled() {
    let mut place = place("polled", "*.log", ", notify: false, poll_interval: 100ms, scan_interval: 1h");
    place.append(LOG, 10);
    let daemon = place.start();
    for _ in 0..3 {
        place.caught_up(&daemon);
        place.append(LOG, 10);
    }
    place.finish(daemon);
}

#[test]
fn without_notifications_rotation_loses_nothing() {
    let mut place = place("unheard", "access.log*", ", notify: false, poll_interval: 100ms, scan_interval: 500ms");
    let daemon = place.start();
    for round in 0..4 {
        place.append(LOG, 100);
        if round % 2 == 0 {
            place.caught_up(&daemon);
        }
        place.logrotate(if round < 2 { "create" } else { "copytruncate" });
        place.append(LOG, 10);
    }
    place.finish(daemon);
}

#[test]
fn a_directory_removed_and_made_again_is_watched_again() {
    let mut place = place("remade", "sub/*.log", ", scan_interval: 30s");
    fs::create_dir(place.path("sub")).expect("made");
    place.append("sub/access.log", 20);
    let daemon = place.start();
    place.caught_up(&daemon);
    for by_rename in [true, false] {
        // The new one is there at once.
        fs::create_dir(place.path("fresh")).expect("made");
        place.append("fresh/access.log", 30);
        if by_rename {
            place.rename("sub", &format!("old-{by_rename}"));
        } else {
            fs::remove_dir_all(place.path("sub")).expect("removed");
        }
        place.rename("fresh", "sub");
        place.caught_up(&daemon);
        // Scans are too far apart to see this so soon.
        place.append("sub/access.log", 1);
        let heard = || (place.count() == place.lines).then_some(());
        until(&format!("the line to be heard of\n{}", daemon.log()), Duration::from_secs(10), heard);
    }
    place.end(daemon);
    place.assert_each_is_there_once();
    place.workspace.assert_proven_with(31, place.lines);
}

#[test]
fn a_directory_that_appears_later_is_found() {
    let mut place = place("later", "*/*.log", ", scan_interval: 500ms");
    let daemon = place.start();
    for name in ["a", "b"] {
        fs::create_dir(place.path(name)).expect("made");
        place.append(&format!("{name}/access.log"), 20);
    }
    place.caught_up(&daemon);
    fs::remove_dir_all(place.path("a")).expect("removed");
    fs::create_dir(place.path("a")).expect("made");
    place.append("a/access.log", 7);
    place.caught_up(&daemon);
    place.end(daemon);
    place.assert_each_is_there_once();
    place.workspace.assert_proven_with(27, place.lines);
}

#[test]
fn a_file_that_comes_between_the_listing_and_the_watching_of_its_directory_is_found_soon() {
    let mut place = place("between", "*/*.log", NO_SCANS);
    let daemon = place.start();
    for n in 0..200_u32 {
        fs::create_dir(place.path(&format!("{n}"))).expect("made");
        // No wait for anything: the moments between the two are to be as different as they can be.
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(u64::from(n) * 50) {
            std::hint::spin_loop();
        }
        place.append(&format!("{n}/access.log"), 1);
    }
    let heard = || (place.count() == place.lines).then_some(());
    until(&format!("all lines, without a scan by time\n{}", daemon.log()), Duration::from_secs(20), heard);
    place.finish(daemon);
}

#[test]
fn a_daemon_that_was_paused_finds_what_came_meanwhile() {
    let mut place = place("paused", "access.log*", NO_SCANS);
    place.append(LOG, 100);
    let daemon = place.start();
    place.caught_up(&daemon);
    daemon.signal("STOP");
    for n in 1..4 {
        place.append(LOG, 10 * n);
        place.rotate();
    }
    place.append(LOG, 3);
    daemon.signal("CONT");
    place.finish(daemon);
}

#[test]
fn a_partial_line_is_completed_across_stops_and_kills() {
    let mut place = place("partial", "*.log", "");
    place.append(LOG, 5);
    for kill in [false, true, false] {
        let line = place.next(1);
        let (head, tail) = line.split_at(37);
        let daemon = place.start();
        append(&place.path(LOG), head);
        place.counted(&daemon, place.lines - 1);
        if kill {
            daemon.kill();
        } else {
            place.end(daemon);
        }
        append(&place.path(LOG), tail);
    }
    let daemon = place.start();
    place.finish(daemon);
}
