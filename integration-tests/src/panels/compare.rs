//! Compares an answer with what the records say: every bucket is expected to be there, none else, and each number to be what
//! the records of that bucket come to. Counts, sums, means, extremes, terms and their order, and ranges are exact; so is the number of
//! different values, but that Elasticsearch may take some of a thousand for one. A percentile's place among all values may be one of
//! a hundred of them away, and one value more.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use serde_json::Value;

use super::ask::{Ask, Bucket, By, Cluster, Hits, Level, Metric, Terms};
use super::expected::{
    Bounds, PLACE, around, bounds, compare_keys, compare_terms, count, divide, has_value, numbers, order_value,
    sort_values, value,
};
use super::math;
use super::record::{Datum, Record};

/// What comparing came to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How many numbers were compared.
    pub numbers: u64,
    /// What had a value at least once: metrics and named filters.
    pub seen: BTreeSet<String>,
    /// What should have one.
    pub wanted: BTreeSet<String>,
    /// What is not as it should be.
    pub errors: Vec<String>,
}

/// Of one panel, more are not read.
const ERRORS: usize = 5;

impl Findings {
    pub(super) fn error(&mut self, text: String) {
        if self.errors.len() < ERRORS {
            self.errors.push(text);
        }
    }

    fn equal(&mut self, at: &str, found: Option<f64>, expected: Option<f64>) {
        self.within(at, found, expected.map(|expected| (expected, expected)));
    }

    /// Expected from the one to the other, in any order.
    fn within(&mut self, at: &str, found: Option<f64>, expected: Option<(f64, f64)>) {
        self.numbers += 1;
        let fits = match (found, expected) {
            (Some(found), Some((one, other))) => {
                near(found, one) || near(found, other) || (one.min(other)..=one.max(other)).contains(&found)
            }
            (found, expected) => found.is_none() && expected.is_none(),
        };
        if !fits {
            let expected = match expected {
                Some((one, other)) if near(one, other) => one.to_string(),
                Some((one, other)) => format!("one from {one} to {other}"),
                None => "nothing".to_owned(),
            };
            self.error(format!("{at}: {} instead of {expected}", shown(found)));
        }
    }
}

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-9 * left.abs().max(right.abs()).max(1.0)
}

fn shown(number: Option<f64>) -> String {
    number.map_or_else(|| "nothing".to_owned(), |number| number.to_string())
}

/// Compares the answer to a request with the records that it is about.
#[must_use]
pub fn compare(ask: &Ask, answer: &Value, records: &[&Record], cluster: Cluster) -> Findings {
    let mut comparison = Comparison { ask, cluster, findings: Findings::default() };
    let found = answer["hits"]["total"]["value"].as_f64();
    comparison.findings.equal("documents", found, Some(count(records)));
    let names = ask.level.names().into_iter().map(|id| comparison.name(&format!("metric {id}")));
    comparison.findings.wanted = names.collect();
    comparison.level(&ask.level, &answer["aggregations"], records, "");
    if let Some(hits) = &ask.hits {
        comparison.hits(hits, answer, records);
    }
    comparison.findings
}

/// The buckets of a histogram that are expected.
struct Histogram<'a> {
    expected: Vec<(Datum, Vec<&'a Record>)>,
    /// Whether there may be others, without documents.
    empty: bool,
    /// No more than the width of a bucket, in the unit of its key.
    width: f64,
}

/// A metric's number: of its id, the metric, and which percentile.
type NumberOf<'a> = dyn Fn(&str, &Metric, Option<f64>) -> Option<f64> + 'a;

struct Comparison<'a> {
    ask: &'a Ask,
    cluster: Cluster,
    findings: Findings,
}

