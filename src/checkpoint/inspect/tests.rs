use super::super::ledger::Changes;
use super::super::store::Store;
use super::super::testing::{full_row, new_row};
use super::*;

fn store_with(directory: &Path, rows: Vec<FileRow>) -> Store {
    let (mut store, _) = Store::open(directory, 1_700_000_000).unwrap();
    store.commit(&Changes { rows, ..Changes::default() }).unwrap();
    store
}

#[test]
fn a_running_daemon_can_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store_with(directory.path(), vec![full_row(1)]);
    let inspection = inspect(directory.path()).unwrap();
    assert!(inspection.in_use);
    assert_eq!((inspection.verdict, inspection.files.len()), (Verdict::Resume, 1));
    store.commit(&Changes { rows: vec![full_row(2)], ..Changes::default() }).unwrap();
    assert_eq!(inspect(directory.path()).unwrap().files.len(), 2);
}

#[test]
fn nothing_is_made_by_looking_at_what_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert_eq!(inspect(&missing).unwrap().verdict, Verdict::Create);
    assert_eq!(reset(&missing, 1).unwrap(), None);
    assert!(!missing.try_exists().unwrap());
    assert_eq!(inspect(directory.path()).unwrap().verdict, Verdict::Create);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_with_odd_characters_in_its_name_can_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("a b?c%20#ü");
    drop(store_with(&odd, vec![full_row(1)]));
    let inspection = inspect(&odd).unwrap();
    assert_eq!((inspection.in_use, inspection.files.len()), (false, 1));
}

#[test]
fn a_reset_keeps_what_was_there_and_every_earlier_reset() {
    let directory = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for n in 1..=2 {
        drop(store_with(directory.path(), vec![full_row(n)]));
        let aside = reset(directory.path(), 5).unwrap().unwrap();
        names.push(aside.file_name().unwrap().to_string_lossy().into_owned());
        assert!(fs::metadata(&aside).unwrap().len() > 0);
    }
    assert_eq!(names, ["store.db.reset-5", "store.db.reset-5-1"]);
}

#[test]
fn list_and_check_say_where_each_file_stands() {
    let directory = tempfile::tempdir().unwrap();
    let doubtful = FileRow { reserved: 4096, ..new_row(1) };
    drop(store_with(directory.path(), vec![doubtful, full_row(2)]));
    let mut inspection = inspect(directory.path()).unwrap();
    let expected = "\
ID                OFFSET  RESERVED  SIZE  CREATED  DUPLICATE  DEAD  SKIPPED                  SEEN  PATH
0000000000000001       0      4096  2000        0          0     0        0  2023-11-14T22:13:21Z  /logs/1/access.log\u{fffd}
0000000000000002    2000      2000  4000        2          3     4        5  2023-11-14T22:13:22Z  /logs/2/access.log\u{fffd}
";
    assert_eq!(inspection.list(), expected);

    inspection.path = "/store/store.db".into();
    let id = std::mem::take(&mut inspection.store.as_mut().unwrap().id);
    assert_eq!(id.len(), 16);
    let expected = "\
store: /store/store.db
made: 2023-11-14T22:13:20Z, id , format 2, 1 commits
files: 2, 0 of them done; 2000 bytes settled
lines: 14: 2 created, 3 there before, 4 dead letters, 5 skipped
in doubt: 0000000000000001 /logs/1/access.log\u{fffd}: bytes 0 to 4096
a start goes on where each of 2 files stands
a start looks up 2000 bytes in doubt of 1 file
a start looks up files that the store does not know and that are there by then
";
    assert_eq!(inspection.to_string(), expected);
}

/// Every file of a directory, as bytes and with the time of its last change.
fn everything(directory: &Path) -> Vec<(PathBuf, Vec<u8>, (i64, i64))> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let found = fs::metadata(&path).unwrap();
            (path.clone(), fs::read(&path).unwrap(), (found.ctime(), found.ctime_nsec()))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn looking_changes_no_byte_and_makes_no_file_closed_or_with_a_log() {
    let (directory, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store_with(directory.path(), vec![full_row(1), full_row(2)]);
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("store.db-shm") {
            fs::copy(&path, crashed.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    drop(store);
    assert!(fs::metadata(crashed.path().join("store.db-wal")).unwrap().len() > 0);
    for directory in [directory.path(), crashed.path()] {
        let before = everything(directory);
        assert_eq!(inspect(directory).unwrap().files.len(), 2);
        assert_eq!(everything(directory), before);
    }
}

#[test]
fn a_copied_store_is_told_of_with_what_it_makes_doubtful() {
    let (directory, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(store_with(directory.path(), vec![full_row(3)]));
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let text = inspect(directory.path()).unwrap().to_string();
    assert!(!text.contains("copied") && !text.contains("in doubt of"), "{text}");
    let text = inspect(copy.path()).unwrap().to_string();
    assert!(text.contains("copied or put back") && text.contains("looks up 3000 bytes in doubt of 1 file"), "{text}");
    assert!(text.contains("bytes 3000 to its end"), "{text}");
}
