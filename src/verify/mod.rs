//! The proof: each line of the files is in Elasticsearch exactly once, and nothing else is under their ids.
//!
//! Reads the files again, computes the id that each line must have, and asks Elasticsearch for these ids, ten thousand a
//! request. Which file is which comes from the checkpoint store, read without disturbing a running daemon; a file is
//! compared as far as its checkpoint says, so the daemon may go on meanwhile. A file that moves, vanishes or is truncated
//! under the comparison is looked for again by what it is; what is nowhere any more is told as gone, and its documents are
//! counted. Memory does not grow with lines.
//! Beside [`crate::pipeline`] and [`crate::cli`] the only module that knows several stages.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{self, FileRow, StoreError};
use crate::client::{Client, SendError};
use crate::config::Config;
use crate::index::dead_letter;
use crate::pipeline::plan::Plan;
use crate::read::{Compression, Content, Cursor, Limits, Reader, Step};
use crate::record::{FileId, ID_LEN, LineId, RawLine};

mod ask;
mod find;
mod report;

pub use report::{Cluster, Counts, FileReport, GoneCounts, GoneFile, Report};

use ask::{Asker, IDS_A_REQUEST, Stretch};
use find::{Finder, Identity, Subject};

/// How many examples of each kind a file's report names.
const EXAMPLES: usize = 10;

/// So often are files looked for that moved, or that were found wanting while the daemon ran.
const PASSES: usize = 3;

/// Before they are looked for again.
const PAUSE: Duration = Duration::from_millis(300);

/// Files, and lines of them, whose documents are counted with one request: its cost grows with their product.
const COUNT_FILES: usize = 100;
const COUNT_LINES: u64 = 100_000;

/// Lines of files that are gone whose documents are counted with one request: fewer than one answer may have.
const COUNT_OFFSETS: u64 = 4000;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint store is damaged.
    #[error(
        "the checkpoint store {} cannot be relied on: {problem}; `logweir checkpoints check` says more", path.display()
    )]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong first.
        problem: String,
    },
    /// Elasticsearch cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] SendError),
    /// Elasticsearch refused to be searched.
    #[error("elasticsearch refused to search {target} with status {status}: {reason}")]
    Refused {
        /// Where.
        target: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// What was compared so far.
    pub counts: Counts,
    /// Bytes to compare, those compared included; grows if files are looked for again.
    pub bytes: u64,
}

/// What verification needs.
pub struct Verification<'a> {
    /// The cluster.
    pub client: &'a Client,
    /// The configuration.
    pub config: &'a Config,
    /// The sources, compiled.
    pub plans: &'a [Plan],
    /// Name of this host.
    pub host: &'a str,
    /// Called after each request.
    pub progress: &'a mut (dyn FnMut(&Progress) + Send),
}

/// What the store and the dead letters say at one time.
struct Known {
    rows: Vec<FileRow>,
    store_id: Option<String>,
    /// Whether a daemon may be changing all this.
    in_use: bool,
    /// Ids, in order: 24 bytes a letter, and letters are bounded by `dead_letters.max_bytes`.
    letters: Vec<LineId>,
}

