//! What happens in this stage, for whoever counts and tells it.

use std::time::Duration;

use bytes::BytesMut;

use super::dead_letter::Letter;
use super::retry::Cause;
use crate::record::{Item, Outcomes};

/// Told of what happens; every method may be called from many tasks at once and must not block.
pub trait Events: Send + Sync + 'static {
    /// A bulk request was answered, with whatever status: how long it took, its body as sent, its documents.
    fn bulk(&self, duration: Duration, bytes: u64, documents: u64) {
        let _ = (duration, bytes, documents);
    }

    /// So many requests may be on their way now.
    fn window(&self, requests: usize) {
        let _ = requests;
    }

    /// A stretch of a file is settled: how its lines ended, and how long since its first line was read.
    fn settled(&self, outcomes: Outcomes, latency: Duration) {
        let _ = (outcomes, latency);
    }

    /// So many documents will be sent again, or looked up again, after `delay`; why, in `words`.
    fn retry(&self, cause: Cause, documents: u64, delay: Duration, words: &str) {
        let _ = (cause, documents, delay, words);
    }

    /// So many documents were refused for good and are in the dead letters now; `first` is one of them.
    fn dead_lettered(&self, documents: u64, first: &Letter) {
        let _ = (documents, first);
    }

    /// A batch waited for the rate limit.
    fn limiter_wait(&self, wait: Duration) {
        let _ = wait;
    }

    /// Somebody has to act before `target` takes documents: why, in the cluster's words. Told once a cause, then rarely.
    fn hold(&self, target: &str, cause: &str, words: &str) {
        let _ = (target, cause, words);
    }

    /// `target` takes documents again, after [`Events::hold`].
    fn released(&self, target: &str) {
        let _ = target;
    }

    /// Second copies were found in a younger index and deleted.
    fn twins(&self, target: &str, documents: u64) {
        let _ = (target, documents);
    }

    /// A batch is done with; its memory can be filled again.
    fn spare(&self, body: BytesMut, items: Vec<Item>) {
        let _ = (body, items);
    }
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Events for Silent {}
