//! Logs that rotate, move, shrink and vanish, as people and logrotate do it: each line is indexed once.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::append;
use integration_tests::place::{LOG, Place};
use integration_tests::{Daemon, Node, Proxy};

#[test]
fn rotation_by_rename_while_the_daemon_runs_loses_nothing() {
    let mut place = Place::new("rename", "access.log*", "");
    let daemon = place.start();
    for round in 0..5 {
        place.append(LOG, 100);
        if round % 2 == 0 {
            place.caught_up(&daemon);
        }
        place.rotate();
        // The writer has not heard of it yet.
        place.append("access.log.1", 50);
        place.append(LOG, 10);
        place.append("access.log.1", 5);
    }
    place.finish(daemon);
}

#[test]
fn rotation_while_the_daemon_is_stopped_loses_nothing() {
    let mut place = Place::new("stopped", "access.log*", "");
    place.append(LOG, 100);
    place.once();
    place.append(LOG, 30);
    place.rotate();
    place.append(LOG, 40);
    place.once();
    place.proven();
}

#[test]
fn several_rotations_while_the_daemon_is_stopped_lose_nothing() {
    let mut place = Place::new("several", "access.log*", "");
    place.append(LOG, 100);
    place.once();
    for n in 1..=4 {
        place.append(LOG, 10 * n);
        place.rotate();
    }
    place.append(LOG, 7);
    place.once();
    place.proven();
    place.rotate();
    place.once();
    place.proven();
}

#[test]
fn logrotate_with_create_loses_nothing() {
    let mut place = Place::new("create", "access.log*", "");
    let daemon = place.start();
    for n in 1..=4 {
        place.append(LOG, 100 * n);
        place.logrotate("create");
    }
    place.append(LOG, 3);
    place.finish(daemon);
}

#[test]
fn logrotate_with_copytruncate_loses_nothing_while_the_daemon_runs() {
    let mut place = Place::new("copytruncate", "access.log*", "");
    let daemon = place.start();
    for n in 1..=6 {
        // Less than before, and more: the file is shorter or longer than what was read when it is looked at again.
        place.append(LOG, if n % 2 == 0 { 300 } else { 20 * n });
        if n % 3 == 0 {
            place.caught_up(&daemon);
        }
        place.logrotate("copytruncate");
    }
    place.append(LOG, 3);
    place.finish(daemon);
}

#[test]
fn a_writer_that_does_not_pause_for_copytruncate_makes_the_copy_no_new_file() {
    let mut place = Place::new("unpaused", "access.log*", "");
    place.append(LOG, 50);
    let daemon = place.start();
    place.caught_up(&daemon);
    fs::copy(place.path(LOG), place.path("access.log.1")).expect("a copy");
    // Only the log has these; logrotate loses them, the daemon has read them before.
    place.append(LOG, 7);
    place.caught_up(&daemon);
    OpenOptions::new().write(true).open(place.path(LOG)).and_then(|log| log.set_len(0)).expect("truncated");
    place.append(LOG, 3);
    place.caught_up(&daemon);
    until("the copy is told", PATIENCE, || daemon.log().contains("access.log.1").then_some(()));
    place.end(daemon);
    place.once();
    place.assert_each_is_there_once();
    // Of the seven only their documents are left.
    let _ = place.workspace.run(&["verify"]).ok();
}

#[test]
fn logrotate_with_copytruncate_loses_nothing_while_the_daemon_is_stopped() {
    let mut place = Place::new("copystopped", "access.log*", "");
    place.append(LOG, 100);
    place.once();
    place.append(LOG, 20);
    place.logrotate("copytruncate");
    place.append(LOG, 200);
    place.once();
    place.proven();
    place.logrotate("copytruncate");
    place.once();
    place.proven();
}

