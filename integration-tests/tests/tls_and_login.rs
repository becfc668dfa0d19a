//! TLS, logins, base paths and compression, with a real nginx in front of the real node.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{Load, assert_each_is_there_once, counted};
use integration_tests::{Daemon, Node, Run, Workspace};
use serde_json::json;

const LINES: usize = 300;
/// As Elasticsearch says it.
const WORDS: &str = "unable to authenticate user [logweir] for REST request";

/// A certificate authority, made by openssl, and what it signed.
struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().expect("a directory") };
        let subject = ["-subj", "/CN=logweir test authority", "-out", "ca.pem", "-keyout", "ca.key"];
        authority.openssl(&[&["req", "-x509", "-days", "2"], &KEY[..], &subject].concat());
        authority.sign("server", SERVER);
        authority.sign("client", "extendedKeyUsage = clientAuth\n");
        let (certificate, key) = (authority.read("client.pem"), authority.read("client.key"));
        fs::write(authority.path("client-both.pem"), certificate + &key).expect("room");
        authority
    }

    fn sign(&self, name: &str, extensions: &str) {
        let [request, key, certificate, subject, file] =
            [".csr", ".key", ".pem", "", ".ext"].map(|end| format!("{name}{end}"));
        fs::write(self.path(&file), extensions).expect("room");
        let subject = format!("/CN={subject}");
        self.openssl(&[&["req", "-subj", &subject, "-out", &request, "-keyout", &key], &KEY[..]].concat());
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", &file];
        self.openssl(&[&["x509", "-req", "-in", &request, "-out", &certificate], &by[..]].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.dir.path()).output();
        let output = output.expect("openssl (Debian: package openssl)");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("openssl made it")
    }
}

const SERVER: &str = "subjectAltName = IP:127.0.0.1, DNS:localhost\nextendedKeyUsage = serverAuth\n";
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Makes nginx run as it does in production, with a master that can be told to reload.
const RELOADABLE: &str = "# reloadable\n";

/// nginx in front of the shared node; ends with this.
struct Proxy {
    authority: Authority,
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Proxy {
    /// `server` are directives of the server, `location` those of what is passed on, `/` or another path.
    fn start(server: &str, path: &str, location: &str) -> Self {
        let authority = Authority::new();
        let dir = tempfile::tempdir().expect("a directory");
        let mut last = String::new();
        // A port that was free may be taken when nginx gets there.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
            let config = configuration(&authority, port, server, path, location);
            fs::write(dir.path().join("nginx.conf"), config).expect("room");
            let mut child = nginx(&dir).spawn().expect("nginx (Debian: package nginx-light)");
            let up = until("nginx to listen or to end", PATIENCE, || {
                let ended = child.try_wait().expect("it can be asked").is_some();
                let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
                (ended || answers).then_some(!ended)
            });
            if up {
                return Self { authority, dir, child, port };
            }
            last = fs::read_to_string(dir.path().join("error.log")).unwrap_or_default();
        }
        panic!("nginx does not start: {last}");
    }

    /// With nothing but TLS.
    fn plain() -> Self {
        Self::start("", "/", "")
    }

    /// With a login as Elasticsearch has it.
    fn with_login(password: &str) -> Self {
        let proxy = Self::start("", "/", "auth_basic elasticsearch;\nauth_basic_user_file users;");
        proxy.expect_password(password);
        proxy
    }

