use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::fake::{Fake, Refusal};

use super::*;
use crate::client::Client;
use crate::config::ByteSize;
use crate::config::Login;

fn letter(n: u8) -> Letter {
    Letter {
        id: format!("{n:024}"),
        time: "2026-01-01T00:00:00Z".to_owned(),
        file: "00000000000000ff".to_owned(),
        path: "/var/log/a.log".to_owned(),
        offset: u64::from(n),
        target: "logs-x-default".to_owned(),
        index: None,
        pipeline: None,
        status: 400,
        kind: "document_parsing_exception".to_owned(),
        reason: "no".to_owned(),
        document: RawValue::from_string(r#"{"b":1.50, "a":2}"#.to_owned()).expect("JSON"),
    }
}

fn config(dir: &Path) -> config::DeadLetters {
    config::DeadLetters { path: dir.to_path_buf(), max_bytes: ByteSize(100_000), max_segment_bytes: ByteSize(1000) }
}

fn ids(dir: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    list(dir, |letter| ids.push(letter.id)).expect("list");
    ids
}

#[test]
fn letters_come_back_as_they_were_in_order_over_segments() {
    let dir = tempfile::tempdir().expect("directory");
    let letters = DeadLetters::open(&config(dir.path())).expect("open");
    for n in 0..20 {
        letters.append(&[letter(n)]).expect("append");
    }
    assert_eq!(ids(dir.path()), (0..20).map(|n| letter(n).id).collect::<Vec<_>>());
    assert!(segments(dir.path()).expect("segments").len() > 3);
    let shown = show(dir.path(), &letter(7).id).expect("show").expect("there");
    assert_eq!((shown.offset, shown.document.get()), (7, r#"{"b":1.50, "a":2}"#));
}

#[test]
fn the_same_id_is_kept_once_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    for _ in 0..2 {
        let letters = DeadLetters::open(&config(dir.path())).expect("open");
        letters.append(&[letter(1), letter(1), letter(2)]).expect("append");
        letters.append(&[letter(2)]).expect("append");
    }
    assert_eq!(ids(dir.path()).len(), 2);
}

#[test]
fn a_torn_line_is_cut_off_and_its_letter_can_be_written_again() {
    let dir = tempfile::tempdir().expect("directory");
    DeadLetters::open(&config(dir.path())).expect("open").append(&[letter(1), letter(2)]).expect("append");
    let segment = segments(dir.path()).expect("segments").remove(0);
    let file = OpenOptions::new().write(true).open(&segment.path).expect("file");
    file.set_len(segment.bytes - 5).expect("tear");
    let letters = DeadLetters::open(&config(dir.path())).expect("open");
    letters.append(&[letter(2), letter(3)]).expect("append");
    assert_eq!(ids(dir.path()), [letter(1).id, letter(2).id, letter(3).id]);
}

#[test]
fn when_full_it_says_so_and_takes_letters_again_once_there_is_room() {
    let dir = tempfile::tempdir().expect("directory");
    let cfg = config::DeadLetters { max_bytes: ByteSize(1000), ..config(dir.path()) };
    let letters = DeadLetters::open(&cfg).expect("open");
    let refused = (0..20).find(|&n| letters.append(&[letter(n)]).is_err()).expect("full");
    let error = letters.append(&[letter(refused)]).expect_err("full");
    assert!(matches!(error, AppendError::Full { .. }) && error.to_string().contains("of 1000 bytes"), "{error}");
    assert_eq!(drop(dir.path(), None).expect("drop"), u64::from(refused));
    letters.append(&[letter(refused)]).expect("room");
    assert_eq!(ids(dir.path()), [letter(refused).id]);
}

#[test]
fn dropping_some_keeps_the_others_and_the_daemon_goes_on() {
    let dir = tempfile::tempdir().expect("directory");
    let letters = DeadLetters::open(&config(dir.path())).expect("open");
    letters.append(&[letter(1), letter(2)]).expect("append");
    assert_eq!(drop(dir.path(), Some(&BTreeSet::from([letter(1).id]))).expect("drop"), 1);
    letters.append(&[letter(3)]).expect("append");
    assert_eq!(ids(dir.path()), [letter(2).id, letter(3).id]);
}

#[tokio::test]
async fn replay_removes_what_is_in_the_cluster_and_keeps_what_is_refused_again() {
    let fake = Fake::start().await.expect("fake");
    let dir = tempfile::tempdir().expect("directory");
    let letters = DeadLetters::open(&config(dir.path())).expect("open");
    letters.append(&(0..6).map(letter).collect::<Vec<_>>()).expect("append");
    fake.put("logs-x-default", &letter(1).id);
    fake.rollover("logs-x-default");
    let refusal = Refusal { status: 400, kind: "mapper_parsing_exception", reason: "still no", applied: false };
    fake.refuse(&letter(3).id, refusal);

    let cfg = config::Elasticsearch { urls: vec![fake.url().to_owned()], ..config::Elasticsearch::default() };
    let client = Client::new(&cfg, Login::None).expect("client");
    let done = replay(&client, dir.path(), None, Duration::from_secs(20)).await.expect("replay");
    assert_eq!((done.created, done.duplicate, done.refused), (4, 1, 1));
    assert_eq!(done.reasons["mapper_parsing_exception"], 1);
    assert_eq!(ids(dir.path()), [letter(3).id]);
    assert!(fake.copies().values().all(|&copies| copies == 1));
}
