//! Being killed is an ordinary exit: a child process works on a store and is killed at random moments.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::testing::{created, id, new_row, run};
use super::*;
use crate::config::{ByteSize, Span};

/// Directory of the store: set for the child only.
const DIRECTORY: &str = "LOGWEIR_KILL_TEST_STORE";

const FILES: u64 = 3;

fn open(directory: &Path) -> (Arc<Checkpoints>, Vec<FileRow>) {
    // Small reservations and a short interval, so that commits of both kinds are under way at any moment.
    let config =
        config::Checkpoint { path: directory.to_owned(), interval: Span::millis(1), reserve_ahead: ByteSize(500) };
    Checkpoints::open(&config, 100, |trouble| panic!("{trouble:?}")).unwrap()
}

/// What the child does for ever. It says `R file end` after a reservation, and `S file end` before it settles so far.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (checkpoints, rows) = open(Path::new(&directory));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut out = std::io::stdout();
    for n in 0..FILES {
        if rows.iter().all(|row| row.id != id(n)) {
            checkpoints.admit(new_row(n)).unwrap();
        }
    }
    let mut ends: Vec<u64> = (0..FILES).map(|n| checkpoints.position(id(n)).unwrap().offset).collect();
    loop {
        let mut runs = Vec::new();
        for (n, end) in (0..).zip(&mut ends) {
            let run = run(n, *end, *end + 100 + n, 1);
            *end = run.span.end;
            checkpoints.read(&run, None).unwrap();
            runs.push(run);
        }
        runtime.block_on(checkpoints.reserve(&runs));
        for run in &runs {
            writeln!(out, "R {} {}", run.file, run.span.end).unwrap();
        }
        for run in &runs {
            writeln!(out, "S {} {}", run.file, run.span.end).unwrap();
            checkpoints.settle(run, created(1));
        }
    }
}

#[test]
fn a_killed_process_leaves_every_reservation_and_no_checkpoint_too_far() {
    let directory = tempfile::tempdir().unwrap();
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut reserved = [0; FILES as usize];
    let mut settled = [0; FILES as usize];
    for _ in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoint::kill_tests::child", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until_kill = 1 + rng.next_u32() % 400;
        // What was said before the kill is read to its end. A last line that is cut short was not said.
        while let Some(Ok(line)) = lines.next() {
            let words: Vec<&str> = line.split(' ').collect();
            if let [what @ ("R" | "S"), file, end] = words[..]
                && let (Some(n), Ok(end)) = ((0..FILES).find(|n| id(*n).to_string() == file), end.parse::<u64>())
            {
                let said = if what == "R" { &mut reserved } else { &mut settled };
                let said = &mut said[usize::try_from(n).unwrap()];
                *said = end.max(*said);
                until_kill -= 1;
            }
            if until_kill == 0 {
                child.kill().unwrap();
                until_kill = u32::MAX;
            }
        }
        child.wait().unwrap();

        let (checkpoints, rows) = open(directory.path());
        assert_eq!(rows.len() as u64, FILES);
        for (n, row) in (0..).zip(&rows) {
            assert!(row.reserved >= reserved[n], "{} is reserved, {} was acknowledged", row.reserved, reserved[n]);
            assert!(row.position.offset <= settled[n], "{row:?}, but settled is {}", settled[n]);
            assert_eq!(row.outcomes.created, row.position.offset / (100 + n as u64), "counts belong to the checkpoint");
        }
        assert_eq!(checkpoints.imbalances(), []);
        // The next child reads again from the checkpoint.
        settled = std::array::from_fn(|n| rows[n].position.offset);
        reserved = std::array::from_fn(|n| rows[n].reserved);
    }
}
