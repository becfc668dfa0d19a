//! One batch on its way: reserved, looked up where in doubt, sent, judged item by item, and what is left sent again.

mod doubt;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::dead_letter::{AppendError, Letter};
use super::in_flight::{Permit, Signal};
use super::lookup;
use super::reply::{self, Failure, ItemReply};
use super::retry::{Cause, Delays};
use super::tally::{Outcome, Tally};
use super::verdict::{self, Verdict, Whole};
use super::{Shared, bulk_path, gzip};
use crate::client::{Kind, Method, Reply, Request, SendError};
use crate::record::{Batch, Item};
use crate::simulated::{Bug, put_back};

/// A batch until its last item has an outcome.
pub(super) struct Flight {
    shared: Arc<Shared>,
    /// `None` once it was given back, so that others go on while this batch waits for a node that hangs.
    permit: Option<Permit>,
    /// Holds only what has no outcome yet.
    batch: Batch,
    /// For each item of the batch.
    fates: Vec<Fate>,
    tally: Tally,
    delays: Delays,
    /// Names of our requests that had no whole answer, and the nodes that owe it.
    given_up: Vec<(String, Option<usize>)>,
    /// When the first of them was given up.
    given_up_at: Option<Instant>,
    /// The write index that the last look-up noted.
    noted: Option<Noted>,
    /// A request of ours that may still be applied was behind the last look-up.
    owed: bool,
    /// Somebody has to act before this batch can go on.
    held: bool,
    /// Something of this batch was taken.
    passed: bool,
    /// When an item was first refused for a reason that could be the target's or its own.
    unclear_since: Option<Instant>,
}

/// What is known of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// To be sent.
    Open,
    /// May be in the cluster already.
    Doubtful,
    /// Has its outcome.
    Done,
}

/// What a look-up noted before it looked; `None` where there was no index yet.
struct Noted(Option<String>);

/// Why an attempt left something to do.
struct Again {
    cause: Cause,
    after: Option<Duration>,
    /// Why, in the words of whoever said no.
    words: String,
}

impl Again {
    fn new(cause: Cause, words: String) -> Self {
        Self { cause, after: None, words }
    }
}

impl Flight {
    pub(super) fn new(shared: Arc<Shared>, permit: Permit, batch: Batch, tally: Tally) -> Self {
        let doubtful = |item: &Item| batch.runs[item.run as usize].doubtful;
        let fates = batch.items.iter().map(|item| if doubtful(item) { Fate::Doubtful } else { Fate::Open }).collect();
        let delays = Delays::new(&shared.cfg.retry);
        Self {
            shared,
            permit: Some(permit),
            batch,
            fates,
            tally,
            delays,
            given_up: Vec::new(),
            given_up_at: None,
            noted: None,
            owed: false,
            held: false,
            passed: false,
            unclear_since: None,
        }
    }

    /// Ends when every item has its outcome. Dropping it settles nothing more.
    pub(super) async fn run(mut self) {
        self.shared.deps.progress.reserve(&self.batch.runs).await;
        loop {
            if self.fates.contains(&Fate::Doubtful) {
                self.look_up().await;
                self.compact();
            }
            if self.fates.is_empty() {
                break;
            }
            let again = self.attempt().await;
            self.compact();
            match again {
                Some(again) => self.pause(&again).await,
                None => self.hold_ends(),
            }
        }
        if let Ok(mut body) = self.batch.body.try_into_mut() {
            body.clear();
            self.batch.items.clear();
            self.shared.deps.events.spare(body, self.batch.items);
        }
    }

    async fn pause(&mut self, again: &Again) {
        if again.cause != Cause::Held {
            self.hold_ends();
        } else if !self.held {
            self.held = true;
            self.shared.holds.enter(&self.batch.target);
        }
        let delay = self.delays.next(again.after);
        self.shared.deps.events.retry(again.cause, self.fates.len() as u64, delay, &again.words);
        tokio::time::sleep(delay).await;
    }

    fn hold_ends(&mut self) {
        if std::mem::take(&mut self.held) && self.shared.holds.leave(&self.batch.target) {
            self.shared.deps.events.released(&self.batch.target);
        }
    }

    /// Sends what is open, in as many requests as its size asks for, up to the first that is not answered item by item.
    async fn attempt(&mut self) -> Option<Again> {
        let mut again = None;
        let mut start = 0;
        while start < self.fates.len() {
            let end = self.end_of_part(start);
            match self.send(start, end).await {
                Ok(part) => again = part.or(again),
                Err(whole) => return whole,
            }
            start = end;
        }
        again
    }

