//! The file `lock` of a store: held by the one process that uses the store, and the place of the witness.
//!
//! The witness says how many commits the store has at least. It is written after each commit without being synced: after
//! a power cut it may be behind, but it never says more than what is on disk. A store with fewer commits has therefore
//! lost some: its log was damaged, or an old copy was put in its place; its reservations would be wrong.
//!
//! Where the whole directory was put back from a backup, the witness is as old as the store. Against that there is a file
//! `place`, which nobody writes: the witness notes when the system last changed that file's inode (`ctime`), which no copy
//! can take along. A store whose `place` disagrees is of an unknown age: what it says is settled is settled, but anything
//! after that may have been sent.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::store::StoreError;

/// Name of the file in the store's directory.
const LOCK: &str = "lock";

/// Name of the file whose change is noted.
const PLACE: &str = "place";

/// A lower bound of what the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Which store.
    pub store_id: u64,
    /// How many commits it has at least.
    pub commits: u64,
    /// When the inode of `place` changed last, in nanoseconds since 1970. `None`: noted by a version that knew of none.
    pub place: Option<i64>,
}

/// Store, commits, place, checksum; an older version noted no place.
const WITNESS_LEN: usize = 32;
const WITNESS_LEN_1: usize = 24;

impl Witness {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = [self.store_id.to_be_bytes(), self.commits.to_be_bytes()].concat();
        bytes.extend(self.place.map(i64::to_be_bytes).into_iter().flatten());
        let checksum = xxh3_64(&bytes);
        bytes.extend(checksum.to_be_bytes());
        bytes
    }

    /// `None` where there is none, or not a whole one: it is a second proof, and the store has its own.
    fn read(file: &File) -> Option<Self> {
        [WITNESS_LEN, WITNESS_LEN_1].into_iter().find_map(|length| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, 0).ok()?;
            let number = |at: usize| bytes[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            let place = (length == WITNESS_LEN).then(|| number(16).cast_signed());
            let witness = Self { store_id: number(0), commits: number(8), place };
            (witness.encode() == bytes).then_some(witness)
        })
    }
}

/// When the inode of `place` in `directory` changed last; `None` where there is no such file.
fn place(directory: &Path) -> Result<Option<i64>, StoreError> {
    let path = directory.join(PLACE);
    match path.symlink_metadata() {
        Ok(found) => Ok(Some(found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// Whether the store in `directory` is where it was when its last commit was noted.
fn is_at_home(directory: &Path, witness: Option<Witness>) -> Result<bool, StoreError> {
    Ok(match witness {
        None => false,
        Some(Witness { place: None, .. }) => true,
        Some(Witness { place: noted, .. }) => noted == place(directory)?,
    })
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    directory: PathBuf,
    /// What the witness notes of `place`, once [`Lock::settle`] was called.
    place: Option<i64>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not by closing it alone: a child that is being started has a copy of the descriptor until it runs its program.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Locks the store in `directory`, which exists.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Io`].
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path, directory: directory.to_owned(), place: None }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// What the last commit noted.
    pub fn witness(&self) -> Option<Witness> {
        Witness::read(&self.file)
    }

    /// Whether the store is where it was when its last commit was noted; else it was copied or put back.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn is_at_home(&self) -> Result<bool, StoreError> {
        is_at_home(&self.directory, self.witness())
    }

    /// From here on this is where the store is.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn settle(&mut self) -> Result<(), StoreError> {
        let path = self.directory.join(PLACE);
        let made = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        made.map_err(StoreError::io("make", &path))?;
        self.place = place(&self.directory)?;
        Ok(())
    }

    /// Notes a commit that is on disk.
    pub fn note(&self, store_id: u64, commits: u64) {
        // A note that fails leaves the one before, which is as true.
        let _ = self.file.write_all_at(&Witness { store_id, commits, place: self.place }.encode(), 0);
    }

    /// Notes a store that is about to be made, durably: from here on no other is taken for it.
    pub fn replace(&self, store_id: u64, commits: u64) -> Result<(), StoreError> {
        let write = |file: &File| {
            file.set_len(0)?;
            file.write_all_at(&Witness { store_id, commits, place: self.place }.encode(), 0)?;
            file.sync_all()
        };
        write(&self.file).map_err(StoreError::io("write", &self.path))
    }
}

/// What [`look`] saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Whether a process uses the store.
    pub in_use: bool,
    /// What the last commit noted.
    pub witness: Option<Witness>,
    /// Whether the store is where it was then.
    pub at_home: bool,
}

/// Looks at a store from outside; makes no file. The lock is free again when this returns: a daemon that starts meanwhile
/// is not kept out by someone who only looks.
///
/// # Errors
/// [`StoreError::Io`].
pub(super) fn look(directory: &Path) -> Result<Sight, StoreError> {
    let path = directory.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Sight { in_use: false, witness: None, at_home: false });
        }
        Err(error) => return Err(StoreError::io("open", &path)(error)),
    };
    let in_use = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
    };
    file.unlock().map_err(StoreError::io("unlock", &path))?;
    let witness = Witness::read(&file);
    Ok(Sight { in_use, witness, at_home: is_at_home(directory, witness)? })
}
