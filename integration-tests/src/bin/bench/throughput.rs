//! One run over all lines into a sink: the daemon as each scenario configures it, peers beside it, rounds interleaved so
//! that a slow minute of the machine is everybody's.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::json;

use crate::Bench;
use crate::figure::{Figure, Unit};
use crate::input::Input;
use crate::measure::Cost;
use crate::peer::Peer;
use crate::place::{Place, Setup, ended_well};
use crate::report::Outcome;
use crate::scenario::{Scenario, goal};
use crate::sink::{self, Counted, Sink};
use crate::stats::{median, thousands};

/// How long the slow sink takes for a request.
const SLOW: Duration = Duration::from_millis(50);

/// What one run was like.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) events_per_second: f64,
    pub(crate) cpu_us_per_event: f64,
    sink_us_per_event: f64,
    /// What the measured process cost.
    pub(crate) process: Cost,
    sink: Counted,
}

impl Round {
    /// Of a process that delivered all `lines` within `seconds`.
    pub(crate) fn new(lines: u64, seconds: f64, process: Cost, sink: Counted) -> Self {
        let events = lines as f64;
        Self {
            events_per_second: events / seconds,
            cpu_us_per_event: process.cpu_seconds() * 1e6 / events,
            sink_us_per_event: sink.cpu_seconds * 1e6 / events,
            process,
            sink,
        }
    }
}

/// Runs the scenarios, and the peers where they are comparable, round by round.
pub(crate) fn run(bench: &Bench, input: &Input, scenarios: &[Scenario], peers: &[Peer]) -> Result<Vec<Outcome>> {
    let mut scenarios = scenarios.to_vec();
    if scenarios.iter().any(|scenario| scenario.needs_default()) && !scenarios.contains(&Scenario::Default) {
        scenarios.insert(0, Scenario::Default);
    }
    let peers = if scenarios.contains(&Scenario::TenFields) { peers } else { &[] };
    let mut rounds = vec![Vec::new(); scenarios.len()];
    let mut peer_rounds = vec![Vec::new(); peers.len()];
    let mut failures = vec![String::new(); peers.len()];
    for round in 1..=bench.rounds {
        for (scenario, rounds) in scenarios.iter().zip(&mut rounds) {
            eprintln!("bench: {}, round {round} of {}", scenario.name(), bench.rounds);
            let run = once(bench, input, *scenario);
            rounds.push(run.with_context(|| format!("scenario {}, round {round}", scenario.name()))?);
        }
        for ((peer, rounds), failure) in peers.iter().zip(&mut peer_rounds).zip(&mut failures) {
            eprintln!("bench: {}, round {round} of {}", peer.name, bench.rounds);
            match peer.run(bench, input) {
                Ok(run) => rounds.push(run),
                Err(error) => *failure = format!("; DID NOT DELIVER ALL LINES in round {round}: {error:#}"),
            }
        }
    }
    let default = scenarios.iter().position(|scenario| *scenario == Scenario::Default).map(|at| rounds[at].clone());
    let outcomes = scenarios.iter().zip(rounds).map(|(scenario, rounds)| {
        let figures = figures(*scenario, &rounds, default.as_deref().unwrap_or_default(), bench.scale, bench.verify);
        outcome(scenario.name(), figures, &rounds, "")
    });
    let mut outcomes: Vec<Outcome> = outcomes.collect();
    for ((peer, rounds), failure) in peers.iter().zip(peer_rounds).zip(failures) {
        // Without a round that counts there is nothing to say.
        let figures = if rounds.is_empty() { Vec::new() } else { plain(&rounds).to_vec() };
        outcomes.push(outcome(&peer.name, figures, &rounds, &failure));
    }
    Ok(outcomes)
}

