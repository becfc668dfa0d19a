//! What the database looks like, and how a row becomes columns and back.
//!
//! Unsigned numbers are stored as the signed ones with the same bits. Formats are pinned by `testdata/store-v*.db`; a start
//! turns an older one into the newest.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, TransactionBehavior, params};
use xxhash_rust::xxh3::xxh3_64;

use crate::record::{FileId, Outcomes, Position};

use super::lock::Witness;
use super::row::{FileRow, Texts};
use super::store::StoreError;

/// Marks a database as a checkpoint store: "LgWr".
const APPLICATION_ID: i64 = 0x4c67_5772;

/// The format that is written.
pub(super) const VERSION: i64 = 2;

/// The oldest format that can be read.
const OLDEST: i64 = 1;

const NS_PER_S: i64 = 1_000_000_000;

/// Room is made for no more rows than this before they are there.
const MOST_RESERVED: usize = 1 << 20;

/// Bytes of SQLite's header.
const HEADER_LEN: u64 = 100;

/// The table `meta` of format 1: a switch instead of a time.
const META_1: &str = "CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    doubtful_origin INTEGER NOT NULL,
    commits INTEGER NOT NULL,
    files INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;";

const META: &str = "CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    doubtful_before INTEGER,
    commits INTEGER NOT NULL,
    files INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;";

const FILE: &str = "CREATE TABLE file (
    file_id BLOB NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    path BLOB NOT NULL,
    inode INTEGER NOT NULL,
    birth_ns INTEGER NOT NULL,
    head_len INTEGER NOT NULL,
    head_hash INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    start INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    tail_hash INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    format TEXT,
    last_time_ns INTEGER,
    done INTEGER NOT NULL,
    created INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    dead_lettered INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;";

const COLUMNS: &str = "file_id, source, path, inode, birth_ns, head_len, head_hash, ordinal, start, offset, \
    tail_hash, reserved, size, mtime_ns, format, last_time_ns, done, created, duplicate, dead_lettered, skipped, first_seen, \
    last_seen, checksum";

/// What a store says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Which store it is; random, minted when it was made.
    pub store_id: u64,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
    /// The target may hold documents of files that this store does not know, if they are older than this: in nanoseconds
    /// since 1970. `None`: it holds none; `i64::MAX`: not told yet how old, so of any.
    pub doubtful_before: Option<i64>,
    /// Commits so far.
    pub commits: u64,
    /// Rows there are.
    pub(super) files: u64,
    /// Sum of the checksums of all rows.
    pub(super) digest: u64,
}

impl Meta {
    /// A new store: what is in the target is not known until someone has looked at it.
    pub(super) fn mint(now: i64) -> Self {
        let store_id = RandomState::new().hash_one(now);
        Self { store_id, created_at: now, doubtful_before: Some(i64::MAX), commits: 0, files: 0, digest: 0 }
    }

    fn checksum(&self) -> u64 {
        let numbers = [
            self.store_id,
            self.created_at.cast_unsigned(),
            u64::from(self.doubtful_before.is_some()),
            self.doubtful_before.unwrap_or_default().cast_unsigned(),
            self.commits,
            self.files,
            self.digest,
        ];
        xxh3_64(numbers.map(u64::to_le_bytes).as_flattened())
    }

    /// The checksum as format 1 has it.
    fn checksum_1(&self) -> u64 {
        let doubtful = u64::from(self.doubtful_before.is_some());
        let numbers = [self.store_id, self.created_at.cast_unsigned(), doubtful, self.commits, self.files, self.digest];
        xxh3_64(numbers.map(u64::to_le_bytes).as_flattened())
    }
}

/// All that can be read of a store, sound or not.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Its format.
    pub version: i64,
    /// `None` where it is missing or damaged.
    pub meta: Option<Meta>,
    /// Each row, or what is wrong with it and with which.
    pub rows: Vec<Result<FileRow, String>>,
    /// What is wrong with the whole.
    pub problems: Vec<String>,
}

impl Content {
    /// Everything that is wrong, the whole first.
    pub fn damages(&self, witness: Option<Witness>) -> Vec<String> {
        let mut damages = self.problems.clone();
        damages.extend(self.rows.iter().filter_map(|row| row.as_ref().err().cloned()));
        let Some(meta) = &self.meta else { return damages };
        if damages.is_empty() {
            let rows = self.rows.iter().filter_map(|row| row.as_ref().ok());
            let (files, digest) =
                rows.fold((0, 0_u64), |(files, digest), row| (files + 1, digest.wrapping_add(row.checksum())));
            if (files, digest) != (meta.files, meta.digest) {
                damages.push(format!("table file: {} rows were written, but not these {files}", meta.files));
            }
        }
        match witness {
            Some(witness) if witness.store_id != meta.store_id => {
                damages.push("it is not the store that was made here".to_owned());
            }
            Some(witness) if witness.commits > meta.commits => {
                let lost = witness.commits - meta.commits;
                damages.push(format!(
                    "its last {lost} of {} commits are missing: its log is damaged, or it is an old copy",
                    witness.commits
                ));
            }
            _ => {}
        }
        damages
    }
}

