//! The sink as the benchmark sees it: how it is to answer, where it is, what it counted.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::stamp::Delays;

/// How to answer.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Port on the loopback address; 0 for a free one, which is printed
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Milliseconds that each bulk request takes
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) delay: u64,
    /// Check that bodies are valid and no id comes twice
    #[arg(long)]
    pub(crate) verify: bool,
    /// Tell how long lines took that carry the time of their writing
    #[arg(long)]
    pub(crate) stamps: bool,
    /// Keep all bodies in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

/// What a sink counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) documents: u64,
    pub(crate) bulks: u64,
    /// Bulk bodies, as they were before compression.
    pub(crate) body_bytes: u64,
    /// Bulk bodies, as they were sent.
    pub(crate) sent_bytes: u64,
    /// Bulk bodies that were no pairs of lines.
    pub(crate) refused: u64,
    /// Those with bulk requests.
    pub(crate) connections: u64,
    /// When the first bulk request was answered, in nanoseconds since 1970; `None` where there was none.
    pub(crate) first_answer_ns: Option<u64>,
    /// The last.
    pub(crate) last_answer_ns: u64,
    /// Time of processors that the sink had.
    pub(crate) cpu_seconds: f64,
    /// With `--verify`: different ids.
    pub(crate) ids: Option<u64>,
    /// With `--verify`: what was wrong.
    pub(crate) faults: Option<u64>,
    pub(crate) first_fault: Option<String>,
    /// With `--stamps`: how long lines took.
    pub(crate) delays: Option<Delays>,
}

/// A sink that runs as a process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: String,
    agent: ureq::Agent,
    child: Child,
    /// Dropped before the wait for the child, or there would be nothing to end it.
    input: Option<ChildStdin>,
}

impl Sink {
    /// Starts one; `program` is the benchmark itself.
    pub(crate) fn start(program: &Path, options: &Options) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["sink", "--port", &options.port.to_string(), "--delay", &options.delay.to_string()]);
        for (flag, given) in [("--verify", options.verify), ("--stamps", options.stamps)] {
            if given {
                command.arg(flag);
            }
        }
        if let Some(file) = &options.record {
            command.arg("--record").arg(file);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start the sink")?;
        let input = child.stdin.take();
        let mut line = String::new();
        let output = child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().strip_prefix("http://").context("the sink did not say where it is")?.to_owned();
        Ok(Self { address, agent: ureq::Agent::new_with_defaults(), child, input })
    }

    /// The same as a daemon is told.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.agent.get(format!("{}/{path}", self.url())).call();
        answer.and_then(|mut answer| answer.body_mut().read_json()).context("the sink does not answer")
    }

    /// What it counted until now.
    pub(crate) fn counted(&self) -> Result<Counted> {
        self.ask("_sink")
    }

    /// How many documents it counted until now; costs the sink little, so it can be asked often.
    pub(crate) fn documents(&self) -> Result<u64> {
        self.ask("_documents")
    }

    /// How long lines took, once so many of them were answered, which is a moment after they were counted.
    pub(crate) fn delays(&self, count: u64) -> Result<Delays> {
        let began = Instant::now();
        loop {
            let delays = self.counted()?.delays.context("this sink does not look at times")?;
            if delays.count == count {
                return Ok(delays);
            }
            if began.elapsed() > Duration::from_secs(1) {
                bail!("the sink found {} times in {count} lines", delays.count);
            }
        }
    }

    /// How many nanoseconds after this time the last bulk request was answered, which is a moment after it was counted.
    pub(crate) fn answered_after(&self, unix_ns: u64) -> Result<u64> {
        let began = Instant::now();
        loop {
            let answered = self.counted()?.last_answer_ns;
            if answered > unix_ns {
                return Ok(answered - unix_ns);
            }
            if began.elapsed() > Duration::from_secs(1) {
                bail!("the sink answered nothing");
            }
        }
    }

    /// Waits until it counted so many documents, as long as more of them come at least every `patience`.
    pub(crate) fn wait_for(&self, documents: u64, patience: Duration) -> Result<()> {
        let mut last = (self.documents()?, Instant::now());
        while last.0 < documents {
            std::thread::sleep(Duration::from_millis(5));
            let now = self.documents()?;
            if now > last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > patience {
                bail!("the sink counted {now} documents of {documents}, then none for {} s", patience.as_secs());
            }
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
