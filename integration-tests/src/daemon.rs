//! The real binary, with a directory of its own.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::Value;

use crate::node::{self, Node, PATIENCE, repository, until};

/// What runs to its end may take so long.
const LIMIT: Duration = Duration::from_secs(120);

/// A directory with logs, state and configuration for one test.
#[derive(Debug)]
pub struct Workspace {
    dir: tempfile::TempDir,
    url: String,
    /// Where documents are counted: the node itself, whatever stands before it.
    count_at: String,
}

/// A daemon that runs; killed on drop.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Its standard error, kept in a file so that no pipe fills.
    log: PathBuf,
    /// Where in it this life begins: those before wrote there too.
    began_at: usize,
}

/// A run that ended.
#[derive(Debug)]
pub struct Run {
    /// Exit status.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// Expects success.
    ///
    /// # Panics
    /// If the status is not 0.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// The binary under test: `LOGWEIR_BIN`, or the one built beside this test.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("LOGWEIR_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("this test's path");
    let profile = test.ancestors().find(|dir| dir.join("deps").is_dir()).expect("a target directory");
    let path = profile.join("logweir");
    assert!(path.is_file(), "{} is missing: run `make test`, or `cargo build` first", path.display());
    path
}

impl Workspace {
    /// A directory for a test that indexes into `node`.
    ///
    /// # Panics
    /// If there is no room.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        Self::for_url(&node.url)
    }

    /// A directory for a test that indexes into whatever answers at `url`.
    ///
    /// # Panics
    /// If there is no room.
    #[must_use]
    pub fn for_url(url: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("logweir-test-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("logs")).expect("a directory");
        Self { dir, url: url.to_owned(), count_at: url.to_owned() }
    }

    /// A directory for a test that reaches `node` through `url`: a proxy, or a server with TLS.
    ///
    /// # Panics
    /// If there is no room.
    #[must_use]
    pub fn through(url: &str, node: &Node) -> Self {
        Self { count_at: node.url.clone(), ..Self::for_url(url) }
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Copies one of the real logs of `integration-tests/data` into the logs.
    ///
    /// # Panics
    /// If that fails.
    pub fn take_data(&self, name: &str) -> PathBuf {
        let to = self.logs().join(name);
        std::fs::copy(repository().join("integration-tests/data").join(name), &to).expect("the data is there");
        to
    }

    /// Writes the configuration: `sources` is the YAML list below `sources:`, `more` further sections. Paths may hold
    /// `{logs}` and `{dir}`.
    ///
    /// # Panics
    /// If that fails.
    pub fn configure(&self, sources: &str, more: &str) {
        let text = format!(
            "host: test-host\nsources:\n{sources}\ncheckpoint: {{path: '{{dir}}/state', interval: 100ms}}\n\
             dead_letters: {{path: '{{dir}}/dead-letters'}}\ntelemetry: {{listen: '127.0.0.1:0'}}\n{more}\n"
        );
        let text = if more.contains("elasticsearch:") {
            text.replace("{url}", &self.url)
        } else {
            format!("{text}elasticsearch: {{urls: ['{}']}}\n", self.url)
        };
        let logs = self.logs();
        let text = text.replace("{logs}", logs.to_str().expect("UTF-8"));
        let text = text.replace("{dir}", self.dir.path().to_str().expect("UTF-8"));
        std::fs::write(self.path("logweir.yaml"), text).expect("room");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        let (first, rest) = arguments.split_first().expect("a command");
        command.arg(first);
        let mut first_words = 0;
        // `checkpoints list`, `dead-letters show`: the configuration follows the whole command.
        if matches!(*first, "checkpoints" | "dead-letters") {
            command.arg(rest[0]);
            first_words = 1;
        }
        command.arg("--config").arg(self.path("logweir.yaml")).args(&rest[first_words..]);
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end. What `run` says at its end must add up; where it succeeds, it has seen no error.
    ///
    /// # Panics
    /// If it cannot be started or does not end within two minutes.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_within(arguments, LIMIT)
    }

    /// The same, with a limit of its own.
    ///
    /// # Panics
    /// If it cannot be started or does not end in time.
    #[must_use]
    pub fn run_within(&self, arguments: &[&str], limit: Duration) -> Run {
        run_to_its_end(self.command(arguments), arguments, limit)
    }

    /// The same, in a shell that first sets a limit, such as `ulimit -n 100`.
    ///
    /// # Panics
    /// If it cannot be started or does not end within two minutes.
    #[must_use]
    pub fn run_limited(&self, arguments: &[&str], limit: &str) -> Run {
        let inner = self.command(arguments);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{limit}; exec \"$0\" \"$@\"")).arg(inner.get_program()).args(inner.get_args());
        shell.stdin(Stdio::null());
        run_to_its_end(shell, arguments, LIMIT)
    }

    /// Starts `logweir run`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Daemon {
        self.start_under(&[], &[], arguments)
    }

    /// The same, by another program that becomes the binary (such as `strace -D …`), and with more in its environment.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_under(&self, wrapper: &[&str], environment: &[(&str, &str)], arguments: &[&str]) -> Daemon {
        let log = self.path("daemon.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("room");
        let began_at = std::fs::read(&log).map_or(0, |said| said.len());
        let mut all = vec!["run"];
        all.extend(arguments);
        let inner = self.command(&all);
        let mut command = match wrapper {
            [] => inner,
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(inner.get_program()).args(inner.get_args());
                command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
                command
            }
        };
        command.envs(environment.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("the binary starts");
        Daemon { child, log, began_at }
    }

    /// `logweir verify`, as JSON, and whether it was satisfied.
    #[must_use]
    pub fn verify(&self) -> (Value, bool) {
        let run = self.run(&["verify", "--output", "json"]);
        assert!(matches!(run.status, Some(0 | 1)), "{}\n{}", run.stdout, run.stderr);
        (run.json(), run.status == Some(0))
    }

    /// What is in the dead letters, as `logweir dead-letters list` tells it.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn letters(&self) -> Vec<Value> {
        let run = self.run(&["dead-letters", "list", "--output", "json"]).ok();
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Expects that each of `lines` lines is in Elasticsearch exactly once, and nothing else: by `verify`, by what the
    /// daemon said of itself, and by a count of documents without logweir.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_proven(&self, lines: u64) {
        self.assert_proven_with(lines, lines);
    }

    /// The same for `lines` lines that files have now and `documents` documents: fewer where lines are skipped or refused,
    /// more where files that were indexed are gone.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_proven_with(&self, lines: u64, documents: u64) {
        let log = std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        assert_no_errors(&log);
        conserved(&log);
        let (report, satisfied) = self.verify();
        let total = &report["total"];
        assert!(satisfied && total["lines"] == lines && total["behind"] == 0, "{report:#}");
        assert_eq!(self.documents(), documents, "documents in {:?}: {report:#}", self.targets());
    }

    /// How many documents are in the targets of the configuration, twins counted twice.
    fn documents(&self) -> u64 {
        self.targets().iter().map(|target| node::count(&self.count_at, target)).sum()
    }

    /// The targets, read from the configuration's text.
    fn targets(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.path("logweir.yaml")).expect("a configuration");
        let all = |pattern: &str| -> BTreeSet<String> {
            let pattern = Regex::new(pattern).expect("a pattern");
            pattern.captures_iter(&text).map(|found| found[1].to_owned()).collect()
        };
        let indices = all(r"\bindex: '([^']+)'");
        if indices.is_empty() {
            let datasets = all(r"\bdataset: ([\w.]+)");
            assert!(!datasets.is_empty(), "no dataset in\n{text}");
            return datasets.into_iter().map(|dataset| format!("logs-{dataset}-default")).collect();
        }
        let day = Regex::new("%[A-Za-z]").expect("a pattern");
        indices.iter().map(|index| day.replace_all(index, "*").into_owned()).collect()
    }

    /// Where the logs are, for globs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Daemon {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name (`TERM`, `KILL`, `STOP`).
    ///
    /// # Panics
    /// If `kill` cannot be run.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "kill -{name}");
    }

    /// Kills it and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    /// Ends it by SIGTERM; its exit status. What it says at its end must add up.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub fn stop(mut self) -> Option<i32> {
        let before = conserved(&self.log());
        self.signal("TERM");
        let status = wait(&mut self.child, PATIENCE);
        let status = status.unwrap_or_else(|| panic!("did not end: {}", self.log())).code();
        assert_eq!(conserved(&self.log()), before + 1, "how it ended is not said:\n{}", self.log());
        status
    }

    /// What `/metrics` shows; nothing if nobody answers.
    #[must_use]
    pub fn metrics(&self) -> Option<String> {
        let limit = Some(Duration::from_secs(2));
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(limit).build().into();
        agent.get(format!("http://{}/metrics", self.telemetry()?)).call().ok()?.body_mut().read_to_string().ok()
    }

    /// The first value of a metric, by what its line starts with; nothing if nobody answers.
    #[must_use]
    pub fn metric(&self, start: &str) -> Option<f64> {
        let text = self.metrics()?;
        text.lines().find_map(|line| line.strip_prefix(start)?.split_whitespace().next()?.parse().ok())
    }

    /// Where this life serves telemetry, once it has said so.
    fn telemetry(&self) -> Option<String> {
        let log = self.log();
        let said = log.get(self.began_at..)?.split_once("telemetry is served address=")?.1;
        Some(said.split_once('\n')?.0.to_owned())
    }

    /// Waits until it ends by itself, or by what a test made to happen.
    ///
    /// # Panics
    /// If it does not end within a minute.
    #[must_use]
    pub fn ended(mut self) -> ExitStatus {
        wait(&mut self.child, PATIENCE).unwrap_or_else(|| panic!("did not end: {}", self.log()))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What its telemetry serves at `path`, such as `/metrics`.
    ///
    /// # Panics
    /// If it serves none.
    #[must_use]
    pub fn served(&self, path: &str) -> String {
        let address = until("telemetry", PATIENCE, || self.telemetry());
        let url = format!("http://{address}{path}");
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(&url).call().unwrap_or_else(|error| panic!("{url}: {error}\n{}", self.log()));
        answer.body_mut().read_to_string().expect("text")
    }

    /// What `/readyz` says is waited for: a list of causes with their reasons.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn waiting(&self) -> Value {
        let mut body: Value = serde_json::from_str(&self.served("/readyz")).expect("JSON");
        body["waiting"].take()
    }

    /// Waits until `/readyz` says that something with these words is waited for.
    pub fn waits_for(&self, words: &str) {
        until(&format!("waiting for {words:?}\n{}", self.log()), PATIENCE, || {
            self.waiting().to_string().contains(words).then_some(())
        });
    }

    /// The sum of a counter over all its attributes that contain `part`.
    #[must_use]
    pub fn counter(&self, name: &str, part: &str) -> u64 {
        let metrics = self.served("/metrics");
        let counts = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(part));
        counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    }

    /// Waits until it serves telemetry: before that, a signal may end it as it ends any program.
    pub fn serves(&self) {
        until(&format!("telemetry in\n{}", self.log()), PATIENCE, || self.telemetry().map(drop));
    }

    /// Waits until it has said `words`.
    pub fn said(&self, words: &str) {
        until(&format!("{words:?} in\n{}", self.log()), PATIENCE, || self.log().contains(words).then_some(()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // At any instant, so just before it is killed too.
        let metrics = if !std::thread::panicking() && self.is_running() { self.metrics() } else { None };
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(metrics) = metrics {
            assert_scrape_conserved(&metrics);
        }
    }
}

/// Expects that lines read = outcomes + in flight in what `/metrics` shows.
///
/// # Panics
/// If it is not so.
pub fn assert_scrape_conserved(metrics: &str) {
    let all = Regex::new(r#"(?m)^logweir_lines(?:_total\{outcome="(\w+)"\}|(_in_flight)) (\d+)$"#).expect("a pattern");
    let (mut read, mut sum, mut samples) = (0, 0, 0);
    for found in all.captures_iter(metrics) {
        let number: u64 = found[3].parse().expect("digits");
        *(if found.get(1).is_some_and(|outcome| outcome.as_str() == "read") { &mut read } else { &mut sum }) += number;
        samples += 1;
    }
    assert!(samples == 6 && read == sum, "{samples} samples, {read} read, {sum} accounted for:\n{metrics}");
}

/// Expects that every run whose end is in `log` says that lines read = outcomes + in flight, and that this is so.
/// Returns how many there are.
///
/// # Panics
/// If one does not add up.
pub fn conserved(log: &str) -> usize {
    assert!(!log.contains("do not add up"), "{log}");
    let number = "([0-9,]+)";
    let equation = format!(
        r"{number} lines read = {number} created \+ {number} there already \+ {number} dead-lettered \+ {number} skipped \+ {number} in flight \(conserved\)"
    );
    let equation = Regex::new(&equation).expect("a pattern");
    let ends = log.lines().filter(|line| line.contains(" lines read "));
    let mut count = 0;
    for end in ends {
        let found = equation.captures(end).unwrap_or_else(|| panic!("lines went astray: {end}"));
        let number = |index: usize| found[index].replace(',', "").parse::<u64>().expect("digits");
        assert_eq!(number(1), (2..=6).map(number).sum::<u64>(), "{end}");
        count += 1;
    }
    count
}

fn assert_no_errors(log: &str) {
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(" ERROR ")).take(5).collect();
    assert!(errors.is_empty(), "the daemon saw what must not be: {errors:#?}");
}

fn run_to_its_end(mut command: Command, arguments: &[&str], limit: Duration) -> Run {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let out = std::thread::spawn(move || read(&mut stdout));
    let err = std::thread::spawn(move || read(&mut stderr));
    let status = wait(&mut child, limit);
    let (stdout, stderr) = (out.join().expect("read"), err.join().expect("read"));
    let status = status.unwrap_or_else(|| panic!("{arguments:?} did not end\n{stdout}\n{stderr}"));
    let run = Run { status: status.code(), stdout, stderr };
    let ends = conserved(&run.stderr);
    if arguments[0] == "run" && run.status == Some(0) {
        assert_eq!(ends, 1, "how it ended is not said:\n{}", run.stderr);
        assert_no_errors(&run.stderr);
    }
    run
}

fn read(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if began.elapsed() > limit {
            let _ = child.kill();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