#[test]
fn what_logrotate_compressed_while_the_daemon_was_stopped_goes_on_inside_the_gz() {
    let mut place = Place::new("compress", "access.log*", "");
    place.append(LOG, 100);
    place.once();
    place.append(LOG, 50);
    place.logrotate("create\ncompress");
    assert!(place.path("access.log.1.gz").is_file());
    place.append(LOG, 20);
    place.once();
    place.proven();
    place.append(LOG, 5);
    place.logrotate("create\ncompress");
    place.append(LOG, 1);
    place.logrotate("create\ncompress");
    place.once();
    place.proven();
}

#[test]
fn what_logrotate_compresses_while_the_daemon_runs_is_not_read_twice() {
    let mut place = Place::new("compressing", "access.log*", "");
    let daemon = place.start();
    for _ in 0..3 {
        place.append(LOG, 200);
        place.caught_up(&daemon);
        place.logrotate("create\ncompress");
    }
    place.append(LOG, 1);
    place.caught_up(&daemon);
    // Whatever the last of them is taken for shows after the settle time and a scan.
    place.append(LOG, 1);
    place.finish(daemon);
    place.once();
    place.proven();
}

#[test]
fn logrotate_with_delaycompress_and_dateext_loses_nothing() {
    for (name, options) in [("delay", "delaycompress"), ("date", "dateext\ndateformat -%Y%m%d-%s")] {
        let mut place = Place::new(name, "access.log*", "");
        let daemon = place.start();
        for round in 0..4 {
            place.append(LOG, 100 + round);
            if round % 2 == 0 {
                place.caught_up(&daemon);
            }
            // Names of seconds must differ.
            let second = SystemTime::now();
            place.logrotate(&format!("create\ncompress\n{options}"));
            until("the next second", PATIENCE, || (second.elapsed().ok()? > Duration::from_secs(1)).then_some(()));
        }
        place.append(LOG, 3);
        place.finish(daemon);
        place.append(LOG, 20);
        place.logrotate(&format!("create\ncompress\n{options}"));
        place.append(LOG, 4);
        place.once();
        place.proven();
    }
}

/// Rotates in every way while `proxy` or a block keeps documents away, then lets them through.
fn rotate_while_behind(mut place: Place, daemon: Daemon, heal: impl FnOnce(&Place)) {
    place.append(LOG, 3000);
    for round in 0..6 {
        place.append(LOG, 300 * round + 100);
        match round % 3 {
            0 => place.rotate(),
            1 => place.logrotate("copytruncate"),
            _ => place.logrotate("create"),
        }
        place.append(LOG, 10);
    }
    heal(&place);
    place.finish(daemon);
    place.once();
    place.proven();
}

const SMALL_MEMORY: &str = ", max_line_bytes: 4KiB\nbatch: {max_bytes: 16KiB, max_memory: 64KiB}\n\
                            elasticsearch: {urls: ['{url}'], retry: {max_delay: 500ms}}";

#[test]
fn several_rotations_while_the_daemon_is_behind_lose_nothing() {
    let mut place = Place::with("behind", "access.log*", "", SMALL_MEMORY);
    let daemon = place.begin(LOG);
    rotate_while_behind(place, daemon, |place| place.block(false));
}

#[test]
fn several_rotations_while_elasticsearch_is_down_lose_nothing() {
    let proxy = Proxy::start(&Node::shared().url);
    let mut place = Place::through(&proxy.url(), "down", "access.log*", "", SMALL_MEMORY);
    place.append(LOG, 10);
    let daemon = place.start();
    place.caught_up(&daemon);
    proxy.refuse(true);
    proxy.cut();
    rotate_while_behind(place, daemon, |_| proxy.refuse(false));
}

#[test]
fn a_file_that_left_the_glob_by_a_rename_is_read_to_its_end() {
    let mut place = Place::new("stray", LOG, "");
    let daemon = place.start();
    place.append(LOG, 100);
    place.caught_up(&daemon);
    place.rename(LOG, "old-2024-06-03");
    place.append("old-2024-06-03", 25);
    place.append(LOG, 10);
    place.caught_up(&daemon);
    // The writer still has it open.
    place.append("old-2024-06-03", 5);
    place.finish(daemon);
}

