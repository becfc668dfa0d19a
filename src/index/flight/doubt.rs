//! What may be in the cluster already is looked up before it is sent again, as [`lookup`] says; this is what one batch does
//! of that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::lookup::{self, Lookup, LookupError};
use super::super::reply::ItemReply;
use super::super::retry::Cause;
use super::super::tally::Outcome;
use super::{Again, Fate, Flight, Noted};
use crate::client::SendError;
use crate::record::LineId;

/// A look-up is given at least this: one that never succeeds would stop the batch for ever.
const LEAST_LOOKUP_TIME: Duration = Duration::from_secs(10);
/// For so many deadlines, what a node that does not answer any more was sent is waited for: it may hang, and do it later.
const HANGING_DEADLINES: u32 = 10;

impl Flight {
    /// Something in doubt was created in another index than the one noted before the look-up, or not in the first one
    /// where there was none: between the two there was a rollover, and a copy may have landed in the one before.
    pub(super) fn landed_elsewhere(&self, reply: &ItemReply) -> bool {
        let Some(Noted(noted)) = &self.noted else { return false };
        reply.index.as_ref().is_some_and(|index| match noted {
            Some(noted) => index != noted,
            None => !lookup::is_first(index),
        })
    }

    /// Looks up every doubtful item until that works: found is a duplicate, what is not found is open.
    pub(super) async fn look_up(&mut self) {
        let doubtful: Vec<_> = (0..self.fates.len()).filter(|&index| self.fates[index] == Fate::Doubtful).collect();
        let before = self.batch.runs.iter().any(|run| run.doubtful);
        let found = loop {
            match self.find(&doubtful, before).await {
                Ok(found) => break found,
                Err(error) => self.wait_for_lookup(error).await,
            }
        };
        self.given_up.clear();
        self.given_up_at = None;
        self.hold_ends();
        self.delays.reset();
        let (there, missing): (Vec<_>, Vec<_>) = doubtful.into_iter().zip(found).partition(|(_, found)| *found);
        self.passed |= !there.is_empty();
        self.done(there.into_iter().map(|(index, _)| index), Outcome::Duplicate);
        missing.into_iter().for_each(|(index, _)| self.fates[index] = Fate::Open);
    }

    /// Whether each of `items` is in the cluster, its second copies deleted. `before`: also waits for requests of the
    /// process before this one.
    async fn find(&mut self, items: &[usize], before: bool) -> Result<Vec<bool>, LookupError> {
        let shared = Arc::clone(&self.shared);
        let deadline = shared.cfg.request_timeout.0.max(LEAST_LOOKUP_TIME);
        let lookup = Lookup::new(&*shared.deps.client, &self.batch.target, deadline);
        let of_before = |id: &str| before && id.starts_with(&shared.installation) && !id.starts_with(&shared.process);
        if before || !self.given_up.is_empty() {
            let ours = |id: &str| of_before(id) || self.given_up.iter().any(|(name, _)| name == id);
            lookup.quiet(None, ours).await?;
            let waits = |since: &Instant| since.elapsed() < deadline * HANGING_DEADLINES;
            self.owed |= !self.given_up.is_empty() || waits(&shared.started);
            let mut owing: BTreeSet<usize> = BTreeSet::new();
            if self.given_up_at.as_ref().is_some_and(waits) {
                owing.extend(self.given_up.iter().filter_map(|(_, node)| *node));
            }
            if before && waits(&shared.started) {
                // Any of them may owe an answer to the process before this one.
                owing.extend(0..shared.deps.client.nodes());
            }
            for node in owing {
                if let Err(error) = lookup.quiet_at(node, ours).await {
                    self.permit = None;
                    return Err(error);
                }
            }
        }
        if !lookup::is_pattern(&self.batch.target) {
            self.noted = Some(Noted(lookup.write_index().await?));
        }
        let ids: Vec<LineId> = items.iter().map(|&index| self.batch.items[index].id).collect();
        let places = lookup.find(&ids).await?;
        let twins = lookup.delete_younger(&places).await?;
        if twins > 0 {
            shared.deps.events.twins(&self.batch.target, twins as u64);
        }
        Ok(ids.iter().map(|id| places.contains_key(id)).collect())
    }

    /// Looks once more, a deadline later, for second copies of what was created.
    pub(super) async fn look_again(&mut self, items: Vec<usize>) {
        tokio::time::sleep(self.shared.cfg.request_timeout.0).await;
        while let Err(error) = self.find(&items, false).await {
            self.wait_for_lookup(error).await;
        }
        self.done(items, Outcome::Created);
    }

    async fn wait_for_lookup(&mut self, error: LookupError) {
        let cause = match &error {
            LookupError::Send(SendError::NotSent { .. }) => Cause::NotSent,
            LookupError::Send(SendError::Ambiguous { .. }) => Cause::Ambiguous,
            LookupError::Refused { status: 429, .. } => Cause::Refused,
            LookupError::Refused { status: 500.., .. } => Cause::Broken,
            LookupError::Refused { status, .. } => {
                self.shared.hold(&self.batch.target, &status.to_string(), &error.to_string(), true);
                Cause::Held
            }
        };
        self.pause(&Again::new(cause, error.to_string())).await;
    }
}
