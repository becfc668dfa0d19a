//! What came out: every figure beside what was expected of it, for people as a table and for programs as JSON.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::figure::Figure;
use crate::input::Input;
use crate::machine::Machine;
use crate::stats::thousands;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    lines: u64,
    bytes_per_line: f64,
    rounds: u32,
    /// What was set beside the configuration of each scenario.
    settings: Vec<String>,
    /// The sink read the bodies: then speed means nothing.
    verified: bool,
    results: Vec<Outcome>,
    /// What failed, and why.
    pub(crate) not_measured: Vec<String>,
    /// Whether no goal was missed.
    pub(crate) passed: bool,
}

/// What a scenario, or a peer, came to.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    name: String,
    figures: Vec<Figure>,
    /// What else is worth knowing, in words.
    note: String,
    /// Each round as it was measured.
    rounds: Value,
}

impl Outcome {
    pub(crate) fn new(name: &str, figures: Vec<Figure>, note: String, rounds: Value) -> Self {
        Self { name: name.to_owned(), figures, note, rounds }
    }
}

impl Report {
    /// A report without scenarios.
    pub(crate) fn new(machine: Machine, input: &Input, rounds: u32, settings: &[String], verified: bool) -> Self {
        Self {
            machine,
            lines: input.lines,
            bytes_per_line: input.bytes as f64 / input.lines as f64,
            rounds,
            settings: settings.to_vec(),
            verified,
            results: Vec::new(),
            not_measured: Vec::new(),
            passed: true,
        }
    }

    /// Adds what scenarios came to, or why they came to nothing.
    pub(crate) fn add(&mut self, name: &str, outcomes: Result<Vec<Outcome>>) {
        match outcomes {
            Ok(outcomes) => {
                let mut figures = outcomes.iter().flat_map(|outcome| &outcome.figures);
                self.passed &= self.verified || !figures.any(Figure::missed);
                self.results.extend(outcomes);
            }
            Err(error) => {
                self.passed = false;
                self.not_measured.push(format!("{name}: {error:#}"));
            }
        }
    }

    fn limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
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
            let connections = if made.connections == 1 { "connection" } else { "connections" };
            writeln!(
                f,
                "  {:<38} {:>12} events/s, {:.2} GB/s, sink {:.2} µs/event",
                format!("ready-made bodies, {} {connections}", made.connections),
                thousands(made.events_per_second),
                made.bytes_per_second / 1e9,
                made.sink_us_per_event
            )?;
        }
        Ok(())
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
        if !self.settings.is_empty() {
            writeln!(f, "set beside the defaults: {}", self.settings.join(" "))?;
        }
        let lines = thousands(self.lines as f64);
        let (bytes, rounds) = (self.bytes_per_line, self.rounds);
        writeln!(f, "{lines} lines of {bytes:.0} bytes; {rounds} rounds: medians, for memory the largest\n")?;
        self.limits(f)?;
        for failed in &self.not_measured {
            writeln!(f, "\nNOT MEASURED: {failed}")?;
        }
        if self.results.is_empty() {
            return Ok(());
        }
        let row = |f: &mut fmt::Formatter<'_>, name: &str, [what, goal, here, measured, verdict]: [&str; 5]| {
            writeln!(f, "{name:<18} {what:<45} {goal:>14} {here:>14} {measured:>14}  {verdict}")
        };
        writeln!(f)?;
        row(f, "scenario", ["figure", "goal", "here", "measured", "verdict"])?;
        for result in &self.results {
            for figure in &result.figures {
                let [what, goal, here, measured, verdict] = figure.cells();
                let verdict = if self.verified { "not judged" } else { &verdict };
                row(f, &result.name, [&what, &goal, &here, &measured, verdict])?;
            }
        }
        writeln!(f)?;
        for result in &self.results {
            writeln!(f, "{:<18} {}", result.name, result.note)?;
        }
        Ok(())
    }
}