    /// The items from `start` that fit into one request: at least one.
    fn end_of_part(&self, start: usize) -> usize {
        let max = self.shared.max_body.load(Ordering::Relaxed);
        if self.bytes(start, self.fates.len()) <= max {
            return self.fates.len();
        }
        let fits = |&end: &usize| self.bytes(start, end) <= max;
        (start + 2..self.fates.len()).take_while(fits).last().unwrap_or(start + 1)
    }

    fn position(&self, index: usize) -> usize {
        self.batch.items.get(index).map_or(self.batch.body.len(), |item| item.start as usize)
    }

    fn bytes(&self, start: usize, end: usize) -> usize {
        self.position(end) - self.position(start)
    }

    /// One request with the items from `start` to `end`. `Ok`: answered item by item, with what is left to do. `Err`: not
    /// so; `None` if the next attempt need not wait.
    async fn send(&mut self, start: usize, end: usize) -> Result<Option<Again>, Option<Again>> {
        let shared = Arc::clone(&self.shared);
        let (documents, bytes) = ((end - start) as u64, self.bytes(start, end));
        let wait = shared.limit.pass(documents, bytes as u64).await;
        if !wait.is_zero() {
            shared.deps.events.limiter_wait(wait);
        }
        let name = format!("{}{:x}", shared.process, shared.sent.fetch_add(1, Ordering::Relaxed));
        if let Some(permit) = &mut self.permit {
            permit.leave();
        }
        let sent_at = Instant::now();
        let result = self.request(start, end, &name).await;
        let took = sent_at.elapsed();

        let reply = match result {
            Ok(reply) => reply,
            Err(error @ SendError::NotSent { .. }) => {
                self.observe(Signal::Lost);
                return Err(Some(Again::new(Cause::NotSent, error.to_string())));
            }
            Err(error @ SendError::Ambiguous { node, .. }) => {
                let given_up = (name, Some(node));
                return Err(Some(self.doubt(start, end, given_up, Cause::Ambiguous, error.to_string())));
            }
        };
        shared.deps.events.bulk(took, bytes as u64, documents);
        let after = reply.retry_after;
        let words = || format!("a bulk request was answered {}: {}", reply.status, lookup::words(&reply.body));
        match verdict::of_request(reply.status) {
            Whole::Items => {}
            Whole::TooLarge => return Err(self.too_large(start, end, &reply).await),
            Whole::Retry => {
                self.observe(Signal::Refused);
                return Err(Some(Again { cause: Cause::Refused, after, words: words() }));
            }
            Whole::Doubtful => {
                let again = self.doubt(start, end, (name, Some(reply.node)), Cause::Broken, words());
                return Err(Some(Again { after, ..again }));
            }
            Whole::Hold => {
                shared.hold(&self.batch.target, &reply.status.to_string(), &words(), false);
                return Err(Some(Again { cause: Cause::Held, after, words: words() }));
            }
        }
        let Ok(answers) = reply::decode(&reply.body, end - start) else {
            let words = format!("a bulk request was answered what is no answer to it: {}", lookup::words(&reply.body));
            return Err(Some(self.doubt(start, end, (name, Some(reply.node)), Cause::Ambiguous, words)));
        };
        let refused = answers.iter().any(|alike| alike.reply.status == 429);
        self.observe(if refused { Signal::Refused } else { Signal::Answered { took, bytes: bytes as u64 } });
        let again = self.judge(start, &answers, sent_at, name).await;
        Ok(again.map(|cause| Again { cause, after, words: "some documents were refused for now".to_owned() }))
    }

    async fn request(&self, start: usize, end: usize, name: &str) -> Result<Reply, SendError> {
        let shared = &self.shared;
        let mut body = self.batch.body.slice(self.position(start)..self.position(end));
        if shared.gzip {
            body = gzip::pack(body).await;
        }
        let deadline = shared.cfg.request_timeout.0;
        // The cluster waits for a missing shard for half of the time that we wait for the cluster.
        let timeout = format!("{}ms", (deadline / 2).as_millis().max(1));
        let filter = if self.noted.is_some() { reply::FILTER_PATH_WITH_INDEX } else { reply::FILTER_PATH };
        let query = [
            ("filter_path", filter),
            ("timeout", timeout.as_str()),
            ("pipeline", self.batch.pipeline.as_deref().unwrap_or_default()),
        ];
        let query = if self.batch.pipeline.is_some() { &query[..] } else { &query[..2] };
        let path = bulk_path(&self.batch.target);
        let request = Request {
            query,
            body: Some(body),
            kind: Kind::Ndjson,
            gzip: shared.gzip,
            opaque_id: Some(name),
            ..Request::new(Method::Post, &path, deadline)
        };
        shared.deps.client.send(request).await
    }

