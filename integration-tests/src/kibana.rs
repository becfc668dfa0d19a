//! A scripted Kibana, or OpenSearch Dashboards: the status, spaces, and saved objects by export and import, as their
//! interfaces are documented, over a real socket. It keeps objects a space and brings what it imports up to its own
//! version, so that nothing comes out as it went in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// Status, content type and body of an answer.
type Answer = (u16, &'static str, String);

/// Space, kind and id of an object.
type Place = (String, String, String);

/// What a request meets instead of being done.
#[derive(Clone, Debug)]
pub enum Twist {
    /// This answer; nothing is done.
    Say(u16, &'static str, String),
    /// It is done, and the connection closed without an answer.
    Lose,
}

#[derive(Debug, Default)]
struct State {
    version: String,
    base: String,
    spaces: Vec<String>,
    /// The header `Authorization` that is known; everybody is without it.
    login: Option<String>,
    /// Whether the status is told to everybody.
    open_status: bool,
    /// Kinds that the login may not read or not write.
    unreadable: BTreeSet<String>,
    unwritable: BTreeSet<String>,
    /// Kinds that it does not know.
    unknown: BTreeSet<String>,
    /// The newest version of a kind's objects that it knows.
    newest: BTreeMap<String, String>,
    max_payload: Option<usize>,
    twists: Vec<(String, Twist)>,
    objects: BTreeMap<Place, Value>,
    imports: u64,
    seen: Vec<String>,
}

/// The server; its thread ends with the process.
#[derive(Debug)]
pub struct Kibana {
    state: Arc<Mutex<State>>,
    url: String,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kibana {
    /// Of this version; those below 7 are OpenSearch Dashboards. It has the default space and knows everybody.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(version: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let spaces = vec!["default".to_owned()];
        let state = State { version: version.to_owned(), spaces, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { state, url }
    }

    /// Its address, with its base path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.url, lock(&self.state).base)
    }

    /// From here on it answers only below this path, such as `/boards`.
    pub fn base(&self, path: &str) {
        path.clone_into(&mut lock(&self.state).base);
    }

    /// Adds a space.
    pub fn space(&self, id: &str) {
        lock(&self.state).spaces.push(id.to_owned());
    }

    /// From here on only requests with this header `Authorization` are served; the status is told to others without the
    /// version, or as a whole where it is `open_status`.
    pub fn login(&self, authorization: &str, open_status: bool) {
        let mut state = lock(&self.state);
        state.login = Some(authorization.to_owned());
        state.open_status = open_status;
    }

    /// The login may not read this kind.
    pub fn hide(&self, kind: &str) {
        lock(&self.state).unreadable.insert(kind.to_owned());
    }

    /// The login may not write this kind.
    pub fn protect(&self, kind: &str) {
        lock(&self.state).unwritable.insert(kind.to_owned());
    }

    /// It does not know this kind.
    pub fn forget(&self, kind: &str) {
        lock(&self.state).unknown.insert(kind.to_owned());
    }

    /// It knows objects of this kind up to this version.
    pub fn newest(&self, kind: &str, version: &str) {
        lock(&self.state).newest.insert(kind.to_owned(), version.to_owned());
    }

    /// Larger imports are answered 413.
    pub fn limit(&self, bytes: usize) {
        lock(&self.state).max_payload = Some(bytes);
    }

    /// What requests meet whose line, such as `GET /api/status`, contains `part`; until [`Kibana::relent`].
    pub fn twist(&self, part: &str, twist: Twist) {
        lock(&self.state).twists.push((part.to_owned(), twist));
    }

    /// Ends every twist.
    pub fn relent(&self) {
        lock(&self.state).twists.clear();
    }

    /// An object, as an export has it.
    #[must_use]
    pub fn object(&self, space: &str, kind: &str, id: &str) -> Option<Value> {
        lock(&self.state).objects.get(&place(space, kind, id)).cloned()
    }

    /// The kinds and ids of all objects in a space, as `kind/id`.
    #[must_use]
    pub fn names(&self, space: &str) -> BTreeSet<String> {
        let state = lock(&self.state);
        state.objects.keys().filter(|(at, ..)| at == space).map(|(_, kind, id)| format!("{kind}/{id}")).collect()
    }

    /// Gives an object another title, as somebody does in its management.
    ///
    /// # Panics
    /// If it is not there.
    pub fn retitle(&self, space: &str, kind: &str, id: &str, title: &str) {
        let mut state = lock(&self.state);
        let time = state.time();
        let object = state.objects.get_mut(&place(space, kind, id)).expect("it is there");
        object["attributes"]["title"] = json!(title);
        object["updated_at"] = json!(time);
    }

    /// Puts an object there, as somebody else does.
    pub fn put(&self, space: &str, kind: &str, id: &str, attributes: &Value) {
        let mut state = lock(&self.state);
        let object =
            json!({"type": kind, "id": id, "attributes": attributes, "references": [], "updated_at": state.time()});
        state.objects.insert(place(space, kind, id), object);
    }

    /// Removes an object.
    pub fn remove(&self, space: &str, kind: &str, id: &str) {
        lock(&self.state).objects.remove(&place(space, kind, id));
    }

    /// The requests so far, such as `POST /api/saved_objects/_import?overwrite=true`, that contain `part`.
    #[must_use]
    pub fn seen(&self, part: &str) -> Vec<String> {
        lock(&self.state).seen.iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

fn place(space: &str, kind: &str, id: &str) -> Place {
    (space.to_owned(), kind.to_owned(), id.to_owned())
}

fn failure(status: u16, error: &str, message: &str) -> Answer {
    json_answer(status, &json!({"statusCode": status, "error": error, "message": message}))
}

fn json_answer(status: u16, body: &Value) -> Answer {
    (status, "application/json; charset=utf-8", body.to_string())
}

impl State {
    fn is_kibana(&self) -> bool {
        self.major() >= 7
    }

    fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    /// Each moment is later than the one before.
    fn time(&mut self) -> String {
        self.imports += 1;
        format!("2026-11-22T10:00:{:02}.000Z", self.imports)
    }

    fn answer(&mut self, method: &str, path: &str, headers: &HashMap<String, String>, body: &[u8]) -> Answer {
        let not_found = failure(404, "Not Found", "Not Found");
        let Some(path) = path.strip_prefix(self.base.as_str()) else { return not_found };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (space, path) = match path.strip_prefix("/s/").and_then(|rest| rest.split_once('/')) {
            Some((space, rest)) if self.is_kibana() => (space.to_owned(), format!("/{rest}")),
            _ => ("default".to_owned(), path.to_owned()),
        };
        let is_known = self.login.as_ref().is_none_or(|login| headers.get("authorization") == Some(login));
        if (method, path.as_str()) == ("GET", "/api/status") {
            return self.status(is_known);
        }
        if !is_known {
            return failure(401, "Unauthorized", "[security_exception] missing authentication credentials");
        }
        let xsrf = if self.is_kibana() { "kbn-xsrf" } else { "osd-xsrf" };
        if method == "POST" && !headers.contains_key(xsrf) {
            return failure(400, "Bad Request", &format!("Request must contain a {xsrf} header."));
        }
        match (method, path.as_str()) {
            ("POST", "/api/saved_objects/_export") => self.export(&space, body),
            ("POST", "/api/saved_objects/_import") => self.import(&space, query, headers, body),
            ("GET", "/api/spaces/space") if self.is_kibana() => {
                let spaces: Vec<Value> = self.spaces.iter().map(|id| json!({"id": id, "name": id})).collect();
                json_answer(200, &json!(spaces))
            }
            ("GET", path) if self.is_kibana() => match path.strip_prefix("/api/spaces/space/") {
                Some(id) if self.spaces.iter().any(|space| space == id) => {
                    json_answer(200, &json!({"id": id, "name": id, "disabledFeatures": []}))
                }
                _ => not_found,
            },
            _ => not_found,
        }
    }

    fn status(&self, is_known: bool) -> Answer {
        let overall = match self.major() {
            8.. => json!({"level": "available", "summary": "All services are available"}),
            _ => json!({"state": "green", "title": "Green"}),
        };
        if !is_known && !self.open_status {
            return json_answer(200, &json!({"status": {"overall": overall}}));
        }
        let version = json!({"number": self.version, "build_number": 1, "build_snapshot": false});
        json_answer(200, &json!({"name": "kibana", "version": version, "status": {"overall": overall}}))
    }

    fn forbidden(types: &BTreeSet<String>, kinds: &BTreeSet<String>, action: &str) -> Option<Answer> {
        let refused: Vec<&str> = kinds.intersection(types).map(String::as_str).collect();
        (!refused.is_empty()).then(|| failure(403, "Forbidden", &format!("Unable to {action} {}", refused.join(","))))
    }

    fn export(&self, space: &str, body: &[u8]) -> Answer {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(asked) = asked["objects"].as_array() else {
            return failure(400, "Bad Request", "Either `type` or `objects` are required.");
        };
        let word = |object: &Value, name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let kinds = asked.iter().map(|object| word(object, "type")).collect();
        if let Some(refused) = Self::forbidden(&self.unreadable, &kinds, "bulk_get") {
            return refused;
        }
        let (mut lines, mut missing) = (Vec::new(), Vec::new());
        for object in asked {
            let (kind, id) = (word(object, "type"), word(object, "id"));
            match self.objects.get(&place(space, &kind, &id)) {
                Some(object) => lines.push(object.to_string()),
                None => {
                    let words = format!("Saved object [{kind}/{id}] not found");
                    let error = json!({"statusCode": 404, "error": "Not Found", "message": words});
                    missing.push(json!({"id": id, "type": kind, "error": error}));
                }
            }
        }
        if missing.is_empty() {
            return (200, "application/ndjson", lines.join("\n"));
        }
        let words = "Error fetching objects to export";
        let attributes = json!({"objects": missing});
        json_answer(
            400,
            &json!({"statusCode": 400, "error": "Bad Request", "message": words, "attributes": attributes}),
        )
    }

    fn import(&mut self, space: &str, query: &str, headers: &HashMap<String, String>, body: &[u8]) -> Answer {
        if self.max_payload.is_some_and(|max| body.len() > max) {
            return failure(413, "Request Entity Too Large", "Payload content length greater than maximum allowed");
        }
        let Some(file) = file_of(headers, body) else {
            return failure(400, "Bad Request", "[request body.file]: expected value of type [Stream]");
        };
        if query != "overwrite=true" {
            return failure(400, "Bad Request", "scripted for overwrite=true only");
        }
        let objects: Vec<Value> =
            file.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        let word = |object: &Value, name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let kinds = objects.iter().map(|object| word(object, "type")).collect();
        if let Some(refused) = Self::forbidden(&self.unwritable, &kinds, "bulk_create") {
            return refused;
        }
        for object in &objects {
            if let Some(words) = self.too_new(object) {
                return failure(422, "Unprocessable Entity", &words);
            }
        }
        let known: Vec<&Value> =
            objects.iter().filter(|object| !self.unknown.contains(&word(object, "type"))).collect();
        let here: BTreeSet<(String, String)> =
            known.iter().map(|object| (word(object, "type"), word(object, "id"))).collect();
        let time = self.time();
        let (mut errors, mut results) = (Vec::new(), Vec::new());
        for object in &objects {
            let (kind, id) = (word(object, "type"), word(object, "id"));
            let mut error = |error: Value| errors.push(json!({"type": kind, "id": id, "error": error}));
            if self.unknown.contains(&kind) {
                error(json!({"type": "unsupported_type"}));
                continue;
            }
            let references = object["references"].as_array().cloned().unwrap_or_default();
            let missing: Vec<Value> = references
                .iter()
                .map(|reference| (word(reference, "type"), word(reference, "id")))
                .filter(|(kind, _)| matches!(kind.as_str(), "index-pattern" | "search"))
                .filter(|key| !here.contains(key) && !self.objects.contains_key(&place(space, &key.0, &key.1)))
                .map(|(kind, id)| json!({"type": kind, "id": id}))
                .collect();
            if !missing.is_empty() {
                error(json!({"type": "missing_references", "references": missing}));
                continue;
            }
            let mut result = json!({"type": kind, "id": id});
            let mut to = place(space, &kind, &id);
            // One id is in one space only.
            let is_elsewhere = self.objects.keys().any(|(at, k, i)| at != space && (k, i) == (&kind, &id));
            if self.major() >= 8 && is_elsewhere {
                let other = format!("made-up-{}", self.objects.len());
                result["destinationId"] = json!(other);
                to.2 = other;
            }
            if self.objects.contains_key(&to) {
                result["overwrite"] = json!(true);
            }
            results.push(result);
            let object = json!({
                "type": kind, "id": to.2, "updated_at": time, "version": "WzEsMV0=", "references": references,
                "attributes": migrated(&kind, &object["attributes"]),
            });
            self.objects.insert(to, object);
        }
        let mut answer = json!({"success": errors.is_empty(), "successCount": results.len(), "warnings": []});
        for (name, list) in [("successResults", results), ("errors", errors)] {
            if !list.is_empty() {
                answer[name] = json!(list);
            }
        }
        json_answer(200, &answer)
    }

    fn too_new(&self, object: &Value) -> Option<String> {
        let (kind, id) = (object["type"].as_str()?, object["id"].as_str()?);
        let version = object["migrationVersion"][kind].as_str().or(object["typeMigrationVersion"].as_str())?;
        let numbers = |version: &str| -> Vec<u32> { version.split('.').flat_map(str::parse).collect() };
        let is_newer = self.newest.get(kind).is_some_and(|newest| numbers(version) > numbers(newest));
        is_newer.then(|| {
            let words = "which belongs to a more recent version of Kibana";
            format!("Document \"{id}\" has property \"{kind}\" {words} [{version}].")
        })
    }
}

/// What a later version makes of attributes: texts that hold JSON are written anew, there are more attributes, and once an
/// index pattern was used it has a list of fields.
fn migrated(kind: &str, attributes: &Value) -> Value {
    let mut attributes = attributes.clone();
    for (_, value) in attributes.as_object_mut().expect("attributes").iter_mut() {
        let inner = value.as_str().filter(|text| text.starts_with('{'));
        if let Some(mut inner) = inner.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            inner["migrated"] = json!(true);
            *value = json!(serde_json::to_string_pretty(&inner).expect("JSON"));
        }
    }
    attributes["version"] = json!(1);
    if kind == "index-pattern" {
        attributes["fields"] = json!("[{\"name\":\"@timestamp\",\"type\":\"date\",\"count\":1}]");
    }
    attributes
}

/// The file of a form whose field `file` is an NDJSON file.
fn file_of(headers: &HashMap<String, String>, body: &[u8]) -> Option<String> {
    let boundary = headers.get("content-type")?.strip_prefix("multipart/form-data; boundary=")?;
    let text = std::str::from_utf8(body).ok()?;
    let part = text.strip_prefix(&format!("--{boundary}\r\n"))?.strip_suffix(&format!("\r\n--{boundary}--\r\n"))?;
    let (about, file) = part.split_once("\r\n\r\n")?;
    let is_file = about.contains("form-data; name=\"file\"; filename=\"") && about.contains(".ndjson\"");
    is_file.then(|| file.to_owned())
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some((line, headers, body)) = read(&mut reader) {
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let line = format!("{method} {path}");
        let mut locked = lock(state);
        locked.seen.push(line.clone());
        let twist = locked.twists.iter().find(|(part, _)| line.contains(part.as_str())).map(|(_, twist)| twist.clone());
        let (status, kind, body) = match twist {
            Some(Twist::Say(status, kind, body)) => (status, kind, body),
            Some(Twist::Lose) => {
                locked.answer(method, path, &headers, &body);
                return;
            }
            None => locked.answer(method, path, &headers, &body),
        };
        drop(locked);
        let head =
            format!("HTTP/1.1 {status} scripted\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        if reader.get_mut().write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// Request line, headers by their name in lower case, and body; `None` at the end.
fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, HashMap<String, String>, Vec<u8>)> {
    let mut line = String::new();
    let mut headers = HashMap::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length: &String| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line.trim_end().to_owned(), headers, body))
}
