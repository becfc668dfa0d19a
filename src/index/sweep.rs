//! What was created after a doubt is looked for again, later, and second copies are deleted.
//!
//! A look-up is told by the cluster that nothing of ours is running. A node that hangs can prove that wrong: what it was
//! given (by us, or by a node that worked for us) it may do when it goes on, long after another took its place, and after a
//! rollover its copy lands beside ours. Nothing that is sent can prevent that, so it is mended: several deadlines later, as
//! often as [`LATER`] says. Documents are there and settled meanwhile; a process that ends early leaves this undone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::lookup::Lookup;
use crate::record::LineId;

/// When, in deadlines after the documents were created.
const LATER: [u32; 4] = [1, 3, 10, 30];

/// Ids that wait at most: 6 MiB. A cluster that leaves more in doubt is looked at for the newest of them.
const MAX_IDS: usize = 1 << 18;

/// Some documents of one target.
#[derive(Debug)]
struct Sweep {
    target: Arc<str>,
    ids: Vec<LineId>,
    created: Instant,
    /// Index into [`LATER`].
    round: usize,
}

/// What is to be looked for later.
#[derive(Debug, Default)]
pub(super) struct Sweeps(Mutex<VecDeque<Sweep>>);

impl Sweeps {
    /// These documents were created although a request of ours may still be on its way to do so.
    pub(super) fn add(&self, target: &Arc<str>, ids: Vec<LineId>) {
        self.push(Sweep { target: Arc::clone(target), ids, created: Instant::now(), round: 0 });
    }

    fn push(&self, sweep: Sweep) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(sweep);
        let mut ids: usize = waiting.iter().map(|sweep| sweep.ids.len()).sum();
        while ids > MAX_IDS && waiting.len() > 1 {
            ids -= waiting.pop_front().map_or(0, |sweep| sweep.ids.len());
        }
    }

    fn take_due(&self, deadline: Duration) -> Option<Sweep> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |sweep: &Sweep| sweep.created.elapsed() >= deadline * LATER[sweep.round];
        waiting.iter().position(due).and_then(|index| waiting.remove(index))
    }
}

/// Looks for second copies for as long as it is not dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let deadline = shared.cfg.request_timeout.0;
    loop {
        // Nothing here is urgent, and most of the time there is nothing at all.
        tokio::time::sleep(deadline.max(Duration::from_millis(1))).await;
        while let Some(mut sweep) = shared.sweeps.take_due(deadline) {
            let lookup = Lookup::new(&*shared.deps.client, &sweep.target, deadline);
            let swept = async { lookup.delete_younger(&lookup.find(&sweep.ids).await?).await };
            match swept.await {
                Ok(0) => {}
                Ok(twins) => shared.deps.events.twins(&sweep.target, twins as u64),
                // Flights say what is wrong with the cluster; the next round may do it.
                Err(_) => {}
            }
            sweep.round += 1;
            if sweep.round < LATER.len() {
                shared.sweeps.push(sweep);
            }
        }
    }
}
