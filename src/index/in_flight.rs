//! How many requests are on their way at once: between 1 and the configured maximum, as many as make it faster.
//!
//! A cluster that takes as long for each of several requests at once as for the first of them is far away rather than
//! busy: at the start, and after silence, the window leaps for as long as that is so. Later it tries. What each request of
//! a full window moves in its time, times their number, is what the window moves. It is tried larger, and stays so if that
//! moved much more; or smaller, and stays so if that moved as much. So a cluster far away gets many requests, one on the
//! same cores few. Refusals halve it; so does silence.
//! [`Window`] is the pure decision; [`InFlight`] hands out permits by it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Where it starts.
const START: usize = 6;
/// It leaps to so many times its size…
const LEAP: usize = 8;
/// …if the slowest answer took no more than so many times as long as the quickest.
const ALIKE: f64 = 1.25;
/// So many answers are enough to tell what a window moves.
const ENOUGH: usize = 16;
/// Larger must move so much of what it is larger to stay. A cluster that only gets faster, as a young one does, is not to
/// pass for that.
const WORTH: f64 = 0.5;
/// Smaller may move so much less to stay.
const SLACK: f64 = 0.03;
/// The longest rest between two trials, in rounds.
const LONGEST_REST: u32 = 32;

/// What an answer says about the number of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// An answer came.
    Answered {
        /// After this time.
        took: Duration,
        /// To a body of so many bytes.
        bytes: u64,
    },
    /// 429, for the request or for items.
    Refused,
    /// No answer.
    Lost,
}

/// When a request left.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// By how often the size had changed.
    generation: u64,
    /// Whether the window was all in use then.
    full: bool,
}

/// The number of requests that may be on their way, as pure state.
#[derive(Debug)]
pub struct Window {
    size: usize,
    max: usize,
    generation: u64,
    /// While it leaps: the quickest and the slowest answer, how many there were, and whether the window was ever full.
    leaps: Option<Leap>,
    /// Bytes a second that a request moved, of those that left a full window of this generation.
    pace: Mean,
    /// The size before the trial, and what it moved.
    trial: Option<(usize, f64)>,
    /// Whether the last trial that failed was upwards.
    too_large: bool,
    /// Rounds until the next trial, and after the next that fails.
    rest: u32,
    next_rest: u32,
}

#[derive(Debug)]
struct Leap {
    least: Duration,
    most: Duration,
    answers: usize,
    full: bool,
}

impl Leap {
    const NEW: Self = Self { least: Duration::MAX, most: Duration::ZERO, answers: 0, full: false };
}

#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    #[expect(clippy::cast_precision_loss, reason = "a number of answers")]
    fn get(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

impl Window {
    /// Starts at six, or at the maximum if that is less.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            size: START.min(max.max(1)),
            max: max.max(1),
            generation: 0,
            leaps: Some(Leap::NEW),
            pace: Mean::default(),
            trial: None,
            too_large: false,
            rest: 0,
            next_rest: 1,
        }
    }

    /// How many requests may be on their way.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// A request leaves, as one of `busy` that are on their way.
    #[must_use]
    pub fn leave(&self, busy: usize) -> Left {
        Left { generation: self.generation, full: busy >= self.size }
    }

    /// Takes in what happened to a request, one of `busy` that were on their way until now.
    pub fn observe(&mut self, signal: Signal, left: Left, busy: usize) {
        // What left before the last change says nothing new, be it refused too.
        if left.generation != self.generation {
            return;
        }
        match signal {
            Signal::Answered { took, .. } if self.leaps.is_some() => self.leap(took, busy),
            Signal::Answered { .. } if !left.full => {}
            Signal::Answered { took, bytes } => {
                #[expect(clippy::cast_precision_loss, reason = "bytes of a body")]
                let pace = bytes as f64 / took.as_secs_f64().max(1e-6);
                self.pace.sum += pace;
                self.pace.count += 1;
                if self.pace.count >= ENOUGH.max(self.size) {
                    self.end_round();
                }
            }
            Signal::Refused | Signal::Lost => {
                self.leaps = (signal == Signal::Lost).then_some(Leap::NEW);
                self.trial = None;
                (self.rest, self.next_rest) = (1, 1);
                self.resize(self.size / 2);
            }
        }
    }

    fn leap(&mut self, took: Duration, busy: usize) {
        let Some(leap) = &mut self.leaps else { return };
        leap.least = leap.least.min(took);
        leap.most = leap.most.max(took);
        leap.answers += 1;
        leap.full |= busy >= self.size;
        if leap.answers < self.size {
            return;
        }
        if !leap.full {
            *leap = Leap::NEW;
        } else if leap.most <= leap.least.mul_f64(ALIKE) && self.size < self.max {
            // The next ones are to be as quick as these.
            *leap = Leap { least: leap.least, ..Leap::NEW };
            self.resize(self.size.saturating_mul(LEAP));
        } else {
            // The last leap may have gone too far.
            self.too_large = true;
            self.leaps = None;
        }
    }

    fn resize(&mut self, size: usize) {
        self.size = size.clamp(1, self.max);
        self.generation += 1;
        self.pace = Mean::default();
    }

    fn end_round(&mut self) {
        #[expect(clippy::cast_precision_loss, reason = "a number of requests")]
        let size = |size: usize| size as f64;
        let moved = size(self.size) * self.pace.get();
        match self.trial.take() {
            Some((from, before)) => {
                let grown = size(self.size) / size(from) - 1.0;
                let least = if grown > 0.0 { 1.0 + WORTH * grown } else { 1.0 - SLACK };
                if moved >= before * least {
                    self.next_rest = 1;
                } else {
                    self.too_large = grown > 0.0;
                    self.rest = self.next_rest;
                    self.next_rest = (self.next_rest * 2).min(LONGEST_REST);
                    self.resize(from);
                    return;
                }
            }
            None if self.rest > 0 => {
                self.rest -= 1;
                self.pace = Mean::default();
                return;
            }
            None => {}
        }
        let larger = self.size + self.size.div_ceil(2);
        let next = if self.too_large { self.size - self.size / 3 } else { larger.min(self.max) };
        if next == self.size {
            // Nothing is beyond either end: the other way next time.
            self.too_large = !self.too_large;
            self.rest = self.next_rest;
            self.pace = Mean::default();
            return;
        }
        self.trial = Some((self.size, moved));
        self.resize(next);
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
    /// Permits that were given.
    given: usize,
    /// Of them, those that are used: one may wait for something to send.
    busy: usize,
}

