//! Cutting batches: lines of many files, in the order they were read, until a body is full or old enough.
//!
//! A batch takes its share of the memory bound before it holds a byte; a file's stretch in it is a [`Run`], which settles
//! as a whole. Nothing is allocated per line: items go into one growing list, bytes into one growing body.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::Share;
use crate::record::{Batch, Destination, FileId, Item, LineId, Position, Run, Span};

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of body.
    pub max_bytes: usize,
    /// Documents.
    pub max_docs: usize,
    /// Age of its first line.
    pub max_age: Duration,
}

impl Limits {
    /// What a batch takes of the memory bound while it is filled: its body, and what is kept beside it.
    #[must_use]
    pub fn share(&self) -> u64 {
        (self.max_bytes + self.max_bytes / 8) as u64
    }
}

/// Memory to fill again.
#[derive(Debug, Default)]
pub struct Spare {
    /// For the body.
    pub body: Vec<u8>,
    /// For the items.
    pub items: Vec<Item>,
}

/// A batch being filled.
#[derive(Debug)]
pub struct Builder {
    destination: Destination,
    body: Vec<u8>,
    items: Vec<Item>,
    runs: Vec<Run>,
    share: Share,
    opened: Instant,
}

impl Builder {
    /// An empty batch for `destination`, in memory to reuse. It takes its memory at once: one that grows is copied as it
    /// does, and ends with twice what it needs.
    #[must_use]
    pub fn new(destination: Destination, spare: Spare, share: Share, limits: &Limits, now: Instant) -> Self {
        let Spare { mut body, mut items } = spare;
        body.clear();
        body.reserve(usize::try_from(limits.share()).unwrap_or(limits.max_bytes));
        items.clear();
        Self { destination, body, items, runs: Vec::new(), share, opened: now }
    }

    /// Starts the run of one turn of `file` at `at`: turns are registered with the ledger one by one, so they never merge.
    pub fn begin(&mut self, file: FileId, path: &Arc<Path>, at: Position, doubtful: bool, now: Instant) {
        self.drop_empty_run();
        self.runs.push(Run {
            file,
            path: Arc::clone(path),
            span: Span { start: at.offset, end: at.offset },
            tail_hash: at.tail_hash,
            lines: 0,
            skipped: 0,
            doubtful,
            read_at: now,
        });
    }

    /// The body, for the encoder to append one item to; then call [`Builder::added`].
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.body
    }

    /// The encoder appended the item of the line `id` at `offset`: its two lines start at `start` and `source`.
    #[expect(clippy::cast_possible_truncation, reason = "a body is at most max_bytes and one item, far below 4 GiB")]
    pub fn added(&mut self, id: LineId, offset: u64, start: usize, source: usize) {
        let run = self.runs.len() as u32 - 1;
        self.items.push(Item { start: start as u32, source: source as u32, run, id, offset });
        if let Some(run) = self.runs.last_mut() {
            run.lines += 1;
        }
    }

    /// A line of the current run was left out by rule.
    pub fn skipped(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.lines += 1;
            run.skipped += 1;
        }
    }

    /// The current run now ends at `at`.
    pub fn reached(&mut self, at: Position) {
        if let Some(run) = self.runs.last_mut() {
            run.span.end = at.offset;
            run.tail_hash = at.tail_hash;
        }
    }

    /// The run of the current turn.
    #[must_use]
    pub fn last_run(&self) -> Option<&Run> {
        self.runs.last()
    }

    /// A turn that found nothing to read leaves no run.
    fn drop_empty_run(&mut self) {
        if self.runs.last().is_some_and(|run| run.span.is_empty()) {
            self.runs.pop();
        }
    }

    /// Whether no further line fits.
    #[must_use]
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.body.len() >= limits.max_bytes || self.items.len() >= limits.max_docs
    }

    /// When it is old enough to be sent.
    #[must_use]
    pub fn due(&self, limits: &Limits) -> Instant {
        self.opened + limits.max_age
    }

    /// The batch, ready to send; `None` if nothing was read into it.
    #[must_use]
    pub fn finish(mut self) -> Option<Batch> {
        self.drop_empty_run();
        if self.runs.is_empty() {
            return None;
        }
        self.share.send(self.body.len() as u64);
        self.share.shrink((self.body.len() + self.items.len() * size_of::<Item>()) as u64);
        Some(Batch {
            target: self.destination.target,
            pipeline: self.destination.pipeline,
            body: self.body.into(),
            items: self.items,
            runs: self.runs,
            share: Some(self.share),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::record::tail_hash;

    const LIMITS: Limits = Limits { max_bytes: 40, max_docs: 3, max_age: Duration::from_millis(50) };

    fn destination() -> Destination {
        Destination { target: "logs-web-default".into(), pipeline: None }
    }

    fn at(offset: u64) -> Position {
        Position { offset, tail_hash: tail_hash(&offset.to_be_bytes()) }
    }

    fn add(builder: &mut Builder, file: FileId, offset: u64, text: &str) {
        let start = builder.body().len();
        builder.body().extend_from_slice(b"{}\n");
        let source = builder.body().len();
        builder.body().extend_from_slice(text.as_bytes());
        builder.body().push(b'\n');
        builder.added(LineId::new(file, offset, text.as_bytes()), offset, start, source);
    }

    #[test]
    fn runs_hold_what_was_read_of_each_file_and_items_point_into_the_body() {
        let budget = Budget::new(1000);
        let now = Instant::now();
        let share = budget.take(LIMITS.share(), Duration::ZERO).unwrap();
        let mut builder = Builder::new(destination(), Spare::default(), share, &LIMITS, now);
        let path: Arc<Path> = Path::new("/a.log").into();
        let (a, b) = (FileId([1; 8]), FileId([2; 8]));
        builder.begin(a, &path, at(10), false, now);
        add(&mut builder, a, 10, "one");
        builder.skipped();
        builder.reached(at(30));
        builder.begin(a, &path, at(30), false, now);
        add(&mut builder, a, 30, "two");
        builder.reached(at(34));
        builder.begin(b, &path, at(0), true, now);
        builder.begin(b, &path, at(0), true, now); // the first turn found nothing
        add(&mut builder, b, 0, "three");
        builder.reached(at(6));
        assert!(builder.is_full(&LIMITS));
        let batch = builder.finish().unwrap();
        let runs: Vec<_> =
            batch.runs.iter().map(|run| (run.file, run.span, run.lines, run.skipped, run.doubtful)).collect();
        assert_eq!(
            runs,
            [
                (a, Span { start: 10, end: 30 }, 2, 1, false),
                (a, Span { start: 30, end: 34 }, 1, 0, false),
                (b, Span { start: 0, end: 6 }, 1, 0, true),
            ]
        );
        assert_eq!(batch.source_bytes(1), b"two");
        assert_eq!(batch.item_bytes(2), b"{}\nthree\n");
        assert!(budget.used() < LIMITS.share() + 200);
        drop(batch);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_batch_into_which_nothing_was_read_is_no_batch() {
        let budget = Budget::new(1000);
        let share = budget.take(10, Duration::ZERO).unwrap();
        let now = Instant::now();
        let mut builder = Builder::new(destination(), Spare::default(), share, &LIMITS, now);
        builder.begin(FileId([1; 8]), &Path::new("/a").into(), at(5), false, now);
        assert!(builder.finish().is_none());
        assert_eq!(budget.used(), 0);
    }
}