    /// Any of these items may have been applied, or may yet be.
    fn doubt(
        &mut self,
        start: usize,
        end: usize,
        given_up: (String, Option<usize>),
        cause: Cause,
        words: String,
    ) -> Again {
        self.observe(Signal::Lost);
        // Where a document names its index, the same create again is answered 409: nothing to look up.
        if !lookup::is_pattern(&self.batch.target) && !put_back(Bug::NoLookup) {
            self.fates[start..end].fill(Fate::Doubtful);
            self.given_up.push(given_up);
            self.given_up_at.get_or_insert_with(Instant::now);
        }
        Again::new(cause, words)
    }

    async fn too_large(&mut self, start: usize, end: usize, reply: &Reply) -> Option<Again> {
        let bytes = self.bytes(start, end);
        if end - start > 1 {
            self.shared.max_body.fetch_min(bytes / 2, Ordering::Relaxed);
            return None;
        }
        let failure = Failure { kind: "request_too_large".to_owned(), reason: lookup::words(&reply.body) };
        self.dead_letter(&[(start, reply.status, &failure)]).await;
        None
    }

    /// Gives each item from `start` on what its answer says; returns why some are left.
    async fn judge(&mut self, start: usize, answers: &[reply::Alike], sent_at: Instant, name: String) -> Option<Cause> {
        let mut verdicts: Vec<_> = answers.iter().map(|alike| verdict::of_item(&alike.reply)).collect();
        let taken = |verdict: &Verdict| matches!(verdict, Verdict::Created | Verdict::Duplicate);
        self.passed |= verdicts.iter().any(taken);
        if verdicts.contains(&Verdict::Created) {
            self.shared.pass(&self.batch.target);
        }
        if verdicts.contains(&Verdict::Unclear) {
            let since = *self.unclear_since.get_or_insert(sent_at);
            let others_pass = self.passed || self.shared.passed_since(&self.batch.target, since);
            let decided = verdict::unclear(others_pass);
            verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Unclear).for_each(|verdict| *verdict = decided);
        }

