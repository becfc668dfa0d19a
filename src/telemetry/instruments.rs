//! Every instrument and what it observes. No other module makes one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use super::metrics::Lines;
use super::names::{DocumentOutcome, FaultCause, FileEvent, Gauge, HoldCause, LineOutcome, RetryCause};

/// Upper bounds of the duration buckets, in seconds: 1 ms … 60 s.
const SECONDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Upper bounds of the size buckets, in bytes: 1 KiB … 64 MiB.
const BYTES: [f64; 9] =
    [1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

pub(super) const BULK_DURATION: &str = "logweir.bulk.duration";
pub(super) const BULK_SIZE: &str = "logweir.bulk.size";
pub(super) const DELIVERY_LATENCY: &str = "logweir.delivery.latency";

/// Where the counts are.
pub(super) struct Numbers {
    pub(super) read_bytes: AtomicU64,
    /// What the stages counted.
    pub(super) counted: [AtomicU64; LineOutcome::COUNT],
    /// Whoever keeps account of lines.
    pub(super) account: OnceLock<Box<dyn Fn() -> Lines + Send + Sync>>,
    /// What instruments show of lines: all of one moment.
    pub(super) shown: Mutex<Lines>,
    pub(super) lines_cut: AtomicU64,
    pub(super) documents: [AtomicU64; DocumentOutcome::COUNT],
    pub(super) retries: [AtomicU64; RetryCause::COUNT],
    pub(super) faults: [AtomicU64; FaultCause::COUNT],
    pub(super) files: [AtomicU64; FileEvent::COUNT],
    pub(super) holds: [AtomicU64; HoldCause::COUNT],
    pub(super) gauges: [Level; Gauge::COUNT],
    /// The longest since they were last taken, in nanoseconds.
    pub(super) longest_bulk: AtomicU64,
    pub(super) longest_delivery: AtomicU64,
}

/// A gauge: a number that is set, or one that its owner is asked for.
#[derive(Default)]
pub(super) struct Level {
    pub(super) value: AtomicU64,
    pub(super) owner: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            read_bytes: AtomicU64::new(0),
            counted: zeros(),
            account: OnceLock::new(),
            shown: Mutex::default(),
            lines_cut: AtomicU64::new(0),
            documents: zeros(),
            retries: zeros(),
            faults: zeros(),
            files: zeros(),
            holds: zeros(),
            gauges: std::array::from_fn(|_| Level::default()),
            longest_bulk: AtomicU64::new(0),
            longest_delivery: AtomicU64::new(0),
        }
    }
}

impl std::fmt::Debug for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Numbers").field("counted", &self.counted).finish_non_exhaustive()
    }
}

impl Level {
    pub(super) fn get(&self) -> u64 {
        self.owner.get().map_or_else(|| self.value.load(Ordering::Relaxed), |ask| ask())
    }
}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// The histograms.
#[derive(Debug)]
pub(super) struct Histograms {
    pub(super) bulk_duration: Histogram<f64>,
    pub(super) bulk_size: Histogram<u64>,
    pub(super) limiter_wait: Histogram<f64>,
    pub(super) delivery_latency: Histogram<f64>,
    pub(super) scan_duration: Histogram<f64>,
}

impl Histograms {
    pub(super) fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, description: &'static str| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(description);
            histogram.with_boundaries(SECONDS.to_vec()).build()
        };
        let bulk_size = meter
            .u64_histogram(BULK_SIZE)
            .with_unit("By")
            .with_description("Size of bulk request bodies before compression")
            .with_boundaries(BYTES.to_vec())
            .build();
        Self {
            bulk_duration: seconds(BULK_DURATION, "Time from sending a bulk request to its whole answer"),
            bulk_size,
            limiter_wait: seconds("logweir.limiter.wait", "Time that batches waited for the rate limit"),
            delivery_latency: seconds(
                DELIVERY_LATENCY,
                "Time from reading the first line of a run to its last outcome",
            ),
            scan_duration: seconds("logweir.scan.duration", "Time that listing all globs took"),
        }
    }
}

