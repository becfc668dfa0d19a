//! How long to wait before the next attempt: growing, jittered, capped, and without an end. The only user of `backoff`.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use crate::config;
use crate::simulated::jitter;

/// Why something is sent again: a closed set, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// No connection.
    NotSent,
    /// No whole answer.
    Ambiguous,
    /// 429, of the request or of items.
    Refused,
    /// 5xx, of the request or of items.
    Broken,
    /// Larger than the cluster, or what stands before it, accepts.
    TooLarge,
    /// Somebody has to act.
    Held,
}

impl Cause {
    /// The cause in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Ambiguous => "ambiguous",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::TooLarge => "too_large",
            Self::Held => "held",
        }
    }
}

/// The delays between attempts at one thing.
#[derive(Debug)]
pub struct Delays {
    grow: ExponentialBackoff,
    max: Duration,
}

impl Delays {
    /// Delays as configured.
    #[must_use]
    pub fn new(cfg: &config::Retry) -> Self {
        let grow = ExponentialBackoff {
            current_interval: cfg.min_delay.0,
            initial_interval: cfg.min_delay.0,
            randomization_factor: jitter(),
            multiplier: 2.0,
            max_interval: cfg.max_delay.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { grow, max: cfg.max_delay.0 }
    }

    /// The next delay; no shorter than the cluster asks, no longer than the cap.
    pub fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let grown = self.grow.next_backoff().unwrap_or(self.max);
        grown.max(retry_after.unwrap_or_default()).min(self.max)
    }

    /// Something went well: the next delay is the first again.
    pub fn reset(&mut self) {
        self.grow.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    fn delays() -> Delays {
        Delays::new(&config::Retry { min_delay: Span::millis(100), max_delay: Span::secs(30) })
    }

    #[test]
    fn delays_grow_with_jitter_up_to_the_cap_and_never_end() {
        let mut delays = delays();
        let mut expected = 0.1_f64;
        for attempt in 0..200 {
            let delay = delays.next(None).as_secs_f64();
            assert!(delay >= (expected * 0.49).min(30.0) && delay <= (expected * 1.51).min(30.0), "{attempt}: {delay}");
            expected = (expected * 2.0).min(30.0);
        }
        delays.reset();
        assert!(delays.next(None) < Duration::from_millis(151));
    }

    #[test]
    fn the_cluster_may_ask_for_longer_up_to_the_cap() {
        assert_eq!(delays().next(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(delays().next(Some(Duration::from_secs(7000))), Duration::from_secs(30));
        assert!(delays().next(Some(Duration::ZERO)) > Duration::ZERO);
    }
}
