//! One JSON object a line.
//!
//! Fields pass through under their names, with these rules, so that Elasticsearch accepts the document and nothing is
//! lost:
//! - A dotted key is the nested path it stands for. Empty parts (`a..b`, `.a`, `a.`) are left out; a key without any
//!   other part is `_`. Past [`MAX_DEPTH`] levels, dots become `_`.
//! - Where one path has an object and something else, the other is kept inside the object, as `value`. Where two
//!   spellings of one path (`{"a.b": 1, "a": {"b": 2}}`) have values, both are kept, as an array. Of the same key
//!   written twice, the last counts, as everywhere in JSON.
//! - A top-level key that ECS has an object for (`"host": "web-1"`) goes where ECS has such a text (`host.name`), else to
//!   `value` in it. A top-level key that Elasticsearch keeps for itself (`_id`) loses its underscore.
//! - A number that no 64 bits hold stays as it is written, as a string.
//! - Without `@timestamp`, the first of `timestamp`, `time` and `ts` that is a time is it; without `log.level`, `level`
//!   is; without `message`, `msg` is.
//!
//! Times are ISO 8601, or a number since 1970 in seconds, milli-, micro- or nanoseconds, whichever falls between 1973
//! and 5138.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use super::time::{self, NANOS};
use super::{Failure, FormatError};
use crate::record::{Document, Field, Tags};
use crate::tree::{MAX_DEPTH, NoTree, ROOT, Tree, Value};

/// Keys that are taken for the time where `@timestamp` is missing, in this order.
const TIME_KEYS: [&str; 3] = ["timestamp", "time", "ts"];

/// Of a top-level field that is an object in ECS, the field inside it that anything else stands for.
fn object_for(key: &str) -> Option<&'static str> {
    Some(match key {
        "agent" | "container" | "group" | "host" | "network" | "observer" | "organization" | "process" | "service"
        | "user" => "name",
        "client" | "destination" | "server" | "source" => "address",
        "calendar" | "cloud" | "data_stream" | "dns" | "http" | "labels" | "log" | "related" | "tls" => "value",
        "device" | "span" | "trace" | "transaction" => "id",
        "ecs" => "version",
        "error" => "message",
        "event" => "action",
        "file" => "path",
        "url" | "user_agent" => "original",
        _ => return None,
    })
}

/// Names that Elasticsearch refuses at the top of a document.
const RESERVED: [&str; 12] = [
    "_id",
    "_index",
    "_type",
    "_source",
    "_routing",
    "_version",
    "_seq_no",
    "_primary_term",
    "_ignored",
    "_field_names",
    "_size",
    "_doc_count",
];

/// The format `json`, with its mapping of keys to fields.
#[derive(Debug)]
pub struct Json {
    map: Vec<(Vec<String>, Vec<String>)>,
}

impl Json {
    /// Compiles `map`, from dotted keys in the line to dotted fields in the document.
    pub fn compile(map: &BTreeMap<String, String>) -> Result<Self, FormatError> {
        let path = |key: &str, dotted: &str, reason| {
            let parts: Vec<String> = dotted.split('.').map(str::to_owned).collect();
            let bad = parts.len() > MAX_DEPTH || parts.iter().any(|part| part.trim().is_empty());
            if bad { Err(FormatError::Map { key: key.to_owned(), reason }) } else { Ok(parts) }
        };
        let map = map.iter().map(|(from, to)| {
            let from_path = path(from, from, "the key has an empty part")?;
            Ok((from_path, path(from, to, "the field has an empty part")?))
        });
        Ok(Self { map: map.collect::<Result<_, _>>()? })
    }

    /// Makes `doc` the document of `line`.
    pub fn parse(&self, line: &[u8], doc: &mut Document) {
        let mut tree = std::mem::take(&mut doc.tree);
        match read(line, doc, &mut tree) {
            Ok(()) => self.put_in_place(line, doc, &mut tree),
            Err((failure, reason)) => failure.put(line, doc, &reason),
        }
        doc.tree = tree;
    }

    fn put_in_place(&self, line: &[u8], doc: &mut Document, tree: &mut Tree) {
        tree.nest();
        if tree.members(ROOT).any(|(key, _)| tree.str(key).starts_with('_')) {
            for key in RESERVED {
                if let Some(value) = tree.take(ROOT, key) {
                    tree.insert(ROOT, [&key[1..]], value);
                }
            }
        }
        if !self.map.is_empty() {
            // All are taken out before any is put back, so that a mapping can swap two keys.
            let taken: Vec<_> = self.map.iter().map(|(from, _)| tree.remove(ROOT, from)).collect();
            for ((_, to), value) in self.map.iter().zip(taken) {
                if let Some(value) = value {
                    tree.insert(ROOT, to.iter().map(String::as_str), value);
                }
            }
        }
        tidy(tree);
        if let Err(reason) = take_time(tree, doc) {
            let message = tree.get(ROOT, "message").is_some();
            Failure::BadTime.put(line, doc, &reason);
            if message {
                doc.remove(Field::Message);
            }
        }
    }

