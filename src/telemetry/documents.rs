//! What happened between two looks at the instruments, as documents for Elasticsearch: one of the daemon, and one of each
//! source. Pure, but for the queue of those that wait to be sent.
//!
//! Counts are those since the look before, so that they can be summed over any time; levels are those of the moment. Times
//! are in nanoseconds, sizes in bytes.
//!
//! Percentiles come from the buckets that are exported too ([`Distribution::quantile`]): one is off by less than the width of
//! its bucket, whose bounds lie a factor of 2 to 3 apart; the first bucket ends at 1 ms, the last where the longest ended. The
//! longest is exact.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::metrics::Lines;
use super::names::{DocumentOutcome, Gauge, HoldCause, RetryCause};
use crate::config::METRICS_DATASET;
use crate::record::{ECS_VERSION, Outcomes};

/// What a histogram has counted since the start, or in an interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Upper bounds of its buckets but the last, in its unit.
    pub bounds: Vec<f64>,
    /// How many fell into each bucket.
    pub counts: Vec<u64>,
    /// Sum of all that was counted.
    pub sum: f64,
}

impl Distribution {
    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = before.counts.iter().copied().chain(std::iter::repeat(0));
        Self {
            bounds: self.bounds.clone(),
            counts: self.counts.iter().zip(earlier).map(|(now, before)| now.saturating_sub(before)).collect(),
            sum: self.sum - before.sum,
        }
    }

    /// The value below which the share `q` of what was counted lies, taken as evenly spread inside its bucket, where nothing
    /// counted is more than `most`; `None` of nothing.
    #[must_use]
    pub fn quantile(&self, q: f64, most: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a quantile of more than 2^52 values is still right to 1e-15")]
        let (total, counts) = (total as f64, self.counts.iter().map(|&count| count as f64));
        let rank = q * total;
        let mut below = 0.0;
        for (i, count) in counts.enumerate() {
            if below + count >= rank && count > 0.0 {
                let low = if i == 0 { 0.0 } else { self.bounds[i - 1] };
                let high = self.bounds.get(i).map_or(most, |bound| bound.min(most)).max(low);
                return Some(low + (high - low) * (rank - below) / count);
            }
            below += count;
        }
        None
    }

    /// Where the last bucket that has any begins.
    fn last_begins(&self) -> f64 {
        match self.counts.iter().rposition(|count| *count > 0) {
            None | Some(0) => 0.0,
            Some(last) => self.bounds[last - 1],
        }
    }
}

/// A [`Distribution`] of seconds, and the longest since the look before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// Since the start, in seconds.
    pub seconds: Distribution,
    /// In nanoseconds; since the look before.
    pub longest: u64,
}

impl Times {
    /// The percentiles and the longest of those since `before`, in nanoseconds; nothing if there were none.
    fn members(&self, before: &Self, percentiles: &[(&str, f64)]) -> Value {
        let times = self.seconds.since(&before.seconds);
        if times.count() == 0 {
            return json!({});
        }
        let nanos = |seconds: f64| std::time::Duration::from_secs_f64(seconds).as_nanos() as u64;
        // One that was counted while the other look was taken has its longest there.
        let longest = self.longest.max(nanos(times.last_begins()));
        let most = std::time::Duration::from_nanos(longest).as_secs_f64();
        let percentile =
            |(name, q): &(&str, f64)| Some(((*name).to_owned(), json!(nanos(times.quantile(*q, most)?).min(longest))));
        let mut members: Map<String, Value> = percentiles.iter().filter_map(percentile).collect();
        members.insert("max".to_owned(), json!(longest));
        members.into()
    }
}

/// One source at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFigures {
    /// Its name.
    pub name: String,
    /// Bytes in its files that are not settled.
    pub lag: u64,
    /// Its files that are there.
    pub files: u64,
    /// How its lines ended; all that is known of them.
    pub outcomes: Outcomes,
}

