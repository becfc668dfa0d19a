//! `source.ip` and `source.port` from `source.address`, where that is an address and not a name.

use std::net::Ipv6Addr;

use wide::i8x16;

use super::put_part;
use crate::json::LANES;
use crate::record::{Document, Field, Value};

#[inline]
pub(super) fn apply(line: &[u8], doc: &mut Document) {
    let Some(value) = doc.get(Field::SourceAddress) else { return };
    if let Value::Line { start, end } | Value::Plain { start, end } = value
        && let Some(block) = line.get(start as usize..).and_then(<[u8]>::first_chunk)
        && is_ipv4(block, end - start)
    {
        if !doc.has(Field::SourceIp) {
            doc.put(Field::SourceIp, value);
        }
        return;
    }
    apply_other(line, value, doc);
}

/// As [`apply`], where `source.address` is not an IPv4 address and nothing else.
#[inline(never)]
fn apply_other(line: &[u8], value: Value, doc: &mut Document) {
    let Some(text) = doc.bytes(Field::SourceAddress, line) else { return };
    let Some(found) = find(text) else { return };
    let port = found.port.and_then(|start| port(&text[start..]));
    put_part(doc, Field::SourceIp, value, found.start, found.end);
    if let Some(port) = port
        && !doc.has(Field::SourcePort)
    {
        doc.put(Field::SourcePort, Value::Int(port.into()));
    }
}

/// Where the parts of an address are in its text.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    start: usize,
    end: usize,
    /// Where the digits of the port start.
    port: Option<usize>,
}

/// Finds an address: `v4`, `v4:port`, `v6`, `v6%zone`, `[v6]`, `[v6]:port`, `[v6%zone]:port`.
fn find(text: &[u8]) -> Option<Found> {
    if let Some(end) = ipv4_len(text) {
        let port = match text.get(end) {
            None => None,
            Some(b':') => {
                port(&text[end + 1..])?;
                Some(end + 1)
            }
            Some(_) => return None,
        };
        return Some(Found { start: 0, end, port });
    }
    let (start, inner, port) = match text.strip_prefix(b"[") {
        None => (0, text, None),
        Some(rest) => {
            let close = memchr::memchr(b']', rest)?;
            let port = match &rest[close + 1..] {
                [] => None,
                [b':', digits @ ..] => {
                    port(digits)?;
                    Some(close + 3)
                }
                _ => return None,
            };
            (1, &rest[..close], port)
        }
    };
    let address = &inner[..memchr::memchr(b'%', inner).unwrap_or(inner.len())];
    // The longest there is: eight groups of four, or six and an IPv4 address.
    if address.len() > 45 || memchr::memchr(b':', address).is_none() {
        return None;
    }
    std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(Found { start, end: start + address.len(), port })
}

/// Whether the first `len` bytes of `block` are an IPv4 address: what [`ipv4_len`] says, but of all bytes at once.
#[inline]
fn is_ipv4(block: &[u8; LANES], len: u32) -> bool {
    // No address is longer than 15 bytes.
    let Some(all) = 1_u32.checked_shl(len).filter(|_| (len as usize) < LANES).map(|end| end - 1) else { return false };
    let bytes = i8x16::new(block.map(u8::cast_signed));
    let splat = |byte: u8| i8x16::splat(byte.cast_signed());
    let equal = |byte| bytes.simd_eq(splat(byte)).to_bitmask();
    let above = |byte| bytes.simd_gt(splat(byte)).to_bitmask();
    // One bit a byte, the first byte's lowest.
    let digits = (bytes.simd_gt(splat(b'/')) & bytes.simd_lt(splat(b':'))).to_bitmask() & all;
    let points = equal(b'.') & all;
    let starts = points << 1 | 1;
    let pairs = digits & digits >> 1;
    let triples = pairs & digits >> 2;
    let above_255 = above(b'2') | equal(b'2') & (above(b'5') >> 1 | equal(b'5') >> 1 & above(b'5') >> 2);
    let without_first = |bits: u32| bits & bits.wrapping_sub(1);
    let third = without_first(without_first(points));
    digits | points == all
        && starts & !digits == 0
        && third != 0
        && without_first(third) == 0
        && (triples & digits >> 3) | starts & (equal(b'0') & pairs | above_255 & triples) == 0
}