    /// Which key fills which field.
    pub fn explain(&self) -> Vec<(String, String)> {
        let mapped = self.map.iter().map(|(from, to)| (from.join("."), to.join(".")));
        let known = [
            ("@timestamp", "@timestamp"),
            ("timestamp, time, ts", "@timestamp, where that is missing"),
            ("level", "log.level, where that is missing"),
            ("msg", "message, where that is missing"),
            ("any other key", "the field of that name"),
        ];
        mapped.chain(known.map(|(key, field)| (key.to_owned(), field.to_owned()))).collect()
    }
}

/// Makes `tree` the object that `line` is.
fn read(line: &[u8], doc: &mut Document, tree: &mut Tree) -> Result<(), (Failure, String)> {
    let line = match simdutf8::basic::from_utf8(line) {
        Ok(line) => Cow::Borrowed(line),
        Err(_) => {
            doc.tags.add(Tags::INVALID_UTF8);
            String::from_utf8_lossy(line)
        }
    };
    let mut read = tree.read(&line);
    let out_of_range = match &read {
        Ok(()) => tree.has_huge_number(),
        Err(NoTree::NotJson(error)) => error.to_string().starts_with("number out of range"),
        Err(NoTree::Other(_)) => false,
    };
    if out_of_range {
        read = tree.read(&quote_huge_numbers(&line));
    }
    read.map_err(|why| match why {
        NoTree::Other(kind) => (Failure::NotAnObject, format!("at byte 0: expected a JSON object, found {kind}")),
        NoTree::NotJson(error) => {
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or(&text);
            let failure = match reason {
                _ if error.is_eof() => Failure::Truncated,
                "trailing characters" => Failure::TrailingData,
                "recursion limit exceeded" => Failure::TooDeep,
                _ => Failure::BadJson,
            };
            (failure, format!("at byte {}: {reason}", error.column().saturating_sub(1)))
        }
    })
}

/// `json` with quotes around the numbers that neither an integer nor a float of 64 bits holds.
fn quote_huge_numbers(json: &str) -> String {
    let json = json.as_bytes();
    let mut out = Vec::with_capacity(json.len() + 16);
    let (mut at, mut in_string) = (0, false);
    while let Some(&byte) = json.get(at) {
        let is_number = !in_string && (byte == b'-' || byte.is_ascii_digit());
        let mut length = 1;
        if is_number {
            let rest = &json[at..];
            length =
                rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
            let text = String::from_utf8_lossy(&rest[..length]);
            let is_whole = !text.contains(['.', 'e', 'E']);
            let fits = if is_whole {
                text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
            } else {
                text.parse::<f64>().is_ok_and(f64::is_finite)
            };
            if !fits {
                out.push(b'"');
                out.extend_from_slice(&rest[..length]);
                out.push(b'"');
                at += length;
                continue;
            }
        } else if in_string && byte == b'\\' {
            length = 2.min(json.len() - at);
        } else if byte == b'"' {
            in_string = !in_string;
        }
        out.extend_from_slice(&json[at..at + length]);
        at += length;
    }
    // Only ASCII was added.
    String::from_utf8(out).unwrap_or_default()
}

/// Puts well-known keys where ECS has them.
fn tidy(tree: &mut Tree) {
    let misplaced = |tree: &Tree, from: usize| {
        tree.members(ROOT).enumerate().skip(from).find_map(|(at, (key, value))| {
            let inner = object_for(tree.str(key))?;
            (!matches!(value, Value::Object(_) | Value::Null)).then_some((at, key, value, inner))
        })
    };
    let mut from = 0;
    while let Some((at, key, value, inner)) = misplaced(tree, from) {
        let object = tree.wrap(value, inner);
        tree.set(ROOT, key, Value::Object(object));
        from = at + 1;
    }
    if matches!(tree.get(ROOT, "level"), Some(Value::Text(_)))
        && !matches!(tree.get(ROOT, "log"), Some(Value::Object(log)) if tree.get(log, "level").is_some())
        && let Some(level) = tree.take(ROOT, "level")
    {
        tree.insert(ROOT, ["log", "level"], level);
    }
    if matches!(tree.get(ROOT, "message"), None | Some(Value::Null))
        && let Some(message) = tree.take(ROOT, "msg")
    {
        tree.take(ROOT, "message");
        tree.insert(ROOT, ["message"], message);
    }
    // The field is a text: what is none is kept as its JSON.
    if let Some(message @ (Value::Object(_) | Value::Array(_))) = tree.get(ROOT, "message") {
        let text = tree.to_json(message).to_string();
        let text = Value::Text(tree.new_text(&text));
        tree.put_over(&["message"], text);
    }
}

