//! The file `lock` of a store: held by the one process that uses the store, and the place of the witness.
//!
//! The witness says how many commits the store has at least. It is written after each commit without being synced: after
//! a power cut it may be behind, but it never says more than what is on disk. A store with fewer commits has therefore
//! lost some: its log was damaged, or an old copy was put in its place; its reservations would be wrong.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::store::StoreError;

/// Name of the file in the store's directory.
const LOCK: &str = "lock";

/// A lower bound of what the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Which store.
    pub store_id: u64,
    /// How many commits it has at least.
    pub commits: u64,
}

const WITNESS_LEN: usize = 24;

impl Witness {
    fn encode(self) -> [u8; WITNESS_LEN] {
        let mut bytes = [0; WITNESS_LEN];
        bytes[..8].copy_from_slice(&self.store_id.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.commits.to_be_bytes());
        let checksum = xxh3_64(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// `None` where there is none, or not a whole one: it is a second proof, and the store has its own.
    fn read(file: &File) -> Option<Self> {
        let mut bytes = [0; WITNESS_LEN];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let number = |at: usize| bytes[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let witness = Self { store_id: number(0), commits: number(8) };
        (witness.encode() == bytes).then_some(witness)
    }
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
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
            Ok(()) => Ok(Self { file, path }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// What the last commit noted.
    pub fn witness(&self) -> Option<Witness> {
        Witness::read(&self.file)
    }

    /// Notes a commit that is on disk.
    pub fn note(&self, witness: Witness) {
        // A note that fails leaves the one before, which is as true.
        let _ = self.file.write_all_at(&witness.encode(), 0);
    }

    /// Notes a store that is about to be made, durably: from here on no other is taken for it.
    pub fn replace(&self, witness: Witness) -> Result<(), StoreError> {
        let write = |file: &File| {
            file.set_len(0)?;
            file.write_all_at(&witness.encode(), 0)?;
            file.sync_all()
        };
        write(&self.file).map_err(StoreError::io("write", &self.path))
    }
}

/// Whether a process uses the store in `directory`, and what its last commit noted; makes no file. The lock is free again
/// when this returns: a daemon that starts meanwhile is not kept out by someone who only looks.
///
/// # Errors
/// [`StoreError::Io`].
pub(super) fn look(directory: &Path) -> Result<(bool, Option<Witness>), StoreError> {
    let path = directory.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((false, None)),
        Err(error) => return Err(StoreError::io("open", &path)(error)),
    };
    let in_use = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
    };
    file.unlock().map_err(StoreError::io("unlock", &path))?;
    Ok((in_use, Witness::read(&file)))
}
