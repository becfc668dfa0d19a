//! A store as people look at it: what it holds, what is wrong with it, what a start would do. Looking changes no byte in
//! the store's directory, works beside a running daemon, and gives of a damaged store what can still be read, with what
//! is wrong.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::ledger::MAX_OFFSET;
use super::lock::{self, Lock, Sight};
use super::row::FileRow;
use super::schema::{self, Content, VERSION};
use super::store::{DATABASE, StoreError, sync_directory};
use crate::record::Outcomes;

#[cfg(test)]
mod tests;

/// What a store holds and what is wrong with it.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The database.
    pub path: PathBuf,
    /// Whether another process, most likely the daemon, uses it now.
    pub in_use: bool,
    /// What a start would do.
    pub verdict: Verdict,
    /// The same in words, a step each.
    pub start: Vec<String>,
    /// What the store says of itself, where that can be read.
    pub store: Option<StoreFacts>,
    /// What all files hold together; where something is wrong, those that can still be read.
    pub total: Total,
    /// The files, by id; where something is wrong, those that can still be read.
    pub files: Vec<FileFacts>,
    /// The same, as the store has them.
    #[serde(skip)]
    pub rows: Vec<FileRow>,
    /// What is wrong, the whole before single rows.
    pub problems: Vec<String>,
}

/// What a start would do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is none: make one.
    Create,
    /// Go on where each file stands.
    Resume,
    /// Refuse to start.
    Refuse,
}

/// What a store says of itself.
#[derive(Debug, Serialize)]
pub struct StoreFacts {
    /// Which store it is: sixteen hexadecimal digits.
    pub id: String,
    /// Its format.
    pub format: i64,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
    /// Whether it is where it was at its last commit; else it was copied or put back from a backup, and is of an unknown
    /// age.
    pub at_home: bool,
    /// Whether the target may hold documents of files that this store does not know.
    pub doubtful_origin: bool,
    /// Only of files older than this, in seconds since 1970; `None`: of any age, or of none.
    pub doubtful_before: Option<i64>,
    /// Commits so far.
    pub commits: u64,
}

/// What all files hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Files.
    pub files: u64,
    /// Finished chunks among them.
    pub done: u64,
    /// Bytes that are settled.
    pub bytes: u64,
    /// Lines that are settled.
    pub lines: u64,
    /// Lines created as documents.
    pub created: u64,
    /// Lines that were there already.
    pub duplicate: u64,
    /// Lines in the dead letters.
    pub dead_lettered: u64,
    /// Lines skipped by rule.
    pub skipped: u64,
    /// Files of which something is in doubt.
    pub files_in_doubt: u64,
    /// Bytes that are in doubt, of files as they were seen last.
    pub bytes_in_doubt: u64,
}

/// One file, with its progress.
#[derive(Debug, Serialize)]
pub struct FileFacts {
    /// The file: sixteen hexadecimal digits, with which the ids of its documents begin (in base64url).
    pub id: String,
    /// Name of its source.
    pub source: String,
    /// Where it was seen last; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its size in bytes when it was seen last.
    pub size: u64,
    /// Where a start would resume: every byte before it is settled.
    pub resume_at: u64,
    /// Furthest byte that may have been sent.
    pub reserved: u64,
    /// Bytes that may have been sent, from `resume_at` on: a start looks up as many of them as the file has.
    pub in_doubt: u64,
    /// Lines created as documents.
    pub created: u64,
    /// Lines that were there already.
    pub duplicate: u64,
    /// Lines in the dead letters.
    pub dead_lettered: u64,
    /// Lines skipped by rule.
    pub skipped: u64,
    /// The format that was decided for it.
    pub format: Option<String>,
    /// Whether it is a finished chunk.
    pub done: bool,
    /// When it was first seen, in seconds since 1970.
    pub first_seen: i64,
    /// When it was last seen, in seconds since 1970; may be up to an hour behind.
    pub last_seen: i64,
}

