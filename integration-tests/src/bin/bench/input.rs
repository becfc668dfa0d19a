//! What is indexed: one file of `combined` lines as the generator writes them, and the same lines as chunk files of 1000.
//! The seed is fixed, so that every machine and every day has the same bytes. They are kept under `target/bench`, and
//! made anew when the generator would no longer write them like this.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use logweir_generator::{Format, Generator, Load, Scenario, Schedule, Settings};

const SEED: u64 = 1;
const CHUNK_LINES: u64 = 1000;
/// Older than any time for which a chunk must stand still before it counts as complete.
const AGE: Duration = Duration::from_secs(3600);

/// The files.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// One file with all lines.
    pub(crate) file: PathBuf,
    /// A directory with the same lines in chunks, if they were asked for.
    pub(crate) chunks: PathBuf,
}

impl Input {
    /// Makes what is not there yet below `dir`.
    pub(crate) fn prepare(dir: &Path, lines: u64, with_chunks: bool) -> Result<Self> {
        let mut input = Self::of(dir, lines, Format::Combined)?;
        let chunks = dir.join(format!("chunks-{lines}"));
        let head = head(lines, Format::Combined)?;
        if with_chunks && !begins_with(&chunk(&chunks, 0), &head) {
            eprintln!("bench: writing {} chunks", lines / CHUNK_LINES);
            write_chunks(&chunks, &input.file).with_context(|| format!("cannot write {}", chunks.display()))?;
        }
        if with_chunks {
            (0..lines / CHUNK_LINES).try_for_each(|number| warm(&chunk(&chunks, number)))?;
        }
        input.chunks = chunks;
        Ok(input)
    }

    /// The file alone, in any format.
    pub(crate) fn of(dir: &Path, lines: u64, format: Format) -> Result<Self> {
        ensure!(lines > 0 && lines.is_multiple_of(CHUNK_LINES), "--lines: expected a multiple of {CHUNK_LINES}");
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let name = match format {
            Format::Combined => "access".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let file = dir.join(format!("{name}-{lines}.log"));
        if !begins_with(&file, &head(lines, format)?) {
            eprintln!("bench: writing {lines} lines");
            write_file(&file, lines, format).with_context(|| format!("cannot write {}", file.display()))?;
        }
        warm(&file)?;
        let bytes = fs::metadata(&file)?.len();
        Ok(Self { lines, bytes, file, chunks: PathBuf::new() })
    }
}

/// The first lines.
fn head(lines: u64, format: Format) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut first = generator(lines, format)?;
    while head.len() < 1 << 16 && first.next_line(&mut head).is_some() {}
    Ok(head)
}

/// What is read from disk the first time and from memory later would be compared with itself.
fn warm(file: &Path) -> std::io::Result<()> {
    std::io::copy(&mut File::open(file)?, &mut std::io::sink()).map(drop)
}

/// A day of traffic, whatever the number of lines.
fn generator(lines: u64, format: Format) -> Result<Generator> {
    let schedule = Schedule {
        start: "2026-03-01T00:00:00Z".parse()?,
        load: Load::Filling,
        total: Some(lines),
        duration: Some(Duration::from_secs(24 * 3600)),
    };
    Generator::new(&Scenario::shop(), &schedule, Settings { seed: SEED, format, dirty: 0.0 })
}

/// Whether the start of the file is `head`, or where it is shorter, whether `head` begins with all of it.
fn begins_with(file: &Path, head: &[u8]) -> bool {
    let mut found = Vec::new();
    let read = File::open(file).and_then(|file| file.take(head.len() as u64).read_to_end(&mut found));
    read.is_ok() && !found.is_empty() && head.starts_with(&found)
}

fn write_file(path: &Path, lines: u64, format: Format) -> Result<()> {
    // Only what is whole gets the name.
    let part = path.with_extension("part");
    let mut output = BufWriter::with_capacity(1 << 20, File::create(&part)?);
    let mut generator = generator(lines, format)?;
    let (mut line, mut count) = (Vec::new(), 0);
    while generator.next_line(&mut line).is_some() {
        output.write_all(&line)?;
        line.clear();
        count += 1;
    }
    ensure!(count == lines, "the generator wrote {count} lines where {lines} were asked for");
    finish(output)?;
    fs::rename(part, path)?;
    Ok(())
}

fn write_chunks(dir: &Path, file: &Path) -> Result<()> {
    let part = dir.with_extension("part");
    for leftover in [dir, &part] {
        if leftover.is_dir() {
            fs::remove_dir_all(leftover)?;
        }
    }
    fs::create_dir(&part)?;
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let mut lines = Vec::new();
    for number in 0.. {
        lines.clear();
        for _ in 0..CHUNK_LINES {
            input.read_until(b'\n', &mut lines)?;
        }
        if lines.is_empty() {
            break;
        }
        let mut output = BufWriter::new(File::create(chunk(&part, number))?);
        output.write_all(&lines)?;
        finish(output)?;
    }
    fs::rename(part, dir)?;
    Ok(())
}

fn chunk(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("access-{number:06}.log"))
}

fn finish(output: BufWriter<File>) -> Result<()> {
    output.into_inner()?.set_modified(SystemTime::now() - AGE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_the_lines_of_the_file_and_both_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let input = Input::prepare(dir.path(), 3000, true).unwrap();
        let whole = fs::read(&input.file).unwrap();
        assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 3000);
        assert_eq!(whole.len() as u64, input.bytes);
        let chunks: Vec<u8> = (0..3).flat_map(|number| fs::read(chunk(&input.chunks, number)).unwrap()).collect();
        assert!(chunks == whole);

        let touched = chunk(&input.chunks, 2);
        fs::write(&touched, "kept").unwrap();
        Input::prepare(dir.path(), 3000, true).unwrap();
        assert_eq!(fs::read(&touched).unwrap(), b"kept");
        fs::write(&input.file, "from another generator").unwrap();
        Input::prepare(dir.path(), 3000, true).unwrap();
        assert!(fs::read(&input.file).unwrap() == whole);
        assert!(Input::prepare(dir.path(), 1500, false).is_err());
    }
}