/// What instruments say at one moment; counts are since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Lines.
    pub lines: Lines,
    /// Bytes read, decompressed.
    pub read_bytes: u64,
    /// Documents judged, by [`DocumentOutcome`].
    pub documents: [u64; DocumentOutcome::COUNT],
    /// Requests sent again, by [`RetryCause`].
    pub retries: [u64; RetryCause::COUNT],
    /// Faults of all causes.
    pub faults: u64,
    /// What indexing waits for.
    pub holds: Vec<HoldCause>,
    /// Levels, by [`Gauge`].
    pub gauges: [u64; Gauge::COUNT],
    /// Sizes of bulk requests.
    pub bulk_size: Distribution,
    /// From sending a bulk request to its answer.
    pub bulk_duration: Times,
    /// From reading to the outcome.
    pub delivery_latency: Times,
    /// Each source, in the order of the configuration.
    pub sources: Vec<SourceFigures>,
}

/// What is the same in all documents of this process.
#[derive(Clone, Debug)]
pub struct About {
    /// Name of this host.
    pub host: String,
    /// This process, told from others on this host and from earlier ones.
    pub process: String,
    /// The namespace, where documents go to a data stream.
    pub namespace: Option<String>,
}

/// A document to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its `_id`: sent again, it is there already.
    pub id: String,
    /// Its `@timestamp`, in nanoseconds since 1970.
    pub time: i64,
    /// What it says.
    pub source: Value,
}

/// An `_id` may be this long, in bytes.
const MAX_ID: usize = 512;

/// The documents of what happened from `before` to `now`, which was at `time` (nanoseconds since 1970).
#[must_use]
pub fn documents(about: &About, time: i64, before: &Figures, now: &Figures) -> Vec<Document> {
    let instant = jiff::Timestamp::from_nanosecond(time.into()).unwrap_or_default();
    let document = |scope: &str, name: &str, members: Value| {
        let text = format!("{instant:.3}");
        let mut id = format!("{}/{}/{text}/{scope}/{name}", about.host, about.process);
        if id.len() > MAX_ID {
            id = format!("{:016x}/{text}/{scope}", xxhash_rust::xxh3::xxh3_64(id.as_bytes()));
        }
        let mut source = json!({
            "@timestamp": text,
            "ecs": {"version": ECS_VERSION},
            "event": {"kind": "metric", "dataset": METRICS_DATASET},
            "service": {"name": "logweir", "version": env!("CARGO_PKG_VERSION")},
            "host": {"name": about.host},
            "logweir": members,
        });
        source["logweir"]["scope"] = json!(scope);
        if let Some(namespace) = &about.namespace {
            source["data_stream"] = json!({"type": "logs", "dataset": METRICS_DATASET, "namespace": namespace});
        }
        Document { id, time, source }
    };
    let of_source = |source: &SourceFigures| {
        let earlier = before.sources.iter().find(|earlier| earlier.name == source.name);
        let outcomes = since(source.outcomes, earlier.map(|earlier| earlier.outcomes).unwrap_or_default());
        let SourceFigures { name, lag, files, .. } = source;
        let members = json!({"source": {"name": name, "lag": lag, "files": files, "lines": outcomes_of(outcomes)}});
        document("source", name, members)
    };
    std::iter::once(document("daemon", "", daemon(before, now))).chain(now.sources.iter().map(of_source)).collect()
}

