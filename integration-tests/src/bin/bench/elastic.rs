//! A real Elasticsearch on the same cores: how much of what it takes at best does the daemon give it?
//!
//! The best is what it takes of bodies that nobody has to make: those that the daemon itself sends for the same file,
//! recorded by a sink before. Both fill the same data stream, made anew each time, in turn.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration_tests::Node;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Bench;
use crate::figure::{Figure, Goal, Unit};
use crate::input::Input;
use crate::measure::Cost;
use crate::peer::Peer;
use crate::place::{Place, Setup, ended_well};
use crate::recording::Recorded;
use crate::report::Outcome;
use crate::scenario::goal;
use crate::sink::{self, Sink};
use crate::stats::{median, rate, thousands};

const VERSION: &str = "9.2.0";
const TARGET: &str = "logs-nginx.access-default";
/// Where peers write to, which know no data streams.
const PEER_INDEX: &str = "peer";
/// Of ready-made bodies: as many as the daemon has requests in flight at its start.
const CONNECTIONS: usize = 8;
/// A peer that delivered nothing for so long will deliver nothing more.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a target was filled.
#[derive(Clone, Debug, Serialize)]
struct Filled {
    documents_per_second: f64,
    /// Once all of it is merged.
    bytes_per_document: f64,
    /// Of whoever filled it; not for ready-made bodies.
    cost: Option<Cost>,
}

/// Runs all rounds.
pub(crate) fn run(bench: &Bench, input: &Input, peers: &[Peer]) -> Result<Vec<Outcome>> {
    eprintln!("bench: elastic, starting Elasticsearch {VERSION}");
    let node = Node::start_as_shipped(VERSION, &["--heap", "1g"]);
    let dir = tempfile::tempdir_in(&bench.dir)?;
    let bodies = dir.path().join("bodies");
    record(bench, input, &bodies)?;
    let place = Place::new(bench, &setup(input, &node.url))?;
    let set_up = Command::new(&bench.logweir).args(&place.command(&["setup"])[1..]).output()?;
    ensure!(set_up.status.success(), "logweir setup: {}", String::from_utf8_lossy(&set_up.stderr));

    eprintln!("bench: elastic, warming it up");
    ready_made(&node, &bodies, input.lines)?;
    let mut ready = Vec::new();
    let mut ours = Vec::new();
    let mut theirs = vec![Vec::new(); peers.len()];
    let mut failures = vec![String::new(); peers.len()];
    for round in 1..=bench.rounds {
        eprintln!("bench: elastic, round {round} of {}", bench.rounds);
        ready.push(ready_made(&node, &bodies, input.lines)?);
        ours.push(daemon(bench, &node, input)?);
        for ((peer, rounds), failure) in peers.iter().zip(&mut theirs).zip(&mut failures) {
            eprintln!("bench: elastic, {}, round {round} of {}", peer.name, bench.rounds);
            match by_peer(bench, &node, input, peer) {
                Ok(filled) => rounds.push(filled),
                Err(error) => *failure = format!("DID NOT DELIVER ALL LINES in round {round}: {error:#}"),
            }
        }
    }
    let best_peer = theirs.iter().filter(|rounds| !rounds.is_empty()).map(|rounds| bytes(rounds)).reduce(f64::min);
    let by_round = |rounds: &[Filled]| {
        rounds.iter().map(|round| thousands(round.documents_per_second)).collect::<Vec<_>>().join(" ")
    };
    let note = format!(
        "Elasticsearch {VERSION}; docs/s by round {}, ready-made {}; each run counted and proven by `logweir verify`",
        by_round(&ours),
        by_round(&ready)
    );
    let rounds = json!({"ready_made": ready, "logweir": ours});
    let mut outcomes = vec![Outcome::new("elastic", figures(&ours, &ready, best_peer, bench.scale), note, rounds)];
    for ((peer, rounds), failure) in peers.iter().zip(&theirs).zip(failures) {
        let figures = if rounds.is_empty() { Vec::new() } else { plain(rounds).to_vec() };
        let note = format!("docs/s by round {} {failure}", by_round(rounds));
        outcomes.push(Outcome::new(&format!("elastic {}", peer.name), figures, note, json!(rounds)));
    }
    Ok(outcomes)
}

fn setup(input: &Input, url: &str) -> Setup {
    Setup::tail(&input.file, url).ten_fields()
}

fn bytes(rounds: &[Filled]) -> f64 {
    median(rounds.iter().map(|round| round.bytes_per_document))
}

