//! What the tests of this module share.

use std::path::Path;

use crate::checkpoint::FileRow;
use crate::record::{FileId, Outcomes, Position, Run, Span, tail_hash};

/// A row of a new file.
pub fn file_row(id: FileId, path: &str) -> FileRow {
    FileRow {
        id,
        source: "web".into(),
        path: Path::new(path).into(),
        inode: 1,
        birth_ns: 0,
        head_len: 1,
        head_hash: 1,
        ordinal: 0,
        start: 0,
        position: Position { offset: 0, tail_hash: tail_hash(&[]) },
        reserved: 0,
        size: 10,
        mtime_ns: 0,
        format: None,
        last_time_ns: None,
        done: false,
        outcomes: Outcomes::default(),
        first_seen: 100,
        last_seen: 100,
    }
}

/// `lines` lines of a file.
pub fn run_of(file: FileId, path: &str, start: u64, end: u64, lines: u64) -> Run {
    Run {
        file,
        path: Path::new(path).into(),
        span: Span { start, end },
        tail_hash: 7,
        lines,
        skipped: 0,
        doubtful: false,
        read_at: tokio::time::Instant::now(),
    }
}
