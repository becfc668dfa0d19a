//! The follower: one thread that knows which files there are, which of them are which, and which have something to read.
//!
//! It hears hints and lists globs, decides identities by [`crate::discover::identity`], hands files to the pump's queue,
//! and settles the fate of files that were read to their end. It never reads lines and never waits for Elasticsearch.

mod finished;
mod missing;
mod scanning;
mod telling;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
pub use scanning::Claimed;
use scanning::{Listed, SAFETY_SHARE, Scanning};

use super::files::{File, Marks};
use super::plan::Plan;
use crate::checkpoint::FileRow;
use crate::config::Mode;
use crate::discover::watch::{Hint, Watcher};
use crate::filesystem::Stat;
use crate::read::Compression;
use crate::record::{FileId, Position};
use crate::telemetry::events::{FileDiscovered, FileRotated};
use crate::telemetry::{FaultCause, Gauge};

/// How often small things are looked at: reports of the pump, files that stand still, files that are done.
const TICK: Duration = Duration::from_millis(100);

/// The same where the end of all work is waited for.
const ONCE_TICK: Duration = Duration::from_millis(5);

/// A file whose last change is longer ago than this when it is first seen is part of the backlog.
const BACKLOG_AGE_NS: i64 = 60_000_000_000;

/// Files at their end that were not read for so long give their descriptor back when descriptors are scarce.
const IDLE: Duration = Duration::from_secs(60);

/// For so long, what is said of a name may be about the file that had it before.
const FREED: Duration = Duration::from_secs(10);

/// Why a file is another one now.
const REWRITTEN: &str = "the bytes that were read are not there any more";

/// What the pump has to say of a file.
#[derive(Debug)]
pub enum Report {
    /// The bytes before the cursor are not those that were read.
    Replaced(FileId),
    /// Its path leads to another file now, or nowhere.
    Moved(FileId),
    /// The system refuses to open or read it.
    Unreadable(FileId, io::Error),
    /// It is complete and was read to its end.
    Finished(FileId),
}

/// A physical file, as long as it is there.
#[derive(Debug)]
struct Physical {
    path: Arc<Path>,
    source: usize,
    /// Of `path`.
    listed: Listed,
    stat: Stat,
    /// Since when `stat` is what it is.
    still_since: Instant,
    first_seen: Instant,
    /// Since when it has no name any more.
    gone_since: Option<Instant>,
    /// A writer closed it or moved it in.
    closed: bool,
    what: What,
}

impl Physical {
    /// Whether there is nothing to be looked at as long as the system says of it what it said last.
    fn stands_still(&self) -> bool {
        self.gone_since.is_none()
            && match &self.what {
                What::File(file) => {
                    Compression::of(&self.path) != Compression::None
                        || self.stat.size >= file.read_to.load(Ordering::Relaxed)
                }
                What::Copy(_) | What::Ignored => true,
                What::Nameless | What::Unreadable => false,
            }
    }
}

/// What a physical file is.
#[derive(Debug)]
enum What {
    /// Not told yet: its first line is not complete, or it may still be copied to, or it could not be read.
    Nameless,
    /// The file that carries an identity.
    File(Arc<File>),
    /// A copy of what another physical file carries.
    Copy(Box<Copy>),
    /// The system refuses to open or read it: tried again at every scan.
    Unreadable,
    /// Older than `ignore_older`.
    Ignored,
}

/// What a copy is of.
#[derive(Debug)]
struct Copy {
    of: FileId,
    /// Sizes of the other and of this one when they were compared.
    compared: (u64, u64),
}

/// A file that is known, by its first line and by how far it was read.
#[derive(Debug)]
struct Identity {
    /// The source that first read it, if there still is one of that name.
    source: Option<usize>,
    inode: u64,
    birth_ns: i64,
    head: (u32, u64),
    position: Position,
    marks: Marks,
    doubt_end: u64,
    format: Option<Arc<str>>,
    last_time: Option<i64>,
    file: Option<Arc<File>>,
    missing_scans: u32,
    last_seen_s: i64,
}

impl Identity {
    /// What a row says of a file, whether it was just minted or comes from the store.
    fn of(row: &FileRow, plans: &[Plan]) -> Self {
        Self {
            source: plans.iter().position(|plan| *plan.source.name == *row.source),
            inode: row.inode,
            birth_ns: row.birth_ns,
            head: (row.head_len, row.head_hash),
            position: row.position,
            marks: Marks::default(),
            doubt_end: row.doubt().map_or(0, |doubt| doubt.end),
            format: row.format.clone(),
            last_time: row.last_time_ns,
            file: None,
            missing_scans: 0,
            last_seen_s: row.last_seen,
        }
    }
}

