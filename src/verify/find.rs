//! Which file on disk is which file of the store: by first line and by the bytes before the checkpoint, as the daemon tells
//! them, wherever they are now.
//!
//! Looked through are the globs, the place where a file was seen last, and for what is not there the archive directory and
//! files beside the last place that have its inode or a name like its own. What only the globs give may be unknown; what
//! was found elsewhere counts only if it is a file of the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use super::VerifyError;
use crate::checkpoint::FileRow;
use crate::config::Mode;
use crate::discover::identity;
use crate::filesystem::Stat;
use crate::pipeline::plan::Plan;
use crate::read::{Compression, Content, Cursor, Head};
use crate::record::{FileId, Position};

/// Directories below the archive directory are looked into so deep.
const ARCHIVE_DEPTH: usize = 4;

/// How sure it is what a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It has the first line and the bytes before the checkpoint that were read.
    Known,
    /// It has the inode of a file that is nowhere else, but other bytes: its lines tell whether they were changed, or
    /// whether it is another file.
    SameInode,
    /// There is no store: all of it is to be compared.
    NoStore,
    /// The store does not know it: nothing of it is to be compared.
    Unknown,
}

/// A file to compare.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where it is.
    pub path: PathBuf,
    /// Device and inode.
    pub key: (u64, u64),
    /// Index of its source.
    pub source: usize,
    /// Which file it is.
    pub id: FileId,
    /// How sure that is.
    pub identity: Identity,
    /// Where comparing begins.
    pub from: Position,
    /// Where comparing ends; the hash is known only of [`Identity::Known`].
    pub to: Position,
    /// Bytes after that.
    pub behind: u64,
    /// Which file it would be, were it new.
    pub minted: FileId,
}

/// A file that is not known by its bytes.
struct Stray {
    path: PathBuf,
    source: usize,
    stat: Stat,
    head: Head,
    length: u64,
    in_globs: bool,
}

/// The search.
pub struct Finder<'a> {
    plans: &'a [Plan],
    rows: &'a [FileRow],
    host: &'a str,
    /// There is no store, and nobody is making one.
    no_store: bool,
    by_head: HashMap<(u32, u64), Vec<&'a FileRow>>,
    found: BTreeMap<FileId, Subject>,
    seen: HashSet<(u64, u64)>,
    strays: Vec<Stray>,
}