    /// nginx looks into the file at each request.
    fn expect_password(&self, password: &str) {
        fs::write(self.dir.path().join("users"), format!("logweir:{{PLAIN}}{password}\n")).expect("room");
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Reads its configuration and certificates again, if it is [`RELOADABLE`]; connections that are idle end.
    fn reload(&self) {
        let status = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// The certificate that a new connection is shown.
    fn shown(&self) -> Vec<u8> {
        let address = format!("127.0.0.1:{}", self.port);
        let output = Command::new("openssl").args(["s_client", "-connect", &address]).stdin(Stdio::null()).output();
        let text = String::from_utf8_lossy(&output.expect("openssl").stdout).into_owned();
        let begin = text.find("-----BEGIN CERTIFICATE").map(|at| &text[at..]).unwrap_or_default();
        begin.split("-----END").next().unwrap_or_default().as_bytes().to_vec()
    }

    /// The YAML that trusts our authority.
    fn trust(&self) -> String {
        format!("ca_file: '{}'", self.authority.path("ca.pem").display())
    }

    /// Requests whose log line contains `part`.
    fn requests(&self, part: &str) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("requests.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(part)).map(ToOwned::to_owned).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not killed: with a master process, that would leave its workers behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn nginx(dir: &tempfile::TempDir) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nginx");
    command.env("PATH", format!("{path}:/usr/sbin")).arg("-p").arg(dir.path()).args(["-e", "error.log", "-c"]);
    command.arg(dir.path().join("nginx.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn configuration(authority: &Authority, port: u16, server: &str, path: &str, location: &str) -> String {
    let node = &Node::shared().url;
    let certificates = authority.dir.path().display();
    let master = if server == RELOADABLE { "on" } else { "off" };
    let server = server.replace("{certificates}", &certificates.to_string());
    let refusal = json!({"error": {"type": "security_exception", "reason": WORDS}, "status": 401});
    format!(
        "daemon off; master_process {master}; user root; pid nginx.pid;
events {{}}
http {{
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    client_max_body_size 0;
    log_format ours '$request_method $uri status=$status encoding=$http_content_encoding';
    access_log requests.log ours;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificates}/server.pem;
        ssl_certificate_key {certificates}/server.key;
        {server}
        error_page 401 /refused;
        location = /refused {{ internal; default_type application/json; return 401 '{refusal}'; }}
        location {path} {{ {location} proxy_pass {node}/; }}
    }}
}}
"
    )
}

/// A log that is indexed by way of a proxy.
struct Way {
    workspace: Workspace,
    proxy: Proxy,
    target: String,
    dataset: String,
}

impl Way {
    fn new(name: &str, proxy: Proxy) -> Self {
        let workspace = Workspace::through(&proxy.url(), Node::shared());
        let dataset = format!("tls.{name}");
        let mut text = String::new();
        for n in 0..LINES {
            let _ = writeln!(
                text,
                "192.0.2.7 - - [17/May/2015:10:05:03 +0000] \"GET /line/{n}?q=ä HTTP/1.1\" 200 {n} \"-\" \"curl/8.5.0\""
            );
        }
        fs::write(workspace.logs().join("access.log"), text).expect("room");
        Self { workspace, proxy, target: format!("logs-{dataset}-default"), dataset }
    }

    /// `elasticsearch` is what follows the URL.
    fn configure(&self, elasticsearch: &str) {
        self.configure_url("{url}", elasticsearch);
    }

    fn configure_url(&self, url: &str, elasticsearch: &str) {
        let source =
            format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: {}}}", self.dataset);
        self.workspace.configure(&source, &format!("elasticsearch: {{urls: ['{url}'], {elasticsearch}}}"));
    }

    fn once(&self) -> Run {
        self.workspace.run(&["run", "--once", "--deadline", "60s"])
    }

    /// A run that is given little time.
    fn in_vain(&self) -> Run {
        let run = self.workspace.run(&["run", "--once", "--deadline", "3s"]);
        assert_eq!(run.status, Some(69), "{}\n{}", run.stdout, run.stderr);
        assert_eq!(self.count(), 0);
        run
    }

    fn count(&self) -> u64 {
        Node::shared().count(&self.target)
    }

    /// Past the proxy: each line, with its fields.
    fn assert_all_is_there(&self) {
        let answer = Node::shared().search(&self.target, &json!({"size": 10_000}));
        let hits = answer["hits"]["hits"].as_array().expect("hits");
        let mut expected: BTreeSet<String> = (0..LINES).map(|n| format!("/line/{n}")).collect();
        for hit in hits {
            let document = &hit["_source"];
            let path = document["url"]["path"].as_str().expect("a path");
            assert!(expected.remove(path), "{hit}");
            assert_eq!(document["url"]["query"], "q=ä", "{hit}");
            let bytes = &document["http"]["response"]["body"]["bytes"];
            assert_eq!(format!("/line/{bytes}"), path, "{hit}");
        }
        assert!(expected.is_empty(), "missing: {expected:?}");
        self.workspace.assert_proven(LINES as u64);
    }

    fn assert_works(&self) {
        let _ = self.once().ok();
        self.assert_all_is_there();
        let _ = self.workspace.run(&["check"]).ok();
        assert!(!self.proxy.requests("_bulk").is_empty(), "it went another way");
    }

    fn assert_nothing_was_dropped(&self) {
        assert_eq!(self.count(), 0);
        let run = self.workspace.run(&["dead-letters", "list", "--output", "json"]).ok();
        assert_eq!(run.stdout, "");
    }

    fn caught_up(&self, daemon: &Daemon) {
        until(&format!("documents\n{}", daemon.log()), PATIENCE, || (self.count() >= LINES as u64).then_some(()));
    }
}