/// Makes the instruments that observe `numbers`.
pub(super) fn observe(meter: &Meter, numbers: &Arc<Numbers>) {
    let single = |name, unit, description, of: fn(&Numbers) -> &AtomicU64| {
        let numbers = Arc::clone(numbers);
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| observer.observe(get(of(&numbers)), &[]))
            .build();
    };
    single("logweir.read.io", "By", "Bytes read from files, decompressed", |n| &n.read_bytes);
    single("logweir.lines.cut", "{line}", "Lines that were longer than the limit", |n| &n.lines_cut);

    let by = |name, unit, description, key, words: Vec<&'static str>, of: fn(&Numbers) -> &[AtomicU64]| {
        let numbers = Arc::clone(numbers);
        let attributes: Vec<_> = words.into_iter().map(|word| [KeyValue::new(key, word)]).collect();
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                for (number, attribute) in of(&numbers).iter().zip(&attributes) {
                    observer.observe(get(number), attribute);
                }
            })
            .build();
    };
    macro_rules! words {
        ($set:ident) => {
            $set::ALL.iter().map(|member| member.as_str()).collect()
        };
    }
    lines(meter, numbers);
    by("logweir.documents", "{document}", "Documents judged", "outcome", words!(DocumentOutcome), |n| &n.documents);
    by("logweir.bulk.retries", "{request}", "Requests sent again", "cause", words!(RetryCause), |n| &n.retries);
    by("logweir.faults", "{fault}", "What went wrong while work went on", "cause", words!(FaultCause), |n| &n.faults);
    by("logweir.file.events", "{event}", "What happened to files", "event", words!(FileEvent), |n| &n.files);

    let held = Arc::clone(numbers);
    let causes: Vec<_> = HoldCause::ALL.iter().map(|cause| [KeyValue::new("cause", cause.as_str())]).collect();
    meter
        .u64_observable_gauge("logweir.holds")
        .with_unit("{hold}")
        .with_description("1 while indexing waits for this")
        .with_callback(move |observer| {
            for (number, cause) in held.holds.iter().zip(&causes) {
                observer.observe(get(number), cause);
            }
        })
        .build();

    for &gauge in Gauge::ALL {
        let numbers = Arc::clone(numbers);
        meter
            .u64_observable_gauge(gauge.as_str())
            .with_unit(gauge.unit())
            .with_description(gauge.description())
            .with_callback(move |observer| observer.observe(numbers.gauges[gauge as usize].get(), &[]))
            .build();
    }
}

/// What became of lines. Both instruments show the same moment, so that in each scrape lines read = the outcomes + those in
/// flight.
fn lines(meter: &Meter, numbers: &Arc<Numbers>) {
    let shown = |numbers: &Numbers| *numbers.shown.lock().unwrap_or_else(PoisonError::into_inner);
    let all = Arc::clone(numbers);
    let attributes: Vec<_> =
        LineOutcome::ALL.iter().map(|outcome| [KeyValue::new("outcome", outcome.as_str())]).collect();
    meter
        .u64_observable_counter("logweir.lines")
        .with_unit("{line}")
        .with_description("Lines read, and what became of them")
        .with_callback(move |observer| {
            let Lines { read, outcomes, .. } = shown(&all);
            for (outcome, attribute) in LineOutcome::ALL.iter().zip(&attributes) {
                let number = match outcome {
                    LineOutcome::Created => outcomes.created,
                    LineOutcome::Duplicate => outcomes.duplicate,
                    LineOutcome::DeadLettered => outcomes.dead_lettered,
                    LineOutcome::Skipped => outcomes.skipped,
                    LineOutcome::Read => read,
                };
                observer.observe(number, attribute);
            }
        })
        .build();
    let in_flight = Arc::clone(numbers);
    meter
        .u64_observable_gauge("logweir.lines.in_flight")
        .with_unit("{line}")
        .with_description("Lines read, without an outcome yet")
        .with_callback(move |observer| observer.observe(shown(&in_flight).in_flight, &[]))
        .build();
}

/// Adds; `Release`, so that who sees an outcome also sees the reading that came before it.
pub(super) fn add(number: &AtomicU64, count: u64) {
    number.fetch_add(count, Ordering::Release);
}

pub(super) fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Acquire)
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}
