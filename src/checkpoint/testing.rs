//! What the tests of this module share, and a handle without a thread, for a simulator that commits itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use tokio::time::Instant;

use crate::record::{FileId, Outcomes, Position, Run, Span};

use super::committer::Taken;
use super::ledger::Changes;
use super::row::FileRow;
use super::{Checkpoints, Meta, StoreError, Trouble};

/// The file number `n`.
pub fn id(n: u64) -> FileId {
    FileId(n.to_be_bytes())
}

/// A row of file `n` that differs from those of other files in every column; nothing of it is in doubt.
pub fn full_row(n: u64) -> FileRow {
    let mut path = format!("/logs/{n}/access.log").into_bytes();
    path.push(0xff); // paths are bytes
    FileRow {
        id: id(n),
        source: format!("source-{n}").into(),
        path: Path::new(OsStr::from_bytes(&path)).into(),
        inode: u64::MAX - n,
        birth_ns: -1 - n.cast_signed(),
        head_len: u32::try_from(n % 1024).unwrap(),
        head_hash: u64::MAX / (n + 2),
        ordinal: u32::try_from(n % 3).unwrap(),
        start: 0,
        position: Position { offset: n * 1000, tail_hash: u64::MAX / (n + 3) },
        reserved: n * 1000,
        size: n * 2000,
        mtime_ns: 1_700_000_000_000_000_000 + n.cast_signed(),
        format: (n % 2 == 1).then(|| "combined".into()),
        last_time_ns: n.is_multiple_of(2).then(|| n.cast_signed()),
        done: n % 2 == 1,
        outcomes: Outcomes { created: n, duplicate: n + 1, dead_lettered: n + 2, skipped: n + 3 },
        first_seen: 1_700_000_000,
        last_seen: 1_700_000_000 + n.cast_signed(),
    }
}

/// A row of file `n`, newly minted.
pub fn new_row(n: u64) -> FileRow {
    FileRow {
        position: Position { offset: 0, tail_hash: 0 },
        reserved: 0,
        last_time_ns: None,
        done: false,
        outcomes: Outcomes::default(),
        ..full_row(n)
    }
}

/// `lines` lines of file `n`.
pub fn run(n: u64, start: u64, end: u64, lines: u64) -> Run {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let path: Arc<Path> = Path::new("/logs/access.log").into();
    let span = Span { start, end };
    Run { file: id(n), path, span, tail_hash: end ^ 0xabcd, lines, skipped: 0, doubtful: false, read_at: *START }
}

/// So many lines created.
pub fn created(lines: u64) -> Outcomes {
    Outcomes { created: lines, ..Outcomes::default() }
}

/// A commit that was begun.
pub(crate) struct Commit(Taken);

impl Commit {
    /// What is to be written.
    pub(crate) fn changes(&self) -> &Changes {
        &self.0.changes
    }
}

/// What the thread does, step by step.
impl Checkpoints {
    /// The handle of a store with the files of `rows`; nothing is committed but by the calls below.
    pub(crate) fn without_thread(
        meta: Meta,
        rows: Vec<FileRow>,
        reserve_ahead: u64,
        on_trouble: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> Self {
        Self::new(meta, rows, reserve_ahead, on_trouble)
    }

    /// Whether someone waits for the next commit.
    pub(crate) fn is_hurried(&self) -> bool {
        self.state().hurry
    }

    /// Takes what the next commit is to bring to disk.
    pub(crate) fn begin_commit(&self) -> Commit {
        Commit(self.state().take())
    }

    /// Takes in what became of it; `failed` counts the attempts since the last that succeeded.
    pub(crate) fn end_commit(&self, commit: &Commit, result: Result<(), StoreError>, failed: &mut u64) {
        self.shared.finish(&commit.0, result, failed);
    }
}

impl Meta {
    /// What a store with this id says of itself, made at `now`.
    pub(crate) fn of_test(store_id: u64, now: i64) -> Self {
        Self { store_id, ..Self::mint(now) }
    }
}
