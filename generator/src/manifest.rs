//! What was written: the counts that an index or a reader is compared with. Counting a line is a handful of additions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Term};
use crate::dirty::Dirty;
use crate::event::Event;
use crate::writer::FileEntry;

/// Which run a manifest is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The scenario's name.
    pub scenario: String,
    /// The format's name, as on the command line.
    pub format: String,
    /// The seed.
    pub seed: u64,
    /// The time from which events are laid out.
    pub start: Timestamp,
}

/// What was written. `lines` is `clean_lines` + `header_lines` + all of `dirty`, and the sum of the files' lines.
///
/// Where a text says *clean*, it is about lines that show their event as the format has it: no headers, no dirty lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which run this is about.
    #[serde(flatten)]
    pub run: RunInfo,
    /// False while the run goes on: then it is true for the moment at which it was written.
    pub complete: bool,
    /// All lines.
    pub lines: u64,
    /// All bytes of all lines, newlines included, before compression.
    pub bytes: u64,
    /// Lines that show their event.
    pub clean_lines: u64,
    /// Header lines.
    pub header_lines: u64,
    /// Dirty lines, by the way in which they are dirty.
    pub dirty: BTreeMap<Dirty, u64>,
    /// The sum of the body sizes of clean lines, in bytes.
    pub body_bytes: u64,
    /// Distinct clients of clean lines.
    pub distinct_clients: u64,
    /// The time of the first clean line.
    pub first: Option<Timestamp>,
    /// The time of the last clean line.
    pub last: Option<Timestamp>,
    /// Clean lines by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Clean lines by method.
    pub methods: BTreeMap<String, u64>,
    /// Clean lines by path, without the query.
    pub paths: BTreeMap<String, u64>,
    /// Every file, in the order of writing.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Writes the manifest as JSON. A reader of `path` finds the manifest before or this one, never a part.
    ///
    /// # Errors
    /// If the file beside it cannot be written, or not be moved in.
    pub fn save(&self, path: &Path) -> Result<()> {
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        let aside = path.with_file_name(format!(".{}.tmp", name.to_string_lossy()));
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, path))
            .with_context(|| format!("cannot write manifest {}", path.display()))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// If the file cannot be read or is no manifest.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read manifest {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a manifest", path.display()))
    }
}

/// Counts events.
#[derive(Clone, Debug)]
pub struct Tally {
    /// By status.
    statuses: Vec<u64>,
    /// By id, as in the catalog.
    methods: Vec<u64>,
    paths: Vec<u64>,
    seen_clients: Vec<bool>,
    /// By position in [`Dirty::ALL`].
    dirty: [u64; Dirty::ALL.len()],
    body_bytes: u64,
    first_and_last_ns: Option<(i64, i64)>,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            statuses: vec![0; 600],
            methods: vec![0; catalog.methods.len()],
            paths: vec![0; catalog.paths.len()],
            seen_clients: vec![false; catalog.clients.len()],
            dirty: [0; Dirty::ALL.len()],
            body_bytes: 0,
            first_and_last_ns: None,
        }
    }

    /// Counts an event that was written. It must come from the generator whose catalog this tally was made for.
    pub fn count(&mut self, event: &Event<'_>) {
        if let Some(way) = event.dirty {
            self.dirty[way as usize] += 1;
            return;
        }
        self.statuses[usize::from(event.status)] += 1;
        self.methods[event.method.id] += 1;
        self.paths[event.path.id] += 1;
        self.seen_clients[event.client.id] = true;
        self.body_bytes += event.body_bytes;
        let first_ns = self.first_and_last_ns.map_or(event.time_ns, |(first_ns, _)| first_ns);
        self.first_and_last_ns = Some((first_ns, event.time_ns));
    }

    /// The counts so far and the files that hold the lines, as a manifest; not yet complete.
    #[must_use]
    pub fn manifest(&self, run: &RunInfo, catalog: &Catalog, files: Vec<FileEntry>) -> Manifest {
        let terms = |terms: &[Term], counts: &[u64]| {
            let named = terms.iter().map(|term| term.text.clone()).zip(counts.iter().copied());
            named.filter(|(_, count)| *count > 0).collect()
        };
        let instant = |ns: i64| Timestamp::from_nanosecond(i128::from(ns)).ok();
        Manifest {
            run: run.clone(),
            complete: false,
            lines: files.iter().map(|file| file.lines).sum(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            clean_lines: self.statuses.iter().sum(),
            header_lines: files.iter().map(|file| file.header_lines).sum(),
            dirty: Dirty::ALL.into_iter().zip(self.dirty).filter(|(_, count)| *count > 0).collect(),
            body_bytes: self.body_bytes,
            distinct_clients: self.seen_clients.iter().filter(|seen| **seen).count() as u64,
            first: self.first_and_last_ns.and_then(|(first_ns, _)| instant(first_ns)),
            last: self.first_and_last_ns.and_then(|(_, last_ns)| instant(last_ns)),
            statuses: (0..).zip(self.statuses.iter().copied()).filter(|(_, count)| *count > 0).collect(),
            methods: terms(&catalog.methods, &self.methods),
            paths: terms(&catalog.paths, &self.paths),
            files,
        }
    }
}
