//! Which bytes of which file are settled, and that on disk.
//!
//! - A checkpoint never passes an unsettled byte; a checkpoint on disk never passes one that is not settled.
//! - What [`Progress::reserve`] returned for is on disk: after any death, the bytes that may have been sent are known
//!   ([`FileRow::doubt`]).
//! - A disk that refuses stops nothing but what needs it: settling goes on, reserving waits, and goes on by itself.
//!
//! [`ledger`] decides and is pure; [`store`] is the disk; [`Checkpoints`] is the handle that stages hold, with one
//! thread behind it that commits. [`inspect`](mod@inspect) reads a store for people, sound or not.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::config;
use crate::record::{FileId, Outcomes, Position, Progress, Run};

mod committer;
pub mod inspect;
pub mod ledger;
mod lock;
mod row;
mod schema;
pub mod store;

#[cfg(test)]
mod kill_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use committer::Trouble;
pub use inspect::{FileFacts, Inspection, StoreFacts, Verdict, inspect, reset};
pub use ledger::{Imbalance, LedgerError, Totals};
pub use row::{FileRow, Seen};
pub use schema::Meta;
pub use store::StoreError;

use committer::{Shared, State, Timing};
use ledger::Ledger;
use store::Store;

/// The progress of all files: what stages hold. Dropping it ends the thread that commits and releases the store, without
/// a last commit (being killed is an ordinary exit): see [`Checkpoints::flush`].
#[derive(Debug)]
pub struct Checkpoints {
    shared: Arc<Shared>,
    reserve_ahead: u64,
    meta: Meta,
    /// Lines of earlier runs of the program.
    at_start: Outcomes,
    thread: Option<JoinHandle<()>>,
}

/// Since when a file may have been read, in nanoseconds since 1970: a clock that jumps changes what is written later, not
/// this. `birth_ns` is 0 where the file system does not say.
#[must_use]
pub fn age(birth_ns: i64, mtime_ns: i64) -> i64 {
    if birth_ns == 0 { mtime_ns } else { birth_ns.min(mtime_ns) }
}