/// Without goals: documents a second, bytes a document.
fn plain(rounds: &[Filled]) -> [Figure; 2] {
    [
        Figure::new("docs/s", Unit::PerSecond, median(rounds.iter().map(|round| round.documents_per_second))),
        Figure::new("on disk a document", Unit::Bytes, bytes(rounds)),
    ]
}

fn figures(ours: &[Filled], ready: &[Filled], best_peer: Option<f64>, scale: f64) -> Vec<Figure> {
    let shares = ours.iter().zip(ready).map(|(ours, ready)| ours.documents_per_second / ready.documents_per_second);
    let share = Figure::new("of what ready-made bodies reach", Unit::Percent, 100.0 * median(shares));
    let [speed, mut on_disk] = plain(ours);
    if let Some(best) = best_peer {
        on_disk = on_disk.judged(Goal::at_most(best), scale);
    }
    let [best_speed, best_on_disk] = plain(ready).map(|figure| figure.renamed("ready-made: "));
    let memory = Figure::peak_memory(ours.iter().filter_map(|round| round.cost).map(|cost| cost.max_rss_bytes));
    vec![
        share.judged(goal::ELASTIC_SHARE, scale),
        speed,
        best_speed,
        on_disk,
        best_on_disk,
        memory.judged(goal::MEMORY, scale),
    ]
}

/// Has the daemon send everything to a sink that keeps it.
fn record(bench: &Bench, input: &Input, bodies: &Path) -> Result<()> {
    eprintln!("bench: elastic, recording what the daemon sends");
    let options = sink::Options { record: Some(bodies.to_owned()), ..Default::default() };
    let sink = Sink::start(&bench.program, &options)?;
    let place = Place::new(bench, &setup(input, &sink.url()))?;
    let cost = place.run_once()?;
    let counted = sink.counted()?;
    let whole = ended_well(&cost).and_then(|()| crate::throughput::delivered(&counted, input.lines));
    whole.map_err(|error| place.explain(error))
}

/// Fills the data stream with what was recorded.
fn ready_made(node: &Node, bodies: &Path, lines: u64) -> Result<Filled> {
    empty(node);
    let recorded = Mutex::new(Recorded::open(bodies)?);
    let began = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| send(&node.url, &recorded))).collect();
        senders.into_iter().try_for_each(|sender| match sender.join() {
            Ok(sent) => sent,
            Err(_) => bail!("a sender panicked"),
        })
    })?;
    let time = began.elapsed();
    let bytes_per_document = bytes_on_disk(node, TARGET, lines)?;
    Ok(Filled { documents_per_second: rate(lines, time), bytes_per_document, cost: None })
}

/// Sends one recorded request after the other.
fn send(url: &str, recorded: &Mutex<Recorded>) -> Result<()> {
    let agent = ureq::Agent::new_with_defaults();
    let mut body = Vec::new();
    loop {
        let next = recorded.lock().unwrap_or_else(PoisonError::into_inner).next(&mut body)?;
        let Some(target) = next else { return Ok(()) };
        let request = agent.post(format!("{url}{target}")).header("content-type", "application/x-ndjson");
        let mut answer = request.send(body.as_slice()).context("Elasticsearch refused a body")?;
        let answer: Value = answer.body_mut().with_config().limit(1 << 30).read_json()?;
        if answer["errors"] != false {
            let items = answer["items"].as_array().into_iter().flatten();
            let refused = items.map(|item| &item["create"]).find(|item| item["status"] != 201);
            bail!("Elasticsearch refused a document: {}", refused.unwrap_or(&Value::Null));
        }
    }
}

/// Has the daemon fill the data stream, and prove it.
fn daemon(bench: &Bench, node: &Node, input: &Input) -> Result<Filled> {
    empty(node);
    let place = Place::new(bench, &setup(input, &node.url))?;
    let run = || -> Result<Filled> {
        let cost = place.run_once()?;
        ended_well(&cost)?;
        let verify = place.command(&["verify", "--output", "json"]);
        let proof = Command::new(&verify[0]).args(&verify[1..]).output()?;
        let said = String::from_utf8_lossy(&proof.stdout);
        ensure!(proof.status.success(), "logweir verify: {said}{}", String::from_utf8_lossy(&proof.stderr));
        let report: Value = serde_json::from_str(&said)?;
        ensure!(report["total"]["lines"] == input.lines, "logweir verify saw other lines: {report}");
        let bytes_per_document = bytes_on_disk(node, TARGET, input.lines)?;
        Ok(Filled {
            documents_per_second: input.lines as f64 / cost.wall_seconds,
            bytes_per_document,
            cost: Some(cost),
        })
    };
    run().map_err(|error| place.explain(error))
}

