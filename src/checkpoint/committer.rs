//! The thread that commits: changed rows every interval, at once when someone waits for them.
//!
//! It alone touches the disk, and holds the lock on the ledger only to take changes and to give them back. When the disk
//! refuses, the changes go back to the ledger and are tried again, for as long as it takes.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::record::FileId;

use super::ledger::{Changes, Ledger, LedgerError, Origin, Totals};
use super::store::{Store, StoreError};

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// A disk that goes on refusing is reported again after so many attempts.
const REPORT_EVERY: u64 = 300;

/// What the one who opened the store is told.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing can be committed; reserving waits, so that sending stops. Said at the first attempt that fails, then
    /// about every five minutes.
    CannotCommit {
        /// Why.
        error: StoreError,
        /// Attempts that failed.
        attempts: u64,
    },
    /// A commit succeeded again.
    Recovered {
        /// Attempts that had failed.
        attempts: u64,
    },
    /// A call contradicted the ledger and was refused: a defect.
    Refused {
        /// Why.
        error: LedgerError,
        /// Where the file is.
        path: Arc<Path>,
        /// Its lines.
        totals: Totals,
    },
}

/// Where changes are committed.
pub(super) trait Disk: Send + 'static {
    /// All or nothing, and on disk when it returns.
    fn commit(&mut self, changes: &Changes) -> Result<(), StoreError>;

    /// Makes what only the first commit needs, before anybody waits for it.
    ///
    /// # Errors
    /// The same that the first commit meets then.
    fn warm_up(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Disk for Store {
    fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        Self::commit(self, changes)
    }

    /// The log and its name are synced.
    fn warm_up(&mut self) -> Result<(), StoreError> {
        Self::commit(self, &Changes::default())
    }
}

/// How long the thread waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub interval: Duration,
    pub retry: Duration,
}

impl Timing {
    pub fn new(interval: Duration) -> Self {
        Self { interval, retry: RETRY }
    }
}

/// What handle and thread share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes those who wait for a commit.
    committed: Notify,
    on_trouble: Box<dyn Fn(Trouble) + Send + Sync>,
}

#[derive(Debug)]
pub(super) struct State {
    pub ledger: Ledger,
    pub doubtful_before: Option<i64>,
    /// Whether someone waits for the next commit.
    pub hurry: bool,
    /// Whether the next commit writes `doubtful_before`.
    origin_changed: bool,
    /// Flushes asked for so far, and how many of them are done.
    flushes_asked: u64,
    flushes_done: u64,
    closing: bool,
}

impl State {
    pub fn new(ledger: Ledger, doubtful_before: Option<i64>) -> Self {
        Self {
            ledger,
            doubtful_before,
            hurry: false,
            origin_changed: false,
            flushes_asked: 0,
            flushes_done: 0,
            closing: false,
        }
    }

    pub fn doubt_before(&mut self, doubtful_before: Option<i64>) {
        self.origin_changed |= self.doubtful_before != doubtful_before;
        self.doubtful_before = doubtful_before;
    }

    pub fn flushed(&self, ticket: u64) -> bool {
        self.flushes_done >= ticket
    }

    pub fn all_reserved(&self, wanted: &[(FileId, u64)]) -> bool {
        wanted.iter().all(|(id, end)| self.ledger.is_reserved(*id, *end))
    }

    pub fn take(&mut self) -> Taken {
        self.hurry = false;
        let mut changes = self.ledger.take_changes();
        changes.origin =
            std::mem::take(&mut self.origin_changed).then_some(Origin { doubtful_before: self.doubtful_before });
        Taken { changes, flushes: self.flushes_asked }
    }
}

/// What one commit is to bring to disk.
pub(super) struct Taken {
    pub changes: Changes,
    flushes: u64,
}

impl Shared {
    pub fn new(state: Mutex<State>, on_trouble: Box<dyn Fn(Trouble) + Send + Sync>) -> Self {
        Self { state, wake: Condvar::new(), committed: Notify::new(), on_trouble }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // A ledger that panicked half-way through a change must not reach the disk.
        self.state.lock().expect("the ledger is whole")
    }

    pub fn report(&self, trouble: Trouble) {
        (self.on_trouble)(trouble);
    }

    /// Commits at once what is to be committed.
    pub fn hurry(&self) {
        self.state().hurry = true;
        self.wake.notify_one();
    }

    pub fn ask_flush(&self, clean: bool) -> u64 {
        let mut state = self.state();
        if clean {
            state.ledger.lower_reservations();
        }
        state.flushes_asked += 1;
        state.hurry = true;
        self.wake.notify_one();
        state.flushes_asked
    }

    pub fn close(&self) {
        // Not `state()`: this runs in `drop`, perhaps of a panic.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).closing = true;
        self.wake.notify_one();
    }

    /// Waits for commits until `reached`; cancel safe.
    pub async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            // Made before the look, so that a commit in between is not missed.
            let commit = self.committed.notified();
            if reached(&self.state()) {
                return;
            }
            commit.await;
        }
    }

    /// The thread's body: commits until the handle is dropped.
    pub fn run(&self, mut disk: impl Disk, timing: Timing) {
        // Whoever waits for the first commit is told of its error.
        let _ = disk.warm_up();
        let mut failed = 0;
        while let Some(taken) = self.next(if failed == 0 { timing.interval } else { timing.retry }, failed > 0) {
            if taken.changes.is_empty() {
                self.done(&taken);
                continue;
            }
            let result = disk.commit(&taken.changes);
            self.finish(&taken, result, &mut failed);
        }
    }

    /// Takes in what became of a commit; `failed` counts the attempts since the last that succeeded.
    pub fn finish(&self, taken: &Taken, result: Result<(), StoreError>, failed: &mut u64) {
        match result {
            Ok(()) => {
                self.done(taken);
                if *failed > 0 {
                    self.report(Trouble::Recovered { attempts: *failed });
                    *failed = 0;
                }
            }
            Err(error) => {
                self.failed(taken);
                *failed += 1;
                if *failed % REPORT_EVERY == 1 {
                    self.report(Trouble::CannotCommit { error, attempts: *failed });
                }
            }
        }
    }

    /// Waits, and takes what is to be committed; `None` once the handle is dropped. After a failure nobody's hurry
    /// shortens the wait.
    fn next(&self, wait: Duration, whole_wait: bool) -> Option<Taken> {
        let idle = |state: &mut State| !state.closing && (whole_wait || !state.hurry);
        let (mut state, _) = self.wake.wait_timeout_while(self.state(), wait, idle).expect("the ledger is whole");
        (!state.closing).then(|| state.take())
    }

    fn done(&self, taken: &Taken) {
        let mut state = self.state();
        state.ledger.committed(&taken.changes);
        state.flushes_done = state.flushes_done.max(taken.flushes);
        drop(state);
        self.committed.notify_waiters();
    }

    fn failed(&self, taken: &Taken) {
        let mut state = self.state();
        state.ledger.put_back(&taken.changes);
        state.origin_changed |= taken.changes.origin.is_some();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}
