//! Runs one program and says what it cost, as the kernel counted it.
//!
//! This is a process of its own, for two reasons. What a process may ask about ended children is their sum and maximum,
//! so there must be one child. And a child begins with the memory of its parent on its account, so the parent must be
//! small: the benchmark, which may hold files and bodies, is not.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::stats::unix_ns;

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

/// When it began, and as which process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Began {
    pid: u32,
    unix_ns: u64,
}

/// A program that runs and is measured; it is asked to end (SIGTERM) when this is dropped.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Of the program itself.
    pub(crate) pid: u32,
    /// When it was started, in nanoseconds since 1970.
    pub(crate) started_ns: u64,
    child: Child,
    /// At its end the program is asked to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Measured {
    /// Starts `command` in a process that measures it, with more in its environment. `program` is the benchmark itself.
    pub(crate) fn start(
        program: &Path,
        log: &Path,
        limit: Duration,
        environment: &[(&str, OsString)],
        command: &[OsString],
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["measure".as_ref(), "--log".as_ref(), log.as_os_str(), "--limit".as_ref()])
            .arg(limit.as_secs().to_string())
            .arg("--")
            .args(command)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process that measures")?;
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let began: Began = serde_json::from_str(&line).context("the process that measures started nothing")?;
        Ok(Self { pid: began.pid, started_ns: began.unix_ns, child, input, output })
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Result<Cost> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        serde_json::from_str(&text).context("the process that measures said nothing")
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> Result<Cost> {
        drop(self.input.take());
        self.wait()
    }

    /// Processor time that it had until now, all its threads together, those that ended too.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid.cast_signed())).context("the daemon is gone")?;
        Ok(clock_gettime(clock).context("the daemon is gone")?.into())
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&self) -> bool {
        kill(Pid::from_raw(self.pid.cast_signed()), None).is_ok()
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid)).context("the daemon is gone")?.count())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The process that measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let log = std::fs::File::create(&options.log).with_context(|| format!("cannot write {}", options.log.display()))?;
    let (program, arguments) = options.command.split_first().context("no command")?;
    let (began, unix_ns) = (Instant::now(), unix_ns());
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", Path::new(program).display()))?;
    println!("{}", serde_json::to_string(&Began { pid: child.id(), unix_ns })?);
    let pid = Pid::from_raw(child.id().cast_signed());
    let limit = Duration::from_secs(options.limit);
    // Both end with this process, which ends as soon as the child did.
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        let _ = kill(pid, Signal::SIGKILL);
    });
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = kill(pid, Signal::SIGTERM);
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
