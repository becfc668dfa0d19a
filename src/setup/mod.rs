//! What Elasticsearch needs before the first document: component templates, one index template a data set, retention; and
//! the boards in Kibana.
//!
//! Setup can be repeated: it looks first, writes only what differs, and deletes nothing. The templates match only our own
//! data sets, never `logs-*-*`.

pub mod dashboards;
mod templates;

pub use templates::METRICS_FIELDS;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Client, Cluster, Method, SendError};
use crate::config::{Config, Target};
use crate::record::Destination;

/// How long one of these small requests may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What setting up did, or with a dry run would do, to one object.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind and name, as in the path of its API (`_index_template/logweir-nginx.access`).
    pub path: String,
    /// What changes: path, before, after; nothing if it is as it should be.
    pub differences: Vec<Difference>,
    /// Whether it was not there.
    pub new: bool,
}

impl Change {
    /// Whether other objects must be there before it.
    fn is_composed(&self) -> bool {
        self.path.starts_with("_index_template/")
    }
}

/// One setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path in the object.
    pub path: String,
    /// What is there; `None` where nothing is.
    pub before: Option<String>,
    /// What is wanted; `None` where nothing is.
    pub after: Option<String>,
}

/// Why setting up stopped.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Elasticsearch cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] SendError),
    /// Elasticsearch refused.
    #[error("elasticsearch refused {method} {path} with status {status}: {reason}{hint}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// Of what.
        path: String,
        /// HTTP status.
        status: u16,
        /// The cluster's own words.
        reason: String,
        /// Which privilege is needed, where that is the trouble.
        hint: &'static str,
    },
    /// The cluster cannot do what is configured.
    #[error("{0}")]
    Unable(String),
}

/// What a cluster can do, told from its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// `lifecycle` in templates of data streams (Elasticsearch 8.14 and newer).
    lifecycle: bool,
    /// `index.mode: logsdb` (Elasticsearch 8.17 and newer).
    logsdb: bool,
    /// `_ilm` (Elasticsearch with its basic licence; not OpenSearch).
    ilm: bool,
}

impl Abilities {
    fn of(version: Option<&str>, distribution: Option<&str>) -> Self {
        let elastic = distribution.is_none_or(|name| name != "opensearch");
        let mut numbers = version.unwrap_or_default().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self { lifecycle: elastic && version >= (8, 14), logsdb: elastic && version >= (8, 17), ilm: elastic }
    }
}

/// Puts in place what `config` needs, or with `dry_run` only says what would change.
///
/// # Errors
/// Where the cluster cannot be reached, refuses, or cannot do what is configured; what was done until then stays.
pub async fn apply(client: &Arc<Client>, config: &Config, dry_run: bool) -> Result<Vec<Change>, SetupError> {
    let info = client.info(DEADLINE).await?;
    let abilities = Abilities::of(info.version.as_deref(), info.distribution.as_deref());
    let template = &config.elasticsearch.template;
    if template.logsdb && !abilities.logsdb {
        return Err(SetupError::Unable(format!(
            "elasticsearch.template.logsdb is on, but the cluster ({}) has no logsdb: it needs Elasticsearch 8.17",
            info.version.as_deref().unwrap_or("of unknown version")
        )));
    }
    let targets = config.sources.iter().map(|source| source.target(&config.elasticsearch));
    let dated = targets.chain(config.metrics_target()).any(|target| matches!(target, Target::Dated(_)));
    let by_ilm = template.retention.is_some() && (dated || !abilities.lifecycle);
    if by_ilm && !abilities.ilm {
        return Err(SetupError::Unable(
            "elasticsearch.template.retention is set, but OpenSearch keeps retention in its own policies (ISM): \
             remove the setting and make such a policy there"
                .to_owned(),
        ));
    }
    let objects = templates::objects(config, abilities);
    // All are looked at at once; but an index template is refused where what it is composed of is not there.
    let looks = objects.into_iter().map(|(path, wanted)| look(Arc::clone(client), path, wanted));
    let (mut composed, mut parts): (Vec<_>, Vec<_>) =
        all(looks).await?.into_iter().partition(|(change, _)| change.is_composed());
    if !dry_run {
        for changes in [&mut parts, &mut composed] {
            let puts = changes.drain(..).map(|(change, wanted)| put(Arc::clone(client), change, wanted));
            *changes = all(puts).await?;
        }
    }
    Ok(parts.into_iter().chain(composed).map(|(change, _)| change).collect())
}

/// Does all of `work` at once; the results are in its order. Of several that fail, the first is told.
async fn all<T: Send + 'static>(
    work: impl Iterator<Item = impl Future<Output = Result<T, SetupError>> + Send + 'static>,
) -> Result<Vec<T>, SetupError> {
    let tasks: Vec<_> = work.map(|work| AbortOnDropHandle::new(tokio::spawn(work))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("it does not panic, and is not aborted before it is dropped")?);
    }
    Ok(results)
}

