//! Two ways to write an item: fast, into a buffer of a fixed size, and into a `Vec` as long as it must be.
//!
//! The fast one copies in blocks of 32 bytes, whatever the length, and the next write goes over what was too much: a copy
//! of a fixed size is a few instructions where one of a varying size is a call. It never asks whether there is room:
//! positions wrap around in the buffer, and what came out longer than it is thrown away and written the other way.

use std::io::Write as _;

use crate::json::{self, LANES};

/// Bytes copied at once.
pub(super) const BLOCK: usize = 32;

/// The size of the buffer. Longer items are rare, and not the ones that come by the million.
const ROOM: usize = 16 << 10;

/// The most that one step writes over what it counts.
const SLACK: usize = 2 * BLOCK;

/// One more than what eight digits can say.
const EIGHT_DIGITS: u32 = 100_000_000;

/// The digits of a number below [`EIGHT_DIGITS`], the first digit in the lowest byte, and how many are leading zeros; the
/// last digit never is.
#[inline]
fn digits(value: u32) -> (u64, usize) {
    // All pairs of digits, then all digits, at once: each in a part of the word that is wide enough for its product.
    let fours = u64::from(value / 10_000) | u64::from(value % 10_000) << 32;
    let hundreds = (fours * 10_486) >> 20 & 0x7f_0000_007f;
    let pairs = hundreds | (fours - hundreds * 100) << 16;
    let tens = (pairs * 103) >> 10 & 0xf_000f_000f_000f;
    let ones = tens | (pairs - tens * 10) << 8;
    let zeros = (ones | 1 << 56).trailing_zeros() as usize / 8;
    (ones | 0x3030_3030_3030_3030, zeros)
}

/// What an item is written with.
pub(super) trait Writer {
    /// How much was written.
    fn len(&self) -> usize;

    /// The first `len` bytes of `block`.
    fn short(&mut self, block: &[u8; BLOCK], len: usize);

    /// The first `len` bytes of `blocks`.
    fn medium(&mut self, blocks: &[u8; 2 * BLOCK], len: usize);

    /// Any bytes, as they stand.
    fn all(&mut self, text: &[u8]);

    /// A whole number.
    fn int(&mut self, value: i64);

    /// `text[start..end]`, which needs no escape, as a JSON string with its quotes; fast if it is at most a block, and
    /// `text` goes on for a block after `start`.
    fn plain(&mut self, text: &[u8], start: usize, end: usize);

    /// `text[start..end]` as a JSON string with its quotes; fast if `text` goes on for a block after it.
    /// Returns whether it was valid UTF-8; what was not is replaced by U+FFFD.
    fn string(&mut self, text: &[u8], start: usize, end: usize) -> bool;
}

impl Writer for Vec<u8> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn short(&mut self, block: &[u8; BLOCK], len: usize) {
        self.extend_from_slice(&block[..len]);
    }

    fn medium(&mut self, blocks: &[u8; 2 * BLOCK], len: usize) {
        self.extend_from_slice(&blocks[..len]);
    }

    fn all(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }

    fn int(&mut self, value: i64) {
        // Writing to a Vec cannot fail.
        let _ = write!(self, "{value}");
    }

    fn plain(&mut self, text: &[u8], start: usize, end: usize) {
        self.push(b'"');
        self.extend_from_slice(&text[start..end]);
        self.push(b'"');
    }

    fn string(&mut self, text: &[u8], start: usize, end: usize) -> bool {
        json::push_string(self, &text[start..end])
    }
}

/// The buffer of a fixed size; one a thread.
#[derive(Debug)]
pub(super) struct Fast {
    /// Filled up to `at`; what follows is left from before.
    buf: Box<[u8; ROOM + SLACK]>,
    /// At least `ROOM` once something did not fit.
    at: usize,
}

impl Default for Fast {
    fn default() -> Self {
        Self { buf: Box::new([0; ROOM + SLACK]), at: 0 }
    }
}

impl Fast {
    /// Starts a new item.
    pub(super) fn clear(&mut self) {
        self.at = 0;
    }

    /// Whether an item made of so many bytes is worth trying.
    pub(super) fn fits(len: usize) -> bool {
        len < ROOM / 2
    }