/// Runs the daemon once.
pub(crate) fn once(bench: &Bench, input: &Input, scenario: Scenario) -> Result<Round> {
    let delay = if scenario == Scenario::Slow { SLOW } else { Duration::ZERO };
    let options = sink::Options { delay: delay.as_millis() as u64, verify: bench.verify, ..Default::default() };
    let sink = Sink::start(&bench.program, &options)?;
    let mut setup = Setup::tail(&input.file, &sink.url());
    match scenario {
        Scenario::TenFields => setup = setup.ten_fields(),
        Scenario::Chunks => {
            setup.source["mode"] = "chunks".into();
            setup.source["paths"] = json!([input.chunks.join("*.log")]);
        }
        Scenario::Gzip => setup.elasticsearch["compression"] = "gzip".into(),
        _ => {}
    }
    run_to_end(Place::new(bench, &setup)?, &sink, input.lines)
}

/// Runs the daemon of `place` until it has sent all `lines` to `sink`.
pub(crate) fn run_to_end(place: Place<'_>, sink: &Sink, lines: u64) -> Result<Round> {
    let cost = place.run_once()?;
    let counted = sink.counted()?;
    match judge(&cost, &counted, lines) {
        Ok(()) => Ok(Round::new(lines, cost.wall_seconds, cost, counted)),
        Err(error) => Err(place.explain(error)),
    }
}

/// Whether a run counts: the daemon ended well, and the sink got each line once.
pub(crate) fn judge(cost: &Cost, counted: &Counted, lines: u64) -> Result<()> {
    ended_well(cost)?;
    delivered(counted, lines)?;
    if let Some(fault) = &counted.first_fault {
        bail!("{} faults in bodies, the first: {fault}", counted.faults.unwrap_or(0));
    }
    ensure!(counted.ids.is_none_or(|ids| ids == lines), "{:?} different ids for {lines} lines", counted.ids);
    Ok(())
}

/// Whether the sink got each line once, as far as counting can tell.
pub(crate) fn delivered(counted: &Counted, lines: u64) -> Result<()> {
    ensure!(counted.documents == lines, "the sink counted {} documents of {lines} lines", counted.documents);
    ensure!(counted.refused == 0, "{} bodies were no pairs of lines", counted.refused);
    Ok(())
}

/// Medians without goals, for memory the largest: events a second, CPU, memory, CPU of the sink.
fn plain(rounds: &[Round]) -> [Figure; 4] {
    let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    [
        Figure::new("events/s", Unit::PerSecond, middle(|round| round.events_per_second)),
        Figure::new("CPU an event", Unit::Microseconds, middle(|round| round.cpu_us_per_event)),
        Figure::peak_memory(rounds.iter().map(|round| round.process.max_rss_bytes)),
        Figure::new("CPU of the sink", Unit::Microseconds, middle(|round| round.sink_us_per_event)),
    ]
}

/// What a scenario's rounds mean beside its goals; `default` are those of [`Scenario::Default`], taken in the same order.
fn figures(scenario: Scenario, rounds: &[Round], default: &[Round], scale: f64, verified: bool) -> Vec<Figure> {
    let [mut speed, mut cpu, memory, mut sink] = plain(rounds);
    let beside = |compare: fn(&Round, &Round) -> f64| {
        median(rounds.iter().zip(default).map(|(round, default)| compare(round, default)))
    };
    let share = |goal| {
        let share = beside(|round, default| 100.0 * round.events_per_second / default.events_per_second);
        Figure::new("of the rate of default", Unit::Percent, share).judged(goal, scale)
    };
    let mut compared = None;
    match scenario {
        Scenario::TenFields => {
            speed = speed.judged(goal::TEN_FIELDS_EVENTS_PER_SECOND, scale);
            cpu = cpu.judged(goal::TEN_FIELDS_CPU_US, scale);
        }
        Scenario::Default => {
            speed = speed.judged(goal::DEFAULT_EVENTS_PER_SECOND, scale);
            cpu = cpu.judged(goal::DEFAULT_CPU_US, scale);
        }
        Scenario::Chunks => compared = Some(share(goal::CHUNKS_SHARE)),
        Scenario::Slow => compared = Some(share(goal::SLOW_SHARE)),
        Scenario::Gzip => {
            let more = beside(|round, default| round.cpu_us_per_event - default.cpu_us_per_event);
            let more = Figure::new("CPU more than default", Unit::Microseconds, more);
            compared = Some(more.judged(goal::GZIP_MORE_CPU_US, scale));
        }
        _ => {}
    }
    let memory = memory.judged(if scenario == Scenario::Slow { goal::SLOW_MEMORY } else { goal::MEMORY }, scale);
    // Not where it has more to do than to count.
    if scenario != Scenario::Gzip && !verified {
        sink = sink.judged(goal::SINK_CPU_US, scale);
    }
    [Some(speed), Some(cpu), compared, Some(memory), Some(sink)].into_iter().flatten().collect()
}

