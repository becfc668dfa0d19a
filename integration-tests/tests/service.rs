//! What a service manager and a monitor see of the real binary, and what `make install` puts in place.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use integration_tests::daemon::{binary, conserved};
use integration_tests::node::{PATIENCE, repository, until};
use integration_tests::numbered::{self, lines};
use integration_tests::{Node, Workspace};
use serde_json::{Value, json};

/// Nothing answers on the port "discard" of this machine.
const NOBODY: &str = "http://127.0.0.1:9";
/// What is called "at once": far less than any grace period here.
const AT_ONCE: Duration = Duration::from_secs(8);

/// `logweir run` as systemd starts it; killed on drop.
struct Service<'a> {
    workspace: &'a Workspace,
    child: Child,
    socket: UnixDatagram,
    /// All that was received, one assignment a line.
    heard: String,
}

impl<'a> Service<'a> {
    fn start(workspace: &'a Workspace) -> Self {
        Self::start_with(workspace, "", &[])
    }

    /// `script` runs in the shell that becomes the daemon, as systemd's own settings for its process.
    fn start_with(workspace: &'a Workspace, script: &str, environment: &[(&str, &str)]) -> Self {
        let path = workspace.path("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let log = fs::OpenOptions::new().create(true).append(true).open(workspace.path("daemon.log")).expect("room");
        let child = Command::new("sh")
            .args(["-c", &format!("{script}\nexec \"$0\" \"$@\"")])
            .arg(binary())
            .args(["run", "--config"])
            .arg(workspace.path("logweir.yaml"))
            .env("NOTIFY_SOCKET", &path)
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sh");
        Self { workspace, child, socket, heard: String::new() }
    }

    /// With a watchdog that wants to hear from this process at least once a `limit`.
    fn start_watched(workspace: &'a Workspace, limit: Duration) -> Self {
        let limit = limit.as_micros().to_string();
        Self::start_with(workspace, "export WATCHDOG_PID=$$", &[("WATCHDOG_USEC", &limit)])
    }

    /// Takes what arrives within a moment.
    fn listen(&mut self) {
        let mut block = [0; 4096];
        if let Ok(n) = self.socket.recv(&mut block) {
            self.heard.push_str(std::str::from_utf8(&block[..n]).expect("UTF-8"));
            if !self.heard.ends_with('\n') {
                self.heard.push('\n');
            }
        }
    }

    /// Waits until a line is heard that `is_it`, from now on.
    fn hear(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let from = self.heard.len();
        let began = Instant::now();
        loop {
            if let Some(line) = self.heard[from..].lines().find(|line| is_it(line)) {
                return line.to_owned();
            }
            assert!(began.elapsed() < PATIENCE, "{what} not heard in\n{}\n{}", self.heard, self.log());
            self.listen();
        }
    }

    fn hear_ready(&mut self) {
        let _ = self.hear("READY=1", |line| line == "READY=1");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn ended(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                conserved(&self.log());
                return status;
            }
            assert!(began.elapsed() < limit, "still there after {limit:?}\n{}\n{}", self.heard, self.log());
            self.listen();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.workspace.path("daemon.log")).unwrap_or_default()
    }

    /// Status and body of what telemetry serves at `path`.
    fn ask(&self, path: &str) -> (u16, String) {
        let address = until("telemetry", PATIENCE, || {
            let log = self.log();
            let address = log.split("telemetry is served address=").nth(1)?;
            Some(address.split_whitespace().next()?.to_owned())
        });
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("http://{address}{path}")).call().expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }

    /// A sample of `/metrics`, by its name with its labels.
    fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.ask("/metrics");
        assert_eq!(status, 200);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn source(dataset: &str) -> String {
    format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: service.{dataset}}}")
}

/// The shared node, and a directory that is indexed into a data set of its own.
fn place(dataset: &str, sections: &str) -> (&'static Node, Workspace) {
    let workspace = Workspace::new(Node::shared());
    workspace.configure(&source(dataset), sections);
    (Node::shared(), workspace)
}

fn target(dataset: &str) -> String {
    format!("logs-service.{dataset}-default")
}

fn append(workspace: &Workspace, numbers: std::ops::Range<u64>) {
    numbered::append(&workspace.logs().join("access.log"), &lines(numbers));
}

fn counted(node: &Node, dataset: &str, documents: u64) {
    until("documents", PATIENCE, || (node.count(&target(dataset)) >= documents).then_some(()));
}

