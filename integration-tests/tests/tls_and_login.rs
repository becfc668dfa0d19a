//! TLS, logins, base paths and compression, with a real nginx in front of the real node.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use integration_tests::nginx::{Authority, Nginx, RELOADABLE, SERVER, WORDS};
use integration_tests::node::{PATIENCE, until};
use integration_tests::numbered::{Load, assert_each_is_there_once, counted};
use integration_tests::{Daemon, Node, Run, Workspace};
use serde_json::json;

const LINES: usize = 300;

fn node() -> &'static str {
    &Node::shared().url
}

/// A log that is indexed by way of a proxy.
struct Way {
    workspace: Workspace,
    proxy: Nginx,
    target: String,
    dataset: String,
}

impl Way {
    fn new(name: &str, proxy: Nginx) -> Self {
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
    let way = Way::new("trusted", Nginx::plain(node()));
    way.configure(&format!("tls: {{{}}}", way.proxy.trust()));
    way.assert_works();
}

#[test]
fn an_authority_that_is_not_configured_is_not_trusted_and_the_message_says_certificate() {
    let way = Way::new("untrusted", Nginx::plain(node()));
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
    let way = Way::new("later", Nginx::plain(node()));
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
    let way = Way::new("insecure", Nginx::plain(node()));
    way.configure("tls: {insecure: true}");
    way.assert_works();
}

#[test]
fn a_right_password_is_let_in() {
    let way = Way::new("login", Nginx::with_login(node(), "päss word!"));
    let auth = "auth: {username: logweir, password: 'päss word!'}";
    way.configure(&format!("tls: {{{}}}, {auth}", way.proxy.trust()));
    way.assert_works();
}

#[test]
fn a_wrong_password_holds_everything_and_drops_nothing() {
    let way = Way::new("wrong", Nginx::with_login(node(), "right"));
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
    let way = Way::new("changed", Nginx::with_login(node(), "right"));
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
    let way = Way::new("apikey", Nginx::start(node(), "", "/", &location));
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
    let proxy = Nginx::start(
        node(),
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
    let way = Way::new("base", Nginx::start(node(), "", "/es/", ""));
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
        let way = Way::new(&format!("compression.{compression}"), Nginx::plain(node()));
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
    let way = Way::new("revoked", Nginx::start(node(), "", "/", &refused));
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
    let way = Way::new("renewed", Nginx::start(node(), RELOADABLE, "/", ""));
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
