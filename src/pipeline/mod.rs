//! The order of the stages, what they share, and how they start and drain. The only module that knows all stages.
//!
//! One thread follows files ([`follow`]); some threads read, parse, enrich and encode ([`pump`]); tokio sends. Every queue
//! between them is bounded, and the memory of all batches together by [`crate::budget`]: when Elasticsearch is behind, reading
//! stops and the files are the queue.

pub mod archive;
pub mod conservation;
pub mod events;
pub mod files;
pub mod follow;
pub mod metrics_documents;
pub mod origin;
pub mod plan;
pub mod pump;
pub mod queue;
pub mod run;
#[cfg(test)]
mod testing;
pub mod transform;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use files::{File, Slots};
use follow::Report;
use plan::Plan;
use queue::Queue;

use crate::batch::{self, Spare};
use crate::budget::Budget;
use crate::checkpoint::{Checkpoints, FileRow, Seen};
use crate::config::{self, Config};
use crate::filesystem::{FileSystem, Stat};
use crate::parse::{self, Format};
use crate::record::{Destination, FileId, Outcomes, Progress, Run};
use crate::telemetry::events::{Fault, FormatDecided, Unbalanced};
use crate::telemetry::{FaultCause, Health, Metrics, Stage};

/// What the follower and the pump share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Name of this host.
    pub host: String,
    /// The sources, compiled; a source is known by its index here.
    pub plans: Arc<[Plan]>,
    /// All destinations, each once.
    pub destinations: Vec<Destination>,
    /// Which destination a source's documents go to.
    pub destination_of: Vec<usize>,
    /// When a batch is full.
    pub limits: batch::Limits,
    /// Longer lines are cut.
    pub max_line_bytes: usize,
    /// Files with something to read.
    pub queue: Queue<File>,
    /// Files held open.
    pub slots: Slots,
    /// The memory bound.
    pub budget: Arc<Budget>,
    /// Memory to use again.
    pub spares: Arc<Spares>,
    /// Progress.
    pub checkpoints: Arc<Checkpoints>,
    /// Where the files are.
    pub files: Arc<dyn FileSystem>,
    /// Numbers.
    pub metrics: Metrics,
    /// What is now of each source, in the order of `plans`.
    pub levels: Vec<Levels>,
    /// Whether it moves.
    pub health: Health,
    /// Whether the store was empty when this process started.
    pub first_start: bool,
    /// Ends when all there is was read and settled: nothing waits for more to come.
    pub once: bool,
    reports: Mutex<Vec<Report>>,
    detected: Mutex<HashMap<String, Arc<Format>>>,
    watching: Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
    stopping: AtomicBool,
    stop_sleep: (Mutex<()>, Condvar),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("sources", &self.plans.len()).finish_non_exhaustive()
    }
}

/// What is now of one source; its follower says so about once a second.
#[derive(Debug, Default)]
pub struct Levels {
    /// Bytes that are in its files and not settled.
    pub lag: AtomicU64,
    /// Its files that are followed.
    pub files: AtomicU64,
}

/// Memory of batches that were settled, to be filled again, so that it is asked for once.
#[derive(Debug, Default)]
pub struct Spares(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    spares: Vec<Spare>,
    /// The fewest that there were since the last [`Spares::trim`]: nobody needed these.
    idle: usize,
}

impl Spares {
    /// Memory to fill.
    #[must_use]
    pub fn take(&self) -> Spare {
        let mut pool = self.lock();
        let spare = pool.spares.pop().unwrap_or_default();
        pool.idle = pool.idle.min(pool.spares.len());
        spare
    }

    /// Takes memory back. There is never more of it than the memory bound let be filled at once.
    pub fn give(&self, spare: Spare) {
        self.lock().spares.push(spare);
    }

