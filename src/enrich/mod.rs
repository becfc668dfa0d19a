//! What is derived from a line's fields once it is parsed: an ordered chain, one file an enricher.
//!
//! Enrichers are pure: equal lines and rules give equal fields. One whose fields are all thrown away does not run, and
//! none replaces a field that the line itself gave.

use crate::config;
use crate::keep::Keep;
use crate::record::{Document, Field, Value};

mod address;
mod calendar;
mod url;
mod user_agent;
mod user_agent_rules;

use calendar::Calendar;
use user_agent::UserAgent;

/// Loads the rules that enrichers share, some tens of milliseconds' work: called on a thread of its own at the start, while
/// files are still being found. Without it the first line that needs them waits.
pub fn prepare() {
    user_agent_rules::prepare();
}

/// The enrichers of one source, with their caches; one a thread.
#[derive(Debug)]
pub struct Chain {
    address: bool,
    calendar: Option<Calendar>,
    url: bool,
    user_agent: Option<UserAgent>,
}

impl Chain {
    /// The enrichers that are switched on and whose fields are kept.
    #[must_use]
    pub fn new(cfg: &config::Enrich, keep: &Keep) -> Self {
        let any_kept = |fields: &[Field]| fields.iter().any(|field| keep.keeps(field.path()));
        Self {
            address: any_kept(&[Field::SourceIp, Field::SourcePort]),
            calendar: if cfg.calendar.enabled { Calendar::new(keep) } else { None },
            url: cfg.url && any_kept(&url::FIELDS),
            user_agent: if cfg.user_agent { UserAgent::new(keep) } else { None },
        }
    }

    /// Adds what can be derived to `doc`, the fields of `line`; `time` is its `@timestamp`, in nanoseconds since 1970.
    pub fn apply(&mut self, line: &[u8], time: i64, doc: &mut Document) {
        if let Some(calendar) = &mut self.calendar {
            calendar.apply(time, doc);
        }
        if self.address {
            address::apply(line, doc);
        }
        if self.url {
            url::apply(line, doc);
        }
        if let Some(user_agent) = &mut self.user_agent {
            user_agent.apply(line, doc);
        }
    }
}

/// Sets `field`, if it is not set yet, to the bytes `start..end` of what `original` holds; nothing is copied.
#[expect(clippy::cast_possible_truncation, reason = "positions inside a value fit, as the value itself does")]
fn put_part(doc: &mut Document, field: Field, original: Value, start: usize, end: usize) {
    let (start, end) = (start as u32, end as u32);
    let part = match original {
        Value::Line { start: first, .. } => Value::Line { start: first + start, end: first + end },
        Value::Plain { start: first, .. } => Value::Plain { start: first + start, end: first + end },
        Value::Scratch { start: first, .. } => Value::Scratch { start: first + start, end: first + end },
        Value::Text(text) => match text.get(start as usize..end as usize) {
            Some(part) => Value::Text(part),
            None => return,
        },
        Value::Json { .. } | Value::StaticJson(_) | Value::Ready(_) | Value::Int(_) => return,
    };
    if !doc.has(field) {
        doc.put(field, part);
    }
}