/// How long the IPv4 address is that `text` starts with: four numbers up to 255 in decimal, without leading zeros, which
/// some readers take for octal and Elasticsearch refuses.
fn ipv4_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for group in 0..4 {
        if group > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let first = digit(text, at)?;
        at += 1;
        let mut number = first;
        while let Some(next) = digit(text, at) {
            number = number * 10 + next;
            at += 1;
            if first == 0 || number > 255 {
                return None;
            }
        }
    }
    Some(at)
}

#[inline]
fn digit(text: &[u8], at: usize) -> Option<u32> {
    let value = text.get(at)?.wrapping_sub(b'0');
    (value < 10).then_some(value.into())
}

fn port(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_told_from_names() {
        for (text, ip, port) in [
            ("10.0.0.1", Some("10.0.0.1"), None),
            ("10.0.0.1:8080", Some("10.0.0.1"), Some(8080)),
            ("0.0.0.0", Some("0.0.0.0"), None),
            ("01.2.3.4", None, None),
            ("1.2.3.256", None, None),
            ("1.2.3", None, None),
            ("1.2.3.4.5", None, None),
            ("1.2.3.4:", None, None),
            ("1.2.3.4:65536", None, None),
            ("1.2.3.4:+1", None, None),
            ("1.2.3.4.example.com", None, None),
            ("::1", Some("::1"), None),
            ("2001:db8::1", Some("2001:db8::1"), None),
            ("fe80::1%eth0", Some("fe80::1"), None),
            ("[2001:db8::1]", Some("2001:db8::1"), None),
            ("[2001:db8::1]:443", Some("2001:db8::1"), Some(443)),
            ("[fe80::1%2]:443", Some("fe80::1"), Some(443)),
            ("::ffff:1.2.3.4", Some("::ffff:1.2.3.4"), None),
            ("[::1]x", None, None),
            ("[::1", None, None),
            ("[1.2.3.4]", None, None),
            ("2001:db8::g", None, None),
            ("host.example.com", None, None),
            ("unix:", None, None),
            ("-", None, None),
            ("", None, None),
        ] {
            let line = format!("<{text}>");
            for in_scratch in [false, true] {
                let mut doc = Document::default();
                if in_scratch {
                    doc.put_text(Field::SourceAddress, text.as_bytes());
                } else {
                    doc.put_line(Field::SourceAddress, 1, 1 + text.len());
                }
                apply(line.as_bytes(), &mut doc);
                let found = doc.bytes(Field::SourceIp, line.as_bytes());
                assert_eq!(found, ip.map(str::as_bytes), "{text}");
                assert_eq!(doc.get(Field::SourcePort), port.map(Value::Int), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_for_an_ipv4_address_is_what_std_takes(
            text in "[0-9.]{0,17}|([0-9]{1,3}|25[0-9]|2[0-9]{2})(\\.([0-9]{1,3}|25[0-9]|2[0-9]{2})){3}|[0-9.:a-é/]{0,17}",
            after in "[0-9. ]{16}",
        ) {
            let expected = text.parse::<Ipv4Addr>().is_ok();
            prop_assert_eq!(ipv4_len(text.as_bytes()) == Some(text.len()), expected);
            let line = format!("{text}{after}");
            prop_assert_eq!(is_ipv4(line.as_bytes().first_chunk().unwrap(), text.len() as u32), expected, "{}", line);
        }

        #[test]
        fn every_number_is_taken_in_every_place_or_not(number in 0_u32..1000, place in 0_usize..4, width in 1_usize..4) {
            let mut groups = ["1", "23", "0", "99"].map(str::to_owned);
            groups[place] = format!("{number:0width$}");
            let text = groups.join(".");
            let line = format!("{text} - - [17/May/2015");
            let expected = text.parse::<Ipv4Addr>().is_ok();
            prop_assert_eq!(is_ipv4(line.as_bytes().first_chunk().unwrap(), text.len() as u32), expected, "{}", line);
        }
    }
}
