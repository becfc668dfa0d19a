//! All numbers, behind one handle.
//!
//! Counters and gauges are atomics that the instruments observe when they are collected, and that [`Metrics::snapshot`]
//! reads: what is exported and what is shown cannot disagree. Histograms are the SDK's own, and the quantiles of a snapshot
//! are worked out from the very buckets that are exported.
//!
//! Recording is a few atomic additions, meant for once a batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, HistogramDataPoint, MetricData, ResourceMetrics};

use super::documents::{Distribution, Figures, Times};
use super::export::{PromText, PullReader};
use super::instruments::{BULK_DURATION, BULK_SIZE, DELIVERY_LATENCY, Histograms, Numbers, add, get, observe};
use super::names::{DocumentOutcome, FaultCause, FileEvent, Gauge, HoldCause, LineOutcome, RetryCause};
use super::said::{Said, Word};
use crate::record::Outcomes;

/// The handle; clones share everything.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    numbers: Arc<Numbers>,
    histograms: Histograms,
    prometheus: PromText,
    reader: PullReader,
    /// Held while instruments are observed, so that all of them show the same moment.
    observing: Mutex<()>,
    /// What events have said lately, so that a rate limit needs nothing but this handle.
    said: Mutex<Said<Subject>>,
    /// Keeps the instruments alive.
    _provider: SdkMeterProvider,
}

/// What a rate-limited message is about: a word for the kind of event, and the hash of what it happened to.
pub(super) type Subject = (&'static str, u64);

/// Lines at one moment: `read == outcomes.total() + in_flight`, or lines went astray.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lines {
    /// Read from files.
    pub read: u64,
    /// How those that are settled ended.
    pub outcomes: Outcomes,
    /// Read, without an outcome yet.
    pub in_flight: u64,
}

impl Lines {
    /// Whether every line that was read has an outcome or is in flight, and no line twice.
    #[must_use]
    pub fn are_conserved(&self) -> bool {
        self.read == self.outcomes.total() + self.in_flight
    }
}

/// The numbers at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// Lines.
    pub lines: Lines,
    /// Lines that were longer than the limit; they have an outcome as well.
    pub lines_cut: u64,
    /// Bytes read, decompressed.
    pub read_bytes: u64,
    /// Documents that were sent again, each time counted.
    pub retried: u64,
    /// Faults of all causes.
    pub faults: u64,
    /// Bytes of request bodies on their way.
    pub in_flight_bytes: u64,
    /// Bytes that are in files and not settled.
    pub lag_bytes: u64,
    /// Median time from read to settled, to within a bucket; `None` before the first.
    pub latency_p50: Option<Duration>,
    /// The time from read to settled that one in a hundred exceeds, to within a bucket.
    pub latency_p99: Option<Duration>,
}

impl Metrics {
    /// All instruments at zero; `host` becomes the resource attribute `host.name`.
    #[must_use]
    pub fn new(host: &str) -> Self {
        let numbers = Arc::new(Numbers::default());
        let resource = Resource::builder()
            .with_service_name("logweir")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", host.to_owned()))
            .build();
        let reader = PullReader::default();
        let (prometheus, prometheus_reader) = PromText::new();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(prometheus_reader)
            .with_reader(reader.clone())
            .build();
        let meter = provider.meter("logweir");
        observe(&meter, &numbers);

        let histograms = Histograms::new(&meter);
        let said = Mutex::default();
        let observing = Mutex::default();
        Self {
            inner: Arc::new(Inner { numbers, histograms, prometheus, reader, observing, said, _provider: provider }),
        }
    }

    /// `lines` lines were read, which took `bytes` bytes of (decompressed) files. To be called before their batch leaves.
    pub fn lines_read(&self, lines: u64, bytes: u64) {
        add(&self.numbers().counted[LineOutcome::Read as usize], lines);
        add(&self.numbers().read_bytes, bytes);
    }

    /// Lines have their outcome.
    pub fn lines_settled(&self, outcomes: Outcomes) {
        let lines = &self.numbers().counted;
        add(&lines[LineOutcome::Created as usize], outcomes.created);
        add(&lines[LineOutcome::Duplicate as usize], outcomes.duplicate);
        add(&lines[LineOutcome::DeadLettered as usize], outcomes.dead_lettered);
        add(&lines[LineOutcome::Skipped as usize], outcomes.skipped);
    }

    /// `count` documents were judged.
    pub fn documents(&self, outcome: DocumentOutcome, count: u64) {
        add(&self.numbers().documents[outcome as usize], count);
    }

    /// A bulk request of `bytes` was answered, in whatever way, after `took`.
    pub fn bulk_answered(&self, bytes: u64, took: Duration) {
        self.numbers().longest_bulk.fetch_max(nanos(took), Ordering::AcqRel);
        self.inner.histograms.bulk_size.record(bytes, &[]);
        self.inner.histograms.bulk_duration.record(took.as_secs_f64(), &[]);
    }