/// What the daemon's document says below `logweir`.
fn daemon(before: &Figures, now: &Figures) -> Value {
    let gauge = |gauge: Gauge| now.gauges[gauge as usize];
    let judged =
        |outcome: DocumentOutcome| now.documents[outcome as usize].saturating_sub(before.documents[outcome as usize]);
    let mut lines = outcomes_of(since(now.lines.outcomes, before.lines.outcomes));
    lines["read"] = json!(now.lines.read.saturating_sub(before.lines.read));
    lines["in_flight"] = json!(now.lines.in_flight);
    let again = |cause: &RetryCause| {
        let (now, before) = (now.retries[*cause as usize], before.retries[*cause as usize]);
        (cause.as_str().to_owned(), now.saturating_sub(before))
    };
    let retries: Vec<(String, u64)> = RetryCause::ALL.iter().map(again).collect();
    let total: u64 = retries.iter().map(|(_, count)| count).sum();
    let mut retries: Map<String, Value> = retries.into_iter().map(|(cause, count)| (cause, json!(count))).collect();
    retries.insert("total".to_owned(), json!(total));
    let sizes = now.bulk_size.since(&before.bulk_size);
    json!({
        "lines": lines,
        "documents": {
            "created": judged(DocumentOutcome::Created),
            "duplicate": judged(DocumentOutcome::Duplicate),
            "dead_lettered": judged(DocumentOutcome::DeadLettered),
            "retried": judged(DocumentOutcome::Retried),
        },
        "read": {"bytes": now.read_bytes.saturating_sub(before.read_bytes)},
        "bulk": {
            "requests": sizes.count(),
            "bytes": sizes.sum.max(0.0).round() as u64,
            "duration": now.bulk_duration.members(&before.bulk_duration, &[("p50", 0.5), ("p95", 0.95)]),
            "retries": retries,
            "window": gauge(Gauge::Window),
        },
        "delivery": {"latency":
            now.delivery_latency.members(&before.delivery_latency, &[("p50", 0.5), ("p95", 0.95), ("p99", 0.99)])},
        "faults": now.faults.saturating_sub(before.faults),
        "holds": now.holds.iter().map(|cause| cause.as_str()).collect::<Vec<_>>(),
        "memory": {"usage": gauge(Gauge::MemoryUsage), "limit": gauge(Gauge::MemoryLimit)},
        "files": {"watched": gauge(Gauge::WatchedFiles), "open": gauge(Gauge::OpenFiles)},
        "lag": gauge(Gauge::Lag),
        "dead_letters": {"size": gauge(Gauge::DeadLetters)},
    })
}

fn since(now: Outcomes, before: Outcomes) -> Outcomes {
    Outcomes {
        created: now.created.saturating_sub(before.created),
        duplicate: now.duplicate.saturating_sub(before.duplicate),
        dead_lettered: now.dead_lettered.saturating_sub(before.dead_lettered),
        skipped: now.skipped.saturating_sub(before.skipped),
    }
}

fn outcomes_of(outcomes: Outcomes) -> Value {
    let Outcomes { created, duplicate, dead_lettered, skipped } = outcomes;
    json!({"created": created, "duplicate": duplicate, "dead_lettered": dead_lettered, "skipped": skipped})
}

/// Documents that wait to be sent, oldest first. It has a bound: where there are too many, the oldest are dropped.
#[derive(Debug)]
pub struct Waiting {
    documents: VecDeque<Document>,
    most: usize,
}

impl Waiting {
    /// At most `most` documents.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { documents: VecDeque::new(), most }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Adds `documents`, the youngest; returns how many old ones were dropped for them.
    pub fn push(&mut self, documents: Vec<Document>) -> usize {
        self.documents.extend(documents);
        let dropped = self.documents.len().saturating_sub(self.most);
        self.documents.drain(..dropped);
        dropped
    }

    /// Takes up to `most` of the oldest.
    pub fn take(&mut self, most: usize) -> Vec<Document> {
        let count = most.min(self.documents.len());
        self.documents.drain(..count).collect()
    }

