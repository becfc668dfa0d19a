//! Batches go to Elasticsearch, and every line gets its outcome: created, duplicate of ourselves, or dead-lettered.
//!
//! A batch keeps a permit and a task of its own until all its items have an outcome; what is left over is sent again,
//! for ever. Nothing is dropped: what somebody has to act on is held and told. Bodies are reserved before they are sent
//! (invariant 4), verdicts are per item (invariant 5), and a run is settled once. This module only moves data: decisions
//! are in [`verdict`], [`in_flight`] and [`retry`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Cluster;
use crate::config::{self, Compression};
use crate::record::{Batch, Outcomes, Progress, Run};
use dead_letter::Letters;
use events::Events;
use flight::Flight;
use holds::Holds;
use in_flight::InFlight;
use limit::Limit;
use sweep::Sweeps;
use tally::Tally;

pub mod dead_letter;
pub mod events;
mod flight;
mod gzip;
mod holds;
pub mod in_flight;
pub mod limit;
pub mod lookup;
pub mod reply;
pub mod retry;
mod sweep;
mod tally;
pub mod verdict;

/// The stage.
pub struct Indexer {
    shared: Arc<Shared>,
    in_flight: Arc<InFlight>,
}

/// What the stage works with.
pub struct Deps {
    /// Where documents go.
    pub client: Arc<dyn Cluster>,
    /// Who is asked before a line is sent, and told when it is settled.
    pub progress: Arc<dyn Progress>,
    /// Where refused documents go.
    pub dead_letters: Arc<dyn Letters>,
    /// Who is told what happens.
    pub events: Arc<dyn Events>,
    /// Names this installation in the cluster's tasks; the same after a restart, and after the loss of the store, so that
    /// requests of the process before are known as ours. Letters, digits, `-`, `_`.
    pub instance: String,
}

/// What all batches share.
struct Shared {
    deps: Deps,
    cfg: config::Elasticsearch,
    gzip: bool,
    limit: Limit,
    holds: Holds,
    /// Begins every `X-Opaque-Id` of this installation, and of this process.
    installation: String,
    process: String,
    started: Instant,
    sent: AtomicU64,
    /// The largest body that is tried; lowered by 413.
    max_body: AtomicUsize,
    /// When a document last passed, by target: evidence about refusals that could be the document's or the target's.
    passed: Mutex<HashMap<Arc<str>, Instant>>,
    sweeps: Sweeps,
}

impl Indexer {
    /// A stage for the configured cluster.
    #[must_use]
    pub fn new(cfg: config::Elasticsearch, deps: Deps) -> Self {
        let gzip = match cfg.compression {
            Compression::Auto => !deps.client.is_loopback(),
            Compression::Gzip => true,
            Compression::Off => false,
        };
        let in_flight = InFlight::new(cfg.max_in_flight);
        let installation = installation(&deps.instance);
        let process = format!("{installation}{:x}-", jiff::Timestamp::now().as_nanosecond());
        let limit = Limit::new(&cfg.rate_limit);
        let shared = Shared {
            deps,
            cfg,
            gzip,
            limit,
            holds: Holds::default(),
            installation,
            process,
            started: Instant::now(),
            sent: AtomicU64::new(0),
            max_body: AtomicUsize::new(usize::MAX),
            passed: Mutex::default(),
            sweeps: Sweeps::default(),
        };
        Self { shared: Arc::new(shared), in_flight }
    }

    /// Takes batches until the channel is closed and every batch has its outcomes, or until `stop`, which ends everything
    /// at once: what is on its way then stays unsettled.
    pub async fn run(self, mut batches: Receiver<Batch>, stop: CancellationToken) {
        let mut flights = JoinSet::new();
        // Dropped, and ended with that, when all batches are done.
        let mut sweeper = JoinSet::new();
        sweeper.spawn(sweep::run(Arc::clone(&self.shared)));
        let taken = stop.run_until_cancelled(async {
            loop {
                let permit = self.in_flight.acquire().await;
                while let Some(ended) = flights.try_join_next() {
                    check(ended);
                }
                let Some(batch) = batches.recv().await else { break };
                let tally = Tally::new(&batch, |run, outcomes| self.shared.settle(run, outcomes));
                if !batch.items.is_empty() {
                    let flight = Flight::new(Arc::clone(&self.shared), permit, batch, tally);
                    let stop = stop.clone();
                    flights.spawn(async move {
                        stop.run_until_cancelled(flight.run()).await;
                    });
                }
            }
        });
        taken.await;
        while let Some(ended) = flights.join_next().await {
            check(ended);
        }
    }
}

/// A batch whose task panicked would never be settled: better to end with it.
fn check(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

impl Shared {
    fn settle(&self, run: &Run, outcomes: Outcomes) {
        self.deps.progress.settle(run, outcomes);
        self.deps.events.settled(outcomes, run.read_at.elapsed());
    }

    /// Somebody has to act.
    fn hold(&self, target: &str, cause: &str, words: &str, looking_up: bool) {
        if self.holds.is_news(target, cause) {
            let words = format!("{words}{}", holds::advice(cause, looking_up));
            self.deps.events.hold(target, cause, &words);
        }
    }

    /// Documents of `target` were created.
    fn pass(&self, target: &Arc<str>) {
        let now = Instant::now();
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        match passed.get_mut(target) {
            Some(last) => *last = now,
            None => drop(passed.insert(Arc::clone(target), now)),
        }
    }

    /// Whether a document of `target` was created after `since`.
    fn passed_since(&self, target: &str, since: Instant) -> bool {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).get(target).is_some_and(|last| *last > since)
    }
}

/// What every `X-Opaque-Id` of the installation `instance` begins with.
#[must_use]
pub fn installation(instance: &str) -> String {
    format!("logweir-{instance}-")
}

/// Where bulk requests for `target` go: a pattern is no index, and its documents name theirs.
fn bulk_path(target: &str) -> String {
    if lookup::is_pattern(target) { "_bulk".to_owned() } else { format!("{target}/_bulk") }
}

#[cfg(test)]
mod tests;