impl Checkpoints {
    /// Opens the store, or makes one (with `now`, in seconds since 1970, as its time of creation), and starts the thread
    /// that commits. Returns every file that the store knows. `on_trouble` is called on the thread that meets the
    /// trouble and must not block.
    ///
    /// # Errors
    /// Any [`StoreError`]: the store is unchanged.
    pub fn open(
        config: &config::Checkpoint,
        now: i64,
        on_trouble: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> Result<(Arc<Self>, Vec<FileRow>), StoreError> {
        let (store, rows) = Store::open(&config.path, now)?;
        let meta = store.meta();
        let timing = Timing::new(config.interval.0);
        let this = Self::start(store, meta, rows.clone(), config.reserve_ahead.0, timing, on_trouble);
        Ok((Arc::new(this), rows))
    }

    fn start(
        disk: impl committer::Disk,
        meta: Meta,
        rows: Vec<FileRow>,
        reserve_ahead: u64,
        timing: Timing,
        on_trouble: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> Self {
        let mut this = Self::new(meta, rows, reserve_ahead, on_trouble);
        let for_thread = this.shared.clone();
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || for_thread.run(disk, timing))
            .expect("a thread can be started");
        this.thread = Some(thread);
        this
    }

    /// Without the thread that commits.
    fn new(
        meta: Meta,
        rows: Vec<FileRow>,
        reserve_ahead: u64,
        on_trouble: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> Self {
        let mut ledger = Ledger::default();
        for row in rows {
            ledger.restore(row).expect("the store has each file once: it is the primary key");
        }
        let at_start = ledger.totals().outcomes;
        let state = State::new(ledger, meta.doubtful_before);
        let shared = Arc::new(Shared::new(Mutex::new(state), Box::new(on_trouble)));
        Self { shared, reserve_ahead, meta, at_start, thread: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Takes in a newly minted file. Its row and its first reservation go to disk with the next commit.
    ///
    /// # Errors
    /// [`LedgerError::Known`].
    pub fn admit(&self, row: FileRow) -> Result<(), LedgerError> {
        self.state().ledger.admit(row, self.reserve_ahead)
    }

    /// Registers what was read, before it is sent: spans of one file come in order and without a gap. `last_time_ns` is
    /// the time of the run's last event that has one, in nanoseconds since 1970.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`], [`LedgerError::Forgotten`], [`LedgerError::Gap`]; nothing is changed then.
    pub fn read(&self, run: &Run, last_time_ns: Option<i64>) -> Result<(), LedgerError> {
        self.state().ledger.read(run, last_time_ns)
    }

    /// Notes where a file was seen. Returns whether the file is known.
    pub fn update_location(&self, id: FileId, seen: &Seen) -> bool {
        self.state().ledger.see(id, seen)
    }

    /// Notes the format that was decided for a file. Returns whether the file is known.
    pub fn set_format(&self, id: FileId, format: &str) -> bool {
        self.state().ledger.set_format(id, format)
    }

    /// Notes that a chunk is finished and its `on_done` was applied. Returns whether the file is known.
    pub fn mark_done(&self, id: FileId) -> bool {
        self.state().ledger.mark_done(id)
    }

    /// Forgets files: each at once, or as soon as what is in flight of it is settled. One that comes back after all is
    /// in doubt, as it is older than what is noted here.
    pub fn forget(&self, ids: &[FileId]) {
        let mut state = self.state();
        let mut doubtful_before = state.doubtful_before;
        for id in ids {
            doubtful_before = doubtful_before.max(state.ledger.row(*id).map(|row| age(row.birth_ns, row.mtime_ns)));
            state.ledger.forget(*id);
        }
        state.doubt_before(doubtful_before);
    }

    /// After a store was copied or put back: see [`Ledger::end_doubt_at`].
    #[must_use]
    pub fn end_doubt_at(&self, id: FileId, size: u64) -> u64 {
        self.state().ledger.end_doubt_at(id, size)
    }

    /// The checkpoint of a file.
    #[must_use]
    pub fn position(&self, id: FileId) -> Option<Position> {
        self.state().ledger.position(id)
    }

    /// Whether the checkpoint of a file is on disk as [`Checkpoints::position`] has it.
    #[must_use]
    pub fn is_committed(&self, id: FileId) -> bool {
        self.state().ledger.is_committed(id)
    }

    /// Commits now what is to be committed, without waiting for it.
    pub fn hurry(&self) {
        self.shared.hurry();
    }

    /// All that is known of a file.
    #[must_use]
    pub fn row(&self, id: FileId) -> Option<FileRow> {
        self.state().ledger.row(id).cloned()
    }

    /// Lines of all files, those included that were forgotten since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.state().ledger.totals()
    }

    /// Lines of one file.
    #[must_use]
    pub fn file_totals(&self, id: FileId) -> Option<Totals> {
        self.state().ledger.file_totals(id)
    }

    /// Lines of all files since the start of this process.
    #[must_use]
    pub fn since_start(&self) -> Totals {
        let now = self.totals();
        let before = self.at_start;
        let outcomes = Outcomes {
            created: now.outcomes.created - before.created,
            duplicate: now.outcomes.duplicate - before.duplicate,
            dead_lettered: now.outcomes.dead_lettered - before.dead_lettered,
            skipped: now.outcomes.skipped - before.skipped,
        };
        Totals { lines: now.lines - before.total(), outcomes, ..now }
    }

    /// How the lines of each source ended, those of earlier runs included. Takes some microseconds a thousand files.
    #[must_use]
    pub fn by_source(&self) -> HashMap<Arc<str>, Outcomes> {
        self.state().ledger.by_source()
    }

    /// Counts everything again (invariants 1 and 2), and returns what does not add up: a defect.
    #[must_use]
    pub fn imbalances(&self) -> Vec<Imbalance> {
        self.state().ledger.imbalances()
    }

    /// Makes the counts of a file wrong, as a defect would.
    #[cfg(test)]
    pub fn unbalance(&self, id: FileId) {
        self.state().ledger.unbalance(id);
    }

    /// Which store it is, in messages.
    #[must_use]
    pub fn store_id(&self) -> u64 {
        self.meta.store_id
    }

    /// Whether the target may hold documents of files that this store does not know: so for every new store, until
    /// [`Checkpoints::trust_origin`].
    #[must_use]
    pub fn doubtful_origin(&self) -> bool {
        self.state().doubtful_before.is_some()
    }

    /// Whether the target may hold documents of a file that this store does not know, and that was made and last changed
    /// then (in nanoseconds since 1970; `birth_ns` is 0 where the file system does not say).
    #[must_use]
    pub fn is_doubtful(&self, birth_ns: i64, mtime_ns: i64) -> bool {
        let before = self.state().doubtful_before;
        before.is_some_and(|before| birth_ns == 0 || age(birth_ns, mtime_ns) <= before)
    }

    /// The target was seen to be empty before anything was sent: what this store does not know was never indexed.
    pub fn trust_origin(&self) {
        self.state().doubt_before(None);
    }

    /// The first look at all sources is over: what comes later is new, unless it is older than what was there, or than
    /// now. `newest_ns`: the youngest of the files that were found, as [`age`] has it.
    pub fn bound_origin(&self, newest_ns: i64, now_ns: i64) {
        let mut state = self.state();
        if state.doubtful_before == Some(i64::MAX) {
            state.doubt_before(Some(newest_ns.max(now_ns)));
        }
    }

    /// Waits until everything said before this call is on disk. `clean` is for the end of the program: reservations are
    /// taken back, so that only what is in flight is in doubt at the next start. Waits for as long as the disk refuses;
    /// cancel safe.
    pub async fn flush(&self, clean: bool) {
        let ticket = self.shared.ask_flush(clean);
        self.shared.until(|state| state.flushed(ticket)).await;
    }

    fn refused(&self, error: LedgerError, path: Arc<Path>) {
        let totals = self.file_totals(error.file()).unwrap_or_default();
        self.shared.report(Trouble::Refused { error, path, totals });
    }

    /// Waits for reservations of `wanted`; the fast way out is a reservation from before.
    async fn reserved(&self, wanted: Vec<(FileId, u64)>) {
        let refused = {
            let mut state = self.state();
            if state.all_reserved(&wanted) {
                return;
            }
            state.ledger.raise_reservations(&wanted, self.reserve_ahead).err()
        };
        if let Some(error) = refused {
            // Nothing is sent without a reservation, and this file can have none.
            let path = self.row(error.file()).map_or_else(|| Path::new("").into(), |row| row.path);
            self.refused(error, path);
            return std::future::pending().await;
        }
        self.shared.hurry();
        self.shared.until(|state| state.all_reserved(&wanted)).await;
    }
}

impl Progress for Checkpoints {
    fn reserve<'a>(&'a self, runs: &'a [Run]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.reserved(runs.iter().map(|run| (run.file, run.span.end)).collect()))
    }

    fn settle(&self, run: &Run, outcomes: Outcomes) {
        let settled = self.state().ledger.settle(run.file, run.span, outcomes);
        if let Err(error) = settled {
            self.refused(error, Arc::clone(&run.path));
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so, and the store's lock is released with it.
            let _ = thread.join();
        }
    }
}
