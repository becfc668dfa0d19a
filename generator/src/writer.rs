//! Puts lines into files: many chunk files, each there only when complete, or one growing file with rotation. Knows
//! each file's lines, bytes and hash without reading it back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

mod chunks;
mod growing;

use chunks::Chunks;
use growing::Growing;

/// Lines are collected into blocks of this size before they are hashed and written.
const BLOCK_BYTES: usize = 256 << 10;

/// Where lines go, and in what pieces.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The directory; it is made if it is not there.
    pub directory: PathBuf,
    /// The first part of file names.
    pub name: String,
    /// The last part of file names, without the dot before it.
    pub extension: String,
    /// One file or many.
    pub layout: Layout,
    /// Whether chunks, or files rotated away, are compressed and their names end in `.gz`.
    pub gzip: bool,
    /// A line, newline included, that begins every file.
    pub header: Option<Vec<u8>>,
}

/// One file or many.
#[derive(Clone, Debug)]
pub enum Layout {
    /// Files `NAME-000001.EXT` and so on, each moved in under its name when it is complete.
    Chunks {
        /// Lines a file, a header not counted; the last may have fewer.
        lines: u64,
    },
    /// A file `NAME.EXT`, with `NAME.EXT.1` the youngest of those rotated away. A file that is there already is
    /// rotated away first.
    Growing(Rotation),
}

/// When and how a growing file is rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// How large the file grows; `None`: it is never rotated.
    pub limit: Option<Limit>,
    /// How it is rotated.
    pub method: RotationMethod,
    /// How many files rotated away are kept; 0: all.
    pub keep: usize,
}

/// How large a growing file becomes.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// This many lines, a header not counted.
    Lines(u64),
    /// At least this many bytes: the line that reaches the limit is still written.
    Bytes(u64),
}

/// How a growing file is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RotationMethod {
    /// Move it away, begin a new file
    Rename,
    /// Copy it away, cut the original to nothing
    Copytruncate,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where it is now; `None`: rotation has deleted it.
    pub path: Option<PathBuf>,
    /// 1 for the first file written, 2 for the next and so on, whatever their names are by now.
    pub generation: u64,
    /// Lines, a header included.
    pub lines: u64,
    /// How many of them are headers.
    pub header_lines: u64,
    /// Bytes, before compression.
    pub bytes: u64,
    /// XXH3 (64 bits, hexadecimal) of the content, before compression.
    pub xxh3: String,
    /// False for the file that is still being written.
    pub complete: bool,
}

/// Writes lines into files.
#[derive(Debug)]
pub struct Writer(Kind);

#[derive(Debug)]
enum Kind {
    Chunks(Box<Chunks>),
    Growing(Box<Growing>),
}

impl Writer {
    /// Makes the directory and, for a growing file, opens it.
    ///
    /// # Errors
    /// If the directory cannot be made, or the file not be opened or an old one not be rotated away.
    pub fn open(options: WriterOptions) -> Result<Self> {
        fs::create_dir_all(&options.directory)
            .with_context(|| format!("cannot make directory {}", options.directory.display()))?;
        Ok(Self(match options.layout {
            Layout::Chunks { lines } => Kind::Chunks(Box::new(Chunks::new(options, lines))),
            Layout::Growing(rotation) => Kind::Growing(Box::new(Growing::open(options, rotation)?)),
        }))
    }

    /// Writes one line, newline included. It may stay in memory until [`Writer::flush`].
    ///
    /// # Errors
    /// If writing, moving or rotating a file fails, or a chunk's name is taken.
    pub fn write_line(&mut self, line: &[u8]) -> Result<()> {
        match &mut self.0 {
            Kind::Chunks(chunks) => chunks.write_line(line),
            Kind::Growing(growing) => growing.write_line(line),
        }
    }

    /// Puts all lines into files. A chunk that is not complete stays out of sight.
    ///
    /// # Errors
    /// If writing fails.
    pub fn flush(&mut self) -> Result<()> {
        match &mut self.0 {
            Kind::Chunks(chunks) => chunks.flush(),
            Kind::Growing(growing) => growing.flush(),
        }
    }

