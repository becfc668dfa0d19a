//! What lines say, read without any code of logweir: regular expressions over access logs, a JSON reader of its own kind over
//! application logs. A [`Record`] is what one line must have become in Elasticsearch, as far as panels ask for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use regex::bytes::Regex;
use serde_json::Value;

/// A value that Elasticsearch has indexed: a keyword, or a number. Times are numbers too, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// A keyword.
    Text(String),
    /// A number.
    Number(f64),
}

impl Datum {
    /// Whether it is what a query's text says.
    #[must_use]
    pub fn is(&self, value: &str) -> bool {
        match self {
            Self::Text(text) => text == value,
            Self::Number(number) => value.parse() == Ok(*number),
        }
    }

    /// Whether it is a text of this form, in which `*` stands for anything.
    #[must_use]
    pub fn is_like(&self, form: &str) -> bool {
        matches!(self, Self::Text(text) if is_like(text, form))
    }
}

/// Whether a text has this form, in which `*` stands for anything.
#[must_use]
pub fn is_like(text: &str, form: &str) -> bool {
    let Some((start, rest)) = form.split_once('*') else { return text == form };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    true
}

/// What a line must have become.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The data stream or index it is in.
    pub index: String,
    /// The document's id, where it is known.
    pub id: Option<String>,
    /// What is indexed, by the field's path.
    fields: BTreeMap<String, Vec<Datum>>,
    /// Fields that have a text which is searched by words, which is there as a whole; nothing where only logweir knows it.
    texts: BTreeMap<String, Option<String>>,
}

/// Keywords that are longer are kept, not indexed, and named in `_ignored`.
const KEYWORD_CHARACTERS: usize = 1024;
const URL_CHARACTERS: usize = 8000;
const URLS: [&str; 4] = ["http.request.referrer", "url.original", "url.path", "url.query"];
const TEXTS: [&str; 2] = ["message", "error.message"];

impl Record {
    /// Nothing yet, in `index`.
    #[must_use]
    pub fn new(index: &str) -> Self {
        Self { index: index.to_owned(), ..Self::default() }
    }

    /// The values of a field.
    #[must_use]
    pub fn values(&self, field: &str) -> &[Datum] {
        self.fields.get(field).map_or(&[], Vec::as_slice)
    }

    /// Whether the field has a value that is indexed.
    #[must_use]
    pub fn exists(&self, field: &str) -> bool {
        self.fields.contains_key(field) || self.texts.contains_key(field)
    }

    /// A document as it was sent: what it says of itself is what it must have become.
    ///
    /// # Panics
    /// If it has no time.
    #[must_use]
    pub fn of_document(index: &str, document: &Value) -> Self {
        let mut record = Self::new(index);
        record.add("", document);
        let time = instant(document["@timestamp"].as_str().expect("a time"));
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in a double")]
        record.fields.insert("@timestamp".to_owned(), vec![Datum::Number(time as f64)]);
        record
    }

