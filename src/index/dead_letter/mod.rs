//! Documents that Elasticsearch refuses are kept here, one JSON object a line, in segments named after the number of
//! their first letter. A letter counts once it is on disk: file synced, and the directory for a new segment.
//!
//! The same id is not written twice. What is kept is bounded; when it is full, [`Full`](AppendError::Full) makes the
//! caller wait, since nothing is dropped. A line that a crash left torn is cut off at the next start.
//! The directory is locked only while it is changed, so that commands can work beside the daemon.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config;

mod commands;

pub use commands::{ReplayError, Replayed, drop, list, replay, show};

/// A refused document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// The document's id.
    pub id: String,
    /// When it was refused.
    pub time: String,
    /// The file its line came from.
    pub file: String,
    /// Where that file was.
    pub path: String,
    /// Where the line starts in it.
    pub offset: u64,
    /// Where it should have gone.
    pub target: String,
    /// The index that it names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// The ingest pipeline it should have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// HTTP status of the refusal.
    pub status: u16,
    /// `error.type` of the refusal.
    #[serde(rename = "type")]
    pub kind: String,
    /// `error.reason` of the refusal.
    pub reason: String,
    /// The document.
    pub document: Box<RawValue>,
}

/// Why letters were not kept.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room.
    #[error("{} is full: {used} of {max} bytes; replay or drop dead letters to make room", path.display())]
    Full {
        /// Directory.
        path: PathBuf,
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// The disk refuses.
    #[error("cannot write dead letters to {}: {source}", path.display())]
    Io {
        /// Directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where refused documents are kept: [`DeadLetters`], or a model of them.
pub trait Letters: Send + Sync {
    /// Keeps `letters`; they are on disk when this is done. Given up, it may have kept them or not.
    fn keep(self: Arc<Self>, letters: Arc<Vec<Letter>>) -> Keeping;
}

/// Letters on their way to the disk.
pub type Keeping = Pin<Box<dyn Future<Output = Result<(), AppendError>> + Send>>;

impl Letters for DeadLetters {
    fn keep(self: Arc<Self>, letters: Arc<Vec<Letter>>) -> Keeping {
        Box::pin(async move {
            let kept = tokio::task::spawn_blocking(move || self.append(&letters)).await;
            kept.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        })
    }
}

/// The daemon's end of the directory: it appends.
#[derive(Debug)]
pub struct DeadLetters {
    path: PathBuf,
    max_bytes: u64,
    max_segment_bytes: u64,
    /// Hashes of the ids that were written: eight bytes a letter instead of the letters.
    known: Mutex<HashSet<u64>>,
}

impl DeadLetters {
    /// Opens the directory, making it if need be, and cuts off what a crash left torn.
    pub fn open(cfg: &config::DeadLetters) -> io::Result<Self> {
        fs::create_dir_all(&cfg.path)?;
        let _lock = lock(&cfg.path)?;
        let mut known = HashSet::new();
        for segment in segments(&cfg.path)? {
            let file = OpenOptions::new().read(true).write(true).open(&segment.path)?;
            let mut whole = 0;
            let mut reader = BufReader::new(&file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                if line.last() == Some(&b'\n') {
                    whole += line.len() as u64;
                    known.extend(id_of(&line).map(hash));
                }
                line.clear();
            }
            if whole < segment.bytes {
                file.set_len(whole)?;
                file.sync_all()?;
            }
        }
        Ok(Self {
            path: cfg.path.clone(),
            max_bytes: cfg.max_bytes.0,
            max_segment_bytes: cfg.max_segment_bytes.0,
            known: Mutex::new(known),
        })
    }

    /// Bytes of all segments; 0 where they cannot be listed.
    #[must_use]
    pub fn size(&self) -> u64 {
        segments(&self.path).map_or(0, |segments| segments.iter().map(|segment| segment.bytes).sum())
    }

    /// Keeps `letters`; they are on disk when this returns. Blocks.
    pub fn append(&self, letters: &[Letter]) -> Result<(), AppendError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        let mut written = HashSet::new();
        for letter in letters {
            let hash = hash(letter.id.as_bytes());
            if !known.contains(&hash) && written.insert(hash) {
                let failed = |error: serde_json::Error| self.io(error.into());
                serde_json::to_writer(&mut bytes, letter).map_err(failed)?;
                bytes.push(b'\n');
            }
        }
        if !bytes.is_empty() {
            self.write(&bytes)?;
            known.extend(written);
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), AppendError> {
        let failed = |error| self.io(error);
        let _lock = lock(&self.path).map_err(failed)?;
        let segments = segments(&self.path).map_err(failed)?;
        let used: u64 = segments.iter().map(|segment| segment.bytes).sum();
        if used + bytes.len() as u64 > self.max_bytes {
            return Err(AppendError::Full { path: self.path.clone(), used, max: self.max_bytes });
        }
        let last = segments.last();
        let (path, before, new) = match last {
            Some(last) if last.bytes + bytes.len() as u64 <= self.max_segment_bytes => {
                (last.path.clone(), last.bytes, false)
            }
            _ => {
                let first = last.map_or(Ok(0), |last| Ok(last.first + last.lines()?.max(1))).map_err(failed)?;
                (self.path.join(format!("{first:020}.ndjson")), 0, true)
            }
        };
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_data()) {
            // Half a line must not have another appended to it; if even this fails, the next start cuts it off.
            let _ = file.set_len(before);
            return Err(self.io(error));
        }
        if new { sync_directory(&self.path).map_err(failed) } else { Ok(()) }
    }

    fn io(&self, source: io::Error) -> AppendError {
        AppendError::Io { path: self.path.clone(), source }
    }
}

/// A file of letters.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: u64,
    bytes: u64,
}

impl Segment {
    fn lines(&self) -> io::Result<u64> {
        Ok(memchr::memchr_iter(b'\n', &fs::read(&self.path)?).count() as u64)
    }

    /// The letters, oldest first; a torn or foreign line is left out.
    fn letters(&self) -> io::Result<Vec<Letter>> {
        let bytes = fs::read(&self.path)?;
        Ok(bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

/// The segments in order.
fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        // Nothing was ever refused here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(segments),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let first = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok());
        if let (Some(first), Some("ndjson")) = (first, path.extension().and_then(OsStr::to_str)) {
            let bytes = fs::metadata(&path)?.len();
            segments.push(Segment { path, first, bytes });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Waits until nobody else changes the directory; ends when the file is dropped.
fn lock(dir: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn hash(id: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id)
}

/// The id of a letter, which its line starts with.
fn id_of(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"{\"id\":\"")?.get(..crate::record::ID_LEN)
}

#[cfg(test)]
mod tests;
