//! Runs one program to its end and says what it cost, as the kernel counted it.
//!
//! This is a process of its own, for two reasons. What a process may ask about ended children is their sum and maximum,
//! so there must be one child. And a child begins with the memory of its parent on its account, so the parent must be
//! small: the benchmark, which may hold files and bodies, is not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where its standard error goes
    #[arg(long)]
    log: PathBuf,
    /// Kills it after so many seconds
    #[arg(long)]
    limit: u64,
    /// Program and arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// What it cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Its exit status; `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    /// From its start to its end.
    pub(crate) wall_seconds: f64,
    /// Time of processors, in its own code.
    pub(crate) user_seconds: f64,
    /// Time of processors, in the kernel on its behalf.
    pub(crate) system_seconds: f64,
    /// The most memory it had at once.
    pub(crate) max_rss_bytes: u64,
}

impl Cost {
    /// Time of processors.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// Runs `command` in a process that measures it.
pub(crate) fn cost_of(program: &Path, log: &Path, limit: Duration, command: &[OsString]) -> Result<Cost> {
    let output = Command::new(program)
        .args(["measure".as_ref(), "--log".as_ref(), log.as_os_str(), "--limit".as_ref()])
        .arg(limit.as_secs().to_string())
        .arg("--")
        .args(command)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start the process that measures")?;
    serde_json::from_slice(&output.stdout).context("the process that measures said nothing")
}

/// The process that measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let log = std::fs::File::create(&options.log).with_context(|| format!("cannot write {}", options.log.display()))?;
    let (program, arguments) = options.command.split_first().context("no command")?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let limit = Duration::from_secs(options.limit);
    // Ends with this process, which ends as soon as the child did.
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        let _ = kill(pid, Signal::SIGKILL);
    });
    let status = child.wait()?;
    let wall = began.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cost = Cost {
        status: status.code(),
        wall_seconds: wall.as_secs_f64(),
        user_seconds: seconds(usage.user_time()),
        system_seconds: seconds(usage.system_time()),
        // Linux counts in KiB.
        max_rss_bytes: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

/// Time of processors that this process had until now.
pub(crate) fn own_cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(f64::NAN, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}