    /// What was written, if it fitted.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        // Even what counts nothing may have been written over the start, once the end of the room was reached.
        if self.at < ROOM { Some(&self.buf[..self.at]) } else { None }
    }

    /// Writes `bytes`, of which the caller counts as much as it needs.
    #[inline]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        const { assert!(N <= SLACK) };
        let at = self.at % ROOM;
        self.buf[at..at + N].copy_from_slice(bytes);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.put(&[byte]);
        self.at += 1;
    }

    /// At most a block, nothing of what follows it.
    #[inline]
    fn exact(&mut self, text: &[u8]) {
        fn ends<const N: usize>(text: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
            text.first_chunk().zip(text.last_chunk())
        }
        let at = self.at % ROOM;
        let room = &mut self.buf[at..at + BLOCK];
        let len = text.len().min(BLOCK);
        if let Some((first, last)) = ends::<16>(text) {
            room[..16].copy_from_slice(first);
            room[len - 16..len].copy_from_slice(last);
        } else if let Some((first, last)) = ends::<8>(text) {
            room[..8].copy_from_slice(first);
            room[len - 8..len].copy_from_slice(last);
        } else if let Some((first, last)) = ends::<4>(text) {
            room[..4].copy_from_slice(first);
            room[len - 4..len].copy_from_slice(last);
        } else {
            for (to, from) in room.iter_mut().zip(text) {
                *to = *from;
            }
        }
        self.at += len;
    }

    /// More than a block.
    #[inline]
    fn long(&mut self, text: &[u8]) {
        let at = self.at % ROOM;
        if let Some(room) = self.buf.get_mut(at..at + text.len()) {
            room.copy_from_slice(text);
        }
        self.at += text.len();
    }

    /// A number below [`EIGHT_DIGITS`]; all its eight digits, or none of the leading zeros.
    #[inline]
    fn eight_digits(&mut self, value: u32, all: bool) {
        let (text, zeros) = digits(value);
        let skip = if all { 0 } else { zeros };
        self.put(&(text >> (8 * skip)).to_le_bytes());
        self.at += 8 - skip;
    }

    /// A number that is negative or longer.
    #[cold]
    fn long_int(&mut self, value: i64) {
        if value < 0 {
            self.byte(b'-');
        }
        let magnitude = value.unsigned_abs();
        let mut all = false;
        // Nineteen digits are at most three groups of eight.
        let unit = u64::from(EIGHT_DIGITS);
        for group in [magnitude / unit / unit, magnitude / unit % unit, magnitude % unit] {
            if group > 0 || all {
                self.eight_digits(group as u32, all);
                all = true;
            }
        }
    }

    /// The rest of a string from where it needs more than copying.
    #[inline(never)]
    fn escaped(&mut self, text: &[u8], mut from: usize, end: usize) -> bool {
        let mut utf8 = false;
        while from < end {
            let byte = text[from];
            if byte < 0x80 {
                let (escape, len) = json::escaped(byte);
                self.put(&escape);
                self.at += len;
                from += 1;
            } else if simdutf8::basic::from_utf8(&text[from..end]).is_ok() {
                utf8 = true;
            } else {
                let mut repaired = Vec::new();
                json::push_string(&mut repaired, &text[from..end]);
                self.all(&repaired[1..repaired.len() - 1]);
                return false;
            }
            from += self.clean(text, from, end, utf8);
        }
        true
    }

    /// Copies as much of `text[from..end]` as needs no escape, and says how much that is. Bytes above ASCII stop it until
    /// the rest is known to be UTF-8.
    #[inline]
    fn clean(&mut self, text: &[u8], mut from: usize, end: usize, utf8: bool) -> usize {
        let start = from;
        loop {
            let left = end - from;
            let short;
            let block = match text[from..].first_chunk::<BLOCK>() {
                Some(block) => block,
                None => {
                    short = padded(&text[from..]);
                    &short
                }
            };
            self.put(block);
            // A bit beyond the block, so that there is a first one.
            let stops = u64::from(specials(block, utf8)) | 1 << BLOCK;
            let clean = (stops.trailing_zeros() as usize).min(left);
            self.at += clean;
            from += clean;
            if clean < BLOCK || left == BLOCK {
                return from - start;
            }
        }
    }
}

impl Writer for Fast {
    #[inline]
    fn len(&self) -> usize {
        self.at
    }

    #[inline]
    fn short(&mut self, block: &[u8; BLOCK], len: usize) {
        debug_assert!(len <= BLOCK);
        self.put(block);
        self.at += len;
    }

    #[inline]
    fn medium(&mut self, blocks: &[u8; 2 * BLOCK], len: usize) {
        debug_assert!(len <= 2 * BLOCK);
        self.put(blocks);
        self.at += len;
    }