#[test]
fn a_file_deleted_before_it_was_read_is_read_from_the_open_file() {
    let mut place = Place::with(
        "deleted",
        "access.log*",
        "",
        ", max_line_bytes: 4KiB\nbatch: {max_bytes: 16KiB, max_memory: 64KiB}",
    );
    let daemon = place.begin(LOG);
    place.append(LOG, 9000);
    daemon.said("waiting for the target in elasticsearch");
    fs::remove_file(place.path(LOG)).expect("removed");
    let size = "logweir_files_deleted_bytes ";
    until(&format!("the file to be held open\n{}", daemon.log()), PATIENCE, || {
        (daemon.metric(size)? > 500_000.0).then_some(())
    });
    place.block(false);
    place.caught_up(&daemon);
    daemon.said("file gone");
    let log = daemon.log();
    assert!(!log.contains("before all of it was read"), "{log}");
    place.end(daemon);
    place.assert_each_is_there_once();
    let (report, satisfied) = place.workspace.verify();
    assert!(satisfied && report["gone"][0]["lines"] == place.lines, "{report:#}");
}

#[test]
fn a_file_that_another_takes_the_place_of_is_let_go_of() {
    let mut place = Place::new("anew", LOG, "");
    let daemon = place.start();
    for _ in 0..5 {
        place.append(LOG, 20);
        place.caught_up(&daemon);
        // At no moment is there no file of that name.
        let text = place.next(3);
        fs::write(place.workspace.path("aside"), text).expect("room");
        fs::rename(place.workspace.path("aside"), place.path(LOG)).expect("moved over it");
        place.caught_up(&daemon);
    }
    for (name, expected) in [("logweir_files_watched ", 1.0), ("logweir_files_open ", 1.0)] {
        let began = Instant::now();
        until("what is gone to be let go of", PATIENCE, || {
            let value = daemon.metric(name);
            assert!(began.elapsed() < PATIENCE / 4, "{name}is {value:?}\n{}", daemon.log());
            (value? <= expected).then_some(())
        });
    }
    place.end(daemon);
    place.assert_each_is_there_once();
}

#[test]
fn a_truncated_file_is_read_from_its_new_start() {
    let mut place = Place::new("truncated", LOG, "");
    let daemon = place.start();
    let mut gone = 0;
    for lines in [10, 300, 2] {
        // Shorter than before, then longer, then shorter again.
        gone = place.lines;
        fs::write(place.path(LOG), "").expect("truncated");
        place.append(LOG, lines);
        place.caught_up(&daemon);
    }
    place.end(daemon);
    place.assert_each_is_there_once();
    place.workspace.assert_proven_with(place.lines - gone, place.lines);

    // And while nobody looks.
    gone = place.lines;
    fs::write(place.path(LOG), "").expect("truncated");
    place.append(LOG, 50);
    place.once();
    place.assert_each_is_there_once();
    place.workspace.assert_proven_with(place.lines - gone, place.lines);
}

#[test]
fn a_copy_beside_the_file_is_not_read_while_it_agrees_and_the_file_goes_on() {
    let mut place = Place::new("copy", "access.log*", "");
    let daemon = place.start();
    place.append(LOG, 100);
    place.caught_up(&daemon);
    fs::copy(place.path(LOG), place.path("access.log.bak")).expect("copied");
    place.append(LOG, 40);
    place.caught_up(&daemon);
    fs::copy(place.path(LOG), place.path("access.log.bak2")).expect("copied");
    place.append(LOG, 1);
    place.caught_up(&daemon);
    place.end(daemon);
    // With nothing in memory either.
    place.once();
    place.proven();
}

