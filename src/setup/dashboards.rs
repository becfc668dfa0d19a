//! The boards in Kibana or OpenSearch Dashboards: which set of objects fits, what is there already, importing what differs.
//!
//! Nothing is written before everything was compared, and nothing where nothing differs, so that it can be repeated. What
//! is there under our ids is replaced, and who asks is told before what of it is not ours. Only objects under our own ids
//! are read or written, through the two interfaces that every version has for everybody: `_export` and `_import`.
//! [`compare`] and [`objects`] decide; only this file asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::{Client, Kind, Method, Request, SendError, form};
use crate::config::{Config, Login};

mod compare;
mod objects;

pub use compare::Standing;
pub use objects::Set;
use objects::{Key, Object};

/// How long a question may take, and how long an export or import, which waits until its objects can be searched.
const QUESTION: Duration = Duration::from_secs(10);
const TRANSFER: Duration = Duration::from_secs(60);

/// How much of an answer is repeated.
const MAX_WORDS: usize = 300;

/// Why there are no boards.
#[derive(Debug, thiserror::Error)]
pub enum DashboardsError {
    /// It cannot be reached, or its answer did not come.
    #[error("kibana: {0}{1}")]
    Unreachable(SendError, &'static str),
    /// It refuses, or cannot.
    #[error("kibana answers {request} with status {status}: {words}{hint}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Its own words.
        words: String,
        /// What to do.
        hint: String,
    },
    /// Somebody else answers.
    #[error("another server than kibana answers {request}: check kibana.url and its base path. It says: {words}")]
    Stranger {
        /// Method and path.
        request: String,
        /// What it says.
        words: String,
    },
    /// It was asked for what cannot be with this Kibana or this configuration.
    #[error("{0}")]
    Unable(String),
    /// Some objects were not imported: a line each.
    #[error("{0}")]
    NotImported(String),
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Kibana.
    Kibana,
    /// OpenSearch Dashboards.
    OpenSearchDashboards,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Which of the two; Kibana if it does not say its version.
    pub product: Product,
    /// Its version, such as `9.2.0`; it is told only to who is logged in.
    pub version: Option<String>,
}

impl Server {
    /// What a status says; `None` if it is no status of either.
    fn of(status: &Value) -> Option<Self> {
        if !status["status"]["overall"].is_object() {
            return None;
        }
        let version = status["version"]["number"].as_str().map(ToOwned::to_owned);
        // It forked from Kibana 7.10 and began to count anew; there is no Kibana of these numbers that has a status.
        let product = match version.as_deref().map(numbers) {
            Some((1..=3, _)) => Product::OpenSearchDashboards,
            _ => Product::Kibana,
        };
        Some(Self { product, version })
    }

    /// The set that it takes.
    ///
    /// # Errors
    /// If it is too old, or hides its version from `login`, which is configured in `section`.
    pub fn set(&self, login: &Login, section: &str) -> Result<Set, DashboardsError> {
        let Some(version) = &self.version else {
            let todo = match login {
                Login::None => {
                    "set kibana.auth (or elasticsearch.auth, which is used where that is not set)".to_owned()
                }
                Login::ApiKey(_) | Login::Basic { .. } => format!("it does not know the login in {section}"),
            };
            let words = format!("kibana tells its version only to who is logged in: {todo}");
            return Err(DashboardsError::Unable(words));
        };
        match (self.product, numbers(version)) {
            // Kibana before 8.8 refuses what is stamped by 8.8, and takes what 7 exported.
            (Product::OpenSearchDashboards, (2.., _)) | (Product::Kibana, (7, 10..) | (8, ..8)) => Ok(Set::Seven),
            (Product::Kibana, (8.., _)) => Ok(Set::Eight),
            _ => Err(DashboardsError::Unable(format!(
                "{self} is too old for the dashboards: they need Kibana 7.10 or OpenSearch Dashboards 2.0 or newer"
            ))),
        }
    }

    fn privilege(&self) -> &'static str {
        match self.product {
            Product::Kibana => {
                " (needs, in the space, the Kibana privilege All on Dashboard, Visualize Library, Discover and Data View \
                 Management; or on Saved Objects Management, which includes more)"
            }
            Product::OpenSearchDashboards => {
                " (needs a role that may write saved objects in its tenant, such as kibana_user)"
            }
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.product {
            Product::Kibana => "kibana",
            Product::OpenSearchDashboards => "opensearch dashboards",
        };
        write!(f, "{name} {}", self.version.as_deref().unwrap_or("of unknown version"))
    }
}