impl Verification<'_> {
    /// Compares all files of all sources (or of the one named `only`).
    ///
    /// # Errors
    /// Where Elasticsearch cannot be asked, or store or files not be read: half a proof is none.
    pub async fn run(self, only: Option<&str>) -> Result<Report, VerifyError> {
        let started_at = now();
        let asker = Asker::new(self.client, &self.config.elasticsearch);
        let targets: BTreeSet<&str> = self.plans.iter().map(|plan| &*plan.destination.target).collect();
        let mut first: Option<Known> = None;
        let mut compared: BTreeMap<FileId, (Subject, FileReport)> = BTreeMap::new();
        let mut again: Option<HashSet<FileId>> = None;
        let mut progress = Progress::default();
        let mut rows: BTreeMap<FileId, FileRow> = BTreeMap::new();
        for pass in 0..PASSES {
            let known = self.known()?;
            for target in &targets {
                // What was acknowledged before the store was read is searchable from here on.
                asker.refresh(target).await?;
            }
            let wanted = |id: &FileId| again.as_ref().is_none_or(|again| again.contains(id));
            let mut subjects = Finder::new(self.plans, &known.rows, self.host, known.in_use).find(only)?;
            subjects.retain(|subject| wanted(&subject.id));
            progress.bytes += subjects.iter().map(|subject| subject.to.offset - subject.from.offset).sum::<u64>();
            let mut comparison = Comparison {
                asker: &asker,
                config: self.config,
                plans: self.plans,
                letters: &known.letters,
                pending: BTreeMap::new(),
                reports: Vec::new(),
                progress: &mut *self.progress,
                so_far: &mut progress,
                reader: Reader::default(),
                raw: vec![0; RAW_BYTES],
            };
            let reports = comparison.all(&subjects).await?;
            // A file that was found moves its other names out of the way.
            let found: HashSet<(u64, u64)> = subjects.iter().map(|subject| subject.key).collect();
            compared.retain(|_, (subject, _)| subject.identity != Identity::Unknown || !found.contains(&subject.key));
            let (mut next, mut moved) = (HashSet::new(), false);
            let found_some = !subjects.is_empty();
            for (subject, report) in subjects.into_iter().zip(reports) {
                match report {
                    Some(report) => {
                        // What a running daemon is changing may look wrong for a moment: it counts when seen twice.
                        if known.in_use && !report.counts.is_proven() {
                            next.insert(subject.id);
                        }
                        compared.insert(subject.id, (subject, report));
                    }
                    None => {
                        moved = true;
                        next.insert(subject.id);
                        if subject.identity == Identity::SameInode {
                            // All of what took its place is to come.
                            let behind = subject.behind + subject.to.offset;
                            let other = Subject { id: subject.minted, identity: Identity::Unknown, behind, ..subject };
                            compared.insert(other.id, (other.clone(), blank(self.plans, &other)));
                        }
                    }
                }
            }
            for row in &known.rows {
                if wanted(&row.id) {
                    rows.insert(row.id, row.clone());
                }
            }
            // What is nowhere may have been on its way from one name to another.
            if known.in_use || moved {
                next.extend(rows.keys().filter(|id| !compared.contains_key(id)));
            }
            first.get_or_insert(known);
            // Once it was looked for again in vain, it is gone.
            if next.is_empty() || (pass > 0 && !found_some) || pass + 1 == PASSES {
                break;
            }
            again = Some(next);
            tokio::time::sleep(PAUSE).await;
        }
        let mut gone: Vec<GoneFile> = rows
            .values()
            .filter(|row| !compared.contains_key(&row.id) && row.outcomes.total() > 0)
            .filter(|row| only.is_none_or(|name| name == &*row.source))
            .map(|row| self.gone(row))
            .collect();
        self.count_gone(&asker, &rows, &mut gone).await?;
        let mut report = Report {
            logweir: env!("CARGO_PKG_VERSION"),
            host: self.host.to_owned(),
            store_id: first.and_then(|known| known.store_id),
            cluster: asker.cluster().await,
            started_at,
            ended_at: now(),
            proven: false,
            conclusion: String::new(),
            total: Counts::default(),
            files: compared.into_values().map(|(_, report)| report).collect(),
            gone,
        };
        report.files.sort_by(|a, b| a.path.cmp(&b.path));
        report.conclude();
        Ok(report)
    }

    /// Store first, dead letters next, then Elasticsearch is refreshed: what the store calls settled is in one of them.
    fn known(&self) -> Result<Known, VerifyError> {
        let inspection = checkpoint::inspect(&self.config.checkpoint.path)?;
        if let Some(problem) = inspection.problems.into_iter().next() {
            return Err(VerifyError::Damaged { path: inspection.path, problem });
        }
        let directory = &self.config.dead_letters.path;
        let mut letters = Vec::new();
        dead_letter::list(directory, |letter| {
            letters.extend(<[u8; ID_LEN]>::try_from(letter.id.as_bytes()).ok().map(LineId));
        })
        .map_err(|source| VerifyError::Read { path: directory.clone(), source })?;
        letters.sort_unstable();
        let store_id = inspection.store.map(|store| store.id);
        Ok(Known { rows: inspection.rows, store_id, in_use: inspection.in_use, letters })
    }

    fn gone(&self, row: &FileRow) -> GoneFile {
        let plan = self.plan(row);
        let packed = Compression::of(&row.path) != Compression::None;
        GoneFile {
            path: row.path.to_path_buf(),
            file_id: row.id.to_string(),
            source: row.source.to_string(),
            target: plan.map(|plan| plan.destination.target.to_string()),
            lines: row.outcomes.total(),
            created: row.outcomes.created,
            duplicate: row.outcomes.duplicate,
            dead_lettered: row.outcomes.dead_lettered,
            skipped: row.outcomes.skipped,
            unread: if packed { 0 } else { row.size.saturating_sub(row.position.offset) },
            counted: None,
        }
    }

    fn plan(&self, row: &FileRow) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.source.name == *row.source)
    }

    /// Counts what is there of files that are gone: documents, and their different offsets, in stretches that one answer
    /// can hold.
    async fn count_gone(
        &self,
        asker: &Asker<'_>,
        rows: &BTreeMap<FileId, FileRow>,
        gone: &mut [GoneFile],
    ) -> Result<(), VerifyError> {
        let mut groups: BTreeMap<Arc<str>, Vec<(usize, Stretch, u64)>> = BTreeMap::new();
        for (index, file) in gone.iter().enumerate() {
            let Some(row) = FileId::parse(&file.file_id).and_then(|id| rows.get(&id)) else { continue };
            let Some(plan) = self.plan(row).filter(|plan| can_count(plan)) else { continue };
            let pieces = (file.lines / COUNT_OFFSETS).max(1);
            let (start, length) = (row.start, row.position.offset.saturating_sub(row.start));
            let cut = |piece: u64| {
                start + u64::try_from(u128::from(length) * u128::from(piece) / u128::from(pieces)).unwrap_or(length)
            };
            let group = groups.entry(Arc::clone(&plan.destination.target)).or_default();
            for piece in 0..pieces {
                let stretch = Stretch { file: row.id, start: cut(piece), end: cut(piece + 1) };
                group.push((index, stretch, file.lines / pieces));
            }
        }
        for (target, stretches) in groups {
            let mut sums: BTreeMap<usize, Option<ask::Counted>> = BTreeMap::new();
            for group in in_groups(&stretches, COUNT_OFFSETS, |(_, _, lines)| *lines) {
                let asked: Vec<Stretch> = group.iter().map(|(_, stretch, _)| *stretch).collect();
                let counted = asker.count(&target, &asked, true).await?;
                for (place, (index, _, _)) in group.iter().enumerate() {
                    let sum = sums.entry(*index).or_insert_with(|| Some(ask::Counted::default()));
                    *sum = sum.zip(counted.as_ref().map(|counted| counted[place])).map(|(sum, part)| ask::Counted {
                        documents: sum.documents + part.documents,
                        offsets: sum.offsets + part.offsets,
                        once: sum.once + part.once,
                    });
                }
            }
            for (index, sum) in sums {
                if let Some(sum) = sum {
                    gone[index].compare(sum.documents, sum.offsets, sum.once);
                }
            }
        }
        Ok(())
    }
}

