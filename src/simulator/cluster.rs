//! A modelled cluster: a data stream whose backing indices each keep ids unique, and no more than that.
//!
//! A document is seen by a search only after a refresh. A request is a task from its arrival until it is applied, which
//! goes on whether or not somebody still waits for the answer, in the index that was written to when it arrived. It
//! arrives soon after it was sent, or never: what a proxy would deliver after minutes is not modelled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::dice::Dice;
use super::history::Trouble;
use super::lines::Lines;
use super::{Fault, Lie};
use crate::client::{Answer, Cluster, Reply, Request, SendError};
use crate::record::{ID_LEN, LineId};

pub const TARGET: &str = "logs-sim-default";

const MS: Duration = Duration::from_millis(1);

/// Larger bodies are answered 413 while [`Trouble::TooLarge`] lasts.
const SMALL_BODY: usize = 700;

#[derive(Debug)]
struct Document {
    line: usize,
    visible: bool,
}

#[derive(Debug, Default)]
struct Index {
    documents: BTreeMap<LineId, Document>,
    unseen: Vec<LineId>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    indices: Vec<Index>,
    /// Requests that are on their way in the cluster.
    tasks: BTreeSet<String>,
    /// Troubles, with until when they last and how many percent of requests they meet.
    troubles: Vec<(Trouble, Instant, u64)>,
    lie: Option<Lie>,
    refreshed: Instant,
    refresh_every: Duration,
    faults: BTreeMap<&'static str, u64>,
    /// Set by the process's death: it sends and hears nothing more.
    epoch: u64,
    /// The process is to die when this is reached.
    trap: Option<Trap>,
    sprung: bool,
    bulks: u64,
}

/// Where a process can be made to die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    BeforeSend,
    BeforeApply,
    AfterApply,
    BeforeReply,
}

/// The nodes; clones are the same.
#[derive(Clone, Debug)]
pub struct Model {
    state: Arc<Mutex<State>>,
    lines: Lines,
}

/// The nodes as one process sees them.
#[derive(Debug)]
pub struct Connection {
    model: Model,
    epoch: u64,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    arrives: bool,
    /// Applied after so long.
    takes: Duration,
    applies: bool,
    /// Of all items, how many percent are applied at once, and how much later the others are.
    first: u64,
    rest_after: Duration,
    items: Items,
    /// Answered when it arrives, before it is applied: what stands before the cluster gave up.
    early: bool,
    answer: Said,
}

/// What the items that could be applied are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Items {
    Good,
    /// Some are refused for want of room.
    Busy,
    /// Some are answered 503, applied or not.
    Broken,
    /// All are refused: the index is blocked.
    Blocked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Whole,
    Half,
    Nothing,
    Page,
    Status(u16),
}

impl Said {
    fn instead_of(self, answer: (u16, String)) -> Option<(u16, String)> {
        match self {
            Self::Whole | Self::Half => Some(answer),
            Self::Nothing => None,
            Self::Page => Some((200, "<html>one moment</html>".to_owned())),
            Self::Status(status) => Some((status, error(status, "model_exception", "as drawn"))),
        }
    }
}

