//! What holds for all formats: real files, any bytes, and lines made of fields that are found again.

use proptest::prelude::*;

use super::*;
use crate::record::{Tags, Value};

/// What a line became, as text, to compare in one piece.
#[derive(Debug)]
pub struct Sample {
    fields: Vec<(&'static str, String)>,
    tags: Tags,
}

impl Sample {
    fn new(doc: &Document, line: &[u8]) -> Self {
        let text = |field: Field| match doc.get(field)? {
            Value::Int(number) => Some((field.path(), number.to_string())),
            _ => Some((field.path(), String::from_utf8_lossy(doc.bytes(field, line)?).into_owned())),
        };
        let time = doc.time.map(|time| ("@timestamp", time.to_string()));
        let fields = time.into_iter().chain(Field::ALL.iter().filter_map(|field| text(*field))).collect();
        Self { fields, tags: doc.tags }
    }

    pub fn failed(&self) -> bool {
        self.tags.has(Tags::PARSE_FAILURE)
    }

    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str())
    }

    pub fn expect_fields(&self, expected: &[(&str, &str)]) {
        let found: Vec<(&str, &str)> = self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(found, expected);
        assert!(!self.failed());
    }
}

/// What `plan` makes of `line`.
pub fn sample(plan: &plan::Plan, line: &[u8]) -> Sample {
    let mut doc = Document::default();
    plan.parse(line, &mut doc, &mut Cache::default());
    Sample::new(&doc, line)
}

fn format(format: &config::Format) -> Format {
    Format::compile(format, &BTreeMap::new()).expect("format")
}

fn parse(name: &config::Format, line: &[u8]) -> Sample {
    let mut doc = Document::default();
    format(name).parse(line, &mut doc, &mut Cache::default());
    Sample::new(&doc, line)
}

fn check(name: &config::Format, line: &str, expected: &[(&str, &str)]) {
    let found = parse(name, line.as_bytes());
    for (field, value) in expected {
        let value = (!value.is_empty()).then_some(*value);
        assert_eq!(found.get(field), value, "{field} of {line}: {found:?}");
    }
    assert_eq!(found.failed(), expected.iter().any(|(field, _)| *field == "error.type"), "{line}: {found:?}");
    assert_eq!(found.failed(), found.get("message").is_some());
}

const START: &str = "192.0.2.1 - - [17/May/2015:10:05:03 +0000]";

#[test]
fn formats_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Format>();
    shared::<LineFilter>();
}

#[test]
fn a_text_line_is_its_message() {
    let found = parse(&config::Format::Text, b"hello");
    assert_eq!(found.get("message"), Some("hello"));
    assert!(!found.failed());
}