impl Comparison<'_> {
    fn name(&self, what: &str) -> String {
        if self.ask.name.is_empty() { what.to_owned() } else { format!("{} {what}", self.ask.name) }
    }

    fn seen(&mut self, what: &str, is: bool) {
        let name = self.name(what);
        if is {
            self.findings.seen.insert(name.clone());
        }
        self.findings.wanted.insert(name);
    }

    fn level(&mut self, level: &Level, answer: &Value, records: &[&Record], at: &str) {
        for (id, metric) in &level.metrics {
            self.metric(id, metric, answer, records, at);
        }
        // Not of what is counted within a ratio.
        if std::ptr::eq(level, self.ask.level.innermost()) {
            self.maths(level, answer, records, at);
        }
        if let Some(below) = &level.below {
            let (id, bucket, inner) = &**below;
            self.bucket(bucket, inner, &answer[id], records, &format!("{at}/{id}"));
        }
    }

    fn metric(&mut self, id: &str, metric: &Metric, answer: &Value, records: &[&Record], at: &str) {
        let at = format!("{at}/{id}");
        self.seen(&format!("metric {id}"), has_value(metric, records));
        match metric {
            Metric::Count => {}
            // Empty buckets have no scripted numbers.
            Metric::ScriptedCount if self.cluster == Cluster::Core || records.is_empty() => {}
            Metric::Percentiles(field, percents) => {
                let sorted = numbers(records, field);
                for percent in percents {
                    self.percentile(&format!("{at} p{percent}"), listed(&answer[id], *percent), &sorted, *percent);
                }
            }
            Metric::Ranks(field, limits) => {
                let sorted = numbers(records, field);
                for limit in limits {
                    self.rank(&format!("{at} up to {limit}"), listed(&answer[id], *limit), &sorted, *limit);
                }
            }
            Metric::Over(_, bucket, inner) => {
                let over = Level { metrics: vec![(format!("{id}-metric"), (**inner).clone())], below: None };
                self.bucket(bucket, &over, &answer[format!("{id}-bucket")], records, &at);
                self.findings.equal(&at, answer[id]["value"].as_f64(), value(metric, records));
            }
            Metric::Ratio(numerator, denominator, inner) => {
                for (part, query) in [("numerator", numerator), ("denominator", denominator)] {
                    let meant: Vec<&Record> = records.iter().copied().filter(|record| query.matches(record)).collect();
                    let filtered = &answer[format!("{id}-{part}")];
                    let level = Level { metrics: vec![("metric".to_owned(), (**inner).clone())], below: None };
                    self.bucket_of(filtered, &level, &meant, &format!("{at} {part}"));
                }
                if self.cluster == Cluster::Whole && !records.is_empty() {
                    self.findings.within(&at, answer[id]["value"].as_f64(), bounds(metric, None, records));
                }
            }
            Metric::Latest { field, by, descending } => self.latest(&at, &answer[id], records, field, by, *descending),
            Metric::Of(..) | Metric::ScriptedCount => {
                self.findings.within(&at, answer[id]["value"].as_f64(), bounds(metric, None, records));
            }
        }
    }

    /// Of several documents that are equally late, any.
    fn latest(&mut self, at: &str, answer: &Value, records: &[&Record], field: &str, by: &str, descending: bool) {
        let times = numbers(records, by);
        let time = if descending { times.last() } else { times.first() };
        let is_latest = |record: &&&Record| numbers(&[record], by).first() == time;
        let found = &answer["hits"]["hits"][0]["fields"][field][0];
        let is = |record: &Record| match record.values(field).first() {
            Some(Datum::Number(number)) => found.as_f64().is_some_and(|found| near(found, *number)),
            Some(Datum::Text(text)) => found.as_str() == Some(text),
            None => found.is_null(),
        };
        self.findings.numbers += 1;
        if !records.is_empty() && !records.iter().filter(is_latest).any(|record| is(record)) {
            self.findings.error(format!("{at}: {found} is not of the latest document"));
        }
    }

    fn percentile(&mut self, at: &str, found: Option<f64>, sorted: &[f64], percent: f64) {
        self.findings.within(at, found, around(sorted, percent));
    }

    fn rank(&mut self, at: &str, found: Option<f64>, sorted: &[f64], limit: f64) {
        self.findings.numbers += 1;
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let (below, all) = (sorted.iter().filter(|value| **value <= limit).count() as f64, sorted.len() as f64);
        let fits = match found {
            Some(found) if all > 0.0 => (found - 100.0 * below / all).abs() <= 100.0 * (PLACE + 1.0 / all),
            found => found.is_none(),
        };
        if !fits {
            self.findings.error(format!("{at}: {} instead of {}", shown(found), 100.0 * below / all));
        }
    }

    /// One bucket that was asked for by itself.
    fn bucket_of(&mut self, answer: &Value, inner: &Level, records: &[&Record], at: &str) {
        self.findings.equal(&format!("{at} documents"), answer["doc_count"].as_f64(), Some(count(records)));
        self.level(inner, answer, records, at);
    }

    fn bucket(&mut self, bucket: &Bucket, inner: &Level, answer: &Value, records: &[&Record], at: &str) {
        match bucket {
            Bucket::Filter(query) => {
                let meant: Vec<&Record> = records.iter().copied().filter(|record| query.matches(record)).collect();
                self.bucket_of(answer, inner, &meant, at);
            }
            Bucket::Filters(filters) => {
                for (name, query) in filters {
                    let meant: Vec<&Record> = records.iter().copied().filter(|record| query.matches(record)).collect();
                    self.seen(&format!("filter {name}"), !meant.is_empty());
                    self.bucket_of(&answer["buckets"][name], inner, &meant, &format!("{at} {name}"));
                }
            }
            Bucket::Ranges(field, ranges) => {
                let found: Vec<&Value> =
                    answer["buckets"].as_object().into_iter().flat_map(|map| map.values()).collect();
                for (from, to) in ranges {
                    let is = |value: f64| from.is_none_or(|from| value >= from) && to.is_none_or(|to| value < to);
                    let of = |record: &&Record| numbers(&[record], field).iter().any(|value| is(*value));
                    let meant: Vec<&Record> = records.iter().copied().filter(of).collect();
                    let name = format!("{} to {}", shown(*from), shown(*to));
                    self.seen(&format!("range {name}"), !meant.is_empty());
                    let one = found.iter().find(|one| one["from"].as_f64() == *from && one["to"].as_f64() == *to);
                    self.bucket_of(one.copied().unwrap_or(&Value::Null), inner, &meant, &format!("{at} {name}"));
                }
            }
            Bucket::AllTimes => {
                let buckets = answer["buckets"].as_array().map_or(&[][..], Vec::as_slice);
                match (buckets, records) {
                    ([], []) => {}
                    ([one], [_, ..]) => self.bucket_of(one, inner, records, at),
                    _ => self.findings.error(format!("{at}: {} buckets of all times", buckets.len())),
                }
            }
            Bucket::Dates { empty, .. } | Bucket::Numbers { empty, .. } => {
                let width = if let Bucket::Numbers { interval, .. } = bucket { *interval } else { 1.0 };
                let histogram = Histogram { expected: divide(bucket, records), empty: *empty, width };
                self.histogram(&histogram, inner, answer, at);
            }
            Bucket::Terms(terms) => self.terms(terms, divide(bucket, records), inner, answer, at),
        }
    }

    fn histogram(&mut self, histogram: &Histogram<'_>, inner: &Level, answer: &Value, at: &str) {
        let found = answer["buckets"].as_array().map_or(&[][..], Vec::as_slice);
        let Histogram { expected, empty, width } = histogram;
        let is_at =
            |datum: &Datum, key: f64| matches!(datum, Datum::Number(number) if (number - key).abs() < 0.01 * width);
        let mut rest = expected.iter().peekable();
        for one in found {
            let key = one["key"].as_f64().unwrap_or(f64::NAN);
            let at = format!("{at} {}", one["key_as_string"].as_str().map_or_else(|| key.to_string(), str::to_owned));
            let matching = rest.next_if(|(datum, _)| is_at(datum, key));
            if let Some((_, records)) = matching {
                self.bucket_of(one, inner, records, &at);
            } else if !*empty || one["doc_count"] != 0 {
                self.findings.error(format!("{at}: there should be no such bucket: {} documents", one["doc_count"]));
                return;
            } else {
                self.bucket_of(one, inner, &[], &at);
            }
        }
        if let Some((key, records)) = rest.next() {
            self.findings.error(format!("{at}: no bucket {key:?} of {} documents", records.len()));
        }
    }

    fn terms(&mut self, terms: &Terms, groups: Vec<(Datum, Vec<&Record>)>, inner: &Level, answer: &Value, at: &str) {
        let found = answer["buckets"].as_array().map_or(&[][..], Vec::as_slice);
        let mut ordered: Vec<(Option<f64>, Datum, Vec<&Record>)> =
            groups.into_iter().map(|(key, records)| (order_value(terms, &records), key, records)).collect();
        ordered.sort_by(|left, right| {
            let by_key = || compare_terms(&terms.field, &left.1, &right.1);
            let turned = |ordering: std::cmp::Ordering| if terms.descending { ordering.reverse() } else { ordering };
            match (&terms.by, left.0, right.0) {
                (By::Key, ..) => turned(by_key()),
                (_, Some(one), Some(other)) => turned(one.total_cmp(&other)).then_with(by_key),
                // What has no value is last, whatever the order.
                (_, one, other) => one.is_none().cmp(&other.is_none()).then_with(by_key),
            }
        });
        let wanted = ordered.len().min(terms.size);
        if found.len() != wanted {
            self.findings.error(format!("{at}: {} terms instead of {wanted}", found.len()));
            return;
        }
        let estimated = matches!(&terms.by, By::Metric(_, Metric::Percentiles(..)));
        let mut left_out: Vec<&(Option<f64>, Datum, Vec<&Record>)> = ordered.iter().collect();
        for (position, one) in found.iter().enumerate() {
            let key = match &one["key"] {
                Value::String(text) => Datum::Text(text.clone()),
                other => Datum::Number(other.as_f64().unwrap_or(f64::NAN)),
            };
            let at = format!("{at} {}", one["key"]);
            if !estimated && ordered[position].1 != key {
                self.findings.error(format!("{at}: in the place of {:?}", ordered[position].1));
                return;
            }
            let Some(index) = left_out.iter().position(|(_, other, _)| *other == key) else {
                self.findings.error(format!("{at}: there should be no such term"));
                return;
            };
            let (_, _, records) = left_out.remove(index);
            self.findings.numbers += 1;
            self.bucket_of(one, inner, records, &at);
        }
        if let (true, Some(last)) = (estimated, found.last()) {
            self.estimated_order(terms, found, last, &left_out, at);
        }
    }

    /// Terms by percentiles: in the order of the percentiles in the answer, and none is left out that is surely before the last.
    fn estimated_order(
        &mut self,
        terms: &Terms,
        found: &[Value],
        last: &Value,
        left_out: &[&(Option<f64>, Datum, Vec<&Record>)],
        at: &str,
    ) {
        let By::Metric(path, Metric::Percentiles(field, _)) = &terms.by else { return };
        let (id, percent) = path.split_once('.').unwrap_or((path, "50"));
        let percent: f64 = percent.parse().unwrap_or(50.0);
        let of = |bucket: &Value| listed(&bucket[id], percent);
        let in_order = |pair: &[Value]| match (of(&pair[0]), of(&pair[1])) {
            (Some(one), Some(other)) => {
                if terms.descending {
                    one >= other
                } else {
                    one <= other
                }
            }
            (one, other) => one.is_some() || other.is_none(),
        };
        if !found.windows(2).all(in_order) {
            self.findings.error(format!("{at}: the terms are not in the order of {path}"));
        }
        for (_, key, records) in left_out {
            let Some((least, greatest)) = around(&numbers(records, field), percent) else { continue };
            let missed = of(last).is_none_or(|last| if terms.descending { least > last } else { greatest < last });
            if missed {
                self.findings.error(format!("{at}: {key:?} is left out, though it comes before the last"));
            }
        }
    }

    /// What Kibana computes of the numbers: of those in the answer, and of those expected. A percentile is expected to be one from
    /// here to there, and so is what is computed of it.
    fn maths(&mut self, level: &Level, answer: &Value, records: &[&Record], at: &str) {
        if records.is_empty() {
            return;
        }
        for (script, variables) in &self.ask.maths {
            match self.math(script, variables, level, answer, records) {
                Ok((found, expected)) => {
                    self.seen("math", expected.is_some());
                    self.findings.within(&format!("{at} {script}"), found, expected);
                }
                Err(error) => self.findings.error(format!("{at}: {error:#}")),
            }
        }
    }

    fn math(
        &self,
        script: &str,
        variables: &[(String, String)],
        level: &Level,
        answer: &Value,
        records: &[&Record],
    ) -> Result<(Option<f64>, Bounds)> {
        // `ID`, or `ID[95.0]` of a percentile.
        let metric = |name: &str| -> Result<(&str, &Metric, Option<f64>)> {
            let (_, field) = variables
                .iter()
                .find(|(variable, _)| variable == name)
                .with_context(|| format!("no variable {name}"))?;
            let (id, percent) = field.trim_end_matches(']').split_once('[').unwrap_or((field, ""));
            let (id, metric) =
                level.metrics.iter().find(|(metric, _)| metric == id).with_context(|| format!("no metric {id}"))?;
            if let Metric::Percentiles(_, percents) = metric {
                let percent = percent.parse().with_context(|| format!("no percentile: {field}"))?;
                anyhow::ensure!(percents.contains(&percent), "no percentile {percent}");
                return Ok((id, metric, Some(percent)));
            }
            Ok((id, metric, None))
        };
        let interval = self.ask.level.interval();
        let of = |number: &NumberOf<'_>| {
            math::value(script, &|name| match name {
                "_interval" => Ok(interval),
                name => metric(name).map(|(id, metric, percent)| number(id, metric, percent)),
            })
        };
        let bound = |greatest: bool| {
            of(&|_, metric, percent| bounds(metric, percent, records).map(|of| if greatest { of.1 } else { of.0 }))
        };
        let found = of(&|id, metric, percent| match percent {
            Some(percent) => listed(&answer[id], percent),
            None => in_answer(id, metric, answer),
        })?;
        Ok((found, bound(false)?.zip(bound(true)?)))
    }

    fn hits(&mut self, wanted: &Hits, answer: &Value, records: &[&Record]) {
        self.seen("documents", !records.is_empty());
        let found = answer["hits"]["hits"].as_array().map_or(&[][..], Vec::as_slice);
        let mut sorted: Vec<Vec<Option<Datum>>> = records.iter().map(|record| sort_values(wanted, record)).collect();
        sorted.sort_by(|left, right| {
            let fields = left.iter().zip(right).zip(&wanted.sort);
            let orders = fields.map(|((one, other), (_, descending))| match (one, other) {
                (Some(one), Some(other)) if *descending => compare_keys(other, one),
                (Some(one), Some(other)) => compare_keys(one, other),
                (one, other) => one.is_none().cmp(&other.is_none()),
            });
            orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        sorted.truncate(wanted.size);
        if found.len() != sorted.len() {
            self.findings.error(format!("{} documents instead of {}", found.len(), sorted.len()));
            return;
        }
        let by_line: HashMap<(&str, u64), &Record> =
            records.iter().filter_map(|record| Some((record.line()?, *record))).collect();
        let by_id: HashMap<&str, &Record> =
            records.iter().filter_map(|record| Some((record.id.as_deref()?, *record))).collect();
        for (hit, sort) in found.iter().zip(&sorted) {
            let source = &hit["_source"];
            let line = (source["log"]["file"]["path"].as_str().unwrap_or_default(), source["log"]["offset"].as_u64());
            let record = line.1.and_then(|offset| by_line.get(&(line.0, offset)));
            let record = record.or_else(|| by_id.get(hit["_id"].as_str()?));
            let Some(record) = record else {
                self.findings.error(format!("a document of no line that is meant: {source}"));
                return;
            };
            self.findings.numbers += 1;
            if sort_values(wanted, record) != *sort {
                self.findings.error(format!("{line:?} is not in its place: {sort:?} was expected"));
                return;
            }
            for column in &wanted.columns {
                self.column(column, hit, record, &format!("{line:?}"));
            }
        }
    }

    fn column(&mut self, column: &str, hit: &Value, record: &Record, at: &str) {
        let there = &hit["_source"];
        let there = column.split('.').fold(there, |value, key| &value[key]);
        if column.starts_with('_') || column == "@timestamp" || there.is_null() && !record.exists(column) {
            return;
        }
        self.seen(&format!("column {column}"), true);
        let list = there.as_array().map_or_else(|| vec![there], |list| list.iter().collect());
        let refused = record.values("_ignored").contains(&Datum::Text(column.to_owned()));
        let values = record.values(column);
        let equal = match record.shown(column) {
            Some(text) => there.as_str() == Some(text),
            None if refused => !there.is_null(),
            None if values.is_empty() => list.is_empty() || record.exists(column) && !there.is_null(),
            None => {
                let is = |(value, datum): (&&Value, &Datum)| match datum {
                    Datum::Text(text) => value.as_str() == Some(text),
                    Datum::Number(number) => value.as_f64() == Some(*number),
                };
                list.len() == values.len() && list.iter().zip(values).all(is)
            }
        };
        self.findings.numbers += 1;
        if !equal {
            let expected = record.shown(column).map_or_else(|| format!("{values:?}"), str::to_owned);
            self.findings.error(format!("{at} {column}: {there} instead of {expected}"));
        }
    }
}

/// A metric's number in the answer, computed of its parts where the cluster runs no scripts.
fn in_answer(id: &str, metric: &Metric, answer: &Value) -> Option<f64> {
    match metric {
        Metric::Count | Metric::ScriptedCount => answer["doc_count"].as_f64(),
        Metric::Percentiles(_, percents) => listed(&answer[id], *percents.first()?),
        Metric::Ratio(_, _, inner) => {
            let part = |part: &str| in_answer("metric", inner, &answer[format!("{id}-{part}")]);
            match (part("numerator"), part("denominator")) {
                (Some(one), Some(other)) if other > 0.0 => Some(one / other),
                _ => Some(0.0),
            }
        }
        _ => answer[id]["value"].as_f64(),
    }
}

/// The value of a percentile or rank in an answer.
fn listed(answer: &Value, wanted: f64) -> Option<f64> {
    let values = answer["values"].as_object()?;
    let (_, value) = values.iter().find(|(key, _)| key.parse().is_ok_and(|key: f64| near(key, wanted)))?;
    value.as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::panels::interval::{Every, Period};
    use crate::panels::query::{Query, kql};

    fn record(minute: i64, path: &str, status: f64, duration: f64) -> Record {
        let mut record = Record::new("logs");
        record.at(minute * 60_000);
        record.text("url.path", path);
        record.number("status", status);
        record.number("duration", duration);
        record
    }

    fn records() -> Vec<Record> {
        vec![record(0, "/a", 200.0, 10.0), record(1, "/a", 500.0, 20.0), record(90, "/b", 200.0, 60.0)]
    }

    fn ask(metrics: &[(&str, Metric)], below: Option<(Bucket, Level)>) -> Ask {
        let metrics = metrics.iter().map(|(id, metric)| ((*id).to_owned(), metric.clone())).collect();
        let below = below.map(|(bucket, level)| Box::new(("2".to_owned(), bucket, level)));
        let level = Level { metrics, below };
        let (name, pattern, hits, maths) = (String::new(), "logs".to_owned(), None, Vec::new());
        let mut ask = Ask { name, pattern, query: Query::All, shift: 0, timed: true, level, hits, maths };
        ask.choose(&Period { name: String::new(), from: 0, to: 86_400_000 }, None).unwrap();
        ask
    }

    /// Every answer that differs in one number or text, each with where.
    fn changed(answer: &Value) -> Vec<(String, Value)> {
        match answer {
            Value::Number(number) => vec![(String::new(), json!(number.as_f64().unwrap() * 1.5 + 1.0))],
            Value::String(text) => vec![(String::new(), json!(format!("{text}x")))],
            Value::Array(list) => list
                .iter()
                .enumerate()
                .flat_map(|(index, one)| changed(one).into_iter().map(move |(at, one)| (index, at, one)))
                .map(|(index, at, one)| {
                    let mut all = answer.clone();
                    all[index] = one;
                    (format!("/{index}{at}"), all)
                })
                .collect(),
            Value::Object(object) => object
                .iter()
                .flat_map(|(key, one)| changed(one).into_iter().map(move |(at, one)| (key, at, one)))
                .map(|(key, at, one)| {
                    let mut all = answer.clone();
                    all[key] = one;
                    (format!("/{key}{at}"), all)
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The answer is right, and none that differs from it in one place.
    fn only_right(ask: &Ask, aggregations: &Value) {
        let records = records();
        let records: Vec<&Record> = records.iter().collect();
        let answer = json!({"hits": {"total": {"value": 3}}, "aggregations": aggregations});
        assert_eq!(compare(ask, &answer, &records, Cluster::Whole).errors, Vec::<String>::new());
        let changed = changed(&answer);
        assert!(changed.len() > 1);
        for (at, answer) in changed {
            assert!(!compare(ask, &answer, &records, Cluster::Whole).errors.is_empty(), "{at} is not compared");
        }
    }

    fn of(operation: &'static str, field: &str) -> Metric {
        Metric::Of(operation, field.to_owned())
    }

    #[test]
    fn no_number_of_a_metric_can_differ() {
        let metrics = [
            ("1", of("sum", "duration")),
            ("2", of("avg", "duration")),
            ("3", of("max", "duration")),
            ("4", of("cardinality", "url.path")),
            ("5", Metric::Percentiles("duration".to_owned(), vec![50.0])),
            ("6", Metric::Ratio(kql("status >= 500").unwrap(), Query::All, Box::new(Metric::Count))),
        ];
        let aggregations = json!({
            "1": {"value": 90}, "2": {"value": 30.0}, "3": {"value": 60}, "4": {"value": 2}, "5": {"values": {"50.0": 45}},
            "6-numerator": {"doc_count": 1}, "6-denominator": {"doc_count": 3}, "6": {"value": 1.0 / 3.0},
        });
        only_right(&ask(&metrics, None), &aggregations);
    }

    #[test]
    fn no_term_and_no_count_of_it_can_differ() {
        let by = By::Metric("1".to_owned(), of("sum", "duration"));
        let terms = Terms { field: "url.path".to_owned(), size: 5, by, descending: true, missing: None };
        let below = Level { metrics: vec![("1".to_owned(), of("sum", "duration"))], below: None };
        let right = json!([
            {"key": "/b", "doc_count": 1, "1": {"value": 60}},
            {"key": "/a", "doc_count": 2, "1": {"value": 30}},
        ]);
        let ask = ask(&[], Some((Bucket::Terms(terms), below)));
        only_right(&ask, &json!({"2": {"buckets": right}}));
        let records = records();
        let records: Vec<&Record> = records.iter().collect();
        for wrong in [json!([right[1], right[0]]), json!([right[0]]), json!([])] {
            let answer = json!({"hits": {"total": {"value": 3}}, "aggregations": {"2": {"buckets": wrong}}});
            assert!(!compare(&ask, &answer, &records, Cluster::Whole).errors.is_empty(), "{wrong}");
        }
    }

    #[test]
    fn no_bucket_of_dates_ranges_or_filters_can_differ() {
        let dates = Bucket::Dates { every: Every::Aggregation("h".to_owned()), empty: false, step: None };
        let buckets = json!([{"key": 0, "doc_count": 2}, {"key": 3_600_000, "doc_count": 1}]);
        only_right(&ask(&[], Some((dates, Level::default()))), &json!({"2": {"buckets": buckets}}));
        let ranges = Bucket::Ranges("status".to_owned(), vec![(Some(200.0), Some(300.0)), (Some(500.0), None)]);
        let buckets =
            json!({"200.0-300.0": {"from": 200, "to": 300, "doc_count": 2}, "500.0-*": {"from": 500, "doc_count": 1}});
        only_right(&ask(&[], Some((ranges, Level::default()))), &json!({"2": {"buckets": buckets}}));
        let filters =
            Bucket::Filters(vec![("a".to_owned(), kql("url.path: /a").unwrap()), ("all".to_owned(), Query::All)]);
        let buckets = json!({"a": {"doc_count": 2}, "all": {"doc_count": 3}});
        only_right(&ask(&[], Some((filters, Level::default()))), &json!({"2": {"buckets": buckets}}));
    }
}
