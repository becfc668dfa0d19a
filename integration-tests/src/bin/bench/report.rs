//! What came out: every figure beside what was expected of it, for people as a table and for programs as JSON.

use std::fmt;

use serde::Serialize;

use crate::input::Input;
use crate::machine::Machine;
use crate::median;
use crate::scenario::{Goal, Round, Scenario};

/// The sink may cost this much, in microseconds of processor time for an event; else it is measured instead.
const MAX_SINK_US: f64 = 0.3;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    lines: u64,
    bytes_per_line: f64,
    rounds: u32,
    /// The sink read the bodies: then speed means nothing.
    verified: bool,
    results: Vec<Outcome>,
    /// Whether no goal was missed.
    pub(crate) passed: bool,
}

/// A scenario's results.
#[derive(Debug, Serialize)]
struct Outcome {
    scenario: &'static str,
    goal: Goal,
    figures: Vec<Figure>,
    events_per_bulk: f64,
    bytes_per_event: f64,
    sent_bytes_per_event: f64,
    connections: u64,
    /// Events a second if daemon and sink had all processors for themselves and nothing else held them up: on a busy
    /// machine closer to the truth than what was measured.
    events_per_second_by_cpu: f64,
    rounds: Vec<Round>,
}

/// A measured figure: the median of the rounds, for memory the largest.
#[derive(Debug, Serialize)]
struct Figure {
    what: What,
    /// As it is set.
    goal: Option<f64>,
    /// What of it can be expected of this machine.
    here: Option<f64>,
    measured: f64,
    met: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    EventsPerSecond,
    CpuUsPerEvent,
    MaxRssBytes,
    SinkUsPerEvent,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::EventsPerSecond => "events/s",
            Self::CpuUsPerEvent => "CPU µs/event",
            Self::MaxRssBytes => "memory, MiB",
            Self::SinkUsPerEvent => "sink CPU µs/event",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::EventsPerSecond => thousands(value),
            Self::CpuUsPerEvent | Self::SinkUsPerEvent => format!("{value:.2}"),
            Self::MaxRssBytes => format!("{:.1}", value / f64::from(1 << 20)),
        }
    }

    fn sign(self) -> char {
        if self == Self::EventsPerSecond { '≥' } else { '≤' }
    }
}

impl Figure {
    fn new(what: What, goal: Option<f64>, here: Option<f64>, measured: f64) -> Self {
        let met = here.map(|here| if what == What::EventsPerSecond { measured >= here } else { measured <= here });
        Self { what, goal, here, measured, met }
    }
}

impl Report {
    /// A report without scenarios.
    pub(crate) fn new(machine: Machine, input: &Input, rounds: u32, verified: bool) -> Self {
        let bytes_per_line = input.bytes as f64 / input.lines as f64;
        Self { machine, lines: input.lines, bytes_per_line, rounds, verified, results: Vec::new(), passed: true }
    }

