//! What the simulator changes in the code that it runs. In the binary all of it is constant, and nothing is left.

/// Bugs that the simulator's own test puts back, one at a time, to see them found. Those that can be had beneath the code,
/// by a disk or a cluster that lies, are not among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The checkpoint moves over a settled span although one before it is not settled.
    CheckpointPastUnsettled,
    /// The bytes before the offset are not hashed again before reading goes on.
    NoRehash,
    /// A request without a whole answer is sent again without a look-up.
    NoLookup,
    /// The hash of the line is left out of the document's id.
    NoLineHash,
    /// A chunk is deleted or archived before its checkpoint is on disk.
    DoneBeforeCommit,
}

/// Whether `bug` is put back on this thread.
#[cfg(not(test))]
#[must_use]
pub const fn put_back(_bug: Bug) -> bool {
    false
}

/// By how much of itself a delay varies at random.
#[cfg(not(test))]
#[must_use]
pub const fn jitter() -> f64 {
    JITTER
}

const JITTER: f64 = 0.5;

#[cfg(test)]
pub use in_tests::{jitter, put_back, simulate};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    use super::{Bug, JITTER};

    thread_local! {
        static SIMULATED: Cell<bool> = const { Cell::new(false) };
        static PUT_BACK: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether `bug` is put back on this thread.
    pub fn put_back(bug: Bug) -> bool {
        PUT_BACK.get() == Some(bug)
    }

    /// By how much of itself a delay varies at random: not at all where one seed has to give one history.
    pub fn jitter() -> f64 {
        if SIMULATED.get() { 0.0 } else { JITTER }
    }

    /// Runs `history` on this thread without chance, with `bug` put back.
    pub fn simulate<R>(bug: Option<Bug>, history: impl FnOnce() -> R) -> R {
        struct Undo;
        impl Drop for Undo {
            fn drop(&mut self) {
                SIMULATED.set(false);
                PUT_BACK.set(None);
            }
        }
        let _undo = Undo;
        SIMULATED.set(true);
        PUT_BACK.set(bug);
        history()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_put_back_for_one_history_and_no_other() {
        assert!(simulate(Some(Bug::NoRehash), || put_back(Bug::NoRehash)
            && !put_back(Bug::NoLookup)
            && jitter() == 0.0));
        assert!(!put_back(Bug::NoRehash) && jitter() > 0.0);
    }
}