impl Model {
    pub fn new(seed: u64, refresh_every: Duration, lines: Lines, lie: Option<Lie>) -> Self {
        let state = State {
            dice: Dice::new(seed, 2),
            indices: Vec::new(),
            tasks: BTreeSet::new(),
            troubles: Vec::new(),
            lie,
            refreshed: Instant::now(),
            refresh_every,
            faults: BTreeMap::new(),
            epoch: 0,
            trap: None,
            sprung: false,
            bulks: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), lines }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread")
    }

    /// What a new process talks to; those before it hear nothing more.
    pub fn connect(&self) -> Arc<Connection> {
        let mut state = self.state();
        state.epoch += 1;
        state.trap = None;
        state.sprung = false;
        Arc::new(Connection { model: self.clone(), epoch: state.epoch })
    }

    /// The process is dead.
    pub fn disconnect(&self) {
        self.state().epoch += 1;
    }

    pub fn trouble(&self, trouble: Trouble, lasts: Duration, percent: u64) {
        self.state().troubles.push((trouble, Instant::now() + lasts, percent));
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.troubles.clear();
        state.trap = None;
    }

    pub fn roll_over(&self) -> bool {
        let mut state = self.state();
        if state.indices.is_empty() {
            return false;
        }
        state.indices.push(Index::default());
        true
    }

    pub fn set_trap(&self, trap: Trap) {
        self.state().trap = Some(trap);
    }

    /// Whether the process is to die now.
    pub fn is_sprung(&self) -> bool {
        self.state().sprung
    }

    pub fn has(&self, id: &LineId) -> bool {
        self.state().indices.iter().any(|index| index.documents.contains_key(id))
    }

    /// Ids that are there more than once.
    pub fn repeated_ids(&self) -> Vec<LineId> {
        let state = self.state();
        let mut seen = BTreeSet::new();
        let ids = state.indices.iter().flat_map(|index| index.documents.keys());
        ids.filter(|id| !seen.insert(**id)).copied().collect()
    }

    pub fn is_quiet(&self) -> bool {
        self.state().tasks.is_empty()
    }

    pub fn take_faults(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.state().faults)
    }

    pub fn describe(&self) -> String {
        let state = self.state();
        let mut text = String::new();
        for (number, index) in state.indices.iter().enumerate() {
            let _ = write!(text, "{}: {} documents; ", index_name(number), index.documents.len());
        }
        let _ = write!(text, "tasks {:?}", state.tasks);
        text
    }

    /// Stops here for ever if the process is dead, or dies here.
    async fn alive(&self, epoch: u64, trap: Option<Trap>) {
        let dead = {
            let mut state = self.state();
            if trap.is_some() && state.trap == trap && state.epoch == epoch {
                state.sprung = true;
                state.trap = None;
            }
            state.sprung || state.epoch != epoch
        };
        if dead {
            std::future::pending::<()>().await;
        }
    }

    async fn send(&self, epoch: u64, request: Request<'_>) -> Result<Reply, SendError> {
        let is_bulk = request.path.ends_with("_bulk");
        self.alive(epoch, is_bulk.then_some(Trap::BeforeSend)).await;
        let (fate, transit, lie) = {
            let mut state = self.state();
            let fate = state.fate(is_bulk, request.body.as_ref().map_or(0, Bytes::len));
            (fate, MS * u32::try_from(state.dice.range(0, 20)).unwrap_or(0), state.lie)
        };
        let Some(fate) = fate else {
            tokio::time::sleep(MS).await;
            return Err(SendError::NotSent { address: "model".to_owned(), words: "connection refused".to_owned() });
        };
        let ambiguous =
            |words: &str| SendError::Ambiguous { address: "model".to_owned(), node: 0, words: words.to_owned() };
        let call = Call::of(&request);
        let items = call.items();
        let (answered, answer) = oneshot::channel();
        let model = self.clone();
        // What arrived is worked on whether or not anybody waits.
        tokio::spawn(async move {
            tokio::time::sleep(transit).await;
            // Nobody may be there to hear it.
            if fate.early {
                let _ = answered.send(fate.answer.instead_of((200, String::new())));
                model.work(epoch, call, fate).await;
            } else {
                let _ = answered.send(model.work(epoch, call, fate).await);
            }
        });
        if is_bulk && lie == Some(Lie::AnswersBeforeItApplies) {
            return Ok(reply(200, all_created(items)));
        }
        let answer = tokio::time::timeout(request.deadline, answer);
        let (status, mut body) = match answer.await {
            Ok(Ok(Some(answer))) => answer,
            Ok(_) => return Err(ambiguous("the connection was closed")),
            Err(_) => return Err(ambiguous("nothing within the deadline")),
        };
        tokio::time::sleep(transit).await;
        self.alive(epoch, is_bulk.then_some(Trap::BeforeReply)).await;
        if fate.answer == Said::Half {
            body.truncate(body.len() / 2);
        }
        Ok(reply(status, body))
    }

    /// What the cluster does with a request; `None` where no answer leaves it.
    async fn work(&self, epoch: u64, call: Call, fate: Fate) -> Option<(u16, String)> {
        if !fate.arrives {
            // The connection breaks before the request is whole.
            return None;
        }
        let answer = match call {
            Call::Create { name, items, with_index } => {
                if fate.applies || fate.takes > MS * 100 {
                    self.state().tasks.insert(name.clone());
                }
                // Where it is written is decided when it arrives.
                let write_index = {
                    let mut state = self.state();
                    if fate.applies && state.indices.is_empty() {
                        state.indices.push(Index::default());
                    }
                    state.indices.len().saturating_sub(1)
                };
                tokio::time::sleep(fate.takes).await;
                self.alive_enough(epoch, Trap::BeforeApply);
                let mut answers = Vec::new();
                if fate.applies {
                    let first = items.len() * usize::try_from(fate.first).unwrap_or(100) / 100;
                    let mut late = Vec::new();
                    for (number, item) in items.into_iter().enumerate() {
                        let (answer, later) = self.create(write_index, item, fate.items, number < first);
                        answers.push(answer);
                        late.extend(later);
                    }
                    self.alive_enough(epoch, Trap::AfterApply);
                    if late.is_empty() {
                        self.state().tasks.remove(&name);
                    } else if fate.items == Items::Broken {
                        // Answered, and still at it.
                        let model = self.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(fate.rest_after).await;
                            for item in late {
                                model.create(write_index, item, Items::Good, true);
                            }
                            model.state().tasks.remove(&name);
                        });
                    } else {
                        tokio::time::sleep(fate.rest_after).await;
                        for item in late {
                            self.create(write_index, item, Items::Good, true);
                        }
                        self.state().tasks.remove(&name);
                    }
                } else {
                    self.state().tasks.remove(&name);
                }
                (200, bulk_answer(&answers, with_index.then(|| index_name(write_index))))
            }
            Call::Delete { items } => {
                tokio::time::sleep(fate.takes).await;
                let statuses: Vec<ItemAnswer> = items.iter().map(|(index, id)| self.delete(index, id)).collect();
                (200, bulk_answer(&statuses, None))
            }
            other => {
                tokio::time::sleep(fate.takes.min(MS * 50)).await;
                self.state().ask(&other)
            }
        };
        fate.answer.instead_of(answer)
    }

    fn alive_enough(&self, epoch: u64, trap: Trap) {
        let mut state = self.state();
        if state.trap == Some(trap) && state.epoch == epoch {
            state.sprung = true;
            state.trap = None;
        }
    }

    /// Creates one document; returns the answer and, where it is only applied later, the document again.
    fn create(&self, index: usize, item: NewDocument, items: Items, now: bool) -> (ItemAnswer, Option<NewDocument>) {
        let mut state = self.state();
        let line = self.lines.of_message(&item.message);
        if self.lines.is_refused(line) {
            return (ItemAnswer { status: 400, kind: "document_parsing_exception" }, None);
        }
        let roll = state.dice.range(0, 99);
        match items {
            Items::Blocked => {
                state.count("items blocked");
                return (ItemAnswer { status: 403, kind: "cluster_block_exception" }, None);
            }
            Items::Busy if roll < 60 => {
                state.count("items 429");
                return (ItemAnswer { status: 429, kind: "es_rejected_execution_exception" }, None);
            }
            Items::Broken if roll < 30 => {
                state.count("items 503");
                return (ItemAnswer { status: 503, kind: "unavailable_shards_exception" }, None);
            }
            Items::Broken if roll < 60 => {
                state.count("items 503, applied later");
                return (ItemAnswer { status: 503, kind: "unavailable_shards_exception" }, Some(item));
            }
            _ => {}
        }
        if !now {
            let there = state.indices[index].documents.contains_key(&item.id);
            let status = if there { 409 } else { 201 };
            return (ItemAnswer { status, kind: "version_conflict_engine_exception" }, Some(item));
        }
        let place = &mut state.indices[index];
        if place.documents.contains_key(&item.id) {
            return (ItemAnswer { status: 409, kind: "version_conflict_engine_exception" }, None);
        }
        place.documents.insert(item.id, Document { line, visible: false });
        place.unseen.push(item.id);
        drop(state);
        self.lines.created(line);
        (ItemAnswer { status: 201, kind: "" }, None)
    }

    fn delete(&self, index: &str, id: &LineId) -> ItemAnswer {
        let mut state = self.state();
        state.count("second copies deleted");
        let place = (0..state.indices.len()).find(|number| index_name(*number) == index);
        let document = place.and_then(|number| state.indices[number].documents.remove(id));
        drop(state);
        match document {
            Some(document) => {
                self.lines.deleted(document.line);
                ItemAnswer { status: 200, kind: "" }
            }
            None => ItemAnswer { status: 404, kind: "not_found" },
        }
    }
}

