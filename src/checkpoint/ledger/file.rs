//! One file in the ledger: its row, and behind the checkpoint the queue of what was read.

use std::collections::VecDeque;

use crate::record::{Outcomes, Position, Span};
use crate::simulated::{Bug, put_back};

use super::super::row::FileRow;
use super::{MAX_OFFSET, Totals};

#[derive(Debug)]
pub(super) struct File {
    pub row: FileRow,
    /// What was read and is not settled, in a box, because of very many files few are being read; `None` where all is.
    pub flight: Option<Box<Flight>>,
    /// End of the last span read; the checkpoint if there is none.
    pub read: u64,
    /// Lines read.
    pub lines: u64,
    /// The reservation that is certainly on disk.
    pub durable: u64,
    /// The checkpoint that is certainly on disk; `None` until the row is.
    pub committed: Option<u64>,
    /// The reservation that an earlier run of the program left: below it, bytes stay in doubt until the checkpoint has
    /// passed them, even when this run never sent them.
    pub inherited: u64,
    pub dirty: bool,
    pub forget: bool,
}

/// What was read of a file beyond its checkpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flight {
    /// Spans after the checkpoint, in order, without a gap; the first one is never settled.
    pub queue: VecDeque<Pending>,
    /// Lines in the queue without an outcome.
    pub lines: u64,
    /// Outcomes in the queue: settled behind an unsettled span.
    pub ahead: Outcomes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub span: Span,
    pub tail_hash: u64,
    pub lines: u64,
    pub last_time_ns: Option<i64>,
    pub outcomes: Option<Outcomes>,
}

impl File {
    /// A file of which nothing is in flight, with what is certainly on disk: reservation and checkpoint.
    pub fn new(mut row: FileRow, durable: u64, committed: Option<u64>) -> Self {
        row.reserved = row.reserved.max(row.position.offset);
        Self {
            flight: None,
            read: row.position.offset,
            lines: row.outcomes.total(),
            durable,
            committed,
            inherited: row.reserved,
            dirty: false,
            forget: false,
            row,
        }
    }

    /// Raises the reservation to `ahead` bytes beyond what was read, unless it covers `end` and half of them still: then
    /// the row need not be written. Returns whether it did.
    pub fn raise(&mut self, end: u64, ahead: u64) -> bool {
        if self.row.reserved >= end.max(self.read.saturating_add(ahead / 2).min(MAX_OFFSET)) {
            return false;
        }
        self.row.reserved = end.max(self.read.saturating_add(ahead).min(MAX_OFFSET));
        true
    }

    /// Moves the checkpoint over what is settled at the front of the queue; returns the bytes passed.
    pub fn advance(&mut self) -> u64 {
        let before = self.row.position.offset;
        let Some(flight) = &mut self.flight else { return 0 };
        if put_back(Bug::CheckpointPastUnsettled) {
            flight.queue.make_contiguous().sort_by_key(|pending| pending.outcomes.is_none());
        }
        while let Some(Pending { span, tail_hash, last_time_ns, outcomes: Some(outcomes), .. }) =
            flight.queue.front().copied()
        {
            flight.queue.pop_front();
            self.row.position = Position { offset: span.end, tail_hash };
            self.row.last_time_ns = last_time_ns.or(self.row.last_time_ns);
            self.row.outcomes += outcomes;
            take(&mut flight.ahead, outcomes);
        }
        if **flight == Flight::default() {
            self.flight = None;
        }
        // Lines that were skipped by rule are settled without ever being sent, so without a reservation.
        self.row.reserved = self.row.reserved.max(self.row.position.offset);
        self.row.position.offset - before
    }

    pub fn totals(&self) -> Totals {
        let mut outcomes = self.row.outcomes;
        let mut in_flight = 0;
        if let Some(flight) = &self.flight {
            outcomes += flight.ahead;
            in_flight = flight.lines;
        }
        let lag = self.read - self.row.position.offset;
        Totals { lines: self.lines, outcomes, in_flight, lag }
    }

    pub fn check(&self) -> Result<(), &'static str> {
        let (mut end, mut in_flight, mut ahead) = (self.row.position.offset, 0, Outcomes::default());
        let nothing = Flight::default();
        let flight = self.flight.as_deref().unwrap_or(&nothing);
        for pending in &flight.queue {
            if pending.span.start != end {
                return Err("each span starts where the one before ends");
            }
            end = pending.span.end;
            match pending.outcomes {
                Some(outcomes) => ahead += outcomes,
                None => in_flight += pending.lines,
            }
        }
        let totals = self.totals();
        let rules = [
            (end == self.read, "the last span ends where reading stands"),
            (in_flight == flight.lines && ahead == flight.ahead, "the counts of the queue = its spans"),
            (totals.lines == totals.outcomes.total() + in_flight, "lines read = settled + in flight"),
            (self.row.reserved >= self.row.position.offset, "the reservation covers the checkpoint"),
            (flight.queue.front().is_none_or(|first| first.outcomes.is_none()), "the first span is unsettled"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(*rule))
    }
}

fn take(from: &mut Outcomes, outcomes: Outcomes) {
    from.created -= outcomes.created;
    from.duplicate -= outcomes.duplicate;
    from.dead_lettered -= outcomes.dead_lettered;
    from.skipped -= outcomes.skipped;
}
