//! From bytes to lines: one block at a time, each line borrowed from the block.

use std::io;

use memchr::{memchr, memchr_iter, memrchr};

use super::content::Content;
use crate::record::{Position, RawLine, TAIL_BYTES, tail_hash};
use crate::simulated::{Bug, put_back};

/// How much is read at once: little enough to be in a core's own cache still when its last line is parsed.
const BLOCK_BYTES: usize = 64 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What a line may take beyond its text: a byte order mark, `\r\n`. A stretch longer than `max_line_bytes` and this
/// without a line end is a line to cut, however it is read; so a line's bytes, and its id, never depend on blocks.
const AROUND: usize = 5;

/// Where a file has been read to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The end of the last whole line that was delivered.
    pub position: Position,
    /// How far the search for the end of the next line has come, at least `position.offset`: so that a line of many
    /// megabytes is looked at once, not once a block.
    pub scanned: u64,
}

impl Cursor {
    /// At `position`, nothing scanned beyond it.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self { position, scanned: position.offset }
    }

    /// At the start of a file.
    #[must_use]
    pub fn start() -> Self {
        Self::at(Position { offset: 0, tail_hash: tail_hash(&[]) })
    }
}

/// What bounds a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longer lines are cut to this many bytes.
    pub max_line_bytes: usize,
}

/// What one step of reading came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Lines were delivered up to the cursor; there may be more.
    More {
        /// Bytes the cursor moved.
        bytes: u64,
    },
    /// All whole lines were delivered; `rest` bytes without a line end remain.
    End {
        /// Bytes the cursor moved.
        bytes: u64,
        /// Bytes after the cursor.
        rest: u64,
    },
    /// The bytes before the cursor are not those that were read, or are gone: this is another file now.
    Replaced,
}

/// A block to read into, reused for every file.
#[derive(Debug, Default)]
pub struct Reader {
    buf: Vec<u8>,
}