    /// Adds a value and all below it.
    fn add(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    self.add(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value);
                }
            }
            Value::Array(list) => list.iter().for_each(|value| self.add(path, value)),
            Value::String(text) => self.text(path, text),
            Value::Number(number) => self.number(path, number.as_f64().expect("a number")),
            Value::Bool(_) | Value::Null => {}
        }
    }

    /// Its time, in milliseconds since 1970.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn time(&self) -> i64 {
        match self.values("@timestamp") {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds fit")]
            [Datum::Number(time)] => *time as i64,
            other => panic!("a record's time is {other:?}"),
        }
    }

    /// What the document itself shows of a field that is searched by words; nothing where only logweir knows it, or where
    /// there is no such field.
    #[must_use]
    pub fn shown(&self, field: &str) -> Option<&str> {
        self.texts.get(field)?.as_deref()
    }

    /// Which line of which file it is.
    #[must_use]
    pub fn line(&self) -> Option<(&str, u64)> {
        match (self.values("log.file.path"), self.values("log.offset")) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an offset in a small file")]
            ([Datum::Text(path)], [Datum::Number(offset)]) => Some((path, *offset as u64)),
            _ => None,
        }
    }

    /// The field has a text that only logweir knows.
    pub fn some_text(&mut self, field: &str) {
        self.texts.insert(field.to_owned(), None);
    }

    /// Adds a text as the mapping takes it.
    pub fn text(&mut self, field: &str, value: &str) {
        if TEXTS.contains(&field) {
            self.texts.insert(field.to_owned(), Some(value.to_owned()));
            return;
        }
        let limit = if URLS.contains(&field) { URL_CHARACTERS } else { KEYWORD_CHARACTERS };
        if value.chars().count() > limit {
            self.refused(field);
        } else {
            self.fields.entry(field.to_owned()).or_default().push(Datum::Text(value.to_owned()));
        }
    }

    /// Has no more the fields whose names begin so, but one.
    pub fn forget(&mut self, start: &str, but: &str) {
        self.fields.retain(|field, _| !field.starts_with(start) || field == but);
    }

    /// Takes the fields whose names begin so from another record.
    pub fn take(&mut self, start: &str, from: &Self) {
        let fields = from.fields.iter().filter(|(field, _)| field.starts_with(start));
        self.fields.extend(fields.map(|(field, values)| (field.clone(), values.clone())));
    }

    /// Adds a number.
    pub fn number(&mut self, field: &str, value: f64) {
        self.fields.entry(field.to_owned()).or_default().push(Datum::Number(value));
    }

    /// The mapping refuses the field's value.
    pub fn refused(&mut self, field: &str) {
        self.fields.entry("_ignored".to_owned()).or_default().push(Datum::Text(field.to_owned()));
    }

    /// These fields are refused without a word.
    pub fn hide_refused(&mut self, fields: &[&str]) {
        if let Some(refused) = self.fields.get_mut("_ignored") {
            refused.retain(|field| !matches!(field, Datum::Text(field) if fields.contains(&field.as_str())));
            if refused.is_empty() {
                self.fields.remove("_ignored");
            }
        }
    }

    /// Adds the time, and what is computed of it.
    pub fn at(&mut self, milliseconds: i64) {
        const DAYS: [&str; 7] = ["4 Thu", "5 Fri", "6 Sat", "7 Sun", "1 Mon", "2 Tue", "3 Wed"];
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in a double")]
        self.number("@timestamp", milliseconds as f64);
        let hours = milliseconds.div_euclid(3_600_000);
        let day = usize::try_from(hours.div_euclid(24).rem_euclid(7)).expect("0 to 6");
        self.text("calendar.weekday", DAYS[day]);
        #[expect(clippy::cast_precision_loss, reason = "0 to 23")]
        self.number("calendar.hour", hours.rem_euclid(24) as f64);
    }
}

/// What the source's configuration says, and so every line of it has.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The data stream or index.
    pub index: &'a str,
    /// `event.dataset`.
    pub dataset: &'a str,
    /// The file, as `log.file.path` has it.
    pub path: &'a str,
    /// Static fields, and the host's name.
    pub fields: &'a [(&'a str, &'a str)],
    /// The time of the last line that had one; before the first, what a line without a time gets.
    pub assumed_time: i64,
}

impl Source<'_> {
    /// What every line has; this one begins at `offset`.
    fn record(&self, offset: usize) -> Record {
        let mut record = Record::new(self.index);
        record.text("log.file.path", self.path);
        #[expect(clippy::cast_precision_loss, reason = "an offset in a small file")]
        record.number("log.offset", offset as f64);
        record.text("ecs.version", "9.2.0");
        record.text("event.dataset", self.dataset);
        let mut parts = self.index.splitn(3, '-');
        if let (Some(kind), Some(dataset), Some(namespace)) = (parts.next(), parts.next(), parts.next())
            && dataset == self.dataset
        {
            record.text("data_stream.type", kind);
            record.text("data_stream.dataset", dataset);
            record.text("data_stream.namespace", namespace);
        }
        for (field, value) in self.fields {
            record.text(field, value);
        }
        record
    }
}

/// Reads access logs.
pub struct AccessReader {
    /// What follows what; the last one that matches says how far a line is as it should be.
    steps: Vec<Regex>,
    request: Regex,
}

impl std::fmt::Debug for AccessReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessReader of {} steps", self.steps.len())
    }
}

/// The form of an access log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// NCSA common.
    Common,
    /// NCSA combined.
    Combined,
    /// Combined, a space, and microseconds.
    CombinedMicroseconds,
}

/// Which parts of a line are numbers.
const NUMBERS: [usize; 3] = [5, 6, 9];