/// Takes the time out of `tree` into `doc`.
fn take_time(tree: &mut Tree, doc: &mut Document) -> Result<(), String> {
    if let Some(value) = tree.take(ROOT, "@timestamp").filter(|value| *value != Value::Null) {
        let found = time(tree, value).map_err(|reason| format!("@timestamp is {}: {reason}", tree.to_json(value)))?;
        doc.time = Some(found);
        return Ok(());
    }
    for key in TIME_KEYS {
        if let Some(Ok(found)) = tree.get(ROOT, key).map(|value| time(tree, value)) {
            tree.take(ROOT, key);
            doc.time = Some(found);
            return Ok(());
        }
    }
    Ok(())
}

/// Nanoseconds since 1970.
fn time(tree: &Tree, value: Value) -> Result<i64, &'static str> {
    const NO_TIME: &str = "it is neither ISO 8601 nor a number since 1970";
    /// No number is longer.
    const DIGITS: usize = 32;
    let mut number = [0; DIGITS];
    let mut rest = &mut number[..];
    let text = match value {
        Value::Text(text) => tree.str(text).trim(),
        Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => {
            let written = match value {
                Value::Unsigned(value) => write!(rest, "{value}"),
                Value::Signed(value) => write!(rest, "{value}"),
                value => write!(rest, "{}", tree.to_json(value)),
            };
            let length = DIGITS - rest.len();
            written.map_err(|_| NO_TIME)?;
            str::from_utf8(&number[..length]).unwrap_or_default()
        }
        _ => return Err(NO_TIME),
    };
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.split('.').next().unwrap_or_default();
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return time::iso(text.as_bytes());
    }
    let unit = match whole.len() {
        ..=11 => NANOS,
        12..=14 => 1_000_000,
        15..=17 => 1000,
        // One digit more than `decimal` takes.
        _ => {
            return whole
                .parse::<i64>()
                .map(|nanos| if digits.len() < text.len() { -nanos } else { nanos })
                .map_err(|_| NO_TIME);
        }
    };
    time::decimal(text.as_bytes(), unit).ok_or(NO_TIME)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::{Document, Field, Json, NANOS, ROOT, Tags};

    fn parse(line: &[u8], map: &[(&str, &str)]) -> Document {
        let map = map.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let mut doc = Document::default();
        Json::compile(&map).expect("map").parse(line, &mut doc);
        doc
    }

    fn fields(doc: &Document) -> Option<Value> {
        doc.tree.is_some().then(|| doc.tree.to_json(crate::tree::Value::Object(ROOT)))
    }

    fn check(line: &str, expected: &Value) {
        check_mapped(line, &[], expected);
    }

    fn check_mapped(line: &str, map: &[(&str, &str)], expected: &Value) {
        let doc = parse(line.as_bytes(), map);
        assert!(doc.tags.is_empty(), "{line}: {:?}", message(&doc, line));
        assert_eq!(fields(&doc).as_ref(), Some(expected), "{line}");
    }

    fn check_time(line: &str, time: Option<i64>) {
        let doc = parse(line.as_bytes(), &[]);
        assert!(doc.tags.is_empty(), "{line}");
        assert_eq!(doc.time, time, "{line}");
    }

    fn message(doc: &Document, line: &str) -> String {
        String::from_utf8_lossy(doc.bytes(Field::ErrorMessage, line.as_bytes()).unwrap_or_default()).into_owned()
    }

    #[test]
    fn ecs_fields_pass_through_and_dotted_keys_are_nested() {
        check(r#"{"a":1,"log":{"logger":"x"},"n":null}"#, &json!({"a": 1, "log": {"logger": "x"}, "n": null}));
        check(r#"{"log.logger":"x","log":{"level":"info"}}"#, &json!({"log": {"logger": "x", "level": "info"}}));
        check(
            r#"{"a":[{"b.c":1}],"d":{"e.f":{"g.h":2}}}"#,
            &json!({"a": [{"b": {"c": 1}}], "d": {"e": {"f": {"g": {"h": 2}}}}}),
        );
        check("{}", &json!({}));
    }

    #[test]
    fn nothing_is_lost_where_paths_meet() {
        check(r#"{"a":1,"a.b":2}"#, &json!({"a": {"value": 1, "b": 2}}));
        check(r#"{"a.b":2,"a":1}"#, &json!({"a": {"value": 1, "b": 2}}));
        check(r#"{"a":1,"a.b":2,"a.value":3}"#, &json!({"a": {"value": [1, 3], "b": 2}}));
        check(r#"{"a":{"b":2},"a.b":1}"#, &json!({"a": {"b": [2, 1]}}));
        check(r#"{"a":{"b":{"c":1}},"a.b":2}"#, &json!({"a": {"b": {"c": 1, "value": 2}}}));
        check(r#"{"a":null,"a.b":1}"#, &json!({"a": {"b": 1}}));
        check(r#"{"a":1,"a":2}"#, &json!({"a": 2}));
    }

    #[test]
    fn keys_that_elasticsearch_refuses_get_another_name() {
        check(r#"{"":1}"#, &json!({"_": 1}));
        check(r#"{".":1," ":2}"#, &json!({"_": [1, 2]}));
        check(r#"{"a.":1,".b":2,"c..d":3,"..":4}"#, &json!({"a": 1, "b": 2, "c": {"d": 3}, "_": 4}));
        check(r#"{"_id":"x","_index":"y","_own":1}"#, &json!({"id": "x", "index": "y", "_own": 1}));
    }

    #[test]
    fn texts_where_ecs_has_objects_go_into_them() {
        check(r#"{"host":"web-1","error":"boom"}"#, &json!({"host": {"name": "web-1"}, "error": {"message": "boom"}}));
        check(
            r#"{"user":7,"url":"/a","log":"x"}"#,
            &json!({"user": {"name": 7}, "url": {"original": "/a"}, "log": {"value": "x"}}),
        );
        check(r#"{"message":{"a":1}}"#, &json!({"message": r#"{"a":1}"#}));
    }

    #[test]
    fn level_and_msg_stand_in_where_ecs_has_nothing() {
        check(r#"{"level":"info","msg":"hello"}"#, &json!({"log": {"level": "info"}, "message": "hello"}));
        check(
            r#"{"level":"info","msg":"a","log.level":"warn","message":"b"}"#,
            &json!({"level": "info", "msg": "a", "log": {"level": "warn"}, "message": "b"}),
        );
        check(r#"{"level":30}"#, &json!({"level": 30}));
    }

    #[test]
    fn the_map_renames_keys() {
        check_mapped(
            r#"{"req":{"method":"GET","url":"/a"},"code":200,"x.y":1}"#,
            &[
                ("req.method", "http.request.method"),
                ("req.url", "url.original"),
                ("code", "http.response.status_code"),
                ("x.y", "z"),
            ],
            &json!({"http": {"request": {"method": "GET"}, "response": {"status_code": 200}}, "url": {"original": "/a"}, "z": 1}),
        );
        check_mapped(r#"{"a":1,"b":2}"#, &[("a", "b"), ("b", "a")], &json!({"a": 2, "b": 1}));
        check_mapped(r#"{"a":1,"b":2}"#, &[("a", "b"), ("missing", "c")], &json!({"b": [2, 1]}));
        let doc = parse(br#"{"when":"2015-05-17T10:05:03Z"}"#, &[("when", "@timestamp")]);
        assert_eq!(doc.time, Some(1_431_857_103 * NANOS));
        let bad = |from: &str, to: &str| {
            Json::compile(&[(from.to_owned(), to.to_owned())].into()).expect_err("map").to_string()
        };
        assert_eq!(bad("a.", "b"), "map.a.: the key has an empty part");
        assert_eq!(bad("a", "b..c"), "map.a: the field has an empty part");
    }

    #[test]
    fn times_are_taken_out_of_the_tree() {
        let time = Some(1_431_857_103_120_000_000);
        for line in [
            r#"{"@timestamp":"2015-05-17T10:05:03.120Z"}"#,
            r#"{"@timestamp":"2015-05-17T12:05:03.12+02:00"}"#,
            r#"{"@timestamp":1431857103.120}"#,
            r#"{"@timestamp":1431857103120}"#,
            r#"{"@timestamp":"1431857103120"}"#,
            r#"{"@timestamp":1431857103120000}"#,
            r#"{"@timestamp":1431857103120000000}"#,
            r#"{"timestamp":"2015-05-17T10:05:03.120Z"}"#,
            r#"{"time":1431857103120}"#,
            r#"{"ts":1431857103.12}"#,
            r#"{"@timestamp":null,"ts":1431857103.12}"#,
        ] {
            check_time(line, time);
            assert_eq!(fields(&parse(line.as_bytes(), &[])), Some(json!({})), "{line}");
        }
        check_time(r#"{"@timestamp":1431857103120,"time":7}"#, time);
        check_time(r#"{"time":"noon"}"#, None);
        check(r#"{"time":"noon","timestamp":{"a":1}}"#, &json!({"time": "noon", "timestamp": {"a": 1}}));
        check_time("{}", None);
    }

    #[test]
    fn a_timestamp_that_is_no_time_fails_and_keeps_the_rest() {
        let line = r#"{"@timestamp":"2015-05-32T10:05:03Z","a":1}"#;
        let doc = parse(line.as_bytes(), &[]);
        assert_eq!(message(&doc, line), r#"@timestamp is "2015-05-32T10:05:03Z": the month has no such day"#);
        assert!(doc.tags.has(Tags::PARSE_FAILURE) && doc.has(Field::Message));
        assert_eq!(fields(&doc), Some(json!({"a": 1})));
    }

    #[test]
    fn numbers_beyond_64_bits_stay_as_they_are_written() {
        check(r#"{"a":123456789012345678901234567890}"#, &json!({"a": "123456789012345678901234567890"}));
        check(
            r#"{"a":[1e999,-1e999],"b":"1e999 \" 1e999"}"#,
            &json!({"a": ["1e999", "-1e999"], "b": "1e999 \" 1e999"}),
        );
        check(
            r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":1e300,"d":1.5}"#,
            &json!({"a": u64::MAX, "b": i64::MIN, "c": 1e300, "d": 1.5}),
        );
    }

    #[test]
    fn what_is_no_object_fails_with_the_place() {
        for (line, expected) in [
            ("", "at byte 0: EOF while parsing a value"),
            ("[1]", "at byte 0: expected a JSON object, found an array"),
            ("17", "at byte 0: expected a JSON object, found a number"),
            (r#"{"a":}"#, "at byte 5: expected value"),
            (r#"{"a":1} x"#, "at byte 8: trailing characters"),
            (r#"{"a":"b"#, "at byte 6: EOF while parsing a string"),
            ("plain text", "at byte 0: expected value"),
        ] {
            let doc = parse(line.as_bytes(), &[]);
            assert_eq!(message(&doc, line), expected, "{line}");
            assert!(doc.tags.has(Tags::PARSE_FAILURE) && !doc.tree.is_some());
            assert_eq!(doc.bytes(Field::Message, line.as_bytes()), Some(line.as_bytes()));
        }
    }

    #[test]
    fn depth_is_bounded_whoever_makes_it() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        assert!(message(&parse(deep.as_bytes(), &[]), &deep).contains("recursion limit"));
        let dotted = format!(r#"{{"{}":1}}"#, vec!["a"; 100_000].join("."));
        let tree = fields(&parse(dotted.as_bytes(), &[])).expect("tree");
        assert_eq!(tree.as_object().expect("one").keys().map(String::len).collect::<Vec<_>>(), [199_999]);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let doc = parse(b"{\"a\":\"x\xFFy\"}", &[]);
        assert!(doc.tags.has(Tags::INVALID_UTF8));
        assert_eq!(fields(&doc), Some(json!({"a": "x\u{FFFD}y"})));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..60), form in r#"\{("[@a-c._]{0,4}":("x"|-?[0-9e.]{1,30}|null|\{"a.b":1\}|\[1\]),){0,6}"ts":1\}"#) {
            parse(&line, &[("a.b", "c")]);
            parse(form.as_bytes(), &[("a.b", "@timestamp"), ("c", "_id")]);
        }

        #[test]
        fn no_value_is_lost(keys in proptest::collection::btree_set("[a-c]{1,2}(\\.[a-c.]{1,4}){0,2}", 0..8)) {
            // `.` and friends are spelled alike or not: each key has a value of its own, found again somewhere.
            let object: Map<String, Value> = keys.iter().enumerate().map(|(n, key)| (key.clone(), json!(format!("v{n}")))).collect();
            let text = fields(&parse(Value::Object(object).to_string().as_bytes(), &[])).expect("tree").to_string();
            for n in 0..keys.len() {
                let wanted = format!("\"v{n}\"");
                prop_assert!(text.contains(&wanted), "{} in {}", n, text);
            }
        }
    }
}
