//! What Elasticsearch is asked. Questions change nothing, so they are asked again while it has no time to answer; an
//! answer of only some shards is none.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::VerifyError;
use super::report::Cluster;
use crate::client::{Client, Cluster as _, Method, Request};
use crate::config::Elasticsearch;
use crate::index::retry::Delays;
use crate::record::{FileId, ID_LEN, LineId};

/// Ids in one request: as many as Elasticsearch returns in one answer.
pub const IDS_A_REQUEST: usize = 10_000;

/// One answer is waited for so long.
const DEADLINE: Duration = Duration::from_secs(120);

/// A question is asked again for so long, once the cluster has answered anything at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stretches, and lines in them, whose documents are counted with one request: its cost grows with their product.
const COUNT_STRETCHES: usize = 100;
const COUNT_LINES: u64 = 100_000;

/// Lines whose offsets are counted with one request: fewer than one answer may have.
pub const COUNT_OFFSETS: u64 = 4000;

/// A stretch of a file whose documents are to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which file.
    pub file: FileId,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// About how many lines it has.
    pub lines: u64,
}

/// How many documents a stretch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Documents.
    pub documents: u64,
    /// Different offsets; 0 where they were not asked for.
    pub offsets: u64,
    /// Offsets that have one document.
    pub once: u64,
}

impl std::ops::Add for Counted {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            documents: self.documents + other.documents,
            offsets: self.offsets + other.offsets,
            once: self.once + other.once,
        }
    }
}

/// Whoever asks.
pub struct Asker<'a> {
    client: &'a Client,
    config: &'a Elasticsearch,
    answered: AtomicBool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    hits: Hits,
    aggregations: Option<Aggregations>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Hits {
    total: Total,
    hits: Vec<Hit>,
}

#[derive(Default, Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id", default)]
    id: String,
    #[serde(rename = "_source", default)]
    source: Value,
}

#[derive(Deserialize)]
struct Aggregations {
    files: Buckets<BTreeMap<String, FileBucket>>,
}

#[derive(Deserialize)]
struct Buckets<T> {
    buckets: T,
    #[serde(default)]
    sum_other_doc_count: u64,
}

#[derive(Deserialize)]
struct FileBucket {
    doc_count: u64,
    offsets: Option<Buckets<Vec<OffsetBucket>>>,
}

#[derive(Deserialize)]
struct OffsetBucket {
    doc_count: u64,
}

/// Neighbours that have no more than `limit` lines together (or one alone), and are no more than [`COUNT_STRETCHES`].
fn in_groups(stretches: &[Stretch], limit: u64) -> Vec<&[Stretch]> {
    let mut groups = Vec::new();
    let (mut start, mut lines) = (0, 0);
    for (index, stretch) in stretches.iter().enumerate() {
        if index > start && (lines + stretch.lines > limit || index - start >= COUNT_STRETCHES) {
            groups.push(&stretches[start..index]);
            (start, lines) = (index, 0);
        }
        lines += stretch.lines;
    }
    if start < stretches.len() {
        groups.push(&stretches[start..]);
    }
    groups
}

impl<'a> Asker<'a> {
    /// Asks `client`.
    pub fn new(client: &'a Client, config: &'a Elasticsearch) -> Self {
        Self { client, config, answered: AtomicBool::new(false) }
    }

    /// What the cluster is called, as far as it says.
    pub async fn cluster(&self) -> Cluster {
        let mut cluster = Cluster { urls: self.config.urls.clone(), ..Cluster::default() };
        // The first answers on every cluster that is whole, the second also where the first is not served.
        for path in ["", "_cluster/state/version"] {
            let asked = self.client.json(Method::Get, path, &[], None, DEADLINE).await;
            let Ok((200, said)) = asked else { continue };
            let text = |key: &str| said[key].as_str().map(ToOwned::to_owned);
            (cluster.name, cluster.uuid) = (text("cluster_name"), text("cluster_uuid"));
            if cluster.uuid.is_some() {
                break;
            }
        }
        cluster
    }