    /// A batch waited for the rate limit.
    pub fn limiter_waited(&self, wait: Duration) {
        self.inner.histograms.limiter_wait.record(wait.as_secs_f64(), &[]);
    }

    /// A run was settled so long after its first line was read.
    pub fn delivered(&self, latency: Duration) {
        self.numbers().longest_delivery.fetch_max(nanos(latency), Ordering::AcqRel);
        self.inner.histograms.delivery_latency.record(latency.as_secs_f64(), &[]);
    }

    /// All globs were listed once.
    pub fn scanned(&self, took: Duration) {
        self.inner.histograms.scan_duration.record(took.as_secs_f64(), &[]);
    }

    /// Sets a gauge that nobody [owns](Self::own).
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.numbers().gauges[gauge as usize].value.store(value, Ordering::Relaxed);
    }

    /// Lets `ask` say what `gauge` is, whenever somebody wants to know: it must be quick and must not block. The first
    /// owner stays.
    pub fn own(&self, gauge: Gauge, ask: impl Fn() -> u64 + Send + Sync + 'static) {
        let _first_stays = self.numbers().gauges[gauge as usize].owner.set(Box::new(ask));
    }

    /// Lets `ask` say, of one moment, what became of lines: whoever keeps account of them. Without an owner it is what
    /// [`Metrics::counted`] says. `ask` must be quick. The first owner stays.
    pub fn own_lines(&self, ask: impl Fn() -> Lines + Send + Sync + 'static) {
        let _first_stays = self.numbers().account.set(Box::new(ask));
    }

    pub(super) fn count_cut(&self, lines: u64) {
        add(&self.numbers().lines_cut, lines);
    }

    pub(super) fn count_retry(&self, cause: RetryCause) {
        add(&self.numbers().retries[cause as usize], 1);
    }

    pub(super) fn count_fault(&self, cause: FaultCause) {
        add(&self.numbers().faults[cause as usize], 1);
    }

    pub(super) fn count_file(&self, event: FileEvent) {
        add(&self.numbers().files[event as usize], 1);
    }

    pub(super) fn set_hold(&self, cause: HoldCause, held: bool) {
        self.numbers().holds[cause as usize].store(u64::from(held), Ordering::Relaxed);
    }

    /// Whether an event that happened now is to be logged.
    pub(super) fn say(&self, subject: Subject) -> Word {
        self.inner.said.lock().unwrap_or_else(PoisonError::into_inner).say(subject, Instant::now())
    }

    /// What became of lines, by whoever keeps account of them.
    #[must_use]
    pub fn lines(&self) -> Lines {
        self.numbers().account.get().map_or_else(|| self.counted(), |ask| ask())
    }

    /// What became of lines as the stages themselves counted when they read and settled them. Outcomes are read first,
    /// so that a line counted as settled is also counted as read.
    #[must_use]
    pub fn counted(&self) -> Lines {
        let lines = &self.numbers().counted;
        let outcomes = Outcomes {
            created: get(&lines[LineOutcome::Created as usize]),
            duplicate: get(&lines[LineOutcome::Duplicate as usize]),
            dead_lettered: get(&lines[LineOutcome::DeadLettered as usize]),
            skipped: get(&lines[LineOutcome::Skipped as usize]),
        };
        let read = get(&lines[LineOutcome::Read as usize]);
        Lines { read, outcomes, in_flight: read.saturating_sub(outcomes.total()) }
    }

    /// What was faulty of `cause`, since the start.
    #[must_use]
    pub fn faults(&self, cause: FaultCause) -> u64 {
        get(&self.numbers().faults[cause as usize])
    }

    /// All numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let numbers = self.numbers();
        let (latency_p50, latency_p99) = self.latency();
        Snapshot {
            lines: self.lines(),
            lines_cut: get(&numbers.lines_cut),
            read_bytes: get(&numbers.read_bytes),
            retried: get(&numbers.documents[DocumentOutcome::Retried as usize]),
            faults: numbers.faults.iter().map(get).sum(),
            in_flight_bytes: numbers.gauges[Gauge::InFlight as usize].get(),
            lag_bytes: numbers.gauges[Gauge::Lag as usize].get(),
            latency_p50,
            latency_p99,
        }
    }

    /// All numbers now but those of sources, for documents; and the longest times since this was last called: there is one
    /// who calls it.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let numbers = self.numbers();
        let collected = self.collect();
        let times = |name, longest: &AtomicU64| Times {
            seconds: distribution(&collected, name),
            // After the buckets: what is in them was noted here before.
            longest: longest.swap(0, Ordering::AcqRel),
        };
        let holds = HoldCause::ALL.iter().filter(|cause| get(&numbers.holds[**cause as usize]) != 0);
        Figures {
            lines: self.lines(),
            read_bytes: get(&numbers.read_bytes),
            documents: std::array::from_fn(|outcome| get(&numbers.documents[outcome])),
            retries: std::array::from_fn(|cause| get(&numbers.retries[cause])),
            faults: numbers.faults.iter().map(get).sum(),
            holds: holds.copied().collect(),
            gauges: std::array::from_fn(|gauge| numbers.gauges[gauge].get()),
            bulk_size: distribution(&collected, BULK_SIZE),
            bulk_duration: times(BULK_DURATION, &numbers.longest_bulk),
            delivery_latency: times(DELIVERY_LATENCY, &numbers.longest_delivery),
            sources: Vec::new(),
        }
    }

    /// Everything, as Prometheus reads it.
    ///
    /// # Errors
    /// Where the encoder refuses, which would be a mistake of ours.
    pub fn prometheus_text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let _one_moment = self.observe();
        self.inner.prometheus.encode()
    }

    /// Everything, as OpenTelemetry exports it.
    pub(super) fn collect(&self) -> ResourceMetrics {
        let _one_moment = self.observe();
        self.inner.reader.collect()
    }

    /// Fixes what instruments show of lines until the guard is dropped.
    fn observe(&self) -> MutexGuard<'_, ()> {
        let guard = self.inner.observing.lock().unwrap_or_else(PoisonError::into_inner);
        *self.numbers().shown.lock().unwrap_or_else(PoisonError::into_inner) = self.lines();
        guard
    }

    fn numbers(&self) -> &Numbers {
        &self.inner.numbers
    }

    fn latency(&self) -> (Option<Duration>, Option<Duration>) {
        let latency = distribution(&self.collect(), DELIVERY_LATENCY);
        // What lies above the last bound counts as that bound.
        let most = latency.bounds.last().copied().unwrap_or_default();
        let quantile = |q| latency.quantile(q, most).map(Duration::from_secs_f64);
        (quantile(0.5), quantile(0.99))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The histogram with this name; none counted anything before it was first used.
fn distribution(collected: &ResourceMetrics, name: &str) -> Distribution {
    fn of<T>(point: Option<&HistogramDataPoint<T>>, sum: impl Fn(&HistogramDataPoint<T>) -> f64) -> Distribution {
        point.map_or_else(Distribution::default, |point| Distribution {
            bounds: point.bounds().collect(),
            counts: point.bucket_counts().collect(),
            sum: sum(point),
        })
    }
    let found = collected.scope_metrics().flat_map(|scope| scope.metrics()).find(|metric| metric.name() == name);
    #[expect(clippy::cast_precision_loss, reason = "a sum of more than 2^52 bytes is still right to 1e-15")]
    match found.map(|metric| metric.data()) {
        Some(AggregatedMetrics::F64(MetricData::Histogram(histogram))) => {
            of(histogram.data_points().next(), |point| point.sum())
        }
        Some(AggregatedMetrics::U64(MetricData::Histogram(histogram))) => {
            of(histogram.data_points().next(), |point| point.sum() as f64)
        }
        _ => Distribution::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.prometheus_text().unwrap()).unwrap()
    }

    #[test]
    fn the_snapshot_says_what_is_exported() {
        let metrics = Metrics::new("web-1");
        metrics.lines_read(10, 1000);
        let outcomes = Outcomes { created: 5, duplicate: 1, dead_lettered: 1, skipped: 2 };
        metrics.lines_settled(outcomes);
        metrics.documents(DocumentOutcome::Retried, 3);
        metrics.set(Gauge::Lag, 77);
        metrics.set(Gauge::InFlight, 500);

        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.lines, Lines { read: 10, outcomes, in_flight: 1 });
        let text = text(&metrics);
        for line in [
            format!("logweir_lines_total{{outcome=\"read\"}} {}", snapshot.lines.read),
            format!("logweir_lines_in_flight {}", snapshot.lines.in_flight),
            format!("logweir_lines_total{{outcome=\"skipped\"}} {}", snapshot.lines.outcomes.skipped),
            format!("logweir_documents_total{{outcome=\"retried\"}} {}", snapshot.retried),
            format!("logweir_read_io_bytes_total {}", snapshot.read_bytes),
            format!("logweir_checkpoint_lag_bytes {}", snapshot.lag_bytes),
            format!("logweir_in_flight_bytes {}", snapshot.in_flight_bytes),
        ] {
            assert!(text.lines().any(|got| got == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_scrape_adds_up_while_lines_come_and_go() {
        let metrics = Metrics::new("web-1");
        let account = Arc::new(Mutex::new(Lines::default()));
        let kept = Arc::clone(&account);
        metrics.own_lines(move || *kept.lock().unwrap());
        let number = |text: &str, start: &str| -> u64 {
            text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
        };
        let done = AtomicBool::new(false);
        let scrape = || {
            while !done.load(Ordering::Relaxed) {
                let text = text(&metrics);
                let of = |outcome: &str| number(&text, &format!("logweir_lines_total{{outcome=\"{outcome}\"}} "));
                let settled: u64 = ["created", "duplicate", "dead_lettered", "skipped"].into_iter().map(of).sum();
                assert_eq!(of("read"), settled + number(&text, "logweir_lines_in_flight "), "{text}");
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..20_000 {
                    let mut lines = account.lock().unwrap();
                    lines.read += 3;
                    lines.in_flight += 3;
                    drop(lines);
                    let mut lines = account.lock().unwrap();
                    lines.in_flight -= 2;
                    lines.outcomes.created += 1 + round % 2;
                    lines.outcomes.dead_lettered += 1 - round % 2;
                }
                done.store(true, Ordering::Relaxed);
            });
            // Two at once: what one of them sees is not changed under it by the other.
            scope.spawn(scrape);
            scope.spawn(scrape);
        });
        assert_eq!(metrics.lines().in_flight, 20_000);
    }

    #[test]
    fn stages_never_count_more_settled_than_read() {
        let metrics = Metrics::new("web-1");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..100_000 {
                    metrics.lines_read(1, 10);
                    metrics.lines_settled(Outcomes { created: 1, ..Outcomes::default() });
                }
            });
            while !writer.is_finished() {
                assert!(metrics.counted().are_conserved());
            }
        });
        assert_eq!(metrics.lines().in_flight, 0);
    }

    #[test]
    fn a_gauge_with_an_owner_is_asked_each_time() {
        let metrics = Metrics::new("web-1");
        let level = Arc::new(AtomicU64::new(1));
        let seen = Arc::clone(&level);
        metrics.own(Gauge::MemoryUsage, move || seen.load(Ordering::Relaxed));
        assert!(text(&metrics).contains("\nlogweir_memory_usage_bytes 1\n"));
        level.store(2, Ordering::Relaxed);
        assert!(text(&metrics).contains("\nlogweir_memory_usage_bytes 2\n"));
    }

    #[test]
    fn latency_quantiles_come_from_the_exported_buckets() {
        let metrics = Metrics::new("web-1");
        assert_eq!(metrics.snapshot().latency_p50, None);
        for _ in 0..99 {
            metrics.delivered(Duration::from_millis(40));
        }
        metrics.delivered(Duration::from_secs(20));
        let snapshot = metrics.snapshot();
        let p50 = snapshot.latency_p50.unwrap();
        assert!((0.025..=0.05).contains(&p50.as_secs_f64()), "{p50:?}");
        let p99 = snapshot.latency_p99.unwrap();
        assert!((0.025..=0.05).contains(&p99.as_secs_f64()), "{p99:?}");
        assert!(text(&metrics).contains("logweir_delivery_latency_seconds_count 100\n"));
    }

    #[test]
    fn figures_say_what_is_exported_and_the_longest_since_they_were_last_asked_for() {
        let metrics = Metrics::new("web-1");
        assert_eq!(metrics.figures(), Figures { holds: Vec::new(), ..Figures::default() });
        metrics.lines_read(10, 1000);
        metrics.bulk_answered(2000, Duration::from_millis(40));
        metrics.bulk_answered(3000, Duration::from_millis(70));
        metrics.delivered(Duration::from_millis(90));
        metrics.documents(DocumentOutcome::Created, 5);
        metrics.count_retry(RetryCause::Timeout);
        metrics.count_fault(FaultCause::Telemetry);
        metrics.set_hold(HoldCause::Setup, true);
        metrics.set(Gauge::Lag, 77);
        let figures = metrics.figures();
        assert_eq!((figures.lines.read, figures.read_bytes, figures.faults), (10, 1000, 1));
        assert_eq!(
            (figures.documents[DocumentOutcome::Created as usize], figures.gauges[Gauge::Lag as usize]),
            (5, 77)
        );
        assert_eq!((figures.retries[RetryCause::Timeout as usize], &figures.holds[..]), (1, &[HoldCause::Setup][..]));
        assert_eq!((figures.bulk_size.count(), figures.bulk_size.sum), (2, 5000.0));
        assert_eq!((figures.bulk_duration.seconds.count(), figures.bulk_duration.longest), (2, 70_000_000));
        assert_eq!(figures.delivery_latency.longest, 90_000_000);
        let later = metrics.figures();
        assert_eq!((later.bulk_duration.longest, later.delivery_latency.longest), (0, 0));
        assert_eq!(later.bulk_duration.seconds, figures.bulk_duration.seconds);
    }
}
