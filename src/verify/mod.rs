//! The proof: each line of the files is in Elasticsearch exactly once.
//!
//! Reads the files again, computes the id that each line must have, and asks Elasticsearch for these ids, ten thousand a
//! request. Which file is which comes from the checkpoint store, read without disturbing a running daemon; a file is
//! checked as far as its checkpoint says, so the daemon may go on meanwhile. Memory does not grow with files or lines.
//! Beside [`crate::pipeline`] the only module that knows several stages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::checkpoint::FileRow;
use crate::client::{Client, Method, SendError};
use crate::config::{Config, Mode};
use crate::discover::identity;
use crate::pipeline::plan::Plan;
use crate::read::{Compression, Content, Cursor, Limits, Reader, Stat, Step};
use crate::record::{FileId, LineId, Position};

/// Ids in one request: as many as Elasticsearch returns in one answer.
const IDS_A_REQUEST: usize = 10_000;

const DEADLINE: Duration = Duration::from_secs(120);

/// How many examples of each kind a file's report names.
const EXAMPLES: usize = 10;

/// What the proof came to.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The cluster that was asked.
    pub cluster: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// All files together.
    pub total: Counts,
    /// Each file.
    pub files: Vec<FileReport>,
    /// Files that are known but not to be found any more: what of them is indexed cannot be compared.
    pub gone: Vec<GoneFile>,
}

/// A file that cannot be compared any more.
#[derive(Debug, Serialize)]
pub struct GoneFile {
    /// Where it was.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Which.
    pub file_id: String,
    /// Lines of it that were settled.
    pub lines: u64,
}

/// Counts of lines.
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
    /// Bytes after the checkpoint, not indexed yet: not counted above.
    pub behind: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.once += other.once;
        self.missing += other.missing;
        self.twice += other.twice;
        self.changed += other.changed;
        self.dead_lettered += other.dead_lettered;
        self.skipped += other.skipped;
        self.behind += other.behind;
    }

    /// Whether every line is accounted for.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.missing == 0 && self.twice == 0 && self.changed == 0
    }
}

/// One file's part of the proof.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// Where it is.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Which.
    pub file_id: String,
    /// Its source.
    pub source: String,
    /// Its target.
    pub target: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// xxh3 hash of the bytes that were compared, as sixteen hexadecimal digits.
    pub hash: String,
    /// Id of the first and of the last line.
    pub first_id: Option<String>,
    /// Id of the last line.
    pub last_id: Option<String>,
    /// Offsets of some lines that are missing.
    pub missing_at: Vec<u64>,
    /// Offsets of some lines that are there more than once.
    pub twice_at: Vec<u64>,
    /// Offsets of some lines that were changed.
    pub changed_at: Vec<u64>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
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

/// What verification needs.
pub struct Verification<'a> {
    /// The cluster.
    pub client: &'a Client,
    /// The configuration.
    pub config: &'a Config,
    /// The sources, compiled.
    pub plans: &'a [Plan],
    /// What the store knows.
    pub rows: Vec<FileRow>,
    /// Name of this host, for files that the store does not know.
    pub host: &'a str,
    /// Ids in the dead letters.
    pub dead_letters: HashSet<String>,
    /// Called now and then with the counts so far.
    pub progress: &'a mut (dyn FnMut(&Counts) + Send),
}

/// A path may be any bytes; JSON may not.
fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A file to compare.
struct Subject {
    path: PathBuf,
    source: usize,
    id: FileId,
    from: Position,
    /// Where comparing ends.
    to: u64,
    behind: u64,
}

