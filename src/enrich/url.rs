//! The parts of `url.original`, the target of a request: as ranges of it, with percent-encoding as it stands.

use wide::i8x16;

use super::put_part;
use crate::json::LANES;
use crate::record::{Document, Field, Value};

/// What is derived here.
pub(super) const FIELDS: [Field; 6] =
    [Field::UrlPath, Field::UrlQuery, Field::UrlExtension, Field::UrlDomain, Field::UrlScheme, Field::UrlPort];

/// Longer ones are no file extensions.
const MAX_EXTENSION: usize = 10;

#[inline]
pub(super) fn apply(line: &[u8], doc: &mut Document) {
    let Some(value) = doc.get(Field::UrlOriginal) else { return };
    match value {
        Value::Plain { start, end } | Value::Line { start, end } if line.get(start as usize) == Some(&b'/') => {
            apply_path(line, start as usize, end as usize, matches!(value, Value::Plain { .. }), doc);
        }
        _ => apply_other(line, value, doc),
    }
}

/// As [`apply`], where `url.original` is a part of the line, and a path; `plain` as in [`Document::put_range`].
#[inline]
fn apply_path(line: &[u8], start: usize, end: usize, plain: bool, doc: &mut Document) {
    let mut put = |field, start, end| {
        if !doc.has(field) {
            doc.put_range(field, start, end, plain);
        }
    };
    let path_end = first_of([b'?', b'#'], line, start, end);
    put(Field::UrlPath, start, path_end);
    let extension = match line[..path_end].last_chunk() {
        Some(block) => short_extension(block).map(|length| path_end - length),
        None => extension(&line[start..path_end]).map(|at| start + at),
    };
    if let Some(at) = extension {
        put(Field::UrlExtension, at, path_end);
    }
    if path_end < end && line[path_end] == b'?' {
        let query = path_end + 1;
        let query_end = first_of([b'#'; 2], line, query, end);
        if query_end > query {
            put(Field::UrlQuery, query, query_end);
        }
    }
}

/// The first place in `line[start..end]` where one of two bytes stands; `end`, if there is none.
#[inline]
fn first_of(bytes: [u8; 2], line: &[u8], start: usize, end: usize) -> usize {
    let [first, second] = bytes.map(|byte| i8x16::splat(byte.cast_signed()));
    let mut at = start;
    while at < end {
        let Some(block) = line[at..].first_chunk::<LANES>() else {
            let found = line[at..end].iter().position(|byte| bytes.contains(byte));
            return found.map_or(end, |found| at + found);
        };
        let block = i8x16::new(block.map(u8::cast_signed));
        let found = (block.simd_eq(first) | block.simd_eq(second)).to_bitmask();
        if found != 0 {
            return (at + found.trailing_zeros() as usize).min(end);
        }
        at += LANES;
    }
    end
}

/// How long the extension is that `block`, the last bytes of a path and perhaps what stands before it, ends with.
#[inline]
fn short_extension(block: &[u8; LANES]) -> Option<usize> {
    let splat = |byte: u8| i8x16::splat(byte.cast_signed());
    let bytes = i8x16::new(block.map(u8::cast_signed));
    let lower = bytes | splat(0x20);
    let digits = bytes.simd_gt(splat(b'/')) & bytes.simd_lt(splat(b':'));
    let letters = lower.simd_gt(splat(b'`')) & lower.simd_lt(splat(b'{'));
    let others = !(digits | letters).to_bitmask() & 0xffff;
    let last = others.checked_ilog2()? as usize;
    let length = LANES - 1 - last;
    // A path starts with a slash, so that its first byte is no dot.
    ((1..=MAX_EXTENSION).contains(&length) && block[last] == b'.' && block[last - 1] != b'/').then_some(length)
}