fn outcome(name: &str, figures: Vec<Figure>, rounds: &[Round], failure: &str) -> Outcome {
    let each = |part: fn(&Counted) -> u64, of: fn(&Counted) -> u64| {
        median(rounds.iter().map(|round| part(&round.sink) as f64 / of(&round.sink).max(1) as f64))
    };
    let by_round: Vec<String> = rounds.iter().map(|round| thousands(round.events_per_second)).collect();
    let note = format!(
        "{:.0} events a request, {:.0} bytes an event ({:.0} sent), {} connections; events/s by round {}{failure}",
        each(|sink| sink.documents, |sink| sink.bulks),
        each(|sink| sink.body_bytes, |sink| sink.documents),
        each(|sink| sink.sent_bytes, |sink| sink.documents),
        rounds.iter().map(|round| round.sink.connections).max().unwrap_or(0),
        by_round.join(" "),
    );
    Outcome::new(name, figures, note, json!(rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost =
        Cost { status: Some(0), wall_seconds: 1.0, user_seconds: 0.5, system_seconds: 0.5, max_rss_bytes: 1 << 26 };

    #[test]
    fn a_run_counts_only_if_every_line_was_counted() {
        let cost = |status| Cost { status, ..COST };
        let whole = Counted { documents: 10, ids: Some(10), faults: Some(0), ..Counted::default() };
        assert!(judge(&cost(Some(0)), &whole, 10).is_ok());
        assert!(judge(&cost(Some(0)), &Counted { ids: None, faults: None, ..whole.clone() }, 10).is_ok());
        for (status, counted) in [
            (Some(69), whole.clone()),
            (None, whole.clone()),
            (Some(0), Counted { documents: 9, ..whole.clone() }),
            (Some(0), Counted { documents: 11, ..whole.clone() }),
            (Some(0), Counted { ids: Some(9), ..whole.clone() }),
            (Some(0), Counted { refused: 1, ..whole.clone() }),
            (Some(0), Counted { first_fault: Some("x".to_owned()), ..whole.clone() }),
        ] {
            assert!(judge(&cost(status), &counted, 10).is_err(), "{status:?} {counted:?}");
        }
    }

    #[test]
    fn scenarios_are_judged_beside_the_default_of_the_same_round() {
        let round = |seconds| Round::new(1_000_000, seconds, COST, Counted::default());
        let missed = |scenario, rounds: &[Round]| {
            let default = [round(1.0), round(10.0), round(1.0)];
            let figures = figures(scenario, rounds, &default, 1.0, false);
            figures.iter().filter(|figure| figure.missed()).map(|figure| figure.cells()[0].clone()).collect::<Vec<_>>()
        };
        // The second was slow for both.
        let slower = [round(1.05), round(10.5), round(1.05)];
        assert!(missed(Scenario::Chunks, &slower).is_empty());
        assert_eq!(missed(Scenario::Slow, &[round(1.3), round(13.0), round(1.3)]), ["of the rate of default"]);
        assert_eq!(missed(Scenario::Default, &slower), ["events/s"]);
        let costly = Cost { user_seconds: 3.5, max_rss_bytes: 65 << 20, ..COST };
        let costly = vec![Round::new(1_000_000, 1.0, costly, Counted::default()); 3];
        assert_eq!(missed(Scenario::Gzip, &costly), ["CPU more than default", "memory, peak"]);
    }
}
