//! Text as JSON strings, the slow and obvious way: for what is made once and kept. The encoder has a fast one of its own,
//! and a test that both agree.

/// Appends `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
/// Returns whether all of it was UTF-8.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) -> bool {
    out.push(b'"');
    let mut valid = true;
    for chunk in text.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            push_escaped(out, byte);
        }
        if !chunk.invalid().is_empty() {
            valid = false;
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    out.push(b'"');
    valid
}

/// Appends one byte of valid UTF-8 as it stands inside a JSON string.
pub fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    let (text, len) = escaped(byte);
    out.extend_from_slice(&text[..len]);
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

    #[test]
    fn every_control_character_is_escaped() {
        let all: String = (0_u8..=0x7f).map(char::from).collect();
        let mut out = Vec::new();
        push_string(&mut out, all.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&all).unwrap());
    }
}
