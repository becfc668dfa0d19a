//! A store as people look at it: what it holds, what is wrong with it, what a start would do. Looking changes nothing in
//! the store, works beside a running daemon, and gives of a damaged store what can still be read, with what is wrong.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::lock::{self, Lock, Witness};
use super::row::FileRow;
use super::schema::{self, Content};
use super::store::{DATABASE, StoreError, sync_directory};

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
    /// What the store says of itself, where that can be read.
    pub store: Option<StoreFacts>,
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
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
    /// Whether the target may hold documents of files that this store never knew.
    pub doubtful_origin: bool,
    /// Commits so far.
    pub commits: u64,
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
    let (in_use, witness) = lock::look(directory)?;
    let path = directory.join(DATABASE);
    let log = directory.join("store.db-wal");
    let mut inspection = Inspection {
        path: path.clone(),
        in_use,
        verdict: Verdict::Create,
        store: None,
        files: Vec::new(),
        rows: Vec::new(),
        problems: Vec::new(),
    };
    match (stamp(&path)?, stamp(&log)?) {
        (None, None) => return Ok(inspection),
        (None, Some(_)) => inspection.problems.push("store.db is gone, but its log store.db-wal is there".to_owned()),
        (before, log_before) => {
            // Without a daemon and without a log it can be read where nothing can be written.
            let still = !in_use && log_before.is_none_or(|stamp| stamp.len == 0);
            let mut loaded = load(&path, still);
            if still && (before, log_before) != (stamp(&path)?, stamp(&log)?) {
                loaded = load(&path, false); // a daemon started meanwhile
            }
            match loaded {
                Ok(content) => inspection.fill(&content, witness),
                Err(StoreError::Damaged { damage, .. }) => inspection.problems.push(damage),
                Err(error @ StoreError::Newer { .. }) => inspection.problems.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
    }
    inspection.verdict = if inspection.problems.is_empty() { Verdict::Resume } else { Verdict::Refuse };
    Ok(inspection)
}

/// Reads a database. `still`: it has no log, and nobody writes it.
fn load(path: &Path, still: bool) -> Result<Content, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if still {
        Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI)
    } else {
        Connection::open_with_flags(path, flags)
    };
    schema::load(&connection.map_err(StoreError::sqlite("open", path))?, path)
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
    fn fill(&mut self, content: &Content, witness: Option<Witness>) {
        self.problems = content.damages(witness);
        self.store = content.meta.map(|meta| StoreFacts {
            id: format!("{:016x}", meta.store_id),
            created_at: meta.created_at,
            doubtful_origin: meta.doubtful_origin,
            commits: meta.commits,
        });
        self.rows = content.rows.iter().filter_map(|row| row.as_ref().ok()).cloned().collect();
        self.files = self.rows.iter().map(FileFacts::from).collect();
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
            writeln!(f, "made: {}, id {}, {} commits", time(store.created_at), store.id, store.commits)?;
            if store.doubtful_origin {
                writeln!(f, "origin: in doubt: the target may hold lines that this store never knew")?;
            }
        }
        let in_doubt = self.files.iter().filter(|file| file.in_doubt > 0);
        writeln!(f, "files: {}, {} of them in doubt", self.files.len(), in_doubt.clone().count())?;
        for file in in_doubt {
            let (id, path, end) = (&file.id, file.path.escape_debug(), file.reserved);
            writeln!(f, "  {id} {path}: resumes at {}, looks up bytes {}..{end}", file.resume_at, file.resume_at)?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        f.write_str(match self.verdict {
            Verdict::Create => "a start makes a new store\n",
            Verdict::Resume if self.in_use => "it is sound\n",
            Verdict::Resume => "it is sound: a start resumes each file at its offset\n",
            Verdict::Refuse => {
                "a start refuses this store; `logweir checkpoints reset` puts it aside, after which all files are read \
                 again and looked up\n"
            }
        })
    }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
