//! What the records come to: the number of each metric, with how far an answer may be off it, and the records of each bucket, in
//! its order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ask::{Bucket, By, Hits, Metric, Terms};
use super::record::{Datum, Record};

/// A percentile's place may be so much beside, as a share of all values.
pub(super) const PLACE: f64 = 0.01;
/// Beyond so many, the number of different values is an estimate; up to here, some of a thousand may be taken for one.
const PRECISION: f64 = 3000.0;
/// From where to where a number may be; nothing where there is none.
pub(super) type Bounds = Option<(f64, f64)>;

#[expect(clippy::cast_precision_loss, reason = "counts of records are small")]
pub(super) fn count(records: &[&Record]) -> f64 {
    records.len() as f64
}

/// All numbers of a field, sorted.
pub(super) fn numbers(records: &[&Record], field: &str) -> Vec<f64> {
    let all = records.iter().flat_map(|record| record.values(field));
    let mut numbers: Vec<f64> =
        all.filter_map(|datum| if let Datum::Number(number) = datum { Some(*number) } else { None }).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// How many different values there are.
fn different(records: &[&Record], field: &str) -> usize {
    let key = |datum: &Datum| match datum {
        Datum::Text(text) => (text.clone(), 0),
        Datum::Number(number) => (String::new(), number.to_bits()),
    };
    records.iter().flat_map(|record| record.values(field)).map(key).collect::<BTreeSet<_>>().len()
}

/// Whether the metric has something to be computed of.
pub(super) fn has_value(metric: &Metric, records: &[&Record]) -> bool {
    match metric {
        Metric::Count | Metric::ScriptedCount => !records.is_empty(),
        Metric::Of(_, field) | Metric::Percentiles(field, _) | Metric::Ranks(field, _) => {
            records.iter().any(|record| !record.values(field).is_empty())
        }
        Metric::Latest { field, .. } => records.iter().any(|record| !record.values(field).is_empty()),
        Metric::Over(_, bucket, inner) => divide(bucket, records).iter().any(|(_, records)| has_value(inner, records)),
        // A share that is always zero would look the same if its query meant nothing.
        Metric::Ratio(numerator, denominator, _) => {
            records.iter().any(|record| numerator.matches(record))
                && records.iter().any(|record| denominator.matches(record))
        }
    }
}

/// The exact number; nothing of no values. Of several percentiles, the first.
pub(super) fn value(metric: &Metric, records: &[&Record]) -> Option<f64> {
    match metric {
        Metric::Count | Metric::ScriptedCount => Some(count(records)),
        #[expect(clippy::cast_precision_loss, reason = "small")]
        Metric::Of("cardinality", field) => Some(different(records, field) as f64),
        Metric::Of("sum", field) => Some(numbers(records, field).iter().sum()),
        Metric::Of("min", field) => numbers(records, field).first().copied(),
        Metric::Of("max", field) => numbers(records, field).last().copied(),
        Metric::Of(_, field) => mean(&numbers(records, field)),
        Metric::Percentiles(field, percents) => exact_percentile(&numbers(records, field), *percents.first()?),
        Metric::Ranks(..) | Metric::Latest { .. } => None,
        Metric::Over(operation, bucket, inner) => {
            let all: Vec<f64> =
                divide(bucket, records).iter().filter_map(|(_, records)| value(inner, records)).collect();
            match *operation {
                "sum_bucket" => Some(all.iter().sum()),
                "min_bucket" => all.iter().copied().reduce(f64::min),
                "max_bucket" => all.iter().copied().reduce(f64::max),
                _ => mean(&all),
            }
        }
        Metric::Ratio(numerator, denominator, inner) => {
            let part = |query: &super::query::Query| {
                let meant: Vec<&Record> = records.iter().copied().filter(|record| query.matches(record)).collect();
                value(inner, &meant)
            };
            Some(match (part(numerator), part(denominator)) {
                (Some(one), Some(other)) if other > 0.0 => one / other,
                _ => 0.0,
            })
        }
    }
}

/// From where to where the number may be: the exact one twice, but of what Elasticsearch estimates.
pub(super) fn bounds(metric: &Metric, percent: Option<f64>, records: &[&Record]) -> Bounds {
    match (metric, percent) {
        (Metric::Percentiles(field, _), Some(percent)) => around(&numbers(records, field), percent),
        (Metric::Of("cardinality", _), _) => {
            let exact = value(metric, records)?;
            let beside = if exact > PRECISION { 0.05 * exact } else { (exact / 1000.0).floor() };
            Some((exact - beside, exact + beside))
        }
        (Metric::Ratio(numerator, denominator, inner), _) => {
            let part = |query: &super::query::Query| {
                let meant: Vec<&Record> = records.iter().copied().filter(|record| query.matches(record)).collect();
                bounds(inner, None, &meant)
            };
            let exact = value(metric, records)?;
            match (part(numerator), part(denominator)) {
                (Some((least, greatest)), Some((one, other))) if one > 0.0 => Some((least / other, greatest / one)),
                _ => Some((exact, exact)),
            }
        }
        _ => value(metric, records).map(|exact| (exact, exact)),
    }
}

fn mean(numbers: &[f64]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "small")]
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
fn exact_percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[((percent / 100.0 * last as f64).round() as usize).min(last)])
}

