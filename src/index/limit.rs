//! How fast documents may be sent: so many documents and so many bytes a second. The only user of `governor`.
//!
//! A batch may be larger than a second's worth: it then waits for as many seconds. Batches pass in the order they came.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config;

/// Limits on documents and bytes; none where not configured.
#[derive(Debug)]
pub struct Limit {
    docs: Option<Rate>,
    bytes: Option<Rate>,
}

impl Limit {
    /// Limits as configured.
    #[must_use]
    pub fn new(cfg: &config::RateLimit) -> Self {
        let bytes = cfg.max_bytes.map(|bytes| u32::try_from(bytes.0).unwrap_or(u32::MAX));
        Self { docs: cfg.max_docs.and_then(Rate::new), bytes: bytes.and_then(Rate::new) }
    }

    /// Waits until so much may be sent, and says how long that took. Cancel safe; what was taken before is not given back.
    pub async fn pass(&self, docs: u64, bytes: u64) -> Duration {
        if self.docs.is_none() && self.bytes.is_none() {
            return Duration::ZERO;
        }
        let start = Instant::now();
        if let Some(rate) = &self.docs {
            rate.take(docs).await;
        }
        if let Some(rate) = &self.bytes {
            rate.take(bytes).await;
        }
        start.elapsed()
    }
}

struct Rate {
    burst: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rate({}/s)", self.burst)
    }
}

impl Rate {
    fn new(per_second: u32) -> Option<Self> {
        let burst = NonZeroU32::new(per_second)?;
        let limiter = RateLimiter::direct_with_clock(Quota::per_second(burst), TokioClock);
        Some(Self { burst, limiter, turn: Mutex::new(()) })
    }

    async fn take(&self, mut count: u64) {
        let _turn = self.turn.lock().await;
        while let Some(part) = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX).min(self.burst.get())) {
            match self.limiter.check_n(part) {
                Ok(Ok(())) => count -= u64::from(part.get()),
                Ok(Err(not_until)) => {
                    // A timer may fire a trifle early; a millisecond more keeps that from spinning.
                    let wait = not_until.wait_time_from(TokioClock.now());
                    tokio::time::sleep(wait + Duration::from_millis(1)).await;
                }
                // Cannot be: no part is larger than the burst.
                Err(_) => return,
            }
        }
    }
}

/// Tokio's clock, so that tests need not wait.
#[derive(Clone, Copy, Debug)]
struct TokioClock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TokioInstant(Instant);

impl Clock for TokioClock {
    type Instant = TokioInstant;

    fn now(&self) -> TokioInstant {
        TokioInstant(Instant::now())
    }
}

impl std::ops::Add<Nanos> for TokioInstant {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0 + Duration::from(other))
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    #[track_caller]
    fn about(time: Duration, seconds: f64) {
        assert!((time.as_secs_f64() - seconds).abs() < 0.1, "{time:?}, expected {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        assert_eq!(Limit::new(&config::RateLimit::default()).pass(u64::MAX, u64::MAX).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn documents_pass_at_the_configured_rate() {
        let limit = Limit::new(&config::RateLimit { max_docs: Some(1000), max_bytes: None });
        let start = Instant::now();
        for _ in 0..50 {
            limit.pass(100, 1 << 40).await;
        }
        about(start.elapsed(), 4.0); // the first second's worth is there at the start
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_above_a_second_s_worth_passes_after_as_many_seconds() {
        let limit = Limit::new(&config::RateLimit { max_docs: None, max_bytes: Some(ByteSize(1000)) });
        about(limit.pass(1, 10_500).await, 9.5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_batch_is_not_overtaken() {
        let limit = Limit::new(&config::RateLimit { max_docs: Some(10), max_bytes: None });
        let start = Instant::now();
        let (large, small) = tokio::join!(limit.pass(50, 0), limit.pass(10, 0));
        about(large, 4.0);
        about(small, 5.0);
        about(start.elapsed(), 5.0);
    }
}
