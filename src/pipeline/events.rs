//! What the index stage tells, turned into numbers, health and logs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::Spares;
use crate::batch::Spare;
use crate::index::dead_letter::Letter;
use crate::index::events::Events;
use crate::index::retry::Cause;
use crate::record::{Item, Outcomes};
use crate::telemetry::events::{BatchRetried, DeadLettered};
use crate::telemetry::{DocumentOutcome, Gauge, Health, HoldCause, Metrics, RetryCause, Stage};

/// Whoever is told.
#[derive(Debug)]
pub struct Told {
    /// Numbers.
    pub metrics: Metrics,
    /// Whether it moves, and what it waits for.
    pub health: Health,
    /// Where memory goes back to.
    pub spares: Arc<Spares>,
}

/// What is waited for while documents of a target are held for `cause` (an `error.type`, a status, or what failed).
fn waits_for(cause: &str) -> HoldCause {
    match cause {
        "401" | "403" | "security_exception" => HoldCause::Login,
        "dead_letters_full" | "dead_letters_io" => HoldCause::DeadLetters,
        "unclear" => HoldCause::Refused,
        _ => HoldCause::Target,
    }
}

impl Events for Told {
    fn bulk(&self, duration: Duration, bytes: u64, _documents: u64) {
        self.health.beat(Stage::Index);
        self.health.clear(HoldCause::Unreachable);
        self.metrics.bulk_answered(bytes, duration);
    }

    fn window(&self, requests: usize) {
        self.metrics.set(Gauge::Window, requests as u64);
    }

    fn settled(&self, outcomes: Outcomes, latency: Duration) {
        self.metrics.documents(DocumentOutcome::Created, outcomes.created);
        self.metrics.documents(DocumentOutcome::Duplicate, outcomes.duplicate);
        self.metrics.delivered(latency);
        if outcomes.created > 0 {
            self.health.clear(HoldCause::Overloaded);
        }
    }

    fn retry(&self, cause: Cause, documents: u64, delay: Duration, words: &str) {
        let (cause, hold) = match cause {
            Cause::NotSent => (RetryCause::Connection, Some(HoldCause::Unreachable)),
            Cause::Ambiguous => (RetryCause::Timeout, Some(HoldCause::Unreachable)),
            Cause::Refused => (RetryCause::TooManyRequests, Some(HoldCause::Overloaded)),
            Cause::Broken => (RetryCause::ServerError, Some(HoldCause::Overloaded)),
            Cause::TooLarge => (RetryCause::TooLarge, None),
            Cause::Held => (RetryCause::Held, None),
        };
        if let Some(hold) = hold {
            self.health.hold(hold, words);
        }
        BatchRetried { cause, documents, attempt: 0, delay, reason: &words }.emit(&self.metrics);
    }

    fn dead_lettered(&self, documents: u64, first: &Letter) {
        let (path, offset) = (Path::new(&first.path), first.offset);
        DeadLettered { documents, path, offset, error_type: &first.kind, reason: &first.reason }.emit(&self.metrics);
    }

    fn limiter_wait(&self, wait: Duration) {
        self.metrics.limiter_waited(wait);
    }

    fn hold(&self, target: &str, cause: &str, words: &str) {
        self.health.hold(waits_for(cause), &format!("{target}: {words}"));
    }

    fn released(&self, _target: &str) {
        for cause in [HoldCause::Login, HoldCause::DeadLetters, HoldCause::Refused, HoldCause::Target] {
            self.health.clear(cause);
        }
    }

    fn twins(&self, target: &str, documents: u64) {
        tracing::warn!(target, documents, "second copies were found in a younger index and deleted");
    }

    fn spare(&self, body: BytesMut, items: Vec<Item>) {
        self.spares.give(Spare { body: body.into(), items });
    }
}
