//! What is kept of one file. A row is written whole and read whole: its checksum covers every column, so that a row is
//! either the one that was written or known to be damaged.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::record::{FileId, Outcomes, Position, Span};

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// The file.
    pub id: FileId,
    /// Name of the source that claims it.
    pub source: Arc<str>,
    /// Where it was seen last; any bytes.
    pub path: Arc<Path>,
    /// Its inode when it was seen last.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not say.
    pub birth_ns: i64,
    /// Bytes of the first line that `head_hash` covers; at most 1 KiB.
    pub head_len: u32,
    /// Hash of the first `head_len` bytes.
    pub head_hash: u64,
    /// Tells files apart whose host, inode, birth time and first line are all the same; 0 for the first.
    pub ordinal: u32,
    /// Where reading began: what lies before is not to be indexed (`start_at: end`).
    pub start: u64,
    /// The checkpoint: every byte before it is settled.
    pub position: Position,
    /// Furthest byte that may have been sent; never before the checkpoint.
    pub reserved: u64,
    /// Size in bytes when it was seen last.
    pub size: u64,
    /// Time of its last change when it was seen last, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// What `format: auto` decided on.
    pub format: Option<Arc<str>>,
    /// Time of the last event before the checkpoint that has one, in nanoseconds since 1970.
    pub last_time_ns: Option<i64>,
    /// Whether it is a chunk that was read to its end and whose `on_done` was applied.
    pub done: bool,
    /// How the lines before the checkpoint ended.
    pub outcomes: Outcomes,
    /// When it was first seen, in seconds since 1970.
    pub first_seen: i64,
    /// When it was last seen, in seconds since 1970; on disk it may be up to an hour behind.
    pub last_seen: i64,
}

/// Where and how a scan saw a file.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its path.
    pub path: Arc<Path>,
    /// Its inode.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Time of its last change, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When it was seen, in seconds since 1970.
    pub at: i64,
}

impl FileRow {
    /// The bytes that may have been sent without their outcome being known: their ids are looked up before they are
    /// sent again.
    #[must_use]
    pub fn doubt(&self) -> Option<Span> {
        let doubt = Span { start: self.position.offset, end: self.reserved };
        (doubt.start < doubt.end).then_some(doubt)
    }

    /// Hash of all columns in an encoding that no two rows share: fixed widths, a length before what varies.
    pub(super) fn checksum(&self) -> u64 {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.id.0);
        put_bytes(&mut bytes, self.source.as_bytes());
        put_bytes(&mut bytes, self.path.as_os_str().as_bytes());
        match &self.format {
            Some(format) => put_bytes(&mut bytes, format.as_bytes()),
            None => bytes.extend_from_slice(&u64::MAX.to_le_bytes()),
        }
        let numbers = [
            self.inode,
            self.birth_ns.cast_unsigned(),
            u64::from(self.head_len),
            self.head_hash,
            u64::from(self.ordinal),
            self.start,
            self.position.offset,
            self.position.tail_hash,
            self.reserved,
            self.size,
            self.mtime_ns.cast_unsigned(),
            u64::from(self.last_time_ns.is_some()),
            self.last_time_ns.unwrap_or_default().cast_unsigned(),
            u64::from(self.done),
            self.outcomes.created,
            self.outcomes.duplicate,
            self.outcomes.dead_lettered,
            self.outcomes.skipped,
            self.first_seen.cast_unsigned(),
            self.last_seen.cast_unsigned(),
        ];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        xxh3_64(&bytes)
    }
}

/// Texts that many rows share, each held once: names of sources, formats.
#[derive(Debug, Default)]
pub(super) struct Texts(HashSet<Arc<str>>);

impl Texts {
    pub fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}
