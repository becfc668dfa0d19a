//! What somebody has to act on is told once a cause, and then rarely, however many batches meet it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Until the same cause is told again.
const AGAIN: Duration = Duration::from_secs(60);

/// Who waits, and when each cause was told last; by target.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<BTreeMap<String, Target>>);

#[derive(Debug, Default)]
struct Target {
    waiting: usize,
    told: BTreeMap<String, Instant>,
}

impl Holds {
    /// Whether this cause is to be told now.
    pub(super) fn is_news(&self, target: &str, cause: &str) -> bool {
        let now = Instant::now();
        self.with(target, |target| {
            let news = target.told.get(cause).is_none_or(|told| now >= *told + AGAIN);
            if news {
                target.told.insert(cause.to_owned(), now);
            }
            news
        })
    }

    /// A batch begins to wait.
    pub(super) fn enter(&self, target: &str) {
        self.with(target, |target| target.waiting += 1);
    }

    /// A batch waits no more: whether it was the last one.
    pub(super) fn leave(&self, target: &str) -> bool {
        self.with(target, |target| {
            target.waiting = target.waiting.saturating_sub(1);
            if target.waiting == 0 {
                // What comes next is news again.
                target.told.clear();
            }
            target.waiting == 0
        })
    }

    fn with<R>(&self, target: &str, f: impl FnOnce(&mut Target) -> R) -> R {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(holds.entry(target.to_owned()).or_default())
    }
}

/// What would let the request pass, where that is a privilege.
pub(super) fn advice(cause: &str, looking_up: bool) -> &'static str {
    match cause {
        "401" => "; check the API key or the password",
        "403" | "security_exception" if looking_up => {
            "; look-ups need the privileges read, view_index_metadata, maintenance and delete on the target"
        }
        "403" | "security_exception" => "; needs the privileges create_doc and auto_configure on the target",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cause_is_told_once_then_rarely_until_it_is_over() {
        let holds = Holds::default();
        assert!(holds.is_news("a", "403"));
        assert!(!holds.is_news("a", "403"));
        assert!(holds.is_news("a", "404"));
        assert!(holds.is_news("b", "403"));
        tokio::time::advance(AGAIN).await;
        assert!(holds.is_news("a", "403"));
    }

    #[test]
    fn a_target_is_released_by_the_last_batch_that_waited() {
        let holds = Holds::default();
        holds.enter("a");
        holds.enter("a");
        assert!(!holds.leave("a"));
        assert!(holds.leave("a"));
    }
}