/// From where to where a percentile may be.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
pub(super) fn around(sorted: &[f64], percent: f64) -> Option<(f64, f64)> {
    let last = sorted.len().checked_sub(1)?;
    let place = |share: f64, beside: f64| (share * last as f64 + beside).clamp(0.0, last as f64);
    let least = place(percent / 100.0 - PLACE, -1.0).floor() as usize;
    let greatest = place(percent / 100.0 + PLACE, 1.0).ceil() as usize;
    Some((sorted[least], sorted[greatest]))
}

pub(super) fn order_value(terms: &Terms, records: &[&Record]) -> Option<f64> {
    match &terms.by {
        By::Count | By::Key => Some(count(records)),
        By::Metric(path, Metric::Percentiles(field, _)) => {
            exact_percentile(&numbers(records, field), path.split_once('.')?.1.parse().ok()?)
        }
        By::Metric(_, metric) => value(metric, records),
    }
}

pub(super) fn compare_keys(left: &Datum, right: &Datum) -> std::cmp::Ordering {
    match (left, right) {
        (Datum::Number(left), Datum::Number(right)) => left.total_cmp(right),
        (Datum::Text(left), Datum::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Datum::Number(_), Datum::Text(_)) => std::cmp::Ordering::Less,
        (Datum::Text(_), Datum::Number(_)) => std::cmp::Ordering::Greater,
    }
}

/// Addresses are sorted by their bits, those of version 4 as version 6 writes them.
pub(super) fn compare_terms(field: &str, left: &Datum, right: &Datum) -> std::cmp::Ordering {
    let bits = |datum: &Datum| match datum {
        Datum::Text(text) if field == "source.ip" => match text.parse().ok()? {
            IpAddr::V4(address) => Some(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Some(address.to_bits()),
        },
        _ => None,
    };
    match (bits(left), bits(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => compare_keys(left, right),
    }
}

pub(super) fn sort_values(hits: &Hits, record: &Record) -> Vec<Option<Datum>> {
    hits.sort.iter().map(|(field, _)| record.values(field).first().cloned()).collect()
}

/// The records of each value or interval, in its order. A record with several values is in several.
pub(super) fn divide<'a>(bucket: &Bucket, records: &[&'a Record]) -> Vec<(Datum, Vec<&'a Record>)> {
    let mut groups: BTreeMap<Key, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let keys: BTreeSet<Key> = match bucket {
            Bucket::Terms(terms) => {
                let values: BTreeSet<Key> = record.values(&terms.field).iter().cloned().map(Key).collect();
                match &terms.missing {
                    Some(missing) if values.is_empty() => BTreeSet::from([Key(Datum::Text(missing.clone()))]),
                    _ => values,
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in a double")]
            Bucket::Dates { step: Some(step), .. } => {
                BTreeSet::from([Key(Datum::Number(step.floor(record.time()) as f64))])
            }
            Bucket::Numbers { field, interval, .. } => {
                let all = numbers(&[record], field);
                all.iter().map(|value| Key(Datum::Number((value / interval).floor() * interval))).collect()
            }
            other => panic!("not divided by values: {other:?}"),
        };
        for key in keys {
            groups.entry(key).or_default().push(record);
        }
    }
    groups.into_iter().map(|(key, records)| (key.0, records)).collect()
}

/// A value that can be sorted.
#[derive(Clone, Debug)]
struct Key(Datum);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        compare_keys(&self.0, &other.0).is_eq()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare_keys(&self.0, &other.0)
    }
}