impl<'a> Finder<'a> {
    /// A search for the files of `rows`; where there are none and no daemon runs, every file is to be compared.
    pub fn new(plans: &'a [Plan], rows: &'a [FileRow], host: &'a str, in_use: bool) -> Self {
        let no_store = rows.is_empty() && !in_use;
        let mut by_head: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            by_head.entry((row.head_len, row.head_hash)).or_default().push(row);
        }
        Self { plans, rows, host, no_store, by_head, found: BTreeMap::new(), seen: HashSet::new(), strays: Vec::new() }
    }

    /// Looks for the files of all sources, or of the one named `only`.
    ///
    /// # Errors
    /// A directory or file of the globs, or a file where it was seen last, that is there and cannot be read.
    pub fn find(mut self, only: Option<&str>) -> Result<Vec<Subject>, VerifyError> {
        let plans = self.plans;
        let wanted = |plan: &Plan| only.is_none_or(|name| name == plan.source.name);
        for (source, plan) in plans.iter().enumerate().filter(|(_, plan)| wanted(plan)) {
            let listing = plan.globs.list();
            // A link that leads in circles is no file.
            let circle = rustix::io::Errno::LOOP.raw_os_error();
            if let Some((path, source)) =
                listing.faults.into_iter().find(|(_, error)| error.raw_os_error() != Some(circle))
            {
                return Err(VerifyError::Read { path, source });
            }
            for (path, _) in listing.files {
                self.look_at(&path, source, true).map_err(|source| VerifyError::Read { path, source })?;
            }
        }
        for (source, plan) in plans.iter().enumerate().filter(|(_, plan)| wanted(plan)) {
            for row in self.missing(plan) {
                let fail = |source| VerifyError::Read { path: row.path.to_path_buf(), source };
                self.look_at(&row.path, source, false).map_err(fail)?;
            }
            for path in self.places(plan) {
                // What cannot be read there may be anything: the file stays missing.
                let _ = self.look_at(&path, source, false);
            }
        }
        self.tell_strays()?;
        Ok(self.found.into_values().collect())
    }

    /// Files of a source that are not found yet.
    fn missing(&self, plan: &Plan) -> Vec<&'a FileRow> {
        let is_missing = |row: &&FileRow| *row.source == *plan.source.name && !self.found.contains_key(&row.id);
        self.rows.iter().filter(is_missing).collect()
    }

    /// Where files of a source that are not found yet may be.
    fn places(&self, plan: &Plan) -> Vec<PathBuf> {
        let missing = self.missing(plan);
        let mut places = Vec::new();
        if missing.is_empty() {
            return places;
        }
        if let Some(directory) = &plan.source.archive_dir {
            walk(directory, ARCHIVE_DEPTH, &mut places);
        }
        let mut directories: BTreeMap<&Path, (HashSet<u64>, BTreeSet<&[u8]>)> = BTreeMap::new();
        for row in missing {
            if let (Some(directory), Some(name)) = (row.path.parent(), row.path.file_name()) {
                let (inodes, stems) = directories.entry(directory).or_default();
                inodes.insert(row.inode);
                stems.insert(stem(name));
            }
        }
        for (directory, (inodes, stems)) in directories {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            for entry in entries.flatten() {
                if inodes.contains(&entry.ino()) || stems.contains(stem(&entry.file_name())) {
                    places.push(entry.path());
                }
            }
        }
        places
    }

    fn look_at(&mut self, path: &Path, source: usize, in_globs: bool) -> io::Result<()> {
        let (mut content, stat) = match Content::open(path) {
            Ok(opened) => opened,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(_) if !in_globs && !path.is_file() => return Ok(()),
            Err(error) => return Err(error),
        };
        if !self.seen.insert(stat.key()) {
            return Ok(());
        }
        let complete = self.plans[source].source.mode == Mode::Chunks || Compression::of(path) != Compression::None;
        let Some(head) = content.head(complete)? else { return Ok(()) };
        let key = head.key();
        let mut rows = self.by_head.get(&key).cloned().unwrap_or_default();
        // The physical file itself before copies of it, then what was read furthest.
        rows.sort_by_key(|row| (row.inode != stat.inode, std::cmp::Reverse(row.position.offset)));
        for row in rows {
            // Elsewhere a file of another source is that source's to find.
            if !in_globs && *row.source != *self.plans[source].source.name {
                continue;
            }
            if content.hash_at(row.position.offset)? != Some(row.position.tail_hash) {
                continue;
            }
            let Some(from) = position(&mut content, row.start)? else { continue };
            // A file keeps the source that it was first read by, wherever it was moved.
            let source = self.plans.iter().position(|plan| *plan.source.name == *row.source).unwrap_or(source);
            let behind = content.length()?.saturating_sub(row.position.offset);
            let subject = Subject {
                path: path.to_owned(),
                key: stat.key(),
                source,
                id: row.id,
                identity: Identity::Known,
                from,
                to: row.position,
                behind,
                minted: row.id,
            };
            // One file with two names is one file: the one that was read, else the longest.
            let rank = |subject: &Subject| (subject.key.1 == row.inode, subject.behind);
            if self.found.get(&row.id).is_none_or(|best| rank(&subject) > rank(best)) {
                self.found.insert(row.id, subject);
            }
            return Ok(());
        }
        let length = content.length()?;
        self.strays.push(Stray { path: path.to_owned(), source, stat, head, length, in_globs });
        Ok(())
    }

    /// What became of files whose bytes are those of none: changed, new, or left alone.
    fn tell_strays(&mut self) -> Result<(), VerifyError> {
        for stray in std::mem::take(&mut self.strays) {
            let fail = |source| VerifyError::Read { path: stray.path.clone(), source };
            let is_missing = |row: &&FileRow| !self.found.contains_key(&row.id);
            let physical = |row: &&FileRow| row.inode == stray.stat.inode && row.birth_ns == stray.stat.birth_ns;
            let same = self.rows.iter().filter(physical).find(is_missing);
            if let Some(row) = same {
                let (mut content, stat) = match Content::open(&stray.path) {
                    Ok(opened) => opened,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(fail(error)),
                };
                if let Some(from) = position(&mut content, row.start).map_err(fail)? {
                    let to = Position { offset: row.position.offset.min(stray.length), tail_hash: 0 };
                    self.insert(&stray, stat.key(), Some(row.id), Identity::SameInode, from, to);
                    continue;
                }
            }
            if !stray.in_globs || self.is_copy(&stray).map_err(fail)? || self.is_left_alone(&stray) {
                continue;
            }
            let start = Cursor::start().position;
            let key = stray.stat.key();
            if self.no_store {
                let to = Position { offset: stray.length, tail_hash: 0 };
                self.insert(&stray, key, None, Identity::NoStore, start, to);
            } else {
                self.insert(&stray, key, None, Identity::Unknown, start, start);
            }
        }
        Ok(())
    }

    fn insert(
        &mut self,
        stray: &Stray,
        key: (u64, u64),
        id: Option<FileId>,
        identity: Identity,
        from: Position,
        to: Position,
    ) {
        let taken = |id| self.rows.iter().any(|row| row.id == id);
        let (minted, _) = identity::mint(self.host, stray.stat.inode, stray.stat.birth_ns, &stray.head.bytes, taken);
        let id = id.unwrap_or(minted);
        let subject = Subject {
            path: stray.path.clone(),
            key,
            source: stray.source,
            id,
            identity,
            from,
            to,
            behind: stray.length - to.offset,
            minted,
        };
        self.found.entry(id).or_insert(subject);
    }

    /// Whether what is there is the beginning of a file that was found elsewhere.
    fn is_copy(&self, stray: &Stray) -> io::Result<bool> {
        let rows = self.by_head.get(&stray.head.key()).into_iter().flatten();
        for row in rows.filter(|row| row.position.offset > stray.length) {
            let Some(original) = self.found.get(&row.id) else { continue };
            let (Ok((mut original, _)), Ok((mut copy, _))) =
                (Content::open(&original.path), Content::open(&stray.path))
            else {
                continue;
            };
            if original.hash_at(stray.length)? == copy.hash_at(stray.length)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `ignore_older` keeps a file that is not known from being read.
    fn is_left_alone(&self, stray: &Stray) -> bool {
        let now_ns = jiff::Timestamp::now().as_nanosecond();
        let limit = self.plans[stray.source].source.ignore_older;
        limit.is_some_and(|limit| {
            now_ns - i128::from(stray.stat.mtime_ns) > i128::try_from(limit.0.as_nanos()).unwrap_or(i128::MAX)
        }) && !self.rows.iter().any(|row| row.inode == stray.stat.inode)
    }
}

fn position(content: &mut Content, offset: u64) -> io::Result<Option<Position>> {
    if offset == 0 {
        return Ok(Some(Cursor::start().position));
    }
    Ok(content.hash_at(offset)?.map(|tail_hash| Position { offset, tail_hash }))
}

/// What rotation leaves of a name: `access` of `access.log`, `access-20240603.log.gz` and `access.log.1`.
fn stem(name: &OsStr) -> &[u8] {
    let bytes = name.as_bytes();
    let end = bytes.iter().skip(1).position(|byte| matches!(byte, b'.' | b'-' | b'_')).map_or(bytes.len(), |at| at + 1);
    &bytes[..end]
}

/// All files below `directory`; links are not followed.
fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, files),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_name_has_the_stem_of_its_file() {
        for name in ["access.log", "access.log.1", "access-20240603.log.gz", "access_log"] {
            assert_eq!(stem(OsStr::new(name)), b"access", "{name}");
        }
        for (name, expected) in [("error.log", "error"), (".hidden.log", ".hidden"), ("plain", "plain")] {
            assert_eq!(stem(OsStr::new(name)), expected.as_bytes(), "{name}");
        }
    }
}