/// Makes the tables, with a write-ahead log from here on. Nothing is synced: the caller does so, once, when the file is
/// whole.
pub(super) fn create(connection: &Connection, meta: &Meta) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(&format!(
        "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {META} {FILE} COMMIT;"
    ))?;
    put_meta(connection, meta)
}

/// Write-ahead log, and every commit synced.
pub(super) fn prepare_for_writing(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // All pages were read once; few of them will be written.
    connection.execute_batch("PRAGMA shrink_memory")
}

/// Reads everything. What is damaged is in the content, not an error.
///
/// # Errors
/// [`StoreError::Newer`]; [`StoreError::Damaged`] where nothing at all can be read; [`StoreError::Sqlite`].
pub(super) fn load(connection: &Connection, path: &Path) -> Result<Content, StoreError> {
    let damaged = |damage: &str| StoreError::Damaged { path: path.to_owned(), damage: damage.to_owned() };
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER_LEN).read_to_end(&mut header));
    read.map_err(StoreError::io("read", path))?;
    // Write and read version of the file: with others SQLite reads it, but does not write it.
    match header.get(18..20) {
        None if header.is_empty() => return Err(damaged("it is empty")),
        Some([1, 1] | [2, 2]) => {}
        _ => return Err(damaged("its header is that of no database that can be written")),
    }
    // One transaction, so that all of it is of one moment even while a daemon commits.
    let transaction = connection.unchecked_transaction().map_err(StoreError::sqlite("read", path))?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id").map_err(StoreError::sqlite("read", path))?;
    if application != APPLICATION_ID {
        return Err(damaged("it is a database, but not a checkpoint store"));
    }
    let version = match pragma("user_version").map_err(StoreError::sqlite("read", path))? {
        found @ OLDEST..=VERSION => found,
        found if found > VERSION => return Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION }),
        found => return Err(damaged(&format!("its format {found} never existed"))),
    };

    let mut content = Content { version, ..Content::default() };
    collect(&mut content.problems, tables(&transaction, version));
    integrity(&transaction, &mut content.problems);
    match meta(&transaction, version) {
        Ok(meta) => content.meta = Some(meta),
        Err(problem) => content.problems.push(problem),
    }
    let Content { rows: into, problems, meta, .. } = &mut content;
    into.reserve_exact(meta.map_or(0, |meta| usize::try_from(meta.files).unwrap_or(0).min(MOST_RESERVED)));
    collect(problems, rows(&transaction, into));
    Ok(content)
}

fn collect(problems: &mut Vec<String>, result: Result<(), String>) {
    problems.extend(result.err());
}

/// Damage here could make SQLite read the right bytes as something else.
fn tables(connection: &Connection, version: i64) -> Result<(), String> {
    let sql = "SELECT group_concat(sql || ';', char(10) ORDER BY name) FROM sqlite_schema";
    let found: String =
        connection.query_row(sql, [], |row| row.get(0)).map_err(|error| format!("its list of tables: {error}"))?;
    let expected = format!("{FILE}\n{}", if version == 1 { META_1 } else { META });
    if found == expected { Ok(()) } else { Err("its tables are not those of its format".to_owned()) }
}

/// What SQLite finds wrong, with the pages.
fn integrity(connection: &Connection, problems: &mut Vec<String>) {
    const MOST: usize = 20;
    let found = |row: &Row| row.get::<_, String>(0);
    let all = connection
        .prepare(&format!("PRAGMA quick_check({MOST})"))
        .and_then(|mut statement| statement.query_map([], found)?.collect::<Result<Vec<_>, _>>());
    match all {
        Ok(all) => {
            let lines = all.iter().flat_map(|text| text.lines());
            problems.extend(lines.filter(|line| *line != "ok" && !line.starts_with("***")).map(str::to_owned));
        }
        Err(error) => problems.push(format!("its pages cannot be checked: {error}")),
    }
}

fn meta(connection: &Connection, version: i64) -> Result<Meta, String> {
    let doubtful = if version == 1 { "doubtful_origin" } else { "doubtful_before" };
    let sql = format!("SELECT store_id, created_at, {doubtful}, commits, files, digest, checksum FROM meta");
    let read = |row: &Row| {
        let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        let created_at: i64 = row.get(1)?;
        let doubtful_before = if version == 1 {
            // Format 1 meant: all that is not younger than the store.
            row.get::<_, bool>(2)?.then(|| created_at.saturating_add(1).saturating_mul(NS_PER_S))
        } else {
            row.get(2)?
        };
        let meta = Meta {
            store_id: number(0)?,
            created_at,
            doubtful_before,
            commits: number(3)?,
            files: number(4)?,
            digest: number(5)?,
        };
        Ok((meta, number(6)?))
    };
    match connection.query_row(&sql, [], read) {
        Ok((meta, checksum)) if checksum == if version == 1 { meta.checksum_1() } else { meta.checksum() } => Ok(meta),
        Ok(_) => Err("table meta: the checksum of what the store says of itself is wrong".to_owned()),
        Err(error) => Err(format!("table meta: what the store says of itself cannot be read: {error}")),
    }
}

