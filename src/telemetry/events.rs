//! What can happen, as values. `emit` counts and logs, so that the two never disagree.
//!
//! News about files is logged each time; what repeats is logged at first and then once a minute with its count.
//! Paths and reasons are logged escaped: neither a file's name nor an answer can forge a log line.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use super::metrics::{Lines, Metrics};
use super::names::{DocumentOutcome, FaultCause, FileEvent, RetryCause};
use super::said::Word;
use crate::record::FileId;

/// A file was seen for the first time by this process.
#[derive(Debug)]
pub struct FileDiscovered<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Which file it is.
    pub file: FileId,
    /// Name of the source that claims it.
    pub source: &'a str,
    /// Where reading starts.
    pub offset: u64,
    /// How many were discovered with it, itself included: of very many at once the first few are news.
    pub number: u64,
}

impl FileDiscovered<'_> {
    /// So many are logged each by itself.
    pub const FEW: u64 = 20;

    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_file(FileEvent::Discovered);
        let Self { path, file, source, offset, number } = self;
        if *number <= Self::FEW {
            tracing::info!(?path, %file, source, offset, "file discovered");
        } else {
            tracing::debug!(?path, %file, source, offset, "file discovered");
        }
    }

    /// So many were discovered at once.
    pub fn emit_sum(number: u64) {
        if number > Self::FEW {
            tracing::info!(files = number - Self::FEW, "more files discovered: at level debug, each is named");
        }
    }
}

/// What the lines of a file look like was told from its beginning.
#[derive(Debug)]
pub struct FormatDecided<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Which file it is.
    pub file: FileId,
    /// The format, as it could be configured.
    pub format: &'a str,
    /// Why this one.
    pub reason: &'a str,
}

impl FormatDecided<'_> {
    /// Logs: of many files with one format the first is news.
    pub fn emit(&self, metrics: &Metrics) {
        let Self { path, file, format, reason } = self;
        match times(metrics.say(("format_decided", hash(format)))) {
            Some(times) => tracing::info!(?path, %file, format, reason, times, "format decided"),
            None => tracing::debug!(?path, %file, format, reason, "format decided"),
        }
    }
}

/// A file goes on under another name.
#[derive(Debug)]
pub struct FileRotated<'a> {
    /// The old path.
    pub path: &'a Path,
    /// The new one.
    pub to: &'a Path,
    /// Which file it is.
    pub file: FileId,
}

impl FileRotated<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_file(FileEvent::Rotated);
        tracing::info!(path = ?self.path, to = ?self.to, file = %self.file, "file rotated");
    }
}

/// What is at a path is no longer the file that was read: truncated, or its bytes differ.
#[derive(Debug)]
pub struct FileReplaced<'a> {
    /// The path.
    pub path: &'a Path,
    /// The file that was there.
    pub file: FileId,
    /// How far it was read.
    pub offset: u64,
    /// How that was noticed.
    pub why: &'static str,
}

impl FileReplaced<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_file(FileEvent::Replaced);
        tracing::info!(path = ?self.path, file = %self.file, offset = self.offset, why = self.why, "file replaced");
    }
}

/// A file is no longer there.
#[derive(Debug)]
pub struct FileGone<'a> {
    /// Where it was.
    pub path: &'a Path,
    /// Which file it was.
    pub file: FileId,
    /// Bytes that can no longer be read: a loss, and a fault, if there are any.
    pub unread_bytes: u64,
}

impl FileGone<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_file(FileEvent::Gone);
        if self.unread_bytes == 0 {
            tracing::info!(path = ?self.path, file = %self.file, "file gone");
        } else {
            metrics.count_fault(FaultCause::Lost);
            let unread_bytes = self.unread_bytes;
            tracing::error!(path = ?self.path, file = %self.file, unread_bytes, "file gone before all of it was read");
        }
    }
}

/// A chunk is settled, and was deleted (`to` is `None`) or archived.
#[derive(Debug)]
pub struct FileDone<'a> {
    /// Where it was.
    pub path: &'a Path,
    /// Which file it is.
    pub file: FileId,
    /// Where it was moved.
    pub to: Option<&'a Path>,
}

impl FileDone<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        if let Some(to) = self.to {
            metrics.count_file(FileEvent::Archived);
            tracing::info!(path = ?self.path, to = ?to, file = %self.file, "file archived");
        } else {
            metrics.count_file(FileEvent::Deleted);
            tracing::info!(path = ?self.path, file = %self.file, "file deleted");
        }
    }
}

/// Lines of a batch were longer than the limit; only their heads go on.
#[derive(Debug)]
pub struct LinesCut<'a> {
    /// The file.
    pub path: &'a Path,
    /// How many.
    pub lines: u64,
    /// Where the first of them starts.
    pub offset: u64,
}

impl LinesCut<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_cut(self.lines);
        if let Some(times) = times(metrics.say(("lines_cut", hash(self.path)))) {
            let (lines, offset) = (self.lines, self.offset);
            tracing::warn!(path = ?self.path, lines, offset, times, "lines longer than read.max_line_bytes were cut");
        }
    }
}

/// Documents will be sent again.
pub struct BatchRetried<'a> {
    /// Why.
    pub cause: RetryCause,
    /// How many documents.
    pub documents: u64,
    /// How often they were sent so far.
    pub attempt: u32,
    /// When they are sent again, from now.
    pub delay: Duration,
    /// What Elasticsearch or the network said.
    pub reason: &'a dyn fmt::Display,
}

