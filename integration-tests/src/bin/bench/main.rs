//! `make bench`: how fast the daemon is, what it costs, and how much of that is the machine.
//!
//! The daemon is the release binary as people run it, fed with generated files and connected to a sink that only counts
//! ([`sink`]): what is measured is logweir, not Elasticsearch. Sink and daemon are processes of their own, and the daemon
//! is measured by the kernel when it ends ([`measure`]). A run in which the sink did not count exactly the lines that
//! were written is no measurement but an error. What the machine can do at best is measured beside it ([`machine`]), so
//! that numbers from two machines can be compared.
//!
//! Exit status: 0 every goal was met; 1 one was missed; 2 something could not be measured.

mod http;
mod input;
mod machine;
mod measure;
mod reply;
mod report;
mod scenario;
mod sink;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand, ValueEnum};

use input::Input;
use machine::Machine;
use report::Report;
use scenario::Scenario;

/// Measures the release binary of logweir against a sink that counts
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// What to run [default: those that the environment variable BENCH names, else all]
    scenarios: Vec<Scenario>,
    /// Rounds of each scenario; the medians are judged
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Lines to index, a multiple of 1000
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// The daemon [default: the logweir that was built beside this program]
    #[arg(long, value_name = "FILE")]
    logweir: Option<PathBuf>,
    /// Check that every body is valid NDJSON and no id comes twice. The sink is slow then: speed means nothing
    #[arg(long)]
    verify: bool,
    /// Measure only the machine
    #[arg(long)]
    machine: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What the benchmark starts as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// Stands in for Elasticsearch, counts what it is sent, and ends with its standard input
    Sink(sink::Options),
    /// Runs a program to its end and prints what it cost
    #[command(hide = true)]
    Measure(measure::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli { part: Some(Part::Sink(options)), .. } => sink::run(&options).map(|()| true),
        Cli { part: Some(Part::Measure(options)), .. } => measure::run(&options).map(|()| true),
        cli => bench(&cli),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn bench(cli: &Cli) -> Result<bool> {
    let scenarios = if cli.machine { Vec::new() } else { chosen(&cli.scenarios)? };
    let program = std::env::current_exe().context("where is this program?")?;
    let beside = program.parent().context("this program is in no directory")?;
    let logweir = cli.logweir.clone().unwrap_or_else(|| beside.join("logweir"));
    if !scenarios.is_empty() && !logweir.is_file() {
        bail!("{} is missing: run `make bench`, or `cargo build --release` first", logweir.display());
    }
    let dir = beside.parent().context("this program is in no target directory")?.join("bench");
    let input = Input::prepare(&dir, cli.lines, scenarios.contains(&Scenario::Chunks))?;

    let machine = Machine::measure(&program, &input, cli.rounds)?;
    let mut report = Report::new(machine, &input, cli.rounds, cli.verify);
    for scenario in scenarios {
        let mut rounds = Vec::new();
        for round in 1..=cli.rounds {
            eprintln!("bench: {}, round {round} of {}", scenario.name(), cli.rounds);
            let run = scenario.run(&program, &logweir, &input, cli.verify);
            rounds.push(run.with_context(|| format!("scenario {}, round {round}", scenario.name()))?);
        }
        report.add(scenario, rounds);
    }

    let path = dir.join("report.json");
    let json = serde_json::to_string_pretty(&report)?;
    std::fs::write(&path, format!("{json}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    if cli.json {
        println!("{json}");
    } else {
        print!("{report}");
    }
    Ok(report.passed)
}

fn chosen(typed: &[Scenario]) -> Result<Vec<Scenario>> {
    if !typed.is_empty() {
        return Ok(typed.to_vec());
    }
    let named = std::env::var("BENCH").unwrap_or_default();
    let names: Vec<&str> = named.split([' ', ',']).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Ok(Scenario::value_variants().to_vec());
    }
    names.iter().map(|name| Scenario::from_str(name, false).map_err(|why| anyhow!("BENCH: {name}: {why}"))).collect()
}

/// Events a second, or the like; 0 where no time passed.
fn rate(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (count, middle) if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        (_, middle) => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([3.0]), 3.0);
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
    }
}
