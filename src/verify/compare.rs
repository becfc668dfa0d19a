//! Reading files again, line by line, and asking for the document that each line must have.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::ask::{Asker, IDS_A_REQUEST, Stretch};
use super::find::{Identity, Subject};
use super::report::{Counts, FileReport};
use super::{Progress, Verification, VerifyError, can_count};
use crate::config::Config;
use crate::pipeline::plan::Plan;
use crate::read::{Content, Cursor, Limits, Reader, Step};
use crate::record::{FileId, LineId, RawLine};

/// How many examples of each kind a file's report names.
const EXAMPLES: usize = 10;

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
pub struct Comparison<'a> {
    asker: &'a Asker<'a>,
    config: &'a Config,
    plans: &'a [Plan],
    letters: &'a [LineId],
    progress: &'a mut (dyn FnMut(&Progress) + Send),
    so_far: &'a mut Progress,
    /// By target.
    pending: BTreeMap<Arc<str>, Vec<Expected>>,
    reports: Vec<Option<FileReport>>,
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

impl<'a> Comparison<'a> {
    /// `letters`: ids of dead letters, in order; `so_far`: what earlier passes did.
    pub fn new(
        verification: &'a mut Verification<'_>,
        asker: &'a Asker<'a>,
        letters: &'a [LineId],
        so_far: &'a mut Progress,
    ) -> Self {
        Self {
            asker,
            config: verification.config,
            plans: verification.plans,
            letters,
            progress: verification.progress,
            so_far,
            pending: BTreeMap::new(),
            reports: Vec::new(),
            reader: Reader::default(),
            raw: vec![0; RAW_BYTES],
        }
    }

    /// The reports of `subjects`, in their order; `None` for one that turned out to be another file while it was compared.
    pub async fn run(mut self, subjects: &[Subject]) -> Result<Vec<Option<FileReport>>, VerifyError> {
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
        Ok(self.reports)
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
        let mut by_target: BTreeMap<Arc<str>, (Vec<usize>, Vec<Stretch>)> = BTreeMap::new();
        for (index, subject) in subjects.iter().enumerate() {
            let plan = &self.plans[subject.source];
            let Some(report) = &self.reports[index] else { continue };
            if report.counts.bytes > 0 && can_count(plan) {
                let (start, lines) = (subject.from.offset, report.counts.lines);
                let (of, stretches) = by_target.entry(Arc::clone(&plan.destination.target)).or_default();
                of.push(index);
                stretches.push(Stretch { file: subject.id, start, end: start + report.counts.bytes, lines });
            }
        }
        for (target, (of, stretches)) in by_target {
            for (index, counted) in of.into_iter().zip(self.asker.count(&target, &stretches, false).await?) {
                if let (Some(report), Some(counted)) = (&mut self.reports[index], counted) {
                    report.documents = Some(counted.documents);
                    report.counts.extra = counted.documents.saturating_sub(report.accounted);
                }
            }
        }
        Ok(())
    }
}

/// The report of a file of which nothing was compared yet.
pub fn blank(plans: &[Plan], subject: &Subject) -> FileReport {
    let plan = &plans[subject.source];
    FileReport {
        path: subject.path.clone(),
        file_id: subject.id.to_string(),
        source: plan.source.name.clone(),
        target: plan.destination.target.to_string(),
        counts: Counts { behind: subject.behind, ..Counts::default() },
        start: subject.from.offset,
        ..FileReport::default()
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