/// Whether documents of a source say which file and place they come from.
fn can_count(plan: &Plan) -> bool {
    ["log.file.id", "log.offset"].iter().all(|field| plan.layout.keep().keeps(field))
}

/// Neighbours whose weights add up to no more than `limit` together (or one alone), and no more than [`COUNT_FILES`].
fn in_groups<T>(items: &[T], limit: u64, weight: impl Fn(&T) -> u64) -> Vec<&[T]> {
    let mut groups = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (index, item) in items.iter().enumerate() {
        if index > start && (sum + weight(item) > limit || index - start >= COUNT_FILES) {
            groups.push(&items[start..index]);
            (start, sum) = (index, 0);
        }
        sum += weight(item);
    }
    if start < items.len() {
        groups.push(&items[start..]);
    }
    groups
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string()
}

/// How much is read at once for the hash of the compared bytes.
const RAW_BYTES: usize = 256 << 10;

/// A line whose document must be there.
struct Expected {
    id: LineId,
    offset: u64,
    /// Index of its file's report.
    file: usize,
}

/// One pass over some files. At most [`IDS_A_REQUEST`] lines a target are held at a time, whatever files they are of.
struct Comparison<'a, 'b> {
    asker: &'b Asker<'a>,
    config: &'b Config,
    plans: &'b [Plan],
    letters: &'b [LineId],
    /// By target.
    pending: BTreeMap<Arc<str>, Vec<Expected>>,
    /// In the order of the files; `None` for one that turned out to be another while it was compared.
    reports: Vec<Option<FileReport>>,
    progress: &'b mut (dyn FnMut(&Progress) + Send),
    so_far: &'b mut Progress,
    reader: Reader,
    raw: Vec<u8>,
}

/// How the reading of a file ended.
enum Read {
    /// All that was to be compared was read.
    Whole,
    /// What is there is not what was found there before.
    Moved,
}

impl Comparison<'_, '_> {
    async fn all(&mut self, subjects: &[Subject]) -> Result<Vec<Option<FileReport>>, VerifyError> {
        for (index, subject) in subjects.iter().enumerate() {
            self.reports.push(Some(blank(self.plans, subject)));
            if matches!(self.file(subject, index).await?, Read::Moved) {
                self.pending.values_mut().for_each(|pending| pending.retain(|expected| expected.file != index));
                self.reports[index] = None;
            }
        }
        let targets: Vec<Arc<str>> = self.pending.keys().cloned().collect();
        for target in targets {
            self.compare(&target).await?;
        }
        self.count_documents(subjects).await?;
        for (subject, report) in subjects.iter().zip(&mut self.reports) {
            // None of its lines is there beyond the first, which many files share: another file took its place.
            if subject.identity == Identity::SameInode && report.as_ref().is_some_and(|report| report.recognised == 0) {
                *report = None;
            }
        }
        Ok(std::mem::take(&mut self.reports))
    }

