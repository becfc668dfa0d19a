//! What the stages ask of the file system, and of the clock that dates its files.
//!
//! [`Os`] is the real one. It is a trait so that the simulator can put a model beneath the very code that runs in
//! production; it is asked once a file, a listing or a block, never once a line.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is behind a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// What the file system says of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Device number: good within one mount only.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes on disk.
    pub size: u64,
    /// Last change of the content, in ns since 1970.
    pub mtime_ns: i64,
    /// Birth, in ns since 1970; 0 where the file system does not say.
    pub birth_ns: i64,
    /// Names that the file has; 0 once it is deleted and only held open.
    pub links: u64,
}

impl Stat {
    /// From what the standard library returns.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        let birth_ns = meta
            .created()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(0));
        let kind = match meta.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            _ => Kind::Other,
        };
        Self {
            kind,
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
            birth_ns,
            links: meta.nlink(),
        }
    }

    /// What tells physical files apart while they are mounted.
    #[must_use]
    pub fn key(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The name, without its directory.
    pub name: OsString,
    /// Inode number of what it names.
    pub inode: u64,
}

/// An open file: it stays readable when it is renamed or loses its last name.
pub trait OpenFile: Send + Sync + Debug {
    /// What is open, whatever its path means now.
    fn stat(&self) -> io::Result<Stat>;

    /// Reads at `offset`, once; 0 bytes only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// What is asked of a file system. Errors are what the system says.
pub trait FileSystem: Send + Sync + Debug {
    /// What is behind `path`, links followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// What is behind `path`, which may be a link itself.
    fn link_stat(&self, path: &Path) -> io::Result<Stat>;

    /// All names in `directory`, or an error: never some of them.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;

    /// Opens for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;

    /// Gives `from` the name `to`, within one file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Copies the content of `from` to `to`, with the time of its last change.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Brings a file, or the names in a directory, to disk.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Now, in ns since 1970, by the clock that files are dated with.
    fn now_ns(&self) -> i64;

    /// Whether `path` is a directory, links followed.
    fn is_dir(&self, path: &Path) -> bool {
        self.stat(path).is_ok_and(|stat| stat.kind == Kind::Directory)
    }
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl FileSystem for Os {
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(Stat::of(&fs::metadata(path)?))
    }

    fn link_stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(Stat::of(&path.symlink_metadata()?))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let entry =
            |entry: io::Result<fs::DirEntry>| entry.map(|entry| Entry { name: entry.file_name(), inode: entry.ino() });
        fs::read_dir(directory)?.map(entry).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let modified = fs::metadata(from)?.modified()?;
        fs::copy(from, to)?;
        File::options().write(true).open(to)?.set_modified(modified)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn now_ns(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
}

impl OpenFile for File {
    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::of(&self.metadata()?))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }
}
