//! Bulk requests kept in a file: for each a line with its target and length, then its body.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes requests.
#[derive(Debug)]
pub(crate) struct Recording(BufWriter<File>);

/// Reads them again.
#[derive(Debug)]
pub(crate) struct Recorded(BufReader<File>);

impl Recording {
    /// Makes the file anew.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(BufWriter::with_capacity(1 << 20, file)))
    }

    /// Adds a request; it is in the file when this returns.
    pub(crate) fn add(&mut self, target: &str, body: &[u8]) -> io::Result<()> {
        writeln!(self.0, "{} {target}", body.len())?;
        self.0.write_all(body)?;
        self.0.flush()
    }
}

impl Recorded {
    /// Begins with the first.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(BufReader::with_capacity(1 << 20, file)))
    }

    /// Reads the next body into `body` and returns its target; `None` after the last.
    pub(crate) fn next(&mut self, body: &mut Vec<u8>) -> Result<Option<String>> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let (length, target) = line.trim_end().split_once(' ').context("not a recording")?;
        body.resize(length.parse().context("not a recording")?, 0);
        self.0.read_exact(body).context("a recording that breaks off")?;
        Ok(Some(target.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bodies");
        let mut recording = Recording::create(&file).unwrap();
        let all = [("/a/_bulk?x=1", "{}\n{}\n"), ("/b/_bulk", ""), ("/a/_bulk", "{\"x\":\n1}\n")];
        for (target, body) in all {
            recording.add(target, body.as_bytes()).unwrap();
        }
        let mut recorded = Recorded::open(&file).unwrap();
        let mut body = Vec::new();
        for (target, expected) in all {
            assert_eq!(recorded.next(&mut body).unwrap().as_deref(), Some(target));
            assert_eq!(body, expected.as_bytes());
        }
        assert_eq!(recorded.next(&mut body).unwrap(), None);
    }
}
