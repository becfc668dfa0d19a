//! One request and its answer, before it becomes a line.

use crate::catalog::{Client, Term};
use crate::dirty::Dirty;
use crate::scenario::ErrorText;

/// One request and its answer. Borrows from the generator until the next line is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When it happened, in nanoseconds since 1970-01-01T00:00:00Z.
    pub time_ns: i64,
    /// Who asked.
    pub client: &'a Client,
    /// The service that answered.
    pub service: &'a str,
    /// The method of the request.
    pub method: &'a Term,
    /// The path of the request, without the query.
    pub path: &'a Term,
    /// The query without its question mark; empty: none.
    pub query: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// The size of the body, in bytes; 0 where the answer has none.
    pub body_bytes: u64,
    /// How long the answer took, in microseconds.
    pub duration_us: u64,
    /// The referrer, where there is one.
    pub referrer: Option<&'a str>,
    /// What went wrong, for a status of 500 and above.
    pub error: Option<&'a ErrorText>,
    /// How the line was spoilt, if it was: then the line does not show all of the above.
    pub dirty: Option<Dirty>,
}