#[test]
fn quotes_inside_quotes_survive() {
    let combined = &config::Format::Combined;
    for (request, referrer, agent) in [
        (r#"/a" b"#, "-", "x"),
        (r#"/a\" 200 5 \"-\" \"x"#, "-", "x"),
        ("/", r#"http://a/"b"#, "x"),
        ("/", "http://a/", r#"Mozilla "quoted" x"#),
        ("/", "http://a/", r#"Mozilla \"quoted\" x"#),
        ("/", "http://a/", r#""quoted""#),
        ("/", "http://a/\\", "ends with \\"),
        ("/", "http://a/", r"\x22 \\"),
    ] {
        let line = format!(r#"{START} "GET {request} HTTP/1.1" 200 5 "{referrer}" "{agent}""#);
        let referrer = if referrer == "-" { "" } else { referrer };
        check(
            combined,
            &line,
            &[
                ("url.original", request),
                ("http.response.status_code", "200"),
                ("http.request.referrer", referrer),
                ("user_agent.original", agent),
            ],
        );
    }
}

#[test]
fn a_dirty_request_does_not_fail_the_line() {
    for (request, error) in [
        ("-", ""),
        ("", ""),
        (r"\x16\x03\x01\x02", r"not an HTTP request: \x16\x03\x01\x02"),
        ("\u{1}\u{2}", "not an HTTP request: \u{1}\u{2}"),
    ] {
        let line = format!("{START} \"{request}\" 400 -");
        let expected = [
            ("http.request.method", ""),
            ("url.original", ""),
            ("http.response.status_code", "400"),
            ("http.response.body.bytes", ""),
            ("event.outcome", "failure"),
            ("error.message", error),
        ];
        check(&config::Format::Common, &line, &expected);
    }
}

#[test]
fn a_broken_line_keeps_the_fields_before_the_break() {
    let line = format!("{START} \"GET /a HTTP/1.1\" OK 5");
    check(
        &config::Format::Common,
        &line,
        &[
            ("message", &line),
            ("error.type", "parse_failure"),
            ("error.message", "at byte 61: expected a number for %>s, found `OK 5`"),
            ("event.kind", "pipeline_error"),
            ("source.address", "192.0.2.1"),
            ("url.original", "/a"),
            ("@timestamp", "1431857103000000000"),
            ("http.response.status_code", ""),
        ],
    );
    for (line, message) in [
        ("", "at byte 0: expected %h, the line ends"),
        ("a", "at byte 0: %h is not followed by ` `: `a`"),
        ("a b", "at byte 2: %l is not followed by ` `: `b`"),
        ("a b c d", "at byte 4: %u is not followed by ` [`: `c d`"),
        ("a - - [x] \"-\" 200 30 40", "3 more bytes after the last field (%b) at byte 20: ` 40`"),
        (r#"a - - [x] "-" 200"#, "at byte 17: expected ` ` after %>s, found the end of the line"),
        (r#"a - - [x] "-" 200 x"#, "at byte 18: expected a number for %b, found `x`"),
    ] {
        let found = parse(&config::Format::Common, line.as_bytes());
        let message = if message.starts_with('3') {
            "at byte 7: %t is `x`: it is not written like 17/May/2015:10:05:03 +0000"
        } else {
            message
        };
        assert_eq!(found.get("error.message"), Some(message), "{line}");
        assert_eq!(found.get("message"), Some(line));
        assert!(found.failed());
    }
}

#[test]
fn every_way_to_fail_has_its_word() {
    let apache = |format: &str| config::Format::Apache(format.to_owned());
    let deep = "[".repeat(200);
    let cases = [
        (apache("[%h] %s"), "10.0.0.1 200", Failure::WrongStart),
        (config::Format::Common, "", Failure::Truncated),
        (config::Format::Common, r#"a - - [17/May/2015:10:05:03 +0000] "-" 200"#, Failure::Truncated),
        (config::Format::Json, r#"{"a":"b"#, Failure::Truncated),
        (config::Format::Common, "a b c d", Failure::MissingSeparator),
        (config::Format::Common, r#"a - - [17/May/2015:10:05:03 +0000] "-" 200, 5"#, Failure::MissingSeparator),
        (config::Format::Common, r#"a - - [17/May/2015:10:05:03 +0000] "-" 200 5 6"#, Failure::TrailingData),
        (config::Format::Json, r#"{"a":1} b"#, Failure::TrailingData),
        (config::Format::Common, r#"a - - [17/May/2015:10:05:03 +0000] "-" OK 5"#, Failure::BadNumber),
        (apache("%h %s"), "a 99999999999999999999", Failure::BadNumber),
        (config::Format::Common, r#"a - - [32/May/2015:10:05:03 +0000] "-" 200 5"#, Failure::BadTime),
        (config::Format::Json, r#"{"@timestamp":"yesterday"}"#, Failure::BadTime),
        (config::Format::Nginx("$upstream_response_time $status".to_owned()), "0.5x, 1 200", Failure::BadDuration),
        (config::Format::Json, r#"{"a":b}"#, Failure::BadJson),
        (config::Format::Json, &deep, Failure::TooDeep),
        (config::Format::Json, r#"["a"]"#, Failure::NotAnObject),
    ];
    for (format, line, failure) in &cases {
        let found = parse(format, line.as_bytes());
        assert_eq!(found.get("error.code"), Some(failure.code()), "{line}: {found:?}");
        assert!(found.failed());
    }
    for failure in Failure::ALL {
        assert!(cases.iter().any(|case| case.2 == failure), "{failure:?} has no case");
    }
    let fits = parse(&config::Format::Common, format!(r#"{START} "\x16\x03" 400 -"#).as_bytes());
    assert_eq!((fits.get("error.code"), fits.failed()), (None, false), "an odd request is no failure: {fits:?}");
}

#[test]
fn a_time_that_cannot_be_fails_and_keeps_the_other_fields() {
    check(
        &config::Format::Common,
        "a - - [32/May/2015:10:05:03 +0000] \"GET / HTTP/1.0\" 200 7",
        &[
            ("@timestamp", ""),
            ("error.type", "parse_failure"),
            ("error.message", "at byte 7: %t is `32/May/2015:10:05:03 +00…`: the month has no such day"),
            ("http.response.body.bytes", "7"),
        ],
    );
}

#[test]
fn what_follows_the_last_field_is_named_and_the_fields_are_kept() {
    let combined = format!(r#"{START} "GET / HTTP/1.1" 200 5 "-" "curl/8""#);
    check(
        &config::Format::Common,
        &combined,
        &[
            ("http.response.body.bytes", "5"),
            ("error.type", "parse_failure"),
            ("error.message", "13 more bytes after the last field (%b) at byte 65: ` \"-\" \"curl/8\"`"),
        ],
    );
    check(
        &config::Format::Combined,
        &format!("{combined} \"10.0.0.1\""),
        &[("user_agent.original", "curl/8"), ("error.type", "parse_failure")],
    );
    check(
        &config::Format::Combined,
        &format!("{combined} 0.153"),
        &[("user_agent.original", "curl/8"), ("error.type", "parse_failure")],
    );
}

#[test]
fn a_plan_explains_itself() {
    let pieces = format(&config::Format::Apache("%h %l \"%r\"".to_owned())).explain();
    let pieces: Vec<_> = pieces.iter().map(|(piece, field)| (piece.as_str(), field.as_str())).collect();
    let request = "http.request.method, url.original, http.version";
    let expected = [
        ("%h", "source.address"),
        (" ", "literal"),
        ("%l", "ignored"),
        (" \"", "literal"),
        ("%r", request),
        ("\"", "literal"),
    ];
    assert_eq!(pieces, expected);
}

/// The numbers (from 1) of the lines of `file` that do not parse, with their messages.
fn failures(file: &str, format: &config::Format) -> Vec<(usize, String)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/data").join(file);
    let bytes = std::fs::read(&path).expect("test data");
    let lines = bytes.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.is_empty());
    let failed = lines.filter_map(|(line, number)| {
        let found = parse(format, line);
        let complete =
            ["@timestamp", "source.address", "http.request.method", "url.original", "http.response.status_code"];
        assert!(found.failed() || complete.iter().all(|field| found.get(field).is_some()), "{number}: {found:?}");
        found.failed().then(|| (number, found.get("error.message").unwrap_or_default().to_owned()))
    });
    failed.collect()
}

#[test]
fn every_apache_line_of_2015_parses() {
    assert_eq!(failures("apache-combined-2015-05.log", &config::Format::Combined), []);
}

#[test]
fn every_nasa_line_of_1995_parses_except_those_broken_in_two() {
    // The file was put together from blocks of 4096 bytes with a newline after each, so every block boundary makes two
    // lines of one (or ends one that begins the next block): neither half fits the format.
    let expected: [(&str, &[usize]); 6] = [
        // The first half ends in the host; or the second half begins with the space after it.
        ("%h is not followed by", &[308, 460, 776, 927, 968, 1045, 1275, 1314, 1392, 1468, 1815, 1930]),
        // Cut after the host or within the columns that follow.
        ("%l", &[307, 580, 1853]),
        // A second half: it has no time.
        (
            "%u is not followed by",
            &[
                39, 78, 117, 155, 194, 232, 270, 345, 383, 422, 501, 541, 620, 660, 699, 738, 814, 853, 890, 1007,
                1085, 1123, 1161, 1199, 1238, 1353, 1430, 1506, 1544, 1583, 1621, 1659, 1698, 1738, 1777, 1854, 1893,
            ],
        ),
        // The first half ends in the time.
        ("%t is not followed by", &[77, 193, 231, 269, 382, 421, 659, 737, 813, 852, 1582, 1620, 1776]),
        // The first half ends in the request.
        (
            "%r is not followed by",
            &[
                38, 116, 154, 344, 500, 540, 619, 698, 889, 1006, 1084, 1122, 1160, 1198, 1237, 1352, 1429, 1505, 1543,
                1658, 1697, 1737, 1892,
            ],
        ),
        // The first half ends in the status.
        ("after %>s, found the end of the line", &[579]),
    ];
    let found = failures("nasa-http-1995-08-01.log", &config::Format::Common);
    for (number, message) in &found {
        let reasons = expected.iter().filter(|(reason, lines)| lines.contains(number) && message.contains(reason));
        assert_eq!(reasons.count(), 1, "line {number}: {message}");
    }
    assert_eq!(found.len(), expected.iter().map(|(_, lines)| lines.len()).sum::<usize>());
}

/// A format made of arbitrary pieces, most of them valid.
fn any_format() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "%[!0-9,<>]{0,3}(\\{[A-Za-z%:_-]{0,12}\\})?[a-zA-Z%^]",
        "\\$[a-z_]{0,12}",
        Just("%h %l %u %t \"%r\" %>s %b ".to_owned()),
        Just("$remote_addr [$time_local] \"$request\" $upstream_response_time ".to_owned()),
        "[ \"\\[\\]:,/\\\\-]{1,3}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// A line made of arbitrary pieces that formats look for.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        "[ \"\\[\\]:,/\\\\-]{1,3}".prop_map(String::into_bytes),
        "[0-9.]{1,20}".prop_map(String::into_bytes),
        Just(b"192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5".to_vec()),
        Just(b" \"-\" \"a \\\" b\"".to_vec()),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_format_and_no_line_makes_it_panic(text in any_format(), lines in proptest::collection::vec(any_line(), 1..4)) {
        let formats = [config::Format::Apache(text.clone()), config::Format::Nginx(text.clone()), config::Format::Combined,
            config::Format::Json, config::Format::Nginx(format!("log_format x {text}")), config::Format::Apache(format!("LogFormat \"{text}"))];
        for config in formats {
            let Ok(format) = Format::compile(&config, &BTreeMap::new()) else { continue };
            let mut cache = Cache::default();
            for line in &lines {
                let mut doc = Document::default();
                format.parse(line, &mut doc, &mut cache);
                for field in Field::ALL.iter().filter(|field| doc.has(**field)) {
                    let in_range = doc.bytes(*field, line).is_some() || matches!(doc.get(*field), Some(Value::Int(_)));
                    prop_assert!(in_range, "{:?} of {}", field, text);
                }
                let code = doc.bytes(Field::ErrorCode, line);
                let known = Failure::ALL.iter().any(|failure| code == Some(failure.code().as_bytes()));
                prop_assert_eq!(doc.tags.has(Tags::PARSE_FAILURE), known);
                prop_assert_eq!(known, code.is_some());
                // What a thread parsed before changes nothing.
                let mut fresh = Document::default();
                format.parse(line, &mut fresh, &mut Cache::default());
                prop_assert_eq!(format!("{doc:?}"), format!("{fresh:?}"));
            }
        }
    }

    #[test]
    fn a_line_made_of_fields_is_parsed_back_to_them(
        host in "[a-z0-9.:-]{1,20}[a-z0-9]",
        user in "[a-z]{2,8}( [a-z]{1,8})?",
        method in "GET|POST|PROPFIND",
        target in "/[!-~]{0,40}",
        status in 100_u16..600,
        bytes in 0_u64..1_000_000_000_000,
        referrer in "[a-z][ !#-\\[\\]-~]{1,30}",
        agent in "[a-z][ !#-\\[\\]-~]{1,60}",
        micros in 0_u32..,
    ) {
        let target = target.replace(['"', '\\'], "%22");
        let line = format!(
            "{host} - {user} [01/Aug/1995:00:00:01 -0400] \"{method} {target} HTTP/1.1\" {status} {bytes} \"{referrer}\" \"{agent}\" {micros}",
        );
        let found = parse(&config::Format::Apache(format!("{} %D", apache::COMBINED)), line.as_bytes());
        found.expect_fields(&[
            ("@timestamp", "807249601000000000"),
            ("event.kind", "event"),
            ("event.category", "[\"web\"]"),
            ("event.type", "[\"access\"]"),
            ("event.outcome", if status < 400 { "success" } else { "failure" }),
            ("event.duration", &(u64::from(micros) * 1000).to_string()),
            ("http.request.method", &method),
            ("http.request.referrer", &referrer),
            ("http.response.status_code", &status.to_string()),
            ("http.response.body.bytes", &bytes.to_string()),
            ("http.version", "1.1"),
            ("url.original", &target),
            ("source.address", &host),
            ("user.name", &user),
            ("user_agent.original", &agent),
        ]);
    }
}