impl Verification<'_> {
    /// Compares all files of all sources (or of the one named `only`).
    ///
    /// # Errors
    /// Where Elasticsearch cannot be asked or a file not be read: half a proof is none.
    pub async fn run(mut self, only: Option<&str>) -> Result<Report, VerifyError> {
        let mut report = Report { cluster: self.config.elasticsearch.urls.join(","), ..Report::default() };
        let (subjects, gone) = self.subjects(only)?;
        report.gone = gone;
        let targets: HashSet<_> = self.plans.iter().map(|plan| plan.destination.target.clone()).collect();
        for target in targets {
            // What was acknowledged is searchable only after a refresh; a target that does not exist yet holds nothing.
            self.client.json(Method::Post, &format!("{target}/_refresh"), &[], None, DEADLINE).await?;
        }
        for subject in subjects {
            let file = self.file(&subject, report.total).await?;
            report.total.add(file.counts);
            report.files.push(file);
        }
        Ok(report)
    }

    /// Finds the physical file of every row, and files without one.
    fn subjects(&self, only: Option<&str>) -> Result<(Vec<Subject>, Vec<GoneFile>), VerifyError> {
        let mut by_head: HashMap<(u32, u64), Vec<&FileRow>> = HashMap::new();
        for row in &self.rows {
            by_head.entry((row.head_len, row.head_hash)).or_default().push(row);
        }
        let mut subjects: BTreeMap<FileId, Subject> = BTreeMap::new();
        let mut seen = HashSet::new();
        for (source, plan) in self.plans.iter().enumerate() {
            if only.is_some_and(|name| name != plan.source.name) {
                continue;
            }
            let mut paths: Vec<PathBuf> = plan.globs.list().files.into_keys().collect();
            // Files that left the globs, by rotation or into the archive.
            let rows = self.rows.iter().filter(|row| *row.source == *plan.source.name);
            for row in rows {
                paths.push(row.path.to_path_buf());
                if let (Some(directory), Some(name)) = (&plan.source.archive_dir, row.path.file_name()) {
                    paths.push(directory.join(name));
                    let mut unique = name.to_owned();
                    unique.push(format!(".{}", row.id));
                    paths.push(directory.join(unique));
                }
            }
            for path in paths {
                if let Some(subject) = self.subject(&path, source, &by_head, &mut seen)? {
                    // The same file under several names: the one that has most of it.
                    if subjects.get(&subject.id).is_none_or(|best| subject.to >= best.to) {
                        subjects.insert(subject.id, subject);
                    }
                }
            }
        }
        let gone = self
            .rows
            .iter()
            .filter(|row| !subjects.contains_key(&row.id) && row.outcomes.total() > 0)
            .filter(|row| only.is_none_or(|name| name == &*row.source))
            .map(|row| GoneFile {
                path: row.path.to_path_buf(),
                file_id: row.id.to_string(),
                lines: row.outcomes.total(),
            })
            .collect();
        Ok((subjects.into_values().collect(), gone))
    }

    fn subject(
        &self,
        path: &Path,
        source: usize,
        by_head: &HashMap<(u32, u64), Vec<&FileRow>>,
        seen: &mut HashSet<(u64, u64)>,
    ) -> Result<Option<Subject>, VerifyError> {
        let fail = |source| VerifyError::Read { path: path.to_owned(), source };
        let (mut content, stat) = match Content::open(path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        if !seen.insert(stat.key()) {
            return Ok(None);
        }
        let complete = self.plans[source].source.mode == Mode::Chunks || Compression::of(path) != Compression::None;
        let Some(head) = content.head(complete).map_err(fail)? else { return Ok(None) };
        let length = content.length().map_err(fail)?;
        let key = head.key();
        let mut rows = by_head.get(&key).cloned().unwrap_or_default();
        // The physical file itself before copies of it, then what was read furthest.
        rows.sort_by_key(|row| (row.inode != stat.inode, std::cmp::Reverse(row.position.offset)));
        for row in rows {
            if content.hash_at(row.position.offset).map_err(fail)? == Some(row.position.tail_hash) {
                let from = match content.hash_at(row.start).map_err(fail)? {
                    Some(tail_hash) => Position { offset: row.start, tail_hash },
                    None => continue,
                };
                // A file keeps the source that it was first read by, wherever it was moved.
                let source = self.plans.iter().position(|plan| *plan.source.name == *row.source).unwrap_or(source);
                return Ok(Some(Subject {
                    path: path.to_owned(),
                    source,
                    id: row.id,
                    from,
                    to: row.position.offset,
                    behind: length - row.position.offset,
                }));
            }
        }
        if self.is_copy(path, &mut content, length, by_head.get(&key)).map_err(fail)?
            || self.is_left_alone(source, &stat)
        {
            return Ok(None);
        }
        // A changed file keeps its inode: its lines are compared one by one, and those that changed are named.
        let same = self.rows.iter().find(|row| row.inode == stat.inode && row.birth_ns == stat.birth_ns);
        let (id, to) = match same {
            Some(row) => (row.id, row.position.offset.min(length)),
            None if self.rows.is_empty() => (self.minted(&stat, &head.bytes), length),
            None => (self.minted(&stat, &head.bytes), 0),
        };
        let from = Cursor::start().position;
        Ok(Some(Subject { path: path.to_owned(), source, id, from, to, behind: length - to }))
    }

    /// Whether what is there is the beginning of a file that is known under another path.
    fn is_copy(
        &self,
        path: &Path,
        content: &mut Content,
        length: u64,
        rows: Option<&Vec<&FileRow>>,
    ) -> io::Result<bool> {
        for row in rows.into_iter().flatten().filter(|row| row.position.offset > length && *row.path != *path) {
            let Ok((mut original, _)) = Content::open(&row.path) else { continue };
            if original.hash_at(length)? == content.hash_at(length)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `ignore_older` keeps a file that is not known from being read.
    fn is_left_alone(&self, source: usize, stat: &Stat) -> bool {
        let now_ns = jiff::Timestamp::now().as_nanosecond();
        let limit = self.plans[source].source.ignore_older;
        limit.is_some_and(|limit| {
            now_ns - i128::from(stat.mtime_ns) > i128::try_from(limit.0.as_nanos()).unwrap_or(i128::MAX)
        }) && !self.rows.iter().any(|row| row.inode == stat.inode)
    }

    fn minted(&self, stat: &Stat, head: &[u8]) -> FileId {
        identity::mint(self.host, stat.inode, stat.birth_ns, head, |_| false).0
    }

    async fn file(&mut self, subject: &Subject, before: Counts) -> Result<FileReport, VerifyError> {
        let plan = &self.plans[subject.source];
        let fail = |source| VerifyError::Read { path: subject.path.clone(), source };
        let mut report = FileReport {
            path: subject.path.clone(),
            file_id: subject.id.to_string(),
            source: plan.source.name.clone(),
            target: plan.destination.target.to_string(),
            counts: Counts { behind: subject.behind, ..Counts::default() },
            hash: String::new(),
            first_id: None,
            last_id: None,
            missing_at: Vec::new(),
            twice_at: Vec::new(),
            changed_at: Vec::new(),
        };
        let (mut content, _) = Content::open(&subject.path).map_err(fail)?;
        let length = content.length().map_err(fail)?;
        let limits =
            Limits { max_line_bytes: usize::try_from(self.config.read.max_line_bytes.0).unwrap_or(usize::MAX) };
        let mut reader = Reader::default();
        let mut cursor = Cursor::at(subject.from);
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let complete = subject.to == length;
        let mut expected: Vec<(LineId, u64)> = Vec::with_capacity(IDS_A_REQUEST);
        while cursor.position.offset < subject.to {
            let mut counts = report.counts;
            let step = reader
                .step(&mut content, &mut cursor, complete, limits, |line, end| {
                    if end > subject.to {
                        return false;
                    }
                    counts.lines += 1;
                    counts.bytes = end - subject.from.offset;
                    hasher.update(line.bytes);
                    hasher.update(b"\n");
                    if line.bytes.is_empty() || !plan.filter.keeps(line.bytes) {
                        counts.skipped += 1;
                    } else {
                        expected.push((LineId::new(subject.id, line.offset, line.bytes), line.offset));
                    }
                    expected.len() < IDS_A_REQUEST && end < subject.to
                })
                .map_err(fail)?;
            report.counts = counts;
            if expected.len() >= IDS_A_REQUEST {
                self.compare(&mut report, &plan.destination.target, subject.id, &mut expected).await?;
                let mut so_far = before;
                so_far.add(report.counts);
                (self.progress)(&so_far);
            }
            match step {
                Step::More { .. } => {}
                Step::End { .. } => break,
                Step::Replaced => {
                    return Err(fail(io::Error::other("it changed while it was being compared: verify again")));
                }
            }
        }
        self.compare(&mut report, &plan.destination.target, subject.id, &mut expected).await?;
        report.hash = format!("{:016x}", hasher.digest());
        Ok(report)
    }

    async fn compare(
        &self,
        report: &mut FileReport,
        target: &str,
        file: FileId,
        expected: &mut Vec<(LineId, u64)>,
    ) -> Result<(), VerifyError> {
        if expected.is_empty() {
            return Ok(());
        }
        report.first_id = report.first_id.take().or_else(|| Some(expected[0].0.as_str().to_owned()));
        report.last_id = expected.last().map(|(id, _)| id.as_str().to_owned());
        let found = self.find(target, expected).await?;
        let mut absent = Vec::new();
        for (id, offset) in expected.drain(..) {
            match found.get(id.as_str()).copied().unwrap_or(0) {
                0 if self.dead_letters.contains(id.as_str()) => report.counts.dead_lettered += 1,
                0 => absent.push(offset),
                1 => report.counts.once += 1,
                _ => {
                    report.counts.twice += 1;
                    if report.twice_at.len() < EXAMPLES {
                        report.twice_at.push(offset);
                    }
                }
            }
        }
        let changed = self.offsets_present(target, file, &absent).await?;
        for offset in absent {
            let (count, examples) = if changed.contains(&offset) {
                (&mut report.counts.changed, &mut report.changed_at)
            } else {
                (&mut report.counts.missing, &mut report.missing_at)
            };
            *count += 1;
            if examples.len() < EXAMPLES {
                examples.push(offset);
            }
        }
        Ok(())
    }

    /// How often each id is there, over all backing indices. Where twins make an answer larger than it may be, it is
    /// asked for in halves.
    async fn find(&self, target: &str, expected: &[(LineId, u64)]) -> Result<HashMap<String, u32>, VerifyError> {
        let mut found = HashMap::with_capacity(expected.len());
        let mut parts = vec![expected];
        while let Some(part) = parts.pop() {
            let ids: Vec<&str> = part.iter().map(|(id, _)| id.as_str()).collect();
            let query = json!({"ids": {"values": ids}});
            let hits = self.search(target, &query, "hits.total.value,hits.hits._id,error").await?;
            let listed = hits["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
            let total = hits["total"]["value"].as_u64().unwrap_or(0);
            if total > listed.len() as u64 && part.len() > 1 {
                let (left, right) = part.split_at(part.len() / 2);
                parts.extend([left, right]);
                continue;
            }
            for hit in listed {
                *found.entry(hit["_id"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
            }
        }
        Ok(found)
    }

    /// Which of these offsets of `file` have a document at all, whatever its id.
    async fn offsets_present(&self, target: &str, file: FileId, offsets: &[u64]) -> Result<HashSet<u64>, VerifyError> {
        if offsets.is_empty() {
            return Ok(HashSet::new());
        }
        let query = json!({"bool": {"filter": [
            {"term": {"log.file.id": file.to_string()}},
            {"terms": {"log.offset": offsets}},
        ]}});
        let hits = self.search(target, &query, "hits.hits._source.log.offset,error").await?;
        let listed = hits["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(listed.iter().filter_map(|hit| hit["_source"]["log"]["offset"].as_u64()).collect())
    }

    async fn search(&self, target: &str, query: &Value, wanted: &str) -> Result<Value, VerifyError> {
        let path = format!("{target}/_search");
        let body = json!({
            "size": IDS_A_REQUEST,
            "query": query,
            "track_total_hits": true,
            "_source": if wanted.contains("_source") { json!(["log.offset"]) } else { json!(false) },
        });
        let parameters = [("filter_path", wanted), ("ignore_unavailable", "true")];
        let (status, mut answer) = self.client.json(Method::Post, &path, &parameters, Some(&body), DEADLINE).await?;
        match status {
            200 => Ok(answer["hits"].take()),
            404 => Ok(Value::Null),
            _ => Err(VerifyError::Refused {
                target: target.to_owned(),
                status,
                reason: answer["error"]["reason"].as_str().map_or_else(|| answer.to_string(), ToOwned::to_owned),
            }),
        }
    }
}
