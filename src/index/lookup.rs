//! What is in doubt is looked up before it is sent again: an id is unique only inside one backing index, so after a
//! rollover a second `create` would make a second copy (invariant 4).
//!
//! In this order: no request of ours that was given up is still running, nor waits in a node that hangs; then the write
//! index is noted; then everything written so far is made visible; then the ids are searched across the whole target. What
//! arrives after the note and lands in the noted index is answered 409 there, and what lands in another one is looked up
//! once more.
//! A target that is not there yet holds nothing. Of two copies the one in the younger index is deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::client::{Cluster, Kind, Method, Reply, Request, SendError};
use crate::record::LineId;

use super::reply;

/// Ids in one search.
const IDS: usize = 5000;
/// What a search returns at most: twice the ids, so that twins are seen.
const HITS: usize = 10_000;
/// Between two looks at the tasks.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a look-up has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No whole answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Another answer than what was asked for.
    #[error("{what} was answered {status}: {words}")]
    Refused {
        /// The request.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// The cluster's own words.
        words: String,
    },
}

/// Looks up ids in one target.
#[derive(Debug)]
pub struct Lookup<'a> {
    client: &'a dyn Cluster,
    expression: String,
    deadline: Duration,
}

impl<'a> Lookup<'a> {
    /// For the data stream, index or pattern `target`; each request is given `deadline`.
    #[must_use]
    pub fn new(client: &'a dyn Cluster, target: &str, deadline: Duration) -> Self {
        Self { client, expression: expression(target), deadline }
    }

