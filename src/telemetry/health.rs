//! Whether the process moves, and what it waits for.
//!
//! Stages beat when they get something done. Standing still is a fault only where there is work and nothing known is
//! waited for: an outage of Elasticsearch or a full disk is no reason to be killed. What the watchdog is told follows from
//! this alone, never from a timer of its own that would outlive a stuck pump.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::metrics::Metrics;
use super::names::HoldCause;
use super::said::{Said, Word};

/// Who beats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Lists and looks at files. Not part of the watchdog's decision: a network file system that hangs stops this stage
    /// alone, and a restart would hang there again and take the healthy sources with it.
    Discover,
    /// Reads, parses and encodes.
    Read,
    /// Sends, and judges answers.
    Index,
    /// Writes progress down.
    Checkpoint,
}

impl Stage {
    const COUNT: usize = 4;
    const PUMP: [Self; 3] = [Self::Read, Self::Index, Self::Checkpoint];
}

/// Shared by all stages; clones share everything.
#[derive(Clone, Debug)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    stuck_after: Duration,
    /// What [`Beat::at`] is relative to.
    start: Instant,
    phase: AtomicU8,
    beats: [Beat; Stage::COUNT],
    /// Bit `cause as u32` is set while `cause` holds: what is asked for each batch needs no lock.
    held: AtomicU64,
    holds: Mutex<Holds>,
    still: Mutex<Still>,
}

#[derive(Debug, Default)]
struct Beat {
    /// Milliseconds since the start.
    at: AtomicU64,
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct Holds {
    now: BTreeMap<HoldCause, (Instant, String)>,
    said: Said<HoldCause>,
}

#[derive(Debug, Default)]
struct Still {
    /// When work without a hold was first seen, in one stretch of looks that all saw it.
    since: Option<Instant>,
    /// Whether the last look said stuck.
    stuck: bool,
}

/// How far the process has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not all stages run.
    Starting,
    /// The configuration stands and the sources are watched.
    Running,
    /// What is on its way is being finished.
    Stopping,
}

/// Something that indexing waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Waiting {
    /// What, from a closed set.
    pub cause: &'static str,
    /// What, in words.
    #[serde(rename = "for")]
    pub words: &'static str,
    /// Why, as far as is known.
    pub reason: String,
    /// For how long.
    pub seconds: u64,
}

/// What `/readyz` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Readiness {
    /// Whether the process runs. A hold does not make it unready: files are the queue, and taking the process out of
    /// service would not help.
    pub ready: bool,
    /// How far it has come.
    pub phase: Phase,
    /// What indexing waits for.
    pub waiting: Vec<Waiting>,
}

/// What the watchdog looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pulse {
    /// Whether a stage has something to do, or lines are read and not settled.
    pub work: bool,
    /// Whether something known is waited for.
    pub held: bool,
    /// For how long nothing was done.
    pub still: Duration,
}

/// What it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The process moves, waits for something known, or has nothing to do.
    Alive,
    /// Nothing was done for so long, though there is work and nothing known to wait for.
    Stuck(Duration),
}

impl Pulse {
    /// The decision.
    #[must_use]
    pub fn judge(self, stuck_after: Duration) -> Verdict {
        if self.work && !self.held && self.still >= stuck_after { Verdict::Stuck(self.still) } else { Verdict::Alive }
    }
}