impl From<&FileRow> for FileFacts {
    fn from(row: &FileRow) -> Self {
        Self {
            id: row.id.to_string(),
            source: row.source.to_string(),
            path: row.path.to_string_lossy().into_owned(),
            size: row.size,
            resume_at: row.position.offset,
            reserved: row.reserved,
            in_doubt: row.doubt().map_or(0, crate::record::Span::len),
            created: row.outcomes.created,
            duplicate: row.outcomes.duplicate,
            dead_lettered: row.outcomes.dead_lettered,
            skipped: row.outcomes.skipped,
            format: row.format.as_deref().map(str::to_owned),
            done: row.done,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
        }
    }
}

/// Reads the store in `directory`.
///
/// # Errors
/// [`StoreError::Io`] and [`StoreError::Sqlite`] where it cannot be read at all (permissions). A damaged or a newer
/// store is no error but a [`Verdict::Refuse`] with its reasons.
pub fn inspect(directory: &Path) -> Result<Inspection, StoreError> {
    // The witness is read first: what is read after it has at least as many commits.
    let sight = lock::look(directory)?;
    let in_use = sight.in_use;
    let path = directory.join(DATABASE);
    let log = directory.join("store.db-wal");
    let mut inspection = Inspection {
        path: path.clone(),
        in_use,
        verdict: Verdict::Create,
        start: Vec::new(),
        store: None,
        total: Total::default(),
        files: Vec::new(),
        rows: Vec::new(),
        problems: Vec::new(),
    };
    match (stamp(&path)?, stamp(&log)?) {
        (None, None) => {}
        (None, Some(_)) => inspection.problems.push("store.db is gone, but its log store.db-wal is there".to_owned()),
        (before, log_before) => {
            let logged = log_before.is_some_and(|stamp| stamp.len > 0);
            let mut loaded = match (in_use, logged) {
                (true, _) => load(&path, Source::Shared),
                (false, true) => load(&path, Source::Copy),
                (false, false) => load(&path, Source::Still),
            };
            if !in_use && (before, log_before) != (stamp(&path)?, stamp(&log)?) {
                loaded = load(&path, Source::Shared); // a daemon started meanwhile
            }
            match loaded {
                Ok(content) => inspection.fill(&content, sight),
                Err(StoreError::Damaged { damage, .. }) => inspection.problems.push(damage),
                Err(error @ StoreError::Newer { .. }) => inspection.problems.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
    }
    if !inspection.problems.is_empty() {
        inspection.verdict = Verdict::Refuse;
    } else if inspection.store.is_some() {
        inspection.verdict = Verdict::Resume;
    }
    inspection.start = inspection.steps();
    Ok(inspection)
}

/// How to read a database without changing anything.
#[derive(Clone, Copy)]
enum Source {
    /// A daemon writes it: SQLite reads beside it.
    Shared,
    /// Nobody writes it, and it has no log.
    Still,
    /// Nobody writes it, but its log is not folded into it: SQLite would make a file to read both together.
    Copy,
}

fn load(path: &Path, source: Source) -> Result<Content, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = None;
    let connection = match source {
        Source::Shared => Connection::open_with_flags(path, flags),
        Source::Still => Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI),
        Source::Copy => {
            let copy = copy.insert(TemporaryCopy::of(path)?);
            Connection::open(copy.0.join(DATABASE))
        }
    };
    schema::load(&connection.map_err(StoreError::sqlite("open", path))?, path)
}

/// A database and its log in a directory of their own, removed in the end.
struct TemporaryCopy(PathBuf);

impl TemporaryCopy {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let mut number = 0_u32;
        let directory = loop {
            let name = format!("logweir-check-{}-{number}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => break directory,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(StoreError::io("make", &directory)(error)),
            }
        };
        let this = Self(directory);
        for suffix in ["", "-wal"] {
            let mut from = path.as_os_str().to_owned();
            from.push(suffix);
            let to = this.0.join(format!("{DATABASE}{suffix}"));
            fs::copy(&from, &to).map_err(StoreError::io("copy", Path::new(&from)))?;
        }
        Ok(this)
    }
}

