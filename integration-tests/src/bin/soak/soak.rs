//! The soak itself: traffic, faults, the end, the count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration_tests::dice::Dice;

use crate::Options;
use crate::fault::Kind;
use crate::report::{Faults, Outcome, Report};
use crate::traffic::{self, Traffic};
use crate::world::World;

/// No recovery may take longer.
const LIMIT: Duration = Duration::from_secs(180);
/// Of the faults, one in so many is followed by the next before it was recovered from.
const HURRIED: u64 = 3;
/// Files rotate about this often, in seconds.
const ROTATE_EVERY: u64 = 10;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let duration = options.duration();
    let mut dice = Dice::seeded(options.seed());
    eprintln!("soak: seed {}, {} s", dice.seed(), duration.as_secs());
    let mut world = World::new()?;
    let rotate_every = ROTATE_EVERY.min(duration.as_secs() / 8).max(1);
    let traffic = Traffic::start(&world.workspace.logs(), &mut dice, options.rate, rotate_every)?;
    world.start_daemon();
    world.caught_up(1, LIMIT)?;

    let mut faults: BTreeMap<&'static str, Faults> = BTreeMap::new();
    let began = Instant::now();
    while began.elapsed() < duration {
        let mut round = Kind::ALL;
        dice.shuffle(&mut round);
        for kind in round {
            // The first round is always whole: of each kind there is one at least.
            if began.elapsed() >= duration && faults.contains_key(kind.name()) {
                break;
            }
            let hurried = dice.below(HURRIED) == 0;
            kind.strike(&mut world, &mut dice).with_context(|| format!("fault: {}", kind.name()))?;
            let of_kind = faults.entry(kind.name()).or_default();
            of_kind.times += 1;
            if hurried {
                eprintln!("soak: {:>5.1} s  {}", began.elapsed().as_secs_f64(), kind.name());
                continue;
            }
            let recovery =
                world.caught_up(traffic.visible(), LIMIT).with_context(|| format!("after: {}", kind.name()))?;
            let longest = of_kind.longest_recovery_s.unwrap_or_default();
            of_kind.longest_recovery_s = Some(longest.max(recovery.as_secs_f64()));
            let at = began.elapsed().as_secs_f64();
            eprintln!("soak: {at:>5.1} s  {}, recovered in {:.2} s", kind.name(), recovery.as_secs_f64());
        }
    }

    let written = traffic.finish()?;
    for stream in &written {
        let name = match stream.kind {
            traffic::Kind::Rename => "rename",
            traffic::Kind::Copytruncate => "copytruncate",
            traffic::Kind::Chunks => continue,
        };
        let rotations = stream.manifest.files.len() as u64 - 1;
        faults.insert(name, Faults { times: rotations, longest_recovery_s: None });
    }
    let lines: u64 = written.iter().map(|stream| stream.manifest.lines).sum();
    eprintln!("soak: {lines} lines were written; draining");
    world.caught_up(lines, LIMIT)?;
    let outcome = Outcome::of(&mut world, options, dice.seed(), began.elapsed(), &written)?;
    Ok(Report::new(outcome, options, faults))
}