fn block(node: &Node, dataset: &str, blocked: bool) {
    let settings = json!({"index.blocks.write": blocked});
    node.ok("PUT", &format!("{}/_settings", target(dataset)), Some(&settings));
}

#[test]
fn ready_is_told_when_the_sources_are_watched() {
    let (node, workspace) = place("ready", "");
    append(&workspace, 0..10);
    let mut service = Service::start(&workspace);
    service.hear_ready();
    assert!(service.log().contains("file discovered"), "{}", service.log());
    let (status, body) = service.ask("/readyz");
    assert_eq!(status, 200, "{body}");
    // What comes from now on is noticed, without a scan.
    counted(node, "ready", 10);
    append(&workspace, 10..20);
    counted(node, "ready", 20);
    let status = service.hear("a rate", |line| line.starts_with("STATUS=") && line.contains("lines/s"));
    assert!(status.contains("up to date") || status.contains("behind"), "{status}");
    let _ = service.hear("that nothing is behind", |line| line == "STATUS=0 lines/s, up to date");
}

#[test]
fn ready_is_told_while_elasticsearch_is_down_and_the_status_says_what_is_waited_for() {
    let workspace = Workspace::for_url(NOBODY);
    workspace.configure(&source("down"), "");
    append(&workspace, 0..1000);
    let mut service = Service::start(&workspace);
    service.hear_ready();
    let status = service.hear("what is waited for", |line| line.contains("waiting for elasticsearch"));
    assert!(status.starts_with("STATUS=") && status.contains("127.0.0.1:9"), "{status}");
    assert!(status.to_lowercase().contains("refused"), "the cause is what matters: {status}");
    let _ = service.hear("how much is behind", |line| line.contains("KiB behind, waiting for elasticsearch"));
    let (status, body) = service.ask("/readyz");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["phase"]), (200, &json!("running")));
    assert_eq!(body["waiting"][0]["cause"], "elasticsearch_unreachable", "{body}");
    assert_eq!(service.ask("/livez").0, 200);
}

