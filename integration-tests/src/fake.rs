//! A scripted Elasticsearch node for tests: it keeps documents by id in data streams with backing indices, answers as
//! Elasticsearch does, and misbehaves on request: each bulk request takes the next step of a script.
//!
//! It speaks HTTP/1.1 over a real socket, so that clients are tested with it too. What it cannot do is fail by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the node does with a bulk request, in order; `[Apply, Answer]` is what a well node does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Indexes the items that the item scripts do not refuse, and keeps the answer.
    Apply,
    /// Waits; the request is among the tasks meanwhile.
    Wait(Duration),
    /// Rolls the data stream over.
    Rollover,
    /// Gives the kept answer.
    Answer,
    /// Closes the connection without a word.
    Close,
    /// Gives the first half of the kept answer, then closes.
    Cut,
    /// Gives the first half of the kept answer as if it were all.
    Half,
    /// Gives the kept answer without its last item.
    OneShort,
    /// Gives another status and body.
    Say(u16, String),
    /// As `Say`, with a `Retry-After` in seconds.
    SayLater(u16, u64),
}

/// What a scripted item is answered with instead of being indexed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Status of the item.
    pub status: u16,
    /// `error.type`.
    pub kind: &'static str,
    /// `error.reason`.
    pub reason: &'static str,
    /// Whether it is indexed all the same.
    pub applied: bool,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and path with the query.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Body, unpacked.
    pub body: String,
}

/// An index: its documents, and whether a search sees them already.
#[derive(Debug, Default)]
struct Index {
    documents: BTreeMap<String, bool>,
}

#[derive(Debug, Default)]
struct State {
    indices: BTreeMap<String, Index>,
    /// Backing indices by data stream, in order; the last one is written to.
    streams: BTreeMap<String, Vec<String>>,
    script: VecDeque<Vec<Act>>,
    items: HashMap<String, VecDeque<Refusal>>,
    overrides: Vec<(String, u16, String)>,
    tasks: BTreeSet<String>,
    seen: Vec<Seen>,
    max_body: usize,
}