impl Drop for TemporaryCopy {
    fn drop(&mut self) {
        // What stays is in the directory for what may be lost.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn immutable_uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(*byte)),
            other => _ = write!(uri, "%{other:02x}"),
        }
    }
    uri + "?immutable=1"
}

/// Tells whether a file was written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    inode: u64,
    changed: (i64, i64),
}

fn stamp(path: &Path) -> Result<Option<Stamp>, StoreError> {
    match fs::metadata(path) {
        Ok(found) => {
            Ok(Some(Stamp { len: found.len(), inode: found.ino(), changed: (found.mtime(), found.mtime_nsec()) }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// Puts the store in `directory` aside as `store.db.reset-<now>` (`now`: seconds since 1970), with its log beside it, so
/// that the next start makes a new one. Returns the new name, or `None` where there was no store.
///
/// # Errors
/// [`StoreError::InUse`], [`StoreError::Io`].
pub fn reset(directory: &Path, now: i64) -> Result<Option<PathBuf>, StoreError> {
    if stamp(directory)?.is_none() {
        return Ok(None);
    }
    let _lock = Lock::take(directory)?;
    let aside = free_name(directory, now)?;
    let mut moved = false;
    // The database last: a log without its database, or a database without the log it needs, is refused by a start that
    // comes after half a reset.
    for suffix in ["-shm", "-wal", ""] {
        let from = directory.join(format!("{DATABASE}{suffix}"));
        let mut to = aside.clone().into_os_string();
        to.push(suffix);
        match fs::rename(&from, &to) {
            Ok(()) => moved = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("move", &from)(error)),
        }
    }
    if moved {
        sync_directory(directory)?;
    }
    Ok(moved.then_some(aside))
}

fn free_name(directory: &Path, now: i64) -> Result<PathBuf, StoreError> {
    let mut number = 0_u32;
    loop {
        let name = match number {
            0 => format!("{DATABASE}.reset-{now}"),
            _ => format!("{DATABASE}.reset-{now}-{number}"),
        };
        let path = directory.join(name);
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        if stamp(&path)?.is_none() && stamp(Path::new(&log))?.is_none() {
            return Ok(path);
        }
        number += 1;
    }
}

impl Inspection {
    fn fill(&mut self, content: &Content, sight: Sight) {
        self.problems = content.damages(sight.witness);
        // While a daemon runs, the place is its own, whatever the witness says.
        let at_home = sight.in_use || sight.at_home;
        self.store = content.meta.map(|meta| StoreFacts {
            id: format!("{:016x}", meta.store_id),
            format: content.version,
            created_at: meta.created_at,
            at_home,
            doubtful_origin: meta.doubtful_before.is_some() || !at_home,
            doubtful_before: meta.doubtful_before.filter(|ns| at_home && *ns != i64::MAX).map(|ns| ns / 1_000_000_000),
            commits: meta.commits,
        });
        self.rows = content.rows.iter().filter_map(|row| row.as_ref().ok()).cloned().collect();
        if !at_home {
            self.rows.iter_mut().for_each(|row| row.reserved = MAX_OFFSET);
        }
        self.files = self.rows.iter().map(FileFacts::from).collect();
        for row in &self.rows {
            self.total.add(row);
        }
    }

    /// What a start would do.
    fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        match self.verdict {
            Verdict::Create => steps.push(
                "makes a new store: all files are read from their start, and unless the target is empty, those that are \
                 there already are looked up first"
                    .to_owned(),
            ),
            Verdict::Refuse => {
                steps.push("refuses this store, changes nothing and ends with status 74".to_owned());
            }
            Verdict::Resume => {
                let Some(store) = &self.store else { return steps };
                if store.format < VERSION {
                    steps.push(format!("turns format {} into format {VERSION}", store.format));
                }
                let Total { files, files_in_doubt, bytes_in_doubt, .. } = self.total;
                steps.push(format!("goes on where each of {} stands", counted(files)));
                if !store.at_home {
                    steps.push(
                        "takes nothing for granted that is not settled here: the store was copied or put back from a \
                         backup, and is of an unknown age"
                            .to_owned(),
                    );
                }
                if files_in_doubt > 0 {
                    steps.push(format!("looks up {bytes_in_doubt} bytes in doubt of {}", counted(files_in_doubt)));
                }
                if store.doubtful_origin {
                    let old = store.doubtful_before.map_or_else(
                        || "that are there by then".to_owned(),
                        |before| format!("that are older than {}", time(before)),
                    );
                    steps.push(format!("looks up files that the store does not know and {old}"));
                }
            }
        }
        steps
    }

    /// The files as a table: what `logweir checkpoints list` shows.
    #[must_use]
    pub fn list(&self) -> String {
        const HEAD: [&str; 10] =
            ["ID", "OFFSET", "RESERVED", "SIZE", "CREATED", "DUPLICATE", "DEAD", "SKIPPED", "SEEN", "PATH"];
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(self.files.iter().map(|file| {
            let numbers = [file.resume_at, file.reserved, file.size, file.created, file.duplicate];
            let [offset, reserved, size, created, duplicate] = numbers.map(|number| number.to_string());
            let (dead, skipped) = (file.dead_lettered.to_string(), file.skipped.to_string());
            let path = file.path.escape_debug().to_string();
            [file.id.clone(), offset, reserved, size, created, duplicate, dead, skipped, time(file.last_seen), path]
        }));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; HEAD.len()] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let pad = widths[column] - cell.len();
                match column {
                    0 => _ = write!(text, "{cell}{:pad$}", ""),
                    9 => _ = write!(text, "  {cell}"),
                    _ => _ = write!(text, "  {:pad$}{cell}", ""),
                }
            }
            text.push('\n');
        }
        text
    }
}

