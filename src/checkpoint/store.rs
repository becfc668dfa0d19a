//! The checkpoint store on disk: SQLite, one process at a time.
//!
//! What [`Store::commit`] returned for is on disk and stays there. What [`Store::open`] returns is exactly what the last
//! commit left: every row has a checksum, the set of rows has a digest, and the number of the last commit is noted a
//! second time outside the database, so that a lost row, a row of yesterday or a log that broke off are as visible as a
//! flipped bit. A store that fails any of this is refused and not changed.
//!
//! In the directory: `store.db` with its log `store.db-wal`, and `lock`, which is locked by the process that uses the
//! store and holds the witness: the number of the last commit, and of which `place` (see [`lock`](super::lock)).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::record::FileId;

use super::ledger::{Changes, MAX_OFFSET, Origin};
use super::lock::{Lock, Witness};
use super::row::FileRow;
use super::schema::{self, Content, Meta};

#[cfg(test)]
mod tests;

/// The database in the store's directory.
pub(super) const DATABASE: &str = "store.db";

/// Opening a store takes less: 32 KiB beside the database, and some pages of its log.
const LEAST_ROOM: u64 = 64 << 10;

/// Why a store cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory, the lock or the database cannot be made, opened or read.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("another process uses the checkpoint store {}: stop it, or set another checkpoint.path", path.display())]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "the checkpoint store {} has format {found}, and this version knows formats up to {known}: run the newer \
         version that wrote it; `logweir checkpoints check` says more",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known format.
        known: i64,
    },
    /// What it holds is not what was written.
    #[error(
        "the checkpoint store {} is damaged: {damage}; `logweir checkpoints check` (with the same --config) shows what it \
         still holds, and `logweir checkpoints reset` puts it aside: the next start then reads all files again, looks \
         every line up and creates only those that are missing in Elasticsearch",
        path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        damage: String,
    },
    /// SQLite cannot read or write it now: no room, no permission, an I/O error.
    #[error("cannot {action} the checkpoint store {}: {source}", path.display())]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether there is no room for it on its disk: that can change.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Sqlite { path, source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => true,
                // So SQLite calls it where the memory that it shares beside the database has no room.
                Some(rusqlite::ErrorCode::SystemIoFailure) => {
                    let directory = path.parent().unwrap_or(path);
                    rustix::fs::statvfs(directory).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < LEAST_ROOM)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Tells damage from trouble.
    pub(super) fn sqlite(action: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path, damage: source.to_string() }
            }
            _ => Self::Sqlite { action, path, source },
        }
    }
}

/// The store of this process.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    meta: Meta,
    /// Checksum of each row on disk, from which the digest is carried on.
    checksums: HashMap<FileId, u64>,
    /// Released last.
    lock: Lock,
}

impl Store {
    /// Opens the store in `directory`, or makes one if there is none, with `now` (seconds since 1970) as its time of
    /// creation and its origin in doubt. An older format becomes the newest. A store that was copied or put back here is
    /// of an unknown age: all that it has not settled is in doubt then, as are files that it does not know.
    ///
    /// # Errors
    /// Any [`StoreError`]; the store is unchanged then.
    pub fn open(directory: &Path, now: i64) -> Result<(Self, Vec<FileRow>), StoreError> {
        fs::create_dir_all(directory).map_err(StoreError::io("create", directory))?;
        let mut lock = Lock::take(directory)?;
        let path = directory.join(DATABASE);
        if !path.try_exists().map_err(StoreError::io("look for", &path))? {
            let log = directory.join("store.db-wal");
            if log.try_exists().map_err(StoreError::io("look for", &log))? {
                let damage = "it is gone, but its log store.db-wal is there".to_owned();
                return Err(StoreError::Damaged { path, damage });
            }
            create(directory, &mut lock, now)?;
        }

        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(StoreError::sqlite("open", &path))?;
        // Until the store has proved sound, closing it must not fold its log into it.
        set_keep_log(&connection, true).map_err(StoreError::sqlite("open", &path))?;
        let content = schema::load(&connection, &path)?;
        let version = content.version;
        let (meta, mut rows) = sound(content, lock.witness(), &path)?;
        let at_home = lock.is_at_home()?;
        schema::prepare_for_writing(&connection).map_err(StoreError::sqlite("open", &path))?;
        set_keep_log(&connection, false).map_err(StoreError::sqlite("open", &path))?;

        schema::migrate(&mut connection, version, &meta).map_err(StoreError::sqlite("convert", &path))?;
        lock.settle()?;
        let checksums = rows.iter().map(|row| (row.id, row.checksum())).collect();
        let mut store = Self { connection, path, meta, checksums, lock };
        if !at_home {
            rows.iter_mut().for_each(|row| row.reserved = MAX_OFFSET);
            let origin = Some(Origin { doubtful_before: Some(i64::MAX) });
            store.commit(&Changes { rows: rows.clone(), forgotten: Vec::new(), origin })?;
        }
        Ok((store, rows))
    }