impl Cluster for Connection {
    fn send<'a>(&'a self, request: Request<'a>) -> Answer<'a> {
        Box::pin(self.model.send(self.epoch, request))
    }

    fn is_loopback(&self) -> bool {
        true
    }
}

/// A request, understood.
#[derive(Debug)]
enum Call {
    Create { name: String, items: Vec<NewDocument>, with_index: bool },
    Delete { items: Vec<(String, LineId)> },
    Tasks,
    Settings,
    Refresh,
    Search { ids: Vec<LineId>, count: bool },
}

#[derive(Debug)]
struct NewDocument {
    id: LineId,
    message: String,
}

#[derive(Clone, Copy, Debug)]
struct ItemAnswer {
    status: u16,
    kind: &'static str,
}

fn text_after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = &line[line.find(key)? + key.len()..];
    rest.split('"').next()
}

fn line_id(text: &str) -> LineId {
    let bytes: [u8; ID_LEN] = text.as_bytes().try_into().expect("ids have their length");
    LineId(bytes)
}

impl Call {
    fn of(request: &Request<'_>) -> Self {
        let body = request.body.as_ref().map(|body| std::str::from_utf8(body).expect("UTF-8")).unwrap_or_default();
        let path = request.path;
        if path == "_tasks" {
            Self::Tasks
        } else if path == format!("{TARGET}/_settings") {
            Self::Settings
        } else if path == format!("{TARGET}/_refresh") {
            Self::Refresh
        } else if path == format!("{TARGET}/_search") {
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let values = body["query"]["ids"]["values"].as_array();
            let ids = values.into_iter().flatten().map(|id| line_id(id.as_str().unwrap_or_default())).collect();
            Self::Search { ids, count: values.is_none() }
        } else if path == "_bulk" {
            let items = body.lines().map(|line| {
                let index = text_after(line, "\"_index\":\"").expect("an index");
                (index.to_owned(), line_id(text_after(line, "\"_id\":\"").expect("an id")))
            });
            Self::Delete { items: items.collect() }
        } else if path == format!("{TARGET}/_bulk") {
            let mut lines = body.lines();
            let mut items = Vec::new();
            while let (Some(action), Some(source)) = (lines.next(), lines.next()) {
                let id = line_id(text_after(action, "\"_id\":\"").expect("an id"));
                let message = text_after(source, "\"message\":\"").expect("a message").to_owned();
                items.push(NewDocument { id, message });
            }
            let with_index = request.query.iter().any(|(_, value)| value.contains("_index"));
            Self::Create { name: request.opaque_id.unwrap_or_default().to_owned(), items, with_index }
        } else {
            panic!("the model knows no {path}")
        }
    }