    /// Waits until the cluster, asked at `node` if one is named, shows no bulk request whose `X-Opaque-Id` is one of `ours`.
    /// Where the tasks may not be seen, waits one deadline instead. A node that does not answer may be busy with one: that
    /// is no answer.
    pub async fn quiet(&self, node: Option<usize>, ours: impl Fn(&str) -> bool) -> Result<(), LookupError> {
        let what = "a list of tasks";
        // The cluster gives up on a node that hangs before we give up on the cluster.
        let timeout = format!("{}ms", (self.deadline / 2).as_millis().max(1));
        loop {
            let query = [("actions", TASKS), ("timeout", timeout.as_str()), ("filter_path", TASKS_FILTER)];
            let request = Request { query: &query, node, ..self.request(Method::Get, "_tasks") };
            let reply = self.client.send(request).await?;
            match reply.status {
                200 => {
                    let tasks: Tasks = parse(what, &reply)?;
                    if !(tasks.node_failures.is_empty() && tasks.task_failures.is_empty()) {
                        return Err(incomplete(what, "not every node answered"));
                    }
                    if !tasks.opaque_ids().any(&ours) {
                        return Ok(());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                // Not to be seen, by this login or at all.
                403..=405 => {
                    tokio::time::sleep(self.deadline).await;
                    return Ok(());
                }
                _ => return Err(refused(what, &reply)),
            }
        }
    }

    /// As [`Self::quiet`], of a node that left a request of ours without an answer: it may hang, the cluster may go on
    /// without it, and it does what it was sent once it goes on. What refuses connections has forgotten what it was sent.
    pub async fn quiet_at(&self, node: usize, ours: impl Fn(&str) -> bool) -> Result<(), LookupError> {
        // Twice: of a node that goes on after a while, the request may be read after the question.
        for pause in [PAUSE, Duration::ZERO] {
            match self.quiet(Some(node), &ours).await {
                Err(LookupError::Send(SendError::NotSent { .. })) => return Ok(()),
                result => result?,
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// The index that new documents go to; `None` while there is none.
    pub async fn write_index(&self) -> Result<Option<String>, LookupError> {
        let path = format!("{}/_settings", self.expression);
        let query = [("filter_path", "*.settings.index.creation_date")];
        let reply = self.client.send(Request { query: &query, ..self.request(Method::Get, &path) }).await?;
        let settings: BTreeMap<String, serde_json::Value> = match reply.status {
            200 => parse("the settings", &reply)?,
            _ if is_missing(&reply) => return Ok(None),
            _ => return Err(refused("a look at the settings", &reply)),
        };
        Ok(newest(settings.keys().map(String::as_str)).map(str::to_owned))
    }

    /// The indices that hold each of `ids`, oldest first; an id that is nowhere is left out.
    pub async fn find(&self, ids: &[LineId]) -> Result<BTreeMap<LineId, Vec<String>>, LookupError> {
        if !self.refresh().await? {
            return Ok(BTreeMap::new());
        }
        let mut places: BTreeMap<LineId, Vec<String>> = BTreeMap::new();
        let mut parts: Vec<&[LineId]> = ids.chunks(IDS).collect();
        while let Some(part) = parts.pop() {
            let hits = match self.search(part).await {
                // More copies than were thought possible: smaller parts, so that none stays unseen.
                Ok(hits) if hits.len() >= HITS && part.len() > 1 => None,
                Err(LookupError::Refused { status: 413, .. }) if part.len() > 1 => None,
                searched => Some(searched?),
            };
            let Some(hits) = hits else {
                let (one, other) = part.split_at(part.len() / 2);
                parts.extend([one, other]);
                continue;
            };
            for hit in hits {
                if let Ok(id) = hit.id.as_bytes().try_into() {
                    places.entry(LineId(id)).or_default().push(hit.index);
                }
            }
        }
        for indices in places.values_mut() {
            indices.sort_by(|one, other| age(one).cmp(&age(other)));
            indices.dedup();
        }
        Ok(places)
    }

    /// Deletes every copy but the oldest; returns how many that were.
    pub async fn delete_younger(&self, places: &BTreeMap<LineId, Vec<String>>) -> Result<usize, LookupError> {
        let mut body = String::new();
        let mut count = 0;
        for (id, indices) in places {
            for index in indices.iter().skip(1) {
                let meta = serde_json::json!({"delete": {"_index": index, "_id": id.as_str()}});
                body.push_str(&meta.to_string());
                body.push('\n');
                count += 1;
            }
        }
        if count == 0 {
            return Ok(0);
        }
        let query = [("filter_path", reply::FILTER_PATH)];
        let body = Some(Bytes::from(body));
        let request = Request { query: &query, body, kind: Kind::Ndjson, ..self.request(Method::Post, "_bulk") };
        let reply = self.client.send(request).await?;
        let what = "the deletion of second copies";
        if reply.status != 200 {
            return Err(refused(what, &reply));
        }
        let answers = reply::decode(&reply.body, count).map_err(|error| unreadable(what, &error))?;
        match answers.iter().map(|alike| &alike.reply).find(|item| !matches!(item.status, 200 | 404)) {
            None => Ok(count),
            Some(item) => {
                let words = item.error.as_ref().map(|error| format!("{}: {}", error.kind, error.reason));
                Err(LookupError::Refused { what, status: item.status, words: words.unwrap_or_default() })
            }
        }
    }

    /// Makes everything written so far visible to searches; `false` where there is nothing.
    pub async fn refresh(&self) -> Result<bool, LookupError> {
        let what = "a refresh";
        let path = format!("{}/_refresh", self.expression);
        let query = [("filter_path", "_shards.failed")];
        let reply = self.client.send(Request { query: &query, ..self.request(Method::Post, &path) }).await?;
        match reply.status {
            200 => {}
            _ if is_missing(&reply) => return Ok(false),
            _ => return Err(refused(what, &reply)),
        }
        let answer: RefreshAnswer = parse(what, &reply)?;
        // A copy that was not refreshed stays in use, and does not show what it holds.
        if answer.shards.failed > 0 { Err(incomplete(what, "not every shard answered")) } else { Ok(true) }
    }

    async fn search(&self, ids: &[LineId]) -> Result<Vec<Hit>, LookupError> {
        let path = format!("{}/_search", self.expression);
        let filter = "hits.hits._id,hits.hits._index,timed_out,_shards.failed";
        let query = [("filter_path", filter), ("allow_partial_search_results", "false")];
        let values: Vec<_> = ids.iter().map(LineId::as_str).collect();
        let body = serde_json::json!({
            "query": {"ids": {"values": values}},
            "size": HITS, "_source": false, "sort": ["_doc"], "track_total_hits": false,
        });
        let body = Some(Bytes::from(body.to_string()));
        let reply = self.client.send(Request { query: &query, body, ..self.request(Method::Post, &path) }).await?;
        let what = "a search for ids";
        match reply.status {
            200 => {}
            _ if is_missing(&reply) => return Ok(Vec::new()),
            _ => return Err(refused(what, &reply)),
        }
        let answer: SearchAnswer = parse(what, &reply)?;
        if answer.timed_out || answer.shards.failed > 0 {
            return Err(incomplete(what, "not every shard answered"));
        }
        Ok(answer.hits.hits)
    }

    fn request<'r>(&self, method: Method, path: &'r str) -> Request<'r> {
        Request::new(method, path, self.deadline)
    }
}

/// Bulk requests, and the list itself: so that every node that answers shows something, and another server's JSON is not
/// taken for a quiet cluster.
const TASKS: &str = "*bulk*,cluster:monitor/tasks/lists*";
const TASKS_FILTER: &str = "nodes.*.name,nodes.*.tasks.*.headers,node_failures.type,task_failures.type";

#[derive(Debug, Deserialize)]
struct Tasks {
    nodes: BTreeMap<String, NodeTasks>,
    #[serde(default)]
    node_failures: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    task_failures: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct NodeTasks {
    #[serde(default)]
    tasks: BTreeMap<String, Task>,
}

#[derive(Debug, Deserialize)]
struct Task {
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Tasks {
    /// The `X-Opaque-Id` of each running task.
    fn opaque_ids(&self) -> impl Iterator<Item = &str> {
        let tasks = self.nodes.values().flat_map(|node| node.tasks.values());
        tasks.filter_map(|task| task.headers.get("X-Opaque-Id").map(String::as_str))
    }
}

#[derive(Debug, Deserialize)]
struct RefreshAnswer {
    #[serde(rename = "_shards")]
    shards: Shards,
}

#[derive(Debug, Deserialize)]
struct SearchAnswer {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    #[serde(default)]
    hits: Hits,
}

#[derive(Debug, Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Hits {
    #[serde(default)]
    hits: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_index")]
    index: String,
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, reply: &Reply) -> Result<T, LookupError> {
    serde_json::from_slice(&reply.body).map_err(|error| unreadable(what, &error))
}

fn unreadable(what: &'static str, error: &dyn std::error::Error) -> LookupError {
    LookupError::Refused { what, status: 502, words: error.to_string() }
}

fn incomplete(what: &'static str, words: &str) -> LookupError {
    LookupError::Refused { what, status: 503, words: words.to_owned() }
}

/// Whether Elasticsearch itself says that there is no such index; what stands before it may answer 404 too.
fn is_missing(reply: &Reply) -> bool {
    reply.status == 404 && words(&reply.body).starts_with("index_not_found_exception")
}

fn refused(what: &'static str, reply: &Reply) -> LookupError {
    LookupError::Refused { what, status: reply.status, words: words(&reply.body) }
}

/// What a body says went wrong, in a line: type and reason if it is Elasticsearch's, else its beginning.
#[must_use]
pub fn words(body: &[u8]) -> String {
    let error: Option<serde_json::Value> =
        serde_json::from_slice(body).ok().and_then(|value: serde_json::Value| Some(value.get("error")?.clone()));
    let text = match &error {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(error) => format!("{}: {}", text(error, "type"), text(error, "reason")),
        None => String::from_utf8_lossy(body).split_whitespace().collect::<Vec<_>>().join(" "),
    };
    text.chars().take(500).collect()
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default()
}

/// The target as an expression that names all its indices: what `strftime` would fill in becomes `*`.
fn expression(target: &str) -> String {
    let mut expression = String::with_capacity(target.len());
    let mut rest = target.chars();
    while let Some(char) = rest.next() {
        let star = char == '*' || char == '%';
        if char == '%' {
            rest.next();
        }
        if !star {
            expression.push(char);
        } else if !expression.ends_with('*') {
            expression.push('*');
        }
    }
    expression
}

/// Whether every document of the target names its index itself: an id then has one home, whatever rolls over.
#[must_use]
pub fn is_pattern(target: &str) -> bool {
    target.contains(['*', '%'])
}

/// Sorts indices from old to young: backing indices by generation, others by name, which holds a date.
fn age(index: &str) -> (u64, &str) {
    let backing = index.starts_with(".ds-") || index.contains(":.ds-");
    let generation = index.rsplit('-').next().filter(|_| backing).and_then(|digits| digits.parse().ok());
    (generation.unwrap_or(0), index)
}

/// Whether no index of its target can be older.
pub(super) fn is_first(index: &str) -> bool {
    age(index).0 <= 1
}

fn newest<'a>(indices: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    indices.max_by(|one, other| age(one).cmp(&age(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_becomes_an_expression_for_all_its_indices() {
        for (target, expected) in [
            ("logs-nginx.access-default", "logs-nginx.access-default"),
            ("web-%Y.%m.%d", "web-*.*.*"),
            ("web-%Y%m", "web-*"),
            ("web-*", "web-*"),
        ] {
            assert_eq!(expression(target), expected);
            assert_eq!(is_pattern(target), expected.contains('*'));
        }
    }

    #[test]
    fn backing_indices_age_by_generation_and_dated_ones_by_name() {
        let names = [".ds-logs-x-2026.11.02-000009", ".ds-logs-x-2026.01.01-000010"];
        assert_eq!(newest(names.into_iter()), Some(names[1]));
        assert_eq!(newest(["web-2026.02.01", "web-2026.01.31"].into_iter()), Some("web-2026.02.01"));
        assert_eq!(newest(std::iter::empty()), None);
    }

    #[test]
    fn tasks_are_known_by_their_opaque_id() {
        let tasks = |body: &str| serde_json::from_str::<Tasks>(body).expect(body);
        let body =
            r#"{"nodes":{"n":{"name":"a","tasks":{"n:1":{"headers":{"X-Opaque-Id":"a"}},"n:2":{}}},"m":{"name":"b"}}}"#;
        assert_eq!(tasks(body).opaque_ids().collect::<Vec<_>>(), ["a"]);
        assert_eq!(tasks(r#"{"node_failures":[{"type":"x"}],"nodes":{}}"#).node_failures.len(), 1);
        for other in ["{}", "[]", r#"{"status":"ok"}"#] {
            assert!(serde_json::from_str::<Tasks>(other).is_err(), "{other} is no list of tasks");
        }
    }

    #[test]
    fn the_cluster_s_own_words_are_kept_short() {
        let body = br#"{"error":{"root_cause":[],"type":"security_exception","reason":"no"},"status":403}"#;
        assert_eq!(words(body), "security_exception: no");
        assert_eq!(words(br#"{"error":"Incorrect HTTP method"}"#), "Incorrect HTTP method");
        assert_eq!(words(b"<html>\n<b>bad  gateway</b>"), "<html> <b>bad gateway</b>");
        assert_eq!(words(&[b'x'; 9999]).len(), 500);
    }
}