impl Health {
    /// Starting; stuck when nothing was done for `stuck_after`, which must exceed the longest that one step may take (see
    /// [`stuck_after`](Self::stuck_after)).
    #[must_use]
    pub fn new(metrics: Metrics, stuck_after: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                metrics,
                stuck_after,
                start: Instant::now(),
                phase: AtomicU8::new(0),
                beats: std::array::from_fn(|_| Beat::default()),
                held: AtomicU64::new(0),
                holds: Mutex::default(),
                still: Mutex::default(),
            }),
        }
    }

    /// A `stuck_after` under which a request that runs into its deadline is not yet standing still.
    #[must_use]
    pub fn stuck_after(request_timeout: Duration) -> Duration {
        request_timeout.saturating_mul(2).saturating_add(Duration::from_secs(30))
    }

    /// `stage` got something done and has, or may have, more to do.
    pub fn beat(&self, stage: Stage) {
        let beat = &self.inner.beats[stage as usize];
        beat.at.store(self.since_start(Instant::now()), Ordering::Relaxed);
        beat.busy.store(true, Ordering::Relaxed);
    }

    /// `stage` has nothing to do. Finishing is progress; being idle again and again is not, or a stage without work would
    /// vouch for one that is stuck.
    pub fn idle(&self, stage: Stage) {
        let beat = &self.inner.beats[stage as usize];
        if beat.busy.swap(false, Ordering::Relaxed) {
            beat.at.store(self.since_start(Instant::now()), Ordering::Relaxed);
        }
    }

    /// The configuration stands and the sources are watched.
    pub fn running(&self) {
        self.inner.phase.store(1, Ordering::Relaxed);
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.inner.phase.store(2, Ordering::Relaxed);
    }

    /// Indexing waits for `cause`, because of `reason`. To be called each time it is tried in vain: said at first, and then
    /// rarely.
    pub fn hold(&self, cause: HoldCause, reason: &str) {
        let now = Instant::now();
        let mut holds = self.holds();
        let (since, known) = holds.now.entry(cause).or_insert_with(|| (now, String::new()));
        let since = *since;
        if known != reason {
            reason.clone_into(known);
        }
        self.inner.held.fetch_or(1 << cause as u32, Ordering::Relaxed);
        self.inner.metrics.set_hold(cause, true);
        let seconds = now.saturating_duration_since(since).as_secs();
        match holds.said.say(cause, now) {
            Word::First => tracing::warn!(%cause, reason, "waiting for {}", cause.words()),
            Word::Again(tries) => tracing::warn!(%cause, reason, tries, seconds, "still waiting for {}", cause.words()),
            Word::Quiet => {}
        }
    }

    /// `cause` is over. Cheap where it does not hold: may be called for each batch.
    pub fn clear(&self, cause: HoldCause) {
        let bit = 1 << cause as u32;
        if self.inner.held.load(Ordering::Relaxed) & bit == 0 {
            return;
        }
        let mut holds = self.holds();
        let Some((since, _reason)) = holds.now.remove(&cause) else { return };
        self.inner.held.fetch_and(!bit, Ordering::Relaxed);
        self.inner.metrics.set_hold(cause, false);
        holds.said.forget(&cause);
        tracing::info!(%cause, seconds = since.elapsed().as_secs(), "no longer waiting for {}", cause.words());
    }

    /// What indexing waits for.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let now = Instant::now();
        let waiting = |(cause, (since, reason)): (&HoldCause, &(Instant, String))| Waiting {
            cause: cause.as_str(),
            words: cause.words(),
            reason: reason.clone(),
            seconds: now.saturating_duration_since(*since).as_secs(),
        };
        self.holds().now.iter().map(waiting).collect()
    }

    /// What `/readyz` answers.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let phase = match self.inner.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Stopping,
        };
        Readiness { ready: phase == Phase::Running, phase, waiting: self.waiting() }
    }

    /// What the watchdog and `/livez` are told. Whoever asks, asks often: time counts from the first look that saw work.
    pub fn verdict(&self) -> Verdict {
        self.verdict_at(Instant::now())
    }

    fn verdict_at(&self, now: Instant) -> Verdict {
        let (work, held) = (self.has_work(), self.inner.held.load(Ordering::Relaxed) != 0);
        let last_beat =
            Stage::PUMP.iter().map(|&stage| self.inner.beats[stage as usize].at.load(Ordering::Relaxed)).max();
        let last_beat = self.inner.start + Duration::from_millis(last_beat.unwrap_or_default());

        let mut still = self.inner.still.lock().unwrap_or_else(PoisonError::into_inner);
        let since = if work && !held { Some(*still.since.get_or_insert(now)) } else { None };
        still.since = since;
        let still_for = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since.max(last_beat)));
        let verdict = Pulse { work, held, still: still_for }.judge(self.inner.stuck_after);
        let stuck = verdict != Verdict::Alive;
        if stuck != std::mem::replace(&mut still.stuck, stuck) {
            let lines = self.inner.metrics.lines().in_flight;
            if stuck {
                tracing::error!(seconds = still_for.as_secs(), lines, "there is work and nothing moves");
            } else {
                tracing::info!(lines, "moving again");
            }
        }
        verdict
    }

    /// Whether something is being read, or was read and has no outcome yet.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let busy = |stage: &Stage| self.inner.beats[*stage as usize].busy.load(Ordering::Relaxed);
        Stage::PUMP.iter().any(busy) || self.inner.metrics.lines().in_flight > 0
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.inner.start).as_millis()).unwrap_or(u64::MAX)
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.inner.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn health() -> (Metrics, Health) {
        let metrics = Metrics::new("web-1");
        (metrics.clone(), Health::new(metrics, LIMIT))
    }

    #[test]
    fn only_work_without_a_known_wait_can_be_stuck() {
        let cases = [
            (true, false, LIMIT, Verdict::Stuck(LIMIT)),
            (true, false, LIMIT / 2, Verdict::Alive),
            (true, true, LIMIT * 100, Verdict::Alive),
            (false, false, LIMIT * 100, Verdict::Alive),
        ];
        for (work, held, still, expected) in cases {
            assert_eq!(Pulse { work, held, still }.judge(LIMIT), expected, "{work} {held} {still:?}");
        }
    }

    #[test]
    fn a_stage_that_stops_beating_with_work_is_stuck() {
        let (_metrics, health) = health();
        health.beat(Stage::Read);
        let now = Instant::now();
        assert_eq!(health.verdict_at(now), Verdict::Alive);
        assert!(matches!(health.verdict_at(now + LIMIT), Verdict::Stuck(_)));
        health.idle(Stage::Read);
        assert_eq!(health.verdict_at(now + 2 * LIMIT), Verdict::Alive);
    }

    #[test]
    fn lines_that_nobody_settles_are_work_though_all_stages_are_idle() {
        let (metrics, health) = health();
        metrics.lines_read(1, 10);
        let now = Instant::now();
        assert_eq!(health.verdict_at(now), Verdict::Alive);
        health.idle(Stage::Read);
        assert!(matches!(health.verdict_at(now + LIMIT), Verdict::Stuck(_)));
    }

    #[test]
    fn scans_do_not_vouch_for_the_pump_and_do_not_condemn_it() {
        let (metrics, health) = health();
        let now = Instant::now();
        health.beat(Stage::Discover);
        assert_eq!(health.verdict_at(now), Verdict::Alive);
        assert_eq!(health.verdict_at(now + 2 * LIMIT), Verdict::Alive, "a scan that hangs");
        metrics.lines_read(1, 10);
        assert_eq!(health.verdict_at(now + 2 * LIMIT), Verdict::Alive);
        health.beat(Stage::Discover);
        assert!(matches!(health.verdict_at(now + 3 * LIMIT), Verdict::Stuck(_)));
    }

    #[test]
    fn time_counts_from_the_first_look_that_saw_work_and_no_hold() {
        let (metrics, health) = health();
        let now = Instant::now();
        let long_after = now + 1000 * LIMIT;
        assert_eq!(health.verdict_at(now), Verdict::Alive);
        metrics.lines_read(1, 10);
        assert_eq!(health.verdict_at(long_after), Verdict::Alive, "work that has only just come");
        health.hold(HoldCause::Unreachable, "connection refused");
        assert_eq!(health.verdict_at(long_after + 10 * LIMIT), Verdict::Alive, "a known wait");
        health.clear(HoldCause::Unreachable);
        assert_eq!(health.verdict_at(long_after + 20 * LIMIT), Verdict::Alive, "a wait that has only just ended");
        assert!(matches!(health.verdict_at(long_after + 21 * LIMIT), Verdict::Stuck(_)));
    }

    #[test]
    fn a_hold_is_shown_until_it_is_cleared_and_leaves_the_process_ready() {
        let (metrics, health) = health();
        assert_eq!(health.readiness().phase, Phase::Starting);
        assert!(!health.readiness().ready);
        health.running();
        health.hold(HoldCause::Store, "no space left on device");
        health.hold(HoldCause::Store, "read-only file system");
        let readiness = health.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.waiting.len(), 1);
        assert_eq!(readiness.waiting[0].reason, "read-only file system");
        let text = String::from_utf8(metrics.prometheus_text().unwrap()).unwrap();
        assert!(text.contains("logweir_holds{cause=\"checkpoint_store\"} 1\n"), "{text}");
        health.clear(HoldCause::Store);
        health.clear(HoldCause::Store);
        assert_eq!(health.waiting(), []);
        health.stopping();
        assert!(!health.readiness().ready);
    }
}