/// What is to be changed of the object at `path`.
async fn look(client: Arc<Client>, path: String, wanted: Value) -> Result<(Change, Value), SetupError> {
    let (status, answer) = client.json(Method::Get, &path, &[], None, DEADLINE).await?;
    let present = match status {
        200 if answer.is_object() => Some(templates::stored(&path, &answer)),
        404 => None,
        _ => return Err(refused("GET", path, status, &answer)),
    };
    let before = present.as_ref().map(templates::flatten).unwrap_or_default();
    let differences = compare(&before, &templates::flatten(&wanted));
    Ok((Change { new: present.is_none(), differences, path }, wanted))
}

/// Changes it, if there is anything to change.
async fn put(client: Arc<Client>, change: Change, wanted: Value) -> Result<(Change, Value), SetupError> {
    if change.differences.is_empty() {
        return Ok((change, wanted));
    }
    let (status, answer) = client.json(Method::Put, &change.path, &[], Some(&wanted), DEADLINE).await?;
    // What stands before a cluster may answer 200 too.
    if status >= 300 || answer["acknowledged"] != true {
        return Err(refused("PUT", change.path, status, &answer));
    }
    Ok((change, wanted))
}

fn refused(method: &'static str, path: String, status: u16, answer: &Value) -> SetupError {
    let reason = answer["error"]["reason"].as_str().map_or_else(|| answer.to_string(), ToOwned::to_owned);
    let hint = match (status, path.starts_with("_ilm")) {
        (401, _) => " (check elasticsearch.auth)",
        (403, true) => " (needs the cluster privilege manage_ilm)",
        (403, false) => {
            " (needs the cluster privileges monitor and manage_index_templates; \
             or let an administrator run `logweir setup` and set elasticsearch.setup to false)"
        }
        _ => "",
    };
    SetupError::Refused { method, path, status, reason, hint }
}

fn compare(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (path, value) in after {
        if before.get(path) != Some(value) {
            differences.push(Difference {
                path: path.clone(),
                before: before.get(path).cloned(),
                after: Some(value.clone()),
            });
        }
    }
    for (path, value) in before {
        if !after.contains_key(path) {
            differences.push(Difference { path: path.clone(), before: Some(value.clone()), after: None });
        }
    }
    differences
}

/// Whether no document is in any target: then nothing that the store does not know can be there.
///
/// # Errors
/// Where the cluster cannot be reached or refuses to be searched.
pub async fn targets_are_empty(client: &dyn Cluster, destinations: &[Destination]) -> Result<bool, SetupError> {
    for destination in destinations {
        let path = format!("{}/_search", destination.target);
        let query = [
            ("size", "0"),
            ("terminate_after", "1"),
            ("allow_partial_search_results", "false"),
            ("filter_path", "hits.total,timed_out,_shards.failed"),
        ];
        let body = json!({"track_total_hits": true});
        let (status, answer) = client.json(Method::Post, &path, &query, Some(&body), DEADLINE).await?;
        match (status, documents(&answer)) {
            (200, Some(said)) => {
                if said > 0 {
                    return Ok(false);
                }
            }
            (404, _) if answer["error"]["type"] == "index_not_found_exception" => {}
            _ => return Err(refused("POST", path, status, &answer)),
        }
    }
    Ok(true)
}

/// How many documents all shards found; `None` if not all of them answered, or if it is no answer to a search.
fn documents(answer: &Value) -> Option<u64> {
    let whole = answer["_shards"]["failed"] == 0 && answer["timed_out"] == false;
    // A pattern that matches no index is answered without a total.
    let total = if answer["hits"].is_null() { Some(0) } else { answer["hits"]["total"]["value"].as_u64() };
    total.filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_answer_to_a_search_says_that_nothing_is_there() {
        let said = |answer: Value| documents(&answer);
        let whole = json!({"timed_out": false, "_shards": {"failed": 0}, "hits": {"total": {"value": 7}}});
        assert_eq!(said(whole), Some(7));
        assert_eq!(said(json!({"timed_out": false, "_shards": {"failed": 0}})), Some(0));
        for other in [
            json!({"timed_out": false, "_shards": {"failed": 1}, "hits": {"total": {"value": 0}}}),
            json!({"timed_out": true, "_shards": {"failed": 0}, "hits": {"total": {"value": 0}}}),
            json!({"status": "ok"}),
            json!("<html>welcome</html>"),
            json!(null),
        ] {
            assert_eq!(said(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn abilities_follow_the_version() {
        let has = |version, distribution| {
            let abilities = Abilities::of(version, distribution);
            (abilities.lifecycle, abilities.logsdb, abilities.ilm)
        };
        assert_eq!(has(Some("9.2.0"), None), (true, true, true));
        assert_eq!(has(Some("8.15.1"), None), (true, false, true));
        assert_eq!(has(Some("7.17.29"), None), (false, false, true));
        assert_eq!(has(Some("2.19.0"), Some("opensearch")), (false, false, false));
        assert_eq!(has(None, None), (false, false, true));
    }

    #[test]
    fn differences_name_path_before_and_after() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let differences = compare(&map(&[("a", "1"), ("b", "2")]), &map(&[("a", "1"), ("b", "3"), ("c", "4")]));
        let shown: Vec<_> =
            differences.iter().map(|d| (d.path.as_str(), d.before.as_deref(), d.after.as_deref())).collect();
        assert_eq!(shown, [("b", Some("2"), Some("3")), ("c", None, Some("4"))]);
    }
}
