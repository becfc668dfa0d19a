//! A real Elasticsearch node, started by `integration-tests/elasticsearch/node`, and questions to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the repository").to_owned()
}

/// A running cluster.
#[derive(Debug)]
pub struct Node {
    /// Where it answers.
    pub url: String,
    /// Its data, configuration and logs.
    pub dir: PathBuf,
    agent: ureq::Agent,
    /// Stops the node when this process is gone, however it went.
    guard: Option<Child>,
}

impl Node {
    /// The node that all tests of this process share, with version 9.2.0.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn shared() -> &'static Self {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(|| Self::start("9.2.0", &[]))
    }

    /// A node of its own.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(version: &str, options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("logweir-es-").tempdir().expect("a directory").keep();
        let script = repository().join("integration-tests/elasticsearch/node");
        let stop = "while kill -0 \"$0\" 2>/dev/null; do sleep 0.3; done; \"$1\" stop --dir \"$2\" >/dev/null 2>&1; rm -rf \"$2\"";
        let guard = Command::new("setsid")
            .args(["sh", "-c", stop, &std::process::id().to_string()])
            .args([&script, &dir])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid and sh");
        let mut node = Self { url: String::new(), dir, agent: agent(), guard: Some(guard) };
        node.resume_start(version, options);
        node
    }

    /// Starts it again after a stop or kill, with its data.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart(&mut self, version: &str) {
        self.resume_start(version, &[]);
    }

    fn resume_start(&mut self, version: &str, options: &[&str]) {
        let output = Command::new(repository().join("integration-tests/elasticsearch/node"))
            .args(["start", "--version", version, "--heap", "768m", "--dir"])
            .arg(&self.dir)
            .args(options)
            .stdin(Stdio::null())
            .output()
            .expect("the node script runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "no node: {}", String::from_utf8_lossy(&output.stderr));
        self.url = text.lines().next().expect("a URL").trim_end_matches('/').to_owned();
    }

    /// Runs `node COMMAND --dir …`.
    ///
    /// # Panics
    /// If it fails.
    pub fn control(&self, command: &str) {
        let status = Command::new(repository().join("integration-tests/elasticsearch/node"))
            .args([command, "--dir"])
            .arg(&self.dir)
            .stdout(Stdio::null())
            .status()
            .expect("the node script runs");
        assert!(status.success(), "node {command}");
    }

    /// Asks, and expects JSON; status and answer.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        ask(&self.agent, method, &format!("{}/{path}", self.url), body)
    }

    /// The same, where only success will do.
    ///
    /// # Panics
    /// If the answer is no success.
    pub fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// Searches `target` after a refresh.
    ///
    /// # Panics
    /// If the search fails.
    pub fn search(&self, target: &str, body: &Value) -> Value {
        self.ok("POST", &format!("{target}/_refresh"), None);
        self.ok("POST", &format!("{target}/_search"), Some(body))
    }

    /// How many documents there are, twins counted twice.
    pub fn count(&self, target: &str) -> u64 {
        count(&self.url, target)
    }

    /// Counts by the values of a field, as text.
    pub fn counts_by(&self, target: &str, field: &str) -> std::collections::BTreeMap<String, u64> {
        let body = json!({"size": 0, "aggs": {"by": {"terms": {"field": field, "size": 10_000}}}});
        let answer = self.search(target, &body);
        let buckets = answer["aggregations"]["by"]["buckets"].as_array().cloned().unwrap_or_default();
        let key = |bucket: &Value| match &bucket["key"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        buckets.iter().map(|bucket| (key(bucket), bucket["doc_count"].as_u64().unwrap_or(0))).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new(repository().join("integration-tests/elasticsearch/node"))
            .args(["stop", "--dir"])
            .arg(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = std::fs::remove_dir_all(&self.dir);
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

fn ask(agent: &ureq::Agent, method: &str, url: &str, body: Option<&Value>) -> (u16, Value) {
    let request = ureq::http::Request::builder().method(method).uri(url).header("content-type", "application/json");
    let text = body.map(Value::to_string).unwrap_or_default();
    let request = request.body(text).expect("a request");
    let mut response = agent.run(request).unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap_or_default();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// How many documents there are in `target` of the cluster at `url`, twins counted twice.
///
/// # Panics
/// If it does not answer.
#[must_use]
pub fn count(url: &str, target: &str) -> u64 {
    let agent = agent();
    if ask(&agent, "POST", &format!("{url}/{target}/_refresh"), None).0 == 404 {
        return 0;
    }
    let (status, answer) = ask(&agent, "GET", &format!("{url}/{target}/_count"), None);
    assert!(status < 300, "counting {target}: {status} {answer}");
    answer["count"].as_u64().expect("a count")
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}

/// Waits until `condition` gives something, looking often; panics with `what` after `limit`.
///
/// # Panics
/// If it does not happen in time.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