#[test]
fn the_watchdog_is_fed_if_it_watches_this_process() {
    let (_, workspace) = place("watchdog", "");
    append(&workspace, 0..10);
    let limit = Duration::from_secs(1);
    let mut service = Service::start_watched(&workspace, limit);
    service.hear_ready();
    for _ in 0..5 {
        let began = Instant::now();
        let _ = service.hear("WATCHDOG=1", |line| line == "WATCHDOG=1");
        assert!(began.elapsed() < limit, "systemd would have killed it");
    }
    drop(service);

    // Not ours: the settings were inherited from somebody else.
    let others = [("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "1")];
    for environment in [&others[..], &[]] {
        let mut service = Service::start_with(&workspace, "", environment);
        service.hear_ready();
        let _ = service.hear("a status", |line| line.starts_with("STATUS="));
        let _ = service.hear("another", |line| line.starts_with("STATUS="));
        assert!(!service.heard.contains("WATCHDOG"), "{}", service.heard);
    }
}

/// Expects that it feeds the watchdog for longer than what it takes to count as stuck: thirty seconds and two request
/// timeouts.
fn is_alive(mut service: Service<'_>, limit: Duration) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(36) {
        let last = Instant::now();
        let _ = service.hear("WATCHDOG=1", |line| line == "WATCHDOG=1");
        assert!(last.elapsed() < limit, "systemd would have killed it\n{}", service.heard);
    }
    let (status, body) = service.ask("/livez");
    assert_eq!(status, 200, "{body}");
}

#[test]
fn a_daemon_that_has_nothing_to_do_and_one_that_waits_for_elasticsearch_are_alive() {
    let limit = Duration::from_secs(2);
    let soon = "elasticsearch: {urls: ['{url}'], request_timeout: 1s}";
    let (node, idle) = place("idle", soon);
    append(&idle, 0..10);
    let waits = Workspace::for_url(NOBODY);
    waits.configure(&source("waits"), soon);
    append(&waits, 0..1000);
    let [mut has_nothing, mut has_no_node] = [&idle, &waits].map(|workspace| Service::start_watched(workspace, limit));
    has_nothing.hear_ready();
    has_no_node.hear_ready();
    counted(node, "idle", 10);
    std::thread::scope(|scope| {
        scope.spawn(|| is_alive(has_nothing, limit));
        is_alive(has_no_node, limit);
    });
}

#[test]
fn sigterm_says_so_finishes_what_is_on_its_way_and_ends_with_0() {
    let (node, workspace) = place("term", "batch: {max_docs: 100}");
    append(&workspace, 0..20_000);
    let mut service = Service::start(&workspace);
    counted(node, "term", 500);
    service.signal("TERM");
    let _ = service.hear("STOPPING=1", |line| line == "STOPPING=1");
    assert_eq!(service.ended(PATIENCE).code(), Some(0), "{}", service.log());
    // Whatever is in Elasticsearch is settled, so that nothing is in doubt at the next start.
    let (report, satisfied) = workspace.verify();
    assert!(satisfied, "{report:#}");
    assert_eq!(report["total"]["lines"], node.count(&target("term")), "{report:#}");
    let _ = workspace.run(&["run", "--once"]).ok();
    workspace.assert_proven(20_000);
    assert_eq!(node.count(&target("term")), 20_000);
}

#[test]
fn sigint_ends_it_the_same_way() {
    let workspace = Workspace::new(Node::shared());
    workspace.configure(&source("int"), "");
    let mut service = Service::start(&workspace);
    service.hear_ready();
    service.signal("INT");
    let _ = service.hear("STOPPING=1", |line| line == "STOPPING=1");
    assert_eq!(service.ended(AT_ONCE).code(), Some(0), "{}", service.log());
}

#[test]
fn sigterm_at_any_step_of_the_start_ends_it_in_order() {
    let workspace = Workspace::for_url(NOBODY);
    workspace.configure(&source("start"), "");
    append(&workspace, 0..100);
    for _ in 0..10 {
        let daemon = workspace.start(&[]);
        daemon.serves();
        assert_eq!(daemon.stop(), Some(0));
    }
}

#[test]
fn a_second_sigterm_leaves_at_once_and_loses_nothing() {
    let (node, workspace) = place("second", "shutdown: {grace_period: 50s}");
    append(&workspace, 0..10);
    let mut service = Service::start(&workspace);
    counted(node, "second", 10);
    block(node, "second", true);
    append(&workspace, 10..1000);
    let _ = service.hear("the hold", |line| line.contains("waiting for the target"));
    service.signal("TERM");
    let _ = service.hear("STOPPING=1", |line| line == "STOPPING=1");
    // It waits for what is on its way: that is what the grace period is for.
    let began = Instant::now();
    until("a while", PATIENCE, || (began.elapsed() > Duration::from_secs(1)).then_some(()));
    assert!(service.child.try_wait().expect("it can be asked").is_none(), "{}", service.log());
    service.signal("TERM");
    let _ = service.ended(AT_ONCE);
    drop(service);
    block(node, "second", false);
    let _ = workspace.run(&["run", "--once"]).ok();
    workspace.assert_proven(1000);
    assert_eq!(node.count(&target("second")), 1000);
}

#[test]
fn sigterm_ends_it_at_once_where_nothing_is_on_its_way_though_elasticsearch_is_down() {
    let workspace = Workspace::for_url(NOBODY);
    workspace.configure(&source("nothing"), "shutdown: {grace_period: 50s}");
    let mut service = Service::start(&workspace);
    service.hear_ready();
    service.signal("TERM");
    assert_eq!(service.ended(AT_ONCE).code(), Some(0), "{}", service.log());
}

#[test]
fn metrics_agree_with_what_is_in_elasticsearch() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let source = source("metrics").replace("service.metrics", "service.metrics, exclude_lines: ['/line/1[0-9] ']");
    workspace.configure(&source, "");
    append(&workspace, 0..500);
    let mut service = Service::start(&workspace);
    service.hear_ready();
    counted(node, "metrics", 490);
    let created = "logweir_lines_total{outcome=\"created\"}";
    until("the count", PATIENCE, || (service.metric(created) >= 490.0).then_some(()));
    let size = fs::metadata(workspace.logs().join("access.log")).expect("the log").len() as f64;
    for (name, expected) in [
        ("logweir_lines_total{outcome=\"read\"}", 500.0),
        (created, 490.0),
        ("logweir_lines_total{outcome=\"skipped\"}", 10.0),
        ("logweir_lines_total{outcome=\"duplicate\"}", 0.0),
        ("logweir_lines_total{outcome=\"dead_lettered\"}", 0.0),
        ("logweir_documents_total{outcome=\"created\"}", 490.0),
        ("logweir_read_io_bytes_total", size),
        ("logweir_files_watched", 1.0),
    ] {
        assert_eq!(service.metric(name), expected, "{name}");
    }
    until("the lag to be gone", PATIENCE, || (service.metric("logweir_checkpoint_lag_bytes") == 0.0).then_some(()));
    assert_eq!(service.metric("logweir_in_flight_bytes"), 0.0);
    let (status, body) = service.ask("/livez");
    assert_eq!(status, 200, "{body}");

    // What cannot go on shows.
    block(node, "metrics", true);
    append(&workspace, 500..600);
    let held = "logweir_holds{cause=\"elasticsearch_target\"}";
    until("the hold", PATIENCE, || (service.metric(held) == 1.0).then_some(()));
    until("the lag", PATIENCE, || (service.metric("logweir_checkpoint_lag_bytes") > 0.0).then_some(()));
    assert!(service.metric("logweir_in_flight_bytes") > 0.0, "{}", service.ask("/metrics").1);
    let (status, body) = service.ask("/readyz");
    assert!(status == 200 && body.contains("elasticsearch_target"), "{body}");
    block(node, "metrics", false);
    until("the end of the hold", PATIENCE, || (service.metric(held) == 0.0).then_some(()));
    counted(node, "metrics", 590);
    until("the count", PATIENCE, || (service.metric(created) >= 590.0).then_some(()));
}