/// As [`apply`], of any value.
#[inline(never)]
fn apply_other(line: &[u8], value: Value, doc: &mut Document) {
    let Some(text) = doc.bytes(Field::UrlOriginal, line) else { return };
    let parts = match text {
        [b'/', ..] => split(text, 0),
        _ if doc.bytes(Field::HttpRequestMethod, line) == Some(b"CONNECT") => {
            let mut parts = Parts::default();
            split_authority(text, 0, text.len(), &mut parts);
            parts
        }
        _ => match split_absolute(text) {
            Some(parts) => parts,
            None => return,
        },
    };
    for (field, range) in [
        (Field::UrlScheme, parts.scheme),
        (Field::UrlDomain, parts.domain),
        (Field::UrlPath, parts.path),
        (Field::UrlExtension, parts.extension),
        (Field::UrlQuery, parts.query),
    ] {
        if let Some((start, end)) = range {
            put_part(doc, field, value, start, end);
        }
    }
    if let Some(port) = parts.port
        && !doc.has(Field::UrlPort)
    {
        doc.put(Field::UrlPort, Value::Int(port.into()));
    }
}

type Range = Option<(usize, usize)>;

#[derive(Debug, Default)]
struct Parts {
    scheme: Range,
    domain: Range,
    port: Option<u16>,
    path: Range,
    extension: Range,
    query: Range,
}

/// Splits what follows the authority: path, query and fragment.
fn split(text: &[u8], start: usize) -> Parts {
    let mut parts = Parts::default();
    let path_end = memchr::memchr2(b'?', b'#', &text[start..]).map_or(text.len(), |at| start + at);
    if path_end > start {
        parts.path = Some((start, path_end));
        parts.extension = extension(&text[start..path_end]).map(|at| (start + at, path_end));
    }
    if text.get(path_end) == Some(&b'?') {
        let query = path_end + 1;
        let end = memchr::memchr(b'#', &text[query..]).map_or(text.len(), |at| query + at);
        if end > query {
            parts.query = Some((query, end));
        }
    }
    parts
}

/// Where the extension of the last segment of a path starts.
fn extension(path: &[u8]) -> Option<usize> {
    // Longer ones are none, so that no more than these bytes are looked at.
    let length = path.iter().rev().take(MAX_EXTENSION + 1).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let at = path.len() - length;
    // A segment that starts with its only dot is a hidden file.
    let named = |dot: usize| path[dot] == b'.' && dot > 0 && path[dot - 1] != b'/';
    ((1..=MAX_EXTENSION).contains(&length) && at.checked_sub(1).is_some_and(named)).then_some(at)
}

/// Splits `scheme://authority/path?query#fragment`.
fn split_absolute(text: &[u8]) -> Option<Parts> {
    let colon = memchr::memchr(b':', text)?;
    let scheme = &text[..colon];
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    if !is_scheme || !text[colon + 1..].starts_with(b"//") {
        return None;
    }
    let start = colon + 3;
    let end = text[start..].iter().position(|byte| b"/?#".contains(byte)).map_or(text.len(), |at| start + at);
    let mut parts = split(text, end);
    parts.scheme = Some((0, colon));
    let host = memchr::memrchr(b'@', &text[start..end]).map_or(start, |at| start + at + 1);
    split_authority(text, host, end, &mut parts);
    Some(parts)
}

