//! Chunk files: written under a temporary name, and moved in when complete. A name that is taken is an error.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{FileEntry, OpenFile, WriterOptions, temporary};

#[derive(Debug)]
pub(super) struct Chunks {
    options: WriterOptions,
    lines_each: u64,
    /// Opened by its first line, so that no chunk is empty.
    open: Option<OpenFile>,
    done: Vec<FileEntry>,
}

impl Chunks {
    pub(super) fn new(options: WriterOptions, lines_each: u64) -> Self {
        Self { options, lines_each, open: None, done: Vec::new() }
    }

    pub(super) fn write_line(&mut self, line: &[u8]) -> Result<()> {
        if self.open.is_none() {
            let aside = temporary(&self.path());
            let file = File::create(&aside).with_context(|| format!("cannot create {}", aside.display()))?;
            self.open = Some(OpenFile::new(aside, file, self.options.gzip, self.options.header.as_deref()));
        }
        if let Some(open) = &mut self.open {
            open.write_line(line)?;
            if open.event_lines() >= self.lines_each {
                self.move_in()?;
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.open.as_mut().map_or(Ok(()), OpenFile::flush)
    }

    pub(super) fn files(&self) -> Vec<FileEntry> {
        let open = self.open.iter().map(|open| open.entry(Some(self.path()), self.generation(), false));
        self.done.iter().cloned().chain(open).collect()
    }

    pub(super) fn finish(mut self) -> Result<Vec<FileEntry>> {
        self.move_in()?;
        Ok(self.done)
    }

    fn generation(&self) -> u64 {
        self.done.len() as u64 + 1
    }

    /// Where the chunk that is being written will appear.
    fn path(&self) -> PathBuf {
        let WriterOptions { directory, name, extension, gzip, .. } = &self.options;
        let gz = if *gzip { ".gz" } else { "" };
        directory.join(format!("{name}-{:06}.{extension}{gz}", self.generation()))
    }

    fn move_in(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let path = self.path();
        let entry = open.entry(Some(path.clone()), self.generation(), true);
        let aside = open.path.clone();
        open.close()?;
        let taken = path.try_exists().with_context(|| format!("cannot look for {}", path.display()))?;
        ensure!(!taken, "{} is there already, from another run", path.display());
        fs::rename(&aside, &path).with_context(|| format!("cannot move {} in", path.display()))?;
        self.done.push(entry);
        Ok(())
    }
}
