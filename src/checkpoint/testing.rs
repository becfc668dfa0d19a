//! What the tests of this module share.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use tokio::time::Instant;

use crate::record::{FileId, Outcomes, Position, Run, Span};

use super::row::FileRow;

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
