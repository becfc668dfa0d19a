//! The first line of an HTTP request, as servers log it: method, target and protocol in one field.
//!
//! Servers log what clients sent, so anything may stand here. A target may hold spaces; the protocol may be missing
//! (HTTP/0.9 and careless clients); or it is no request at all (the first bytes of a TLS handshake). In the last case
//! the text is kept in `error.message` and the line still counts as parsed: it says truly what happened.

use std::io::Write as _;

use crate::record::{Document, Field, Value};

/// Methods are short: what is longer is something else.
const MAX_METHOD: usize = 24;

/// Fills `doc` from the request line `line[start..end]`; `plain` as in [`Document::put_range`].
#[inline(always)]
pub fn split(line: &[u8], start: usize, end: usize, plain: bool, doc: &mut Document) {
    let (target_end, version) = protocol(line, start, end);
    if let Some(version) = version {
        doc.put_range(Field::HttpVersion, version, end, plain);
    }
    let mut at = start;
    match method_end(&line[start..target_end]) {
        Some(length) => {
            doc.put_range(Field::HttpRequestMethod, start, start + length, plain);
            at += length;
            while at < target_end && line[at] == b' ' {
                at += 1;
            }
        }
        // A target alone is still one; the rest is none.
        None if line[start] == b'/' => {}
        None => return refuse(&line[start..end], doc),
    }
    if at < target_end {
        doc.put_range(Field::UrlOriginal, at, target_end, plain);
    }
}

/// The bits of the digit in ` HTTP/1.` read as a number.
const MAJOR: u64 = 0xff << 48;

/// Where the target ends, and where the version starts, if the line ends in ` HTTP/<version>`.
#[inline]
fn protocol(line: &[u8], start: usize, end: usize) -> (usize, Option<usize>) {
    let text = &line[start..end];
    // Nearly always ` HTTP/1.1` or the like; what follows is for the others, such as ` HTTP/3`.
    if let Some((target, tail)) = text.split_last_chunk::<9>()
        && let [head @ .., minor] = tail
        && u64::from_le_bytes(*head) & !MAJOR == u64::from_le_bytes(*b" HTTP/\0.")
        && tail[6].is_ascii_digit()
        && minor.is_ascii_digit()
        && target.last().is_some_and(|byte| *byte != b' ')
    {
        return (end - 9, Some(end - 3));
    }
    other_protocol(line, start, end)
}

/// As [`protocol`], of any line.
#[inline(never)]
fn other_protocol(line: &[u8], start: usize, end: usize) -> (usize, Option<usize>) {
    let text = &line[start..end];
    let Some(space) = memchr::memrchr(b' ', text) else { return (end, None) };
    let Some(version) = text[space + 1..].strip_prefix(b"HTTP/") else { return (end, None) };
    if version.is_empty() || !version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return (end, None);
    }
    let mut target_end = start + space;
    while target_end > start && line[target_end - 1] == b' ' {
        target_end -= 1;
    }
    (target_end, Some(end - version.len()))
}

/// Length of the method that `text` begins with: capitals, followed by a space.
#[inline]
fn method_end(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"GET ") { Some(3) } else { other_method_end(text) }
}

/// As [`method_end`], of any text.
#[inline(never)]
fn other_method_end(text: &[u8]) -> Option<usize> {
    let length = text.iter().take(MAX_METHOD + 1).take_while(|byte| matches!(byte, b'A'..=b'Z' | b'-' | b'_')).count();
    let ends = text.get(length) == Some(&b' ');
    (length > 0 && length <= MAX_METHOD && ends).then_some(length)
}

#[cold]
#[expect(clippy::cast_possible_truncation, reason = "scratch holds no more than a few copies of a line")]
fn refuse(text: &[u8], doc: &mut Document) {
    let start = doc.scratch.len() as u32;
    let _ = write!(doc.scratch, "not an HTTP request: ");
    doc.scratch.extend_from_slice(text);
    doc.put(Field::ErrorMessage, Value::Scratch { start, end: doc.scratch.len() as u32 });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &[u8], expected: [&str; 4]) {
        let line = [b"[", request, b"]"].concat();
        let mut doc = Document::default();
        split(&line, 1, line.len() - 1, false, &mut doc);
        let fields = [Field::HttpRequestMethod, Field::UrlOriginal, Field::HttpVersion, Field::ErrorMessage];
        let found =
            fields.map(|field| String::from_utf8_lossy(doc.bytes(field, &line).unwrap_or_default()).into_owned());
        assert_eq!(found, expected, "{}", request.escape_ascii());
    }

    #[test]
    fn a_request_line_is_split_into_method_target_and_version() {
        check(b"GET /a?b=c HTTP/1.1", ["GET", "/a?b=c", "1.1", ""]);
        check(b"GET /a HTTP/2", ["GET", "/a", "2", ""]);
        check(b"GET /a HTTP/2.0", ["GET", "/a", "2.0", ""]);
        check(b"VERSION-CONTROL * HTTP/1.1", ["VERSION-CONTROL", "*", "1.1", ""]);
        check(b"CONNECT example.org:443 HTTP/1.1", ["CONNECT", "example.org:443", "1.1", ""]);
    }

    #[test]
    fn a_dirty_request_line_keeps_what_there_is() {
        check(b"GET /no-protocol", ["GET", "/no-protocol", "", ""]);
        check(b"GET /two words and HTTP/1.1 HTTP/1.0", ["GET", "/two words and HTTP/1.1", "1.0", ""]);
        check(b"GET /histor", ["GET", "/histor", "", ""]);
        check(b"GET  /wide  HTTP/1.0", ["GET", "/wide", "1.0", ""]);
        check(b"GET /html HTTP/V1.0", ["GET", "/html HTTP/V1.0", "", ""]);
        check(b"GET  HTTP/1.0", ["", "", "1.0", "not an HTTP request: GET  HTTP/1.0"]);
        check(b"/only/a/path", ["", "/only/a/path", "", ""]);
        check(b"/a/path HTTP/1.0", ["", "/a/path", "1.0", ""]);
    }

    #[test]
    fn what_is_no_request_is_kept_as_the_error() {
        check(br"\x16\x03\x01", ["", "", "", r"not an HTTP request: \x16\x03\x01"]);
        check(b"hello world", ["", "", "", "not an HTTP request: hello world"]);
        check(b"GET", ["", "", "", "not an HTTP request: GET"]);
        check(b" HTTP/1.0", ["", "", "1.0", "not an HTTP request:  HTTP/1.0"]);
    }
}