#[test]
fn a_chunk_is_deleted_once_it_is_settled_and_not_before() {
    let mut place = Place::new("delete", "*.log", ", mode: chunks, on_done: delete");
    let daemon = place.begin("first.log");
    let gone = |place: &Place, name: &str| (!place.path(name).is_file()).then_some(());
    until("the first chunk to go", PATIENCE, || gone(&place, "first.log"));
    let text = place.next(200);
    fs::write(place.workspace.path("aside"), text).expect("room");
    fs::rename(place.workspace.path("aside"), place.path("second.log")).expect("moved in");
    daemon.said("waiting for the target in elasticsearch");
    assert!(place.path("second.log").is_file(), "deleted before it was settled\n{}", daemon.log());
    assert_eq!(place.count(), 10);
    place.block(false);
    until("the second chunk to go", PATIENCE, || gone(&place, "second.log"));
    // What is deleted was there before.
    assert_eq!(place.count(), place.lines);
    place.end(daemon);
    place.assert_each_is_there_once();
}

#[test]
fn a_chunk_is_archived_once_it_is_settled_and_a_name_can_come_again() {
    let mut place = Place::new("archive", "*.log", ", mode: chunks, on_done: archive, archive_dir: '{dir}/done'");
    let done = place.workspace.path("done");
    fs::create_dir(&done).expect("made");
    let archived = || fs::read_dir(&done).expect("the archive").count();
    let daemon = place.begin("chunk.log");
    until("the first chunk in the archive", PATIENCE, || (archived() == 1).then_some(()));
    place.append("chunk.log", 20);
    daemon.said("waiting for the target in elasticsearch");
    assert!(place.path("chunk.log").is_file() && archived() == 1, "{}", daemon.log());
    place.block(false);
    until("the second chunk in the archive", PATIENCE, || (archived() == 2).then_some(()));
    assert_eq!(place.count(), place.lines);
    place.append("chunk.log", 30);
    until("the third chunk in the archive", PATIENCE, || (archived() == 3).then_some(()));
    assert_eq!(fs::read_dir(place.workspace.logs()).expect("the logs").count(), 0);
    let lines: usize =
        fs::read_dir(&done).expect("the archive").map(|entry| lines_of(&entry.expect("it").path())).sum();
    assert_eq!(lines as u64, place.lines, "the archive has every line");
    assert_eq!(lines_of(&done.join("chunk.log")), 10, "the first one has kept its name");
    place.finish(daemon);
}

fn lines_of(path: &Path) -> usize {
    fs::read_to_string(path).expect("text").lines().count()
}

#[test]
fn start_at_end_leaves_out_what_was_there_and_nothing_that_comes() {
    let mut place = Place::new("end", "*.log", ", start_at: end");
    place.append(LOG, 50);
    let half = place.next(1);
    append(&place.path(LOG), &half[..30]);
    let daemon = place.start();
    daemon.said("file discovered");
    append(&place.path(LOG), &half[30..]);
    place.append(LOG, 30);
    // What appears later is new as a whole.
    place.append("later.log", 20);
    place.counted(&daemon, 51);
    place.end(daemon);
    place.append(LOG, 5);
    place.once();
    place.assert_numbers(50..106);
    place.workspace.assert_proven(56);
}

#[test]
fn ignore_older_leaves_old_files_alone_until_they_change() {
    let mut place = Place::new("older", "*.log", ", ignore_older: 30d");
    place.append("old.log", 10);
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 86_400);
    let old = OpenOptions::new().append(true).open(place.path("old.log")).expect("the log");
    old.set_modified(long_ago).expect("its time");
    place.append(LOG, 20);
    place.once();
    place.assert_numbers(10..30);
    // A file that was read does not get too old for what comes.
    place.append(LOG, 5);
    let read = OpenOptions::new().append(true).open(place.path(LOG)).expect("the log");
    read.set_modified(long_ago).expect("its time");
    place.once();
    place.assert_numbers(10..35);
    place.append("old.log", 1);
    place.once();
    place.proven();
}
