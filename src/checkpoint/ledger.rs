//! Which bytes of which file are settled. Pure: no input or output, no clock.
//!
//! For each file: the checkpoint, and behind it, without a gap, the spans that were read and are not yet covered by it.
//!
//! - The checkpoint moves over settled spans from the front of that queue and never passes an unsettled byte.
//! - Lines read = created + duplicate + dead-lettered + skipped + in flight, per file, at any instant.
//! - A refused call changes nothing.
//!
//! What changed since the last commit is taken with [`Ledger::take_changes`] and comes back through exactly one of
//! [`Ledger::committed`] and [`Ledger::put_back`].

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::record::{FileId, Outcomes, Position, Run, Span};

use super::row::{FileRow, Seen, Texts};

mod file;

use file::{File, Pending};

#[cfg(test)]
mod tests;

/// Offsets take six bytes of a document's id.
pub(super) const MAX_OFFSET: u64 = (1 << 48) - 1;

/// That a file was seen is written this often (seconds): a scan of many idle files must not rewrite them all.
const LAST_SEEN_STEP: i64 = 3600;

/// So many files whose counts do not add up are named at once.
const MAX_IMBALANCES: usize = 10;

/// A call that contradicts what the ledger holds. It was refused and changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No such file.
    #[error("file {file} is not in the ledger")]
    Unknown {
        /// The file.
        file: FileId,
    },
    /// The file is there already.
    #[error("file {file} is in the ledger already")]
    Known {
        /// The file.
        file: FileId,
    },
    /// The file is to be forgotten once nothing of it is in flight: nothing more may be read.
    #[error("file {file} is being forgotten, bytes {}..{} come too late", span.start, span.end)]
    Forgotten {
        /// The file.
        file: FileId,
        /// What was read.
        span: Span,
    },
    /// A span that does not start where the one before ends, is empty, or ends beyond what an id can say.
    #[error("file {file}: bytes {}..{} do not follow on byte {expected}", span.start, span.end)]
    Gap {
        /// The file.
        file: FileId,
        /// Where the span had to start.
        expected: u64,
        /// What was read.
        span: Span,
    },
    /// The span was settled before.
    #[error("file {file}: bytes {}..{} are settled already", span.start, span.end)]
    SettledTwice {
        /// The file.
        file: FileId,
        /// What was settled.
        span: Span,
    },
    /// No span with these ends was read.
    #[error("file {file}: bytes {}..{} were not read as one span", span.start, span.end)]
    NotRead {
        /// The file.
        file: FileId,
        /// What was settled.
        span: Span,
    },
    /// There are more or fewer outcomes than lines.
    #[error("file {file}: bytes {}..{} hold {lines} lines, but {outcomes} have an outcome", span.start, span.end)]
    Count {
        /// The file.
        file: FileId,
        /// What was settled.
        span: Span,
        /// Lines in the span.
        lines: u64,
        /// Lines with an outcome.
        outcomes: u64,
    },
}

impl LedgerError {
    /// The file that the call was about.
    #[must_use]
    pub fn file(&self) -> FileId {
        match self {
            Self::Unknown { file }
            | Self::Known { file }
            | Self::Forgotten { file, .. }
            | Self::Gap { file, .. }
            | Self::SettledTwice { file, .. }
            | Self::NotRead { file, .. }
            | Self::Count { file, .. } => *file,
        }
    }
}

/// Counts that do not add up: a defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imbalance {
    /// The file; `None` where each file adds up but all together do not.
    pub file: Option<(FileId, Arc<Path>)>,
    /// The counts.
    pub totals: Totals,
    /// What should be so.
    pub rule: &'static str,
}

/// How many lines were read and what became of them: `lines == outcomes.total() + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines read, those of earlier runs included.
    pub lines: u64,
    /// Lines that are settled, whether the checkpoint covers them yet or not.
    pub outcomes: Outcomes,
    /// Lines that were read and are not settled.
    pub in_flight: u64,
    /// Bytes between the checkpoint and what was read.
    pub lag: u64,
}

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that are new or have changed.
    pub rows: Vec<FileRow>,
    /// Files to forget.
    pub forgotten: Vec<FileId>,
    /// What becomes of the store's [`Meta::doubtful_before`](super::Meta), where it changes.
    pub origin: Option<Origin>,
}