/// Splits `host:port`; the host of an IPv6 address keeps its brackets, as ECS has it.
fn split_authority(text: &[u8], start: usize, end: usize, parts: &mut Parts) {
    let authority = &text[start..end];
    let host = match authority.first() {
        Some(b'[') => memchr::memchr(b']', authority).map_or(authority.len(), |at| at + 1),
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    if host > 0 {
        parts.domain = Some((start, start + host));
    }
    if let [b':', digits @ ..] = &authority[host..]
        && digits.iter().all(u8::is_ascii_digit)
    {
        parts.port = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(method: &'static str, url: &[u8]) -> Vec<String> {
        let line = [b"<<", url, b">>"].concat();
        let mut doc = Document::default();
        doc.put(Field::HttpRequestMethod, Value::Text(method));
        doc.put_line(Field::UrlOriginal, 2, 2 + url.len());
        apply(&line, &mut doc);
        FIELDS
            .iter()
            .map(|&field| match doc.get(field) {
                Some(Value::Int(port)) => port.to_string(),
                _ => String::from_utf8_lossy(doc.bytes(field, &line).unwrap_or_default()).into_owned(),
            })
            .collect()
    }

    #[test]
    fn a_target_is_split_into_its_parts() {
        // Path, query, extension, domain, scheme, port.
        for (url, expected) in [
            ("/", ["/", "", "", "", "", ""]),
            ("/a/b.html?x=1&y=%20", ["/a/b.html", "x=1&y=%20", "html", "", "", ""]),
            ("/a.b/c", ["/a.b/c", "", "", "", "", ""]),
            ("/a.tar.gz#top", ["/a.tar.gz", "", "gz", "", "", ""]),
            ("/a?b#c?d", ["/a", "b", "", "", "", ""]),
            ("/a#b?c", ["/a", "", "", "", "", ""]),
            ("/a?", ["/a", "", "", "", "", ""]),
            ("/a?b?c.d", ["/a", "b?c.d", "", "", "", ""]),
            ("/.htaccess", ["/.htaccess", "", "", "", "", ""]),
            ("/a.", ["/a.", "", "", "", "", ""]),
            ("/a.p%68p", ["/a.p%68p", "", "", "", "", ""]),
            ("/a.muchtoolong1", ["/a.muchtoolong1", "", "", "", "", ""]),
            ("//x.php", ["//x.php", "", "php", "", "", ""]),
            ("http://host:8080/a.js?b", ["/a.js", "b", "js", "host", "http", "8080"]),
            ("https://u:p@host.example", ["", "", "", "host.example", "https", ""]),
            ("http://host?q", ["", "q", "", "host", "http", ""]),
            ("http://[::1]:80/", ["/", "", "", "[::1]", "http", "80"]),
            ("http://host:99999/", ["/", "", "", "host", "http", ""]),
            ("*", ["", "", "", "", "", ""]),
            ("host:443", ["", "", "", "", "", ""]),
            ("1http://a/", ["", "", "", "", "", ""]),
            ("", ["", "", "", "", "", ""]),
        ] {
            assert_eq!(parts("GET", url.as_bytes()), expected, "{url}");
        }
        assert_eq!(parts("CONNECT", b"host:443"), ["", "", "", "host", "", "443"]);
        assert_eq!(parts("CONNECT", b"[::1]:443"), ["", "", "", "[::1]", "", "443"]);
    }

    #[test]
    fn what_the_line_itself_gave_is_not_replaced() {
        let line = b"/a?b";
        let mut doc = Document::default();
        doc.put_line(Field::UrlOriginal, 0, 4);
        doc.put(Field::UrlPath, Value::Text("/given"));
        apply(line, &mut doc);
        assert_eq!(doc.get(Field::UrlPath), Some(Value::Text("/given")));
        assert_eq!(doc.bytes(Field::UrlQuery, line), Some(&b"b"[..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn a_path_in_the_line_is_split_as_one_elsewhere_is(
            url in prop_oneof![any::<Vec<u8>>(), "[/.a]{0,20}[?#]?[/.a?#]{0,20}|(/[a-zA-Z0-9._@`{:%é-]{0,30}){0,3}[?#]?[a-z#=]{0,30}".prop_map(String::into_bytes)],
            (before, after) in ("[a?#./]{0,30}", "[a?#./]{0,20}"),
        ) {
            let url = [b"/", url.as_slice()].concat();
            let line = [before.as_bytes(), &url, after.as_bytes()].concat();
            let mut in_line = Document::default();
            in_line.put_line(Field::UrlOriginal, before.len(), before.len() + url.len());
            apply(&line, &mut in_line);
            let mut in_scratch = Document::default();
            in_scratch.put_text(Field::UrlOriginal, &url);
            apply(&line, &mut in_scratch);
            for field in FIELDS {
                prop_assert_eq!(in_line.bytes(field, &line), in_scratch.bytes(field, &line), "{:?}", field);
            }
        }

        #[test]
        fn path_and_query_lie_inside_the_target_in_order(url in prop_oneof![any::<Vec<u8>>(), "(http://)?[/?#.a:@\\[\\]]{0,30}".prop_map(String::into_bytes)]) {
            let all = parts("GET", &url);
            let text = String::from_utf8_lossy(&url);
            let joined = if all[1].is_empty() { all[0].clone() } else { format!("{}?{}", all[0], all[1]) };
            if std::str::from_utf8(&url).is_ok() {
                prop_assert!(text.contains(&joined), "{:?} in {:?}", joined, text);
            }
        }
    }
}
