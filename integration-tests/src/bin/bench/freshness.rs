//! How old a line is when the sink acknowledges it, while lines are written at a steady rate.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::Bench;
use crate::figure::{Figure, Goal, Unit};
use crate::place::{Place, Setup};
use crate::report::Outcome;
use crate::scenario::goal;
use crate::sink::{self, Sink};
use crate::stamp::{Delays, Writer};
use crate::stats::median;
use crate::throughput::judge;

const PER_SECOND: u64 = 10_000;
const SECONDS: u64 = 10;
/// A writer that reached less of its rate measured something else.
const MIN_RATE_SHARE: f64 = 0.95;
const PATIENCE: Duration = Duration::from_secs(20);

/// What one run was like.
#[derive(Debug, Serialize)]
struct Round {
    delays: Delays,
    cpu_us_per_event: f64,
    max_rss_bytes: u64,
}

/// Runs all rounds, with the settings of `bench`; the goals are for p50 and p99 in milliseconds.
pub(crate) fn run(bench: &Bench, name: &str, p50: Option<Goal>, p99: Goal) -> Result<Outcome> {
    let mut rounds = Vec::new();
    for round in 1..=bench.rounds {
        eprintln!("bench: {name}, round {round} of {}", bench.rounds);
        rounds.push(once(bench)?);
    }
    let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let memory = Figure::peak_memory(rounds.iter().map(|round| round.max_rss_bytes));
    let half = Figure::new("written to acknowledged, p50", Unit::Milliseconds, middle(|round| round.delays.p50_ms));
    let figures = vec![
        match p50 {
            Some(goal) => half.judged(goal, bench.scale),
            None => half,
        },
        Figure::new("written to acknowledged, p99", Unit::Milliseconds, middle(|round| round.delays.p99_ms))
            .judged(p99, bench.scale),
        Figure::new("written to acknowledged, longest", Unit::Milliseconds, middle(|round| round.delays.max_ms)),
        Figure::new("CPU an event", Unit::Microseconds, middle(|round| round.cpu_us_per_event)),
        memory.judged(goal::MEMORY, bench.scale),
    ];
    let note = format!("{PER_SECOND} lines a second for {SECONDS} s, each with a write of its own");
    Ok(Outcome::new(name, figures, note, json!(rounds)))
}

fn once(bench: &Bench) -> Result<Round> {
    let options = sink::Options { stamps: true, verify: bench.verify, ..Default::default() };
    let sink = Sink::start(&bench.program, &options)?;
    let logs = tempfile::tempdir_in(&bench.dir)?;
    let log = logs.path().join("access.log");
    let file = File::create(&log)?;
    let place = Place::new(bench, &Setup::tail(&log, &sink.url()))?;
    let daemon = place.start()?;
    let run = || -> Result<Round> {
        daemon.ready()?;
        let mut writer = Writer::new(vec![file], PER_SECOND);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(SECONDS) {
            writer.write()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let rate = writer.lines as f64 / began.elapsed().as_secs_f64();
        ensure!(rate >= MIN_RATE_SHARE * PER_SECOND as f64, "only {rate:.0} lines a second could be written");
        sink.wait_for(writer.lines, PATIENCE)?;
        let delays = sink.delays(writer.lines)?;
        let cost = daemon.stop()?;
        judge(&cost, &sink.counted()?, writer.lines)?;
        Ok(Round {
            delays,
            cpu_us_per_event: cost.cpu_seconds() * 1e6 / writer.lines as f64,
            max_rss_bytes: cost.max_rss_bytes,
        })
    };
    run().map_err(|error| place.explain(error))
}