    fn items(&self) -> usize {
        match self {
            Self::Create { items, .. } => items.len(),
            _ => 0,
        }
    }
}

impl State {
    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// What becomes of the next request; `None`: there is no connection.
    fn fate(&mut self, is_bulk: bool, bytes: usize) -> Option<Fate> {
        let now = Instant::now();
        self.troubles.retain(|(_, until, _)| *until > now);
        if is_bulk {
            self.bulks += 1;
        }
        let mut fate = Fate {
            arrives: true,
            takes: MS * u32::try_from(self.dice.range(0, 30)).unwrap_or(0),
            applies: true,
            first: 100,
            rest_after: Duration::ZERO,
            items: Items::Good,
            early: false,
            answer: Said::Whole,
        };
        let dice = &mut self.dice;
        let met = self.troubles.iter().find(|(_, _, percent)| dice.chance(*percent)).map(|(trouble, ..)| *trouble);
        let Some(trouble) = met else { return Some(fate) };
        let late = MS * u32::try_from(self.dice.range(0, 6000)).unwrap_or(0);
        match trouble {
            Trouble::Unreachable => {
                self.count(trouble.name());
                return None;
            }
            Trouble::NeverArrives => fate.arrives = false,
            Trouble::ReplyLost => {
                fate.answer = Said::Nothing;
                fate.early = self.dice.chance(50);
                fate.takes = late / 4;
            }
            Trouble::HalfReply => fate.answer = Said::Half,
            Trouble::Late => {
                fate.takes = late;
                fate.first = self.dice.range(0, 100);
                fate.rest_after = late / 2;
            }
            Trouble::Page => {
                fate.answer = Said::Page;
                fate.applies = self.dice.chance(50);
            }
            Trouble::Gateway => {
                fate.answer = Said::Status(self.dice.pick(&[502, 503, 504, 408, 500]));
                fate.applies = self.dice.chance(50);
                fate.takes = late / 4;
                fate.early = self.dice.chance(50);
            }
            Trouble::Busy => {
                fate.answer = Said::Status(429);
                fate.applies = false;
            }
            Trouble::TooLarge => {
                if bytes <= SMALL_BODY || !is_bulk {
                    return Some(fate);
                }
                fate.answer = Said::Status(413);
                fate.applies = false;
            }
            Trouble::Forbidden => {
                fate.answer = Said::Status(self.dice.pick(&[401, 403, 404]));
                fate.applies = false;
            }
            Trouble::ItemsBusy => fate.items = Items::Busy,
            Trouble::ItemsBroken => {
                fate.items = Items::Broken;
                fate.rest_after = late;
            }
            Trouble::Blocked => fate.items = Items::Blocked,
        }
        self.count(trouble.name());
        Some(fate)
    }

