//! Lines that carry the time of their writing, so that the sink can tell how long they took: as the user's name, which
//! is in a document once.

use std::fs::File;
use std::io::{self, Write};
use std::time::Instant;

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::stats::{percentile, unix_ns};

/// Before the nanoseconds since 1970; with the quote that a JSON text begins with.
const MARK: &str = "\"at-";

/// Writes a `combined` line that was written at `unix_ns`; lines with different numbers differ in their paths too.
pub(crate) fn write_line(to: &mut Vec<u8>, unix_ns: u64, number: u64) {
    let written = writeln!(
        to,
        "198.51.100.{} - at-{unix_ns} [01/Mar/2026:09:59:58 +0000] \"GET /product/{number}?ref=list&page=12 HTTP/1.1\" 200 \
         18213 \"https://shop.example.com/category/garden\" \"Mozilla/5.0 (Windows NT 10.0; Win64; x64) \
         AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\"",
        number % 256
    );
    // A vector takes everything.
    debug_assert!(written.is_ok());
}

/// Appends so many lines a second to files in turn, each line with a write of its own, as servers do.
#[derive(Debug)]
pub(crate) struct Writer {
    files: Vec<File>,
    per_second: u64,
    began: Instant,
    /// Lines written until now.
    pub(crate) lines: u64,
    line: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(files: Vec<File>, per_second: u64) -> Self {
        Self { files, per_second, began: Instant::now(), lines: 0, line: Vec::new() }
    }

    /// Writes what is due.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let due = self.began.elapsed().as_nanos() * u128::from(self.per_second) / 1_000_000_000;
        while u128::from(self.lines) < due {
            self.line.clear();
            write_line(&mut self.line, unix_ns(), self.lines);
            let turn = self.lines as usize % self.files.len();
            self.files[turn].write_all(&self.line)?;
            self.lines += 1;
        }
        Ok(())
    }
}

/// The times in a bulk body.
pub(crate) fn times(body: &[u8]) -> Vec<u64> {
    let digits = |at: usize| body[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let number =
        |at: usize| digits(at).fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    memmem::find_iter(body, MARK).map(|at| number(at + MARK.len())).collect()
}

/// How long lines took, from their writing to the sink's answer.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Delays {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Delays {
    /// Of single delays in microseconds.
    pub(crate) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |share| f64::from(percentile(&micros, share)) / 1000.0;
        Self { count: micros.len() as u64, p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_long_as_others_and_its_time_is_found_in_a_body() {
        let mut line = Vec::new();
        write_line(&mut line, 1_795_000_000_123_456_789, 7);
        assert!((200..300).contains(&line.len()), "{}", line.len());
        assert!(line.windows(4).any(|at| at == b" at-"));
        let body = "{\"create\":{}}\n{\"user\":{\"name\":\"at-1795000000123456789\"}}\n{}\n{\"name\":\"at-5\"}\n";
        assert_eq!(times(body.as_bytes()), [1_795_000_000_123_456_789, 5]);
        assert_eq!(times(b"\"at-"), [0]);
    }

    #[test]
    fn delays_are_told_in_milliseconds() {
        let delays = Delays::of((1..=100).rev().map(|millis| millis * 1000).collect());
        assert_eq!((delays.count, delays.p50_ms, delays.p99_ms, delays.max_ms), (100, 50.0, 99.0, 100.0));
    }
}