/// The follower's state.
pub struct Follower {
    shared: Arc<Shared>,
    watcher: Option<Watcher>,
    hints: Option<Receiver<Hint>>,
    // Ordered, so that what is looked at first does not depend on chance; in boxes, because nodes are never full.
    physical: BTreeMap<(u64, u64), Box<Physical>>,
    paths: HashMap<Arc<Path>, (u64, u64)>,
    identities: BTreeMap<FileId, Box<Identity>>,
    /// All identities by their heads.
    by_head: BTreeSet<((u32, u64), FileId)>,
    finished: BTreeSet<FileId>,
    /// Files without a name that are held open until they are read, with the bytes that are not.
    held: HashMap<FileId, u64>,
    /// Physical files whose state depends on time: see [`Follower::look_at_waiting`].
    waiting: BTreeSet<(u64, u64)>,
    /// Directories that could be listed last time but are not watched: polled.
    unwatched: BTreeSet<PathBuf>,
    scans: u64,
    /// Files that this turn took in.
    discovered: u64,
    /// When it was made, by the steady clock and by that of the files.
    began: (Instant, i64),
    next_scan: Instant,
    next_poll: Instant,
    next_lag: Instant,
    /// Bytes that are not settled are not added up before this.
    lag_rested: Instant,
    next_idle: Instant,
    /// No file is deleted or archived before this.
    next_done: Instant,
    /// No scan before this, whatever hints say.
    rested: Instant,
    /// Names that files lost lately.
    freed: HashMap<Arc<Path>, Instant>,
    scanning: Option<Scanning>,
    /// Something changed since all was settled.
    lags: bool,
    /// How many files there were when bytes that are not settled were added up last.
    measured_files: usize,
}