/// The node; it ends when this is dropped.
#[derive(Debug)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    url: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    /// A node on a free port of the loopback address.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State { max_body: usize::MAX, ..State::default() }));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { state, url, server })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the next bulk request meets that no earlier script is for.
    pub fn script(&self, acts: &[Act]) {
        lock(&self.state).script.push_back(acts.to_vec());
    }

    /// Refuses the item with this id, once a call.
    pub fn refuse(&self, id: &str, refusal: Refusal) {
        lock(&self.state).items.entry(id.to_owned()).or_default().push_back(refusal);
    }

    /// Answers requests whose path contains `part` this way until [`Fake::relent`].
    pub fn deny(&self, part: &str, status: u16, body: &str) {
        lock(&self.state).overrides.push((part.to_owned(), status, body.to_owned()));
    }

    /// Ends every [`Fake::deny`].
    pub fn relent(&self) {
        lock(&self.state).overrides.clear();
    }

    /// Larger bodies are answered 413.
    pub fn limit_body(&self, bytes: usize) {
        lock(&self.state).max_body = bytes;
    }

    /// Adds a backing index to a data stream, as a rollover does.
    pub fn rollover(&self, stream: &str) {
        lock(&self.state).rollover(stream);
    }

    /// Puts a document there, as somebody else could have.
    pub fn put(&self, target: &str, id: &str) {
        let mut state = lock(&self.state);
        let index = state.write_index(target);
        state.indices.entry(index).or_default().documents.insert(id.to_owned(), true);
    }

    /// How many copies of each id there are in all indices.
    #[must_use]
    pub fn copies(&self) -> BTreeMap<String, usize> {
        let mut copies = BTreeMap::new();
        for id in lock(&self.state).indices.values().flat_map(|index| index.documents.keys()) {
            *copies.entry(id.clone()).or_default() += 1;
        }
        copies
    }

    /// The indices that hold this id.
    #[must_use]
    pub fn homes(&self, id: &str) -> Vec<String> {
        let state = lock(&self.state);
        state
            .indices
            .iter()
            .filter(|(_, index)| index.documents.contains_key(id))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The requests so far whose line contains `part`.
    #[must_use]
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        lock(&self.state).seen.iter().filter(|seen| seen.line.contains(part)).cloned().collect()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn rollover(&mut self, stream: &str) {
        let backing = self.streams.entry(stream.to_owned()).or_default();
        let name = format!(".ds-{stream}-2026.01.01-{:06}", backing.len() + 1);
        backing.push(name.clone());
        self.indices.entry(name).or_default();
    }

    fn write_index(&mut self, target: &str) -> String {
        if self.indices.contains_key(target) || !target.starts_with("logs-") {
            return target.to_owned();
        }
        if !self.streams.contains_key(target) {
            self.rollover(target);
        }
        self.streams.get(target).and_then(|backing| backing.last()).cloned().unwrap_or_default()
    }

    /// The indices that an expression names; `None` if it names something that is not there.
    fn resolve(&self, expression: &str) -> Option<Vec<String>> {
        if let Some(prefix) = expression.strip_suffix('*') {
            return Some(self.indices.keys().filter(|name| name.starts_with(prefix)).cloned().collect());
        }
        if let Some(backing) = self.streams.get(expression) {
            return Some(backing.clone());
        }
        self.indices.contains_key(expression).then(|| vec![expression.to_owned()])
    }

    /// The answer to a bulk request, its documents indexed.
    fn apply(&mut self, target: &str, body: &str, with_index: bool) -> Value {
        let mut items = Vec::new();
        let mut lines = body.lines();
        while let Some(action) = lines.next() {
            let action: Value = serde_json::from_str(action).unwrap_or_default();
            let Some((op, meta)) = action.as_object().and_then(|object| object.iter().next()) else { continue };
            let id = meta["_id"].as_str().unwrap_or_default().to_owned();
            let index = meta["_index"].as_str().map_or_else(|| self.write_index(target), str::to_owned);
            let mut item = if op == "delete" {
                let gone = self.indices.get_mut(&index).and_then(|index| index.documents.remove(&id));
                json!({"status": if gone.is_some() { 200 } else { 404 }})
            } else {
                lines.next();
                self.create(&index, &id)
            };
            if with_index {
                item["_index"] = json!(index);
            }
            items.push(json!({ op.as_str(): item }));
        }
        let errors = items.iter().any(|item| item.pointer("/create/error").is_some());
        json!({"errors": errors, "items": items})
    }

    fn create(&mut self, index: &str, id: &str) -> Value {
        let refusal = self.items.get_mut(id).and_then(VecDeque::pop_front);
        let documents = &mut self.indices.entry(index.to_owned()).or_default().documents;
        if let Some(refusal) = refusal {
            if refusal.applied {
                documents.insert(id.to_owned(), false);
            }
            return json!({"status": refusal.status, "error": {"type": refusal.kind, "reason": refusal.reason}});
        }
        if documents.contains_key(id) {
            let kind = "version_conflict_engine_exception";
            return json!({"status": 409, "error": {"type": kind, "reason": "document already exists"}});
        }
        documents.insert(id.to_owned(), false);
        json!({"status": 201})
    }

    fn search(&self, indices: &[String], body: &str) -> Value {
        let query: Value = serde_json::from_str(body).unwrap_or_default();
        let wanted: BTreeSet<&str> =
            query["query"]["ids"]["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let hits: Vec<_> = indices
            .iter()
            .filter_map(|name| Some((name, self.indices.get(name)?)))
            .flat_map(|(name, index)| index.documents.iter().map(move |(id, searchable)| (name, id, *searchable)))
            .filter(|(_, id, searchable)| *searchable && wanted.contains(id.as_str()))
            .map(|(name, id, _)| json!({"_index": name, "_id": id}))
            .collect();
        json!({"timed_out": false, "_shards": {"failed": 0}, "hits": {"hits": hits}})
    }

    /// Answers everything but bulk requests.
    fn answer(&mut self, path: &str, body: &str) -> (u16, Value) {
        if path == "/" {
            return (200, json!({"version": {"number": "9.2.0"}}));
        }
        if path == "/_tasks" {
            let tasks: BTreeMap<_, _> =
                self.tasks.iter().map(|id| (format!("n:{id}"), json!({"headers": {"X-Opaque-Id": id}}))).collect();
            return (200, json!({"nodes": {"n": {"name": "n", "tasks": tasks}}}));
        }
        let (target, verb) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let Some(indices) = self.resolve(target) else {
            return (404, json!({"error": {"type": "index_not_found_exception", "reason": "no such index"}}));
        };
        match verb {
            "_refresh" => {
                for name in &indices {
                    if let Some(index) = self.indices.get_mut(name) {
                        index.documents.values_mut().for_each(|searchable| *searchable = true);
                    }
                }
                (200, json!({"_shards": {"failed": 0}}))
            }
            "_search" => (200, self.search(&indices, body)),
            "_settings" => {
                let all = indices.iter().zip(1_u64..).map(|(name, created)| {
                    (name.clone(), json!({"settings": {"index": {"creation_date": created.to_string()}}}))
                });
                (200, Value::Object(all.collect()))
            }
            _ => (400, json!({"error": {"type": "illegal_argument_exception", "reason": "no handler found"}})),
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(seen)) = read(&mut stream).await {
        lock(&state).seen.push(seen.clone());
        let mut words = seen.line.split(' ');
        let address = words.nth(1).unwrap_or_default();
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let denied = lock(&state).overrides.iter().find(|(part, ..)| path.contains(part.as_str())).cloned();
        let too_large = seen.body.len() > lock(&state).max_body;
        let response = if let Some((_, status, body)) = denied {
            Some((status, body, None))
        } else if too_large {
            Some((413, String::new(), None))
        } else if path.ends_with("/_bulk") {
            // On a task of its own, as a node does: it goes on when the client has gone.
            let (path, query, shared) = (path.to_owned(), query.to_owned(), Arc::clone(&state));
            let (sender, receiver) = tokio::sync::oneshot::channel();
            tokio::spawn(async move { sender.send(bulk(&shared, &path, &query, &seen).await) });
            match receiver.await {
                Ok(Some(Some(response))) => Some(response),
                Ok(Some(None)) | Err(_) => return,
                Ok(None) => None,
            }
        } else {
            let (status, body) = lock(&state).answer(path, &seen.body);
            Some((status, body.to_string(), None))
        };
        let Some((status, body, extra)) = response else { return };
        let cut = extra.as_deref() == Some("cut");
        let sent = if cut { &body[..body.len() / 2] } else { &body[..] };
        let later = extra.filter(|_| !cut).map(|after| format!("retry-after: {after}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{later}content-length: {}\r\n\r\n",
            body.len()
        );
        let all = [head.as_bytes(), sent.as_bytes()].concat();
        if stream.get_mut().write_all(&all).await.is_err() || cut {
            return;
        }
    }
}

type Response = (u16, String, Option<String>);

/// `Some(None)` closes the connection.
async fn bulk(state: &Mutex<State>, path: &str, query: &str, seen: &Seen) -> Option<Option<Response>> {
    let acts = lock(state).script.pop_front().unwrap_or_else(|| vec![Act::Apply, Act::Answer]);
    let task = seen.headers.get("x-opaque-id").cloned();
    let target = path.trim_start_matches('/').trim_end_matches("_bulk").trim_end_matches('/');
    if let Some(task) = &task {
        lock(state).tasks.insert(task.clone());
    }
    let mut answer = Value::Null;
    let mut response = None;
    for act in acts {
        let said = match act {
            Act::Apply => {
                let with_index = query.contains("items.*._index");
                answer = lock(state).apply(target, &seen.body, with_index);
                continue;
            }
            Act::Wait(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
            Act::Rollover => {
                lock(state).rollover(target);
                continue;
            }
            Act::Answer => Some((200, answer.to_string(), None)),
            Act::Close => None,
            Act::Cut => Some((200, answer.to_string(), Some("cut".to_owned()))),
            Act::Half => {
                let text = answer.to_string();
                Some((200, text[..text.len() / 2].to_owned(), None))
            }
            Act::OneShort => {
                answer["items"].as_array_mut().and_then(Vec::pop);
                Some((200, answer.to_string(), None))
            }
            Act::Say(status, body) => Some((status, body, None)),
            Act::SayLater(status, after) => Some((status, String::new(), Some(after.to_string()))),
        };
        response = Some(said);
    }
    if let Some(task) = &task {
        lock(state).tasks.remove(task);
    }
    response
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    if headers.get("content-encoding").is_some_and(|value| value == "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
        body = plain;
    }
    let line = line.trim_end().replace("%2C", ",").replace("%2F", "/");
    Ok(Some(Seen { line, headers, body: String::from_utf8_lossy(&body).into_owned() }))
}
