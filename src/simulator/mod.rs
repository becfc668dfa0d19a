//! The core of logweir in a modelled world with a virtual clock: a seed is a history, the same one each time.
//!
//! **Real**: the follower with scan and identity, the pump with reading, parsing and encoding, batches and the memory
//! bound, the index stage whole (verdicts, retry, look-up, holds, requests in flight), the ledger and what the committer
//! takes and gives back, and the question whether a new store's target is empty. It is the code that runs in production.
//!
//! **Modelled**: the file system ([`files`]), the cluster ([`cluster`]), the disks of store and dead letters ([`disk`]), time
//! (tokio's paused clock), threads (`process` moves each part a step at a time), hints of changes (in time, late, some or
//! none), and deaths: of the process at any moment or at a named step, of the machine, of the store.
//!
//! **Not modelled**: SQLite, HTTP and TLS, formats other than `text`, date-named targets, several nodes, requests that
//! arrive minutes after they were given up, what logrotate loses between copying and truncating, copies that stay beside
//! their original, ingest pipelines. Files that begin alike are checked for loss and for ids, not for repeated lines;
//! lines of copies may be there again after the loss of the store: both are known limits.
//!
//! Held at every step: conservation, the memory bound, no checkpoint on disk beyond a byte that is in neither the cluster
//! nor the dead letters, and no chunk taken away whose checkpoint is not on disk. Held at the end, when the faults are over: each line that was written and not destroyed by its
//! writer is there, once, and nothing else is. What fails is made smaller by leaving out steps.

mod cluster;
mod dice;
mod disk;
mod files;
mod fixture;
mod history;
mod lines;
mod process;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use history::History;
use world::Outcome;

use crate::simulated::{Bug, simulate};

/// What is counted when it happens.
trait Fault {
    fn name(self) -> &'static str;
}

/// Bugs that can be had beneath the code, by a disk or a cluster that lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    /// The answer to a bulk request comes before it is applied, if it ever is: what settles by it settles before the reply.
    AnswersBeforeItApplies,
    /// A commit returns before it is synced: so a reservation is not on disk when what it covers is sent.
    CommitsBeforeSync,
    /// A refresh does nothing: so a look-up does not see what was written last.
    DoesNotRefresh,
}

/// A bug that is put back.
#[derive(Clone, Copy, Debug)]
enum Mutant {
    Of(Bug),
    Beneath(Lie),
}

fn run(history: &History, mutant: Option<Mutant>) -> Outcome {
    let (bug, lie) = match mutant {
        Some(Mutant::Of(bug)) => (Some(bug), None),
        Some(Mutant::Beneath(lie)) => (None, Some(lie)),
        None => (None, None),
    };
    simulate(bug, || world::run(history, lie))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Fails with what a person needs to look into it.
fn fail(history: History, mutant: Option<Mutant>) -> ! {
    let seed = history.seed;
    let small = history.shrink(|fewer| !run(fewer, mutant).wrong.is_empty());
    // What logweir logs in it; its times are those of the run, not of the history.
    let log = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::DEBUG).finish();
    let wrong = tracing::subscriber::with_default(log, || run(&small, mutant).wrong);
    panic!("a history fails; SEED={seed} shows it again. What is left of it:\n{small}{wrong:#?}");
}

/// How histories went.
#[derive(Default)]
struct Tally {
    histories: u64,
    lines: u64,
    faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        self.histories += 1;
        self.lines += outcome.lines;
        outcome.faults.into_iter().for_each(|(fault, count)| *self.faults.entry(fault).or_default() += count);
    }
}

