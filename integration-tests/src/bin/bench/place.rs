//! A directory of the daemon's own, with its configuration, and the daemon that runs there.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail};
use integration_tests::TEN_FIELDS;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Bench;
use crate::measure::{Cost, Measured};
use crate::stats::unix_ns;

/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(900);
/// A daemon that says nothing for so long will not be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// What the daemon reads, and what is changed of the configuration below.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The only source.
    pub(crate) source: Value,
    /// Of the section `elasticsearch`.
    pub(crate) elasticsearch: Value,
}

impl Setup {
    /// One source in tail mode with all defaults, sent to `url`.
    pub(crate) fn tail(paths: &Path, url: &str) -> Self {
        Self {
            source: json!({
                "name": "web", "paths": [paths], "mode": "tail", "format": "combined", "dataset": "nginx.access",
            }),
            elasticsearch: json!({"urls": [url]}),
        }
    }

    /// The same with the ten fields that peers were measured with.
    pub(crate) fn ten_fields(mut self) -> Self {
        self.source["keep_fields"] = json!(TEN_FIELDS);
        self
    }
}

/// The directory, with state that outlives a daemon; deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    bench: &'a Bench,
    dir: TempDir,
    config: PathBuf,
    core: Option<usize>,
}

impl<'a> Place<'a> {
    /// Writes the configuration.
    pub(crate) fn new(bench: &'a Bench, setup: &Setup) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("run-").tempdir_in(&bench.dir)?;
        let config = dir.path().join("logweir.yaml");
        let all = json!({
            "host": "bench",
            "sources": [setup.source],
            "elasticsearch": setup.elasticsearch,
            "checkpoint": {"path": dir.path().join("state")},
            "dead_letters": {"path": dir.path().join("dead-letters")},
            "telemetry": {"listen": ""},
        });
        // JSON is YAML too.
        std::fs::write(&config, format!("{all:#}\n"))?;
        Ok(Self { bench, dir, config, core: None })
    }

    /// The daemon runs on this core alone.
    pub(crate) fn on_core(self, core: usize) -> Self {
        Self { core: Some(core), ..self }
    }

    /// The command `logweir WORDS` with the configuration and what was set beside it.
    pub(crate) fn command(&self, words: &[&str]) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![self.bench.logweir.clone().into()];
        command.extend(words.iter().map(OsString::from));
        command.extend(["--config".into(), self.config.clone().into()]);
        for setting in &self.bench.settings {
            command.extend(["--set".into(), setting.into()]);
        }
        command
    }

    /// Indexes everything that is there, and ends by itself.
    pub(crate) fn run_once(&self) -> Result<Cost> {
        self.measured(&["run", "--once"], &[])?.wait()
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) -> Result<Daemon> {
        let name = format!("logweir-bench-{}-{}", std::process::id(), unix_ns());
        let ready = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let process = self.measured(&["run"], &[("NOTIFY_SOCKET", format!("@{name}").into())])?;
        Ok(Daemon { process, ready })
    }

    fn measured(&self, words: &[&str], environment: &[(&str, OsString)]) -> Result<Measured> {
        let mut command = self.command(words);
        if let Some(core) = self.core {
            command.splice(0..0, ["taskset".into(), "--cpu-list".into(), core.to_string().into()]);
        }
        Measured::start(&self.bench.program, &self.log(), LIMIT, environment, &command)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Keeps the directory for whoever looks into it, and says what the daemon said last.
    pub(crate) fn explain(self, error: Error) -> Error {
        let said = std::fs::read_to_string(self.log()).unwrap_or_default();
        let kept = self.dir.keep();
        error.context(format!("what it said:\n{}\nall of it is in {}", tail(&said), kept.display()))
    }
}

/// A daemon that runs until it is stopped.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) process: Measured,
    /// Where a service manager would listen.
    ready: UnixDatagram,
}

impl Daemon {
    /// Waits until it says that it is ready; how long that took from its start.
    pub(crate) fn ready(&self) -> Result<Duration> {
        let began = Instant::now();
        let mut message = [0; 4096];
        self.ready.set_read_timeout(Some(Duration::from_millis(100)))?;
        while began.elapsed() < READY_LIMIT && self.process.is_running() {
            // Nothing for a while is no error.
            let length = self.ready.recv(&mut message).unwrap_or(0);
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(Duration::from_nanos(unix_ns().saturating_sub(self.process.started_ns)));
            }
        }
        bail!("the daemon did not say that it is ready");
    }

    /// Ends it, and expects that it ends well.
    pub(crate) fn stop(self) -> Result<Cost> {
        let cost = self.process.stop()?;
        ended_well(&cost).map(|()| cost)
    }
}

/// Whether the daemon succeeded.
pub(crate) fn ended_well(cost: &Cost) -> Result<()> {
    match cost.status {
        Some(0) => Ok(()),
        Some(status) => bail!("logweir ended with status {status}"),
        None => bail!("logweir was killed"),
    }
}

/// The last lines.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
