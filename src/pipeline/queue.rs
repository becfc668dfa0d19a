//! Which file is read next: files that grow now take turns; a backlog is read oldest first, one file to its end; the two
//! alternate, so that neither waits for the other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What can be queued.
pub trait Entry {
    /// When it changed last, if that was long enough ago to make it part of the backlog.
    fn backlog_since(&self) -> Option<i64>;
}

/// A queue that threads wait on.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    live: VecDeque<Arc<T>>,
    backlog: BinaryHeap<Waiting<T>>,
    next_number: u64,
    backlog_is_next: bool,
    closed: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    order: Reverse<(i64, u64)>,
    entry: Arc<T>,
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl<T> Eq for Waiting<T> {}
impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

/// What waiting came to.
#[derive(Debug)]
pub enum Next<T> {
    /// This one's turn.
    Ready(Arc<T>),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

impl<T: Entry> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                live: VecDeque::new(),
                backlog: BinaryHeap::new(),
                next_number: 0,
                backlog_is_next: false,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<T: Entry> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry; the caller sees to it that it is in only once.
    pub fn push(&self, entry: Arc<T>) {
        let mut state = self.lock();
        match entry.backlog_since() {
            Some(since) => {
                let number = state.next_number;
                state.next_number += 1;
                state.backlog.push(Waiting { order: Reverse((since, number)), entry });
            }
            None => state.live.push_back(entry),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Puts an entry back, of the backlog where it was, before others as old as it is: it is read to its end. For a thread
    /// that asks for the next one at once: where this is the only one, nobody else is woken for it, because what is known of
    /// it is in that thread's caches.
    pub fn push_back(&self, entry: Arc<T>) {
        let mut state = self.lock();
        let alone = state.live.is_empty() && state.backlog.is_empty();
        match entry.backlog_since() {
            Some(since) => state.backlog.push(Waiting { order: Reverse((since, 0)), entry }),
            None => state.live.push_back(entry),
        }
        drop(state);
        if !alone {
            self.changed.notify_one();
        }
    }

    /// Waits for an entry, no longer than `wait`.
    pub fn next(&self, wait: Duration) -> Next<T> {
        let empty = |state: &mut State<T>| state.live.is_empty() && state.backlog.is_empty() && !state.closed;
        let (mut state, _) =
            self.changed.wait_timeout_while(self.lock(), wait, empty).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Next::Closed;
        }
        let from_backlog = state.live.is_empty() || (state.backlog_is_next && !state.backlog.is_empty());
        let entry = if from_backlog {
            state.backlog_is_next = false;
            state.backlog.pop().map(|waiting| waiting.entry)
        } else {
            state.backlog_is_next = true;
            state.live.pop_front()
        };
        entry.map_or(Next::Nothing, Next::Ready)
    }

    /// How many are waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.lock();
        state.live.len() + state.backlog.len()
    }

    /// Whether none is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all waiting, now and later.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct File(&'static str, Option<i64>);

    impl Entry for File {
        fn backlog_since(&self) -> Option<i64> {
            self.1
        }
    }

    fn name(next: Next<File>) -> &'static str {
        match next {
            Next::Ready(file) => file.0,
            Next::Nothing => "nothing",
            Next::Closed => "closed",
        }
    }

    #[test]
    fn live_files_take_turns_and_the_backlog_is_read_oldest_first_and_to_the_end() {
        let queue = Queue::default();
        for file in [File("new", Some(20)), File("hot", None), File("old", Some(10)), File("warm", None)] {
            queue.push(Arc::new(file));
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let Next::Ready(file) = queue.next(Duration::ZERO) else { break };
            order.push(file.0);
            queue.push_back(file);
        }
        assert_eq!(order, ["hot", "old", "warm", "old", "hot", "old"]);
    }

    #[test]
    fn a_closed_queue_gives_nothing_more() {
        let queue = Queue::default();
        assert_eq!(name(queue.next(Duration::ZERO)), "nothing");
        queue.push(Arc::new(File("left", None)));
        queue.close();
        assert_eq!(name(queue.next(Duration::from_secs(60))), "closed");
    }
}
