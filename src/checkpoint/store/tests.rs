use std::fs;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::super::inspect::{Verdict, inspect, reset};
use super::super::testing::{full_row, id};
use super::*;

fn rows(count: u64) -> Vec<FileRow> {
    (1..=count).map(full_row).collect()
}

fn changes(rows: Vec<FileRow>) -> Changes {
    Changes { rows, ..Changes::default() }
}

/// A store of `count` rows in three commits, closed as it is after a crash: with its log.
fn crashed_store(directory: &Path, count: u64) -> Vec<FileRow> {
    let (mut store, _) = Store::open(directory, 100).unwrap();
    // The first commits are folded into the database, the last ones stay in the log.
    store.commit(&changes(rows(count))).unwrap();
    store.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut newer = rows(count);
    for row in &mut newer {
        row.reserved += 4096;
    }
    store.commit(&changes(newer.clone())).unwrap();
    newer[0].reserved += 4096;
    store.commit(&changes(vec![newer[0].clone()])).unwrap();
    set_keep_log(store.connection(), true).unwrap();
    newer
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, found) = Store::open(directory.path(), 100).unwrap();
    assert!(found.is_empty());
    assert_eq!(store.meta().doubtful_before, Some(i64::MAX));
    store.commit(&changes(rows(5))).unwrap();
    let mut newer = full_row(2);
    newer.reserved += 1;
    let origin = Some(Origin { doubtful_before: None });
    let second = Changes { rows: vec![newer.clone()], forgotten: vec![id(3), id(77)], origin };
    store.commit(&second).unwrap();
    let meta = store.meta();
    drop(store);

    let (store, found) = Store::open(directory.path(), 200).unwrap();
    assert_eq!(found, [full_row(1), newer, full_row(4), full_row(5)]);
    assert_eq!(store.meta(), meta);
    assert_eq!((meta.created_at, meta.commits, meta.doubtful_before), (100, 2, None));
}

#[test]
fn a_store_in_use_names_itself() {
    let directory = tempfile::tempdir().unwrap();
    let _store = Store::open(directory.path(), 100).unwrap();
    let error = Store::open(directory.path(), 100).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains("another process uses") && text.contains(&*directory.path().to_string_lossy()), "{text}");
    assert!(matches!(reset(directory.path(), 1), Err(StoreError::InUse { .. })));
}

#[test]
fn a_full_disk_refuses_a_commit_and_takes_it_later() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(directory.path(), 100).unwrap();
    store.commit(&changes(rows(3))).unwrap();
    store.connection().pragma_update(None, "max_page_count", 5).unwrap();
    let error = store.commit(&changes(rows(500))).unwrap_err();
    assert!(matches!(error, StoreError::Sqlite { .. }), "{error}");
    assert!(error.to_string().contains("full"), "{error}");
    store.connection().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    store.commit(&changes(rows(500))).unwrap();
    drop(store);
    assert_eq!(Store::open(directory.path(), 100).unwrap().1, rows(500));
}

#[test]
fn a_start_that_was_killed_while_making_the_store_is_made_good() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("store.new"), b"half a database").unwrap();
    fs::write(directory.path().join("store.new-journal"), b"half a journal").unwrap();
    fs::write(directory.path().join("lock"), b"half a witness").unwrap();
    let (store, found) = Store::open(directory.path(), 100).unwrap();
    assert!(found.is_empty());
    drop(store);
    assert!(!directory.path().join("store.new").try_exists().unwrap());
    Store::open(directory.path(), 100).unwrap();
}

