//! Text as JSON strings, the slow and obvious way: for what is made once and kept, and for what is very long. The encoder
//! has a fast one of its own, and a test that both agree. Both, and the parser, ask here which bytes need care.

use wide::i8x16;

/// Bytes that are looked at together.
pub const LANES: usize = 16;

/// One bit, the first byte's lowest, for each byte that cannot be copied into a JSON string without a further look:
/// quotes, backslashes, control characters and whatever is not ASCII.
#[inline]
#[must_use]
pub fn specials(bytes: &[u8; LANES]) -> u32 {
    stops(bytes, b' ')
}

/// As [`specials`], but not what is not ASCII.
#[inline]
#[must_use]
pub fn specials_in_utf8(bytes: &[u8; LANES]) -> u32 {
    specials(bytes) & !i8x16::new(bytes.map(u8::cast_signed)).to_bitmask()
}

/// As [`specials`], and spaces.
#[inline]
#[must_use]
pub fn specials_and_spaces(bytes: &[u8; LANES]) -> u32 {
    stops(bytes, b' ' + 1)
}

/// Whether [`specials`] are nowhere in `text`.
#[cfg(test)]
pub fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| escaped(*byte).1 == 1 && byte.is_ascii())
}

/// Quotes, backslashes, and what is below `least` or above ASCII: one comparison, because signed bytes above ASCII are
/// negative.
#[inline]
fn stops(bytes: &[u8; LANES], least: u8) -> u32 {
    let all = |byte: u8| i8x16::splat(byte.cast_signed());
    let bytes = i8x16::new(bytes.map(u8::cast_signed));
    (bytes.simd_lt(all(least)) | bytes.simd_eq(all(b'"')) | bytes.simd_eq(all(b'\\'))).to_bitmask()
}

/// Appends `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
/// Returns whether all of it was UTF-8.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) -> bool {
    out.push(b'"');
    let mut valid = true;
    for chunk in text.utf8_chunks() {
        push_escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            valid = false;
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    out.push(b'"');
    valid
}

/// Appends valid UTF-8 as it stands inside a JSON string.
fn push_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(clean) = text.iter().position(|byte| matches!(byte, ..b' ' | b'"' | b'\\')) {
        out.extend_from_slice(&text[..clean]);
        let (escape, len) = escaped(text[clean]);
        out.extend_from_slice(&escape[..len]);
        text = &text[clean + 1..];
    }
    out.extend_from_slice(text);
}

/// What stands for one byte of valid UTF-8 inside a JSON string, and how long it is.
#[must_use]
pub const fn escaped(byte: u8) -> ([u8; 6], usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => {
            return ([b'\\', b'u', b'0', b'0', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]], 6);
        }
        _ => return ([byte, 0, 0, 0, 0, 0], 1),
    };
    ([b'\\', short, 0, 0, 0, 0], 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_escaped_as_serde_json_does(text in any::<String>()) {
            let mut out = Vec::new();
            prop_assert!(push_string(&mut out, text.as_bytes()));
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn bytes_that_are_not_utf8_are_replaced_and_reported(bytes in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            let valid = push_string(&mut out, &bytes);
            prop_assert_eq!(valid, std::str::from_utf8(&bytes).is_ok());
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }
    }

    proptest! {
        #[test]
        fn what_needs_care_is_found_in_every_place(bytes in any::<[u8; LANES]>(), near in prop::array::uniform16(0x1e_u8..0x24)) {
            for bytes in [bytes, near] {
                for (at, &byte) in bytes.iter().enumerate() {
                    let special = escaped(byte).1 > 1 || !byte.is_ascii();
                    prop_assert_eq!(specials(&bytes) >> at & 1 != 0, special);
                    prop_assert_eq!(specials_in_utf8(&bytes) >> at & 1 != 0, special && byte.is_ascii());
                    prop_assert_eq!(specials_and_spaces(&bytes) >> at & 1 != 0, special || byte == b' ');
                }
            }
        }
    }

    #[test]
    fn every_control_character_is_escaped() {
        let all: String = (0_u8..=0x7f).map(char::from).collect();
        let mut out = Vec::new();
        push_string(&mut out, all.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&all).unwrap());
    }
}
