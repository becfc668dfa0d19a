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

mod tree;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::tree::{MAX_DEPTH, insert, is_nested, nested, remove, wrap};
use super::time::{self, NANOS};
use super::{Failure, FormatError};
use crate::record::{Document, Field, Tags};

/// Keys that are taken for the time where `@timestamp` is missing, in this order.
const TIME_KEYS: [&str; 3] = ["timestamp", "time", "ts"];

/// Top-level fields that are objects in ECS, with the field inside them that a text stands for.
const OBJECTS: [(&str, &str); 33] = [
    ("agent", "name"),
    ("calendar", "value"),
    ("client", "address"),
    ("cloud", "value"),
    ("container", "name"),
    ("data_stream", "value"),
    ("destination", "address"),
    ("device", "id"),
    ("dns", "value"),
    ("ecs", "version"),
    ("error", "message"),
    ("event", "action"),
    ("file", "path"),
    ("group", "name"),
    ("host", "name"),
    ("http", "value"),
    ("labels", "value"),
    ("log", "value"),
    ("network", "name"),
    ("observer", "name"),
    ("organization", "name"),
    ("process", "name"),
    ("related", "value"),
    ("server", "address"),
    ("service", "name"),
    ("source", "address"),
    ("span", "id"),
    ("tls", "value"),
    ("trace", "id"),
    ("transaction", "id"),
    ("url", "original"),
    ("user", "name"),
    ("user_agent", "original"),
];

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
        let object = match read(line, doc) {
            Ok(object) => object,
            Err((failure, reason)) => return failure.put(line, doc, &reason),
        };
        // Most lines have no dotted key: they need not be built again.
        let mut tree = if is_nested(&object) { object } else { nested(object, 0) };
        for key in RESERVED {
            if let Some(value) = tree.remove(key) {
                insert(&mut tree, &[key[1..].to_owned()], value);
            }
        }
        // All are taken out before any is put back, so that a mapping can swap two keys.
        let taken: Vec<_> = self.map.iter().map(|(from, _)| remove(&mut tree, from)).collect();
        for ((_, to), value) in self.map.iter().zip(taken) {
            if let Some(value) = value {
                insert(&mut tree, to, value);
            }
        }
        tidy(&mut tree);
        if let Err(reason) = take_time(&mut tree, doc) {
            let message = tree.get("message").is_some();
            Failure::BadTime.put(line, doc, &reason);
            if message {
                doc.remove(Field::Message);
            }
        }
        doc.tree = Some(tree);
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