/// Leave for one batch to be on its way, given back on drop.
#[derive(Debug)]
pub struct Permit {
    of: Arc<InFlight>,
    left: Option<Left>,
}

impl InFlight {
    /// Permits for at most `max` at once.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { window: Window::new(max), given: 0, busy: 0 }),
            freed: Notify::new(),
        })
    }

    /// Waits for a permit. For one caller at a time. Cancel safe.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                if state.given < state.window.size() {
                    state.given += 1;
                    return Permit { of: Arc::clone(self), left: None };
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
    /// A request of this permit leaves now.
    pub fn leave(&mut self) {
        let mut state = self.of.state();
        if self.left.is_none() {
            state.busy += 1;
        }
        self.left = Some(state.window.leave(state.busy));
    }

    /// Takes in what happened to the request that left last. Returns the size of the window.
    pub fn observe(&self, signal: Signal) -> usize {
        let mut state = self.of.state();
        let before = state.window.size();
        if let Some(left) = self.left {
            let busy = state.busy;
            state.window.observe(signal, left, busy);
        }
        let size = state.window.size();
        drop(state);
        if size != before {
            tracing::debug!(from = before, to = size, ?signal, "other number of requests in flight");
        }
        self.of.freed.notify_one();
        size
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.given -= 1;
        if self.left.is_some() {
            state.busy -= 1;
        }
        drop(state);
        self.of.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const BYTES: u64 = 1 << 20;

    /// So many answers of a cluster that takes `took` for a request of a window of this size, all of them full.
    fn answered(window: &mut Window, took: impl Fn(usize) -> Duration, times: usize) {
        for _ in 0..times {
            let size = window.size();
            window.observe(Signal::Answered { took: took(size), bytes: BYTES }, window.leave(size), size);
        }
    }

    fn sizes(window: &mut Window, took: impl Fn(usize) -> Duration, times: usize) -> Vec<usize> {
        (0..times)
            .map(|_| {
                answered(window, &took, 1);
                window.size()
            })
            .collect()
    }

    #[test]
    fn a_cluster_far_away_gets_the_maximum_within_a_few_rounds() {
        let mut window = Window::new(32);
        assert_eq!(window.size(), START);
        answered(&mut window, |_| 50 * MS, START);
        assert_eq!(window.size(), 32);
        let sizes = sizes(&mut window, |_| 50 * MS, 10_000);
        let full = sizes.iter().filter(|size| **size == 32).count();
        assert!(full > 9_500, "{full} of {}", sizes.len());
    }

    #[test]
    fn a_cluster_whose_requests_wait_for_one_another_gets_no_more_than_keep_it_busy() {
        // Four at once keep its four cores busy.
        let took = |size: usize| 10 * MS * u32::try_from(size.max(4)).unwrap() / 4;
        let mut window = Window::new(64);
        let sizes = sizes(&mut window, took, 10_000);
        let later = &sizes[2_000..];
        let mean = later.iter().sum::<usize>() / later.len();
        assert!((3..=5).contains(&mean), "{mean}");
        assert!(later.iter().all(|size| *size <= 6));
    }

    /// How much of what one could send, one batch every `every`, leaves within `time` to a cluster that takes `took` for a
    /// request, of which it serves so many at once; and the last size.
    fn share(every: Duration, took: Duration, at_once: usize, time: Duration) -> (f64, usize) {
        let mut window = Window::new(64);
        let mut now = Duration::ZERO;
        let mut next = Duration::ZERO;
        let mut on_their_way: Vec<(Duration, Duration, Left)> = Vec::new();
        let mut sent = 0_u32;
        while now < time {
            let end = on_their_way.iter().map(|(end, ..)| *end).min();
            if on_their_way.len() < window.size() && end.is_none_or(|end| next <= end) {
                now = now.max(next);
                next = now + every;
                sent += 1;
                let mut ends: Vec<_> = on_their_way.iter().map(|(end, ..)| *end).collect();
                ends.sort_unstable();
                let begins = ends.len().checked_sub(at_once).map_or(now, |behind| ends[behind].max(now));
                let left = window.leave(on_their_way.len() + 1);
                on_their_way.push((begins + took, now, left));
            } else {
                let first = (0..on_their_way.len()).min_by_key(|at| on_their_way[*at].0).unwrap();
                let busy = on_their_way.len();
                let (end, began, left) = on_their_way.remove(first);
                now = now.max(end);
                window.observe(Signal::Answered { took: end - began, bytes: BYTES }, left, busy);
            }
        }
        (f64::from(sent) * every.as_secs_f64() / time.as_secs_f64(), window.size())
    }

    #[test]
    fn a_cluster_far_away_costs_less_than_a_tenth_even_of_the_first_two_seconds() {
        let every = Duration::from_micros(1_800);
        let (share, size) = share(every, 50 * MS, usize::MAX, 2_000 * MS);
        assert!(share > 0.95, "{share} with {size}");
    }

    #[test]
    fn a_busy_cluster_never_gets_many_more_than_at_the_start() {
        for at_once in [1, 2, 4] {
            for time in [500 * MS, 2_000 * MS, 10_000 * MS, 60_000 * MS] {
                let (_, size) = share(MS, 20 * MS, at_once, time);
                assert!(size <= 12, "{size} after {time:?} where {at_once} are served at once");
            }
        }
    }

    #[test]
    fn it_follows_a_cluster_that_gets_slower_and_faster() {
        let near = |size: usize| 10 * MS * u32::try_from(size.max(4)).unwrap() / 4;
        let mut window = Window::new(64);
        answered(&mut window, near, 1_000);
        let before = window.size();
        answered(&mut window, |_| 100 * MS, 5_000);
        assert!(window.size() > 40, "{before} became {}", window.size());
        answered(&mut window, near, 20_000);
        assert!(window.size() <= 8, "{}", window.size());
    }

    #[test]
    fn it_does_not_grow_while_it_is_not_full() {
        let mut window = Window::new(16);
        for _ in 0..100 {
            window.observe(Signal::Answered { took: MS, bytes: BYTES }, window.leave(1), 1);
        }
        assert_eq!(window.size(), START);
    }

    #[test]
    fn refusals_halve_it_once_a_round_and_never_below_one() {
        let mut window = Window::new(8);
        let left = window.leave(START);
        for _ in 0..START {
            window.observe(Signal::Refused, left, START);
        }
        assert_eq!(window.size(), START / 2);
        for _ in 0..100 {
            window.observe(Signal::Lost, window.leave(1), 1);
        }
        assert_eq!(window.size(), 1);
        answered(&mut window, |_| 10 * MS, 1_000);
        assert!(window.size() >= 5, "{}", window.size());
    }

    #[test]
    fn a_maximum_of_one_is_kept() {
        let mut window = Window::new(1);
        assert!(sizes(&mut window, |_| MS, 1_000).iter().all(|size| *size == 1));
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
        let in_flight = InFlight::new(16);
        let mut permits = Vec::new();
        for _ in 0..START {
            permits.push(in_flight.acquire().await);
        }
        let one_more = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.acquire().await }
        });
        tokio::task::yield_now().await;
        permits.iter_mut().for_each(Permit::leave);
        for permit in &permits {
            permit.observe(Signal::Answered { took: MS, bytes: BYTES });
        }
        one_more.await.expect("no panic");
    }
}
