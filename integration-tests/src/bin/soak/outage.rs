//! One long outage: Elasticsearch refuses connections, comes back for a moment, then accepts connections and never answers,
//! while lines come and files rotate. The moment is there so that the second half begins while the daemon is catching up,
//! with all the memory for batches in use. The daemon's memory stays below its bound, reading stops, the files are the
//! queue; then everything is there once.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::dice::Dice;
use integration_tests::proxy::{Fault, Times, Which};
use serde::Serialize;

use crate::Options;
use crate::count::{Count, count};
use crate::report::{Machine, Verified, counted, mib};
use crate::traffic::Traffic;
use crate::world::{BESIDE_BATCHES, MAX_MEMORY, World};

/// Files rotate about this often, in seconds.
const ROTATE_EVERY: u64 = 60;
/// How often the daemon's memory is looked at.
const SAMPLE: Duration = Duration::from_secs(1);
const SAMPLES_A_LINE: u64 = 60;
/// In the middle of the outage so many requests get through.
const REQUESTS: u64 = 8;
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) passed: bool,
    failures: Vec<String>,
    seed: u64,
    minutes: f64,
    lines_a_second: u64,
    machine: Machine,
    /// Once a second.
    samples: u64,
    resident_bytes_at_most: u64,
    memory_high_water_bytes: u64,
    memory_bound_bytes: u64,
    /// Of the files, during the outage.
    written_bytes: u64,
    read_bytes: u64,
    rotations: u64,
    recovery_s: f64,
    count: Count,
    verify: Verified,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let duration = options.duration();
    let mut dice = Dice::seeded(options.seed());
    eprintln!("outage: seed {}, {} s", dice.seed(), duration.as_secs());
    let mut world = World::new()?;
    let rotate_every = ROTATE_EVERY.min(duration.as_secs() / 8).max(1);
    let traffic = Traffic::start(&world.workspace.logs(), &mut dice, options.rate, rotate_every)?;
    world.start_daemon();
    world.caught_up(options.rate, LIMIT)?;

    let began = Instant::now();
    let mut read_before = read_bytes(&world)?;
    let mut read = 0;
    world.proxy.refuse(true);
    world.proxy.cut();
    let mut half = false;
    let (mut samples, mut most) = (0, 0);
    while began.elapsed() < duration {
        if !half && began.elapsed() > duration / 2 {
            half = true;
            read += read_bytes(&world)? - read_before;
            come_back_for_a_moment(&mut world)?;
            world.proxy.inject(Which::Any, Fault::BlackHole, Times::Always);
            read_before = read_bytes(&world)?;
        }
        world.daemon()?;
        let resident = world.resident();
        most = most.max(resident);
        if samples % SAMPLES_A_LINE == 0 {
            let (at, read) = (began.elapsed().as_secs(), read + read_bytes(&world)? - read_before);
            eprintln!("outage: {at} s, resident {}, read during the outage {}", mib(resident), mib(read));
        }
        samples += 1;
        sleep(SAMPLE);
    }
    read += read_bytes(&world)? - read_before;
    world.proxy.lift_all();
    let recovery = world.caught_up(traffic.visible(), LIMIT.max(duration))?;
    let written = traffic.finish()?;
    let lines = written.iter().map(|stream| stream.manifest.lines).sum();
    world.caught_up(lines, LIMIT)?;
    world.stop_daemon()?;
    let count = count(&world.node, &written)?;
    let verify = world.workspace.run_within(&["verify", "--output", "json"], duration.max(Duration::from_secs(600)));

    let mut report = Report {
        passed: false,
        failures: counted(&count, Verified::of(&verify)),
        seed: dice.seed(),
        minutes: duration.as_secs_f64() / 60.0,
        lines_a_second: options.rate,
        machine: Machine::this(),
        samples,
        resident_bytes_at_most: most,
        memory_high_water_bytes: world.most_memory(),
        memory_bound_bytes: MAX_MEMORY + BESIDE_BATCHES,
        written_bytes: written.iter().map(|stream| stream.manifest.bytes).sum(),
        read_bytes: read,
        rotations: written.iter().map(|stream| stream.manifest.files.len() as u64 - 1).sum(),
        recovery_s: recovery.as_secs_f64(),
        count,
        verify: Verified::of(&verify),
    };
    let failures = &mut report.failures;
    if report.memory_high_water_bytes > report.memory_bound_bytes {
        failures.push("memory went beyond its bound".to_owned());
    }
    // A document is larger than its line: what is read and not sent is less than what batches may hold, in each half.
    if read > 2 * MAX_MEMORY {
        failures.push("reading did not stop".to_owned());
    }
    if !report.verify.satisfied {
        failures.push(format!("verify says: {}{}", verify.stdout, verify.stderr));
    }
    failures.extend(world.errors().into_iter().take(5).map(|line| format!("the daemon said: {line}")));
    report.passed = failures.is_empty();
    Ok(report)
}

/// Until the daemon has begun to catch up.
fn come_back_for_a_moment(world: &mut World) -> Result<()> {
    let before = world.proxy.count("bulk");
    world.proxy.refuse(false);
    let began = Instant::now();
    while world.proxy.count("bulk") < before + REQUESTS {
        world.daemon()?;
        ensure!(began.elapsed() < LIMIT, "the daemon did not come back");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn read_bytes(world: &World) -> Result<u64> {
    let bytes = world.metric("logweir_read_io_bytes_total ").context("the daemon's metrics")?;
    Ok(bytes as u64)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, minutes, lines_a_second, machine, count, .. } = self;
        writeln!(f, "outage of {minutes:.1} minutes, seed {seed}, {lines_a_second} lines/s, on {machine}\n")?;
        writeln!(
            f,
            "memory     {} at most, {} ever, bound {}",
            mib(self.resident_bytes_at_most),
            { mib(self.memory_high_water_bytes) },
            mib(self.memory_bound_bytes)
        )?;
        writeln!(f, "written    {} in {} rotations", mib(self.written_bytes), self.rotations)?;
        writeln!(f, "read       {} during the outage", mib(self.read_bytes))?;
        writeln!(f, "recovery   {:.1} s", self.recovery_s)?;
        let Count { lines, documents, lost, twice, .. } = count;
        writeln!(f, "lines      {lines}, documents {documents}, lost {lost}, twice {twice}")?;
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        writeln!(f, "{}", if self.passed { "passed" } else { "failed" })
    }
}
