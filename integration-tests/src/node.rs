//! A real Elasticsearch node, started by `integration-tests/elasticsearch/node`, and questions to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long something may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the repository").to_owned()
}

/// A running cluster.
#[derive(Debug)]
pub struct Node {
    /// Where it answers, or the node of a cluster that is asked.
    pub url: String,
    /// Where each node answers.
    pub urls: Vec<String>,
    /// Its data, configuration and logs.
    pub dir: PathBuf,
    agent: ureq::Agent,
    /// Options for the Java runtime, where the environment has none.
    java: &'static str,
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
        // A test is over before the better compiler has paid for itself: this halves the CPU time of a start.
        Self::start_with(version, options, "-XX:TieredStopAtLevel=1")
    }

    /// A node of its own with Java's own defaults, as people run it: slower to start, faster in the long run.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_as_shipped(version: &str, options: &[&str]) -> Self {
        Self::start_with(version, options, "")
    }

    fn start_with(version: &str, options: &[&str], java: &'static str) -> Self {
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
        let mut node = Self { url: String::new(), urls: Vec::new(), dir, agent: agent(), java, guard: Some(guard) };
        node.resume_start(version, &[&["--heap", "768m"], options].concat());
        node
    }

    /// Starts what does not run of it, with its data.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart(&mut self, version: &str) {
        self.resume_start(version, &[]);
    }

    fn resume_start(&mut self, version: &str, options: &[&str]) {
        let mut command = Command::new(repository().join("integration-tests/elasticsearch/node"));
        if std::env::var_os("ES_JAVA_OPTS").is_none() {
            command.env("ES_JAVA_OPTS", self.java);
        }
        let output = command
            .args(["start", "--version", version, "--dir"])
            .arg(&self.dir)
            .args(options)
            .stdin(Stdio::null())
            .output()
            .expect("the node script runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "no node: {}", String::from_utf8_lossy(&output.stderr));
        self.urls = text.lines().map(|line| line.trim_end_matches('/').to_owned()).collect();
        self.url = self.urls.first().expect("a URL").clone();
    }

    /// Runs `node COMMAND --dir …`.
    ///
    /// # Panics
    /// If it fails.
    pub fn control(&self, command: &str) {
        self.control_one(command, 1);
    }

    /// The same, for one node of a cluster, from 1.
    ///
    /// # Panics
    /// If it fails.
    pub fn control_one(&self, command: &str, node: usize) {
        let status = Command::new(repository().join("integration-tests/elasticsearch/node"))
            .args([command, "--node", &node.to_string(), "--dir"])
            .arg(&self.dir)
            .stdout(Stdio::null())
            .status()
            .expect("the node script runs");
        assert!(status.success(), "node {command}");
    }

    /// Ends one node of a cluster as a service manager does, and waits until it is gone.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub fn end_one(&self, node: usize) {
        let kept = std::fs::read_to_string(self.dir.join(format!("node-{node}/pid"))).expect("it was started");
        let pid = kept.split_whitespace().next().expect("a process id").to_owned();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        until("its end", PATIENCE, || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().unwrap_or_default();
            (state.is_empty() || state.starts_with('Z')).then_some(())
        });
    }

    /// Waits until all nodes are there and all shards are on them.
    ///
    /// # Panics
    /// If that takes longer than a minute.
    pub fn is_green(&self) {
        let path = format!("_cluster/health?wait_for_status=green&wait_for_nodes={}&timeout=1s", self.urls.len());
        until("a green cluster", PATIENCE, || (self.ask("GET", &path, None).0 == 200).then_some(()));
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

    /// Gives a data stream its next index, which takes every id again.
    ///
    /// # Panics
    /// If it does not roll over.
    pub fn roll_over(&self, target: &str) {
        let answer = self.ok("POST", &format!("{target}/_rollover"), None);
        assert_eq!(answer["rolled_over"], true, "{answer}");
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
