//! What one line becomes: left out by a rule, or parsed, enriched, dated and encoded. Nothing is allocated per line.

use super::plan::Plan;
use crate::config::Enrich;
use crate::encode::{Buffers, FileFields, IndexPattern, Item, Shapes, decide_time};
use crate::enrich::Chain;
use crate::parse::{Cache, Format};
use crate::record::{Document, FileId, LineId, RawLine};

/// Buffers and caches that live as long as their thread.
#[derive(Debug, Default)]
pub struct Transform {
    document: Document,
    cache: Cache,
    buffers: Buffers,
}

/// What a thread keeps of one source.
#[derive(Debug)]
pub struct OfSource {
    chain: Chain,
    pattern: Option<IndexPattern>,
    shapes: Shapes,
}

impl OfSource {
    /// Of the source that `plan` is made of.
    #[must_use]
    pub fn new(plan: &Plan, enrich: &Enrich) -> Self {
        Self { chain: Chain::new(enrich, plan.layout.keep()), pattern: plan.dated.clone(), shapes: Shapes::default() }
    }
}

/// What is the same for the lines of one turn of a file, and the time that goes from line to line.
#[derive(Debug)]
pub struct Context<'a> {
    /// The file's source.
    pub plan: &'a Plan,
    /// The file's format.
    pub format: &'a Format,
    /// Which enrichers are on, and which times are believed.
    pub enrich: &'a Enrich,
    /// Which file.
    pub file: FileId,
    /// Its fields in documents.
    pub fields: &'a FileFields,
    /// When its lines are read, in ns since 1970.
    pub read_at: i64,
    /// The last time that a line of it gave.
    pub last_time: Option<i64>,
}

impl Transform {
    /// Appends what is sent for `line` to `out`: its id, and where in `out` the document starts; `None` if a rule leaves
    /// it out.
    #[inline]
    pub fn line(
        &mut self,
        line: RawLine<'_>,
        context: &mut Context<'_>,
        source: &mut OfSource,
        out: &mut Vec<u8>,
    ) -> Option<(LineId, usize)> {
        if line.bytes.is_empty() || !context.plan.filter.keeps(line.bytes) {
            return None;
        }
        let Self { document, cache, buffers } = self;
        document.clear();
        context.format.parse(line.bytes, document, cache);
        let (time, remark) = decide_time(document.time, context.last_time, context.read_at, context.enrich);
        document.tags.add(remark);
        if remark.is_empty() {
            context.last_time = Some(time);
        }
        source.chain.apply(line.bytes, time, document);
        let id = LineId::new(context.file, line.offset, line.bytes);
        let index = source.pattern.as_mut().map(|pattern| pattern.fill(time));
        let item = Item { line, id, file: context.fields, time, index };
        Some((id, context.plan.layout.encode(&item, document, buffers, &mut source.shapes, out)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;

    /// The documents of the lines of one file.
    fn documents(config: &Config, lines: &[&str]) -> Vec<Value> {
        let plan = &Plan::compile(config, "host-1").unwrap()[0];
        let file = FileId([1; 8]);
        let fields = FileFields::new(Path::new("/var/log/a.log"), file);
        let mut context = Context {
            plan,
            format: plan.format.as_ref().unwrap(),
            enrich: &config.enrich,
            file,
            fields: &fields,
            // 2026-11-22T13:00:00Z, a Sunday.
            read_at: 1_795_352_400_000_000_000,
            last_time: None,
        };
        let (mut transform, mut source) = (Transform::default(), OfSource::new(plan, &config.enrich));
        let document = |line: &&str| {
            let mut out = Vec::new();
            let raw = RawLine { bytes: line.as_bytes(), offset: 0, cut: false };
            let (_, start) = transform.line(raw, &mut context, &mut source, &mut out).unwrap();
            serde_json::from_slice(&out[start..]).unwrap()
        };
        lines.iter().map(document).collect()
    }

    fn config(format: &str, enrich: &Value) -> Config {
        serde_json::from_value(json!({
            "sources": [{"name": "web", "paths": ["/a"], "dataset": "web", "format": format}], "enrich": enrich,
        }))
        .unwrap()
    }

    #[test]
    fn every_document_says_the_weekday_and_hour_of_its_timestamp() {
        for (format, line, weekday, hour) in [
            ("common", r#"a - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#, "7 Sun", 10),
            ("common", r#"a - - [17/May/2015:00:05:03 +0200] "GET / HTTP/1.1" 200 5"#, "6 Sat", 22),
            ("json", r#"{"@timestamp":"2016-02-29T23:00:00Z","message":"x"}"#, "1 Mon", 23),
            // The time of reading: a line that does not fit, one without a time, one with a time that is refused.
            ("common", "dirt", "7 Sun", 13),
            ("text", "no time", "7 Sun", 13),
            ("json", r#"{"message":"no time"}"#, "7 Sun", 13),
            ("json", r#"{"@timestamp":"2101-01-01T00:00:00Z"}"#, "7 Sun", 13),
        ] {
            let document = &documents(&config(format, &json!({})), &[line])[0];
            assert_eq!(document["calendar"], json!({"weekday": weekday, "hour": hour}), "{document}");
        }
    }

    #[test]
    fn a_line_without_a_time_has_the_calendar_of_the_time_it_is_given() {
        let lines = [r#"a - - [17/May/2015:10:59:59 +0000] "GET / HTTP/1.1" 200 5"#, "dirt"];
        let documents = documents(&config("common", &json!({})), &lines);
        assert_eq!(documents[1]["@timestamp"], documents[0]["@timestamp"]);
        assert_eq!(documents[1]["calendar"], json!({"weekday": "7 Sun", "hour": 10}));
    }

    #[test]
    fn a_calendar_of_the_lines_own_is_kept_beside_ours_where_they_do_not_clash() {
        let line = |calendar: &str| format!(r#"{{"@timestamp":"2016-02-29T23:00:00Z","calendar":{calendar}}}"#);
        for (own, expected) in [
            (r#"{"hour":"noon","quarter":1}"#, json!({"weekday": "1 Mon", "hour": 23, "quarter": 1})),
            (r#""Gregorian""#, json!({"weekday": "1 Mon", "hour": 23, "value": "Gregorian"})),
            ("null", json!({"weekday": "1 Mon", "hour": 23})),
        ] {
            let document = &documents(&config("json", &json!({})), &[&line(own)])[0];
            assert_eq!(document["calendar"], expected);
        }
        let off = config("json", &json!({"calendar": {"enabled": false}}));
        assert_eq!(documents(&off, &[&line(r#"{"hour":"noon"}"#)])[0]["calendar"], json!({"hour": "noon"}));
    }

    #[test]
    fn without_the_switch_no_document_has_a_calendar() {
        let off = config("text", &json!({"calendar": {"enabled": false}}));
        assert_eq!(documents(&off, &["x"])[0].get("calendar"), None);
    }
}