/// Runs the histories of `seeds` on all cores until one fails; the lowest seed that did, and how the others went.
fn run_all(seeds: Range<u64>, mutant: Option<Mutant>, until: Option<Instant>) -> (Option<u64>, Tally) {
    const AT_ONCE: u64 = 50;
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(u64::MAX);
    let total = Mutex::new(Tally::default());
    let work = || {
        let mut tally = Tally::default();
        loop {
            let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
            let late = until.is_some_and(|until| Instant::now() >= until);
            if late || first >= seeds.end || failed.load(Ordering::Relaxed) < first {
                break;
            }
            for seed in first..(first + AT_ONCE).min(seeds.end) {
                let outcome = run(&History::draw(seed), mutant);
                if outcome.wrong.is_empty() {
                    tally.add(outcome);
                } else {
                    failed.fetch_min(seed, Ordering::Relaxed);
                    break;
                }
            }
        }
        let mut total = total.lock().expect("whole");
        total.histories += tally.histories;
        total.lines += tally.lines;
        tally.faults.into_iter().for_each(|(fault, count)| *total.faults.entry(fault).or_default() += count);
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner();
    ((failed != u64::MAX).then_some(failed), total.into_inner().expect("whole"))
}

/// A short run, for every `cargo test`: as many histories as fit into some seconds.
#[test]
fn nothing_is_lost_and_nothing_twice_in_any_history() {
    let until = Instant::now() + Duration::from_secs(4);
    let (failed, tally) = run_all(1..100_000, None, Some(until));
    if let Some(seed) = failed {
        fail(History::draw(seed), None);
    }
    assert!(tally.histories > 0 && tally.lines > 0);
}

/// Seeds that found a defect of logweir, kept: what each of them showed.
const FOUND: [(u64, &str); 6] = [
    (8_138, "a file renamed before its turn, and held open by nobody, is read under its new name"),
    (11_145, "a file cut, filled again and renamed, whose name was given away before it was looked at, is read"),
    (26_053, "a chunk is not complete because a hint of the one that had its name before comes late"),
    (520_849, "a copy in the making, hinted at before anything told of its original, is known for a copy"),
    (666_107, "a copy in the making of what a file was cut and filled with, unseen, is known for a copy"),
    (732_024, "a file is gone although its name is now the second name of another"),
];

#[test]
fn what_was_found_once_stays_mended() {
    for (seed, what) in FOUND {
        if !run(&History::draw(seed), None).wrong.is_empty() {
            println!("{what}");
            fail(History::draw(seed), None);
        }
    }
}

/// `make simulate`: as many as are asked for, with what happened in them.
#[test]
#[ignore = "long: make simulate HISTORIES=n"]
fn many_histories() {
    let first = number("SEED").unwrap_or(1);
    let count = number("HISTORIES").unwrap_or(100_000);
    let began = Instant::now();
    let (failed, tally) = run_all(first..first + count, None, None);
    if let Some(seed) = failed {
        fail(History::draw(seed), None);
    }
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = tally.histories as f64 / seconds;
    println!("{} histories from seed {first}, none failing: {seconds:.0} s, {rate:.0}/s", tally.histories);
    println!("{} lines; faults by kind:", tally.lines);
    for (fault, times) in &tally.faults {
        println!("  {times:>9}  {fault}");
    }
}

const MUTANTS: [(&str, Mutant); 8] = [
    ("settle before the reply", Mutant::Beneath(Lie::AnswersBeforeItApplies)),
    ("checkpoint past an unsettled byte", Mutant::Of(Bug::CheckpointPastUnsettled)),
    ("no rehash before the offset", Mutant::Of(Bug::NoRehash)),
    ("an ambiguous request sent again without a look-up", Mutant::Of(Bug::NoLookup)),
    ("a reservation not synced before what it covers is sent", Mutant::Beneath(Lie::CommitsBeforeSync)),
    ("a look-up without refresh", Mutant::Beneath(Lie::DoesNotRefresh)),
    ("the line's hash left out of its id", Mutant::Of(Bug::NoLineHash)),
    ("a chunk taken away before its checkpoint is on disk", Mutant::Of(Bug::DoneBeforeCommit)),
];

/// The simulator is only as good as what it finds.
#[test]
fn each_bug_that_is_put_back_is_found_within_ten_thousand_histories() {
    for (name, mutant) in MUTANTS {
        let (found, _) = run_all(1..10_001, Some(mutant), None);
        let Some(seed) = found else { panic!("{name} is not found") };
        println!("{name}: found in history {seed}: {}", run(&History::draw(seed), Some(mutant)).wrong[0]);
    }
}