/// A new [`Meta::doubtful_before`](super::Meta).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In nanoseconds since 1970.
    pub doubtful_before: Option<i64>,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.forgotten.is_empty() && self.origin.is_none()
    }
}

/// All files and what is in flight of them.
#[derive(Debug, Default)]
pub struct Ledger {
    /// In boxes, because most places of the map are empty.
    files: HashMap<FileId, Box<File>>,
    texts: Texts,
    /// Files whose `dirty` is set, each once; may name files that were forgotten since.
    dirty: Vec<FileId>,
    /// Files to delete from the store; none of them is in `files`.
    forgotten: HashSet<FileId>,
    /// Sum over all files, forgotten ones included.
    totals: Totals,
    /// Lines of forgotten files, by their source.
    gone: HashMap<Arc<str>, Outcomes>,
}

impl Ledger {
    /// Takes in a file as the store holds it.
    ///
    /// # Errors
    /// [`LedgerError::Known`].
    pub fn restore(&mut self, row: FileRow) -> Result<(), LedgerError> {
        let (durable, committed) = (row.reserved, Some(row.position.offset));
        self.insert(row, durable, committed)
    }

    /// Takes in a file that the store does not hold yet, and reserves `ahead` bytes of it. What `row.reserved` covers
    /// already is in doubt.
    ///
    /// # Errors
    /// [`LedgerError::Known`].
    pub fn admit(&mut self, row: FileRow, ahead: u64) -> Result<(), LedgerError> {
        let id = row.id;
        self.insert(row, 0, None)?;
        self.forgotten.remove(&id);
        if let Some(file) = self.files.get_mut(&id) {
            file.raise(file.read, ahead);
        }
        self.touch(id);
        Ok(())
    }

    fn insert(&mut self, mut row: FileRow, durable: u64, committed: Option<u64>) -> Result<(), LedgerError> {
        let file = row.id;
        if self.files.contains_key(&file) {
            return Err(LedgerError::Known { file });
        }
        self.totals.lines += row.outcomes.total();
        self.totals.outcomes += row.outcomes;
        row.source = self.texts.shared(&row.source);
        row.format = row.format.map(|format| self.texts.shared(&format));
        self.files.insert(file, Box::new(File::new(row, durable, committed)));
        Ok(())
    }

    /// Registers what was read: spans of one file come in order and without a gap. `last_time_ns` is the time of the
    /// run's last event that has one.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`], [`LedgerError::Forgotten`], [`LedgerError::Gap`].
    pub fn read(&mut self, run: &Run, last_time_ns: Option<i64>) -> Result<(), LedgerError> {
        let span = run.span;
        let file = self.files.get_mut(&run.file).ok_or(LedgerError::Unknown { file: run.file })?;
        if file.forget {
            return Err(LedgerError::Forgotten { file: run.file, span });
        }
        if span.start != file.read || span.end <= span.start || span.end > MAX_OFFSET {
            return Err(LedgerError::Gap { file: run.file, expected: file.read, span });
        }
        let lines = run.lines;
        let flight = file.flight.get_or_insert_default();
        flight.queue.push_back(Pending { span, tail_hash: run.tail_hash, lines, last_time_ns, outcomes: None });
        flight.lines += lines;
        file.read = span.end;
        file.lines += lines;
        self.totals.lines += lines;
        self.totals.in_flight += lines;
        self.totals.lag += span.len();
        Ok(())
    }

    /// Every line of `span` has its outcome. Spans settle in any order; returns the checkpoint after it.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`], [`LedgerError::SettledTwice`], [`LedgerError::NotRead`], [`LedgerError::Count`].
    pub fn settle(&mut self, id: FileId, span: Span, outcomes: Outcomes) -> Result<Position, LedgerError> {
        let file = self.files.get_mut(&id).ok_or(LedgerError::Unknown { file: id })?;
        if span.end <= file.row.position.offset {
            return Err(LedgerError::SettledTwice { file: id, span });
        }
        let Some(flight) = &mut file.flight else { return Err(LedgerError::NotRead { file: id, span }) };
        let pending = match flight.queue.binary_search_by_key(&span.start, |pending| pending.span.start) {
            Ok(index) if flight.queue[index].span == span => &mut flight.queue[index],
            _ => return Err(LedgerError::NotRead { file: id, span }),
        };
        if pending.outcomes.is_some() {
            return Err(LedgerError::SettledTwice { file: id, span });
        }
        if outcomes.total() != pending.lines {
            return Err(LedgerError::Count { file: id, span, lines: pending.lines, outcomes: outcomes.total() });
        }

        pending.outcomes = Some(outcomes);
        let lines = pending.lines;
        flight.lines -= lines;
        flight.ahead += outcomes;
        self.totals.in_flight -= lines;
        self.totals.outcomes += outcomes;
        let passed = file.advance();
        self.totals.lag -= passed;
        let position = file.row.position;
        let over = file.forget && file.flight.is_none();
        if over {
            self.remove(id);
        } else if passed > 0 {
            self.touch(id);
        }
        Ok(position)
    }