#[test]
fn what_cannot_be_trusted_is_refused_with_its_reason() {
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 12] = [
        ("it is empty", |d| fs::write(d.join(DATABASE), b"").unwrap()),
        ("header is that of no database", |d| fs::write(d.join(DATABASE), vec![b'x'; 8192]).unwrap()),
        ("has format 3", |d| sql_of(d, "PRAGMA user_version = 3")),
        ("its tables are not those of its format", |d| sql_of(d, "PRAGMA user_version = 1")),
        ("format 0 never existed", |d| sql_of(d, "PRAGMA user_version = 0")),
        ("not a checkpoint store", |d| sql_of(d, "PRAGMA application_id = 1")),
        ("table file, row 0000000000000002: its checksum is wrong", |d| {
            sql_of(d, "UPDATE file SET offset = 1 WHERE inode = -3")
        }),
        ("5 rows were written, but not these 4", |d| sql_of(d, "DELETE FROM file WHERE inode = -3")),
        ("what the store says of itself is wrong", |d| sql_of(d, "UPDATE meta SET doubtful_before = 0")),
        ("what the store says of itself cannot be read", |d| sql_of(d, "DELETE FROM meta")),
        ("its log store.db-wal is there", |d| {
            fs::write(d.join("store.db-wal"), b"log").unwrap();
            fs::remove_file(d.join(DATABASE)).unwrap();
        }),
        ("its last 2 of 3 commits are missing", |d| fs::remove_file(d.join("store.db-wal")).unwrap()),
    ];
    for (reason, harm) in cases {
        let directory = tempfile::tempdir().unwrap();
        crashed_store(directory.path(), 5);
        if !reason.contains("commits are missing") {
            sql_of(directory.path(), "PRAGMA wal_checkpoint(TRUNCATE)");
        }
        harm(directory.path());
        let error = Store::open(directory.path(), 100).map(drop).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} should say: {reason}");
        assert!(error.contains("logweir checkpoints check"), "{error}");
        let inspection = inspect(directory.path()).unwrap();
        assert_eq!(inspection.verdict, Verdict::Refuse, "{reason}");
        assert!(inspection.to_string().contains(reason), "{inspection} should say: {reason}");
        assert!(reset(directory.path(), 7).unwrap().is_some());
        assert_eq!(inspect(directory.path()).unwrap().verdict, Verdict::Create);
        assert!(Store::open(directory.path(), 100).unwrap().1.is_empty(), "after a reset a new store is made");
    }
}

fn sql_of(directory: &Path, sql: &str) {
    Connection::open(directory.join(DATABASE)).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_commit_that_a_power_cut_broke_off_never_happened() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(directory.path(), 100).unwrap();
    store.commit(&changes(rows(2))).unwrap();
    let note = fs::read(directory.path().join("lock")).unwrap();
    let log = directory.path().join("store.db-wal");
    let whole = fs::metadata(&log).unwrap().len();
    store.commit(&changes(rows(200))).unwrap();
    set_keep_log(store.connection(), true).unwrap();
    drop(store);

    fs::write(directory.path().join("lock"), note).unwrap();
    let bytes = fs::read(&log).unwrap();
    let broken_off = usize::try_from(whole).unwrap() + 5000;
    assert!(broken_off < bytes.len());
    fs::write(&log, &bytes[..broken_off]).unwrap();
    assert_eq!(Store::open(directory.path(), 100).unwrap().1, rows(2));
}

#[test]
fn an_old_copy_or_another_store_in_its_place_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(Store::open(other.path(), 100).unwrap());
    let (mut store, _) = Store::open(one.path(), 100).unwrap();
    store.commit(&changes(rows(2))).unwrap();
    drop(store);
    let copy = fs::read(one.path().join(DATABASE)).unwrap();
    let (mut store, _) = Store::open(one.path(), 100).unwrap();
    store.commit(&changes(rows(3))).unwrap();
    drop(store);

    fs::write(one.path().join(DATABASE), copy).unwrap();
    let error = Store::open(one.path(), 100).unwrap_err().to_string();
    assert!(error.contains("its last 1 of 2 commits are missing"), "{error}");
    fs::copy(other.path().join(DATABASE), one.path().join(DATABASE)).unwrap();
    let error = Store::open(one.path(), 100).unwrap_err().to_string();
    assert!(error.contains("not the store that was made here"), "{error}");
}

/// As a store says it that was copied: nothing is taken for granted.
fn doubted(rows: &[FileRow]) -> Vec<FileRow> {
    rows.iter().map(|row| FileRow { reserved: MAX_OFFSET, ..row.clone() }).collect()
}

/// Copies a store, harms one of its files, and opens it: refused with a reason, or exactly the right rows. `check`
/// agrees with the start either way.
fn refused_or_right(store: &Path, right: &[FileRow], name: &str, harm: impl FnOnce(&mut Vec<u8>)) -> bool {
    let directory = tempfile::tempdir().unwrap();
    for name in [DATABASE, "store.db-wal", "lock"] {
        fs::copy(store.join(name), directory.path().join(name)).unwrap();
    }
    let path = directory.path().join(name);
    let mut bytes = fs::read(&path).unwrap();
    harm(&mut bytes);
    fs::write(&path, &bytes).unwrap();

    let inspection = inspect(directory.path());
    assert_eq!(fs::read(&path).unwrap(), bytes, "looking changes nothing");
    let reason = match Store::open(directory.path(), 100) {
        Ok((_, rows)) => {
            assert_eq!(rows, doubted(right));
            None
        }
        Err(error) => Some(error.to_string()),
    };
    let refused = reason.is_some();
    if let Ok(inspection) = inspection {
        assert_eq!(inspection.verdict == Verdict::Refuse, refused, "{inspection}but a start: {reason:?}");
        assert!(!inspection.list().is_empty());
    } else {
        assert!(refused);
    }
    refused
}

