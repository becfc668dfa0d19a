//! Which lines of a batch have their outcome: a run is settled once, when its last line has one.

use crate::record::{Batch, Outcomes, Run};

/// How a document ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Duplicate,
    DeadLettered,
}

/// The count for each run of a batch.
#[derive(Debug)]
pub(super) struct Tally {
    runs: Vec<Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    left: u64,
    outcomes: Outcomes,
}

impl Tally {
    /// Counts what is to come, and hands runs that have no document at all to `settle`.
    pub(super) fn new(batch: &Batch, mut settle: impl FnMut(&Run, Outcomes)) -> Self {
        let mut runs: Vec<Count> = batch
            .runs
            .iter()
            .map(|run| Count { left: 0, outcomes: Outcomes { skipped: run.skipped, ..Outcomes::default() } })
            .collect();
        for item in &batch.items {
            runs[item.run as usize].left += 1;
        }
        for (run, count) in batch.runs.iter().zip(&runs) {
            debug_assert_eq!(count.left + run.skipped, run.lines, "every line is an item or skipped");
            if count.left == 0 {
                settle(run, count.outcomes);
            }
        }
        Self { runs }
    }

    /// A document of run `index` ended; returns the outcomes of all its lines if it was the last.
    pub(super) fn add(&mut self, index: u32, outcome: Outcome) -> Option<Outcomes> {
        let count = &mut self.runs[index as usize];
        match outcome {
            Outcome::Created => count.outcomes.created += 1,
            Outcome::Duplicate => count.outcomes.duplicate += 1,
            Outcome::DeadLettered => count.outcomes.dead_lettered += 1,
        }
        count.left -= 1;
        (count.left == 0).then_some(count.outcomes)
    }
}