/// Major and minor; 0 for what is no number.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// A Kibana, and the space that is meant.
#[derive(Debug)]
pub struct Site {
    client: Client,
    server: Server,
    /// `s/SPACE/`, or nothing for the default space.
    prefix: String,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// Each object, as `dashboard/ID`, and how it stands, in the order of the set.
    pub standings: Vec<(String, Standing)>,
    /// A line an object that is to be imported; empty where nothing is to be done.
    file: String,
    /// Whose they are.
    to_import: BTreeSet<Key>,
}

impl Plan {
    /// Whether all is as it should be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.to_import.is_empty()
    }

    /// How many objects will be written.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.to_import.len()
    }
}

impl Site {
    /// Asks who is at `kibana.url`, and whether the configured space is there.
    ///
    /// # Errors
    /// If nobody, or somebody else, answers; if there is no such space.
    pub async fn meet(client: Client, config: &Config) -> Result<Self, DashboardsError> {
        let nobody = Server { product: Product::Kibana, version: None };
        let mut site = Self { client, server: nobody, prefix: String::new() };
        let reply = site.ask(Method::Get, "api/status", None).await?;
        let server = reply.json().as_ref().and_then(Server::of);
        site.server = match (reply.status, server) {
            (..300, Some(server)) => server,
            (..300, None) => return Err(reply.stranger()),
            _ => return Err(site.refused(reply)),
        };
        if let Some(space) = config.kibana_space() {
            site.find(space).await?;
            site.prefix = format!("s/{space}/");
        }
        Ok(site)
    }

    /// Who answers.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Kibana does not say that a space is not there, but writes into it all the same, where nobody would see it.
    async fn find(&self, space: &str) -> Result<(), DashboardsError> {
        if self.server.product == Product::OpenSearchDashboards {
            let words = "kibana.space is set, but OpenSearch Dashboards has no spaces: remove the setting";
            return Err(DashboardsError::Unable(words.to_owned()));
        }
        let reply = self.ask(Method::Get, &format!("api/spaces/space/{space}"), None).await?;
        match (reply.status, reply.json()) {
            (200, Some(answer)) if answer["id"] == space => Ok(()),
            (404, Some(_)) => {
                let all = self.ask(Method::Get, "api/spaces/space", None).await?;
                let all = if all.status == 200 { all.json() } else { None };
                let ids: Option<Vec<String>> = all.as_ref().and_then(Value::as_array).map(|spaces| {
                    spaces.iter().filter_map(|space| space["id"].as_str()).map(|id| format!("`{id}`")).collect()
                });
                let there = match ids {
                    Some(ids) if !ids.is_empty() => format!("this login sees {}", ids.join(", ")),
                    _ => "create it in Kibana first".to_owned(),
                };
                Err(DashboardsError::Unable(format!("kibana.space: there is no space `{space}`: {there}")))
            }
            (..300, _) => Err(reply.stranger()),
            _ => Err(self.refused(reply)),
        }
    }

    /// Compares what is there with what `config` wants.
    ///
    /// # Errors
    /// If this Kibana is too old or hides its version from `login`, or will not say what it has.
    pub async fn plan(&self, config: &Config, login: &Login) -> Result<Plan, DashboardsError> {
        let set = self.server.set(login, config.kibana_auth().0)?;
        let wanted = objects::objects(set, &config.kibana_index_pattern(), config.kibana_space());
        let present = self.present(&wanted).await?;
        let standings = compare::compare(&wanted, &present);
        let import = compare::to_import(&wanted, &standings);
        let file = import.iter().map(|object| object.value.to_string()).collect::<Vec<_>>().join("\n");
        let to_import = import.iter().map(|object| object.key()).collect();
        let standings = wanted.iter().map(Object::name).zip(standings).collect();
        Ok(Plan { standings, file, to_import })
    }

    /// What Kibana has of `wanted`. It exports all or nothing, but says what it has not.
    async fn present(&self, wanted: &[Object]) -> Result<BTreeMap<Key, Value>, DashboardsError> {
        let mut keys: BTreeSet<Key> = wanted.iter().map(Object::key).collect();
        while !keys.is_empty() {
            let asked: Vec<Value> = keys.iter().map(|(kind, id)| json!({"type": kind, "id": id})).collect();
            let body = json!({"objects": asked, "excludeExportDetails": true, "includeReferencesDeep": false});
            let path = format!("{}api/saved_objects/_export", self.prefix);
            let reply = self.ask(Method::Post, &path, Some((Kind::Json, Bytes::from(body.to_string())))).await?;
            if reply.status == 200 {
                return exported(&reply.body, &keys).ok_or_else(|| reply.stranger());
            }
            let before = keys.len();
            for key in missing(&reply).unwrap_or_default() {
                keys.remove(&key);
            }
            if keys.len() == before {
                return Err(self.refused(reply));
            }
        }
        Ok(BTreeMap::new())
    }

