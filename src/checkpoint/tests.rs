use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::ledger::Changes;
use super::testing::{created, full_row, id, new_row, run};
use super::*;
use crate::config::{ByteSize, Span};

const AHEAD: u64 = 1 << 20;

/// Waits long enough between commits that only those asked for happen.
const NEVER: Duration = Duration::from_secs(24 * 3600);

fn config(directory: &Path) -> config::Checkpoint {
    config::Checkpoint { path: directory.to_owned(), interval: Span(NEVER), reserve_ahead: ByteSize(AHEAD) }
}

fn no_trouble(trouble: Trouble) {
    panic!("{trouble:?}");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A disk whose every commit waits for a permit, and then does what it says.
struct Gate {
    permits: Receiver<bool>,
    started: SyncSender<usize>,
    rows: Arc<Mutex<BTreeMap<FileId, FileRow>>>,
}

impl committer::Disk for Gate {
    fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        // Either end may be gone at the end of a test.
        let _ = self.started.send(changes.rows.len());
        if !self.permits.recv().unwrap_or(true) {
            let full = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::Io { action: "write", path: "store.db".into(), source: full });
        }
        let mut rows = self.rows.lock().unwrap();
        rows.extend(changes.rows.iter().map(|row| (row.id, row.clone())));
        Ok(())
    }
}

struct Gated {
    permits: SyncSender<bool>,
    started: Receiver<usize>,
    rows: Arc<Mutex<BTreeMap<FileId, FileRow>>>,
}

fn gated(on_trouble: impl Fn(Trouble) + Send + Sync + 'static) -> (Checkpoints, Gated) {
    let (permits, permits_in) = sync_channel(100);
    let (started_out, started) = sync_channel(100);
    let rows = Arc::new(Mutex::new(BTreeMap::new()));
    let disk = Gate { permits: permits_in, started: started_out, rows: rows.clone() };
    let timing = Timing { interval: NEVER, retry: Duration::ZERO };
    let checkpoints = Checkpoints::start(disk, Meta::mint(0), Vec::new(), AHEAD, timing, on_trouble);
    (checkpoints, Gated { permits, started, rows })
}

fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn progress_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let (checkpoints, rows) = Checkpoints::open(&config(directory.path()), 100, no_trouble).unwrap();
    assert!(rows.is_empty());
    checkpoints.admit(new_row(1)).unwrap();
    let runs = [run(1, 0, 10, 2), run(1, 10, 30, 3)];
    for run in &runs {
        checkpoints.read(run, Some(5)).unwrap();
    }
    block_on(checkpoints.reserve(&runs));
    checkpoints.settle(&runs[0], created(2));
    assert!(checkpoints.set_format(id(1), "json"));
    assert!(checkpoints.mark_done(id(1)));
    block_on(checkpoints.flush(false));
    drop(checkpoints);

    let (checkpoints, rows) = Checkpoints::open(&config(directory.path()), 100, no_trouble).unwrap();
    let position = Position { offset: 10, tail_hash: runs[0].tail_hash };
    let expected = FileRow {
        position,
        reserved: AHEAD,
        outcomes: created(2),
        last_time_ns: Some(5),
        format: Some("json".into()),
        done: true,
        ..new_row(1)
    };
    assert_eq!(rows, [expected]);
    assert_eq!(rows[0].doubt(), Some(crate::record::Span { start: 10, end: AHEAD }));
    assert_eq!(checkpoints.position(id(1)), Some(position));
    assert_eq!(checkpoints.imbalances(), []);
}

#[test]
fn a_clean_end_leaves_nothing_in_doubt_but_what_is_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let (checkpoints, _) = Checkpoints::open(&config(directory.path()), 100, no_trouble).unwrap();
    let runs = [run(1, 0, 10, 1), run(2, 0, 10, 1)];
    for (n, run) in (1..).zip(&runs) {
        checkpoints.admit(new_row(n)).unwrap();
        checkpoints.read(run, None).unwrap();
    }
    block_on(checkpoints.reserve(&runs));
    checkpoints.settle(&runs[0], created(1));
    block_on(checkpoints.flush(true));
    drop(checkpoints);
    let (_, rows) = Checkpoints::open(&config(directory.path()), 100, no_trouble).unwrap();
    let doubts: Vec<_> = rows.iter().map(FileRow::doubt).collect();
    assert_eq!(doubts, [None, Some(crate::record::Span { start: 0, end: 10 })]);
}

#[test]
fn origin_stays_in_doubt_until_it_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let open = |now| Checkpoints::open(&config(directory.path()), now, no_trouble).unwrap().0;
    drop(open(100));
    let checkpoints = open(200);
    assert!(checkpoints.doubtful_origin());
    checkpoints.trust_origin();
    block_on(checkpoints.flush(false));
    let store_id = checkpoints.store_id();
    drop(checkpoints);
    let checkpoints = open(300);
    assert!(!checkpoints.doubtful_origin());
    assert_eq!(checkpoints.store_id(), store_id);
}

