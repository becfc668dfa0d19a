//! Whether speed and memory stay what they are when there is ever more to read.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::statvfs;
use serde_json::json;

use crate::Bench;
use crate::figure::{Figure, Unit};
use crate::input::Input;
use crate::report::Outcome;
use crate::scenario::{Scenario, goal};
use crate::stats::{median, mib, thousands};
use crate::throughput::{self, Round};

/// Of a line, generously.
const LINE_BYTES: u64 = 260;
const GIB: f64 = 1_073_741_824.0;

/// Runs the default scenario with each number of lines. Files other than `keep` are deleted once they were read.
pub(crate) fn run(bench: &Bench, points: &[u64], keep: &Input) -> Result<Outcome> {
    ensure_room(&bench.dir, points.iter().max().unwrap_or(&0) * LINE_BYTES)?;
    let mut all = Vec::new();
    for lines in points {
        let input = Input::prepare(&bench.dir, *lines, false)?;
        let mut rounds = Vec::new();
        for round in 1..=bench.rounds {
            eprintln!("bench: long, {} lines, round {round} of {}", thousands(*lines as f64), bench.rounds);
            rounds.push(throughput::once(bench, &input, Scenario::Default)?);
        }
        if input.file != keep.file {
            fs::remove_file(&input.file)?;
        }
        all.push((*lines, rounds));
    }
    let json = all.iter().map(|(lines, rounds)| json!({"lines": lines, "rounds": rounds})).collect::<Vec<_>>();
    Ok(Outcome::new("long", figures(&all, bench.scale), "the scenario default".to_owned(), json!(json)))
}

fn ensure_room(dir: &Path, bytes: u64) -> Result<()> {
    let disk = statvfs(dir).with_context(|| format!("how much room is in {}?", dir.display()))?;
    let free = disk.blocks_available() * disk.fragment_size();
    let (needs, has) = (bytes as f64 / GIB, free as f64 / GIB);
    eprintln!("bench: long, needs up to {needs:.1} GiB of the {has:.1} GiB that are free in {}", dir.display());
    ensure!(free > bytes, "there is no room for that: make some, or ask for smaller --points");
    Ok(())
}

fn figures(all: &[(u64, Vec<Round>)], scale: f64) -> Vec<Figure> {
    let speed = |rounds: &[Round]| median(rounds.iter().map(|round| round.events_per_second));
    let memory = |rounds: &[Round]| mib(rounds.iter().map(|round| round.process.max_rss_bytes).max().unwrap_or(0));
    let mut figures = Vec::new();
    for (lines, rounds) in all {
        let of = |what: &str| format!("{what}, {} lines", thousands(*lines as f64));
        figures.push(Figure::new(of("events/s"), Unit::PerSecond, speed(rounds)));
        figures.push(Figure::new(of("memory"), Unit::Mebibytes, memory(rounds)).judged(goal::MEMORY, scale));
    }
    let least =
        |value: &dyn Fn(&[Round]) -> f64| all.iter().map(|(_, rounds)| value(rounds)).fold(f64::INFINITY, f64::min);
    let most = |value: &dyn Fn(&[Round]) -> f64| all.iter().map(|(_, rounds)| value(rounds)).fold(0.0, f64::max);
    let flat_rate = 100.0 * least(&speed) / most(&speed);
    let flat_memory = 100.0 * most(&memory) / least(&memory);
    figures.push(Figure::new("slowest of quickest", Unit::Percent, flat_rate).judged(goal::LONG_FLAT_RATE, scale));
    figures.push(Figure::new("most of least memory", Unit::Percent, flat_memory).judged(goal::LONG_FLAT_MEMORY, scale));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cost;
    use crate::sink::Counted;

    #[test]
    fn what_grows_with_the_file_is_missed() {
        let point = |lines: u64, seconds: f64, mib: u64| {
            let cost = Cost {
                status: Some(0),
                wall_seconds: seconds,
                user_seconds: 1.0,
                system_seconds: 0.0,
                max_rss_bytes: mib << 20,
            };
            (lines, vec![Round::new(lines, seconds, cost, Counted::default())])
        };
        let missed =
            |points: &[(u64, Vec<Round>)]| figures(points, 1.0).iter().filter(|figure| figure.missed()).count();
        assert_eq!(missed(&[point(1000, 1.0, 40), point(50_000, 50.0, 41)]), 0);
        assert_eq!(missed(&[point(1000, 1.0, 40), point(50_000, 60.0, 41)]), 1);
        assert_eq!(missed(&[point(1000, 1.0, 40), point(50_000, 50.0, 65)]), 2);
    }
}
