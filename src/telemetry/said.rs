//! Says a thing when it first happens, and then rarely: the log of an outage stays readable.
//!
//! Pure: the caller passes the time and does the logging.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How often the same thing is said while it goes on.
const EVERY: Duration = Duration::from_secs(60);
/// How many things are remembered; more at once go unsaid (they are counted all the same).
const MAX_KEYS: usize = 1024;

/// What was said lately, by key.
#[derive(Debug)]
pub struct Said<K> {
    entries: HashMap<K, Entry>,
}

#[derive(Debug)]
struct Entry {
    said: Instant,
    happened: Instant,
    unsaid: u64,
}

/// Whether to log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// It is news.
    First,
    /// It goes on, and happened so often since it was last said, this time included.
    Again(u64),
    /// It was said lately.
    Quiet,
}

impl<K> Default for Said<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Eq + Hash> Said<K> {
    /// `key` happened. It is news again after a pause of twice the interval.
    pub fn say(&mut self, key: K, now: Instant) -> Word {
        if let Some(entry) = self.entries.get_mut(&key) {
            let pause = now.saturating_duration_since(entry.happened);
            entry.happened = now;
            if pause > 2 * EVERY {
                *entry = Entry { said: now, happened: now, unsaid: 0 };
                return Word::First;
            }
            entry.unsaid += 1;
            if now.saturating_duration_since(entry.said) < EVERY {
                return Word::Quiet;
            }
            entry.said = now;
            return Word::Again(std::mem::take(&mut entry.unsaid));
        }
        if self.entries.len() >= MAX_KEYS {
            self.entries.retain(|_, entry| now.saturating_duration_since(entry.happened) < EVERY);
            if self.entries.len() >= MAX_KEYS {
                return Word::Quiet;
            }
        }
        self.entries.insert(key, Entry { said: now, happened: now, unsaid: 0 });
        Word::First
    }

    /// `key` is over: the next time is news.
    pub fn forget(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_thing_is_said_first_then_once_a_minute_with_its_count() {
        let (mut said, start) = (Said::default(), Instant::now());
        assert_eq!(said.say("down", start), Word::First);
        for i in 1..60 {
            assert_eq!(said.say("down", start + i * SECOND), Word::Quiet);
        }
        assert_eq!(said.say("down", start + 60 * SECOND), Word::Again(60));
        assert_eq!(said.say("down", start + 61 * SECOND), Word::Quiet);
        assert_eq!(said.say("full", start + 61 * SECOND), Word::First);
    }

    #[test]
    fn a_thing_that_was_forgotten_or_paused_is_news() {
        let (mut said, start) = (Said::default(), Instant::now());
        said.say("down", start);
        said.forget(&"down");
        assert_eq!(said.say("down", start + SECOND), Word::First);
        assert_eq!(said.say("down", start + 122 * SECOND), Word::First);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut said, start) = (Said::default(), Instant::now());
        for key in 0..MAX_KEYS {
            assert_eq!(said.say(key, start), Word::First);
        }
        assert_eq!(said.say(MAX_KEYS, start), Word::Quiet);
        assert_eq!(said.say(MAX_KEYS, start + EVERY), Word::First);
    }
}
