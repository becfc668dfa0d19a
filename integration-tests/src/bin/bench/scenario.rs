//! What is measured: how the daemon is configured, what it is fed with, and what is expected of it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::input::Input;
use crate::measure::{self, Cost};
use crate::sink::{self, Counted, Sink};

/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(600);
/// Requests in flight, at most: the default, written out since a goal rests on it.
const IN_FLIGHT: u64 = 4;
/// How long the slow sink takes for a request.
const SLOW: Duration = Duration::from_millis(50);

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One file, documents as they are by default
    Default,
    /// The same with the ten fields that comparable tools index
    TenFields,
    /// The same lines in chunk files of 1000
    Chunks,
    /// The same with compressed bodies
    Gzip,
    /// The same, with 50 ms for each request
    Slow,
}

/// What is expected.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Goal {
    /// Events a second, at least, on the reference machine.
    pub(crate) events_per_second: Option<f64>,
    /// The same as a share of what delay and requests in flight allow.
    pub(crate) share_of_bound: Option<f64>,
    /// Microseconds of processor time for an event, at most.
    pub(crate) cpu_us_per_event: Option<f64>,
    /// Memory, at most.
    pub(crate) max_rss_bytes: Option<u64>,
}

/// What one run was like.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) events_per_second: f64,
    pub(crate) cpu_us_per_event: f64,
    pub(crate) sink_us_per_event: f64,
    pub(crate) daemon: Cost,
    pub(crate) sink: Counted,
}

impl Scenario {
    /// As typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::TenFields => "ten-fields",
            Self::Chunks => "chunks",
            Self::Gzip => "gzip",
            Self::Slow => "slow",
        }
    }

    /// What is expected of it.
    pub(crate) fn goal(self) -> Goal {
        let all = Goal { max_rss_bytes: Some(128 << 20), ..Goal::default() };
        match self {
            Self::Default | Self::TenFields | Self::Chunks => {
                Goal { events_per_second: Some(800_000.0), cpu_us_per_event: Some(1.6), ..all }
            }
            // The sink has to decompress, on the same processors: its speed is not the daemon's.
            Self::Gzip => all,
            Self::Slow => Goal { share_of_bound: Some(0.8), ..all },
        }
    }

    /// How long the sink takes for a request.
    pub(crate) fn delay(self) -> Duration {
        if self == Self::Slow { SLOW } else { Duration::ZERO }
    }

    /// Events a second that the sink's delay allows with so many in each request; `None` where it has none.
    pub(crate) fn bound(self, events_per_bulk: f64) -> Option<f64> {
        let delay = self.delay().as_secs_f64();
        (delay > 0.0).then(|| IN_FLIGHT as f64 * events_per_bulk / delay)
    }

    /// Runs the daemon once.
    pub(crate) fn run(self, program: &Path, logweir: &Path, input: &Input, verify: bool) -> Result<Round> {
        let sink = Sink::start(
            program,
            &sink::Options { delay: self.delay().as_millis() as u64, verify, ..Default::default() },
        )?;
        let dir = tempfile::Builder::new().prefix("run-").tempdir_in(&input.dir)?;
        let config = dir.path().join("logweir.yaml");
        // JSON is YAML too.
        std::fs::write(&config, format!("{:#}\n", self.config(input, dir.path(), &sink.address)))?;
        let log = dir.path().join("log");
        let command: Vec<OsString> =
            vec![logweir.into(), "run".into(), "--once".into(), "--config".into(), config.into()];
        let cost = measure::cost_of(program, &log, LIMIT, &command)?;
        let counted = sink.counted()?;
        if let Err(error) = judge(&cost, &counted, input.lines) {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let kept = dir.keep();
            return Err(error.context(format!("what it said:\n{}\nall of it is in {}", tail(&said), kept.display())));
        }
        let events = input.lines as f64;
        Ok(Round {
            events_per_second: events / cost.wall_seconds,
            cpu_us_per_event: cost.cpu_seconds() * 1e6 / events,
            sink_us_per_event: counted.cpu_seconds * 1e6 / events,
            daemon: cost,
            sink: counted,
        })
    }

    fn config(self, input: &Input, dir: &Path, sink: &str) -> Value {
        let mut source = json!({
            "name": "web", "paths": [input.file], "mode": "tail", "format": "combined", "dataset": "nginx.access",
        });
        match self {
            Self::TenFields => {
                source["keep_fields"] = json!([
                    "@timestamp",
                    "source.address",
                    "user.name",
                    "http.request.method",
                    "url.original",
                    "http.version",
                    "http.response.status_code",
                    "http.response.body.bytes",
                    "http.request.referrer",
                    "user_agent.original",
                ]);
            }
            Self::Chunks => {
                source["mode"] = "chunks".into();
                source["paths"] = json!([input.chunks.join("*.log")]);
            }
            Self::Default | Self::Gzip | Self::Slow => {}
        }
        let compression = if self == Self::Gzip { "gzip" } else { "auto" };
        json!({
            "host": "bench",
            "sources": [source],
            "elasticsearch": {
                "urls": [format!("http://{sink}")], "compression": compression, "max_in_flight": IN_FLIGHT,
            },
            "checkpoint": {"path": dir.join("state")},
            "dead_letters": {"path": dir.join("dead-letters")},
            "telemetry": {"listen": ""},
        })
    }
}

/// Whether a run counts.
fn judge(cost: &Cost, counted: &Counted, lines: u64) -> Result<()> {
    match cost.status {
        Some(0) => {}
        Some(status) => bail!("logweir ended with status {status}"),
        None => bail!("logweir was killed"),
    }
    ensure!(counted.documents == lines, "the sink counted {} documents of {lines} lines", counted.documents);
    ensure!(counted.refused == 0, "{} bodies were no pairs of lines", counted.refused);
    if let Some(fault) = &counted.first_fault {
        bail!("{} faults in bodies, the first: {fault}", counted.faults.unwrap_or(0));
    }
    ensure!(counted.ids.is_none_or(|ids| ids == lines), "{:?} different ids for {lines} lines", counted.ids);
    Ok(())
}

/// The last lines.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_only_if_every_line_was_counted() {
        let cost =
            |status| Cost { status, wall_seconds: 1.0, user_seconds: 0.5, system_seconds: 0.5, max_rss_bytes: 1 };
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
    fn a_delay_bounds_what_can_be_reached() {
        assert_eq!(Scenario::Slow.bound(1000.0), Some(80_000.0));
        assert_eq!(Scenario::Default.bound(1000.0), None);
    }
}