        let mut cause = None;
        let mut letters = Vec::new();
        let mut strays = Vec::new();
        let mut owed = Vec::new();
        let mut next = start;
        for (alike, verdict) in answers.iter().zip(verdicts) {
            let items = next..next + alike.count;
            next = items.end;
            if self.owed && verdict == Verdict::Created {
                owed.extend(self.batch.items[items.clone()].iter().map(|item| item.id));
            }
            match verdict {
                Verdict::Created if self.landed_elsewhere(&alike.reply) => strays.extend(items),
                Verdict::Created => self.done(items, Outcome::Created),
                Verdict::Duplicate => self.done(items, Outcome::Duplicate),
                Verdict::Retry { doubtful } => {
                    if doubtful && !lookup::is_pattern(&self.batch.target) {
                        self.fates[items].fill(Fate::Doubtful);
                    }
                    cause = cause.max(Some(if doubtful { Cause::Broken } else { Cause::Refused }));
                }
                Verdict::Hold | Verdict::Unclear => {
                    self.hold(&alike.reply);
                    // Such as no master: an attempt before that may have reached a shard.
                    if alike.reply.status >= 500 && !lookup::is_pattern(&self.batch.target) {
                        self.fates[items].fill(Fate::Doubtful);
                    }
                    cause = Some(Cause::Held);
                }
                Verdict::DeadLetter => {
                    let failure = refusal(&alike.reply);
                    letters.extend(items.map(|item| (item, alike.reply.status, failure.clone())));
                }
            }
        }
        if self.fates[start..next].contains(&Fate::Doubtful) {
            // Answered, but a shard that did not answer the cluster may still be at it.
            self.given_up.push((name, None));
        }
        if !owed.is_empty() {
            self.shared.sweeps.add(&self.batch.target, owed);
        }
        if !strays.is_empty() {
            self.look_again(strays).await;
        }
        if !letters.is_empty() {
            let letters: Vec<_> = letters.iter().map(|(item, status, failure)| (*item, *status, failure)).collect();
            self.dead_letter(&letters).await;
        }
        cause
    }

    fn hold(&self, reply: &ItemReply) {
        let failure = refusal(reply);
        let words = format!("a document was answered {} {}: {}", reply.status, failure.kind, failure.reason);
        self.shared.hold(&self.batch.target, &failure.kind, &words, false);
    }

    fn done(&mut self, items: impl IntoIterator<Item = usize>, outcome: Outcome) {
        for index in items {
            self.fates[index] = Fate::Done;
            let run = self.batch.items[index].run;
            if let Some(outcomes) = self.tally.add(run, outcome) {
                self.shared.settle(&self.batch.runs[run as usize], outcomes);
            }
        }
    }

    fn observe(&self, signal: Signal) {
        if let Some(permit) = &self.permit {
            self.shared.deps.events.window(permit.observe(signal));
        }
    }

    /// Keeps these items as dead letters, waiting for room for as long as it takes.
    async fn dead_letter(&mut self, refused: &[(usize, u16, &Failure)]) {
        let time = jiff::Timestamp::now().to_string();
        let letters: Vec<_> =
            refused.iter().map(|(item, status, failure)| letter(&self.batch, *item, *status, failure, &time)).collect();
        let letters = Arc::new(letters);
        loop {
            let store = Arc::clone(&self.shared.deps.dead_letters);
            let Err(error) = store.keep(Arc::clone(&letters)).await else { break };
            let cause = if matches!(error, AppendError::Full { .. }) { "dead_letters_full" } else { "dead_letters_io" };
            self.shared.hold(&self.batch.target, cause, &error.to_string(), false);
            self.pause(&Again::new(Cause::Held, error.to_string())).await;
        }
        if let Some(first) = letters.first() {
            self.shared.deps.events.dead_lettered(letters.len() as u64, first);
        }
        self.done(refused.iter().map(|(item, ..)| *item), Outcome::DeadLettered);
    }

    /// Takes what is done out of the batch, in place if nobody else holds the body.
    fn compact(&mut self) {
        if !self.fates.contains(&Fate::Done) {
            return;
        }
        if self.fates.iter().all(|fate| *fate == Fate::Done) {
            self.fates.clear();
            return;
        }
        self.delays.reset();
        let whole = std::mem::take(&mut self.batch.body);
        let ends: Vec<_> = self.batch.items.iter().skip(1).map(|item| item.start).chain([length(&whole)]).collect();
        let mut body = whole.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let mut kept = 0;
        let mut length = 0;
        for (index, end) in ends.into_iter().enumerate() {
            if self.fates[index] == Fate::Done {
                continue;
            }
            let item = self.batch.items[index];
            body.copy_within(item.start as usize..end as usize, length as usize);
            self.batch.items[kept] = Item { start: length, source: length + (item.source - item.start), ..item };
            self.fates[kept] = self.fates[index];
            length += end - item.start;
            kept += 1;
        }
        body.truncate(length as usize);
        self.batch.items.truncate(kept);
        self.fates.truncate(kept);
        self.batch.body = body.freeze();
    }
}

fn length(body: &Bytes) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

/// Why an item was refused, also where that is not called an error.
fn refusal(reply: &ItemReply) -> Failure {
    match (&reply.error, reply.failure_store.as_deref()) {
        (Some(failure), _) => failure.clone(),
        (None, Some("used")) => Failure {
            kind: "failure_store".to_owned(),
            reason: "the cluster redirected the document to the failure store".to_owned(),
        },
        (None, _) => Failure { kind: format!("status_{}", reply.status), reason: String::new() },
    }
}

fn letter(batch: &Batch, index: usize, status: u16, failure: &Failure, time: &str) -> Letter {
    use serde_json::value::{RawValue, to_raw_value};

    let item = &batch.items[index];
    let run = &batch.runs[item.run as usize];
    let text = String::from_utf8_lossy(batch.source_bytes(index)).into_owned();
    // Ours is JSON; if ever it is not, it is kept as text rather than lost.
    let document = RawValue::from_string(text.clone()).or_else(|_| to_raw_value(&text)).unwrap_or_default();
    let action = &batch.body[item.start as usize..item.source as usize];
    let meta: serde_json::Value = serde_json::from_slice(action).unwrap_or_default();
    Letter {
        id: item.id.as_str().to_owned(),
        time: time.to_owned(),
        file: run.file.to_string(),
        path: run.path.to_string_lossy().into_owned(),
        offset: item.offset,
        target: batch.target.to_string(),
        index: meta["create"]["_index"].as_str().map(str::to_owned),
        pipeline: batch.pipeline.as_deref().map(str::to_owned),
        status,
        kind: failure.kind.clone(),
        reason: failure.reason.clone(),
        document,
    }
}
