//! How many requests are on their way at once: between 1 and the configured maximum, by what answers say.
//!
//! It grows while answers come in the usual time and the window is full, and shrinks when the cluster refuses or does
//! not answer. [`Window`] is the pure decision; [`InFlight`] hands out permits by it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Where it starts: two hide one's latency behind the other's work.
const START: f64 = 2.0;
/// An answer that takes so many times the usual is a sign of a queue in the cluster: no growth.
const SLOW: f64 = 2.0;
/// How much of the newest answer goes into the usual time.
const WEIGHT: f64 = 0.05;

/// What an answer says about the number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An answer came after this time.
    Answered(Duration),
    /// 429, for the request or for items.
    Refused,
    /// No answer.
    Lost,
}

/// The number of requests that may be on their way, as pure state.
#[derive(Debug)]
pub struct Window {
    size: f64,
    max: f64,
    usual: Option<f64>,
    /// Requests that left before the last cut say nothing new when they are refused too.
    ignore: usize,
}

impl Window {
    /// Starts at two, or at the maximum if that is one.
    #[must_use]
    pub fn new(max: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a number of requests")]
        let max = max.max(1) as f64;
        Self { size: START.min(max), max, usual: None, ignore: 0 }
    }

    /// How many requests may be on their way.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and the maximum")]
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Takes in what happened to one of `in_use` requests (itself included).
    pub fn observe(&mut self, signal: Signal, in_use: usize) {
        let full = in_use >= self.size();
        match signal {
            Signal::Answered(time) => {
                self.ignore = self.ignore.saturating_sub(1);
                let time = time.as_secs_f64();
                let usual = self.usual.unwrap_or(time);
                if full && time <= usual * SLOW {
                    self.size = (self.size + 1.0 / self.size).min(self.max);
                }
                self.usual = Some(usual + WEIGHT * (time - usual));
            }
            Signal::Refused | Signal::Lost if self.ignore > 0 => self.ignore -= 1,
            Signal::Refused | Signal::Lost => {
                self.size = (self.size / 2.0).max(1.0);
                self.ignore = in_use.saturating_sub(1);
            }
        }
    }
}

/// Permits for requests on their way.
#[derive(Debug)]
pub struct InFlight {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    window: Window,
    in_use: usize,
}

/// Leave for one batch to be on its way, given back on drop.
#[derive(Debug)]
pub struct Permit(Arc<InFlight>);

impl InFlight {
    /// Permits for at most `max` at once.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { window: Window::new(max), in_use: 0 }), freed: Notify::new() })
    }

    /// Waits for a permit. For one caller at a time. Cancel safe.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                if state.in_use < state.window.size() {
                    state.in_use += 1;
                    return Permit(Arc::clone(self));
                }
            }
            freed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Takes in what happened to this permit's request.
    pub fn observe(&self, signal: Signal) {
        let mut state = self.0.state();
        let in_use = state.in_use;
        state.window.observe(signal, in_use);
        drop(state);
        self.0.freed.notify_one();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state().in_use -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn answered(window: &mut Window, time: Duration, times: usize) {
        for _ in 0..times {
            window.observe(Signal::Answered(time), window.size());
        }
    }

    #[test]
    fn a_slow_but_steady_cluster_gets_the_maximum() {
        let mut window = Window::new(8);
        assert_eq!(window.size(), 2);
        answered(&mut window, 50 * MS, 100);
        assert_eq!(window.size(), 8);
    }

    #[test]
    fn it_does_not_grow_while_it_is_not_full() {
        let mut window = Window::new(8);
        for _ in 0..100 {
            window.observe(Signal::Answered(MS), 1);
        }
        assert_eq!(window.size(), 2);
    }

    #[test]
    fn answers_that_take_much_longer_than_usual_stop_growth() {
        let mut window = Window::new(64);
        answered(&mut window, 10 * MS, 20);
        let size = window.size();
        answered(&mut window, 100 * MS, 2);
        assert_eq!(window.size(), size);
    }

    #[test]
    fn refusals_halve_it_once_a_round_and_never_below_one() {
        let mut window = Window::new(8);
        answered(&mut window, 10 * MS, 100);
        for _ in 0..8 {
            window.observe(Signal::Refused, 8);
        }
        assert_eq!(window.size(), 4);
        for _ in 0..100 {
            window.observe(Signal::Lost, window.size());
        }
        assert_eq!(window.size(), 1);
        answered(&mut window, 10 * MS, 100);
        assert_eq!(window.size(), 8);
    }

    #[test]
    fn a_maximum_of_one_is_kept() {
        let mut window = Window::new(1);
        answered(&mut window, MS, 10);
        assert_eq!(window.size(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_is_waited_for_and_comes_back_by_drop() {
        let in_flight = InFlight::new(2);
        let first = in_flight.acquire().await;
        let _second = in_flight.acquire().await;
        let third = tokio::time::timeout(MS, in_flight.acquire()).await;
        assert!(third.is_err());
        drop(first);
        in_flight.acquire().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_grew_lets_a_waiting_one_in() {
        let in_flight = InFlight::new(3);
        let first = in_flight.acquire().await;
        let _second = in_flight.acquire().await;
        let third = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.acquire().await }
        });
        tokio::task::yield_now().await;
        for _ in 0..3 {
            first.observe(Signal::Answered(MS));
        }
        third.await.expect("third");
    }
}