    /// Makes searchable what was acknowledged, on every shard: of another, lines would be missing that are there. A target
    /// that does not exist holds nothing.
    pub async fn refresh(&self, target: &str) -> Result<(), VerifyError> {
        let began = Instant::now();
        loop {
            let answer: Option<Value> = self.post(target, "_refresh", &[], None).await?;
            if answer.is_none_or(|answer| answer["_shards"]["failed"] == 0) {
                return Ok(());
            }
            if began.elapsed() >= PATIENCE {
                let reason = "not every shard could be refreshed".to_owned();
                return Err(VerifyError::Refused { target: target.to_owned(), status: 503, reason });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// How often each id is there, over all backing indices. Where twins make an answer larger than it may be, it is asked
    /// for in halves.
    pub async fn find(&self, target: &str, ids: &[LineId]) -> Result<HashMap<LineId, u64>, VerifyError> {
        let mut found = HashMap::with_capacity(ids.len());
        let mut parts = vec![ids];
        while let Some(part) = parts.pop() {
            let values: Vec<&str> = part.iter().map(LineId::as_str).collect();
            let body = json!({
                "size": IDS_A_REQUEST,
                "query": {"ids": {"values": values}},
                "track_total_hits": true,
                "_source": false,
            });
            let hits = self.search(target, &body, "hits.total.value,hits.hits._id,error").await?.hits;
            if hits.total.value > hits.hits.len() as u64 && part.len() > 1 {
                let (left, right) = part.split_at(part.len() / 2);
                parts.extend([left, right]);
                continue;
            }
            for hit in hits.hits {
                if let Ok(id) = <[u8; ID_LEN]>::try_from(hit.id.as_bytes()) {
                    *found.entry(LineId(id)).or_insert(0) += 1;
                }
            }
        }
        Ok(found)
    }

    /// How many documents there are at each of these offsets of `file`, whatever their ids.
    pub async fn at(&self, target: &str, file: FileId, offsets: &[u64]) -> Result<HashMap<u64, u64>, VerifyError> {
        let mut found = HashMap::new();
        if offsets.is_empty() {
            return Ok(found);
        }
        let body = json!({
            "size": IDS_A_REQUEST,
            "query": {"bool": {"filter": [
                {"term": {"log.file.id": file.to_string()}},
                {"terms": {"log.offset": offsets}},
            ]}},
            "_source": ["log.offset"],
        });
        for hit in self.search(target, &body, "hits.hits._source.log.offset,error").await?.hits.hits {
            if let Some(offset) = hit.source["log"]["offset"].as_u64() {
                *found.entry(offset).or_insert(0) += 1;
            }
        }
        Ok(found)
    }

    /// Counts the documents of each stretch, and with `offsets` their offsets too, with as many requests as that takes;
    /// `None` where documents cannot be searched by file and offset.
    pub async fn count(
        &self,
        target: &str,
        stretches: &[Stretch],
        offsets: bool,
    ) -> Result<Vec<Option<Counted>>, VerifyError> {
        let mut all = Vec::with_capacity(stretches.len());
        for group in in_groups(stretches, if offsets { COUNT_OFFSETS } else { COUNT_LINES }) {
            match self.count_group(target, group, offsets).await? {
                Some(counted) => all.extend(counted.into_iter().map(Some)),
                None => all.extend(group.iter().map(|_| None)),
            }
        }
        Ok(all)
    }

    /// The same with one request, where one answer can hold it; more offsets than that are asked for in halves.
    async fn count_group(
        &self,
        target: &str,
        stretches: &[Stretch],
        offsets: bool,
    ) -> Result<Option<Vec<Counted>>, VerifyError> {
        let mut counted = vec![Counted::default(); stretches.len()];
        let mut parts: Vec<Vec<(usize, Stretch)>> = vec![stretches.iter().copied().enumerate().collect()];
        while let Some(part) = parts.pop() {
            let filter = |stretch: &Stretch| {
                json!({"bool": {"filter": [
                    {"term": {"log.file.id": stretch.file.to_string()}},
                    {"range": {"log.offset": {"gte": stretch.start, "lt": stretch.end}}},
                ]}})
            };
            let filters: serde_json::Map<String, Value> =
                part.iter().map(|(index, stretch)| (index.to_string(), filter(stretch))).collect();
            let any: Vec<Value> = filters.values().cloned().collect();
            let mut files = json!({"filters": {"filters": filters}});
            if offsets {
                files["aggs"] = json!({"offsets": {"terms": {"field": "log.offset", "size": IDS_A_REQUEST}}});
            }
            let body = json!({
                "size": 0,
                "track_total_hits": false,
                "query": {"bool": {"should": any}},
                "aggs": {"files": files},
            });
            let answer = match self.search(target, &body, "aggregations,error").await {
                Ok(answer) => answer,
                // The fields are mapped in a way that does not allow the question.
                Err(VerifyError::Refused { status: 400, .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(aggregations) = answer.aggregations else { continue };
            for (index, stretch) in part {
                let Some(bucket) = aggregations.files.buckets.get(&index.to_string()) else { continue };
                let found = bucket.offsets.as_ref();
                if found.is_some_and(|found| found.sum_other_doc_count > 0) && stretch.end - stretch.start > 1 {
                    let middle = stretch.start + (stretch.end - stretch.start) / 2;
                    parts.push(vec![(index, Stretch { end: middle, ..stretch })]);
                    parts.push(vec![(index, Stretch { start: middle, ..stretch })]);
                    continue;
                }
                let buckets = found.map(|found| found.buckets.as_slice()).unwrap_or_default();
                let once = buckets.iter().filter(|bucket| bucket.doc_count == 1).count() as u64;
                let piece = Counted { documents: bucket.doc_count, offsets: buckets.len() as u64, once };
                counted[index] = counted[index] + piece;
            }
        }
        Ok(Some(counted))
    }

    async fn search(&self, target: &str, body: &Value, wanted: &str) -> Result<Answer, VerifyError> {
        let parameters = [("filter_path", wanted), ("allow_partial_search_results", "false")];
        Ok(self.post(target, "_search", &parameters, Some(body)).await?.unwrap_or_default())
    }

    /// `None` where the target does not exist.
    async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        what: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Option<T>, VerifyError> {
        let began = Instant::now();
        let path = format!("{target}/{what}");
        let body = body.map(|body| Bytes::from(body.to_string()));
        let mut delays = Delays::new(&self.config.retry);
        loop {
            let request = Request { query, body: body.clone(), ..Request::new(Method::Post, &path, DEADLINE) };
            let (error, retry_after) = match self.client.send(request).await {
                Ok(reply) => {
                    let refused =
                        |reason| VerifyError::Refused { target: target.to_owned(), status: reply.status, reason };
                    match reply.status {
                        200 => {
                            self.answered.store(true, Ordering::Relaxed);
                            let answer = serde_json::from_slice(&reply.body);
                            return answer
                                .map(Some)
                                .map_err(|error| refused(format!("not the answer to {what}: {error}")));
                        }
                        404 => return Ok(None),
                        429 | 502 | 503 | 504 => (refused(crate::index::lookup::words(&reply.body)), reply.retry_after),
                        _ => return Err(refused(crate::index::lookup::words(&reply.body))),
                    }
                }
                Err(error) => (error.into(), None),
            };
            if !self.answered.load(Ordering::Relaxed) || began.elapsed() >= PATIENCE {
                return Err(error);
            }
            tokio::time::sleep(delays.next(retry_after)).await;
        }
    }
}
