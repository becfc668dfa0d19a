//! A modelled disk: what is written outlives the process, only what is synced outlives the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::files::Node;
use super::lines::Lines;
use crate::checkpoint::ledger::Changes;
use crate::checkpoint::{FileRow, Meta, StoreError};
use crate::index::dead_letter::{AppendError, Keeping, Letter, Letters};
use crate::record::{FileId, Position, TAIL_BYTES, tail_hash};

/// A checkpoint store.
#[derive(Clone, Debug)]
pub struct Store {
    pub meta: Meta,
    pub rows: BTreeMap<FileId, FileRow>,
}

impl Store {
    fn apply(&mut self, changes: &Changes) {
        for row in &changes.rows {
            self.rows.insert(row.id, row.clone());
        }
        for id in &changes.forgotten {
            self.rows.remove(id);
        }
        if let Some(origin) = changes.origin {
            self.meta.doubtful_before = origin.doubtful_before;
        }
    }
}

/// The disk of the store.
#[derive(Debug, Default)]
pub struct Disk {
    written: Option<Store>,
    synced: Option<Store>,
    full_until: Option<Instant>,
}

impl Disk {
    /// The store, made if there is none.
    pub fn open(&mut self, id: u64, now_s: i64) -> Store {
        let store = self.written.get_or_insert_with(|| Store { meta: Meta::of_test(id, now_s), rows: BTreeMap::new() });
        let store = store.clone();
        // A start syncs what it makes.
        self.synced = Some(store.clone());
        store
    }

    pub fn rows(&self) -> impl Iterator<Item = &FileRow> {
        self.written.iter().flat_map(|store| store.rows.values())
    }

    /// Whether a checkpoint at the end of this file is on disk, or of one that is equal to it: such are one file.
    pub fn knows_all_of(&self, node: &Node) -> bool {
        let content = node.content();
        let end = content.bytes.len();
        let tail_hash = tail_hash(&content.bytes[end.saturating_sub(TAIL_BYTES)..]);
        self.rows().any(|row| row.position == Position { offset: end as u64, tail_hash })
    }

    pub fn write(&mut self, changes: &Changes) {
        if let Some(store) = &mut self.written {
            store.apply(changes);
        }
    }

    pub fn sync(&mut self) {
        self.synced = self.written.clone();
    }

    /// All or nothing.
    pub fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        if self.full_until.is_some_and(|until| Instant::now() < until) {
            let source = io::ErrorKind::StorageFull.into();
            return Err(StoreError::Io { action: "write", path: PathBuf::from("/store"), source });
        }
        self.write(changes);
        Ok(())
    }

    pub fn fill(&mut self, lasts: Duration) {
        self.full_until = Some(Instant::now() + lasts);
    }

    pub fn make_room(&mut self) {
        self.full_until = None;
    }

    pub fn power_cut(&mut self) {
        self.written = self.synced.clone();
    }

    pub fn lose(&mut self) {
        self.written = None;
        self.synced = None;
    }
}

/// The disk of the dead letters.
#[derive(Debug)]
pub struct LetterBox {
    lines: Lines,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    ids: BTreeSet<String>,
    full_until: Option<Instant>,
    refused: u64,
}

impl LetterBox {
    pub fn new(lines: Lines) -> Arc<Self> {
        Arc::new(Self { lines, kept: Mutex::default() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("one thread")
    }

    pub fn has(&self, id: &str) -> bool {
        self.kept().ids.contains(id)
    }

    pub fn fill(&self, lasts: Duration) {
        self.kept().full_until = Some(Instant::now() + lasts);
    }

    pub fn make_room(&self) {
        self.kept().full_until = None;
    }

    pub fn refused(&self) -> u64 {
        self.kept().refused
    }
}

impl Letters for LetterBox {
    fn keep(self: Arc<Self>, letters: Arc<Vec<Letter>>) -> Keeping {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let mut kept = self.kept();
            if kept.full_until.is_some_and(|until| Instant::now() < until) {
                kept.refused += 1;
                return Err(AppendError::Full { path: PathBuf::from("/letters"), used: 1, max: 1 });
            }
            for letter in letters.iter() {
                if kept.ids.insert(letter.id.clone()) {
                    let document: serde_json::Value = serde_json::from_str(letter.document.get()).expect("JSON");
                    let line = self.lines.of_message(document["message"].as_str().unwrap_or_default());
                    self.lines.kept_as_letter(line);
                }
            }
            Ok(())
        })
    }
}
