//! The report of a proof: what a person keeps and a program reads. Its JSON keys are stable.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// What the proof came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of logweir.
    pub logweir: &'static str,
    /// Name of the host whose files were read.
    pub host: String,
    /// Which checkpoint store told the files apart: sixteen hexadecimal digits; `None` where there was none.
    pub store_id: Option<String>,
    /// The cluster that was asked.
    pub cluster: Cluster,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// When it ended (RFC 3339).
    pub ended_at: String,
    /// Whether every line is accounted for, and every document by a line.
    pub proven: bool,
    /// The same in a sentence.
    pub conclusion: String,
    /// All files together, those that are gone not counted.
    pub total: Counts,
    /// Each file.
    pub files: Vec<FileReport>,
    /// Files that are known but not to be found any more: their documents are counted, not compared.
    pub gone: Vec<GoneFile>,
}

/// Which cluster.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cluster {
    /// Its addresses, as configured.
    pub urls: Vec<String>,
    /// Its name, where it says.
    pub name: Option<String>,
    /// Its id, where it says.
    pub uuid: Option<String>,
}

/// Counts of lines, bytes and documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Lines up to the checkpoint.
    pub lines: u64,
    /// Bytes up to the checkpoint.
    pub bytes: u64,
    /// There exactly once.
    pub once: u64,
    /// Not there, and not accounted for.
    pub missing: u64,
    /// There more than once.
    pub twice: u64,
    /// There under this file and offset, but with other bytes: the line was changed after it was indexed.
    pub changed: u64,
    /// In the dead letters.
    pub dead_lettered: u64,
    /// Left out by rule.
    pub skipped: u64,
    /// Documents under the file's id that no line accounts for.
    pub extra: u64,
    /// Bytes after the checkpoint, not indexed yet: not counted above.
    pub behind: u64,
}

impl Counts {
    /// Adds another file's.
    pub fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.once += other.once;
        self.missing += other.missing;
        self.twice += other.twice;
        self.changed += other.changed;
        self.dead_lettered += other.dead_lettered;
        self.skipped += other.skipped;
        self.extra += other.extra;
        self.behind += other.behind;
    }

    /// Whether every line is accounted for, and every document by a line.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.missing == 0 && self.twice == 0 && self.changed == 0 && self.extra == 0
    }
}

/// One file's part of the proof.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileReport {
    /// Where it is.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Which: `log.file.id` of its documents.
    pub file_id: String,
    /// Its source.
    pub source: String,
    /// Its target.
    pub target: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// Where comparing began: byte 0, or where `start_at: end` began to read.
    pub start: u64,
    /// 64-bit XXH3 of the `bytes` (decompressed) bytes from `start` on, as sixteen hexadecimal digits.
    pub hash: String,
    /// Documents that have the file's id and an offset among the compared bytes; `None` where documents do not keep them.
    pub documents: Option<u64>,
    /// Id of the first line that must be there.
    pub first_id: Option<String>,
    /// Id of the last line that must be there.
    pub last_id: Option<String>,
    /// Offsets of some lines that are missing.
    pub missing_at: Vec<u64>,
    /// Offsets of some lines that are there more than once.
    pub twice_at: Vec<u64>,
    /// Offsets of some lines that were changed.
    pub changed_at: Vec<u64>,
    /// Documents that its lines account for.
    #[serde(skip)]
    pub(super) accounted: u64,
    /// Lines after the first one that are there under the id that they must have.
    #[serde(skip)]
    pub(super) recognised: u64,
}

/// A file that cannot be compared any more, and how it was settled.
#[derive(Clone, Debug, Serialize)]
pub struct GoneFile {
    /// Where it was.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Which: `log.file.id` of its documents.
    pub file_id: String,
    /// Its source.
    pub source: String,
    /// Its target; `None` if the source is no longer configured.
    pub target: Option<String>,
    /// Lines that were settled: the sum of the next four.
    pub lines: u64,
    /// Created as documents.
    pub created: u64,
    /// Found there already.
    pub duplicate: u64,
    /// Put into the dead letters.
    pub dead_lettered: u64,
    /// Left out by rule.
    pub skipped: u64,
    /// Bytes that it had when it was seen last and that were never settled; 0 for compressed files, where it is not known.
    pub unread: u64,
    /// What is there of it; `None` where that cannot be counted.
    pub counted: Option<GoneCounts>,
}

/// What is in Elasticsearch of a file that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GoneCounts {
    /// Documents under its id.
    pub documents: u64,
    /// Lines of which there is exactly one.
    pub once: u64,
    /// Lines of which there is more than one.
    pub twice: u64,
    /// Lines too few.
    pub missing: u64,
    /// Lines too many.
    pub extra: u64,
}

impl GoneFile {
    /// Compares what is there (`documents` at `offsets` different offsets, `once` of which have one document) with how it
    /// was settled. Dead letters may have been sent again since.
    pub(super) fn compare(&mut self, documents: u64, offsets: u64, once: u64) {
        let least = self.created + self.duplicate;
        self.counted = Some(GoneCounts {
            documents,
            once,
            twice: offsets - once,
            missing: least.saturating_sub(offsets),
            extra: offsets.saturating_sub(least + self.dead_lettered),
        });
    }

    /// Whether what was counted is what was settled.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.counted.is_none_or(|counted| counted.twice == 0 && counted.missing == 0 && counted.extra == 0)
    }
}

impl Report {
    /// Adds everything up, and says what it comes to.
    pub(super) fn conclude(&mut self) {
        self.total = Counts::default();
        for file in &self.files {
            self.total.add(file.counts);
        }
        self.proven = self.total.is_proven() && self.gone.iter().all(GoneFile::is_proven);
        self.conclusion = self.sentence();
    }

