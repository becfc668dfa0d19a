//! Many files grow together, and one of them as fast as it can be read: how long do lines of the others wait?

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

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
use crate::stamp::{Delays, Writer};
use crate::stats::median;
use crate::throughput::judge;

/// All but the hot one.
const OTHERS: usize = 99;
/// To each of the others.
const LINES_PER_SECOND: u64 = 20;
const SECONDS: u64 = 5;
/// So many lines of the hot file wait to be read, always.
const AHEAD: u64 = 200_000;
const BLOCK_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// What one run was like.
#[derive(Debug, Serialize)]
struct Round {
    /// Of lines of the others.
    delays: Delays,
    hot_lines_per_second: f64,
    /// Of the hot file, once it was ahead: were it few, nothing would have had to be shared.
    least_unread_lines: u64,
    max_rss_bytes: u64,
}

/// Runs all rounds.
pub(crate) fn run(bench: &Bench, input: &Input) -> Result<Outcome> {
    let mut rounds = Vec::new();
    for round in 1..=bench.rounds {
        eprintln!("bench: fair, round {round} of {}", bench.rounds);
        rounds.push(once(bench, input)?);
    }
    let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let most = |figure: fn(&Round) -> f64| rounds.iter().map(figure).fold(0.0, f64::max);
    let least = rounds.iter().map(|round| round.least_unread_lines).min().unwrap_or(0) as f64;
    let memory = Figure::peak_memory(rounds.iter().map(|round| round.max_rss_bytes));
    let figures = vec![
        // Of all rounds: no file means no file.
        Figure::new("longest wait of another file", Unit::Milliseconds, most(|round| round.delays.max_ms))
            .judged(goal::FAIR_WAIT_MS, bench.scale),
        Figure::new("wait of other files, p50", Unit::Milliseconds, middle(|round| round.delays.p50_ms)),
        Figure::new("wait of other files, p99", Unit::Milliseconds, middle(|round| round.delays.p99_ms)),
        Figure::new("events/s of the hot file", Unit::PerSecond, middle(|round| round.hot_lines_per_second)),
        Figure::new("unread lines of the hot file, least", Unit::Count, least),
        memory.judged(goal::MEMORY, bench.scale),
    ];
    let note = format!(
        "{OTHERS} files of {LINES_PER_SECOND} lines a second and one that is kept {AHEAD} lines ahead of the sink, for {SECONDS} s"
    );
    Ok(Outcome::new("fair", figures, note, json!(rounds)))
}

fn once(bench: &Bench, input: &Input) -> Result<Round> {
    let options = sink::Options { stamps: true, verify: bench.verify, ..Default::default() };
    let sink = Sink::start(&bench.program, &options)?;
    let logs = tempfile::tempdir_in(&bench.dir)?;
    let file = |name: &str| File::create(logs.path().join(name));
    let others = (0..OTHERS).map(|number| file(&format!("{number}.log"))).collect::<Result<Vec<_>, _>>()?;
    let mut hot = Hot { from: File::open(&input.file)?, to: file("hot.log")?, lines: 0, block: vec![0; BLOCK_BYTES] };
    let place = Place::new(bench, &Setup::tail(&logs.path().join("*.log"), &sink.url()))?;
    let daemon = place.start()?;
    let run = || -> Result<Round> {
        daemon.ready()?;
        let mut writer = Writer::new(others, LINES_PER_SECOND * OTHERS as u64);
        while hot.lines < AHEAD {
            hot.grow()?;
        }
        let (began, mut least_unread_lines) = (Instant::now(), AHEAD);
        while began.elapsed() < Duration::from_secs(SECONDS) {
            writer.write()?;
            let unread = (hot.lines + writer.lines).saturating_sub(sink.documents()?);
            least_unread_lines = least_unread_lines.min(unread);
            if unread < AHEAD {
                hot.grow()?;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        sink.wait_for(writer.lines + hot.lines, PATIENCE)?;
        let seconds = began.elapsed().as_secs_f64();
        let delays = sink.delays(writer.lines)?;
        let cost = daemon.stop()?;
        judge(&cost, &sink.counted()?, writer.lines + hot.lines)?;
        let hot_lines_per_second = hot.lines as f64 / seconds;
        Ok(Round { delays, hot_lines_per_second, least_unread_lines, max_rss_bytes: cost.max_rss_bytes })
    };
    run().map_err(|error| place.explain(error))
}

/// A file that grows with the lines of another, again and again.
struct Hot {
    from: File,
    to: File,
    lines: u64,
    block: Vec<u8>,
}

impl Hot {
    /// Appends a block of whole lines.
    fn grow(&mut self) -> Result<()> {
        let read = self.from.read(&mut self.block)?;
        let Some(end) = memchr::memrchr(b'\n', &self.block[..read]) else {
            return self.from.rewind().context("cannot begin again");
        };
        // What was read of the next line is read again.
        self.from.seek_relative(end as i64 + 1 - read as i64)?;
        self.to.write_all(&self.block[..=end])?;
        self.lines += memchr::memchr_iter(b'\n', &self.block[..=end]).count() as u64;
        Ok(())
    }
}
