//! Other log indexers, on the same file and into the same sink.
//!
//! `PEERS="rsyslog=/usr/sbin/rsyslogd …"` names what is installed; how each is configured is in
//! `integration-tests/bench/peers/NAME.*`, whose first line says with which arguments it is run. In both `@config@`,
//! `@dir@`, `@input@`, `@host@`, `@port@` and `@index@` are filled in.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use integration_tests::node::repository;
use serde_json::Value;
use tempfile::TempDir;

use crate::Bench;
use crate::input::Input;
use crate::measure::{Cost, Measured};
use crate::recording::Recorded;
use crate::sink::{self, Sink};
use crate::throughput::{Round, delivered};

/// What comes before the arguments in the first line of a configuration.
const ARGUMENTS: &str = "# run with: ";
/// A peer that delivered nothing for so long will deliver nothing more.
const PATIENCE: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(600);

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    program: PathBuf,
    /// Its configuration, to be filled in.
    template: String,
}

/// What `PEERS` names, each with a configuration.
pub(crate) fn named(peers: &str) -> Result<Vec<Peer>> {
    let dir = repository().join("integration-tests/bench/peers");
    peers.split_whitespace().map(|peer| Peer::find(peer, &dir)).collect()
}

impl Peer {
    fn find(named: &str, dir: &Path) -> Result<Self> {
        let (name, program) =
            named.split_once('=').with_context(|| format!("PEERS: expected NAME=FILE, not {named:?}"))?;
        let mut found = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        let Some(template) = found.find(|path| path.file_stem().is_some_and(|stem| stem == name)) else {
            bail!("PEERS: there is no configuration for {name:?} in {}", dir.display());
        };
        let template = fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
        ensure!(
            template.starts_with(ARGUMENTS),
            "PEERS: the configuration of {name:?} does not begin with {ARGUMENTS:?}"
        );
        ensure!(Path::new(program).is_file(), "PEERS: there is no file {program}");
        Ok(Self { name: name.to_owned(), program: program.into(), template })
    }

    /// Runs it until the sink has all lines.
    pub(crate) fn run(&self, bench: &Bench, input: &Input) -> Result<Round> {
        let bodies = tempfile::NamedTempFile::new_in(&bench.dir)?;
        let record = bench.verify.then(|| bodies.path().to_owned());
        let sink = Sink::start(&bench.program, &sink::Options { record, ..Default::default() })?;
        let running = self.start(bench, input, &sink.address, "peer")?;
        let started_ns = running.process.started_ns;
        let came = sink.wait_for(input.lines, PATIENCE);
        let (cost, said) = running.stop()?;
        came.map_err(&said)?;
        let counted = sink.counted()?;
        delivered(&counted, input.lines).map_err(said)?;
        if bench.verify {
            documents_are_whole(Recorded::open(bodies.path())?)?;
        }
        let seconds = counted.last_answer_ns.saturating_sub(started_ns) as f64 / 1e9;
        Ok(Round::new(input.lines, seconds, cost, counted))
    }

    /// Starts it with a directory of its own.
    pub(crate) fn start(&self, bench: &Bench, input: &Input, address: &str, index: &str) -> Result<Running> {
        let dir = tempfile::Builder::new().prefix("peer-").tempdir_in(&bench.dir)?;
        let config = dir.path().join("config");
        let (host, port) = address.rsplit_once(':').context("an address without a port")?;
        let values = [
            ("@config@", config.display().to_string()),
            ("@dir@", dir.path().display().to_string()),
            ("@input@", input.file.display().to_string()),
            ("@host@", host.to_owned()),
            ("@port@", port.to_owned()),
            ("@index@", index.to_owned()),
        ];
        let filled = filled(&self.template, &values);
        fs::write(&config, &filled)?;
        let arguments = filled.lines().next().and_then(|line| line.strip_prefix(ARGUMENTS)).unwrap_or_default();
        let mut command: Vec<OsString> = vec![self.program.clone().into()];
        command.extend(arguments.split_whitespace().map(OsString::from));
        let process = Measured::start(&bench.program, &dir.path().join("log"), LIMIT, &[], &command)?;
        Ok(Running { process, dir })
    }
}

/// A peer that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Measured,
    dir: TempDir,
}

impl Running {
    /// Ends it; what it cost, and what adds to an error what it said.
    pub(crate) fn stop(self) -> Result<(Cost, impl Fn(Error) -> Error)> {
        let cost = self.process.stop()?;
        let said = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let last = said.lines().last().unwrap_or("nothing").to_owned();
        Ok((cost, move |error: Error| error.context(format!("the last that it said: {last}"))))
    }
}

/// Whether each document is an object with a time: a peer that could not parse a line may send it empty.
fn documents_are_whole(mut recorded: Recorded) -> Result<()> {
    let mut body = Vec::new();
    while recorded.next(&mut body)?.is_some() {
        for document in body.split(|byte| *byte == b'\n').skip(1).step_by(2) {
            let parsed: Option<Value> = serde_json::from_slice(document).ok();
            let whole = parsed.is_some_and(|document| document["@timestamp"].is_string());
            ensure!(whole, "not a document: {}", String::from_utf8_lossy(document));
        }
    }
    Ok(())
}

fn filled(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Recording;

    #[test]
    fn what_is_no_document_is_found() {
        let whole = |body: &str| {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("bodies");
            Recording::create(&file).unwrap().add("/_bulk", body.as_bytes()).unwrap();
            documents_are_whole(Recorded::open(&file).unwrap()).is_ok()
        };
        assert!(whole("{}\n{\"@timestamp\":\"x\"}\n{}\n{\"@timestamp\":\"y\"}\n"));
        for wrong in ["{}\n\n", "{}\n{}\n", "{}\n{\"@timestamp\":\"x\",}\n", "{}\n{\"@timestamp\":\"x\"}\n{}\nx\n"] {
            assert!(!whole(wrong), "{wrong}");
        }
    }

    #[test]
    fn every_configuration_says_how_it_is_run_and_is_filled_in() {
        let dir = repository().join("integration-tests/bench/peers");
        let this = std::env::current_exe().unwrap();
        let mut count = 0;
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let peer = Peer::find(&format!("{name}={}", this.display()), &dir).unwrap();
            let names = ["@config@", "@dir@", "@input@", "@host@", "@port@", "@index@"];
            for name in ["@config@", "@input@", "@host@", "@port@", "@index@"] {
                assert!(peer.template.contains(name), "{} has no {name}", path.display());
            }
            let filled = filled(&peer.template, &names.map(|name| (name, "x".to_owned())));
            assert!(!names.iter().any(|name| filled.contains(name)), "{}", path.display());
            count += 1;
        }
        assert!(count > 1);
        for wrong in ["rsyslog", "nobody=/bin/sh", "rsyslog=/no/such/file"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