#[test]
fn an_authority_that_is_configured_is_trusted() {
    let way = Way::new("trusted", Proxy::plain());
    way.configure(&format!("tls: {{{}}}", way.proxy.trust()));
    way.assert_works();
}

#[test]
fn an_authority_that_is_not_configured_is_not_trusted_and_the_message_says_certificate() {
    let way = Way::new("untrusted", Proxy::plain());
    way.configure("");
    let run = way.in_vain();
    assert!(run.stderr.contains("certificate"), "{}", run.stderr);
    assert!(run.stderr.contains(&way.proxy.url()), "which address? {}", run.stderr);
    let check = way.workspace.run(&["check"]);
    assert_eq!(check.status, Some(69), "{}\n{}", check.stdout, check.stderr);
    assert!((check.stdout + &check.stderr).contains("certificate"));
    let daemon = way.workspace.start(&[]);
    daemon.said("certificate");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(way.proxy.requests(""), [""; 0], "nobody may be spoken to before he is known");
    way.assert_nothing_was_dropped();
    way.configure(&format!("tls: {{{}}}", way.proxy.trust()));
    way.assert_works();
}

#[test]
fn what_is_sent_later_says_certificate_too() {
    let way = Way::new("later", Proxy::plain());
    way.configure(&format!("tls: {{{}}}", way.proxy.trust()));
    way.assert_works();
    // Nothing is asked before the first document now.
    way.configure("setup: false");
    let mut log = fs::OpenOptions::new().append(true).open(way.workspace.logs().join("access.log")).expect("the log");
    log.write_all(b"one more\n").expect("room");
    let run = way.workspace.run(&["run", "--once", "--deadline", "3s"]);
    assert_eq!(run.status, Some(69), "{}\n{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("certificate"), "{}", run.stderr);
}

#[test]
fn insecure_turns_verification_off() {
    let way = Way::new("insecure", Proxy::plain());
    way.configure("tls: {insecure: true}");
    way.assert_works();
}

#[test]
fn a_right_password_is_let_in() {
    let way = Way::new("login", Proxy::with_login("päss word!"));
    let auth = "auth: {username: logweir, password: 'päss word!'}";
    way.configure(&format!("tls: {{{}}}, {auth}", way.proxy.trust()));
    way.assert_works();
}

#[test]
fn a_wrong_password_holds_everything_and_drops_nothing() {
    let way = Way::new("wrong", Proxy::with_login("right"));
    let password = way.workspace.path("password");
    fs::write(&password, "guessed-at\n").expect("room");
    let auth = format!("auth: {{username: logweir, password_file: '{}'}}", password.display());
    way.configure(&format!("tls: {{{}}}, {auth}", way.proxy.trust()));
    let run = way.in_vain();
    assert!(run.stderr.contains(WORDS) && run.stderr.contains("401"), "{}", run.stderr);
    let daemon = way.workspace.start(&[]);
    daemon.said(WORDS);
    daemon.said("waiting for a login that elasticsearch accepts");
    until("some attempts", PATIENCE, || (way.proxy.requests("status=401").len() > 5).then_some(()));
    let log = daemon.log();
    assert!(log.lines().filter(|line| line.contains("WARN") && line.contains(WORDS)).count() < 3, "said rarely: {log}");
    assert!(!log.contains("guessed-at"), "the password is in the log: {log}");
    assert_eq!(daemon.stop(), Some(0));
    way.assert_nothing_was_dropped();
    fs::write(&password, "right\n").expect("room");
    way.assert_works();
}

#[test]
fn a_password_that_is_changed_in_elasticsearch_holds_until_it_is_accepted_again() {
    let way = Way::new("changed", Proxy::with_login("right"));
    let auth = "auth: {username: logweir, password: right}";
    way.configure(&format!("tls: {{{}}}, {auth}", way.proxy.trust()));
    let log = way.workspace.logs().join("access.log");
    let text = fs::read_to_string(&log).expect("the log");
    fs::write(&log, "").expect("emptied");
    let daemon = way.workspace.start(&[]);
    until("the templates", PATIENCE, || daemon.log().contains("template put in place").then_some(()));
    until("the start", PATIENCE, || (!way.proxy.requests("PUT").is_empty()).then_some(()));
    way.proxy.expect_password("another");
    fs::write(&log, text).expect("room");
    daemon.said(WORDS);
    way.assert_nothing_was_dropped();
    way.proxy.expect_password("right");
    way.caught_up(&daemon);
    daemon.said("no longer waiting for a login");
    assert_eq!(daemon.stop(), Some(0));
    way.assert_all_is_there();
    way.assert_works();
}

#[test]
fn an_api_key_is_sent_as_elasticsearch_gave_it() {
    let key = "VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==";
    let location = format!("if ($http_authorization != \"ApiKey {key}\") {{ return 401; }}");
    let way = Way::new("apikey", Proxy::start("", "/", &location));
    let with = |key: &str| way.configure(&format!("tls: {{{}}}, auth: {{api_key: '{key}'}}", way.proxy.trust()));
    with("VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6ZmFsc2U=");
    let run = way.in_vain();
    assert!(run.stderr.contains(WORDS), "{}", run.stderr);
    way.assert_nothing_was_dropped();
    with(key);
    way.assert_works();
}

#[test]
fn a_client_certificate_is_shown_also_beside_a_login() {
    let proxy = Proxy::start(
        "ssl_client_certificate {certificates}/ca.pem; ssl_verify_client on;",
        "/",
        "auth_basic elasticsearch;\nauth_basic_user_file users;",
    );
    proxy.expect_password("right");
    let way = Way::new("client", proxy);
    let certificate = format!("client_certificate_file: '{}'", way.proxy.authority.path("client-both.pem").display());
    let auth = "auth: {username: logweir, password: right}";
    way.configure(&format!("tls: {{{}}}, {auth}", way.proxy.trust()));
    let run = way.in_vain();
    assert!(run.stderr.contains("SSL certificate"), "{}", run.stderr);
    way.assert_nothing_was_dropped();
    way.configure(&format!("tls: {{{}, {certificate}}}, {auth}", way.proxy.trust()));
    way.assert_works();
}

#[test]
fn a_base_path_is_kept_before_every_request() {
    let way = Way::new("base", Proxy::start("", "/es/", ""));
    let url = format!("{}/es", way.proxy.url());
    way.configure_url(&url, &format!("tls: {{{}}}", way.proxy.trust()));
    way.assert_works();
    way.configure_url(&format!("{url}/"), &format!("tls: {{{}}}", way.proxy.trust()));
    way.assert_works();
    let beside: Vec<String> = way.proxy.requests("").into_iter().filter(|line| !line.contains(" /es/")).collect();
    assert_eq!(beside, [""; 0]);
}

#[test]
fn bodies_are_compressed_where_that_is_configured_and_not_on_loopback_by_default() {
    for (compression, encoding) in [("gzip", "encoding=gzip"), ("off", "encoding=-"), ("auto", "encoding=-")] {
        let way = Way::new(&format!("compression.{compression}"), Proxy::plain());
        way.configure(&format!("tls: {{{}}}, compression: {compression}", way.proxy.trust()));
        way.assert_works();
        let bulk = way.proxy.requests("/_bulk ");
        assert!(bulk.iter().all(|line| line.ends_with(encoding)), "{compression}: {bulk:?}");
    }
}

#[test]
fn a_key_that_is_revoked_under_load_and_given_back_costs_nothing() {
    let key = "VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==";
    // nginx looks whether the file is there at each request.
    let refused = format!(
        "if ($http_authorization != \"ApiKey {key}\") {{ return 401; }}\nif (-f $document_root/revoked) {{ return 401; }}"
    );
    let way = Way::new("revoked", Proxy::start("", "/", &refused));
    way.configure(&format!("tls: {{{}}}, auth: {{api_key: '{key}'}}, retry: {{max_delay: 500ms}}", way.proxy.trust()));
    let target = way.target.clone();
    let log = way.workspace.logs().join("access.log");
    fs::remove_file(&log).expect("it is there");
    let load = Load::start(log, 0, 300);
    let daemon = way.workspace.start(&[]);
    let revoked = way.proxy.dir.path().join("html/revoked");
    fs::create_dir_all(revoked.parent().expect("a directory")).expect("room");
    for round in 1..=2 {
        let reached = load.next() + 300;
        counted(Node::shared(), &target, reached, &daemon);
        fs::write(&revoked, "").expect("room");
        daemon.waits_for("elasticsearch_login");
        until("some attempts", PATIENCE, || (way.proxy.requests("status=401").len() > 5 * round).then_some(()));
        let dropped = way.workspace.run(&["dead-letters", "list", "--output", "json"]).ok();
        assert_eq!(dropped.stdout, "");
        fs::remove_file(&revoked).expect("it was there");
    }
    let lines = load.stop();
    counted(Node::shared(), &target, lines, &daemon);
    assert_eq!(daemon.stop(), Some(0));
    assert_each_is_there_once(Node::shared(), &target, 0..lines);
    way.workspace.assert_proven(lines);
}

#[test]
fn a_certificate_is_replaced_while_lines_come_and_only_one_of_another_authority_is_waited_for() {
    let way = Way::new("renewed", Proxy::start(RELOADABLE, "/", ""));
    way.configure(&format!("tls: {{{}}}, retry: {{max_delay: 500ms}}", way.proxy.trust()));
    let target = way.target.clone();
    let log = way.workspace.logs().join("access.log");
    fs::remove_file(&log).expect("it is there");
    let load = Load::start(log, 0, 300);
    let daemon = way.workspace.start(&[]);
    counted(Node::shared(), &target, load.next() + 100, &daemon);
    // Of the same authority, as every 90 days.
    let same = way.proxy.shown();
    way.proxy.authority.sign("server", SERVER);
    way.proxy.reload();
    until("the new certificate", PATIENCE, || (way.proxy.shown() != same).then_some(()));
    counted(Node::shared(), &target, load.next() + 300, &daemon);
    assert!(!daemon.log().contains("certificate"), "it went on: {}", daemon.log());
    // Of another one.
    let (ours, other) = (way.proxy.authority.dir.path(), Authority::new());
    let keep = |name: &str| fs::copy(ours.join(name), ours.join(format!("kept-{name}"))).expect("room");
    for name in ["server.pem", "server.key"] {
        keep(name);
        fs::copy(other.path(name), ours.join(name)).expect("room");
    }
    let renewed = way.proxy.shown();
    way.proxy.reload();
    until("the other certificate", PATIENCE, || (way.proxy.shown() != renewed).then_some(()));
    daemon.waits_for("certificate");
    until("it to be told", PATIENCE, || {
        let log = daemon.log();
        log.lines().any(|line| line.contains(" WARN ") && line.contains("certificate")).then_some(())
    });
    let before = Node::shared().count(&target);
    // Mended.
    for name in ["server.pem", "server.key"] {
        fs::copy(ours.join(format!("kept-{name}")), ours.join(name)).expect("room");
    }
    way.proxy.reload();
    let lines = load.stop();
    counted(Node::shared(), &target, lines, &daemon);
    assert!(before < lines, "nothing was held: {before} of {lines}");
    assert_eq!(daemon.stop(), Some(0));
    assert_each_is_there_once(Node::shared(), &target, 0..lines);
    way.workspace.assert_proven(lines);
}
