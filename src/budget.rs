//! The memory bound: batches take a share of it before they are filled and give it back when they are dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A number of bytes that shares are taken from.
#[derive(Debug)]
pub struct Budget {
    max: u64,
    used: Mutex<u64>,
    sent: AtomicU64,
    freed: Condvar,
}

/// A part of a [`Budget`], given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: u64,
    /// Of it, what is on its way.
    sent: u64,
}

impl Budget {
    /// A budget of `max` bytes, none of them taken.
    #[must_use]
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, used: Mutex::new(0), sent: AtomicU64::new(0), freed: Condvar::new() })
    }

    /// Takes `bytes`, waiting no longer than `wait` for others to give back. A share larger than the whole budget is
    /// granted when nothing else is taken, so that one huge line cannot stop the pump for ever.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: u64, wait: Duration) -> Option<Share> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut used, timeout) = self
            .freed
            .wait_timeout_while(used, wait, |used| *used != 0 && *used + bytes > self.max)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && *used != 0 && *used + bytes > self.max {
            return None;
        }
        *used += bytes;
        Some(Share { budget: Arc::clone(self), bytes, sent: 0 })
    }

    /// Bytes of batches that are filled and on their way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> u64 {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Gives back all but `bytes`; asks for no more where that is more than it has.
    pub fn shrink(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        *self.budget.used.lock().unwrap_or_else(PoisonError::into_inner) -= back;
        self.budget.freed.notify_all();
    }
}

impl Share {
    /// What it is a share for is filled, with `bytes`, and on its way until this is dropped.
    pub fn send(&mut self, bytes: u64) {
        self.sent += bytes;
        self.budget.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.sent.fetch_sub(self.sent, Ordering::Relaxed);
        *self.budget.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_waits_for_room_and_gives_it_back() {
        let budget = Budget::new(10);
        let first = budget.take(8, Duration::ZERO).expect("room");
        assert!(budget.take(3, Duration::ZERO).is_none());
        drop(first);
        let mut all = budget.take(10, Duration::ZERO).expect("room again");
        all.send(7);
        assert_eq!((budget.used(), budget.in_flight()), (10, 7));
        drop(all);
        assert_eq!((budget.used(), budget.in_flight()), (0, 0));
    }

    #[test]
    fn a_share_above_the_whole_budget_is_granted_alone() {
        let budget = Budget::new(10);
        let huge = budget.take(100, Duration::ZERO).expect("alone");
        assert!(budget.take(1, Duration::ZERO).is_none());
        drop(huge);
    }
}