    /// Forgets a file: at once if nothing of it is in flight, else as soon as that is settled; nothing more of it can
    /// be read. A file that is not there is forgotten already.
    pub fn forget(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.forget = true;
        if file.flight.is_none() {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: FileId) {
        if let Some(file) = self.files.remove(&id) {
            *self.gone.entry(file.row.source).or_default() += file.row.outcomes;
            self.forgotten.insert(id);
        }
    }

    /// The store was copied or put back, and everything of `id` is in doubt ([`MAX_OFFSET`]): of what is there now, `size`
    /// bytes, some may have been sent; of what comes later, nothing. Returns where the doubt ends.
    pub fn end_doubt_at(&mut self, id: FileId, size: u64) -> u64 {
        let Some(file) = self.files.get_mut(&id) else { return 0 };
        if file.inherited == MAX_OFFSET {
            file.inherited = size.max(file.read);
            file.row.reserved = file.inherited;
            file.durable = file.durable.min(file.inherited);
            self.touch(id);
        }
        self.files[&id].inherited
    }

    /// Notes where a file was seen. Returns whether the file is known.
    pub fn see(&mut self, id: FileId, seen: &Seen) -> bool {
        let Some(row) = self.row_mut(id) else { return false };
        let same = row.path == seen.path
            && row.inode == seen.inode
            && row.size == seen.size
            && row.mtime_ns == seen.mtime_ns
            && seen.at / LAST_SEEN_STEP == row.last_seen / LAST_SEEN_STEP;
        row.path = seen.path.clone();
        row.inode = seen.inode;
        row.size = seen.size;
        row.mtime_ns = seen.mtime_ns;
        row.last_seen = seen.at;
        if !same {
            self.touch(id);
        }
        true
    }

    /// Notes the format that was decided for a file. Returns whether the file is known.
    pub fn set_format(&mut self, id: FileId, format: &str) -> bool {
        let format = self.texts.shared(format);
        let Some(row) = self.row_mut(id) else { return false };
        row.format = Some(format);
        self.touch(id);
        true
    }

    /// Notes that a chunk is finished and its `on_done` was applied. Returns whether the file is known.
    pub fn mark_done(&mut self, id: FileId) -> bool {
        let Some(row) = self.row_mut(id) else { return false };
        row.done = true;
        self.touch(id);
        true
    }

    fn row_mut(&mut self, id: FileId) -> Option<&mut FileRow> {
        self.files.get_mut(&id).map(|file| &mut file.row)
    }

    fn touch(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id)
            && !file.dirty
        {
            file.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Whether a reservation that covers the bytes before `end` is on disk.
    #[must_use]
    pub fn is_reserved(&self, id: FileId, end: u64) -> bool {
        self.files.get(&id).is_some_and(|file| file.durable >= end)
    }

    /// Asks for reservations of the bytes before each `end`, and raises them for every file with something in flight,
    /// to `ahead` bytes beyond what was read, so that one commit serves them all for a while.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`].
    pub fn raise_reservations(&mut self, wanted: &[(FileId, u64)], ahead: u64) -> Result<(), LedgerError> {
        if let Some((file, _)) = wanted.iter().find(|(id, _)| !self.files.contains_key(id)) {
            return Err(LedgerError::Unknown { file: *file });
        }
        let in_flight = self.files.values().filter(|file| file.flight.is_some());
        let all: Vec<(FileId, u64)> = in_flight.map(|file| (file.row.id, file.read)).collect();
        for (id, end) in wanted.iter().copied().chain(all) {
            if self.files.get_mut(&id).is_some_and(|file| file.raise(end, ahead)) {
                self.touch(id);
            }
        }
        Ok(())
    }

    /// Takes back reservations that nothing will be sent under any more: what was read stays reserved while in flight,
    /// and what an earlier run left in doubt stays so.
    pub fn lower_reservations(&mut self) {
        let mut lowered = Vec::new();
        for (id, file) in &mut self.files {
            let needed = file.read.max(file.inherited);
            if file.row.reserved > needed {
                file.row.reserved = needed;
                lowered.push(*id);
            }
        }
        for id in lowered {
            self.touch(id);
        }
    }

    /// What has changed since this was called last.
    #[must_use]
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes { forgotten: self.forgotten.drain().collect(), ..Changes::default() };
        for id in self.dirty.drain(..) {
            let Some(file) = self.files.get_mut(&id) else { continue };
            if !file.dirty {
                continue; // forgotten and taken in again: listed twice
            }
            file.dirty = false;
            // From here on the disk may hold either reservation, until the commit is known to have succeeded.
            file.durable = file.durable.min(file.row.reserved);
            changes.rows.push(file.row.clone());
        }
        changes
    }

    /// `changes` are on disk.
    pub fn committed(&mut self, changes: &Changes) {
        for row in &changes.rows {
            if let Some(file) = self.files.get_mut(&row.id) {
                file.durable = row.reserved;
                file.committed = Some(row.position.offset);
            }
        }
    }

    /// `changes` may not be on disk: they (or what became of them since) belong to the next ones.
    pub fn put_back(&mut self, changes: &Changes) {
        for row in &changes.rows {
            self.touch(row.id);
            if !self.files.contains_key(&row.id) {
                self.forgotten.insert(row.id);
            }
        }
        for id in &changes.forgotten {
            if !self.files.contains_key(id) {
                self.forgotten.insert(*id);
            }
        }
    }

    /// The checkpoint of a file.
    #[must_use]
    pub fn position(&self, id: FileId) -> Option<Position> {
        self.files.get(&id).map(|file| file.row.position)
    }

    /// Whether the checkpoint of a file is certainly on disk as it is in memory.
    #[must_use]
    pub fn is_committed(&self, id: FileId) -> bool {
        self.files.get(&id).is_some_and(|file| file.committed == Some(file.row.position.offset))
    }

    /// What the store will hold of a file.
    #[must_use]
    pub fn row(&self, id: FileId) -> Option<&FileRow> {
        self.files.get(&id).map(|file| &file.row)
    }

    /// Lines of all files, those included that were forgotten since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Lines of one file.
    #[must_use]
    pub fn file_totals(&self, id: FileId) -> Option<Totals> {
        self.files.get(&id).map(|file| file.totals())
    }

    /// How the lines of each source ended that are settled, those of files included that were forgotten since the start.
    /// Asks every file.
    #[must_use]
    pub fn by_source(&self) -> HashMap<Arc<str>, Outcomes> {
        let mut sources = self.gone.clone();
        for file in self.files.values() {
            // Found without a new name nearly always.
            match sources.get_mut(&file.row.source) {
                Some(sum) => *sum += file.totals().outcomes,
                None => drop(sources.insert(Arc::clone(&file.row.source), file.totals().outcomes)),
            }
        }
        sources
    }

    /// Counts everything again, file by file (invariants 1 and 2), and returns what does not add up; of very many files
    /// the first few.
    #[must_use]
    pub fn imbalances(&self) -> Vec<Imbalance> {
        let mut found = Vec::new();
        let mut sum = Totals::default();
        for gone in self.gone.values() {
            sum.lines += gone.total();
            sum.outcomes += *gone;
        }
        for (id, file) in &self.files {
            let totals = file.totals();
            if let Err(rule) = file.check()
                && found.len() < MAX_IMBALANCES
            {
                found.push(Imbalance { file: Some((*id, Arc::clone(&file.row.path))), totals, rule });
            }
            sum.lines += totals.lines;
            sum.outcomes += totals.outcomes;
            sum.in_flight += totals.in_flight;
            sum.lag += totals.lag;
        }
        if sum != self.totals {
            found.push(Imbalance { file: None, totals: self.totals, rule: "the sum over all files = totals" });
        }
        found
    }

    /// Makes the counts of a file wrong, as a defect would.
    #[cfg(test)]
    pub fn unbalance(&mut self, id: FileId) {
        self.files.get_mut(&id).expect("it is known").lines += 1;
        self.totals.lines += 1;
    }
}