    /// Every file so far, in the order of writing.
    #[must_use]
    pub fn files(&self) -> Vec<FileEntry> {
        match &self.0 {
            Kind::Chunks(chunks) => chunks.files(),
            Kind::Growing(growing) => growing.files(),
        }
    }

    /// Completes the last file and returns all of them.
    ///
    /// # Errors
    /// If writing, or moving the last chunk in, fails.
    pub fn finish(self) -> Result<Vec<FileEntry>> {
        match self.0 {
            Kind::Chunks(chunks) => chunks.finish(),
            Kind::Growing(growing) => growing.finish(),
        }
    }
}

/// An open file, with what it holds so far.
struct OpenFile {
    /// For errors.
    path: PathBuf,
    sink: Sink,
    block: Vec<u8>,
    lines: u64,
    header_lines: u64,
    bytes: u64,
    /// Of what has left the block.
    hash: Xxh3,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OpenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

enum Sink {
    Plain(File),
    Gzip(Box<GzEncoder<File>>),
}

impl OpenFile {
    fn new(path: PathBuf, file: File, gzip: bool, header: Option<&[u8]>) -> Self {
        let sink = if gzip { Sink::Gzip(Box::new(gzip_encoder(file))) } else { Sink::Plain(file) };
        let mut open = Self {
            path,
            sink,
            block: Vec::with_capacity(BLOCK_BYTES + (64 << 10)),
            lines: 0,
            header_lines: 0,
            bytes: 0,
            hash: Xxh3::new(),
        };
        open.begin(header);
        open
    }

    /// Starts counting anew, and puts the header first.
    fn begin(&mut self, header: Option<&[u8]>) {
        debug_assert!(self.block.is_empty(), "counted lines are written before counting starts anew");
        self.hash.reset();
        let header = header.unwrap_or_default();
        self.block.extend_from_slice(header);
        self.bytes = header.len() as u64;
        self.header_lines = u64::from(!header.is_empty());
        self.lines = self.header_lines;
    }

    fn write_line(&mut self, line: &[u8]) -> Result<()> {
        self.block.extend_from_slice(line);
        self.lines += 1;
        self.bytes += line.len() as u64;
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Lines without the header.
    fn event_lines(&self) -> u64 {
        self.lines - self.header_lines
    }

    fn flush(&mut self) -> Result<()> {
        self.hash.update(&self.block);
        let written = match &mut self.sink {
            Sink::Plain(file) => file.write_all(&self.block),
            Sink::Gzip(encoder) => encoder.write_all(&self.block),
        };
        self.block.clear();
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn entry(&self, path: Option<PathBuf>, generation: u64, complete: bool) -> FileEntry {
        let mut hash = self.hash.clone();
        hash.update(&self.block);
        FileEntry {
            path,
            generation,
            lines: self.lines,
            header_lines: self.header_lines,
            bytes: self.bytes,
            xxh3: format!("{:016x}", hash.digest()),
            complete,
        }
    }

    fn close(mut self) -> Result<()> {
        self.flush()?;
        if let Sink::Gzip(encoder) = self.sink {
            (*encoder).finish().with_context(|| format!("cannot write {}", self.path.display()))?;
        }
        Ok(())
    }
}

/// Fast rather than small. The header holds neither a name nor a time, so that equal content gives equal files.
fn gzip_encoder(file: File) -> GzEncoder<File> {
    GzEncoder::new(file, Compression::fast())
}

/// Replaces `plain` by `compressed`, which appears complete.
fn compress(plain: &Path, compressed: &Path) -> io::Result<()> {
    let aside = temporary(compressed);
    let mut encoder = gzip_encoder(File::create(&aside)?);
    io::copy(&mut File::open(plain)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&aside, compressed)?;
    fs::remove_file(plain)
}

/// A name in the same directory, so that a rename is atomic, and with a dot first, so that globs pass it by.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// `path` with more at its end.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