impl Reader {
    /// Reads one block of `content` at `cursor`, gives each whole line to `line` (with the offset of its end, terminator
    /// included), and moves the cursor. With `complete`, what follows the last line end is a line too, unless it is a
    /// compressed stream that breaks off there. Where `line` returns `false`, reading stops behind that line.
    ///
    /// # Errors
    /// What the system or the decompressor says; the cursor stands where the last delivered line ends.
    pub fn step(
        &mut self,
        content: &mut Content,
        cursor: &mut Cursor,
        complete: bool,
        limits: Limits,
        mut line: impl FnMut(RawLine<'_>, u64) -> bool,
    ) -> io::Result<Step> {
        let start = cursor.position.offset;
        let back = usize::try_from(start).unwrap_or(TAIL_BYTES).min(TAIL_BYTES);
        let mut want = back + BLOCK_BYTES.min(limits.max_line_bytes.saturating_add(1).max(64 << 10));
        if cursor.scanned >= start + BLOCK_BYTES as u64 {
            // The line at the cursor is longer than a block: take all of it that can be delivered, once.
            want = want.max(back + limits.max_line_bytes + AROUND + 1);
        }
        let (read, whole_lines) = loop {
            self.buf.resize(self.buf.len().max(want), 0);
            let read = content.read_at(start - back as u64, &mut self.buf[..want])?;
            let unchanged = tail_hash(&self.buf[..back.min(read)]) == cursor.position.tail_hash;
            if read < back || !(unchanged || put_back(Bug::NoRehash)) {
                return Ok(Step::Replaced);
            }
            if let Some(last) = memrchr(b'\n', &self.buf[back..read]) {
                break (read, last + 1);
            }
            let longest = back + limits.max_line_bytes + AROUND + 1;
            if read < want || want >= longest {
                break (read, 0);
            }
            want = longest;
        };
        let at_end = read < want;
        let complete = complete && !(at_end && content.is_cut());
        let data = back + whole_lines;
        if whole_lines > 0 {
            let taken = deliver(&self.buf[back..data], start, limits, &mut line);
            self.advance(cursor, start, back, back + taken);
            let bytes = taken as u64;
            if taken < whole_lines {
                return Ok(Step::More { bytes });
            }
            let rest = (read - data) as u64;
            if !at_end {
                return Ok(Step::More { bytes });
            }
            if rest == 0 || !complete {
                cursor.scanned = cursor.position.offset + rest;
                return Ok(Step::End { bytes, rest });
            }
            let last = &self.buf[data..read];
            emit(last, cursor.position.offset, cursor.position.offset + rest, limits, &mut line);
            self.advance(cursor, start, back, read);
            return Ok(Step::End { bytes: bytes + rest, rest: 0 });
        }
        if at_end && !complete {
            let rest = (read - back) as u64;
            cursor.scanned = start + rest;
            return Ok(Step::End { bytes: 0, rest });
        }
        if at_end {
            let rest = (read - back) as u64;
            if rest > 0 {
                emit(&self.buf[back..read], start, start + rest, limits, &mut line);
                self.advance(cursor, start, back, read);
            }
            return Ok(Step::End { bytes: rest, rest: 0 });
        }
        self.long_line(content, cursor, complete, limits, line)
    }

    /// The line at the cursor is longer than `max_line_bytes`: finds its end without keeping it, then delivers its head.
    fn long_line(
        &mut self,
        content: &mut Content,
        cursor: &mut Cursor,
        complete: bool,
        limits: Limits,
        mut line: impl FnMut(RawLine<'_>, u64) -> bool,
    ) -> io::Result<Step> {
        let start = cursor.position.offset;
        let mut at = cursor.scanned.max(start);
        let end = loop {
            self.buf.resize(self.buf.len().max(BLOCK_BYTES), 0);
            let read = content.read_at(at, &mut self.buf[..BLOCK_BYTES])?;
            if let Some(newline) = memchr(b'\n', &self.buf[..read]) {
                break at + newline as u64 + 1;
            }
            at += read as u64;
            if read < BLOCK_BYTES {
                if complete && !content.is_cut() {
                    break at;
                }
                cursor.scanned = at;
                return Ok(Step::End { bytes: 0, rest: at - start });
            }
        };
        let Some(tail_hash) = content.hash_at(end)? else { return Ok(Step::Replaced) };
        // A compressed stream goes back to its start for this; such a line is rare.
        let keep = limits.max_line_bytes + AROUND;
        self.buf.resize(self.buf.len().max(keep), 0);
        let read = content.read_at(start, &mut self.buf[..keep])?;
        emit(&self.buf[..read], start, end, limits, &mut line);
        *cursor = Cursor::at(Position { offset: end, tail_hash });
        Ok(Step::More { bytes: end - start })
    }

    fn advance(&self, cursor: &mut Cursor, start: u64, back: usize, end: usize) {
        let offset = start + (end - back) as u64;
        let tail = &self.buf[end - end.min(TAIL_BYTES)..end];
        *cursor = Cursor::at(Position { offset, tail_hash: tail_hash(tail) });
    }
}

/// Gives each line of `block`, which starts at `offset` and ends with a line end; returns how many bytes were taken.
fn deliver(block: &[u8], offset: u64, limits: Limits, line: &mut impl FnMut(RawLine<'_>, u64) -> bool) -> usize {
    let mut start = 0;
    for newline in memchr_iter(b'\n', block) {
        let go_on = emit(&block[start..newline], offset + start as u64, offset + newline as u64 + 1, limits, line);
        start = newline + 1;
        if !go_on {
            break;
        }
    }
    start
}

#[inline]
fn emit(bytes: &[u8], offset: u64, end: u64, limits: Limits, line: &mut impl FnMut(RawLine<'_>, u64) -> bool) -> bool {
    let bytes = strip_bom(bytes.strip_suffix(b"\r").unwrap_or(bytes), offset);
    let cut = bytes.len() > limits.max_line_bytes;
    let bytes = if cut { &bytes[..limits.max_line_bytes] } else { bytes };
    line(RawLine { bytes, offset, cut }, end)
}

#[inline]
fn strip_bom(bytes: &[u8], offset: u64) -> &[u8] {
    if offset == 0 { bytes.strip_prefix(BOM).unwrap_or(bytes) } else { bytes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { max_line_bytes: 1 << 20 };

    type Lines = Vec<(u64, Vec<u8>, bool, u64)>;

    struct Scratch {
        _dir: tempfile::TempDir,
        path: std::path::PathBuf,
        reader: Reader,
        cursor: Cursor,
    }

    fn scratch(bytes: &[u8]) -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, bytes).unwrap();
        Scratch { _dir: dir, path, reader: Reader::default(), cursor: Cursor::start() }
    }

    impl Scratch {
        /// Steps until the end.
        fn read(&mut self, complete: bool, limits: Limits) -> (Lines, Step) {
            let mut lines = Lines::new();
            let (mut content, _) = Content::open(&self.path).unwrap();
            loop {
                let step = self
                    .reader
                    .step(&mut content, &mut self.cursor, complete, limits, |line, end| {
                        lines.push((line.offset, line.bytes.to_vec(), line.cut, end));
                        !lines.len().is_multiple_of(7)
                    })
                    .unwrap();
                if !matches!(step, Step::More { .. }) {
                    return (lines, step);
                }
            }
        }
    }

    /// The same by the slow and obvious way.
    fn model(bytes: &[u8], complete: bool, limits: Limits) -> Lines {
        let mut lines = Lines::new();
        let mut offset = 0;
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let end = offset + piece.len();
            let ended = piece.ends_with(b"\n");
            if ended || complete {
                let text = piece.strip_suffix(b"\n").unwrap_or(piece);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                let text = if offset == 0 { text.strip_prefix(BOM).unwrap_or(text) } else { text };
                let cut = text.len() > limits.max_line_bytes;
                lines.push((offset as u64, text[..text.len().min(limits.max_line_bytes)].to_vec(), cut, end as u64));
            }
            offset = end;
        }
        lines
    }

    #[test]
    fn line_ends_byte_order_marks_and_empty_lines() {
        let bytes = b"\xef\xbb\xbfone\r\ntwo\n\n\r\nthr\ree\nhalf";
        let mut file = scratch(bytes);
        let (lines, step) = file.read(false, LIMITS);
        let texts: Vec<&[u8]> = lines.iter().map(|line| &line.1[..]).collect();
        assert_eq!(texts, [&b"one"[..], b"two", b"", b"", b"thr\ree"]);
        assert_eq!(step, Step::End { bytes: bytes.len() as u64 - 4, rest: 4 });
        let (lines, _) = file.read(true, LIMITS);
        assert_eq!(lines, [(bytes.len() as u64 - 4, b"half".to_vec(), false, bytes.len() as u64)]);
    }

    #[test]
    fn reading_goes_on_where_it_stopped_as_the_file_grows() {
        let mut file = scratch(b"a\nb");
        assert_eq!(file.read(false, LIMITS).0.len(), 1);
        std::fs::write(&file.path, b"a\nbc\nd\n").unwrap();
        let (lines, _) = file.read(false, LIMITS);
        assert_eq!(lines, [(2, b"bc".to_vec(), false, 5), (5, b"d".to_vec(), false, 7)]);
    }

    #[test]
    fn a_changed_past_is_noticed_before_anything_is_delivered() {
        for replaced in [&b""[..], b"a\n", b"a\nx\nnew\n", b"A\nb\nnew\n"] {
            let mut file = scratch(b"a\nb\n");
            file.read(false, LIMITS);
            std::fs::write(&file.path, replaced).unwrap();
            assert_eq!(file.read(false, LIMITS), (vec![], Step::Replaced), "{replaced:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_scanned_once_and_delivered_cut() {
        let mut bytes = vec![b'x'; 3 << 20];
        let mut file = scratch(&bytes);
        let (lines, step) = file.read(false, LIMITS);
        assert_eq!((lines.len(), step), (0, Step::End { bytes: 0, rest: 3 << 20 }));
        assert_eq!(file.cursor.scanned, 3 << 20);
        bytes.extend_from_slice(b"y\nnext\n");
        std::fs::write(&file.path, &bytes).unwrap();
        let (lines, _) = file.read(false, LIMITS);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].1.len(), lines[0].2, lines[0].3), (1 << 20, true, (3 << 20) + 2));
        assert_eq!((lines[1].0, &lines[1].1[..]), ((3 << 20) + 2, &b"next"[..]));
    }

    #[test]
    fn a_line_longer_than_a_block_but_allowed_is_whole() {
        let mut bytes = vec![b'x'; 700_000];
        bytes.push(b'\n');
        let (lines, _) = scratch(&bytes).read(false, LIMITS);
        assert_eq!((lines[0].1.len(), lines[0].2), (700_000, false));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_bytes_give_the_lines_of_the_obvious_way(
            pieces in prop::collection::vec(prop_oneof![
                4 => prop::collection::vec(any::<u8>(), 0..40),
                1 => Just(b"\r\n".to_vec()),
                2 => Just(b"\n".to_vec()),
                1 => (0usize..300_000).prop_map(|n| vec![b'z'; n]),
            ], 0..30),
            max_line_bytes in prop_oneof![Just(10_usize), Just(1000), Just(100_000), Just(1 << 20)],
            complete in any::<bool>(),
        ) {
            let bytes = pieces.concat();
            let limits = Limits { max_line_bytes };
            let (lines, _) = scratch(&bytes).read(complete, limits);
            let expected = model(&bytes, complete, limits);
            prop_assert_eq!(lines.len(), expected.len());
            prop_assert!(lines == expected);
        }
    }
}