    fn sentence(&self) -> String {
        let total = &self.total;
        let mut text = if self.proven {
            format!("proven: each of {} lines is there exactly once", total.lines)
        } else {
            let mut text = format!("NOT proven: of {} lines", total.lines);
            let wrong = [
                (total.missing, "missing"),
                (total.twice, "there twice"),
                (total.changed, "changed after they were indexed"),
            ];
            let mut wrong: Vec<String> =
                wrong.iter().filter(|(n, _)| *n > 0).map(|(n, w)| format!("{n} {w}")).collect();
            if wrong.is_empty() {
                wrong.push("none missing, twice or changed".to_owned());
            }
            text.push_str(&format!(" {}", wrong.join(", ")));
            if total.extra > 0 {
                text.push_str(&format!("; {} documents that no line accounts for", total.extra));
            }
            text
        };
        let beside = [(total.dead_lettered, "in the dead letters"), (total.skipped, "left out by rule")];
        let beside: Vec<String> = beside.iter().filter(|(n, _)| *n > 0).map(|(n, w)| format!("{n} {w}")).collect();
        if !beside.is_empty() {
            text.push_str(&format!(" ({} of them)", beside.join(", ")));
        }
        if total.behind > 0 {
            text.push_str(&format!("; {} bytes after the checkpoints are to come", total.behind));
        }
        text + &self.sentence_of_gone()
    }

    fn sentence_of_gone(&self) -> String {
        let mut text = String::new();
        let counted: Vec<&GoneFile> = self.gone.iter().filter(|gone| gone.counted.is_some()).collect();
        if !counted.is_empty() {
            let (files, lines) = (counted.len(), counted.iter().map(|gone| gone.lines).sum::<u64>());
            let sum =
                |of: fn(&GoneCounts) -> u64| counted.iter().filter_map(|gone| gone.counted.as_ref()).map(of).sum();
            let (twice, missing, extra): (u64, u64, u64) =
                (sum(|counts| counts.twice), sum(|counts| counts.missing), sum(|counts| counts.extra));
            text.push_str(&format!("; {files} files with {lines} lines are gone, by count "));
            if counted.iter().all(|gone| gone.is_proven()) {
                text.push_str("they are there exactly once");
            } else {
                text.push_str(&format!("{missing} are missing, {twice} there twice, {extra} too many"));
            }
        }
        let uncounted: Vec<&GoneFile> = self.gone.iter().filter(|gone| gone.counted.is_none()).collect();
        if !uncounted.is_empty() {
            let lines: u64 = uncounted.iter().map(|gone| gone.lines).sum();
            text.push_str(&format!("; {} files with {lines} lines are gone and cannot be counted", uncounted.len()));
        }
        let unread: u64 = self.gone.iter().map(|gone| gone.unread).sum();
        if unread > 0 {
            text.push_str(&format!("; {unread} bytes of gone files were never indexed"));
        }
        text
    }
}

/// A path may be any bytes; JSON may not.
fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(total: Counts, gone: Vec<GoneFile>) -> Report {
        let file = FileReport { path: "/a.log".into(), counts: total, ..FileReport::default() };
        let mut report = Report {
            logweir: "1.0.0",
            host: "web-1".to_owned(),
            store_id: None,
            cluster: Cluster::default(),
            started_at: String::new(),
            ended_at: String::new(),
            proven: false,
            conclusion: String::new(),
            total: Counts::default(),
            files: vec![file],
            gone,
        };
        report.conclude();
        report
    }

    fn gone(created: u64, dead_lettered: u64) -> GoneFile {
        GoneFile {
            path: "/b.log".into(),
            file_id: String::new(),
            source: String::new(),
            target: None,
            lines: created + dead_lettered,
            created,
            duplicate: 0,
            dead_lettered,
            skipped: 0,
            unread: 0,
            counted: None,
        }
    }

    #[test]
    fn the_conclusion_says_what_is_wrong_and_what_is_beside() {
        let good = Counts { lines: 10, once: 7, dead_lettered: 1, skipped: 2, ..Counts::default() };
        let cases = [
            (
                good,
                true,
                "proven: each of 10 lines is there exactly once (1 in the dead letters, 2 left out by rule of them)",
            ),
            (
                Counts { lines: 10, once: 9, missing: 1, ..Counts::default() },
                false,
                "NOT proven: of 10 lines 1 missing",
            ),
            (
                Counts { lines: 10, once: 10, extra: 3, behind: 5, ..Counts::default() },
                false,
                "NOT proven: of 10 lines none missing, twice or changed; 3 documents that no line accounts for; 5 bytes \
                 after the checkpoints are to come",
            ),
        ];
        for (counts, proven, conclusion) in cases {
            let report = report(counts, Vec::new());
            assert_eq!((report.proven, report.conclusion.as_str()), (proven, conclusion));
        }
    }

    #[test]
    fn a_gone_file_is_proven_by_a_count_of_its_documents() {
        // Documents, different offsets, offsets with one document; settled 10, of which 2 may have been sent again.
        for ((documents, offsets, once), proven) in
            [((8, 8, 8), true), ((10, 10, 10), true), ((7, 7, 7), false), ((9, 8, 7), false), ((11, 11, 11), false)]
        {
            let mut file = gone(8, 2);
            file.compare(documents, offsets, once);
            let report = report(Counts::default(), vec![file]);
            assert_eq!(report.proven, proven, "{documents} {offsets} {once}: {}", report.conclusion);
            assert_eq!(report.conclusion.contains("they are there exactly once"), proven, "{}", report.conclusion);
        }
        let report = report(Counts::default(), vec![gone(8, 2)]);
        assert!(report.conclusion.ends_with("; 1 files with 10 lines are gone and cannot be counted"));
    }
}
