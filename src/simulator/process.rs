//! One life of the process: the stages as `pipeline::run` puts them together, but moved by hand and without threads.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Connection;
use super::dice::Dice;
use super::disk::{Disk, LetterBox, Store};
use super::files::Files;
use super::fixture::Fixture;
use super::history::Setup;
use super::world::Sent;
use crate::checkpoint::testing::Commit;
use crate::checkpoint::{Checkpoints, FileRow};
use crate::client::Cluster;
use crate::discover::watch::Hint;
use crate::index::{Deps, Indexer};
use crate::pipeline::events::Told;
use crate::pipeline::follow::Follower;
use crate::pipeline::pump::{Outlet, Pump};
use crate::pipeline::{Counted, Parts, Shared, origin};
use crate::record::Batch;
use crate::telemetry::Health;

const MS: Duration = Duration::from_millis(1);

/// What names of chunks begin with.
pub const CHUNKS: &str = "/logs/c";

/// How long a first start waits to hear whether the target is empty.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(3);

/// As much as may be sent by one step of a pump.
const BURST: usize = 8;

/// Batches that may wait, as in `pipeline::run`.
const BATCHES: usize = 2;

const COMMIT_EVERY: Duration = Duration::from_millis(200);
const COMMIT_RETRY: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(3);

/// A pump's outlet that notes what is handed on.
struct Noting {
    sender: mpsc::Sender<Batch>,
    sent: Arc<Mutex<Sent>>,
}

impl Outlet for Noting {
    fn has_room(&self) -> bool {
        self.sender.capacity() > BURST
    }

    fn send(&mut self, batch: Batch) {
        self.sent.lock().expect("one thread").note(&batch);
        // There is room: see `slice`. The stage may be gone, as the process is about to be.
        let _ = self.sender.try_send(batch);
    }
}

pub struct Process {
    shared: Arc<Shared>,
    files: Arc<Files>,
    checkpoints: Arc<Checkpoints>,
    rows: Option<Vec<FileRow>>,
    follower: Option<Follower>,
    pumps: Vec<Pump>,
    sender: Option<mpsc::Sender<Batch>>,
    indexing: Option<JoinHandle<()>>,
    cut: CancellationToken,
    prepared: Arc<AtomicBool>,
    /// When following begins, prepared or not.
    follow_at: Instant,
    commit: Option<(Instant, Commit)>,
    committed_at: Instant,
    failed: u64,
    hints: VecDeque<(Instant, Hint)>,
    stopping: Option<Instant>,
    flush: Option<JoinHandle<()>>,
    troubles: Arc<Mutex<Vec<String>>>,
    max_memory: u64,
}

