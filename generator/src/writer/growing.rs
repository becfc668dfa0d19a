//! One growing file, rotated as logrotate does it: the numbers of older files go up by one, the file becomes number 1
//! and is compressed if asked for, and what is beyond the number to keep is deleted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{FileEntry, Limit, OpenFile, Rotation, RotationMethod, WriterOptions, compress, with_suffix};

#[derive(Debug)]
pub(super) struct Growing {
    path: PathBuf,
    gzip: bool,
    header: Option<Vec<u8>>,
    rotation: Rotation,
    open: OpenFile,
    /// Without paths: these change with every rotation.
    done: Vec<FileEntry>,
}

impl Growing {
    pub(super) fn open(options: WriterOptions, rotation: Rotation) -> Result<Self> {
        let path = options.directory.join(format!("{}.{}", options.name, options.extension));
        let from_another_run = path.try_exists().with_context(|| format!("cannot look for {}", path.display()))?;
        if from_another_run {
            shift_numbers(&path, rotation.keep)
                .and_then(|()| fs::rename(&path, with_suffix(&path, ".1")))
                .with_context(|| format!("cannot rotate {} away", path.display()))?;
        }
        let file = create(&path)?;
        Ok(Self {
            open: OpenFile::new(path.clone(), file, false, options.header.as_deref()),
            path,
            gzip: options.gzip,
            header: options.header,
            rotation,
            done: Vec::new(),
        })
    }

    pub(super) fn write_line(&mut self, line: &[u8]) -> Result<()> {
        let full = match self.rotation.limit {
            None => false,
            Some(Limit::Lines(lines)) => self.open.event_lines() >= lines,
            Some(Limit::Bytes(bytes)) => self.open.event_lines() > 0 && self.open.bytes >= bytes,
        };
        // Only now that there is a line to come, so that the last file is never empty.
        if full {
            self.rotate()?;
        }
        self.open.write_line(line)
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.open.flush()
    }

    pub(super) fn files(&self) -> Vec<FileEntry> {
        let mut files = self.done.clone();
        for (file, number) in files.iter_mut().zip((1..=self.done.len()).rev()) {
            let kept = self.rotation.keep == 0 || number <= self.rotation.keep;
            let gz = if self.gzip { ".gz" } else { "" };
            file.path = kept.then(|| with_suffix(&self.path, &format!(".{number}{gz}")));
        }
        files.push(self.open.entry(Some(self.path.clone()), self.generation(), false));
        files
    }

    pub(super) fn finish(mut self) -> Result<Vec<FileEntry>> {
        self.open.flush()?;
        let mut files = self.files();
        if let Some(last) = files.last_mut() {
            last.complete = true;
        }
        Ok(files)
    }

    fn generation(&self) -> u64 {
        self.done.len() as u64 + 1
    }

    fn rotate(&mut self) -> Result<()> {
        self.open.flush()?;
        self.done.push(self.open.entry(None, self.generation(), true));
        let first = with_suffix(&self.path, ".1");
        shift_numbers(&self.path, self.rotation.keep)
            .with_context(|| format!("cannot rotate the files of {}", self.path.display()))?;
        match self.rotation.method {
            RotationMethod::Rename => {
                fs::rename(&self.path, &first).with_context(|| format!("cannot move {} away", self.path.display()))?;
                self.open = OpenFile::new(self.path.clone(), create(&self.path)?, false, self.header.as_deref());
            }
            RotationMethod::Copytruncate => {
                // The file is open for appending, so the next write goes to its new end.
                fs::copy(&self.path, &first)
                    .and_then(|_| OpenOptions::new().write(true).open(&self.path)?.set_len(0))
                    .with_context(|| format!("cannot copy {} away", self.path.display()))?;
                self.open.begin(self.header.as_deref());
            }
        }
        if self.gzip {
            compress(&first, &with_suffix(&first, ".gz"))
                .with_context(|| format!("cannot compress {}", first.display()))?;
        }
        Ok(())
    }
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Makes room for a new number 1, and deletes what is beyond `keep` then.
fn shift_numbers(path: &Path, keep: usize) -> io::Result<()> {
    let numbered = |number: usize, gz: &str| with_suffix(path, &format!(".{number}{gz}"));
    let mut count = 0;
    while numbered(count + 1, "").try_exists()? || numbered(count + 1, ".gz").try_exists()? {
        count += 1;
    }
    for number in (1..=count).rev() {
        for gz in ["", ".gz"] {
            let from = numbered(number, gz);
            let moved = if keep > 0 && number >= keep {
                fs::remove_file(&from)
            } else {
                fs::rename(&from, numbered(number + 1, gz))
            };
            // Of a number there is usually either the plain or the compressed file.
            moved.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
    }
    Ok(())
}