    fn refresh(&mut self) {
        self.refreshed = Instant::now();
        for index in &mut self.indices {
            for id in index.unseen.drain(..) {
                if let Some(document) = index.documents.get_mut(&id) {
                    document.visible = true;
                }
            }
        }
    }

    /// Everything but writing.
    fn ask(&mut self, call: &Call) -> (u16, String) {
        if self.refreshed.elapsed() >= self.refresh_every {
            self.refresh();
        }
        if self.indices.is_empty() && !matches!(call, Call::Tasks) {
            return (404, error(404, "index_not_found_exception", "no such index"));
        }
        match call {
            Call::Tasks => {
                let tasks: Vec<String> = self
                    .tasks
                    .iter()
                    .enumerate()
                    .map(|(number, name)| format!(r#""n:{number}":{{"headers":{{"X-Opaque-Id":"{name}"}}}}"#))
                    .collect();
                (200, format!(r#"{{"nodes":{{"n":{{"name":"n","tasks":{{{}}}}}}}}}"#, tasks.join(",")))
            }
            Call::Settings => {
                let one =
                    |number| format!(r#""{}":{{"settings":{{"index":{{"creation_date":"1"}}}}}}"#, index_name(number));
                let all: Vec<String> = (0..self.indices.len()).map(one).collect();
                (200, format!("{{{}}}", all.join(",")))
            }
            Call::Refresh => {
                if self.lie == Some(Lie::DoesNotRefresh) {
                    self.count("refresh swallowed");
                } else {
                    self.refresh();
                }
                (200, r#"{"_shards":{"failed":0}}"#.to_owned())
            }
            Call::Search { count: true, .. } => {
                let total =
                    self.indices.iter().flat_map(|index| index.documents.values()).filter(|d| d.visible).count();
                (
                    200,
                    format!(r#"{{"timed_out":false,"_shards":{{"failed":0}},"hits":{{"total":{{"value":{total}}}}}}}"#),
                )
            }
            Call::Search { ids, .. } => {
                let mut hits = Vec::new();
                for (number, index) in self.indices.iter().enumerate() {
                    let visible = |id: &&LineId| index.documents.get(*id).is_some_and(|document| document.visible);
                    for id in ids.iter().filter(visible) {
                        hits.push(format!(r#"{{"_id":"{}","_index":"{}"}}"#, id.as_str(), index_name(number)));
                    }
                }
                let hits = hits.join(",");
                (200, format!(r#"{{"timed_out":false,"_shards":{{"failed":0}},"hits":{{"hits":[{hits}]}}}}"#))
            }
            Call::Create { .. } | Call::Delete { .. } => unreachable!("writing is done elsewhere"),
        }
    }
}

fn index_name(number: usize) -> String {
    format!(".ds-{TARGET}-2026.11.22-{:06}", number + 1)
}

fn error(status: u16, kind: &str, reason: &str) -> String {
    format!(r#"{{"error":{{"type":"{kind}","reason":"{reason}"}},"status":{status}}}"#)
}

fn bulk_answer(items: &[ItemAnswer], index: Option<String>) -> String {
    let index = index.map(|index| format!(r#""_index":"{index}","#)).unwrap_or_default();
    let mut body = String::with_capacity(40 * items.len() + 40);
    body.push_str(r#"{"errors":false,"items":["#);
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            body.push(',');
        }
        let _ = write!(body, r#"{{"create":{{{index}"status":{}"#, item.status);
        if item.status > 201 && !item.kind.is_empty() && item.kind != "not_found" {
            let _ = write!(body, r#","error":{{"type":"{}","reason":"as drawn"}}"#, item.kind);
        }
        body.push_str("}}");
    }
    body.push_str("]}");
    body
}

fn all_created(items: usize) -> String {
    bulk_answer(&vec![ItemAnswer { status: 201, kind: "" }; items], None)
}

fn reply(status: u16, body: String) -> Reply {
    Reply { status, body: body.into(), node: 0, retry_after: None }
}

impl Fault for Trouble {
    fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "connection refused",
            Self::NeverArrives => "request lost",
            Self::ReplyLost => "reply lost",
            Self::HalfReply => "half a reply",
            Self::Late => "applied late",
            Self::Page => "a proxy's page",
            Self::Gateway => "5xx, applied or not",
            Self::Busy => "429",
            Self::TooLarge => "413",
            Self::Forbidden => "401, 403, 404",
            Self::ItemsBusy => "some items 429",
            Self::ItemsBroken => "some items 503",
            Self::Blocked => "index blocked",
        }
    }
}