    #[inline]
    fn all(&mut self, text: &[u8]) {
        if text.len() > BLOCK { self.long(text) } else { self.exact(text) }
    }

    #[inline]
    fn int(&mut self, value: i64) {
        match u32::try_from(value) {
            Ok(value) if value < EIGHT_DIGITS => self.eight_digits(value, false),
            _ => self.long_int(value),
        }
    }

    #[inline]
    fn plain(&mut self, text: &[u8], start: usize, end: usize) {
        let len = end - start;
        if len <= BLOCK
            && let Some(block) = text.get(start..start + BLOCK).and_then(<[u8]>::first_chunk::<BLOCK>)
        {
            let at = self.at % ROOM;
            self.buf[at] = b'"';
            self.buf[at + 1..at + 1 + BLOCK].copy_from_slice(block);
            self.buf[at + 1 + len] = b'"';
            self.at += len + 2;
        } else {
            self.byte(b'"');
            self.all(&text[start..end]);
            self.byte(b'"');
        }
    }

    #[inline]
    fn string(&mut self, text: &[u8], start: usize, end: usize) -> bool {
        self.byte(b'"');
        let from = start + self.clean(text, start, end, false);
        let valid = from == end || self.escaped(text, from, end);
        self.byte(b'"');
        valid
    }
}

/// `text`, shorter than a block, with zeros after it.
#[inline]
fn padded(text: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..text.len()].copy_from_slice(text);
    block
}

/// [`json::specials`] of a block.
#[inline]
fn specials(block: &[u8; BLOCK], utf8: bool) -> u32 {
    let of = if utf8 { json::specials_in_utf8 } else { json::specials };
    let (low, high) = block.split_at(LANES);
    match (low.first_chunk(), high.first_chunk()) {
        (Some(low), Some(high)) => of(low) | of(high) << LANES,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(before: usize, text: &[u8], after: usize) {
        let line = [vec![b'"'; before], text.to_vec(), vec![0xff; after]].concat();
        let mut fast = Fast::default();
        let mut slow = Vec::new();
        assert_eq!(fast.string(&line, before, before + text.len()), slow.string(&line, before, before + text.len()));
        fast.all(text);
        slow.all(text);
        fast.plain(&line, before, before + text.len());
        slow.plain(&line, before, before + text.len());
        assert_eq!(Writer::len(&fast), Writer::len(&slow));
        assert!(fast.bytes() == Some(&*slow).filter(|slow| slow.len() < ROOM), "{before} {after} {}", text.len());
    }

    proptest! {
        #[test]
        fn a_string_is_escaped_as_the_slow_way_does(
            text in prop_oneof![
                any::<Vec<u8>>(),
                any::<String>().prop_map(String::into_bytes),
                "[ -~]{0,200}".prop_map(String::into_bytes),
                "[ -~é漢\u{1}\n]{0,200}".prop_map(String::into_bytes),
            ],
            before in 0_usize..40,
            after in 0_usize..40,
        ) {
            check(before, &text, after);
        }

        #[test]
        fn numbers_are_written_as_display_does(value in any::<i64>(), shift in 0_u32..64, nines in 0_u32..19) {
            let near = 10_i64.pow(nines);
            for value in [value >> shift, near, near - 1, -near] {
                let mut writer = Fast::default();
                writer.int(value);
                prop_assert_eq!(writer.bytes().map(<[u8]>::to_vec), Some(value.to_string().into_bytes()));
            }
        }
    }

    #[test]
    fn the_ends_of_the_number_range_are_written() {
        for value in [0, 1, 9, 10, -1, i64::MIN, i64::MAX] {
            let mut writer = Fast::default();
            writer.int(value);
            assert_eq!(writer.bytes(), Some(value.to_string().as_bytes()));
        }
    }

    #[test]
    fn what_does_not_fit_is_seen_and_does_no_harm() {
        for text in [&[1; 100_000][..], &[b'"'; 100_000], &[0xff; 100_000], "é".repeat(50_000).as_bytes()] {
            check(3, text, 0);
            check(0, text, 50);
        }
        for len in ROOM - 3 * BLOCK..ROOM + BLOCK {
            check(0, &vec![b'x'; len / 3], 1);
            let mut writer = Fast::default();
            while Writer::len(&writer) < len {
                writer.short(&[b'x'; BLOCK], 1);
            }
            writer.medium(&[b'y'; 2 * BLOCK], 0);
            assert!(writer.bytes() == Some(&*vec![b'x'; len]).filter(|_| len < ROOM), "{len}");
        }
    }
}