/// The object that `line` is.
fn read(line: &[u8], doc: &mut Document) -> Result<Map<String, Value>, (Failure, String)> {
    let lossy;
    let line = match str::from_utf8(line) {
        Ok(_) => line,
        Err(_) => {
            doc.tags.add(Tags::INVALID_UTF8);
            lossy = String::from_utf8_lossy(line).into_owned();
            lossy.as_bytes()
        }
    };
    let mut parsed = serde_json::from_slice::<Value>(line);
    let out_of_range = match &parsed {
        Ok(value) => has_huge_number(value),
        Err(error) => error.to_string().starts_with("number out of range"),
    };
    if out_of_range {
        parsed = serde_json::from_slice(&quote_huge_numbers(line));
    }
    match parsed {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err((Failure::NotAnObject, format!("at byte 0: expected a JSON object, found {}", kind(&other)))),
        Err(error) => {
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or(&text);
            let failure = match reason {
                _ if error.is_eof() => Failure::Truncated,
                "trailing characters" => Failure::TrailingData,
                "recursion limit exceeded" => Failure::TooDeep,
                _ => Failure::BadJson,
            };
            Err((failure, format!("at byte {}: {reason}", error.column().saturating_sub(1))))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether a whole number may have become a float because 64 bits do not hold it.
fn has_huge_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(|float| float.abs() >= 9.2e18),
        Value::Array(items) => items.iter().any(has_huge_number),
        Value::Object(object) => object.values().any(has_huge_number),
        _ => false,
    }
}

/// `json` with quotes around the numbers that neither an integer nor a float of 64 bits holds.
fn quote_huge_numbers(json: &[u8]) -> Vec<u8> {
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
    out
}

/// Puts well-known keys where ECS has them.
fn tidy(tree: &mut Map<String, Value>) {
    for (key, inner) in OBJECTS {
        if let Some(value) = tree.get_mut(key)
            && !value.is_object()
            && !value.is_null()
        {
            wrap(value, inner);
        }
    }
    if tree.get("level").is_some_and(Value::is_string)
        && tree.get("log").and_then(|log| log.get("level")).is_none()
        && let Some(level) = tree.remove("level")
    {
        insert(tree, &["log".to_owned(), "level".to_owned()], level);
    }
    if tree.get("message").is_none_or(Value::is_null)
        && let Some(message) = tree.remove("msg")
    {
        tree.insert("message".to_owned(), message);
    }
    // The field is a text: what is none is kept as its JSON.
    if let Some(message @ (Value::Object(_) | Value::Array(_))) = tree.get_mut("message") {
        *message = Value::String(message.to_string());
    }
}

/// Takes the time out of `tree` into `doc`.
fn take_time(tree: &mut Map<String, Value>, doc: &mut Document) -> Result<(), String> {
    if let Some(value) = tree.remove("@timestamp").filter(|value| !value.is_null()) {
        doc.time = Some(time(&value).map_err(|reason| format!("@timestamp is {value}: {reason}"))?);
        return Ok(());
    }
    for key in TIME_KEYS {
        if let Some(Ok(found)) = tree.get(key).map(time) {
            tree.remove(key);
            doc.time = Some(found);
            return Ok(());
        }
    }
    Ok(())
}

/// Nanoseconds since 1970.
fn time(value: &Value) -> Result<i64, &'static str> {
    const NO_TIME: &str = "it is neither ISO 8601 nor a number since 1970";
    let text = match value {
        Value::String(text) => std::borrow::Cow::Borrowed(text.trim()),
        Value::Number(number) => number.to_string().into(),
        _ => return Err(NO_TIME),
    };
    let digits = text.strip_prefix('-').unwrap_or(&text);
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
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(line: &[u8], map: &[(&str, &str)]) -> Document {
        let map = map.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let mut doc = Document::default();
        Json::compile(&map).expect("map").parse(line, &mut doc);
        doc
    }

    fn check(line: &str, expected: &Value) {
        check_mapped(line, &[], expected);
    }

    fn check_mapped(line: &str, map: &[(&str, &str)], expected: &Value) {
        let doc = parse(line.as_bytes(), map);
        assert!(doc.tags.is_empty(), "{line}: {:?}", message(&doc, line));
        assert_eq!(doc.tree.map(Value::Object).as_ref(), Some(expected), "{line}");
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
        check(r#"{".":1," ":2}"#, &json!({"_": [2, 1]}));
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
            assert_eq!(parse(line.as_bytes(), &[]).tree, Some(Map::new()), "{line}");
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
        assert_eq!(doc.tree.map(Value::Object), Some(json!({"a": 1})));
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
            assert!(doc.tags.has(Tags::PARSE_FAILURE) && doc.tree.is_none());
            assert_eq!(doc.bytes(Field::Message, line.as_bytes()), Some(line.as_bytes()));
        }
    }

    #[test]
    fn depth_is_bounded_whoever_makes_it() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        assert!(message(&parse(deep.as_bytes(), &[]), &deep).contains("recursion limit"));
        let dotted = format!(r#"{{"{}":1}}"#, vec!["a"; 100_000].join("."));
        let tree = parse(dotted.as_bytes(), &[]).tree.expect("tree");
        assert_eq!(tree.keys().map(String::len).collect::<Vec<_>>(), [199_999]);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let doc = parse(b"{\"a\":\"x\xFFy\"}", &[]);
        assert!(doc.tags.has(Tags::INVALID_UTF8));
        assert_eq!(doc.tree.map(Value::Object), Some(json!({"a": "x\u{FFFD}y"})));
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
            let tree = parse(Value::Object(object).to_string().as_bytes(), &[]).tree.expect("tree");
            let text = Value::Object(tree).to_string();
            for n in 0..keys.len() {
                let wanted = format!("\"v{n}\"");
                prop_assert!(text.contains(&wanted), "{} in {}", n, text);
            }
        }
    }
}