/// Turns a sound store of an older format into the newest, whole or not at all.
pub(super) fn migrate(connection: &mut Connection, version: i64, meta: &Meta) -> rusqlite::Result<()> {
    if version == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&format!("DROP TABLE meta; {META} PRAGMA user_version = {VERSION};"))?;
    put_meta(&transaction, meta)?;
    transaction.commit()
}

fn rows(connection: &Connection, into: &mut Vec<Result<FileRow, String>>) -> Result<(), String> {
    let explain = |error: rusqlite::Error| format!("table file: not all rows can be read: {error}");
    let sql = format!("SELECT {COLUMNS} FROM file ORDER BY file_id");
    let mut statement = connection.prepare(&sql).map_err(explain)?;
    let mut found = statement.query([]).map_err(explain)?;
    let mut texts = Texts::default();
    while let Some(row) = found.next().map_err(explain)? {
        into.push(read_row(row, &mut texts));
    }
    Ok(())
}

fn read_row(row: &Row, texts: &mut Texts) -> Result<FileRow, String> {
    let name = || match row.get_ref(0) {
        Ok(ValueRef::Blob(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => "?".to_owned(),
    };
    let (row, checksum) = columns(row, texts).map_err(|error| format!("table file, row {}: {error}", name()))?;
    if row.checksum() != checksum {
        return Err(format!("table file, row {}: its checksum is wrong", name()));
    }
    if row.reserved < row.position.offset {
        return Err(format!("table file, row {}: its checkpoint is beyond its reservation", name()));
    }
    Ok(row)
}

fn columns(row: &Row, texts: &mut Texts) -> rusqlite::Result<(FileRow, u64)> {
    let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    let mut text = |index| row.get_ref(index).and_then(|value| Ok(texts.shared(value.as_str()?)));
    let format = match row.get_ref(14)? {
        ValueRef::Null => None,
        _ => Some(text(14)?),
    };
    let file = FileRow {
        id: FileId(row.get(0)?),
        source: text(1)?,
        path: Path::new(OsStr::from_bytes(row.get_ref(2)?.as_blob()?)).into(),
        inode: number(3)?,
        birth_ns: row.get(4)?,
        head_len: row.get(5)?,
        head_hash: number(6)?,
        ordinal: row.get(7)?,
        start: number(8)?,
        position: Position { offset: number(9)?, tail_hash: number(10)? },
        reserved: number(11)?,
        size: number(12)?,
        mtime_ns: row.get(13)?,
        format,
        last_time_ns: row.get(15)?,
        done: row.get(16)?,
        outcomes: Outcomes {
            created: number(17)?,
            duplicate: number(18)?,
            dead_lettered: number(19)?,
            skipped: number(20)?,
        },
        first_seen: row.get(21)?,
        last_seen: row.get(22)?,
    };
    Ok((file, number(23)?))
}

/// Writes rows, new or not.
pub(super) fn put_rows(connection: &Connection, rows: &[FileRow]) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "REPLACE INTO file ({COLUMNS}) VALUES \
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)"
    );
    let mut statement = connection.prepare(&sql)?;
    for row in rows {
        statement.execute(params![
            row.id.0,
            &*row.source,
            row.path.as_os_str().as_bytes(),
            row.inode.cast_signed(),
            row.birth_ns,
            row.head_len,
            row.head_hash.cast_signed(),
            row.ordinal,
            row.start.cast_signed(),
            row.position.offset.cast_signed(),
            row.position.tail_hash.cast_signed(),
            row.reserved.cast_signed(),
            row.size.cast_signed(),
            row.mtime_ns,
            row.format.as_deref(),
            row.last_time_ns,
            row.done,
            row.outcomes.created.cast_signed(),
            row.outcomes.duplicate.cast_signed(),
            row.outcomes.dead_lettered.cast_signed(),
            row.outcomes.skipped.cast_signed(),
            row.first_seen,
            row.last_seen,
            row.checksum().cast_signed(),
        ])?;
    }
    Ok(())
}

/// Deletes rows, there or not.
pub(super) fn delete_rows(connection: &Connection, ids: &[FileId]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("DELETE FROM file WHERE file_id = ?1")?;
    for id in ids {
        statement.execute([id.0])?;
    }
    Ok(())
}

/// Writes what the store says of itself.
pub(super) fn put_meta(connection: &Connection, meta: &Meta) -> rusqlite::Result<()> {
    let sql = "REPLACE INTO meta (one, store_id, created_at, doubtful_before, commits, files, digest, checksum) \
        VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![
        meta.store_id.cast_signed(),
        meta.created_at,
        meta.doubtful_before,
        meta.commits.cast_signed(),
        meta.files.cast_signed(),
        meta.digest.cast_signed(),
        meta.checksum().cast_signed(),
    ];
    connection.execute(sql, values).map(drop)
}