/// The verdict with its reasons: what `logweir checkpoints check` shows.
impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "store: {}{}", self.path.display(), if self.in_use { " (in use)" } else { "" })?;
        if let Some(store) = &self.store {
            let StoreFacts { id, format, commits, .. } = store;
            writeln!(f, "made: {}, id {id}, format {format}, {commits} commits", time(store.created_at))?;
        }
        if self.verdict != Verdict::Create {
            let Total { files, done, bytes, lines, created, duplicate, dead_lettered, skipped, .. } = self.total;
            writeln!(f, "files: {files}, {done} of them done; {bytes} bytes settled")?;
            writeln!(
                f,
                "lines: {lines}: {created} created, {duplicate} there before, {dead_lettered} dead letters, {skipped} \
                 skipped"
            )?;
        }
        for file in self.files.iter().filter(|file| file.in_doubt > 0) {
            let (id, path, from) = (&file.id, file.path.escape_debug(), file.resume_at);
            let to = if file.reserved == MAX_OFFSET { "its end".to_owned() } else { file.reserved.to_string() };
            writeln!(f, "in doubt: {id} {path}: bytes {from} to {to}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        for step in &self.start {
            writeln!(f, "a start {step}")?;
        }
        if self.verdict == Verdict::Refuse {
            f.write_str(
                "to start over: `logweir checkpoints reset` (with the same --config) puts this store aside and keeps it; \
                 the next start reads\nall files again, looks every line up and creates only those that are missing in \
                 Elasticsearch\n",
            )?;
        }
        Ok(())
    }
}

impl Total {
    fn add(&mut self, row: &FileRow) {
        let Outcomes { created, duplicate, dead_lettered, skipped } = row.outcomes;
        let (settled, seen) = (row.position.offset, row.size.max(row.position.offset));
        // A reservation reaches far beyond what there is.
        let in_doubt = row.doubt().map_or(0, |doubt| doubt.end.min(seen) - settled);
        self.files += 1;
        self.done += u64::from(row.done);
        self.bytes += settled - row.start.min(settled);
        self.lines += row.outcomes.total();
        self.created += created;
        self.duplicate += duplicate;
        self.dead_lettered += dead_lettered;
        self.skipped += skipped;
        self.files_in_doubt += u64::from(row.doubt().is_some());
        self.bytes_in_doubt += in_doubt;
    }
}

fn counted(files: u64) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
