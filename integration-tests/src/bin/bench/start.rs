//! From the start of the process to the first document, where there is much to read.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use crate::Bench;
use crate::figure::{Figure, Unit};
use crate::input::Input;
use crate::place::{Place, Setup};
use crate::report::Outcome;
use crate::scenario::goal;
use crate::sink::{self, Sink};
use crate::stats::median;

/// A start is short, so there can be many.
const STARTS_PER_ROUND: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(20);

/// What one start was like.
#[derive(Debug, Serialize)]
struct Round {
    ready_ms: f64,
    first_document_ms: f64,
}

/// Runs all rounds.
pub(crate) fn run(bench: &Bench, input: &Input) -> Result<Outcome> {
    eprintln!("bench: start, {} times", bench.rounds * STARTS_PER_ROUND);
    let rounds = (0..bench.rounds * STARTS_PER_ROUND).map(|_| once(bench, input)).collect::<Result<Vec<_>>>()?;
    let first = median(rounds.iter().map(|round| round.first_document_ms));
    let figures = vec![
        Figure::new("start to first document, p50", Unit::Milliseconds, first).judged(goal::START_MS, bench.scale),
        Figure::new("start to ready, p50", Unit::Milliseconds, median(rounds.iter().map(|round| round.ready_ms))),
    ];
    let note = format!("{} starts without checkpoints, each with all lines to be read", rounds.len());
    Ok(Outcome::new("start", figures, note, json!(rounds)))
}

fn once(bench: &Bench, input: &Input) -> Result<Round> {
    let sink = Sink::start(&bench.program, &sink::Options::default())?;
    let place = Place::new(bench, &Setup::tail(&input.file, &sink.url()))?;
    let run = || -> Result<Round> {
        let daemon = place.start()?;
        let started_ns = daemon.process.started_ns;
        let ready_ms = daemon.ready()?.as_secs_f64() * 1000.0;
        sink.wait_for(1, PATIENCE)?;
        daemon.stop()?;
        let first_ns = sink.counted()?.first_answer_ns.context("the sink answered nothing")?;
        Ok(Round { ready_ms, first_document_ms: first_ns.saturating_sub(started_ns) as f64 / 1e6 })
    };
    run().map_err(|error| place.explain(error))
}
