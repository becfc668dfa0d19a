//! A file that is followed: what discovery, the pump and the final look at it share.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::queue::Entry;
use crate::filesystem::Stat;
use crate::parse::Format;
use crate::read::{Content, Cursor};
use crate::record::{FileId, Position};

/// A file that is followed. It is in the queue, or being read, at most once ([`File::queued`]), so one thread reads it at
/// a time and its lines stay in order.
#[derive(Debug)]
pub struct File {
    /// Which file.
    pub id: FileId,
    /// Index of its source.
    pub source: usize,
    /// Last change in ns, while it is part of the backlog; 0 once it has been read to its end.
    pub backlog: AtomicI64,
    /// Whether it is in the queue or being read.
    pub queued: AtomicBool,
    /// Whether it changed while it was.
    pub again: AtomicBool,
    /// Bytes on disk, as last seen.
    pub size: AtomicU64,
    /// How far it was read, in (decompressed) bytes.
    pub read_to: AtomicU64,
    /// What only one thread at a time may touch. Nobody waits for memory or for a network while holding it.
    state: Mutex<State>,
}

/// The part of a [`File`] that is behind its lock.
#[derive(Debug)]
pub struct State {
    /// Its path now.
    pub path: Arc<Path>,
    /// Device and inode of the physical file that carries it.
    pub key: (u64, u64),
    /// The open file, if it is held open. In a box: most files that are watched are not.
    pub open: Option<Box<Open>>,
    /// [`crate::read::Head::key`] of the file it was told to be.
    pub head: (u32, u64),
    /// Where reading goes on.
    pub cursor: Cursor,
    /// Where reading stood lately.
    pub marks: Marks,
    /// No more will be written: what follows the last line end is a line.
    pub complete: bool,
    /// Bytes after the last line end, when last read to the end.
    pub rest: u64,
    /// What the system said when it was last read to its end; `None` while there is more.
    pub end: Option<Stat>,
    /// Its physical file is not this one any more: not to be read.
    pub detached: bool,
    /// The format, once it is decided.
    pub format: Option<Arc<Format>>,
    /// The last time that a line of it gave.
    pub last_time: Option<i64>,
    /// Lines before this byte may be in Elasticsearch already.
    pub doubt_end: u64,
}

/// Where reading of a file stood lately. A copy that was made while the file went on, and was all that was left of it
/// afterwards (copytruncate), is shorter than what was read: this tells it from another file that began alike.
///
/// Nothing but a pointer for a file of which nothing was read.
#[derive(Debug, Default)]
pub struct Marks(Option<Box<Noted>>);

#[derive(Debug)]
struct Noted {
    /// Oldest first.
    at: VecDeque<Position>,
    last: Instant,
}

impl Marks {
    /// With [`Marks::EVERY`], the last seconds of a file that never rests; more of one that does.
    const MAX: usize = 64;
    /// No two marks are closer, so that a busy file does not push out all but the last moment.
    const EVERY: Duration = Duration::from_millis(50);

    /// Reading stands here at the end of a turn.
    pub fn note(&mut self, at: Position, now: Instant) {
        let Some(noted) = &mut self.0 else {
            self.0 = Some(Box::new(Noted { at: VecDeque::from([at]), last: now }));
            return;
        };
        let known = noted.at.back().is_some_and(|last| last.offset == at.offset);
        if known || now.duration_since(noted.last) < Self::EVERY {
            return;
        }
        noted.last = now;
        if noted.at.len() == Self::MAX {
            noted.at.pop_front();
        }
        noted.at.push_back(at);
    }

    /// The last of them, as far as `length`, where `content` has the very bytes that were read.
    ///
    /// # Errors
    /// What reading `content` says.
    pub fn last_within(&self, length: u64, content: &mut Content) -> io::Result<Option<Position>> {
        let marks = self.0.iter().flat_map(|noted| noted.at.iter().rev());
        for mark in marks.filter(|mark| mark.offset <= length) {
            if content.hash_at(mark.offset)? == Some(mark.tail_hash) {
                return Ok(Some(*mark));
            }
        }
        Ok(None)
    }
}

impl File {
    /// A file to follow from `state.cursor` on.
    #[must_use]
    pub fn new(id: FileId, source: usize, stat: &Stat, backlog: bool, state: State) -> Arc<Self> {
        Arc::new(Self {
            id,
            source,
            backlog: AtomicI64::new(if backlog { stat.mtime_ns.max(1) } else { 0 }),
            queued: AtomicBool::new(false),
            again: AtomicBool::new(false),
            size: AtomicU64::new(stat.size),
            read_to: AtomicU64::new(state.cursor.position.offset),
            state: Mutex::new(state),
        })
    }

    /// The part behind the lock.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry for File {
    fn backlog_since(&self) -> Option<i64> {
        let since = self.backlog.load(Ordering::Relaxed);
        (since != 0).then_some(since)
    }
}

/// A file held open, counted.
#[derive(Debug)]
pub struct Open {
    /// The file.
    pub content: Content,
    /// When it was last read.
    pub used: Instant,
    _slot: Slot,
}

/// How many files may be held open.
#[derive(Clone, Debug)]
pub struct Slots {
    used: Arc<AtomicUsize>,
    max: usize,
}

/// One of the [`Slots`].
#[derive(Debug)]
struct Slot(Arc<AtomicUsize>);

impl Slots {
    /// So many.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { used: Arc::default(), max }
    }

    /// Holds `content` open, whatever the limit: for a file being read.
    #[must_use]
    pub fn hold(&self, content: Content) -> Box<Open> {
        self.used.fetch_add(1, Ordering::Relaxed);
        Box::new(Open { content, used: Instant::now(), _slot: Slot(Arc::clone(&self.used)) })
    }

    /// Whether there is room for one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.used() < self.max
    }

    /// Whether there is room for one more of which there is nothing to read: half is left to those that are read.
    #[must_use]
    pub fn has_room_at_rest(&self) -> bool {
        self.used() < self.max / 2
    }

    /// Whether more are held than may be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.used() > self.max
    }

    /// How many are held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn marks_of_a_busy_file_reach_back_for_seconds_and_stay_few() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        std::fs::write(&path, vec![b'x'; 9999]).unwrap();
        let (mut copy, _) = Content::open(&path).unwrap();
        let mut marks = Marks::default();
        for offset in 1..=10_000 {
            let tail_hash = copy.hash_at(offset).unwrap().unwrap_or_default();
            marks.note(Position { offset, tail_hash }, Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(marks.0.as_ref().map(|noted| noted.at.len()), Some(Marks::MAX));
        let found = marks.last_within(9999, &mut copy).unwrap().expect("a mark");
        assert!((9940..9999).contains(&found.offset), "{found:?}");
        let early = marks.last_within(7000, &mut copy).unwrap().expect("a mark");
        assert!((6940..=7000).contains(&early.offset), "{early:?}");
        assert_eq!(marks.last_within(1000, &mut copy).unwrap(), None);
        // Another file that is as long.
        std::fs::write(&path, vec![b'y'; 9999]).unwrap();
        assert_eq!(marks.last_within(9999, &mut Content::open(&path).unwrap().0).unwrap(), None);
    }
}
