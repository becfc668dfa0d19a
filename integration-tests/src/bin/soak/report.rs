//! What a soak came to, on one page.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use integration_tests::Run;
use integration_tests::machine::{cores, cpu_model, load_average};
use serde::Serialize;

use crate::Options;
use crate::count::{Count, count};
use crate::traffic::Written;
use crate::world::{BESIDE_BATCHES, MAX_MEMORY, World};

/// Faults of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Faults {
    pub(crate) times: u64,
    /// From the end of the fault until every line written before that was found; where that was measured.
    pub(crate) longest_recovery_s: Option<f64>,
}

/// The machine it ran on.
#[derive(Clone, Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    load_at_the_end: f64,
}

impl Machine {
    fn this() -> Self {
        Self { cpu: cpu_model(), cores: cores(), load_at_the_end: load_average().unwrap_or_default() }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores of {}, load {:.1}", self.cores, self.cpu, self.load_at_the_end)
    }
}

/// What `logweir verify` said.
#[derive(Clone, Copy, Debug, Serialize)]
struct Verified {
    satisfied: bool,
    lines: u64,
}

impl Verified {
    fn of(run: &Run) -> Self {
        let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_default();
        Self { satisfied: run.status == Some(0), lines: report["total"]["lines"].as_u64().unwrap_or(0) }
    }
}

/// What the soak and the outage both come to.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) passed: bool,
    /// Why not.
    failures: Vec<String>,
    seed: u64,
    minutes: f64,
    lines_a_second: u64,
    machine: Machine,
    pub(crate) count: Count,
    verify: Verified,
    memory_bound_bytes: u64,
    memory_high_water_bytes: u64,
}

impl Outcome {
    /// Ends the daemon, counts what is there, and holds against it whatever is wrong with that.
    pub(crate) fn of(
        world: &mut World,
        options: &Options,
        seed: u64,
        took: Duration,
        written: &[Written],
    ) -> Result<Self> {
        world.stop_daemon()?;
        eprintln!("counting");
        let limit = took.max(Duration::from_secs(600));
        let verify = world.workspace.run_within(&["verify", "--output", "json"], limit);
        let mut outcome = Self {
            passed: true,
            failures: Vec::new(),
            seed,
            minutes: took.as_secs_f64() / 60.0,
            lines_a_second: options.rate,
            machine: Machine::this(),
            count: count(&world.node, written)?,
            verify: Verified::of(&verify),
            memory_bound_bytes: MAX_MEMORY + BESIDE_BATCHES,
            memory_high_water_bytes: world.most_memory(),
        };
        let Count { lines, lost, twice, foreign, statuses_agree, .. } = outcome.count;
        outcome.fails_if(lost > 0, || format!("{lost} lost"));
        outcome.fails_if(twice > 0, || format!("{twice} twice"));
        outcome.fails_if(foreign > 0, || format!("{foreign} foreign"));
        outcome.fails_if(!statuses_agree, || "the statuses are not those that were written".to_owned());
        let Verified { satisfied, lines: found } = outcome.verify;
        outcome.fails_if(found != lines, || format!("verify found {found} lines of {lines}"));
        outcome.fails_if(!satisfied, || format!("verify says: {}{}", verify.stdout, verify.stderr));
        let most = outcome.memory_high_water_bytes;
        outcome.fails_if(most > outcome.memory_bound_bytes, || format!("memory went to {}", mib(most)));
        for line in world.errors().into_iter().take(5) {
            outcome.fails_if(true, || format!("the daemon said: {line}"));
        }
        Ok(outcome)
    }

    /// Notes why it did not pass, if so.
    pub(crate) fn fails_if(&mut self, wrong: bool, why: impl FnOnce() -> String) {
        if wrong {
            self.failures.push(why());
            self.passed = false;
        }
    }

    /// `of 10.0 minutes, seed 4, …`
    pub(crate) fn headline(&self) -> String {
        let Self { seed, minutes, lines_a_second, machine, .. } = self;
        format!("of {minutes:.1} minutes, seed {seed}, {lines_a_second} lines/s, on {machine}")
    }
}

/// How it ended: the last lines of a report.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "lines      {:>10}", self.count.lines)?;
        writeln!(f, "documents  {:>10}", self.count.documents)?;
        writeln!(f, "lost       {:>10}", self.count.lost)?;
        writeln!(f, "twice      {:>10}", self.count.twice)?;
        let verified = if self.verify.satisfied { "each exactly once" } else { "NOT SATISFIED" };
        writeln!(f, "verify     {:>10}  {verified}", self.verify.lines)?;
        let (most, bound) = (mib(self.memory_high_water_bytes), mib(self.memory_bound_bytes));
        writeln!(f, "memory     {most} at most (batch.max_memory {}, bound {bound})\n", mib(MAX_MEMORY))?;
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        writeln!(f, "{}", if self.passed { "passed" } else { "failed" })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    faults: u64,
    faults_by_kind: BTreeMap<&'static str, Faults>,
    longest_recovery_s: f64,
}

impl Report {
    /// Also expects as many faults as are promised for so long.
    pub(crate) fn new(mut outcome: Outcome, options: &Options, by_kind: BTreeMap<&'static str, Faults>) -> Self {
        let faults = by_kind.values().map(|faults| faults.times).sum();
        let seconds = options.duration().as_secs();
        // At least a hundred in ten minutes, and of each kind several.
        let (promised, of_each) = (seconds / 6, (seconds / 200).max(1));
        outcome.fails_if(faults < promised, || format!("only {faults} faults of {promised}"));
        for (name, Faults { times, .. }) in &by_kind {
            outcome.fails_if(*times < of_each, || format!("only {times} of: {name}"));
        }
        let longest = by_kind.values().filter_map(|faults| faults.longest_recovery_s).fold(0.0, f64::max);
        Self { outcome, faults, faults_by_kind: by_kind, longest_recovery_s: longest }
    }
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "soak {}\n", self.outcome.headline())?;
        writeln!(f, "{:<16}{:>6}  {:>20}", "fault", "times", "longest recovery")?;
        for (name, faults) in &self.faults_by_kind {
            let recovery =
                faults.longest_recovery_s.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
            writeln!(f, "{name:<16}{:>6}  {recovery:>20}", faults.times)?;
        }
        writeln!(f, "{:<16}{:>6}  {:>18.2} s\n", "all", self.faults, self.longest_recovery_s)?;
        write!(f, "{}", self.outcome)
    }
}