    /// Reads a file from its start to its checkpoint, and has its lines compared as they come.
    async fn file(&mut self, subject: &Subject, index: usize) -> Result<Read, VerifyError> {
        let plans = self.plans;
        let plan = &plans[subject.source];
        let fail = |source| VerifyError::Read { path: subject.path.clone(), source };
        let (Some(mut content), Some(mut raw)) = (open(subject).map_err(fail)?, open(subject).map_err(fail)?) else {
            return Ok(Read::Moved);
        };
        let limits =
            Limits { max_line_bytes: usize::try_from(self.config.read.max_line_bytes.0).unwrap_or(usize::MAX) };
        let complete = subject.to.offset == content.length().map_err(fail)?;
        let mut cursor = Cursor::at(subject.from);
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let mut hashed = subject.from.offset;
        while cursor.position.offset < subject.to.offset {
            let Self { reader, pending, reports, so_far, .. } = self;
            let pending = pending.entry(Arc::clone(&plan.destination.target)).or_default();
            let Some(report) = reports[index].as_mut() else { return Ok(Read::Moved) };
            let step = reader
                .step(&mut content, &mut cursor, complete, limits, |line, end| {
                    let line = up_to(line, end, subject.to.offset);
                    report.counts.lines += 1;
                    so_far.counts.lines += 1;
                    if line.bytes.is_empty() || !plan.filter.keeps(line.bytes) {
                        report.counts.skipped += 1;
                    } else {
                        let id = LineId::new(subject.id, line.offset, line.bytes);
                        pending.push(Expected { id, offset: line.offset, file: index });
                    }
                    pending.len() < IDS_A_REQUEST && end < subject.to.offset
                })
                .map_err(fail)?;
            let is_full = pending.len() >= IDS_A_REQUEST;
            let reached = cursor.position.offset.min(subject.to.offset);
            report.counts.bytes = reached - subject.from.offset;
            so_far.counts.bytes += reached - hashed;
            while hashed < reached {
                let want = usize::try_from(reached - hashed).unwrap_or(RAW_BYTES).min(RAW_BYTES);
                match raw.read_at(hashed, &mut self.raw[..want]).map_err(fail)? {
                    0 => return Ok(Read::Moved),
                    n => {
                        hasher.update(&self.raw[..n]);
                        hashed += n as u64;
                    }
                }
            }
            if is_full {
                self.compare(&plan.destination.target).await?;
            }
            match step {
                Step::More { .. } => {}
                Step::End { .. } if cursor.position.offset >= subject.to.offset => {}
                // Without a store its last line may be unfinished: that is to come.
                Step::End { .. } if subject.identity == Identity::NoStore => {
                    if let Some(report) = &mut self.reports[index] {
                        report.counts.behind = subject.to.offset - cursor.position.offset;
                    }
                    break;
                }
                Step::End { .. } | Step::Replaced => return Ok(Read::Moved),
            }
        }
        let exact = subject.identity == Identity::Known && cursor.position.offset == subject.to.offset;
        if exact && cursor.position.tail_hash != subject.to.tail_hash {
            return Ok(Read::Moved);
        }
        if let Some(report) = &mut self.reports[index] {
            report.hash = format!("{:016x}", hasher.digest());
        }
        Ok(Read::Whole)
    }