/// Has a peer fill an index with the same mappings.
fn by_peer(bench: &Bench, node: &Node, input: &Input, peer: &Peer) -> Result<Filled> {
    let like = node.ok("GET", &format!("{TARGET}/_mapping"), None);
    let mut mappings =
        like.as_object().and_then(|all| all.values().next()).map_or(json!({}), |index| index["mappings"].clone());
    if let Some(mappings) = mappings.as_object_mut() {
        // What only a data stream may have.
        mappings.remove("_data_stream_timestamp");
    }
    // Not every peer can make a date of Apache's.
    mappings["properties"]["@timestamp"]["format"] = "strict_date_optional_time||dd/MMM/yyyy:HH:mm:ss Z".into();
    empty(node);
    let _ = node.ask("DELETE", PEER_INDEX, None);
    node.ok("PUT", PEER_INDEX, Some(&json!({"settings": {"number_of_replicas": 0}, "mappings": mappings})));
    let address = node.url.trim_start_matches("http://");
    let running = peer.start(bench, input, address, PEER_INDEX)?;
    let began = Instant::now();
    let indexed = || {
        let stats = node.ok("GET", &format!("{PEER_INDEX}/_stats/indexing"), None);
        stats["_all"]["primaries"]["indexing"]["index_total"].as_u64().unwrap_or(0)
    };
    let (mut last, mut time) = (0, Duration::ZERO);
    while last < input.lines && began.elapsed() < time + PATIENCE {
        thread::sleep(Duration::from_millis(50));
        let now = indexed();
        if now > last {
            (last, time) = (now, began.elapsed());
        }
    }
    let (cost, said) = running.stop()?;
    let bytes_per_document = bytes_on_disk(node, PEER_INDEX, input.lines).map_err(said)?;
    node.ok("DELETE", PEER_INDEX, None);
    Ok(Filled { documents_per_second: rate(input.lines, time), bytes_per_document, cost: Some(cost) })
}

/// The data stream begins anew. The node has no API to delete it: it gets its next index, and those before are deleted.
fn empty(node: &Node) {
    let (status, before) = node.ask("GET", &format!("{TARGET}/_settings"), None);
    // It is not there the first time.
    if status == 404 {
        return;
    }
    node.roll_over(TARGET);
    for index in before.as_object().into_iter().flat_map(|all| all.keys()) {
        node.ok("DELETE", index, None);
    }
}

/// Bytes a document once all is merged, where there is a document for each of `lines` lines.
fn bytes_on_disk(node: &Node, target: &str, lines: u64) -> Result<f64> {
    let count = node.count(target);
    ensure!(count == lines, "Elasticsearch has {count} documents of {lines} lines");
    // Takes longer than other questions may.
    let merged = ureq::post(format!("{}/{target}/_forcemerge?max_num_segments=1", node.url)).send_empty();
    merged.context("Elasticsearch does not merge")?;
    node.ok("POST", &format!("{target}/_flush?force=true&wait_if_ongoing=true"), None);
    let stats = node.ok("GET", &format!("{target}/_stats/store"), None);
    let bytes = stats["_all"]["primaries"]["store"]["size_in_bytes"].as_u64().context("no size")?;
    Ok(bytes as f64 / lines as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_compared_round_by_round_and_with_the_best_peer() {
        let filled =
            |documents_per_second, bytes_per_document| Filled { documents_per_second, bytes_per_document, cost: None };
        let ready = [filled(100.0, 120.0), filled(50.0, 120.0), filled(100.0, 120.0)];
        let missed =
            |ours: &[Filled], best| figures(ours, &ready, best, 1.0).iter().filter(|figure| figure.missed()).count();
        let ours = [filled(89.0, 124.0), filled(44.5, 124.0), filled(89.0, 124.0)];
        assert_eq!(missed(&ours, None), 0);
        assert_eq!(missed(&ours, Some(126.0)), 0);
        assert_eq!(missed(&ours, Some(123.0)), 1);
        assert_eq!(missed(&[filled(80.0, 124.0), filled(44.5, 124.0), filled(80.0, 124.0)], None), 1);
    }
}