    /// Puts `documents` back that were taken, in front; returns how many were dropped because there are others by now.
    pub fn put_back(&mut self, documents: Vec<Document>) -> usize {
        for document in documents.into_iter().rev() {
            self.documents.push_front(document);
        }
        self.push(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About { host: "web-1".to_owned(), process: "p".to_owned(), namespace: Some("default".to_owned()) }
    }

    const TIME: i64 = 1_795_352_400_123_456_789;

    fn outcomes(created: u64) -> Outcomes {
        Outcomes { created, duplicate: 2 * created, dead_lettered: 3, skipped: 4 }
    }

    fn figures(scale: u64) -> Figures {
        let bounds = vec![0.001, 0.01, 0.1];
        let times = |longest| Times {
            seconds: Distribution { bounds: bounds.clone(), counts: vec![0, 10 * scale, 10 * scale, 0], sum: 1.0 },
            longest,
        };
        let mut gauges = [0; Gauge::COUNT];
        for (number, gauge) in gauges.iter_mut().enumerate() {
            *gauge = 100 * scale + number as u64;
        }
        Figures {
            lines: Lines { read: 50 * scale, outcomes: outcomes(10 * scale), in_flight: 5 },
            read_bytes: 1000 * scale,
            documents: [1, 2, 3, 4].map(|n| n * scale),
            retries: [1; RetryCause::COUNT].map(|n| n * scale),
            faults: scale,
            holds: vec![HoldCause::Unreachable],
            gauges,
            bulk_size: Distribution {
                bounds: vec![1024.0],
                counts: vec![3 * scale, scale],
                sum: 9000.0 * scale as f64,
            },
            bulk_duration: times(40_000_000),
            delivery_latency: times(90_000_000),
            sources: vec![SourceFigures {
                name: "web".to_owned(),
                lag: 7 * scale,
                files: 2,
                outcomes: outcomes(scale),
            }],
        }
    }

    #[test]
    fn counts_are_of_the_interval_and_levels_of_the_moment() {
        let documents = documents(&about(), TIME, &figures(1), &figures(3));
        let [daemon, source] = &documents[..] else { panic!("{documents:?}") };
        assert_eq!(daemon.id, "web-1/p/2026-11-22T13:00:00.123Z/daemon/");
        let level = |gauge: Gauge| 300 + gauge as u64;
        assert_eq!(
            daemon.source,
            json!({
                "@timestamp": "2026-11-22T13:00:00.123Z",
                "ecs": {"version": "9.2.0"},
                "event": {"kind": "metric", "dataset": "logweir.metrics"},
                "service": {"name": "logweir", "version": env!("CARGO_PKG_VERSION")},
                "host": {"name": "web-1"},
                "data_stream": {"type": "logs", "dataset": "logweir.metrics", "namespace": "default"},
                "logweir": {
                    "scope": "daemon",
                    "lines": {
                        "read": 100, "created": 20, "duplicate": 40, "dead_lettered": 0, "skipped": 0, "in_flight": 5,
                    },
                    "documents": {"created": 2, "duplicate": 4, "dead_lettered": 6, "retried": 8},
                    "read": {"bytes": 2000},
                    "bulk": {
                        "requests": 8, "bytes": 18_000, "window": level(Gauge::Window),
                        "duration": {"p50": 10_000_000, "p95": 37_000_000, "max": 40_000_000},
                        "retries": {
                            "connection": 2, "timeout": 2, "too_many_requests": 2, "server_error": 2, "too_large": 2,
                            "bad_answer": 2, "held": 2, "total": 14,
                        },
                    },
                    "delivery": {"latency": {"p50": 10_000_000, "p95": 82_000_000, "p99": 88_400_000, "max": 90_000_000}},
                    "faults": 2,
                    "holds": ["elasticsearch_unreachable"],
                    "memory": {"usage": level(Gauge::MemoryUsage), "limit": level(Gauge::MemoryLimit)},
                    "files": {"watched": level(Gauge::WatchedFiles), "open": level(Gauge::OpenFiles)},
                    "lag": level(Gauge::Lag),
                    "dead_letters": {"size": level(Gauge::DeadLetters)},
                },
            })
        );
        assert_eq!(source.id, "web-1/p/2026-11-22T13:00:00.123Z/source/web");
        assert_eq!(
            source.source["logweir"],
            json!({"scope": "source", "source": {
                "name": "web", "lag": 21, "files": 2,
                "lines": {"created": 2, "duplicate": 4, "dead_lettered": 0, "skipped": 0},
            }})
        );
    }

    #[test]
    fn the_sums_over_any_number_of_intervals_are_the_totals() {
        let looks: Vec<Figures> = [1, 1, 4, 9].map(figures).into();
        let mut before = Figures::default();
        let (mut created, mut bytes, mut of_source) = (0, 0, 0);
        for now in &looks {
            for document in documents(&about(), TIME, &before, now) {
                let logweir = &document.source["logweir"];
                created += logweir["lines"]["created"].as_u64().unwrap_or(0);
                bytes += logweir["bulk"]["bytes"].as_u64().unwrap_or(0);
                of_source += logweir["source"]["lines"]["created"].as_u64().unwrap_or(0);
            }
            before = now.clone();
        }
        assert_eq!((created, bytes, of_source), (90, 81_000, 9));
    }

    #[test]
    fn an_interval_without_any_has_no_percentile() {
        let documents = documents(&about(), TIME, &figures(2), &figures(2));
        let logweir = &documents[0].source["logweir"];
        assert_eq!(logweir["bulk"]["duration"], json!({}));
        assert_eq!(logweir["delivery"]["latency"], json!({}));
        assert_eq!(logweir["bulk"]["requests"], 0);
    }

    #[test]
    fn a_percentile_lies_in_its_bucket_and_never_above_the_longest() {
        let (bounds, counts) = (vec![0.001, 0.01, 0.1], vec![0, 0, 1, 1]);
        let times = |longest| Times {
            seconds: Distribution { bounds: bounds.clone(), counts: counts.clone(), sum: 0.0 },
            longest,
        };
        let of = |longest| times(longest).members(&Times::default(), &[("p25", 0.25), ("p75", 0.75)]);
        assert_eq!(of(300_000_000), json!({"p25": 55_000_000, "p75": 200_000_000, "max": 300_000_000}));
        // It was taken by the look before: all that is known is where its bucket begins.
        assert_eq!(of(0), json!({"p25": 55_000_000, "p75": 100_000_000, "max": 100_000_000}));
        let one = Distribution { bounds, counts: vec![0, 0, 1, 0], sum: 0.0 };
        let one = Times { seconds: one, longest: 60_000_000 }.members(&Times::default(), &[("p99", 1.0)]);
        assert_eq!(one, json!({"p99": 60_000_000, "max": 60_000_000}));
    }

    #[test]
    fn a_quantile_is_spread_over_its_bucket_and_capped_by_the_most() {
        let cases: [(&[u64], f64, Option<f64>); 5] = [
            (&[0, 0, 0], 0.5, None),
            (&[4, 0, 0], 0.5, Some(0.5)),
            (&[2, 2, 0], 0.75, Some(2.0)),
            (&[1, 0, 1], 1.0, Some(3.0)),
            (&[0, 2, 0], 0.0, Some(1.0)),
        ];
        for (counts, q, expected) in cases {
            let counted = Distribution { bounds: vec![1.0, 3.0], counts: counts.to_vec(), sum: 0.0 };
            assert_eq!(counted.quantile(q, 3.0), expected, "{counts:?} {q}");
        }
    }

    #[test]
    fn ids_differ_by_host_process_time_and_scope_and_have_a_bound() {
        let long = About { host: "h".repeat(600), ..about() };
        let other = About { process: "q".to_owned(), ..about() };
        let mut ids = std::collections::BTreeSet::new();
        let mut number = 0;
        for about in [&about(), &long, &other] {
            for time in [TIME, TIME + 1_000_000] {
                for document in documents(about, time, &figures(1), &figures(2)) {
                    assert!(document.id.len() <= MAX_ID, "{}", document.id);
                    ids.insert(document.id);
                    number += 1;
                }
            }
        }
        assert_eq!(ids.len(), number);
        assert_eq!(
            documents(&about(), TIME, &figures(1), &figures(2)),
            documents(&about(), TIME, &figures(1), &figures(2))
        );
    }

    #[test]
    fn of_too_many_that_wait_the_oldest_are_dropped() {
        let document = |time: i64| Document { id: time.to_string(), time, source: Value::Null };
        let times = |waiting: &Waiting| waiting.documents.iter().map(|document| document.time).collect::<Vec<_>>();
        let mut waiting = Waiting::new(3);
        assert_eq!(waiting.push(vec![document(1), document(2)]), 0);
        assert_eq!(waiting.push(vec![document(3), document(4)]), 1);
        assert_eq!(times(&waiting), [2, 3, 4]);
        let taken = waiting.take(2);
        assert_eq!(times(&waiting), [4]);
        assert_eq!(waiting.push(vec![document(5)]), 0);
        assert_eq!(waiting.put_back(taken), 1);
        assert_eq!(times(&waiting), [3, 4, 5]);
        assert_eq!(waiting.take(10).len(), 3);
        assert!(waiting.is_empty());
    }
}
