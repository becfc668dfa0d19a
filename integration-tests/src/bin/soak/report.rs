//! What a soak came to, on one page.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use integration_tests::Run;
use integration_tests::machine::{cores, cpu_model, load_average};
use serde::Serialize;

use crate::Options;
use crate::count::Count;
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
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    load_at_the_end: f64,
}

impl Machine {
    pub(crate) fn this() -> Self {
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
pub(crate) struct Verified {
    pub(crate) satisfied: bool,
    pub(crate) lines: u64,
}

impl Verified {
    pub(crate) fn of(run: &Run) -> Self {
        let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_default();
        Self { satisfied: run.status == Some(0), lines: report["total"]["lines"].as_u64().unwrap_or(0) }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) passed: bool,
    /// Why not.
    failures: Vec<String>,
    seed: u64,
    minutes: f64,
    lines_a_second: u64,
    machine: Machine,
    faults: u64,
    faults_by_kind: BTreeMap<&'static str, Faults>,
    longest_recovery_s: f64,
    count: Count,
    verify: Verified,
    max_memory_bytes: u64,
    memory_bound_bytes: u64,
    memory_high_water_bytes: u64,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        seed: u64,
        took: Duration,
        by_kind: BTreeMap<&'static str, Faults>,
        count: Count,
        verify: &Run,
        world: &World,
    ) -> Self {
        let faults = by_kind.values().map(|faults| faults.times).sum();
        let seconds = options.duration().as_secs();
        // At least a hundred in ten minutes, and of each kind several.
        let (promised, of_each) = (seconds / 6, (seconds / 200).max(1));
        let longest = by_kind.values().filter_map(|faults| faults.longest_recovery_s).fold(0.0, f64::max);
        let mut report = Self {
            passed: false,
            failures: Vec::new(),
            seed,
            minutes: took.as_secs_f64() / 60.0,
            lines_a_second: options.rate,
            machine: Machine::this(),
            faults,
            longest_recovery_s: longest,
            count,
            verify: Verified::of(verify),
            max_memory_bytes: MAX_MEMORY,
            memory_bound_bytes: MAX_MEMORY + BESIDE_BATCHES,
            memory_high_water_bytes: world.most_memory(),
            faults_by_kind: by_kind,
        };
        let mut failures = counted(&report.count, report.verify);
        if faults < promised {
            failures.push(format!("only {faults} faults of {promised}"));
        }
        for (name, faults) in &report.faults_by_kind {
            if faults.times < of_each {
                failures.push(format!("only {} of: {name}", faults.times));
            }
        }
        if report.memory_high_water_bytes > report.memory_bound_bytes {
            failures.push(format!("memory went to {}", mib(report.memory_high_water_bytes)));
        }
        failures.extend(world.errors().into_iter().take(5).map(|line| format!("the daemon said: {line}")));
        if !report.verify.satisfied {
            failures.push(format!("verify says: {}{}", verify.stdout, verify.stderr));
        }
        report.passed = failures.is_empty();
        report.failures = failures;
        report
    }
}

/// What the count holds against the daemon.
pub(crate) fn counted(count: &Count, verify: Verified) -> Vec<String> {
    let mut failures = Vec::new();
    for (what, n) in [("lost", count.lost), ("twice", count.twice), ("foreign", count.foreign)] {
        if n > 0 {
            failures.push(format!("{n} {what}"));
        }
    }
    if !count.statuses_agree {
        failures.push("the statuses are not those that were written".to_owned());
    }
    if verify.lines != count.lines {
        failures.push(format!("verify found {} lines of {}", verify.lines, count.lines));
    }
    failures
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, minutes, lines_a_second, machine, faults, count, .. } = self;
        writeln!(f, "soak of {minutes:.1} minutes, seed {seed}, {lines_a_second} lines/s, on {machine}\n")?;
        writeln!(f, "{:<16}{:>6}  {:>20}", "fault", "times", "longest recovery")?;
        for (name, faults) in &self.faults_by_kind {
            let recovery =
                faults.longest_recovery_s.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
            writeln!(f, "{name:<16}{:>6}  {recovery:>20}", faults.times)?;
        }
        writeln!(f, "{:<16}{faults:>6}  {:>18.2} s\n", "all", self.longest_recovery_s)?;
        writeln!(f, "lines      {:>10}", count.lines)?;
        writeln!(f, "documents  {:>10}", count.documents)?;
        writeln!(f, "lost       {:>10}", count.lost)?;
        writeln!(f, "twice      {:>10}", count.twice)?;
        let verified = if self.verify.satisfied { "each exactly once" } else { "NOT SATISFIED" };
        writeln!(f, "verify     {:>10}  {verified}", self.verify.lines)?;
        writeln!(
            f,
            "memory     {} at most (batch.max_memory {}, bound {})\n",
            mib(self.memory_high_water_bytes),
            mib(self.max_memory_bytes),
            mib(self.memory_bound_bytes)
        )?;
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        writeln!(f, "{}", if self.passed { "passed" } else { "failed" })
    }
}