impl BatchRetried<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_retry(self.cause);
        metrics.documents(DocumentOutcome::Retried, self.documents);
        if let Some(times) = times(metrics.say(("batch_retried", self.cause as u64))) {
            tracing::warn!(
                cause = %self.cause,
                documents = self.documents,
                attempt = self.attempt,
                delay = ?self.delay,
                reason = self.reason.to_string(),
                times,
                "documents will be sent again"
            );
        }
    }
}

/// Documents of a request were refused for good and are durably in the dead letters.
#[derive(Debug)]
pub struct DeadLettered<'a> {
    /// How many.
    pub documents: u64,
    /// The file of the first of them.
    pub path: &'a Path,
    /// Where its line starts.
    pub offset: u64,
    /// Elasticsearch's `error.type` for it.
    pub error_type: &'a str,
    /// And its reason.
    pub reason: &'a str,
}

impl DeadLettered<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.documents(DocumentOutcome::DeadLettered, self.documents);
        if let Some(times) = times(metrics.say(("dead_lettered", hash(self.error_type)))) {
            tracing::warn!(
                documents = self.documents,
                path = ?self.path,
                offset = self.offset,
                error_type = self.error_type,
                reason = self.reason,
                times,
                "documents were refused and are in the dead letters"
            );
        }
    }
}

/// Something went wrong and the work goes on.
pub struct Fault<'a> {
    /// What kind of thing.
    pub cause: FaultCause,
    /// What was being done: `listing`, `opening`, `archiving`…
    pub doing: &'static str,
    /// With which file, directory or address.
    pub subject: &'a Path,
    /// What the system said.
    pub error: &'a dyn fmt::Display,
}

impl Fault<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_fault(self.cause);
        if let Some(times) = times(metrics.say((self.cause.as_str(), hash(self.subject)))) {
            let (doing, error) = (self.doing, self.error.to_string());
            tracing::warn!(cause = %self.cause, doing, subject = ?self.subject, error, times, "fault");
        }
    }
}

/// Lines read and their outcomes do not add up: a defect.
#[derive(Debug)]
pub struct Unbalanced<'a> {
    /// The file, where it is one; else all together.
    pub file: Option<(FileId, &'a Path)>,
    /// Its lines.
    pub lines: Lines,
    /// What should be so, or what was refused.
    pub why: &'a dyn fmt::Debug,
}

impl Unbalanced<'_> {
    /// Counts and logs.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.count_fault(FaultCause::Conservation);
        let Some(times) = times(metrics.say(("unbalanced", hash(&self.file)))) else { return };
        let Lines { read, outcomes, in_flight } = self.lines;
        let (file, path) = self.file.map_or(("all".to_owned(), Path::new("")), |(id, path)| (id.to_string(), path));
        tracing::error!(
            path = ?path,
            file,
            read,
            created = outcomes.created,
            duplicate = outcomes.duplicate,
            dead_lettered = outcomes.dead_lettered,
            skipped = outcomes.skipped,
            in_flight,
            why = ?self.why,
            times,
            "lines read and their outcomes do not add up"
        );
    }
}

/// How often it happened since it was last said, if it is to be said.
fn times(word: Word) -> Option<u64> {
    match word {
        Word::First => Some(1),
        Word::Again(times) => Some(times),
        Word::Quiet => None,
    }
}

fn hash(subject: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logs::tests::logged;

    #[test]
    fn each_fault_is_counted_and_the_first_of_each_subject_logged() {
        let metrics = Metrics::new("web-1");
        let log = logged(|| {
            for path in ["/a", "/b", "/a\n/forged"] {
                for _ in 0..10 {
                    let (subject, error) = (Path::new(path), &"permission denied");
                    Fault { cause: FaultCause::Scan, doing: "listing", subject, error }.emit(&metrics);
                }
            }
        });
        assert_eq!(metrics.faults(FaultCause::Scan), 30);
        assert_eq!(log.lines().count(), 3, "{log}");
        assert!(log.contains(r#"subject="/b" error="permission denied" times=1"#), "{log}");
        assert!(log.contains(r"/a\n/forged"), "{log}");
    }

    #[test]
    fn a_file_gone_unread_is_a_fault_and_each_one_is_logged() {
        let metrics = Metrics::new("web-1");
        let gone = |unread_bytes| FileGone { path: Path::new("/a"), file: FileId([7; 8]), unread_bytes };
        let log = logged(|| {
            for unread_bytes in [0, 5, 5] {
                gone(unread_bytes).emit(&metrics);
            }
        });
        assert_eq!(metrics.faults(FaultCause::Lost), 2);
        assert_eq!(log.lines().filter(|line| line.contains("ERROR")).count(), 2, "{log}");
    }

    #[test]
    fn a_retry_counts_its_documents_and_is_said_once() {
        let metrics = Metrics::new("web-1");
        let log = logged(|| {
            for attempt in 1..=3 {
                let (delay, reason) = (Duration::from_millis(100), &"429 Too Many Requests");
                BatchRetried { cause: RetryCause::TooManyRequests, documents: 5, attempt, delay, reason }
                    .emit(&metrics);
            }
        });
        assert_eq!(metrics.snapshot().retried, 15);
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}
