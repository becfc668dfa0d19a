//! The buffer one item is written into, and the ways to write fast without `unsafe`.
//!
//! Everything is copied in blocks of 32 bytes, whatever its length, and the next write goes over what was too much: a
//! copy of a fixed size is two instructions where one of a varying size is a call. So the buffer always has room for a
//! block more than is needed, and is filled once and kept, not cleared.

use wide::u8x16;

use crate::json;

/// Bytes copied at once.
pub(super) const BLOCK: usize = 32;

/// The digits of every number below a hundred.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// A buffer that is larger than this after an item is given back.
const MAX_KEPT: usize = 256 << 10;

/// The buffer; one a thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// Filled up to `at`; what follows is left from before.
    buf: Vec<u8>,
    at: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { buf: vec![0; 4096], at: 0 }
    }
}

impl Writer {
    /// Starts a new item.
    pub(super) fn clear(&mut self) {
        self.at = 0;
        if self.buf.len() > MAX_KEPT {
            self.buf = vec![0; 4096];
        }
    }

    /// What was written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[..self.at]
    }

    /// Makes sure that `len` bytes and one block fit.
    #[inline]
    fn reserve(&mut self, len: usize) {
        if self.buf.len() - self.at < len + BLOCK {
            self.grow(len);
        }
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        let needed = self.at + len + BLOCK;
        self.buf.resize(needed.max(self.buf.len() * 2), 0);
    }

    /// Copies one block to `at`, of which the caller counts as much as it needs. There must be room.
    #[inline]
    fn block(&mut self, block: &[u8; BLOCK]) {
        self.buf[self.at..self.at + BLOCK].copy_from_slice(block);
    }

    /// The first `len` bytes of `block`.
    #[inline]
    pub(super) fn short(&mut self, block: &[u8; BLOCK], len: usize) {
        debug_assert!(len <= BLOCK);
        self.reserve(BLOCK);
        self.block(block);
        self.at += len;
    }

    /// `len` bytes of `text` from `start`; fast if they are at most two blocks, and `text` goes on for two after `start`.
    #[inline]
    pub(super) fn raw(&mut self, text: &[u8], start: usize, len: usize) {
        self.reserve(len + BLOCK);
        let tail = &text[start..];
        if let Some(block) = tail.first_chunk::<BLOCK>()
            && len <= BLOCK
        {
            self.block(block);
        } else if let Some(blocks) = tail.first_chunk::<{ 2 * BLOCK }>()
            && len <= 2 * BLOCK
        {
            self.buf[self.at..self.at + 2 * BLOCK].copy_from_slice(blocks);
        } else {
            self.buf[self.at..self.at + len].copy_from_slice(&tail[..len]);
        }
        self.at += len;
    }

    /// A double quote.
    #[inline]
    pub(super) fn quote(&mut self) {
        self.reserve(BLOCK);
        self.buf[self.at] = b'"';
        self.at += 1;
    }

    /// Any bytes, as they stand.
    #[inline]
    pub(super) fn all(&mut self, text: &[u8]) {
        self.raw(text, 0, text.len());
    }

    /// A whole number.
    #[inline]
    pub(super) fn int(&mut self, value: i64) {
        const DIGITS: usize = 20;
        let mut text = [0; DIGITS + BLOCK];
        let mut at = DIGITS;
        let mut rest = value.unsigned_abs();
        while rest >= 10 {
            at -= 2;
            text[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
            rest /= 100;
        }
        // What is left is the first digit, or nothing where their number is even.
        if rest > 0 || at == DIGITS {
            at -= 1;
            text[at] = b'0' + rest as u8;
        }
        if value < 0 {
            at -= 1;
            text[at] = b'-';
        }
        self.reserve(BLOCK);
        if let Some(block) = text[at..].first_chunk() {
            self.block(block);
        }
        self.at += DIGITS - at;
    }

    /// `text[start..end]` as a JSON string with its quotes; fast if `text` goes on for a block after it.
    /// Returns whether it was valid UTF-8; what was not is replaced by U+FFFD.
    #[inline]
    pub(super) fn string(&mut self, text: &[u8], start: usize, end: usize) -> bool {
        self.reserve(end - start + BLOCK);
        self.buf[self.at] = b'"';
        self.at += 1;
        let mut from = start;
        // Bytes above 0x7f stop the copy until the rest of the string is known to be valid.
        let mut ascii_only = true;
        let mut valid = true;
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
            self.block(block);
            let mut stops = specials(block, ascii_only);
            if left < BLOCK {
                stops &= (1 << left) - 1;
            }
            if stops == 0 {
                if left <= BLOCK {
                    self.at += left;
                    break;
                }
                self.at += BLOCK;
                from += BLOCK;
                continue;
            }
            let clean = stops.trailing_zeros() as usize;
            self.at += clean;
            from += clean;
            let byte = text[from];
            if byte < 0x80 {
                let (escape, len) = json::escaped(byte);
                self.reserve(end - from + 2 * BLOCK);
                self.buf[self.at..self.at + 6].copy_from_slice(&escape);
                self.at += len;
                from += 1;
            } else if simdutf8::basic::from_utf8(&text[from..end]).is_ok() {
                ascii_only = false;
            } else {
                self.replaced(&text[from..end]);
                valid = false;
                break;
            }
        }
        self.buf[self.at] = b'"';
        self.at += 1;
        valid
    }

    /// The rest of a string that is not valid UTF-8.
    #[cold]
    fn replaced(&mut self, text: &[u8]) {
        let mut repaired = Vec::new();
        json::push_string(&mut repaired, text);
        self.all(&repaired[1..repaired.len() - 1]);
        self.reserve(BLOCK);
    }
}

