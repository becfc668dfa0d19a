//! Documents about logweir itself on their way to Elasticsearch: made every interval, sent beside the lines and never in their
//! way, kept in a queue with a bound while Elasticsearch cannot be reached.
//!
//! They are not lines: nothing here is counted, checkpointed or proven. A document's `_id` says host, process, time and scope,
//! so that one that is sent again is there already. What was not sent when the process ends is lost, and so is what happened
//! since the last one when it is killed.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::client::{Client, Kind, Method, Request};
use crate::config::Target;
use crate::encode::IndexPattern;
use crate::index::reply;
use crate::record::Outcomes;
use crate::telemetry::documents::{About, Document, Waiting, documents};
use crate::telemetry::{FaultCause, Figures, SourceFigures};

/// So many intervals are kept: an hour of the default ones.
const MOST_INTERVALS: usize = 360;

/// And so many documents, whatever the number of sources: some 5 MiB.
const MOST_WAITING: usize = 8000;

/// Documents in one request: less than a megabyte.
const MOST_IN_REQUEST: usize = 1000;

/// After a failure nothing is sent for this long, or for an interval if that is shorter.
const PAUSE: Duration = Duration::from_secs(10);

/// The last document is not waited for any longer than this.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// The task, as who ends it sees it.
#[derive(Debug)]
pub struct Task {
    finish: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

impl Task {
    /// Starts it, if documents are configured; nothing is sent before `prepared`. To be called before anything is read: what
    /// sources have settled by now is not of this process.
    #[must_use]
    pub fn start(shared: &Arc<Shared>, client: &Arc<Client>, prepared: CancellationToken) -> Option<Self> {
        let sender = Sender::new(Arc::clone(shared), Arc::clone(client), prepared)?;
        let (finish, on_finish) = oneshot::channel();
        Some(Self { finish, task: tokio::spawn(sender.run(on_finish)) })
    }

    /// Makes the last documents, and sends what waits until `deadline` at most.
    pub async fn finish(self, deadline: Instant) {
        let deadline = deadline.min(Instant::now() + LAST_PATIENCE);
        // Where the task has ended there is nothing to finish.
        let _ = self.finish.send(deadline);
        let _ = tokio::time::timeout_at(deadline, self.task).await;
    }
}

/// What became of documents that were sent.
#[derive(Debug, Default)]
struct Sent {
    /// They are to be sent again.
    again: Vec<Document>,
    /// How many were refused for good.
    refused: usize,
    /// Why, of the first of both.
    trouble: Option<String>,
}

type Sending = Pin<Box<dyn Future<Output = Sent> + Send>>;

struct Sender {
    shared: Arc<Shared>,
    client: Arc<Client>,
    prepared: CancellationToken,
    about: About,
    target: Target,
    pattern: Option<IndexPattern>,
    interval: Duration,
    last: Figures,
    waiting: Waiting,
    /// Nothing is sent before this.
    rested: Instant,
}

impl Sender {
    fn new(shared: Arc<Shared>, client: Arc<Client>, prepared: CancellationToken) -> Option<Self> {
        let target = shared.config.metrics_target()?;
        let namespace = match &target {
            Target::DataStream(_) => Some(shared.config.elasticsearch.namespace.clone()),
            Target::Dated(_) => None,
        };
        let pattern = match &target {
            Target::DataStream(_) => None,
            Target::Dated(pattern) => IndexPattern::parse(pattern).ok(),
        };
        let process = format!("{:x}-{:x}", std::process::id(), shared.checkpoints.store_id());
        let about = About { host: shared.host.clone(), process, namespace };
        let of_an_interval = 1 + shared.plans.len();
        let waiting = Waiting::new((MOST_INTERVALS * of_an_interval).min(MOST_WAITING.max(of_an_interval)));
        let last = Figures { sources: sources(&shared), ..Figures::default() };
        let interval = shared.config.telemetry.documents.interval.0;
        let rested = Instant::now();
        Some(Self { shared, client, prepared, about, target, pattern, interval, last, waiting, rested })
    }

    async fn run(mut self, on_finish: oneshot::Receiver<Instant>) {
        let mut ticks = tokio::time::interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sending: Option<Sending> = None;
        tokio::pin!(on_finish);
        let deadline = loop {
            if sending.is_none() && self.prepared.is_cancelled() && Instant::now() >= self.rested {
                sending = self.send();
            }
            tokio::select! {
                _ = ticks.tick() => self.look(),
                sent = done(&mut sending) => {
                    sending = None;
                    self.settle(sent);
                }
                deadline = &mut on_finish => match deadline {
                    Ok(deadline) => break deadline,
                    // The process did not come as far as that.
                    Err(_) => return,
                },
            }
        };
        self.look();
        let rest = async {
            if sending.is_some() {
                let sent = done(&mut sending).await;
                self.settle(sent);
            }
            self.prepared.cancelled().await;
            while let Some(sending) = self.send() {
                if !self.settle(sending.await) {
                    break;
                }
            }
        };
        let late = tokio::time::timeout_at(deadline, rest).await.is_err();
        if late || !self.waiting.is_empty() {
            tracing::warn!("the last metrics documents could not be sent");
        }
    }