    /// Imports what `plan` says. Told are objects that Kibana gave other ids.
    ///
    /// # Errors
    /// If Kibana refuses, or did not import all.
    pub async fn import(&self, plan: &Plan) -> Result<Vec<String>, DashboardsError> {
        let path = format!("{}api/saved_objects/_import", self.prefix);
        let body = Some((Kind::Form, form("logweir.ndjson", &plan.file)));
        let reply = match self.ask_with(Method::Post, &path, &[("overwrite", "true")], body).await {
            Err(DashboardsError::Unreachable(error @ SendError::Ambiguous { .. }, _)) => {
                let hint = "; it may have imported them all the same: run it again, it compares before it imports";
                return Err(DashboardsError::Unreachable(error, hint));
            }
            reply => reply?,
        };
        if reply.status >= 300 {
            return Err(self.refused(reply));
        }
        let Some(answer) = reply.json().filter(|answer| answer["success"].is_boolean()) else {
            return Err(reply.stranger());
        };
        imported(&answer, &plan.to_import).map_err(DashboardsError::NotImported)
    }

    /// Where a browser finds the dashboard `id`, below the address of Kibana.
    #[must_use]
    pub fn board(&self, id: &str) -> String {
        format!("{}app/dashboards#/view/{id}", self.prefix)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<(Kind, Bytes)>) -> Result<Answer, DashboardsError> {
        self.ask_with(method, path, &[], body).await
    }

    async fn ask_with(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<(Kind, Bytes)>,
    ) -> Result<Answer, DashboardsError> {
        let (name, deadline) = if method == Method::Get { ("GET", QUESTION) } else { ("POST", TRANSFER) };
        let (kind, body) = body.map_or((Kind::Json, None), |(kind, body)| (kind, Some(body)));
        let size = body.as_ref().map_or(0, Bytes::len);
        let asked = Request { query, kind, body, ..Request::new(method, path, deadline) };
        let reply = self.client.send(asked).await.map_err(|error| DashboardsError::Unreachable(error, ""))?;
        Ok(Answer { request: format!("{name} {path}"), size, status: reply.status, body: reply.body })
    }

    fn refused(&self, answer: Answer) -> DashboardsError {
        let hint = match answer.status {
            401 => " (check kibana.auth, or elasticsearch.auth where that is not set)".to_owned(),
            403 => self.server.privilege().to_owned(),
            404 => " (check kibana.url: is the base path part of it?)".to_owned(),
            413 => format!(
                " (the import has {} bytes: raise savedObjects.maxImportPayloadBytes in Kibana, or the limit of the proxy \
                 before it, such as nginx's client_max_body_size)",
                answer.size
            ),
            429 | 502..=504 => " (try again when it is up)".to_owned(),
            _ if answer.words().contains("more recent version") => {
                " (this Kibana is older than the objects made for its line: report it, with its version)".to_owned()
            }
            _ => String::new(),
        };
        DashboardsError::Refused { words: answer.words(), request: answer.request, status: answer.status, hint }
    }
}

/// What was answered, and to what.
#[derive(Debug)]
struct Answer {
    /// Method and path.
    request: String,
    /// Bytes that were sent.
    size: usize,
    status: u16,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What it says, in short.
    fn words(&self) -> String {
        let message = self.json().and_then(|answer| answer["message"].as_str().map(ToOwned::to_owned));
        let text = message.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned());
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect()
    }

    fn stranger(&self) -> DashboardsError {
        DashboardsError::Stranger { request: self.request.clone(), words: self.words() }
    }
}

/// The objects of an export, one a line; `None` if one of `asked` is not there, or something else is.
fn exported(body: &[u8], asked: &BTreeSet<Key>) -> Option<BTreeMap<Key, Value>> {
    let mut objects = BTreeMap::new();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let object: Value = serde_json::from_slice(line).ok()?;
        objects.insert(key(&object)?, object);
    }
    asked.iter().all(|key| objects.contains_key(key)).then_some(objects)
}

/// The objects that a refused export says are not there; `None` if something else is the trouble.
fn missing(reply: &Answer) -> Option<Vec<Key>> {
    let answer = reply.json().filter(|_| reply.status == 400)?;
    let objects = answer["attributes"]["objects"].as_array()?;
    objects.iter().map(|object| key(object).filter(|_| object["error"]["statusCode"] == 404)).collect()
}