/// `text`, shorter than a block, with zeros after it.
#[inline]
fn padded(text: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..text.len()].copy_from_slice(text);
    block
}

/// One bit for each byte that cannot be copied into a JSON string as it stands: quotes, backslashes, control characters
/// and, with `ascii_only`, whatever is not ASCII.
#[inline]
fn specials(block: &[u8; BLOCK], ascii_only: bool) -> u32 {
    let (low, high) = block.split_at(BLOCK / 2);
    let half = |bytes: &[u8]| {
        let mut sixteen = [0; 16];
        sixteen.copy_from_slice(bytes);
        let bytes = u8x16::new(sixteen);
        let special =
            bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | bytes.simd_lt(u8x16::splat(0x20));
        // The mask is made of the highest bit of each byte, which is the one that says "not ASCII".
        if ascii_only { special | bytes } else { special }.to_bitmask()
    };
    half(low) | half(high) << 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(before: usize, text: &[u8], after: usize) {
        let line = [vec![b'"'; before], text.to_vec(), vec![0xff; after]].concat();
        let mut writer = Writer::default();
        let valid = writer.string(&line, before, before + text.len());
        let mut expected = Vec::new();
        let expected_valid = json::push_string(&mut expected, text);
        assert_eq!(valid, expected_valid);
        assert_eq!(writer.bytes(), expected);
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
        fn numbers_are_written_as_display_does(value in any::<i64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut writer = Writer::default();
            writer.int(value);
            prop_assert_eq!(writer.bytes(), value.to_string().into_bytes());
        }
    }

    #[test]
    fn the_ends_of_the_number_range_are_written() {
        for value in [0, 1, 9, 10, -1, i64::MIN, i64::MAX] {
            let mut writer = Writer::default();
            writer.int(value);
            assert_eq!(writer.bytes(), value.to_string().as_bytes());
        }
    }

    #[test]
    fn a_long_string_of_escapes_grows_the_buffer() {
        check(3, &vec![1; 100_000], 0);
        check(0, &vec![b'"'; 100_000], 50);
        check(0, &vec![0xff; 100_000], 50);
        check(0, "é".repeat(50_000).as_bytes(), 1);
    }

    #[test]
    fn a_buffer_that_grew_large_is_given_back() {
        let mut writer = Writer::default();
        writer.all(&vec![b'x'; 1 << 20]);
        writer.clear();
        assert_eq!(writer.buf.len(), 4096);
    }
}