    /// Adds what a scenario's rounds were like.
    pub(crate) fn add(&mut self, scenario: Scenario, rounds: Vec<Round>) {
        let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        let goal = scenario.goal();
        let events_per_bulk = middle(|round| round.sink.documents as f64 / round.sink.bulks.max(1) as f64);
        let bound = scenario.bound(events_per_bulk);
        let share_of_bound = goal.share_of_bound.zip(bound).map(|(share, bound)| share * bound);
        let scaled = goal.events_per_second.map(|goal| goal * self.machine.scale);
        let rss = rounds.iter().map(|round| round.daemon.max_rss_bytes).max().unwrap_or(0);
        let max_rss = goal.max_rss_bytes.map(|bytes| bytes as f64);
        // Not where it has more to do than to count.
        let max_sink = (scenario != Scenario::Gzip && !self.verified).then_some(MAX_SINK_US);
        let speed = middle(|round| round.events_per_second);
        let cpu = middle(|round| round.cpu_us_per_event);
        let sink = middle(|round| round.sink_us_per_event);
        let figures = vec![
            Figure::new(
                What::EventsPerSecond,
                goal.events_per_second.or(share_of_bound),
                scaled.or(share_of_bound),
                speed,
            ),
            Figure::new(What::CpuUsPerEvent, goal.cpu_us_per_event, goal.cpu_us_per_event, cpu),
            Figure::new(What::MaxRssBytes, max_rss, max_rss, rss as f64),
            Figure::new(What::SinkUsPerEvent, max_sink, max_sink, sink),
        ];
        self.passed &= self.verified || figures.iter().all(|figure| figure.met != Some(false));
        self.results.push(Outcome {
            scenario: scenario.name(),
            goal,
            figures,
            events_per_bulk,
            bytes_per_event: middle(|round| round.sink.body_bytes as f64 / round.sink.documents.max(1) as f64),
            sent_bytes_per_event: middle(|round| round.sink.sent_bytes as f64 / round.sink.documents.max(1) as f64),
            events_per_second_by_cpu: self.machine.cores as f64 * 1e6 / (cpu + sink),
            connections: rounds.iter().map(|round| round.sink.connections).max().unwrap_or(0),
            rounds,
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(f, "{}, {} cores, load {:.2} at the start", machine.cpu, machine.cores, machine.load)?;
        if machine.noisy {
            writeln!(f, "THIS MACHINE WAS BUSY, if only with a build: read times as upper bounds, or run this again")?;
        }
        if self.verified {
            writeln!(f, "VERIFIED: the sink read every body; figures of speed mean nothing")?;
        }
        writeln!(
            f,
            "{} lines of {:.0} bytes; {} rounds: medians, for memory the largest\n",
            thousands(self.lines as f64),
            self.bytes_per_line,
            self.rounds
        )?;
        writeln!(f, "limits of the machine")?;
        writeln!(f, "  {:<38} {:>12} lines/s", "wc -l", thousands(machine.wc_lines_per_second))?;
        writeln!(
            f,
            "  {:<38} {:>12} lines/s, {:.2} of the reference machine's",
            "finding newlines, blocks of 256 KiB",
            thousands(machine.scan_lines_per_second),
            machine.scale
        )?;
        for made in &machine.ready_made {
            writeln!(
                f,
                "  {:<38} {:>12} events/s, {:.2} GB/s, sink {:.2} µs/event",
                format!(
                    "ready-made bodies, {} connection{}",
                    made.connections,
                    if made.connections == 1 { "" } else { "s" }
                ),
                thousands(made.events_per_second),
                made.bytes_per_second / 1e9,
                made.sink_us_per_event
            )?;
        }
        if self.results.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:<12} {:<18} {:>12} {:>12} {:>12}  verdict", "scenario", "figure", "goal", "here", "measured")?;
        for result in &self.results {
            for figure in &result.figures {
                let goal = |value: Option<f64>| match value {
                    Some(value) => format!("{} {}", figure.what.sign(), figure.what.show(value)),
                    None => "-".to_owned(),
                };
                let verdict = match figure.met {
                    _ if self.verified => "not judged",
                    Some(true) => "met",
                    Some(false) => "MISSED",
                    None => "no goal",
                };
                writeln!(
                    f,
                    "{:<12} {:<18} {:>12} {:>12} {:>12}  {verdict}",
                    result.scenario,
                    figure.what.name(),
                    goal(figure.goal),
                    goal(figure.here),
                    figure.what.show(figure.measured),
                )?;
            }
        }
        writeln!(f)?;
        for result in &self.results {
            writeln!(
                f,
                "{:<12} {:.0} events a request, {:.0} bytes an event ({:.0} sent), {} connections; events/s by round {}; \
                 by CPU alone {}",
                result.scenario,
                result.events_per_bulk,
                result.bytes_per_event,
                result.sent_bytes_per_event,
                result.connections,
                result.rounds.iter().map(|round| thousands(round.events_per_second)).collect::<Vec<_>>().join(" "),
                thousands(result.events_per_second_by_cpu),
            )?;
        }
        Ok(())
    }
}

/// A whole number with a comma every three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_can_be_read() {
        for (value, text) in [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn speed_has_a_floor_and_cost_a_ceiling() {
        let met = |what, here, measured| Figure::new(what, here, here, measured).met;
        assert_eq!(met(What::EventsPerSecond, Some(10.0), 11.0), Some(true));
        assert_eq!(met(What::EventsPerSecond, Some(10.0), 9.0), Some(false));
        assert_eq!(met(What::CpuUsPerEvent, Some(1.6), 1.5), Some(true));
        assert_eq!(met(What::MaxRssBytes, Some(10.0), 11.0), Some(false));
        assert_eq!(met(What::CpuUsPerEvent, None, 1.0), None);
    }
}