#[test]
fn until_all_sources_were_looked_at_a_file_of_any_age_is_in_doubt_then_what_is_younger_than_all_of_them_is_not() {
    const FUTURE: i64 = 4_000;
    let directory = tempfile::tempdir().unwrap();
    let open = || Checkpoints::open(&config(directory.path()), 1, no_trouble).unwrap().0;
    let checkpoints = open();
    assert!(checkpoints.is_doubtful(i64::MAX, i64::MAX));
    // The clock says 2000, but there was a file that says 4000: it or the clock is wrong.
    checkpoints.bound_origin(FUTURE, 2_000);
    block_on(checkpoints.flush(false));
    drop(checkpoints);
    let checkpoints = open();
    for (birth, changed, is_doubtful) in [
        (1, 1, true),
        (FUTURE, FUTURE, true),
        (1, FUTURE + 1, true),
        (FUTURE + 1, 1, true),
        (FUTURE + 1, FUTURE + 1, false),
        (0, FUTURE + 1, true),
    ] {
        assert_eq!(checkpoints.is_doubtful(birth, changed), is_doubtful, "{birth} {changed}");
    }
    checkpoints.bound_origin(9_000, 9_000);
    assert!(!checkpoints.is_doubtful(FUTURE + 1, FUTURE + 1), "told once");
}

#[test]
fn a_file_that_was_forgotten_is_in_doubt_when_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Checkpoints::open(&config(directory.path()), 1, no_trouble).unwrap().0;
    let checkpoints = open();
    checkpoints.trust_origin();
    for (n, birth_ns) in [(1, 10), (2, 20)] {
        checkpoints.admit(FileRow { birth_ns, mtime_ns: 500, ..full_row(n) }).unwrap();
    }
    block_on(checkpoints.flush(false));
    checkpoints.forget(&[id(1)]);
    assert!(checkpoints.is_doubtful(10, 900) && !checkpoints.is_doubtful(20, 900));
    block_on(checkpoints.flush(false));
    drop(checkpoints);
    let checkpoints = open();
    assert!(checkpoints.is_doubtful(10, 900) && !checkpoints.is_doubtful(20, 900));
    checkpoints.forget(&[id(2), id(1)]);
    assert!(checkpoints.is_doubtful(20, 900) && !checkpoints.is_doubtful(21, 900));
}

#[test]
fn of_a_store_that_was_put_back_all_that_is_there_is_in_doubt_and_what_comes_later_is_not() {
    let (directory, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |at: &Path| Checkpoints::open(&config(at), 1, no_trouble).unwrap();
    let (checkpoints, _) = open(directory.path());
    checkpoints.trust_origin();
    checkpoints.admit(full_row(1)).unwrap();
    block_on(checkpoints.flush(true));
    drop(checkpoints);
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, backup.path().join(path.file_name().unwrap())).unwrap();
    }
    let (checkpoints, rows) = open(directory.path());
    assert_eq!((rows[0].doubt(), checkpoints.doubtful_origin()), (None, false), "nobody copied anything");
    drop(checkpoints);

    for life in 0..2 {
        let (checkpoints, rows) = open(backup.path());
        assert_eq!(rows[0].position, full_row(1).position);
        assert_eq!(rows[0].doubt().unwrap().end, ledger::MAX_OFFSET, "life {life}: kept until the file was seen");
        assert!(checkpoints.is_doubtful(5, 5));
    }
    let (checkpoints, _) = open(backup.path());
    assert_eq!(checkpoints.end_doubt_at(id(1), 7000), 7000);
    block_on(checkpoints.flush(true));
    drop(checkpoints);
    let (checkpoints, rows) = open(backup.path());
    assert_eq!(rows[0].doubt().unwrap().end, 7000);
    assert_eq!(checkpoints.end_doubt_at(id(1), 9000), 7000);
}

#[test]
fn two_thousand_small_files_need_one_commit() {
    let (checkpoints, gate) = gated(no_trouble);
    let runs: Vec<Run> = (0..2000).map(|n| run(n, 0, 100, 1)).collect();
    for (n, run) in (0..).zip(&runs) {
        checkpoints.admit(new_row(n)).unwrap();
        checkpoints.read(run, None).unwrap();
    }
    gate.permits.send(true).unwrap();
    block_on(checkpoints.reserve(&runs));
    assert_eq!(gate.started.recv().unwrap(), 2000);
    assert!(gate.started.try_recv().is_err());
}

