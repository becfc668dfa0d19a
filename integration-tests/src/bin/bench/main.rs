//! `make bench`: how fast the daemon is, what it costs, and how much of that is the machine.
//!
//! The daemon is the release binary as people run it, fed with generated files and connected to a sink that only counts
//! ([`serve`]), or to a real Elasticsearch ([`elastic`]). Sink and daemon are processes of their own, and the daemon is
//! measured by the kernel ([`measure`]). A run in which not exactly the lines that were written were counted is no
//! measurement but an error. What the machine can do at best is measured beside it ([`machine`]), so that numbers from two
//! machines can be compared; other tools run beside it where `PEERS` names them ([`peer`]).
//!
//! Exit status: 0 every goal was met; 1 one was missed; 2 something could not be measured.

mod elastic;
mod fair;
mod figure;
mod freshness;
mod http;
mod idle;
mod input;
mod long;
mod machine;
mod measure;
mod panels;
mod peer;
mod per_core;
mod place;
mod recording;
mod reply;
mod report;
mod scenario;
mod serve;
mod sink;
mod stamp;
mod start;
mod stats;
mod tally;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use input::Input;
use machine::Machine;
use report::Report;
use scenario::{Scenario, goal};

/// Measures the release binary of logweir against goals, limits of the machine, and peers
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// What to run [default: all but long]
    #[arg(value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Run long too
    #[arg(long)]
    long: bool,
    /// Rounds of each scenario; the medians are judged
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Lines to index, a multiple of 1000
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// Numbers of lines for long
    #[arg(long, value_delimiter = ',', default_value = "1000000,2000000,10000000,50000000")]
    points: Vec<u64>,
    /// The daemon [default: the logweir that was built beside this program]
    #[arg(long, value_name = "FILE")]
    logweir: Option<PathBuf>,
    /// Changes the daemon's configuration in all scenarios
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
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

/// What all scenarios need.
#[derive(Clone, Debug)]
struct Bench {
    /// This program.
    program: PathBuf,
    logweir: PathBuf,
    /// Below which all files are.
    dir: PathBuf,
    rounds: u32,
    /// What is set beside the configuration of each scenario.
    settings: Vec<String>,
    /// The sink reads every body.
    verify: bool,
    /// How fast this machine is beside the reference machine.
    scale: f64,
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli { part: Some(Part::Sink(options)), .. } => serve::run(&options).map(|()| true),
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
    let scenarios = if cli.machine { Vec::new() } else { chosen(cli) };
    let peers = peer::named(&std::env::var("PEERS").unwrap_or_default())?;
    let program = std::env::current_exe().context("where is this program?")?;
    let beside = program.parent().context("this program is in no directory")?.to_owned();
    let logweir = cli.logweir.clone().unwrap_or_else(|| beside.join("logweir"));
    if !scenarios.is_empty() && !logweir.is_file() {
        bail!("{} is missing: run `make bench`, or `cargo build --release` first", logweir.display());
    }
    let dir = beside.parent().context("this program is in no target directory")?.join("bench");
    let input = Input::prepare(&dir, cli.lines, scenarios.contains(&Scenario::Chunks))?;

    let machine = Machine::measure(&program, &input, cli.rounds)?;
    let (rounds, settings, scale) = (cli.rounds, cli.set.clone(), machine.scale);
    let bench = Bench { program, logweir, dir, rounds, settings, verify: cli.verify, scale };
    let mut report = Report::new(machine, &input, rounds, &bench.settings, bench.verify);
    let (throughput, others): (Vec<_>, Vec<_>) = scenarios.into_iter().partition(|scenario| scenario.is_throughput());
    if !throughput.is_empty() {
        report.add("throughput", throughput::run(&bench, &input, &throughput, &peers));
    }
    for scenario in others {
        report.add(scenario.name(), other(&bench, &input, scenario, &peers, &cli.points));
    }

    let path = bench.dir.join("report.json");
    let json = serde_json::to_string_pretty(&report)?;
    std::fs::write(&path, format!("{json}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    if cli.json {
        println!("{json}");
    } else {
        print!("{report}");
    }
    if !report.not_measured.is_empty() {
        bail!("not everything could be measured");
    }
    Ok(report.passed)
}

/// Runs a scenario that is more than one run over all lines into a sink.
fn other(
    bench: &Bench,
    input: &Input,
    scenario: Scenario,
    peers: &[peer::Peer],
    points: &[u64],
) -> Result<Vec<report::Outcome>> {
    Ok(match scenario {
        Scenario::Freshness => {
            vec![freshness::run(bench, scenario.name(), Some(goal::FRESHNESS_P50_MS), goal::FRESHNESS_P99_MS)?]
        }
        Scenario::Latency => {
            let mut bench = bench.clone();
            bench.settings.insert(0, "preset=latency".to_owned());
            vec![freshness::run(&bench, scenario.name(), None, goal::LATENCY_P99_MS)?]
        }
        Scenario::Idle => vec![idle::run(bench)?],
        Scenario::Fair => vec![fair::run(bench, input)?],
        Scenario::Start => vec![start::run(bench, input)?],
        Scenario::PerCore => vec![per_core::run(bench, input)?],
        // In a thread of its own: what drives Elasticsearch panics where it fails, as tests do.
        Scenario::Elastic => thread::scope(|scope| scope.spawn(|| elastic::run(bench, input, peers)).join())
            .unwrap_or_else(|_| bail!("Elasticsearch could not be driven: see above"))?,
        Scenario::Panels => thread::scope(|scope| scope.spawn(|| panels::run(bench, input.lines)).join())
            .unwrap_or_else(|_| bail!("Elasticsearch could not be driven: see above"))
            .map(|outcome| vec![outcome])?,
        Scenario::Long => vec![long::run(bench, points, input)?],
        Scenario::TenFields | Scenario::Default | Scenario::Chunks | Scenario::Gzip | Scenario::Slow => {
            throughput::run(bench, input, &[scenario], peers)?
        }
    })
}

/// The scenarios that were typed, or else all that are not too large to run unasked.
fn chosen(cli: &Cli) -> Vec<Scenario> {
    let mut scenarios = cli.scenarios.clone();
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
        scenarios.retain(|scenario| !matches!(scenario, Scenario::Long | Scenario::Panels));
    }
    if cli.long && !scenarios.contains(&Scenario::Long) {
        scenarios.push(Scenario::Long);
    }
    scenarios
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
    fn the_long_scenario_is_run_only_when_it_is_asked_for() {
        let chosen = |arguments: &[&str]| chosen(&Cli::parse_from([&["bench"], arguments].concat()));
        let all = chosen(&[]);
        assert!(all.contains(&Scenario::Elastic) && !all.contains(&Scenario::Long) && !all.contains(&Scenario::Panels));
        assert!(chosen(&["--long"]).contains(&Scenario::Long));
        assert_eq!(chosen(&["gzip,long"]), [Scenario::Gzip, Scenario::Long]);
        assert_eq!(chosen(&["slow", "--long"]), [Scenario::Slow, Scenario::Long]);
    }
}