impl Follower {
    /// A follower that knows the files of `rows`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, rows: Vec<FileRow>) -> Self {
        let (watcher, hints) = if shared.config.read.notify {
            match Watcher::new() {
                Ok((watcher, hints)) => (Some(watcher), Some(hints)),
                Err(error) => {
                    shared.fault(FaultCause::Watches, "watch", &error.directory, &error.reason);
                    (None, None)
                }
            }
        } else {
            (None, None)
        };
        let now = Instant::now();
        let began = (now, shared.wall_clock_ns());
        let mut follower = Self {
            shared,
            watcher,
            hints,
            physical: BTreeMap::new(),
            paths: HashMap::new(),
            identities: BTreeMap::new(),
            by_head: BTreeSet::new(),
            finished: BTreeSet::new(),
            held: HashMap::new(),
            waiting: BTreeSet::new(),
            unwatched: BTreeSet::new(),
            scans: 0,
            discovered: 0,
            began,
            next_scan: now,
            next_poll: now,
            next_lag: now,
            lag_rested: now,
            measured_files: 0,
            next_idle: now,
            next_done: now,
            rested: now,
            freed: HashMap::new(),
            scanning: None,
            lags: true,
        };
        for row in rows {
            follower.remember(&row);
        }
        follower
    }

    fn remember(&mut self, row: &FileRow) {
        let identity = Box::new(Identity::of(row, &self.shared.plans));
        self.by_head.insert((identity.head, row.id));
        self.identities.insert(row.id, identity);
    }

    fn ids_of_head(&self, head: (u32, u64)) -> Vec<FileId> {
        let all = (head, FileId([0; 8]))..=(head, FileId([u8::MAX; 8]));
        self.by_head.range(all).map(|(_, id)| *id).collect()
    }

    /// Follows until the pipeline stops; with [`Shared::once`], until all there is was read and settled. Returns how many files
    /// could not be read at the end.
    ///
    /// # Errors
    /// A file that two sources claim at the first scan.
    pub fn run(mut self) -> Result<usize, Claimed> {
        self.start()?;
        while !self.shared.is_stopping() {
            let hints = self.wait_for_hints();
            self.turn(hints);
            if self.shared.once && self.is_all_done() {
                break;
            }
        }
        // What is on its way is settled now: what is told of the end is how it is then.
        let patience = Instant::now() + self.shared.config.shutdown.grace_period.0;
        while !self.shared.is_drained() && Instant::now() < patience {
            std::thread::sleep(ONCE_TICK);
        }
        self.count_files();
        self.add_up_lag();
        Ok(self.physical.values().filter(|physical| matches!(physical.what, What::Unreadable)).count())
    }

    /// The first scan.
    ///
    /// # Errors
    /// A file that two sources claim.
    pub(crate) fn start(&mut self) -> Result<(), Claimed> {
        self.scan()?;
        self.sum_up();
        self.shared.watching();
        Ok(())
    }

    /// Does what is due, and what `hints` and the pump say.
    pub(crate) fn turn(&mut self, hints: Vec<Hint>) {
        self.hear(hints);
        self.take_reports();
        let now = Instant::now();
        let lost = self.watcher.as_ref().is_some_and(Watcher::take_lost);
        if lost {
            // Among them may have been that a directory was made anew.
            if let Some(watcher) = &mut self.watcher {
                watcher.forget_all();
            }
            self.next_scan = now;
        }
        if now >= self.next_scan && now >= self.rested {
            // Later claims are reported by the scan itself; the first source keeps the file.
            if let Err(claimed) = self.scan() {
                self.shared.fault(FaultCause::Scan, "claim", &claimed.path, &claimed);
            }
        } else if now >= self.next_poll {
            self.poll();
        }
        self.look_at_waiting();
        self.settle_finished();
        if now >= self.next_lag {
            self.next_lag = now + Duration::from_secs(1);
            self.measure_lag();
            self.shared.spares.trim();
        }
        if now >= self.next_idle {
            self.next_idle = now + IDLE / 6;
            self.close_idle();
        }
        self.sum_up();
    }

    fn sum_up(&mut self) {
        FileDiscovered::emit_sum(std::mem::take(&mut self.discovered));
    }

    /// Waits for hints for one tick; returns early so that what they say is acted on at once.
    fn wait_for_hints(&mut self) -> Vec<Hint> {
        let tick = if self.shared.once { ONCE_TICK } else { TICK };
        let Some(hints) = &self.hints else {
            self.shared.wait(tick);
            return Vec::new();
        };
        match hints.recv_timeout(tick) {
            Ok(hint) => std::iter::once(hint).chain(hints.try_iter()).collect(),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => {
                (self.watcher, self.hints) = (None, None);
                Vec::new()
            }
        }
    }

    fn hear(&mut self, hints: Vec<Hint>) {
        let mut changed: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for hint in hints {
            match hint {
                Hint::Changed(path) => {
                    changed.entry(path).or_insert(false);
                }
                Hint::Completed(path) => {
                    changed.insert(path, true);
                }
                Hint::Names => self.next_scan = Instant::now(),
                Hint::Gone(path) => {
                    // A scan may have met a new directory of this name before this was heard.
                    if self.watcher.as_mut().is_some_and(|watcher| watcher.forget(&path)) {
                        self.next_scan = Instant::now();
                    }
                }
            }
        }
        for (path, closed) in changed {
            self.hinted(&path, closed);
        }
    }

    fn hinted(&mut self, path: &Path, closed: bool) {
        let known = self.paths.get(path).and_then(|key| self.physical.get(key)).map(|physical| physical.source);
        let source = known.or_else(|| self.shared.plans.iter().position(|plan| plan.globs.matches(path)));
        let Some(source) = source else { return };
        // That a writer closed it may have been said late, of the file that had this name before.
        let closed = closed && self.freed.get(path).is_none_or(|at| at.elapsed() >= FREED);
        match self.shared.files.stat(path) {
            Ok(stat) if stat.is_file() => self.observe(path, stat, source, closed),
            // Gone again: the scan that the same change asks for tells what became of it.
            _ => self.next_scan = Instant::now(),
        }
    }

    /// Takes note of a file that is there.
    fn observe(&mut self, path: &Path, stat: Stat, source: usize, closed: bool) {
        let now = Instant::now();
        let key = stat.key();
        let Some(physical) = self.physical.get_mut(&key) else {
            self.lags = true;
            let path: Arc<Path> = path.into();
            self.paths.insert(Arc::clone(&path), key);
            let physical = Physical {
                path,
                source,
                listed: Listed::default(),
                stat,
                still_since: now,
                first_seen: now,
                gone_since: None,
                closed,
                what: What::Nameless,
            };
            self.physical.insert(key, Box::new(physical));
            self.look_at(key);
            return;
        };
        let mut path = path;
        let first_path = Arc::clone(&physical.path);
        if *first_path != *path {
            // A hard or symbolic link is a second name, which stays without one; a rename is the only one.
            if self.shared.files.stat(&first_path).is_ok_and(|stat| stat.key() == key) {
                path = &first_path;
            } else {
                self.renamed(key, path);
            }
        }
        let Some(physical) = self.physical.get_mut(&key) else { return };
        let reborn = physical.stat.birth_ns != stat.birth_ns;
        let changed = physical.stat != stat;
        if changed {
            self.lags = true;
            physical.still_since = now;
        }
        physical.stat = stat;
        let came_back = physical.gone_since.take().is_some();
        physical.closed = closed || (physical.closed && !changed);
        match &physical.what {
            What::File(file) => {
                let file = Arc::clone(file);
                file.size.store(stat.size, Ordering::Relaxed);
                if came_back {
                    // It can be appended to again: see `deleted`.
                    file.lock().complete = false;
                    self.held.remove(&file.id);
                }
                let packed = Compression::of(path) != Compression::None;
                if reborn {
                    self.replaced(&file, "its inode was given to a new file");
                } else if !packed && stat.size < file.read_to.load(Ordering::Relaxed) {
                    self.replaced(&file, "it became shorter than what was read");
                } else if changed || came_back {
                    self.grown(key, &file);
                }
            }
            What::Unreadable => self.look_at(key),
            What::Nameless if self.scanning.is_some() => self.look_at(key),
            _ if changed || closed => self.look_at(key),
            _ => {}
        }
    }

    /// A physical file has another path now.
    fn renamed(&mut self, key: (u64, u64), path: &Path) {
        let Some(physical) = self.physical.get_mut(&key) else { return };
        // Another file may have taken its name already.
        if self.paths.get(&physical.path) == Some(&key) {
            self.paths.remove(&physical.path);
        }
        let path: Arc<Path> = path.into();
        self.paths.insert(Arc::clone(&path), key);
        let old = std::mem::replace(&mut physical.path, Arc::clone(&path));
        if let What::File(file) = &physical.what {
            file.lock().path = Arc::clone(&path);
            FileRotated { path: &old, to: &path, file: file.id }.emit(&self.shared.metrics);
            self.shared.see(file.id, &path, &physical.stat);
        }
    }

    /// A file that is followed has changed.
    fn grown(&mut self, key: (u64, u64), file: &Arc<File>) {
        let Some(physical) = self.physical.get(&key) else { return };
        if self.waits_for_completion(physical) {
            if !self.is_complete(physical) {
                self.waiting.insert(key);
                return;
            }
            file.lock().complete = true;
        }
        self.shared.enqueue(file);
    }

    /// Chunks, and compressed files in any mode, are read when they are complete.
    fn waits_for_completion(&self, physical: &Physical) -> bool {
        self.shared.plans[physical.source].source.mode == Mode::Chunks
            || Compression::of(&physical.path) != Compression::None
    }

    fn is_complete(&self, physical: &Physical) -> bool {
        let settle = self.shared.config.read.settle_time.0;
        physical.closed
            || physical.still_since.elapsed() >= settle
            || self.age_ns(physical.stat.mtime_ns) >= i128::try_from(settle.as_nanos()).unwrap_or(i128::MAX)
    }

    /// How long ago a file was changed, in ns; less than 0 where its time is yet to come. A clock that jumps ahead while
    /// this runs makes no file older: one that was written a moment ago would be taken for complete.
    fn age_ns(&self, mtime_ns: i64) -> i128 {
        let (began, began_ns) = self.began;
        let steady_ns = i128::from(began_ns) + i128::try_from(began.elapsed().as_nanos()).unwrap_or_default();
        steady_ns.min(i128::from(self.shared.wall_clock_ns())) - i128::from(mtime_ns)
    }

    fn take_reports(&mut self) {
        for report in self.shared.take_reports() {
            match report {
                Report::Finished(id) => {
                    self.finished.insert(id);
                }
                Report::Replaced(id) => {
                    if let Some(file) = self.identities.get(&id).and_then(|identity| identity.file.clone()) {
                        self.replaced(&file, REWRITTEN);
                    }
                }
                Report::Moved(id) => {
                    self.next_scan = Instant::now();
                    // It left the queue unread: that it has another name is no change that would bring it back.
                    if let Some(file) = self.identities.get(&id).and_then(|identity| identity.file.clone()) {
                        let key = file.lock().key;
                        self.waiting.insert(key);
                    }
                }
                Report::Unreadable(id, error) => {
                    if let Some(file) = self.identities.get(&id).and_then(|identity| identity.file.clone()) {
                        let (path, key) = {
                            let state = file.lock();
                            (Arc::clone(&state.path), state.key)
                        };
                        self.waiting.insert(key);
                        if error.kind() == io::ErrorKind::NotFound {
                            self.next_scan = Instant::now();
                        } else {
                            self.shared.io_fault(FaultCause::Read, "read", &path, &error);
                        }
                    }
                }
            }
        }
    }

    /// Files whose state depends on time: those that stand still until they are complete, those too short to be told, and
    /// copies whose original has moved on.
    fn look_at_waiting(&mut self) {
        for key in std::mem::take(&mut self.waiting) {
            let Some(physical) = self.physical.get(&key) else { continue };
            match &physical.what {
                What::Nameless => self.look_at(key),
                What::Copy(copy) => {
                    let original = self.identities.get(&copy.of).and_then(|identity| identity.file.as_ref());
                    let now = original.map(|file| (file.size.load(Ordering::Relaxed), physical.stat.size));
                    if now == Some(copy.compared) {
                        self.waiting.insert(key);
                    } else {
                        self.look_at(key);
                    }
                }
                What::File(file) => {
                    let file = Arc::clone(file);
                    self.grown(key, &file);
                }
                What::Unreadable | What::Ignored => {}
            }
        }
    }

    /// Bytes on disk that are not settled yet.
    fn measure_lag(&mut self) {
        self.count_files();
        let began = Instant::now();
        // Of very many files that stand still nothing is new; to add them all up takes milliseconds.
        let files = self.physical.len();
        if (self.lags || files != self.measured_files) && began >= self.lag_rested {
            self.measured_files = files;
            self.add_up_lag();
            self.lag_rested = began + began.elapsed() * SAFETY_SHARE;
        }
    }

    fn count_files(&self) {
        self.shared.metrics.set(Gauge::HeldDeleted, self.held.values().sum());
        self.shared.metrics.set(Gauge::WatchedFiles, self.physical.len() as u64);
    }

    fn add_up_lag(&mut self) {
        let mut lag = 0;
        let mut of_sources = vec![(0, 0); self.shared.levels.len()];
        for (id, identity) in &self.identities {
            let Some(file) = &identity.file else { continue };
            let size = file.size.load(Ordering::Relaxed);
            let settled = self.shared.checkpoints.position(*id).map_or(0, |position| position.offset);
            let behind = size.saturating_sub(settled);
            lag += behind;
            let (of_source, files) = &mut of_sources[file.source];
            *of_source += behind;
            *files += 1;
        }
        for (levels, (lag, files)) in self.shared.levels.iter().zip(of_sources) {
            levels.lag.store(lag, Ordering::Relaxed);
            levels.files.store(files, Ordering::Relaxed);
        }
        self.shared.metrics.set(Gauge::Lag, lag);
        self.lags = lag > 0;
    }

    /// Gives descriptors of idle files back when they are scarce.
    fn close_idle(&self) {
        if self.shared.slots.has_room() {
            return;
        }
        for file in self.identities.values().filter_map(|identity| identity.file.as_ref()) {
            let mut state = file.lock();
            if state.end.is_some() && state.open.as_ref().is_some_and(|open| open.used.elapsed() > IDLE) {
                state.open = None;
            }
        }
    }

    /// With `--once`: whether everything that is there was read and settled.
    fn is_all_done(&self) -> bool {
        // Asked often, and of many files.
        if !(self.finished.is_empty() && self.shared.is_drained()) {
            return false;
        }
        let idle = self.physical.values().all(|physical| match &physical.what {
            // Without its first line complete it has nothing to give; else it is about to be told.
            What::Nameless => {
                physical.stat.size == 0 || (!self.waits_for_completion(physical) && self.is_complete(physical))
            }
            What::File(file) => {
                !file.queued.load(Ordering::Acquire) && file.lock().end.is_some() && {
                    !self.waits_for_completion(physical) || file.lock().complete
                }
            }
            What::Copy(_) | What::Unreadable | What::Ignored => true,
        });
        let is_nameless = |key| self.physical.get(key).is_some_and(|physical| matches!(physical.what, What::Nameless));
        let scan_is_due = Instant::now() >= self.next_scan;
        idle && !scan_is_due
            && !self.waiting.iter().any(is_nameless)
            // What was read since is on its way.
            && self.shared.is_drained()
    }
}