impl Process {
    pub fn start(
        setup: &Setup,
        fixture: &Fixture,
        files: &Arc<Files>,
        store: Store,
        connection: Arc<Connection>,
        letters: Arc<LetterBox>,
        sent: Arc<Mutex<Sent>>,
    ) -> Self {
        let config = fixture.config(setup);
        let rows: Vec<FileRow> = store.rows.values().cloned().collect();
        let troubles = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&troubles);
        let on_trouble = move |trouble| {
            if let crate::checkpoint::Trouble::Refused { error, .. } = trouble {
                noted.lock().expect("one thread").push(format!("the ledger refused: {error}"));
            }
        };
        let checkpoints =
            Checkpoints::without_thread(store.meta, rows.clone(), config.checkpoint.reserve_ahead.0, on_trouble);
        let checkpoints = Arc::new(checkpoints);
        let metrics = fixture.metrics.clone();
        let health = Health::new(metrics.clone(), Duration::from_secs(3600));
        let first_start = rows.is_empty();
        let max_memory = config.batch.max_memory.0;
        let cfg = config.elasticsearch.clone();
        let parts = Parts {
            plans: Arc::clone(&fixture.plans),
            host: "host".to_owned(),
            checkpoints: Arc::clone(&checkpoints),
            first_start,
            once: false,
            files: Arc::clone(files) as Arc<dyn crate::filesystem::FileSystem>,
            metrics: metrics.clone(),
            health: health.clone(),
        };
        let shared = Shared::new(config, parts);
        let (sender, receiver) = mpsc::channel::<Batch>(BURST + BATCHES);
        let pump = |_| {
            let batches = Noting { sender: sender.clone(), sent: Arc::clone(&sent) };
            Pump::with(Arc::clone(&shared), Duration::ZERO, Box::new(batches))
        };
        let pumps = (0..setup.pumps).map(pump).collect();
        let instance = origin::instance("host", Path::new("/store"));
        let counted =
            Counted { checkpoints: Arc::clone(&checkpoints), metrics: metrics.clone(), health: health.clone() };
        let deps = Deps {
            client: Arc::clone(&connection) as Arc<dyn Cluster>,
            progress: Arc::new(counted),
            dead_letters: letters,
            events: Arc::new(Told { metrics, health, spares: Arc::clone(&shared.spares) }),
            instance: instance.clone(),
        };
        let indexer = Indexer::new(cfg, deps);
        let cut = CancellationToken::new();
        let prepared = Arc::new(AtomicBool::new(false));
        let ask_origin = checkpoints.doubtful_origin() && first_start;
        let now = Instant::now();
        let indexing = {
            let (cut, prepared, shared) = (cut.clone(), Arc::clone(&prepared), Arc::clone(&shared));
            tokio::spawn(async move {
                let mut ask = ask_origin;
                while ask {
                    match origin::targets_are_empty(&*connection, &shared.destinations, &instance).await {
                        Ok(empty) => {
                            if empty {
                                shared.checkpoints.trust_origin();
                            }
                            ask = false;
                        }
                        Err(_) => tokio::time::sleep(MS * 100).await,
                    }
                }
                prepared.store(true, Ordering::SeqCst);
                drop((shared, connection));
                indexer.run(receiver, cut).await;
            })
        };
        Self {
            shared,
            files: Arc::clone(files),
            checkpoints,
            rows: Some(rows),
            follower: None,
            pumps,
            sender: Some(sender),
            indexing: Some(indexing),
            cut,
            prepared,
            follow_at: now + if ask_origin { ORIGIN_PATIENCE } else { Duration::ZERO },
            commit: None,
            committed_at: now,
            failed: 0,
            hints: VecDeque::new(),
            stopping: None,
            flush: None,
            troubles,
            max_memory,
        }
    }

    /// Something seems to have happened; heard after `delay`, and after what happened before it.
    pub fn hint(&mut self, hint: Hint, delay: Duration) {
        let earliest = self.hints.back().map_or_else(Instant::now, |(at, _)| *at);
        self.hints.push_back((earliest.max(Instant::now() + delay), hint));
    }

    /// Asks it to end.
    pub fn stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(Instant::now());
            self.shared.stop();
            self.follower = None;
            self.rows = None;
        }
    }

    /// Lets every part do some of its work, in an order by chance. Returns whether the process goes on.
    pub fn slice(
        &mut self,
        dice: &mut Dice,
        disk: &mut Disk,
        sync_late: bool,
        on_commit: &mut dyn FnMut(&FileRow),
    ) -> bool {
        let turns = dice.next();
        for part in 0..4 {
            match (turns >> 8).wrapping_add(part) % 4 {
                0 => self.follow(disk),
                1 => self.pump(0, turns >> 16),
                2 => self.pump(1, turns >> 24),
                _ => self.commit(dice, disk, sync_late, on_commit),
            }
        }
        self.stopping.is_none() || !self.end()
    }

    fn follow(&mut self, disk: &Disk) {
        let now = Instant::now();
        if self.stopping.is_none()
            && (self.prepared.load(Ordering::SeqCst) || now >= self.follow_at)
            && let Some(rows) = self.rows.take()
        {
            let mut follower = Follower::new(Arc::clone(&self.shared), rows);
            follower.start().expect("one source claims each file");
            self.follower = Some(follower);
        }
        if let Some(follower) = &mut self.follower {
            let due = self.hints.iter().take_while(|(at, _)| *at <= now).count();
            let chunks = self.files.nodes_called(CHUNKS);
            follower.turn(self.hints.drain(..due).map(|(_, hint)| hint).collect());
            // Nobody else takes a chunk away.
            for (path, node) in chunks {
                if self.files.node(&path).is_none_or(|now| !Arc::ptr_eq(&now, &node)) && !disk.knows_all_of(&node) {
                    let wrong = format!("{} was taken away before its checkpoint was on disk", path.display());
                    self.troubles.lock().expect("one thread").push(wrong);
                }
            }
        }
    }

    fn pump(&mut self, number: usize, steps: u64) {
        let Some(sender) = &self.sender else { return };
        for _ in 0..=steps % 4 {
            if sender.capacity() < BURST || number >= self.pumps.len() {
                return;
            }
            let goes_on = self.pumps[number].step();
            let used = self.shared.budget.used();
            if used > self.max_memory {
                self.troubles.lock().expect("one thread").push(format!("batches take {used} of {}", self.max_memory));
            }
            if !goes_on {
                self.pumps.remove(number);
                return;
            }
        }
    }

    fn commit(&mut self, dice: &mut Dice, disk: &mut Disk, sync_late: bool, on_commit: &mut dyn FnMut(&FileRow)) {
        let now = Instant::now();
        match self.commit.take() {
            Some((at, commit)) if now >= at => {
                let result = if commit.changes().is_empty() { Ok(()) } else { disk.commit(commit.changes()) };
                if result.is_ok() {
                    commit.changes().rows.iter().for_each(on_commit);
                    if !sync_late {
                        disk.sync();
                    }
                } else if dice.chance(30) {
                    // A commit that failed may be on disk all the same.
                    disk.write(commit.changes());
                    commit.changes().rows.iter().for_each(on_commit);
                }
                self.checkpoints.end_commit(&commit, result, &mut self.failed);
                self.committed_at = now;
            }
            Some(commit) => self.commit = Some(commit),
            None => {
                let wait = if self.failed == 0 { COMMIT_EVERY } else { COMMIT_RETRY };
                let hurried = self.failed == 0 && self.checkpoints.is_hurried();
                if hurried || now >= self.committed_at + wait {
                    let takes = MS * u32::try_from(dice.range(0, 30)).unwrap_or(0);
                    self.commit = Some((now + takes, self.checkpoints.begin_commit()));
                }
            }
        }
    }

    /// One step of ending in order; whether it is over.
    fn end(&mut self) -> bool {
        let late = self.is_cut_off();
        if !self.prepared.load(Ordering::SeqCst)
            && let Some(indexing) = self.indexing.take()
        {
            indexing.abort();
        }
        if self.pumps.is_empty() || late {
            self.pumps.clear();
            self.sender = None;
        }
        if late {
            self.cut.cancel();
        }
        if self.sender.is_none() && self.indexing.as_ref().is_none_or(JoinHandle::is_finished) && self.flush.is_none() {
            let checkpoints = Arc::clone(&self.checkpoints);
            self.flush = Some(tokio::spawn(async move { checkpoints.flush(!late).await }));
        }
        self.flush.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Whether it was asked to end and took too long: requests are given up.
    pub fn is_cut_off(&self) -> bool {
        self.stopping.is_some_and(|since| Instant::now() >= since + GRACE)
    }

    /// Ends at once. A commit that was on its way is on disk or not.
    pub async fn kill(mut self, dice: &mut Dice, disk: &mut Disk, on_commit: &mut dyn FnMut(&FileRow)) {
        for task in [self.indexing.take(), self.flush.take()].into_iter().flatten() {
            task.abort();
            // It was aborted; a panic in it is the test's.
            if let Err(error) = task.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        if let Some((_, commit)) = self.commit.take()
            && dice.chance(50)
            && disk.commit(commit.changes()).is_ok()
        {
            commit.changes().rows.iter().for_each(on_commit);
            if dice.chance(50) {
                disk.sync();
            }
        }
    }

    /// Whether all that was read is settled and nothing is to be read.
    pub fn is_idle(&self) -> bool {
        self.shared.is_drained() && self.shared.queue.is_empty() && self.follower.is_some()
    }

    /// What is wrong now.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut *self.troubles.lock().expect("one thread"));
        wrong.extend(self.checkpoints.imbalances().into_iter().map(|imbalance| format!("conservation: {imbalance:?}")));
        wrong
    }

    pub fn describe(&self) -> String {
        let totals = self.checkpoints.totals();
        let waits: BTreeMap<_, _> = self.shared.health.waiting().into_iter().map(|w| (w.words, w.reason)).collect();
        format!("{totals:?}, {} files queued, waits for {waits:?}", self.shared.queue.len())
    }
}