    /// Makes the documents of an interval.
    fn look(&mut self) {
        let now = Figures { sources: sources(&self.shared), ..self.shared.metrics.figures() };
        let made = documents(&self.about, self.shared.wall_clock_ns(), &self.last, &now);
        self.last = now;
        let dropped = self.waiting.push(made);
        self.dropped(dropped);
    }

    /// Takes what can be sent in one request.
    fn send(&mut self) -> Option<Sending> {
        let documents = self.waiting.take(MOST_IN_REQUEST);
        if documents.is_empty() {
            return None;
        }
        let body = body(&documents, self.pattern.as_mut());
        let path = match &self.target {
            Target::DataStream(name) => format!("{name}/_bulk"),
            Target::Dated(_) => "_bulk".to_owned(),
        };
        let client = Arc::clone(&self.client);
        let deadline = self.shared.config.elasticsearch.request_timeout.0;
        Some(Box::pin(async move {
            let query = [("filter_path", reply::FILTER_PATH)];
            let request = Request {
                query: &query,
                body: Some(body),
                kind: Kind::Ndjson,
                ..Request::new(Method::Post, &path, deadline)
            };
            match client.send(request).await {
                Ok(reply) => judge(reply.status, &reply.body, documents),
                Err(error) => Sent { again: documents, refused: 0, trouble: Some(error.to_string()) },
            }
        }))
    }

    /// Takes note of what became of documents; returns whether all of them are done.
    fn settle(&mut self, sent: Sent) -> bool {
        let Sent { again, refused, trouble } = sent;
        if let Some(trouble) = trouble {
            let of = if refused > 0 { format!("{refused} refused for good, ") } else { String::new() };
            self.fault("send metrics documents", &format!("{of}{} to be sent again: {trouble}", again.len()));
        }
        let done = again.is_empty();
        if !done {
            self.rested = Instant::now() + PAUSE.min(self.interval);
        }
        let dropped = self.waiting.put_back(again);
        self.dropped(dropped);
        done
    }

    fn dropped(&self, dropped: usize) {
        if dropped > 0 {
            let words = format!("too many wait to be sent: the oldest {dropped} are dropped");
            self.fault("keep metrics documents", &words);
        }
    }