    /// Gives back to the system what was not needed since this was last called.
    pub fn trim(&self) {
        let mut pool = self.lock();
        let idle = pool.idle;
        // The oldest are at the bottom.
        let unneeded: Vec<Spare> = pool.spares.drain(..idle).collect();
        pool.idle = pool.spares.len();
        drop(pool);
        drop(unneeded);
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pipeline is made of, beside its configuration.
#[derive(Debug)]
pub struct Parts {
    /// The sources, compiled.
    pub plans: Arc<[Plan]>,
    /// Name of this host.
    pub host: String,
    /// Progress.
    pub checkpoints: Arc<Checkpoints>,
    /// Whether the store held no file when it was opened.
    pub first_start: bool,
    /// Whether to end when all there is was read and settled.
    pub once: bool,
    /// Where the files are.
    pub files: Arc<dyn FileSystem>,
    /// Numbers.
    pub metrics: Metrics,
    /// Whether it moves.
    pub health: Health,
}

impl Shared {
    /// Makes what the stages share.
    #[must_use]
    pub fn new(config: Config, parts: Parts) -> Arc<Self> {
        let mut destinations: Vec<Destination> = Vec::new();
        let place = |plan: &Plan| {
            destinations.iter().position(|known| *known == plan.destination).unwrap_or_else(|| {
                destinations.push(plan.destination.clone());
                destinations.len() - 1
            })
        };
        let destination_of = parts.plans.iter().map(place).collect();
        let size = |size: config::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        let limits = batch::Limits {
            max_bytes: size(config.batch.max_bytes),
            max_docs: config.batch.max_docs,
            max_age: config.batch.max_age.0,
        };
        Arc::new(Self {
            destinations,
            destination_of,
            limits,
            max_line_bytes: size(config.read.max_line_bytes),
            queue: Queue::default(),
            slots: Slots::new(open_files(config.read.max_open_files)),
            budget: Budget::new(config.batch.max_memory.0),
            spares: Arc::default(),
            host: parts.host,
            checkpoints: parts.checkpoints,
            first_start: parts.first_start,
            once: parts.once,
            files: parts.files,
            levels: parts.plans.iter().map(|_| Levels::default()).collect(),
            metrics: parts.metrics,
            health: parts.health,
            plans: parts.plans,
            reports: Mutex::default(),
            detected: Mutex::default(),
            watching: Mutex::default(),
            stopping: AtomicBool::new(false),
            stop_sleep: (Mutex::new(()), Condvar::new()),
            config,
        })
    }

    /// `file` has something to read: it gets in the queue, unless it is there, or being read, already.
    pub fn enqueue(&self, file: &Arc<File>) {
        // In this order a thread that just found the end sees either the file queued or `again` set.
        file.again.store(true, Ordering::SeqCst);
        if !file.queued.swap(true, Ordering::SeqCst) {
            file.again.store(false, Ordering::SeqCst);
            self.queue.push(Arc::clone(file));
        }
    }

    /// The pump has something to say to the follower. Never blocks: at most a few reports a file are waiting.
    pub fn report(&self, report: Report) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
    }

    /// Takes what the pump said.
    #[must_use]
    pub fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `on_watching` is told when the first scan is through.
    pub fn tell_watching(&self, on_watching: tokio::sync::oneshot::Sender<()>) {
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = Some(on_watching);
    }

    /// The first scan is through.
    pub fn watching(&self) {
        if let Some(sender) = self.watching.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Whoever asked may have gone: then nobody wants to know.
            let _ = sender.send(());
        }
    }

    /// Ends reading: what was read is still sent.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.queue.close();
        self.stop_sleep.1.notify_all();
    }

    /// Whether reading is to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits, but not longer than until the end.
    pub fn wait(&self, time: Duration) {
        let guard = self.stop_sleep.0.lock().unwrap_or_else(PoisonError::into_inner);
        let awaited = self.stop_sleep.1.wait_timeout_while(guard, time, |()| !self.is_stopping());
        drop(awaited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Now, in ns since 1970.
    #[must_use]
    pub fn wall_clock_ns(&self) -> i64 {
        self.files.now_ns()
    }

    /// Now, in s since 1970.
    #[must_use]
    pub fn wall_clock_s(&self) -> i64 {
        self.wall_clock_ns() / 1_000_000_000
    }

    /// Whether every line that was read has its outcome.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.checkpoints.totals().in_flight == 0
    }

    /// A new file.
    pub fn admit(&self, row: FileRow) {
        if let Err(error) = self.checkpoints.admit(row) {
            // Its id was free a moment ago: only the follower, one thread, mints.
            tracing::error!(error = %error, "a file could not be admitted to the ledger");
        }
    }

    /// A stretch of a file was read and is on its way.
    pub fn register(&self, run: &Run, last_time: Option<i64>) {
        if let Err(error) = self.checkpoints.read(run, last_time) {
            // A file is read by one thread at a time, from where the ledger stands: this would be a bug, and the
            // checkpoint does not move past it.
            let lines = self.checkpoints.file_totals(run.file).map(conservation::lines).unwrap_or_default();
            let file = Some((run.file, &*run.path));
            Unbalanced { file, lines, why: &error }.emit(&self.metrics);
        }
    }

    /// Where a file was seen.
    pub fn see(&self, id: FileId, path: &Arc<Path>, stat: &Stat) {
        let seen = Seen {
            path: Arc::clone(path),
            inode: stat.inode,
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            at: self.wall_clock_s(),
        };
        self.checkpoints.update_location(id, &seen);
    }

    /// Something could not be done and will be tried again.
    pub fn fault(&self, cause: FaultCause, doing: &'static str, subject: &Path, error: &dyn fmt::Display) {
        Fault { cause, doing, subject, error }.emit(&self.metrics);
    }

    /// The same for what the system said.
    pub fn io_fault(&self, cause: FaultCause, doing: &'static str, subject: &Path, error: &io::Error) {
        self.fault(if is_scarcity(error) { FaultCause::Descriptors } else { cause }, doing, subject, error);
    }

    /// Decides the format of a file from its first bytes, once for its life.
    pub fn decide_format(&self, file: &File, path: &Path, head: &[u8]) -> Arc<Format> {
        let detection = parse::detect(head);
        let text = serde_json::to_string(&detection.format).unwrap_or_default();
        let reason = &detection.reason;
        FormatDecided { path, file: file.id, format: &text, reason }.emit(&self.metrics);
        self.checkpoints.set_format(file.id, &text);
        self.compiled(file.source, &text, &detection.format)
    }

    /// The format that was decided in an earlier life, as [`Shared::decide_format`] stored it.
    #[must_use]
    pub fn stored_format(&self, source: usize, text: &str) -> Option<Arc<Format>> {
        if self.plans[source].format.is_some() {
            return None;
        }
        let format: config::Format = serde_json::from_str(text).ok()?;
        Some(self.compiled(source, text, &format))
    }

    /// Compiles a detected format, once for all files that have it.
    fn compiled(&self, source: usize, text: &str, format: &config::Format) -> Arc<Format> {
        let key = format!("{source} {text}");
        let mut detected = self.detected.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = detected.entry(key).or_insert_with(|| {
            let map = &self.plans[source].source.map;
            let text = || Format::compile(&config::Format::Text, map);
            // What detection offers compiles; plain text always does.
            Arc::new(Format::compile(format, map).or_else(|_| text()).expect("text compiles"))
        });
        Arc::clone(compiled)
    }
}

