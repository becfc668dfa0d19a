//! Presets: a few values that belong together, as the lowest layer above the defaults.

use serde::{Deserialize, Serialize};

/// How batches and requests are sized. What is configured beside it wins, value by value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// As the defaults are: a line waits 50 ms for others at most.
    #[default]
    Balanced,
    /// Fewer and larger requests: a line may wait a second.
    Throughput,
    /// A line is sent within some milliseconds; more and smaller requests.
    Latency,
}

impl Preset {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Throughput => "throughput",
            Self::Latency => "latency",
        }
    }

    /// What it sets: keys and values as `--set` takes them.
    #[must_use]
    pub(super) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Balanced => &[],
            Self::Throughput => &[
                ("batch.max_bytes", "8MiB"),
                ("batch.max_docs", "40000"),
                ("batch.max_age", "1s"),
                ("batch.max_memory", "256MiB"),
            ],
            Self::Latency => &[("batch.max_bytes", "1MiB"), ("batch.max_age", "5ms")],
        }
    }
}