#[test]
fn a_flipped_bit_is_refused_or_does_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let right = crashed_store(directory.path(), 40);
    for name in [DATABASE, "store.db-wal", "lock"] {
        let length = fs::metadata(directory.path().join(name)).unwrap().len();
        let mut places: Vec<u64> = (0..length.min(120)).collect(); // all headers of the file, then some of every page
        places.extend(
            (0..length / 4096).flat_map(|page| [0, 3, 5, 8, 9, 24, 40, 1500, 3000, 4000].map(|at| page * 4096 + at)),
        );
        // And any bits of every page.
        let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        places.extend((0..=length / 4096).flat_map(|page| {
            std::array::from_fn::<_, 10, _>(|_| (page * 4096 + u64::from(rng.next_u32() % 4096)).min(length - 1))
        }));
        let refused = places
            .iter()
            .filter(|place| {
                let place = usize::try_from(**place).unwrap();
                let bit = 1 << (rng.next_u32() % 8);
                refused_or_right(directory.path(), &right, name, |bytes| bytes[place] ^= bit)
            })
            .count();
        assert!(refused > 0 || name == "lock", "no flipped bit of {name} was noticed");
    }
}

#[test]
fn a_truncated_file_is_refused_or_does_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let right = crashed_store(directory.path(), 40);
    for name in [DATABASE, "store.db-wal", "lock"] {
        let length = fs::metadata(directory.path().join(name)).unwrap().len();
        let ends = (0..=length / 4096).flat_map(|page| [page * 4096, page * 4096 + 17, page * 4096 + 3333]);
        for end in ends.filter(|end| *end < length) {
            refused_or_right(directory.path(), &right, name, |bytes| bytes.truncate(usize::try_from(end).unwrap()));
        }
    }
}

#[test]
fn zeroed_and_swapped_pages_are_refused_or_do_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let right = crashed_store(directory.path(), 40);
    let pages = usize::try_from(fs::metadata(directory.path().join(DATABASE)).unwrap().len()).unwrap() / 4096;
    assert!(pages > 3, "{pages}");
    for page in 0..pages {
        let range = page * 4096..(page + 1) * 4096;
        refused_or_right(directory.path(), &right, DATABASE, |bytes| bytes[range.clone()].fill(0));
        refused_or_right(directory.path(), &right, DATABASE, |bytes| bytes.copy_within(range.clone(), 4096));
    }
}

/// Kept for ever: later versions must open them, or refuse them by name. With each, what is doubtful: format 1 said of all
/// that was not younger than the store.
const GOLDEN: [(&[u8], Option<i64>); 2] = [
    (include_bytes!("../testdata/store-v1.db"), Some(101_000_000_000)),
    (include_bytes!("../testdata/store-v2.db"), Some(i64::MAX)),
];

#[test]
fn a_store_of_every_format_there_ever_was_opens_and_becomes_one_of_the_newest() {
    for (version, (golden, doubtful_before)) in (1..).zip(GOLDEN) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(DATABASE), golden).unwrap();
        let looked = inspect(directory.path()).unwrap();
        assert_eq!(looked.store.as_ref().unwrap().format, version);
        assert_eq!(looked.start[0].contains("into format 2"), version < 2, "{looked}");
        let id = looked.store.unwrap().id;

        // As it was where it was made: the witness, of the length of its time, is there.
        let store_id = u64::from_str_radix(&id, 16).unwrap();
        let witness = Witness { store_id, commits: 1, place: None }.encode();
        fs::write(directory.path().join("lock"), witness).unwrap();
        for life in 0..2 {
            let (store, found) = Store::open(directory.path(), 200).unwrap();
            assert_eq!(found, rows(4));
            let meta = store.meta();
            assert_eq!((meta.store_id, meta.created_at), (store_id, 100), "life {life}");
            assert_eq!((meta.commits, meta.doubtful_before), (1, doubtful_before), "life {life}");
        }
        assert_eq!(inspect(directory.path()).unwrap().store.unwrap().format, schema::VERSION);
    }
}

/// How the newest of `testdata/store-v*.db` was made: `LOGWEIR_GOLDEN=<file> cargo test --lib golden`.
#[test]
fn the_golden_file_can_be_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(directory.path(), 100).unwrap();
    store.commit(&changes(rows(4))).unwrap();
    drop(store);
    if let Some(path) = std::env::var_os("LOGWEIR_GOLDEN") {
        fs::copy(directory.path().join(DATABASE), path).unwrap();
    }
    assert!(!directory.path().join("store.db-wal").try_exists().unwrap(), "a closed store is one file");
}
