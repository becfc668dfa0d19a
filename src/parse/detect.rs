//! What format a file has, from its first lines.
//!
//! Each known format is tried on the first lines; the one that most of them fit wins if at least four in five do, and
//! of equal ones the first in the list. Otherwise the file is text. The answer says why in a sentence.

use std::collections::BTreeMap;

use super::{Cache, Format, apache};
use crate::config;
use crate::record::{Document, Tags};

/// How many lines are looked at.
const MAX_LINES: usize = 20;

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The format; never `auto`.
    pub format: config::Format,
    /// Why, in one sentence.
    pub reason: String,
}

/// What is tried, with what it is called; the order decides between equals.
fn candidates() -> Vec<(String, config::Format)> {
    let nginx_combined = concat!(
        r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "#,
        r#""$http_referer" "$http_user_agent""#
    );
    let mut candidates = vec![("JSON objects".to_owned(), config::Format::Json)];
    let mut add = |name: &str, format| candidates.push((name.to_owned(), format));
    for (name, plain, base) in
        [("combined", config::Format::Combined, apache::COMBINED), ("common", config::Format::Common, apache::COMMON)]
    {
        // Before the plain format, which would take the words too many for a user with spaces in the name.
        add(&format!("the {name} log format after a host and port"), config::Format::Apache(format!("%v:%p {base}")));
        add(&format!("the {name} log format after a host"), config::Format::Apache(format!("%v {base}")));
        add(&format!("the {name} log format"), plain);
        add(
            &format!("the {name} log format with a number after it (taken for %D, microseconds)"),
            config::Format::Apache(format!("{base} %D")),
        );
    }
    for (name, tail) in [
        ("a forwarded address", r#" "$http_x_forwarded_for""#),
        ("a time in seconds", " $request_time"),
        ("a forwarded address and a time in seconds", r#" "$http_x_forwarded_for" $request_time"#),
        ("two times in seconds", " $request_time $upstream_response_time"),
        ("a forwarded address and two times", r#" "$http_x_forwarded_for" $request_time $upstream_response_time"#),
    ] {
        add(
            &format!("nginx's combined log format with {name} after it"),
            config::Format::Nginx(format!("{nginx_combined}{tail}")),
        );
    }
    candidates
}

/// Decides the format of a file that begins with `head`.
#[must_use]
pub fn detect(head: &[u8]) -> Detection {
    let text = |reason: String| Detection { format: config::Format::Text, reason };
    let lines = first_lines(head);
    if lines.is_empty() {
        return text("there is no line yet to tell the format by, so lines are taken as text".to_owned());
    }
    let total = lines.len();
    let mut best: Option<(usize, String, config::Format)> = None;
    for (name, candidate) in candidates() {
        let fitting = fitting(&candidate, &lines);
        if best.as_ref().is_none_or(|(most, ..)| fitting > *most) {
            best = Some((fitting, name, candidate));
        }
    }
    match best {
        Some((fitting, name, format)) if fitting * 5 >= total * 4 => {
            Detection { format, reason: format!("{fitting} of the first {total} lines are {}", phrase(&name)) }
        }
        Some((fitting, name, _)) if fitting > 0 => text(format!(
            "no format fits four in five of the first {total} lines ({fitting} are {}), so lines are taken as text",
            phrase(&name)
        )),
        _ => text(format!("the first {total} lines fit no known format, so lines are taken as text")),
    }
}

fn phrase(name: &str) -> String {
    if name.starts_with("JSON") { name.to_owned() } else { format!("in {name}") }
}

fn fitting(candidate: &config::Format, lines: &[&[u8]]) -> usize {
    let Ok(format) = Format::compile(candidate, &BTreeMap::new()) else { return 0 };
    let (mut doc, mut cache) = (Document::default(), Cache::default());
    let fits = |line: &&&[u8]| {
        doc.clear();
        format.parse(line, &mut doc, &mut cache);
        !doc.tags.has(Tags::PARSE_FAILURE)
    };
    lines.iter().filter(fits).count()
}

/// The first lines that are not blank; the last one only if it is whole or alone.
fn first_lines(head: &[u8]) -> Vec<&[u8]> {
    let whole = memchr::memrchr(b'\n', head).map_or(head, |end| &head[..end]);
    let lines = whole.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.trim_ascii().is_empty()).take(MAX_LINES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMBINED: &str =
        r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "http://a/" "Mozilla/5.0 (X)""#;
    const COMMON: &str = r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#;

    fn check(head: &str, name: &str, reason: &str) {
        let found = detect(head.as_bytes());
        assert_eq!(Format::compile(&found.format, &BTreeMap::new()).expect("format").name(), name, "{}", found.reason);
        assert!(found.reason.contains(reason), "{}", found.reason);
    }

    #[test]
    fn formats_are_told_by_their_lines() {
        check(
            &format!("{COMBINED}\n{COMBINED}\n"),
            "combined",
            "2 of the first 2 lines are in the combined log format",
        );
        check(&format!("{COMMON}\r\n\r\n{COMMON}\r\n"), "common", "2 of the first 2 lines");
        check(&format!("{COMMON}\n192.0.2.1 - - [17/M"), "common", "1 of the first 1 lines");
        check("{\"a\":1}\n{\"b\":2}\n", "json", "2 of the first 2 lines are JSON objects");
        check("hello\nworld\n", "text", "fit no known format");
        check("", "text", "no line yet");
        check("\n \n", "text", "no line yet");
    }

    #[test]
    fn what_follows_the_known_formats_is_told_too() {
        check(&format!("{COMBINED} 1532\n"), "apache", "microseconds");
        check(&format!("{COMMON} 1532\n"), "apache", "microseconds");
        check(&format!("example.org:443 {COMBINED}\n"), "apache", "host and port");
        check(&format!("example.org {COMBINED}\n"), "apache", "after a host");
        check(&format!("{COMBINED} \"10.0.0.1, 10.0.0.2\"\n"), "nginx", "forwarded address");
        check(&format!("{COMBINED} 0.153\n"), "nginx", "a time in seconds");
        check(&format!("{COMBINED} 0.153 0.150, 0.003\n"), "nginx", "two times in seconds");
        check(&format!("{COMBINED} \"-\" 0.153 -\n"), "nginx", "a forwarded address and two times");
    }

    #[test]
    fn four_in_five_lines_decide() {
        let dirty = |good: usize, bad: usize| format!("{}{}", format!("{COMMON}\n").repeat(good), "?\n".repeat(bad));
        check(&dirty(4, 1), "common", "4 of the first 5 lines");
        check(
            &dirty(3, 1),
            "text",
            "no format fits four in five of the first 4 lines (3 are in the common log format)",
        );
        check(&dirty(20, 100), "common", "20 of the first 20 lines");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(head in proptest::collection::vec(any::<u8>(), 0..300)) {
            let found = detect(&head);
            prop_assert!(found.format != config::Format::Auto);
        }
    }
}
