//! What is measured, and what is expected of it.

use clap::ValueEnum;

use crate::figure::Goal;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One file, with the ten fields that comparable tools index; peers run beside it
    TenFields,
    /// The same with documents as they are by default
    Default,
    /// The same lines in chunk files of 1000
    Chunks,
    /// The same with compressed bodies
    Gzip,
    /// The same, with 50 ms for each request
    Slow,
    /// How long a line takes while 10,000 a second are written
    Freshness,
    /// The same with `preset: latency`
    Latency,
    /// 20,000 watched files that nobody writes to
    Idle,
    /// 100 files that grow together, one of them as fast as it is read
    Fair,
    /// From the start of the process to the first document
    Start,
    /// What one core does with other formats and documents
    PerCore,
    /// A real Elasticsearch on the same cores
    Elastic,
    /// How long each panel of the dashboards takes in a real Elasticsearch: run only when it is named
    Panels,
    /// Up to 50 million lines: needs 13 GB of disk, and is run only when it is named
    Long,
}

impl Scenario {
    /// As typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TenFields => "ten-fields",
            Self::Default => "default",
            Self::Chunks => "chunks",
            Self::Gzip => "gzip",
            Self::Slow => "slow",
            Self::Freshness => "freshness",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Fair => "fair",
            Self::Start => "start",
            Self::PerCore => "per-core",
            Self::Elastic => "elastic",
            Self::Panels => "panels",
            Self::Long => "long",
        }
    }

    /// Whether it is one run of the daemon over all lines into a sink.
    pub(crate) fn is_throughput(self) -> bool {
        matches!(self, Self::TenFields | Self::Default | Self::Chunks | Self::Gzip | Self::Slow)
    }

    /// Whether part of its goal is a comparison with [`Scenario::Default`] in the same run.
    pub(crate) fn needs_default(self) -> bool {
        matches!(self, Self::Chunks | Self::Gzip | Self::Slow)
    }
}

/// The goals. They hold for 2 cores of a machine that finds 23 million newlines a second; what costs processor time scales
/// with that, what a user waits for does not.
pub(crate) mod goal {
    use super::Goal;

    pub(crate) const TEN_FIELDS_EVENTS_PER_SECOND: Goal = Goal::at_least(2_000_000.0).scaled();
    pub(crate) const TEN_FIELDS_CPU_US: Goal = Goal::at_most(0.7).scaled();
    pub(crate) const DEFAULT_EVENTS_PER_SECOND: Goal = Goal::at_least(1_500_000.0).scaled();
    pub(crate) const DEFAULT_CPU_US: Goal = Goal::at_most(1.0).scaled();
    /// Percent of what the single file reaches.
    pub(crate) const CHUNKS_SHARE: Goal = Goal::at_least(90.0);
    /// Beyond what it costs without.
    pub(crate) const GZIP_MORE_CPU_US: Goal = Goal::at_most(2.5).scaled();
    /// Percent of what the quick sink allows.
    pub(crate) const SLOW_SHARE: Goal = Goal::at_least(90.0);
    /// MiB.
    pub(crate) const MEMORY: Goal = Goal::at_most(64.0);
    pub(crate) const SLOW_MEMORY: Goal = Goal::at_most(192.0);
    /// Of the sink itself, else it is measured instead.
    pub(crate) const SINK_CPU_US: Goal = Goal::at_most(0.3);

    /// Percent of what ready-made bodies reach.
    pub(crate) const ELASTIC_SHARE: Goal = Goal::at_least(88.0);

    /// All requests of a panel, over two million documents.
    pub(crate) const PANEL_MS: Goal = Goal::at_most(1000.0);

    pub(crate) const FRESHNESS_P50_MS: Goal = Goal::at_most(60.0);
    pub(crate) const FRESHNESS_P99_MS: Goal = Goal::at_most(250.0);
    pub(crate) const LATENCY_P99_MS: Goal = Goal::at_most(40.0);

    /// Percent of a core.
    pub(crate) const IDLE_CPU: Goal = Goal::at_most(0.2);
    pub(crate) const IDLE_MEMORY: Goal = Goal::at_most(48.0);
    pub(crate) const IDLE_DESCRIPTORS: Goal = Goal::at_most(300.0);
    pub(crate) const IDLE_READY_MS: Goal = Goal::at_most(1000.0);
    pub(crate) const IDLE_LINE_MS: Goal = Goal::at_most(300.0);

    pub(crate) const FAIR_WAIT_MS: Goal = Goal::at_most(1000.0);
    pub(crate) const START_MS: Goal = Goal::at_most(50.0);

    /// Percent: the slowest of all sizes beside the quickest.
    pub(crate) const LONG_FLAT_RATE: Goal = Goal::at_least(90.0);
    /// Percent: the most memory of all sizes beside the least.
    pub(crate) const LONG_FLAT_MEMORY: Goal = Goal::at_most(120.0);
}