fn key(object: &Value) -> Option<Key> {
    Some((object["type"].as_str()?.to_owned(), object["id"].as_str()?.to_owned()))
}

/// What an import's answer says of the objects that were sent: notes, or a line an object that is not there.
fn imported(answer: &Value, sent: &BTreeSet<Key>) -> Result<Vec<String>, String> {
    let errors = answer["errors"].as_array().map_or(&[][..], Vec::as_slice);
    if answer["success"] == true && errors.is_empty() {
        let moved = answer["successResults"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let moved = moved.filter_map(|result| Some((key(result)?, result["destinationId"].as_str()?)));
        let notes = moved.filter(|((_, id), other)| id != other).map(|((kind, id), other)| {
            format!(
                "{kind}/{id}: has the id `{other}` here, because another space has one of ours: links do not lead to it"
            )
        });
        return match answer["successCount"].as_u64() {
            Some(count) if count < sent.len() as u64 => {
                Err(format!("kibana says success, but imported only {count} of {} objects", sent.len()))
            }
            _ => Ok(notes.collect()),
        };
    }
    let there = answer["successCount"].as_u64().unwrap_or(0);
    let mut lines = vec![format!("kibana imported {there} of {} objects; of the others it says:", sent.len())];
    lines.extend(errors.iter().map(|error| {
        let name = key(error).map_or_else(|| "an object".to_owned(), |(kind, id)| format!("{kind}/{id}"));
        format!("{name}: {}", trouble(&error["error"]))
    }));
    Err(lines.join("\n"))
}

/// Why an object was not imported.
fn trouble(error: &Value) -> String {
    let names = |list: &Value| {
        let list = list.as_array().map_or(&[][..], Vec::as_slice).iter();
        let names = list.map(|entry| match key(entry) {
            Some((kind, id)) => format!("{kind}/{id}"),
            None => entry["id"].as_str().unwrap_or("?").to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    match error["type"].as_str() {
        Some("missing_references") => format!("refers to what is not there: {}", names(&error["references"])),
        Some("conflict") => match error["destinationId"].as_str() {
            Some(id) => format!("conflicts with `{id}`, which was imported from it before: delete that one in Kibana"),
            None => "conflicts with an object of this id, which could not be replaced".to_owned(),
        },
        Some("ambiguous_conflict") => {
            format!(
                "conflicts with several that were imported from it: {}; delete them in Kibana",
                names(&error["destinations"])
            )
        }
        Some("unsupported_type") => "this Kibana does not know its type: is the plugin turned off?".to_owned(),
        _ => {
            let words = error["message"].as_str().map_or_else(|| error.to_string(), ToOwned::to_owned);
            let status = error["statusCode"].as_u64().map(|status| format!(" (status {status})")).unwrap_or_default();
            format!("{words}{status}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Secret;

    fn status(version: &str) -> Server {
        Server::of(&json!({"version": {"number": version}, "status": {"overall": {"level": "available"}}})).unwrap()
    }

    fn reply(status: u16, body: &str) -> Answer {
        Answer { request: "POST x".to_owned(), size: 9, status, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn keys(ids: &[&str]) -> BTreeSet<Key> {
        ids.iter().map(|id| ("search".to_owned(), (*id).to_owned())).collect()
    }

    #[test]
    fn the_version_says_which_product_and_which_set() {
        for (version, expected) in [
            ("7.10.2", Ok(Set::Seven)),
            ("7.17.29", Ok(Set::Seven)),
            ("8.7.1", Ok(Set::Seven)),
            ("8.8.0", Ok(Set::Eight)),
            ("9.2.1", Ok(Set::Eight)),
            ("2.8.0", Ok(Set::Seven)),
            ("3.3.0", Ok(Set::Seven)),
            ("7.9.3", Err("kibana 7.9.3")),
            ("6.8.23", Err("kibana 6.8.23")),
            ("1.3.20", Err("opensearch dashboards 1.3.20")),
            ("main", Err("kibana main")),
        ] {
            match (status(version).set(&Login::None, "kibana.auth"), expected) {
                (Ok(set), Ok(expected)) => assert_eq!(set, expected, "{version}"),
                (Err(error), Err(name)) => assert_eq!(
                    error.to_string(),
                    format!(
                        "{name} is too old for the dashboards: they need Kibana 7.10 or OpenSearch Dashboards 2.0 or newer"
                    )
                ),
                (set, _) => panic!("{version}: {set:?}"),
            }
        }
        assert_eq!(Server::of(&json!({"status": "ok"})), None);
        assert_eq!(Server::of(&json!("<html>")), None);
    }

    #[test]
    fn a_version_that_is_hidden_is_told_with_what_to_do() {
        let hidden = Server::of(&json!({"status": {"overall": {"level": "available"}}})).unwrap();
        let said = |login| hidden.set(&login, "elasticsearch.auth").unwrap_err().to_string();
        let hides = "kibana tells its version only to who is logged in: ";
        let todo = "set kibana.auth (or elasticsearch.auth, which is used where that is not set)";
        assert_eq!(said(Login::None), format!("{hides}{todo}"));
        let key = Login::ApiKey(Secret::new("x".to_owned()));
        assert_eq!(said(key), format!("{hides}it does not know the login in elasticsearch.auth"));
    }

    #[test]
    fn an_export_is_whole_or_no_answer() {
        let line = |id: &str| json!({"type": "search", "id": id}).to_string();
        let two = format!("{}\n{}\n", line("a"), line("b"));
        let ids = |body: &str, asked| exported(body.as_bytes(), &keys(asked)).map(|all| all.len());
        assert_eq!(ids(&two, &["a", "b"]), Some(2));
        assert_eq!(ids(&two, &["a", "c"]), None);
        assert_eq!(ids("<html>welcome</html>", &["a"]), None);
        assert_eq!(ids("", &["a"]), None);
    }

    #[test]
    fn only_404_says_that_an_object_is_not_there() {
        let says = |status: u16, code: u16| {
            let object = json!({"type": "search", "id": "a", "error": {"statusCode": code}});
            missing(&reply(status, &json!({"attributes": {"objects": [object]}}).to_string()))
        };
        assert_eq!(says(400, 404), Some(vec![("search".to_owned(), "a".to_owned())]));
        assert_eq!(says(400, 403), None);
        assert_eq!(says(500, 404), None);
        assert_eq!(missing(&reply(400, r#"{"message": "no"}"#)), None);
    }

    #[test]
    fn success_is_what_the_answer_says_and_counts() {
        let sent = keys(&["a", "b"]);
        assert_eq!(imported(&json!({"success": true, "successCount": 2}), &sent), Ok(Vec::new()));
        let short = imported(&json!({"success": true, "successCount": 1}), &sent).unwrap_err();
        assert_eq!(short, "kibana says success, but imported only 1 of 2 objects");
        let moved = json!({"success": true, "successCount": 2, "successResults": [
            {"type": "search", "id": "a", "destinationId": "z"}, {"type": "search", "id": "b"},
        ]});
        let notes = imported(&moved, &sent).unwrap();
        assert!(notes.len() == 1 && notes[0].starts_with("search/a: has the id `z` here"), "{notes:?}");
    }

    #[test]
    fn each_object_that_was_not_imported_says_why() {
        let error = |id: &str, error: Value| json!({"type": "search", "id": id, "error": error});
        let answer = json!({"success": false, "successCount": 1, "errors": [
            error("a", json!({"type": "missing_references", "references": [{"type": "index-pattern", "id": "p"}]})),
            error("b", json!({"type": "conflict"})),
            error("c", json!({"type": "conflict", "destinationId": "z"})),
            error("d", json!({"type": "ambiguous_conflict", "destinations": [{"id": "y"}, {"id": "z"}]})),
            error("e", json!({"type": "unsupported_type"})),
            error("f", json!({"type": "unknown", "message": "of a more recent version", "statusCode": 422})),
            json!({"error": {"type": "surprise"}}),
        ]});
        assert_eq!(
            imported(&answer, &keys(&["a", "b", "c", "d", "e", "f", "g", "h"])).unwrap_err(),
            "kibana imported 1 of 8 objects; of the others it says:
search/a: refers to what is not there: index-pattern/p
search/b: conflicts with an object of this id, which could not be replaced
search/c: conflicts with `z`, which was imported from it before: delete that one in Kibana
search/d: conflicts with several that were imported from it: y, z; delete them in Kibana
search/e: this Kibana does not know its type: is the plugin turned off?
search/f: of a more recent version (status 422)
an object: {\"type\":\"surprise\"}"
        );
    }

    #[test]
    fn words_of_a_refusal_are_its_message_or_its_beginning() {
        assert_eq!(reply(403, r#"{"message":"Unable to bulk_get search"}"#).words(), "Unable to bulk_get search");
        assert_eq!(reply(502, "<html>\n  bad  </html>").words(), "<html> bad </html>");
        assert_eq!(reply(502, &"ä".repeat(999)).words().chars().count(), MAX_WORDS);
    }
}