/// Why a line is not as it should be from `rest` on, where a number should stand or not.
fn why(rest: &[u8], number: bool) -> &'static str {
    match (rest.first(), number) {
        (None, _) => "truncated",
        (Some(b'0'..=b'9'), true) if rest.iter().all(u8::is_ascii_digit) => "truncated",
        (Some(first), true) if !first.is_ascii_digit() => "bad_number",
        _ => "missing_separator",
    }
}

impl AccessReader {
    /// A reader of lines of this form.
    ///
    /// # Panics
    /// Never: the expressions are constant.
    #[must_use]
    pub fn new(form: Form) -> Self {
        // What stands there, and what has to follow it.
        let parts = [
            (r"(?P<host>[^ ]+)", " "),
            (r"(?P<ident>[^ ]+)", " "),
            (r"(?P<user>[^ ]+)", " "),
            (r"\[(?P<time>\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]", r#" ""#),
            (r"(?P<request>[^\n]*?)", r#"" "#),
            (r"(?P<status>\d{3}|-)", " "),
            (r"(?P<bytes>\d+|-)", r#" ""#),
            (r#"(?P<referrer>(?:[^"\\]|\\.)*)"#, r#"" ""#),
            (r"(?P<agent>[^\n]*)", r#"" "#),
            (r"(?P<microseconds>\d+|-)", ""),
        ];
        let (count, end) = match form {
            Form::Common => (7, ""),
            Form::Combined => (9, "\""),
            Form::CombinedMicroseconds => (10, ""),
        };
        let mut steps = Vec::new();
        let mut text = "(?s-u)^".to_owned();
        for (index, (part, after)) in parts[..count].iter().enumerate() {
            text += part;
            text += if index + 1 == count { end } else { after };
            let whole = if index + 1 == count { "$" } else { "" };
            steps.push(Regex::new(&format!("{text}{whole}")).expect("a regular expression"));
        }
        let regex = |text: &str| Regex::new(&format!("(?s-u){text}")).expect("a regular expression");
        Self { steps, request: regex(r"^(?P<method>[A-Za-z]+) (?P<target>.*?)(?: HTTP/(?P<version>[0-9.]+))?$") }
    }

    /// What each line of a file becomes; empty lines become nothing.
    ///
    /// # Panics
    /// If a time is no time.
    #[must_use]
    pub fn read(&self, text: &[u8], source: &Source<'_>) -> Vec<Record> {
        let mut source = source.clone();
        lines(text).map(|(offset, line)| self.line(offset, line, &mut source)).collect()
    }

    fn line(&self, offset: usize, line: &[u8], source: &mut Source<'_>) -> Record {
        let mut record = source.record(offset);
        record.text("event.category", "web");
        record.text("event.type", "access");
        let fitting = self.steps.iter().rposition(|step| step.is_match(line));
        let whole = fitting == Some(self.steps.len() - 1);
        let found = fitting.and_then(|step| self.steps[step].captures(line));
        let part = |name: &str| {
            let bytes = found.as_ref()?.name(name)?.as_bytes();
            (bytes != b"-").then(|| String::from_utf8_lossy(bytes).into_owned())
        };
        let mut tags = Vec::new();
        record.text("event.kind", if whole { "event" } else { "pipeline_error" });
        if !whole {
            tags.push("_parse_failure");
            record.text("error.type", "parse_failure");
            let end = found.as_ref().and_then(|found| found.get(0)).map_or(0, |found| found.end());
            record.text("error.code", why(&line[end..], NUMBERS.contains(&fitting.map_or(0, |step| step + 1))));
            record.some_text("error.message");
            record.text("message", &String::from_utf8_lossy(line));
        }
        if let Some(host) = part("host") {
            record.text("source.address", &host);
            if let Ok(address) = host.parse::<IpAddr>() {
                record.text("source.ip", &address.to_string());
            }
        }
        if let Some(user) = part("user") {
            record.text("user.name", &user);
        }
        match part("time") {
            Some(time) => source.assumed_time = milliseconds(&time),
            None => tags.push("_time_assumed"),
        }
        record.at(source.assumed_time);
        if let Some(request) = part("request") {
            self.request(&request, &mut record);
        }
        if let Some(status) = part("status") {
            let status: f64 = status.parse().expect("three digits");
            record.number("http.response.status_code", status);
            record.text("event.outcome", if status < 400.0 { "success" } else { "failure" });
        }
        for (name, field, factor) in
            [("bytes", "http.response.body.bytes", 1.0), ("microseconds", "event.duration", 1000.0)]
        {
            if let Some(number) = part(name) {
                record.number(field, number.parse::<f64>().expect("digits") * factor);
            }
        }
        if let Some(referrer) = part("referrer") {
            record.text("http.request.referrer", &referrer);
        }
        if let Some(agent) = part("agent") {
            record.text("user_agent.original", &agent);
            crate::panels::agents::describe(&agent, &mut record);
        }
        if std::str::from_utf8(line).is_err() {
            tags.push("_invalid_utf8");
        }
        for tag in tags {
            record.text("tags", tag);
        }
        record
    }

    fn request(&self, request: &str, record: &mut Record) {
        let Some(found) = self.request.captures(request.as_bytes()) else { return };
        let part = |name: &str| Some(String::from_utf8_lossy(found.name(name)?.as_bytes()).into_owned());
        if let Some(method) = part("method") {
            record.text("http.request.method", &method);
        }
        if let Some(version) = part("version") {
            record.text("http.version", &version);
        }
        if let Some(target) = part("target") {
            record.text("url.original", &target);
            let (path, query) =
                target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
            record.text("url.path", path);
            if let Some(query) = query {
                record.text("url.query", query);
            }
            let last = path.rsplit('/').next().unwrap_or_default();
            // What is longer, or no word, is no extension.
            if let Some((name, extension)) = last.rsplit_once('.')
                && !name.is_empty()
                && (1..=10).contains(&extension.len())
                && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
            {
                record.text("url.extension", extension);
            }
        }
    }
}

/// The lines that are not empty, without their ends, and where each begins.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut next = 0;
    let all = text.split(|byte| *byte == b'\n').map(move |line| {
        let offset = next;
        next += line.len() + 1;
        (offset, line.strip_suffix(b"\r").unwrap_or(line))
    });
    all.filter(|(_, line)| !line.is_empty())
}

/// What each JSON line of a file becomes; empty lines become nothing.
///
/// # Panics
/// If a line's time is no time.
#[must_use]
pub fn read_json(text: &[u8], source: &Source<'_>) -> Vec<Record> {
    /// What the mapping has as numbers.
    const NUMBERS: [&str; 6] = [
        "http.response.status_code",
        "http.response.body.bytes",
        "event.duration",
        "http.request.bytes",
        "http.response.bytes",
        "source.port",
    ];
    let mut time = source.assumed_time;
    let mut records = Vec::new();
    for (offset, line) in lines(text) {
        let mut record = source.record(offset);
        let readable = String::from_utf8_lossy(line);
        let mut tags = Vec::new();
        match serde_json::from_str::<BTreeMap<String, Value>>(&readable) {
            Ok(fields) => {
                time = instant(fields["@timestamp"].as_str().expect("a time"));
                for (field, value) in &fields {
                    match value {
                        Value::String(_) if field == "@timestamp" => {}
                        Value::String(_) if NUMBERS.contains(&field.as_str()) => record.refused(field),
                        Value::String(text) if field == "source.ip" && text.parse::<IpAddr>().is_err() => {
                            record.refused(field)
                        }
                        other => record.add(field, other),
                    }
                }
            }
            Err(error) => {
                tags.extend(["_parse_failure", "_time_assumed"]);
                record.text("error.type", "parse_failure");
                record.text("error.code", why_not_json(&readable, &error));
                record.some_text("error.message");
                record.text("message", &readable);
            }
        }
        record.at(time);
        if readable.contains('\u{fffd}') {
            tags.push("_invalid_utf8");
        }
        for tag in tags {
            record.text("tags", tag);
        }
        records.push(record);
    }
    records
}

fn why_not_json(text: &str, error: &serde_json::Error) -> &'static str {
    match serde_json::Deserializer::from_str(text).into_iter::<Value>().next() {
        Some(Ok(Value::Object(_))) => "trailing_data",
        Some(Ok(_)) if text.trim_end().len() == text.len() && serde_json::from_str::<Value>(text).is_ok() => {
            "not_an_object"
        }
        Some(Ok(_)) => "trailing_data",
        _ if error.is_eof() => "truncated",
        _ => "bad_json",
    }
}

/// `20/Nov/2026:00:01:37 +0000`.
fn milliseconds(text: &str) -> i64 {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|month| *month == &text[3..6]).expect("a month") + 1;
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("digits");
    let zone = (number(22..24) * 60 + number(24..26)) * if &text[21..22] == "-" { -1 } else { 1 };
    let days = days(number(7..11), i64::try_from(month).expect("1 to 12"), number(0..2));
    (((days * 24 + number(12..14)) * 60 + number(15..17) - zone) * 60 + number(18..20)) * 1000
}

/// `2026-11-20T00:03:16.500Z`.
pub(super) fn instant(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("digits");
    assert!(text.ends_with('Z') && &text[10..11] == "T", "{text}");
    let fraction = if text.len() > 20 { number(20..23) } else { 0 };
    let days = days(number(0..4), number(5..7), number(8..10));
    (((days * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19)) * 1000 + fraction
}

/// Days since 1970-01-01 of a date, by counting.
#[must_use]
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let leap = |year: i64| i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let before: i64 = (1970..year).map(|year| 365 + leap(year)).sum();
    let months = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    before + months[..usize::try_from(month - 1).expect("a month")].iter().sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Source<'_> =
        Source { index: "logs-a-b", dataset: "a", path: "/a.log", fields: &[("host.name", "h")], assumed_time: 5 };

    fn one(form: Form, line: &[u8]) -> Record {
        AccessReader::new(form).read(line, &SOURCE).remove(0)
    }

    fn shown(record: &Record, field: &str) -> String {
        match record.values(field) {
            [] => "-".to_owned(),
            [Datum::Text(text)] => text.clone(),
            [Datum::Number(number)] => number.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_line_is_read_as_far_as_it_is_as_it_should_be() {
        let line =
            br#"192.0.2.1 - ann [20/Nov/2026:00:01:37 +0100] "GET /a/b.css?q=1 HTTP/1.1" 404 12 "-" "curl/8.14.1" 250"#;
        let record = one(Form::CombinedMicroseconds, line);
        for (field, value) in [
            ("@timestamp", "1795129297000"),
            ("calendar.weekday", "4 Thu"),
            ("calendar.hour", "23"),
            ("source.ip", "192.0.2.1"),
            ("user.name", "ann"),
            ("http.request.method", "GET"),
            ("url.path", "/a/b.css"),
            ("url.query", "q=1"),
            ("url.extension", "css"),
            ("http.response.status_code", "404"),
            ("event.outcome", "failure"),
            ("http.response.body.bytes", "12"),
            ("event.duration", "250000"),
            ("http.request.referrer", "-"),
            ("user_agent.original", "curl/8.14.1"),
            ("data_stream.namespace", "b"),
            ("host.name", "h"),
            ("tags", "-"),
        ] {
            assert_eq!(shown(&record, field), value, "{field}");
        }
        let cut = one(Form::Combined, &line[..60]);
        assert_eq!(shown(&cut, "source.ip"), "192.0.2.1");
        assert_eq!(shown(&cut, "@timestamp"), "1795129297000");
        assert_eq!((shown(&cut, "url.path").as_str(), shown(&cut, "tags").as_str()), ("-", "_parse_failure"));
        assert_eq!(shown(&cut, "event.kind"), "pipeline_error");
    }

    #[test]
    fn a_json_line_that_is_none_has_the_time_of_the_line_before() {
        let text = b"{\"@timestamp\":\"2026-11-20T00:03:16.500Z\",\"log.level\":\"INFO\",\"event.duration\":\"-\"}\n{\"@timest\n";
        let records = read_json(text, &SOURCE);
        assert_eq!(records[0].time(), 1_795_132_996_500);
        assert_eq!(records[1].time(), records[0].time());
        assert_eq!(shown(&records[0], "_ignored"), "event.duration");
        assert!(records[0].exists("_ignored") && !records[1].exists("log.level"));
    }

    #[test]
    fn a_form_with_stars_is_compared_from_both_ends() {
        let text = Datum::Text("/api/v1/cart/items".to_owned());
        for (form, like) in [
            ("/api*", true),
            ("*items", true),
            ("/api/*/items", true),
            ("/api", false),
            ("*cart", false),
            ("/*/x", false),
        ] {
            assert_eq!(text.is_like(form), like, "{form}");
        }
    }
}