    fn fault(&self, doing: &'static str, trouble: &str) {
        self.shared.fault(FaultCause::Telemetry, doing, Path::new(&self.target.everything()), &trouble);
    }
}

/// Waits for what is being sent; for ever if nothing is.
async fn done(sending: &mut Option<Sending>) -> Sent {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

/// What is now of each source.
fn sources(shared: &Shared) -> Vec<SourceFigures> {
    let settled = shared.checkpoints.by_source();
    let of = |(plan, levels): (&super::plan::Plan, &super::Levels)| {
        let name = &plan.source.name;
        SourceFigures {
            name: name.clone(),
            lag: levels.lag.load(Ordering::Relaxed),
            files: levels.files.load(Ordering::Relaxed),
            outcomes: settled.get(name.as_str()).copied().unwrap_or_else(Outcomes::default),
        }
    };
    shared.plans.iter().zip(&shared.levels).map(of).collect()
}

/// The body of a bulk request; with `pattern`, each document goes to the index of its time.
fn body(documents: &[Document], mut pattern: Option<&mut IndexPattern>) -> Bytes {
    let mut body = String::new();
    for Document { id, time, source } in documents {
        let mut create = json!({"_id": id});
        if let Some(pattern) = &mut pattern {
            create["_index"] = json!(pattern.fill(*time));
        }
        body.push_str(&format!("{}\n{source}\n", json!({"create": create})));
    }
    body.into()
}

/// What an answer says of `documents`.
fn judge(status: u16, answer: &[u8], documents: Vec<Document>) -> Sent {
    let all = |trouble: String, documents| Sent { again: documents, refused: 0, trouble: Some(trouble) };
    if status != 200 {
        let words = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        return all(format!("status {status}: {words}"), documents);
    }
    let alike = match reply::decode(answer, documents.len()) {
        Ok(alike) => alike,
        Err(error) => return all(error.to_string(), documents),
    };
    let mut sent = Sent::default();
    let mut documents = documents.into_iter();
    for alike in alike {
        let documents = documents.by_ref().take(alike.count);
        let words = || match &alike.reply.error {
            Some(error) => format!("{}: {}", error.kind, error.reason),
            None => format!("status {}", alike.reply.status),
        };
        match alike.reply.status {
            // A conflict: it was sent before, and is there.
            200..=299 | 409 => documents.for_each(drop),
            // The document itself is wrong, or too large.
            400 | 413 => {
                sent.refused += documents.count();
                sent.trouble.get_or_insert_with(words);
            }
            _ => {
                sent.again.extend(documents);
                sent.trouble.get_or_insert_with(words);
            }
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::setup::METRICS_FIELDS;
    use crate::telemetry::documents::{Distribution, Times};

    fn some(count: usize) -> Vec<Document> {
        let document = |number: usize| Document {
            id: format!("id-{number}"),
            time: 1_795_352_400_000_000_000 + number as i64 * 86_400_000_000_000,
            source: json!({"number": number}),
        };
        (0..count).map(document).collect()
    }

    fn ids(documents: &[Document]) -> Vec<&str> {
        documents.iter().map(|document| document.id.as_str()).collect()
    }

    #[test]
    fn a_body_creates_each_document_under_its_id() {
        let to_a_stream =
            "{\"create\":{\"_id\":\"id-0\"}}\n{\"number\":0}\n{\"create\":{\"_id\":\"id-1\"}}\n{\"number\":1}\n";
        assert_eq!(body(&some(2), None), to_a_stream);
        let mut pattern = IndexPattern::parse("logweir-metrics-%Y.%m.%d").unwrap();
        let dated = String::from_utf8(body(&some(2), Some(&mut pattern)).to_vec()).unwrap();
        let indices: Vec<Value> = dated
            .lines()
            .step_by(2)
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["create"]["_index"].clone())
            .collect();
        assert_eq!(indices, ["logweir-metrics-2026.11.22", "logweir-metrics-2026.11.23"]);
    }

    #[test]
    fn each_document_is_done_or_sent_again_or_refused_by_its_own_answer() {
        let item = |status: u16| match status {
            201 => json!({"create": {"status": 201}}),
            status => json!({"create": {"status": status, "error": {"type": "t", "reason": status.to_string()}}}),
        };
        let items: Vec<Value> = [201, 409, 429, 400, 503, 404, 403, 201].map(item).into();
        let answer = json!({"errors": true, "items": items}).to_string();
        let sent = judge(200, answer.as_bytes(), some(8));
        assert_eq!(ids(&sent.again), ["id-2", "id-4", "id-5", "id-6"]);
        assert_eq!((sent.refused, sent.trouble.as_deref()), (1, Some("t: 429")));
        let answer = json!({"errors": false, "items": [item(201), item(409)]}).to_string();
        let sent = judge(200, answer.as_bytes(), some(2));
        assert!(sent.again.is_empty() && sent.refused == 0 && sent.trouble.is_none());
    }

    #[test]
    fn what_is_no_whole_answer_sends_everything_again() {
        for (status, answer) in [(503, "busy"), (401, "{}"), (200, "<html>"), (200, r#"{"errors":false,"items":[]}"#)] {
            let sent = judge(status, answer.as_bytes(), some(2));
            assert_eq!((sent.again.len(), sent.refused), (2, 0), "{status} {answer}");
            assert!(sent.trouble.is_some());
        }
    }

    #[test]
    fn every_field_of_these_documents_has_a_type_and_every_type_a_field() {
        fn leaves(path: &str, value: &Value, into: &mut BTreeSet<(String, &'static str)>) {
            match value {
                Value::Object(members) => {
                    for (key, value) in members {
                        leaves(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, into);
                    }
                }
                Value::Number(number) => {
                    assert!(number.is_u64(), "{path} is {number}");
                    into.insert((path.to_owned(), "long"));
                }
                _ => {
                    into.insert((path.to_owned(), if path == "@timestamp" { "date" } else { "keyword" }));
                }
            }
        }
        let times =
            Times { seconds: Distribution { bounds: vec![1.0], counts: vec![1, 0], sum: 0.5 }, longest: 500_000_000 };
        let now = Figures {
            bulk_duration: times.clone(),
            delivery_latency: times,
            sources: vec![SourceFigures { name: "web".to_owned(), ..SourceFigures::default() }],
            ..Figures::default()
        };
        let about = About { host: "h".to_owned(), process: "p".to_owned(), namespace: Some("default".to_owned()) };
        let mut found = BTreeSet::new();
        for document in documents(&about, 0, &Figures::default(), &now) {
            leaves("", &document.source, &mut found);
        }
        let typed: BTreeSet<_> = METRICS_FIELDS.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
        assert_eq!(found, typed);
    }
}