#[test]
fn a_reservation_resolves_only_when_it_is_on_disk() {
    let (checkpoints, gate) = gated(no_trouble);
    checkpoints.admit(new_row(1)).unwrap();
    let runs = [run(1, 0, 100, 1)];
    checkpoints.read(&runs[0], None).unwrap();
    let mut reserved = checkpoints.reserve(&runs);
    assert!(poll(&mut reserved).is_pending());
    gate.started.recv().unwrap();
    assert!(poll(&mut reserved).is_pending(), "the commit is under way");
    assert!(gate.rows.lock().unwrap().is_empty());
    gate.permits.send(true).unwrap();
    block_on(reserved);
    assert_eq!(gate.rows.lock().unwrap()[&id(1)].reserved, AHEAD);

    let mut again = checkpoints.reserve(&runs);
    assert!(poll(&mut again).is_ready(), "what is reserved needs no commit");
}

#[test]
fn a_reservation_that_is_given_up_harms_nobody() {
    let (checkpoints, gate) = gated(no_trouble);
    checkpoints.admit(new_row(1)).unwrap();
    let runs = [run(1, 0, 100, 1)];
    checkpoints.read(&runs[0], None).unwrap();
    let mut given_up = checkpoints.reserve(&runs);
    assert!(poll(&mut given_up).is_pending());
    gate.started.recv().unwrap();
    drop(given_up);
    let mut other = checkpoints.reserve(&runs);
    assert!(poll(&mut other).is_pending());
    gate.permits.send(true).unwrap();
    block_on(other);
}

#[test]
fn a_disk_that_refuses_is_reported_and_waited_for() {
    let (said, heard) = sync_channel(10);
    let (checkpoints, gate) = gated(move |trouble| said.send(trouble).unwrap());
    checkpoints.admit(new_row(1)).unwrap();
    let runs = [run(1, 0, 100, 1)];
    checkpoints.read(&runs[0], None).unwrap();
    let mut reserved = checkpoints.reserve(&runs);
    assert!(poll(&mut reserved).is_pending());
    for _ in 0..3 {
        gate.permits.send(false).unwrap();
        assert_eq!(gate.started.recv().unwrap(), 1, "the row comes again");
        assert!(poll(&mut reserved).is_pending());
    }
    checkpoints.settle(&runs[0], created(1)); // settling goes on
    gate.permits.send(true).unwrap();
    block_on(reserved);
    assert!(matches!(heard.recv().unwrap(), Trouble::CannotCommit { attempts: 1, .. }));
    assert!(matches!(heard.recv().unwrap(), Trouble::Recovered { attempts: 3 }), "said once, not at each attempt");
    gate.permits.send(true).unwrap();
    block_on(checkpoints.flush(false));
    assert_eq!(gate.rows.lock().unwrap()[&id(1)].position.offset, 100);
}

#[test]
fn a_flush_waits_for_a_commit_that_began_after_it() {
    let (checkpoints, gate) = gated(no_trouble);
    checkpoints.admit(new_row(1)).unwrap();
    let mut first: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(checkpoints.flush(false));
    assert!(poll(&mut first).is_pending());
    gate.started.recv().unwrap();
    checkpoints.admit(new_row(2)).unwrap();
    let mut second: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(checkpoints.flush(false));
    assert!(poll(&mut second).is_pending());
    gate.permits.send(true).unwrap();
    block_on(first);
    assert!(poll(&mut second).is_pending());
    gate.permits.send(true).unwrap();
    block_on(second);
    assert_eq!(gate.rows.lock().unwrap().len(), 2);
    block_on(checkpoints.flush(false)); // nothing to write, so no permit is needed
}

#[test]
fn calls_that_contradict_the_ledger_are_reported_and_reserve_nothing() {
    let (said, heard) = sync_channel(10);
    let (checkpoints, _gate) = gated(move |trouble| said.send(trouble).unwrap());
    let runs = [run(1, 0, 100, 1)];
    checkpoints.settle(&runs[0], created(1));
    let unknown = LedgerError::Unknown { file: id(1) };
    assert!(matches!(heard.recv().unwrap(), Trouble::Refused { error, .. } if error == unknown));
    let mut reserved = checkpoints.reserve(&runs);
    assert!(poll(&mut reserved).is_pending());
    assert!(matches!(heard.recv().unwrap(), Trouble::Refused { error, .. } if error == unknown));
}

#[test]
fn forgotten_files_are_gone_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let (checkpoints, _) = Checkpoints::open(&config(directory.path()), 100, no_trouble).unwrap();
    for n in 1..=3 {
        checkpoints.admit(full_row(n)).unwrap();
    }
    block_on(checkpoints.flush(false));
    checkpoints.forget(&[id(1), id(3), id(99)]);
    block_on(checkpoints.flush(true));
    drop(checkpoints);
    let (_, rows) = Checkpoints::open(&config(directory.path()), 100, no_trouble).unwrap();
    assert_eq!(rows, [full_row(2)]);
}
