//! Many files that were read long ago: what watching them costs, and what a start with them takes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use integration_tests::machine::memory;
use serde::Serialize;
use serde_json::json;

use crate::Bench;
use crate::figure::{Figure, Unit};
use crate::place::{Place, Setup};
use crate::report::Outcome;
use crate::scenario::goal;
use crate::sink::{self, Sink};
use crate::stamp::write_line;
use crate::stats::{mib, unix_ns};
use crate::throughput::judge;

const FILES: u64 = 20_000;
/// In one directory there are so many.
const FILES_PER_DIRECTORY: u64 = 1000;
/// So old are the files when they are first read.
const AGE: Duration = Duration::from_secs(3600);
/// After the last line, before anything is measured.
const REST: Duration = Duration::from_secs(5);
/// Three scans.
const WINDOW: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);

/// What the run was like. There is one: it takes long, and varies little.
#[derive(Debug, Serialize)]
struct Round {
    cpu_percent: f64,
    rss_bytes: u64,
    max_rss_bytes: u64,
    descriptors: usize,
    ready_ms: f64,
    /// Right after the start, and after a long rest.
    line_ms: [f64; 2],
    /// Of the life before, which read them all.
    indexing_max_rss_bytes: u64,
}

/// Runs it.
pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    eprintln!("bench: idle, takes {} s", (REST + WINDOW).as_secs());
    let round = once(bench)?;
    let figure = |what, unit, measured, goal| Figure::new(what, unit, measured).judged(goal, bench.scale);
    let figures = vec![
        figure("of a core", Unit::Percent, round.cpu_percent, goal::IDLE_CPU),
        figure("memory", Unit::Mebibytes, mib(round.rss_bytes), goal::IDLE_MEMORY),
        figure("descriptors", Unit::Count, round.descriptors as f64, goal::IDLE_DESCRIPTORS),
        figure("start with checkpoints to ready", Unit::Milliseconds, round.ready_ms, goal::IDLE_READY_MS),
        figure("first line after the start", Unit::Milliseconds, round.line_ms[0], goal::IDLE_LINE_MS),
        figure("first line after the rest", Unit::Milliseconds, round.line_ms[1], goal::IDLE_LINE_MS),
        Figure::peak_memory(std::iter::once(round.max_rss_bytes)),
        Figure::new("memory, peak of reading them all", Unit::Mebibytes, mib(round.indexing_max_rss_bytes)),
    ];
    let note = format!("{FILES} files, nothing written to them for {} s; one run", WINDOW.as_secs());
    Ok(Outcome::new("idle", figures, note, json!([round])))
}

fn once(bench: &Bench) -> Result<Round> {
    let sink = Sink::start(&bench.program, &sink::Options { verify: bench.verify, ..Default::default() })?;
    let logs = tempfile::tempdir_in(&bench.dir)?;
    for number in 0..FILES {
        if number % FILES_PER_DIRECTORY == 0 {
            fs::create_dir(logs.path().join((number / FILES_PER_DIRECTORY).to_string()))?;
        }
        append(logs.path(), number)?;
        File::open(path(logs.path(), number))?.set_modified(SystemTime::now() - AGE)?;
    }
    let place = Place::new(bench, &Setup::tail(&logs.path().join("*/*.log"), &sink.url()))?;
    let run = || -> Result<Round> {
        let daemon = place.start()?;
        sink.wait_for(FILES, PATIENCE)?;
        let indexing_max_rss_bytes = daemon.stop()?.max_rss_bytes;

        let daemon = place.start()?;
        let ready_ms = daemon.ready()?.as_secs_f64() * 1000.0;
        let first = line_ms(logs.path(), 0, &sink, FILES + 1)?;
        std::thread::sleep(REST);
        let (before, began) = (daemon.process.cpu_time()?, Instant::now());
        std::thread::sleep(WINDOW);
        let cpu_time = daemon.process.cpu_time()? - before;
        let cpu_percent = 100.0 * cpu_time.as_secs_f64() / began.elapsed().as_secs_f64();
        let rss_bytes = memory(daemon.process.pid, "VmRSS").context("the daemon is gone")?;
        let descriptors = daemon.process.descriptors()?;
        let last = line_ms(logs.path(), FILES - 1, &sink, FILES + 2)?;
        let cost = daemon.stop()?;
        judge(&cost, &sink.counted()?, FILES + 2)?;
        let max_rss_bytes = cost.max_rss_bytes;
        let line_ms = [first, last];
        Ok(Round { cpu_percent, rss_bytes, max_rss_bytes, descriptors, ready_ms, line_ms, indexing_max_rss_bytes })
    };
    run().map_err(|error| place.explain(error))
}

/// Appends a line and waits for it; how long it took to the sink's answer.
fn line_ms(logs: &Path, number: u64, sink: &Sink, documents: u64) -> Result<f64> {
    let written_ns = append(logs, number)?;
    sink.wait_for(documents, PATIENCE)?;
    Ok(sink.answered_after(written_ns)? as f64 / 1e6)
}

/// Appends a line to the file of this number, made where it is not there yet; when.
fn append(logs: &Path, number: u64) -> Result<u64> {
    let mut line = Vec::new();
    let now = unix_ns();
    write_line(&mut line, now, number);
    OpenOptions::new().create(true).append(true).open(path(logs, number))?.write_all(&line)?;
    Ok(now)
}

fn path(logs: &Path, number: u64) -> PathBuf {
    logs.join((number / FILES_PER_DIRECTORY).to_string()).join(format!("{number}.log"))
}