    /// Asks for the lines that are pending for a target, and counts how often they are there.
    async fn compare(&mut self, target: &Arc<str>) -> Result<(), VerifyError> {
        let Some(pending) = self.pending.get_mut(target).map(std::mem::take).filter(|pending| !pending.is_empty())
        else {
            return Ok(());
        };
        let ids: Vec<LineId> = pending.iter().map(|expected| expected.id).collect();
        let found = self.asker.find(target, &ids).await?;
        let mut absent: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for Expected { id, offset, file } in &pending {
            let Some(report) = &mut self.reports[*file] else { continue };
            if report.first_id.is_none() {
                report.first_id = Some(id.as_str().to_owned());
            }
            let times = found.get(id).copied().unwrap_or(0);
            report.accounted += times;
            report.recognised += u64::from(times > 0 && *offset >= report.start.max(1));
            match times {
                0 if self.letters.binary_search(id).is_ok() => report.counts.dead_lettered += 1,
                0 => absent.entry(*file).or_default().push(*offset),
                1 => report.counts.once += 1,
                _ => {
                    report.counts.twice += 1;
                    example(&mut report.twice_at, *offset);
                }
            }
        }
        for (file, offsets) in absent {
            let Some(report) = &mut self.reports[file] else { continue };
            let Some(id) = FileId::parse(&report.file_id) else { continue };
            let there = self.asker.at(target, id, &offsets).await?;
            for offset in offsets {
                if let Some(times) = there.get(&offset) {
                    report.accounted += times;
                    report.counts.changed += 1;
                    example(&mut report.changed_at, offset);
                } else {
                    report.counts.missing += 1;
                    example(&mut report.missing_at, offset);
                }
            }
        }
        // The last line of each file in the batch, from behind.
        let mut last = None;
        for Expected { id, file, .. } in pending.iter().rev() {
            if last != Some(*file)
                && let Some(report) = &mut self.reports[*file]
            {
                report.last_id = Some(id.as_str().to_owned());
                last = Some(*file);
            }
        }
        if let Some(emptied) = self.pending.get_mut(target) {
            *emptied = pending;
            emptied.clear();
        }
        let mut so_far =
            Counts { lines: self.so_far.counts.lines, bytes: self.so_far.counts.bytes, ..Counts::default() };
        for report in self.reports.iter().flatten() {
            so_far.missing += report.counts.missing;
            so_far.twice += report.counts.twice;
            so_far.changed += report.counts.changed;
        }
        self.so_far.counts = so_far;
        (self.progress)(self.so_far);
        Ok(())
    }

    /// Counts the documents of each file, to see whether there are more than its lines account for.
    async fn count_documents(&mut self, subjects: &[Subject]) -> Result<(), VerifyError> {
        let mut groups: BTreeMap<Arc<str>, Vec<(usize, Stretch, u64)>> = BTreeMap::new();
        for (index, subject) in subjects.iter().enumerate() {
            let plan = &self.plans[subject.source];
            let Some(report) = &self.reports[index] else { continue };
            if report.counts.bytes > 0 && can_count(plan) {
                let (start, end) = (subject.from.offset, subject.from.offset + report.counts.bytes);
                let stretch = Stretch { file: subject.id, start, end };
                let group = groups.entry(Arc::clone(&plan.destination.target)).or_default();
                group.push((index, stretch, report.counts.lines));
            }
        }
        for (target, stretches) in groups {
            for group in in_groups(&stretches, COUNT_LINES, |(_, _, lines)| *lines) {
                let asked: Vec<Stretch> = group.iter().map(|(_, stretch, _)| *stretch).collect();
                let Some(counted) = self.asker.count(&target, &asked, false).await? else { continue };
                for ((index, _, _), counted) in group.iter().zip(counted) {
                    let Some(report) = &mut self.reports[*index] else { continue };
                    report.documents = Some(counted.documents);
                    report.counts.extra = counted.documents.saturating_sub(report.accounted);
                }
            }
        }
        Ok(())
    }
}

/// The report of a file of which nothing was compared yet.
fn blank(plans: &[Plan], subject: &Subject) -> FileReport {
    let plan = &plans[subject.source];
    FileReport {
        path: subject.path.clone(),
        file_id: subject.id.to_string(),
        source: plan.source.name.clone(),
        target: plan.destination.target.to_string(),
        counts: Counts { behind: subject.behind, ..Counts::default() },
        start: subject.from.offset,
        hash: String::new(),
        documents: None,
        first_id: None,
        last_id: None,
        missing_at: Vec::new(),
        twice_at: Vec::new(),
        changed_at: Vec::new(),
        accounted: 0,
        recognised: 0,
    }
}

/// The file of `subject`, if it is still at its path.
fn open(subject: &Subject) -> io::Result<Option<Content>> {
    match Content::open(&subject.path) {
        Ok((content, stat)) => Ok((stat.key() == subject.key).then_some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A line as it was when the file ended at `to`: a chunk's last line without an end may have grown since.
fn up_to(line: RawLine<'_>, end: u64, to: u64) -> RawLine<'_> {
    if end <= to {
        return line;
    }
    let length = usize::try_from(to - line.offset).unwrap_or(usize::MAX).min(line.bytes.len());
    let bytes = &line.bytes[..length];
    RawLine { bytes: bytes.strip_suffix(b"\r").unwrap_or(bytes), ..line }
}

fn example(examples: &mut Vec<u64>, offset: u64) {
    if examples.len() < EXAMPLES {
        examples.push(offset);
    }
}
