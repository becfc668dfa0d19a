//! The requests of the dashboards: how long does each panel keep a person waiting, over a day of many documents in a real
//! Elasticsearch on the same cores?
//!
//! Access logs and application logs are indexed by the daemon, with all fields, and what it says of itself beside them. Then every
//! panel of both built sets is asked for in turn, as Kibana would for that day, with Elasticsearch's request cache off. What is judged is a
//! panel's whole time: the sum of its requests, although Kibana sends them at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration_tests::Node;
use integration_tests::node::until;
use integration_tests::panels::ask::Ask;
use integration_tests::panels::check::prepare;
use integration_tests::panels::interval::Period;
use integration_tests::panels::read::{Meaning, meaning};
use integration_tests::panels::record::days;
use integration_tests::panels::{Cluster, saved};
use logweir_generator::Format;
use serde::Serialize;
use serde_json::json;

use crate::Bench;
use crate::figure::{Figure, Unit};
use crate::input::Input;
use crate::report::Outcome;
use crate::scenario::goal;
use crate::stats::{median, thousands, unix_ns};

const VERSION: &str = "9.2.0";
/// How many of the slowest are named.
const NAMED: usize = 10;
/// How long merging may go on after the last document.
const SETTLING: Duration = Duration::from_secs(600);
const DAY_MS: i64 = 24 * 3_600_000;

/// A panel that asks for data.
#[derive(Debug, Serialize)]
struct Timed {
    set: String,
    dashboard: String,
    panel: String,
    id: String,
    requests: usize,
    /// The sum of its requests, each the median of all rounds.
    milliseconds: f64,
    /// The slowest of its requests.
    slowest_milliseconds: f64,
}

/// Indexes and asks.
pub(crate) fn run(bench: &Bench, lines: u64) -> Result<Outcome> {
    eprintln!("bench: panels, starting Elasticsearch {VERSION}");
    let node = Node::start_as_shipped(VERSION, &["--heap", "1g"]);
    // Seven of ten are of a web server.
    let access_lines = lines / 10_000 * 7000;
    let access = Input::of(&bench.dir, access_lines, Format::CombinedLatency)?;
    let application = Input::of(&bench.dir, lines - access_lines, Format::Json)?;
    let began = unix_ns();
    eprintln!("bench: panels, indexing {} lines", thousands(lines as f64));
    index(bench, &node, &access.file, &application.file)?;
    let documents = node.count("logs-shop.*");
    ensure!(documents == lines, "Elasticsearch has {documents} documents of {lines} lines");
    until("the end of merging", SETTLING, || {
        let stats = node.ok("GET", "_stats/merge", None);
        (stats["_all"]["total"]["merges"]["current"] == 0).then_some(())
    });

    let day = days(2026, 3, 1) * DAY_MS;
    let day = Period { name: "day".to_owned(), from: day, to: day + DAY_MS - 1 };
    let ms = |ns: u64| i64::try_from(ns / 1_000_000);
    let life = Period { name: "run".to_owned(), from: ms(began)?, to: ms(unix_ns())? };
    let mut timed = Vec::new();
    for set in saved::built()? {
        for panel in set.panels()? {
            let Meaning::Asks(asks) = meaning(&set, &panel.object)? else { continue };
            // What the daemon says of itself has the time of the run.
            let of_itself = asks.iter().all(|ask| ask.pattern.contains("metrics"));
            let times = times(&node, &asks, if of_itself { &life } else { &day }, bench.rounds)
                .with_context(|| format!("{} {}", panel.dashboard, panel.title))?;
            timed.push(Timed {
                set: set.name.clone(),
                dashboard: panel.dashboard,
                panel: panel.title,
                id: panel.object.id,
                requests: times.len(),
                milliseconds: times.iter().sum(),
                slowest_milliseconds: times.iter().copied().fold(0.0, f64::max),
            });
        }
        eprintln!("bench: panels, set {} is done", set.name);
    }
    outcome(timed, documents)
}

fn outcome(mut timed: Vec<Timed>, documents: u64) -> Result<Outcome> {
    timed.sort_by(|left, right| right.milliseconds.total_cmp(&left.milliseconds));
    let Some(slowest) = timed.first() else { bail!("there are no panels") };
    let mut figures = vec![
        Figure::new("slowest panel", Unit::Milliseconds, slowest.milliseconds).judged(goal::PANEL_MS, 1.0),
        Figure::new("middle panel", Unit::Milliseconds, median(timed.iter().map(|panel| panel.milliseconds))),
        Figure::new("panels", Unit::Count, timed.len() as f64),
    ];
    // The sets ask the same: once is enough to be named.
    let mut named: BTreeMap<&str, ()> = BTreeMap::new();
    for panel in &timed {
        if named.len() < NAMED && named.insert(&panel.id, ()).is_none() {
            let what = format!("{}: {}", panel.dashboard.trim_end_matches(" [logweir]"), panel.panel);
            figures.push(Figure::new(what, Unit::Milliseconds, panel.milliseconds));
        }
    }
    let note = format!(
        "Elasticsearch {VERSION}, {} documents, a day, request cache off; the sum of a panel's requests",
        thousands(documents as f64)
    );
    Ok(Outcome::new("panels", figures, note, json!(timed)))
}

/// Runs the daemon over both files.
fn index(bench: &Bench, node: &Node, access: &Path, application: &Path) -> Result<()> {
    let dir = tempfile::tempdir_in(&bench.dir)?;
    let format = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %D"#;
    let config = json!({
        "host": "bench",
        "sources": [
            {
                "name": "access", "paths": [access], "format": {"apache": format}, "dataset": "shop.access",
                "fields": {"service.name": "frontend"},
            },
            {"name": "application", "paths": [application], "format": "json", "dataset": "shop.application"},
        ],
        "elasticsearch": {"urls": [node.url]},
        "checkpoint": {"path": dir.path().join("state")},
        "dead_letters": {"path": dir.path().join("dead-letters")},
        "telemetry": {"listen": "", "documents": {"enabled": true, "interval": "1s"}},
    });
    // JSON is YAML too.
    let file = dir.path().join("logweir.yaml");
    std::fs::write(&file, format!("{config:#}\n"))?;
    let run = Command::new(&bench.logweir).args(["run", "--once", "--config"]).arg(&file).output()?;
    ensure!(run.status.success(), "logweir run: {}", String::from_utf8_lossy(&run.stderr));
    Ok(())
}

/// The median time of each request, in milliseconds.
fn times(node: &Node, asks: &[Ask], period: &Period, rounds: u32) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for ask in asks {
        let (ask, body) = prepare(node, &ask.pattern, ask, period, Cluster::Core)?;
        let path = format!("{}/_search?request_cache=false", ask.pattern);
        let mut times = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            let (status, answer) = node.ask("POST", &path, Some(&body));
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            ensure!(status == 200 && answer["_shards"]["failed"] == 0, "{status} {answer}: {body}");
        }
        all.push(median(times));
    }
    Ok(all)
}