    /// What the store says of itself.
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Writes `changes` in one transaction. When this returns they are on disk.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`] or [`StoreError::Damaged`]: the changes may or may not be on disk. The next commit has to
    /// hold them (or newer rows of the same files) again; it does not matter how much of them arrived.
    pub fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let meta = self.meta_after(changes);
        self.write(changes, &meta).map_err(StoreError::sqlite("write", &self.path))?;
        self.meta = meta;
        for row in &changes.rows {
            self.checksums.insert(row.id, row.checksum());
        }
        for id in &changes.forgotten {
            self.checksums.remove(id);
        }
        self.lock.note(meta.store_id, meta.commits);
        Ok(())
    }

    fn meta_after(&self, changes: &Changes) -> Meta {
        let mut meta = self.meta;
        meta.commits += 1;
        if let Some(origin) = changes.origin {
            meta.doubtful_before = origin.doubtful_before;
        }
        for row in &changes.rows {
            match self.checksums.get(&row.id) {
                Some(before) => meta.digest = meta.digest.wrapping_sub(*before),
                None => meta.files += 1,
            }
            meta.digest = meta.digest.wrapping_add(row.checksum());
        }
        for before in changes.forgotten.iter().filter_map(|id| self.checksums.get(id)) {
            meta.digest = meta.digest.wrapping_sub(*before);
            meta.files -= 1;
        }
        meta
    }

    fn write(&mut self, changes: &Changes, meta: &Meta) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::put_rows(&transaction, &changes.rows)?;
        schema::delete_rows(&transaction, &changes.forgotten)?;
        schema::put_meta(&transaction, meta)?;
        transaction.commit()
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Makes an empty store. At whatever step this is killed, there is either no `store.db`, and the next start begins
/// anew, or a whole one whose id the witness has.
fn create(directory: &Path, lock: &mut Lock, now: i64) -> Result<(), StoreError> {
    let unfinished = directory.join("store.new");
    for name in ["store.new", "store.new-journal", "store.new-wal", "store.new-shm"] {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    let meta = Meta::mint(now);
    let connection = Connection::open(&unfinished).map_err(StoreError::sqlite("create", &unfinished))?;
    schema::create(&connection, &meta).map_err(StoreError::sqlite("create", &unfinished))?;
    connection.close().map_err(|(_, error)| StoreError::sqlite("create", &unfinished)(error))?;
    lock.settle()?;
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_directory(parent)?;
    }
    fs::File::open(&unfinished).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &unfinished))?;
    lock.replace(meta.store_id, meta.commits)?;
    let path = directory.join(DATABASE);
    fs::rename(&unfinished, &path).map_err(StoreError::io("create", &path))?;
    sync_directory(directory)
}

/// The content of a store that nothing is wrong with.
fn sound(content: Content, witness: Option<Witness>, path: &Path) -> Result<(Meta, Vec<FileRow>), StoreError> {
    let damages = content.damages(witness);
    if let Some(first) = damages.first() {
        let more = damages.len() - 1;
        let damage = if more == 0 { first.clone() } else { format!("{first} (and {more} more)") };
        return Err(StoreError::Damaged { path: path.to_owned(), damage });
    }
    let rows = content.rows.into_iter().filter_map(Result::ok).collect();
    let no_meta =
        || StoreError::Damaged { path: path.to_owned(), damage: "it does not say which store it is".to_owned() };
    Ok((content.meta.ok_or_else(no_meta)?, rows))
}

fn set_keep_log(connection: &Connection, keep: bool) -> rusqlite::Result<bool> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
}

/// Makes a rename or a new name in `directory` survive a power cut.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    fs::File::open(directory).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", directory))
}
