//! The same few numbers in words: for `STATUS=`, for a terminal, and for the last line of a run.
//!
//! Pure: from snapshots to text.

use std::time::{Duration, Instant};

use super::health::Waiting;
use super::metrics::{Lines, Snapshot};

/// How fast things went between two snapshots.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Lines read a second.
    pub lines: f64,
    /// Documents created a second.
    pub documents: f64,
}

/// Remembers the last snapshot, to tell rates from the next.
#[derive(Debug)]
pub struct RateMeter {
    last: Snapshot,
    at: Instant,
}

impl RateMeter {
    /// Starts from `snapshot`, taken at `now`.
    #[must_use]
    pub fn new(snapshot: Snapshot, now: Instant) -> Self {
        Self { last: snapshot, at: now }
    }

    /// The rates since the last call.
    pub fn rates(&mut self, snapshot: Snapshot, now: Instant) -> Rates {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        let last = std::mem::replace(&mut self.last, snapshot);
        self.at = now;
        if seconds == 0.0 {
            return Rates::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown in whole numbers")]
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Rates {
            lines: rate(last.lines.read, snapshot.lines.read),
            documents: rate(last.lines.outcomes.created, snapshot.lines.outcomes.created),
        }
    }
}

/// What `STATUS=` says: `1,234 lines/s, 12.3 MiB behind, waiting for elasticsearch: connection refused`.
#[must_use]
pub fn status(rates: Rates, snapshot: &Snapshot, waiting: &[Waiting]) -> String {
    let mut text = format!("{} lines/s, {}", rounded(rates.lines), behind(snapshot));
    wait_for(&mut text, waiting);
    text
}

/// The live line on a terminal, at most `width` characters: `1,234 lines/s, 1,230 docs/s, 12.3 MiB behind`.
#[must_use]
pub fn live(rates: Rates, snapshot: &Snapshot, waiting: &[Waiting], width: usize) -> String {
    let (lines, documents) = (rounded(rates.lines), rounded(rates.documents));
    let mut text = format!("{lines} lines/s, {documents} docs/s, {}", behind(snapshot));
    let dead_lettered = snapshot.lines.outcomes.dead_lettered;
    if dead_lettered > 0 {
        text.push_str(&format!(", {} dead-lettered", grouped(dead_lettered)));
    }
    wait_for(&mut text, waiting);
    one_line(&text, width)
}

/// What a run did, in its last line: an equation, or the difference.
#[must_use]
pub fn summary(snapshot: &Snapshot, took: Duration) -> String {
    let Lines { read, outcomes, in_flight } = snapshot.lines;
    let mut text = format!("{} lines read", grouped(read));
    for (sign, count, word) in [
        ("=", outcomes.created, "created"),
        ("+", outcomes.duplicate, "there already"),
        ("+", outcomes.dead_lettered, "dead-lettered"),
        ("+", outcomes.skipped, "skipped"),
        ("+", in_flight, "in flight"),
    ] {
        text.push_str(&format!(" {sign} {} {word}", grouped(count)));
    }
    if snapshot.lines.are_conserved() {
        text.push_str(" (conserved)");
    } else {
        let difference = read.abs_diff(outcomes.total() + in_flight);
        text.push_str(&format!(" (NOT conserved: a difference of {})", grouped(difference)));
    }
    text.push_str(&format!("; {} in {:.1} s", bytes(snapshot.read_bytes), took.as_secs_f64()));
    text
}

fn behind(snapshot: &Snapshot) -> String {
    if snapshot.lag_bytes == 0 { "up to date".to_owned() } else { format!("{} behind", bytes(snapshot.lag_bytes)) }
}

fn wait_for(text: &mut String, waiting: &[Waiting]) {
    for wait in waiting {
        text.push_str(&format!(", waiting for {}: {}", wait.words, wait.reason));
    }
}

/// `text` as one line without control characters, cut to `width` characters.
#[must_use]
pub(super) fn one_line(text: &str, width: usize) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(visible).collect();
    }
    text.chars().take(width.saturating_sub(1)).map(visible).chain(['…']).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative and far below 2^64"
)]
fn rounded(rate: f64) -> String {
    grouped(rate.round() as u64)
}

/// `1234567` as `1,234,567`.
#[must_use]
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size with one decimal and a unit: `12.3 MiB`.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcomes;

    fn refused() -> Vec<Waiting> {
        let (cause, words) = ("elasticsearch_unreachable", "elasticsearch");
        vec![Waiting { cause, words, reason: "connection refused".to_owned(), seconds: 3 }]
    }

    #[test]
    fn status_says_rate_lag_and_what_is_waited_for() {
        let rates = Rates { lines: 1234.4, documents: 1200.0 };
        let mut snapshot = Snapshot { lag_bytes: 12_900_000, ..Snapshot::default() };
        assert_eq!(status(rates, &snapshot, &[]), "1,234 lines/s, 12.3 MiB behind");
        let waits = "1,234 lines/s, 12.3 MiB behind, waiting for elasticsearch: connection refused";
        assert_eq!(status(rates, &snapshot, &refused()), waits);
        snapshot.lag_bytes = 0;
        assert_eq!(status(Rates::default(), &snapshot, &[]), "0 lines/s, up to date");
    }

    #[test]
    fn the_live_line_fits_the_terminal() {
        let mut snapshot = Snapshot::default();
        snapshot.lines.outcomes.dead_lettered = 2;
        let rates = Rates { lines: 1e6, documents: 999.5 };
        let whole = "1,000,000 lines/s, 1,000 docs/s, up to date, 2 dead-lettered";
        assert_eq!(live(rates, &snapshot, &[], 80), whole);
        assert_eq!(live(rates, &snapshot, &refused(), 20), "1,000,000 lines/s, …");
        let mut hostile = refused();
        hostile[0].reason = "\x1b[2J\nno".to_owned();
        assert!(!live(rates, &snapshot, &hostile, 200).contains(char::is_control));
    }

    #[test]
    fn the_summary_is_an_equation_or_names_the_difference() {
        let outcomes = Outcomes { created: 1000, duplicate: 2, dead_lettered: 0, skipped: 3 };
        let lines = Lines { read: 1006, outcomes, in_flight: 1 };
        let mut snapshot = Snapshot { lines, read_bytes: 2048, ..Snapshot::default() };
        let sum = "1,000 created + 2 there already + 0 dead-lettered + 3 skipped + 1 in flight";
        let took = Duration::from_millis(1500);
        assert_eq!(summary(&snapshot, took), format!("1,006 lines read = {sum} (conserved); 2.0 KiB in 1.5 s"));
        for read in [1004, 1008] {
            snapshot.lines.read = read;
            assert!(summary(&snapshot, took).contains("(NOT conserved: a difference of 2)"));
        }
    }

    fn of_lines(read: u64) -> Snapshot {
        Snapshot { lines: Lines { read, ..Lines::default() }, ..Snapshot::default() }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let start = Instant::now();
        let mut meter = RateMeter::new(of_lines(100), start);
        let next = of_lines(300);
        assert_eq!(meter.rates(next, start + Duration::from_secs(2)), Rates { lines: 100.0, documents: 0.0 });
        assert_eq!(meter.rates(next, start + Duration::from_secs(2)), Rates::default());
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (n, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), expected);
        }
        for (n, expected) in
            [(1023, "1023 B"), (1024, "1.0 KiB"), ((1 << 20) - 1, "1.0 MiB"), (u64::MAX, "16384.0 PiB")]
        {
            assert_eq!(bytes(n), expected);
        }
    }
}