/// Whether descriptors are what is missing.
fn is_scarcity(error: &io::Error) -> bool {
    let scarce = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| scarce.contains(&code))
}

/// How many files may be held open: as configured, but never so many that nothing is left for connections and the store.
fn open_files(configured: usize) -> usize {
    const FOR_THE_REST: u64 = 64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    configured.min(usize::try_from(limit.saturating_sub(FOR_THE_REST)).unwrap_or(usize::MAX)).max(4)
}

/// Counts what settles on its way into the checkpoints.
#[derive(Debug)]
pub struct Counted {
    /// The checkpoints.
    pub checkpoints: Arc<Checkpoints>,
    /// The numbers.
    pub metrics: Metrics,
    /// Whether it moves.
    pub health: Health,
}

impl Progress for Counted {
    fn reserve<'a>(&'a self, runs: &'a [Run]) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.checkpoints.reserve(runs)
    }

    fn settle(&self, run: &Run, outcomes: Outcomes) {
        self.metrics.lines_settled(outcomes);
        self.checkpoints.settle(run, outcomes);
        self.health.beat(Stage::Checkpoint);
        if self.checkpoints.totals().in_flight == 0 {
            // Standing still is no fault from here on.
            self.health.idle(Stage::Index);
            self.health.idle(Stage::Checkpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_nobody_needed_for_a_while_is_given_back() {
        let spares = Spares::default();
        let spare = |bytes| Spare { body: Vec::with_capacity(bytes), ..Spare::default() };
        for bytes in [10, 20, 30] {
            spares.give(spare(bytes));
        }
        spares.trim();
        let (a, b) = (spares.take(), spares.take());
        assert_eq!((a.body.capacity(), b.body.capacity()), (30, 20));
        spares.give(b);
        spares.give(a);
        spares.trim();
        let left: Vec<_> = std::iter::repeat_with(|| spares.take().body.capacity()).take(3).collect();
        assert_eq!(left, [30, 20, 0]);
    }

    #[test]
    fn when_all_that_was_read_is_settled_there_is_no_work_and_idling_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::for_test(dir.path());
        let (checkpoints, _) = Checkpoints::open(&config.checkpoint, 100, |_| {}).unwrap();
        let metrics = Metrics::new("host");
        let health = Health::new(metrics.clone(), Duration::from_secs(60));
        let id = FileId([1; 8]);
        checkpoints.admit(testing::file_row(id, "/a.log")).unwrap();
        let run = testing::run_of(id, "/a.log", 0, 10, 1);
        health.beat(Stage::Read);
        metrics.lines_read(1, 10);
        checkpoints.read(&run, None).unwrap();
        health.beat(Stage::Index);
        health.idle(Stage::Read);
        assert!(health.has_work());
        let counted = Counted { checkpoints, metrics, health: health.clone() };
        counted.settle(&run, Outcomes { created: 1, ..Outcomes::default() });
        assert!(!health.has_work());
    }
}
