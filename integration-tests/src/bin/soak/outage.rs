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
use crate::report::{Outcome, mib};
use crate::traffic::Traffic;
use crate::world::{MAX_MEMORY, World};

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
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// Once a second.
    samples: u64,
    resident_bytes_at_most: u64,
    /// Of the files, during the outage.
    written_bytes: u64,
    read_bytes: u64,
    rotations: u64,
    recovery_s: f64,
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
    let mut outcome = Outcome::of(&mut world, options, dice.seed(), duration, &written)?;
    // A document is larger than its line: what is read and not sent is less than what batches may hold, in each half.
    outcome.fails_if(read > 2 * MAX_MEMORY, || "reading did not stop".to_owned());
    Ok(Report {
        outcome,
        samples,
        resident_bytes_at_most: most,
        written_bytes: written.iter().map(|stream| stream.manifest.bytes).sum(),
        read_bytes: read,
        rotations: written.iter().map(|stream| stream.manifest.files.len() as u64 - 1).sum(),
        recovery_s: recovery.as_secs_f64(),
    })
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
        writeln!(f, "outage {}\n", self.outcome.headline())?;
        writeln!(f, "resident   {} at most during the outage", mib(self.resident_bytes_at_most))?;
        writeln!(f, "written    {} in {} rotations", mib(self.written_bytes), self.rotations)?;
        writeln!(f, "read       {} during the outage", mib(self.read_bytes))?;
        writeln!(f, "recovery   {:.1} s\n", self.recovery_s)?;
        write!(f, "{}", self.outcome)
    }
}