/// `make install` in a directory that has the program under test where the recipe expects it.
fn install(into: &Path, variables: &[String]) {
    let place = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(place.path().join("target/release")).expect("made");
    fs::copy(binary(), place.path().join("target/release/logweir")).expect("room");
    std::os::unix::fs::symlink(repository().join("config"), place.path().join("config")).expect("linked");
    let output = Command::new("make")
        .arg("-f")
        .arg(repository().join("Makefile"))
        .arg("install")
        .args(variables)
        .current_dir(place.path())
        // What a `make` around this test says is not for this one.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .expect("make");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make install into {}: {said}", into.display());
}

#[test]
fn make_install_puts_program_configuration_and_unit_in_place() {
    let root = tempfile::tempdir().expect("a directory");
    let variables = [format!("DESTDIR={}", root.path().display())];
    install(root.path(), &variables);
    let text =
        |path: &str| fs::read_to_string(root.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let version = Command::new(root.path().join("usr/bin/logweir")).arg("--version").output().expect("it starts");
    assert!(version.status.success());
    let unit = text("usr/lib/systemd/system/logweir.service");
    assert!(unit.contains("\nExecStart=/usr/bin/logweir run --config /etc/logweir/logweir.yaml\n"), "{unit}");
    assert!(!unit.contains(root.path().to_str().expect("UTF-8")), "where it is packed is not where it will be");
    let shipped = fs::read_to_string(repository().join("config/logweir.yaml")).expect("the configuration");
    assert_eq!(text("etc/logweir/logweir.yaml"), shipped);

    // Once more: the configuration is the user's now.
    let mine = "sources: [] # mine\n";
    fs::write(root.path().join("etc/logweir/logweir.yaml"), mine).expect("room");
    install(root.path(), &variables);
    assert_eq!(text("etc/logweir/logweir.yaml"), mine);
}

#[test]
fn systemd_accepts_the_installed_unit_and_logweir_the_installed_configuration() {
    let root = tempfile::tempdir().expect("a directory");
    let at = root.path().display();
    install(root.path(), &[format!("PREFIX={at}/usr"), format!("SYSCONFDIR={at}/etc")]);
    let unit = root.path().join("usr/lib/systemd/system/logweir.service");
    let text = fs::read_to_string(&unit).expect("the unit");
    assert!(text.contains(&format!("\nExecStart={at}/usr/bin/logweir run --config {at}/etc/logweir/logweir.yaml\n")));
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).env("LC_ALL", "C").output();
    let output = output.expect("systemd-analyze (Debian: package systemd)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "systemd-analyze verify, {}:\n{said}", output.status);

    let check = Command::new(root.path().join("usr/bin/logweir"))
        .args(["check", "--offline", "--config"])
        .arg(root.path().join("etc/logweir/logweir.yaml"))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&check.stderr);
    assert_ne!(check.status.code(), Some(78), "{said}");
}
