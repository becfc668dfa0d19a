//! Which lines are in Elasticsearch, by the numbers in them and by what the generator's manifest says, without any code of
//! logweir.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use integration_tests::Node;
use serde::Serialize;
use serde_json::{Value, json};

use crate::traffic::{Kind, Written};
use crate::world::TARGET;

/// What the numbers came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Count {
    pub(crate) lines: u64,
    pub(crate) documents: u64,
    /// Numbers that are not there.
    pub(crate) lost: u64,
    /// Documents beyond the first of a number.
    pub(crate) twice: u64,
    /// Documents with a number that was never written, or with none.
    pub(crate) foreign: u64,
    /// Whether the statuses are as often there as they were written.
    pub(crate) statuses_agree: bool,
}

/// How often each number of each stream was seen.
struct Seen(BTreeMap<char, Vec<u8>>, Count);

impl Seen {
    fn new(lines: impl IntoIterator<Item = (Kind, u64)>) -> Self {
        let times = |lines| vec![0_u8; usize::try_from(lines).unwrap_or(usize::MAX)];
        Self(lines.into_iter().map(|(kind, lines)| (kind.letter(), times(lines))).collect(), Count::default())
    }

    fn add(&mut self, id: Option<&str>) {
        self.1.documents += 1;
        let number = id.and_then(|id| {
            let letter = id.chars().next()?;
            Some((letter, id[letter.len_utf8()..].parse::<usize>().ok()?))
        });
        match number.and_then(|(letter, number)| self.0.get_mut(&letter)?.get_mut(number)) {
            Some(times) => *times = times.saturating_add(1),
            None => self.1.foreign += 1,
        }
    }

    fn sum(self) -> Count {
        let mut count = self.1;
        for times in self.0.values().flatten() {
            count.lines += 1;
            count.lost += u64::from(*times == 0);
            count.twice += u64::from(times.saturating_sub(1));
        }
        count
    }
}

/// Counts what is there against what was written.
pub(crate) fn count(node: &Node, written: &[Written]) -> Result<Count> {
    node.ok("POST", &format!("{TARGET}/_refresh"), None);
    let mut seen = Seen::new(written.iter().map(|stream| (stream.kind, stream.manifest.lines)));
    let query = json!({"size": 10_000, "sort": ["_doc"], "_source": false, "docvalue_fields": ["http.request.id"]});
    let mut page = node.ok("POST", &format!("{TARGET}/_search?scroll=2m"), Some(&query));
    loop {
        let hits = page["hits"]["hits"].as_array().context("hits")?;
        if hits.is_empty() {
            break;
        }
        for hit in hits {
            seen.add(hit["fields"]["http.request.id"][0].as_str());
        }
        page = node.ok("POST", "_search/scroll", Some(&json!({"scroll": "2m", "scroll_id": page["_scroll_id"]})));
    }
    node.ask("DELETE", "_search/scroll", Some(&json!({"scroll_id": page["_scroll_id"]})));
    let mut count = seen.sum();
    count.statuses_agree = statuses(node)? == written_statuses(written);
    Ok(count)
}

fn written_statuses(written: &[Written]) -> BTreeMap<String, u64> {
    let mut statuses = BTreeMap::new();
    for (status, lines) in written.iter().flat_map(|stream| &stream.manifest.statuses) {
        *statuses.entry(status.to_string()).or_default() += lines;
    }
    statuses
}

fn statuses(node: &Node) -> Result<BTreeMap<String, u64>> {
    let query = json!({"size": 0, "aggs": {"by": {"terms": {"field": "http.response.status_code", "size": 1000}}}});
    let answer = node.search(TARGET, &query);
    let buckets = answer["aggregations"]["by"]["buckets"].as_array().context("buckets")?;
    let bucket = |bucket: &Value| Some((bucket["key"].to_string(), bucket["doc_count"].as_u64()?));
    Ok(buckets.iter().filter_map(bucket).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_twice_and_foreign_is_told_apart() {
        let mut seen = Seen::new([(Kind::Rename, 3), (Kind::Chunks, 2)]);
        for id in ["r0", "r0", "r0", "r2", "k1", "k2", "x1", "r", "r-1"] {
            seen.add(Some(id));
        }
        seen.add(None);
        let expected = Count { lines: 5, documents: 10, lost: 2, twice: 2, foreign: 5, statuses_agree: false };
        assert_eq!(seen.sum(), expected);
    }
}
