//! `make soak`: the release binary under random faults for minutes or hours, and a report of one page that says what was
//! done to it and whether any line was lost or is there twice.
//!
//! A generator writes numbered lines at a steady rate into files that rotate; a real Elasticsearch node takes them by way of
//! a proxy. Faults are drawn from a seed, one after the other, some before the one before was recovered from, and every one
//! heals by itself ([`fault`]). At the end the numbers found in Elasticsearch are compared with what the generator wrote
//! ([`count`]), beside `logweir verify`.
//!
//! `make outage`: one long outage of Elasticsearch under the same traffic, in which the daemon's memory is watched
//! ([`outage`]).
//!
//! Exit status: 0 nothing lost, nothing twice, as many faults as promised; 1 anything else.

mod count;
mod fault;
mod outage;
mod report;
mod soak;
mod traffic;
mod world;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

/// Puts the daemon under random faults and counts what became of each line
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Elasticsearch cannot be reached all the time, while lines come: memory is watched
    Outage(Options),
}

/// How long and how much.
#[derive(Clone, Debug, Args)]
struct Options {
    /// How long, in minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How long, in seconds, instead of minutes
    #[arg(long, conflicts_with = "minutes")]
    seconds: Option<u64>,
    /// Equal seeds give equal lines and draw equal faults [default: by the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Lines a second, in all files together
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Where the report goes, as JSON [default: soak/report.json or outage.json in the target directory]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes * 60))
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(integration_tests::dice::clock)
    }
}

/// Set in the process that has mounts of its own.
const INSIDE: &str = "LOGWEIR_SOAK_INSIDE";

fn main() -> ExitCode {
    let cli = Cli::parse();
    if std::env::var_os(INSIDE).is_none() {
        // A small file system for the state is mounted where nobody else sees it, and is gone with this process.
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount").args((!nix::unistd::geteuid().is_root()).then_some("--map-root-user"));
        // Elasticsearch as people run it, which is not how the tests start it.
        let java = std::env::var_os("ES_JAVA_OPTS").unwrap_or_default();
        unshare.env(INSIDE, "1").env("ES_JAVA_OPTS", java);
        let error = match std::env::current_exe() {
            Ok(program) => unshare.arg(program).args(std::env::args_os().skip(1)).exec(),
            Err(error) => error,
        };
        eprintln!("soak: unshare (util-linux) cannot be run: {error}");
        return ExitCode::FAILURE;
    }
    let result = match &cli.scenario {
        Some(Scenario::Outage(options)) => outage::run(options).and_then(|report| {
            save(options, "outage.json", &report)?;
            print!("{report}");
            Ok(report.outcome.passed)
        }),
        None => soak::run(&cli.options).and_then(|report| {
            save(&cli.options, "report.json", &report)?;
            print!("{report}");
            Ok(report.outcome.passed)
        }),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn save(options: &Options, name: &str, report: &impl serde::Serialize) -> Result<()> {
    let path = match &options.report {
        Some(path) => path.clone(),
        None => {
            let program = std::env::current_exe().context("where is this program?")?;
            let target = program.ancestors().nth(2).context("this program is in no target directory")?;
            target.join("soak").join(name)
        }
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
