//! `logweir setup --dashboards` against a scripted Kibana: what is imported, what is told, and what is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use integration_tests::kibana::{Kibana, Twist};
use integration_tests::nginx::Nginx;
use integration_tests::node::repository;
use integration_tests::{Node, Run, Workspace};
use serde_json::{Value, json};

const HTML: &str = "<html><body>Welcome to the hotel's network</body></html>";

/// A configuration for `kibana`, whose templates are somebody else's.
fn workspace(url: &str, kibana: &str) -> Workspace {
    let workspace = Workspace::for_url("http://127.0.0.1:9");
    configure(&workspace, "urls: ['{url}'], setup: false", &format!("url: '{url}', {kibana}"));
    workspace
}

fn configure(workspace: &Workspace, elasticsearch: &str, kibana: &str) {
    workspace.configure(
        "  - {name: web, paths: ['{logs}/*.log'], format: combined, dataset: boards}",
        &format!("elasticsearch: {{{elasticsearch}}}\nkibana: {{{kibana}}}"),
    );
}

fn setup(workspace: &Workspace, more: &[&str]) -> Run {
    workspace.run(&[&["setup", "--dashboards"], more].concat())
}

/// How often a line of the output ends with `end`.
fn count(run: &Run, end: &str) -> usize {
    run.stdout.lines().filter(|line| line.ends_with(end)).count()
}

/// The lines of one of the built files.
fn built(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(repository().join("kibana").join(name)).expect("it is built");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn name_of(object: &Value) -> String {
    format!("{}/{}", object["type"].as_str().expect("a type"), object["id"].as_str().expect("an id"))
}

/// The built file for Kibana 8 and 9 as names, and one of its visualizations and dashboards.
fn eight() -> (BTreeSet<String>, String, String) {
    let names: BTreeSet<String> = built("logweir-8.ndjson").iter().map(name_of).collect();
    let first = |kind: &str| {
        let id = names.iter().find_map(|name| name.strip_prefix(kind)).expect("there is one");
        id.to_owned()
    };
    let (visualization, dashboard) = (first("visualization/"), first("dashboard/"));
    (names, visualization, dashboard)
}

/// A run that fails, says so, and imports nothing.
fn fails(kibana: &Kibana, workspace: &Workspace, status: i32, words: &[&str]) {
    let before = kibana.names("default");
    let run = setup(workspace, &[]);
    assert_eq!(run.status, Some(status), "{}\n{}", run.stdout, run.stderr);
    for words in words {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
    assert_eq!(kibana.names("default"), before);
}

#[test]
fn every_kibana_gets_the_set_of_its_line_and_a_second_run_changes_nothing() {
    for (version, file) in [
        ("7.10.2", "logweir-7.ndjson"),
        ("7.17.29", "logweir-7.ndjson"),
        ("8.7.1", "logweir-7.ndjson"),
        ("8.8.0", "logweir-8.ndjson"),
        ("8.19.0", "logweir-8.ndjson"),
        ("9.2.0", "logweir-8.ndjson"),
        ("2.8.0", "logweir-7.ndjson"),
        ("3.3.0", "logweir-7.ndjson"),
    ] {
        let kibana = Kibana::start(version);
        let workspace = workspace(&kibana.url(), "");
        let objects = built(file);
        let run = setup(&workspace, &[]).ok();
        assert_eq!(count(&run, ": created"), objects.len(), "{version}: {}", run.stdout);
        assert!(
            run.stdout.contains(&format!("{version}: imported {0} of {0} objects", objects.len())),
            "{}",
            run.stdout
        );
        assert_eq!(kibana.names("default"), objects.iter().map(name_of).collect(), "{version}");
        let title = |object: &Value| object["attributes"]["title"].clone();
        for object in &objects {
            let (kind, id) = (object["type"].as_str().expect("a type"), object["id"].as_str().expect("an id"));
            let there = kibana.object("default", kind, id).expect("it is there");
            assert_eq!(title(&there), title(object), "{version}");
        }
        let again = setup(&workspace, &[]).ok();
        assert_eq!(count(&again, ": unchanged"), objects.len(), "{version}: {}", again.stdout);
        assert!(again.stdout.contains(&format!("nothing to change in {} objects", objects.len())), "{}", again.stdout);
        assert_eq!(kibana.seen("_import").len(), 1, "{version}: imported again");
    }
}

#[test]
fn a_dry_run_tells_what_would_be_done_and_writes_nothing() {
    let (names, visualization, dashboard) = eight();
    let kibana = Kibana::start("9.2.0");
    let workspace = workspace(&kibana.url(), "");
    let dry = setup(&workspace, &["--dry-run"]).ok();
    assert_eq!(count(&dry, ": would be created"), names.len(), "{}", dry.stdout);
    assert!(kibana.names("default").is_empty());
    let _ = setup(&workspace, &[]).ok();
    kibana.retitle("default", "visualization", &visualization, "mine");
    kibana.remove("default", "dashboard", &dashboard);
    let dry = setup(&workspace, &["--dry-run"]).ok();
    assert!(
        dry.stdout.contains(&format!(
            "visualization/{visualization}: would be replaced\n  it was changed in Kibana at 2026-11-22T10:00:02"
        )),
        "{}",
        dry.stdout
    );
    assert!(dry.stdout.contains(&format!("dashboard/{dashboard}: would be created\n")), "{}", dry.stdout);
    assert_eq!(count(&dry, ": unchanged"), names.len() - 2, "{}", dry.stdout);
    assert_eq!(kibana.seen("_import").len(), 1, "a dry run imports");
    assert_eq!(
        kibana.object("default", "visualization", &visualization).expect("it is there")["attributes"]["title"],
        "mine"
    );
}

#[test]
fn what_others_made_of_our_ids_is_told_before_it_is_replaced() {
    let (names, visualization, dashboard) = eight();
    let kibana = Kibana::start("8.19.0");
    let workspace = workspace(&kibana.url(), "");
    kibana.put("default", "dashboard", &dashboard, &json!({"title": "somebody else's"}));
    kibana.put(
        "default",
        "index-pattern",
        "logweir-logs",
        &json!({"title": "app-*", "fieldAttrs": "{\"a\":{\"count\":1}}"}),
    );
    // Told although the import fails.
    kibana.twist("_import", Twist::Say(500, "application/json", "{\"message\": \"no\"}".to_owned()));
    let run = setup(&workspace, &[]);
    assert_eq!(run.status, Some(69), "{}\n{}", run.stdout, run.stderr);
    let foreign = format!("dashboard/{dashboard}: will be replaced\n  it is not as `logweir setup` left it");
    assert!(run.stdout.contains(&foreign), "{}", run.stdout);
    kibana.relent();
    let run = setup(&workspace, &[]).ok();
    assert!(run.stdout.contains(&foreign), "{}", run.stdout);
    assert!(
        run.stdout.contains("index-pattern/logweir-logs: will be replaced\n  lost is what it has in fieldAttrs\n"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("  - title: app-*\n  + title: logs-*\n"), "{}", run.stdout);
    assert_eq!(count(&run, ": created"), names.len() - 2, "{}", run.stdout);
    assert_ne!(
        kibana.object("default", "dashboard", &dashboard).expect("it is there")["attributes"]["title"],
        "somebody else's"
    );
    kibana.retitle("default", "visualization", &visualization, "mine");
    let run = setup(&workspace, &[]).ok();
    assert!(
        run.stdout.contains(&format!("visualization/{visualization}: will be replaced\n  it was changed in Kibana at")),
        "{}",
        run.stdout
    );
    assert_eq!(count(&run, ": unchanged"), names.len() - 1, "{}", run.stdout);
    let run = setup(&workspace, &[]).ok();
    assert_eq!(count(&run, ": unchanged"), names.len(), "{}", run.stdout);
}

#[test]
fn the_configured_indices_are_those_that_the_boards_show_and_another_choice_is_an_update() {
    let kibana = Kibana::start("7.17.29");
    let workspace = workspace(&kibana.url(), "");
    let _ = setup(&workspace, &[]).ok();
    let shown = || {
        kibana.object("default", "index-pattern", "logweir-logs").expect("it is there")["attributes"]["title"].clone()
    };
    assert_eq!(shown(), "logs-*");
    let set = ["--set", "kibana.index_pattern=web-*"];
    let run = setup(&workspace, &set).ok();
    assert!(run.stdout.contains("index-pattern/logweir-logs: updated\n"), "{}", run.stdout);
    assert_eq!(shown(), "web-*");
    let run = setup(&workspace, &set).ok();
    assert!(run.stdout.contains("nothing to change"), "{}", run.stdout);
    // No TSVB visualization still asks the indices that the file names.
    for name in kibana.names("default") {
        let (kind, id) = name.split_once('/').expect("kind/id");
        let object = kibana.object("default", kind, id).expect("it is there").to_string();
        assert!(!object.contains("index_pattern\\\": \\\"logs-*"), "{object}");
    }
}

#[test]
fn what_is_too_old_is_refused_before_anything_is_asked_of_it() {
    for (version, name) in
        [("7.9.3", "kibana 7.9.3"), ("6.8.23", "kibana 6.8.23"), ("1.3.20", "opensearch dashboards 1.3.20")]
    {
        let kibana = Kibana::start("9.2.0");
        let status = json!({"version": {"number": version}, "status": {"overall": {"state": "green"}}});
        kibana.twist("/api/status", Twist::Say(200, "application/json", status.to_string()));
        fails(
            &kibana,
            &workspace(&kibana.url(), ""),
            78,
            &[name, "too old", "Kibana 7.10 or OpenSearch Dashboards 2.0"],
        );
        assert_eq!(kibana.seen("saved_objects"), [""; 0]);
    }
}

#[test]
fn objects_that_are_too_new_for_a_kibana_are_refused_whole_with_its_own_words() {
    let kibana = Kibana::start("7.17.29");
    kibana.newest("dashboard", "7.0.0");
    fails(&kibana, &workspace(&kibana.url(), ""), 69, &["status 422", "more recent version of Kibana", "report it"]);
}

#[test]
fn a_login_that_is_missing_or_wrong_is_told_with_the_key_to_set() {
    let kibana = Kibana::start("9.2.0");
    kibana.login("ApiKey right", false);
    fails(
        &kibana,
        &workspace(&kibana.url(), ""),
        78,
        &["tells its version only to who is logged in", "set kibana.auth"],
    );
    let wrong = workspace(&kibana.url(), "auth: {api_key: wrong}");
    fails(&kibana, &wrong, 78, &["does not know the login in kibana.auth"]);
    let _ = setup(&workspace(&kibana.url(), "auth: {api_key: right}"), &["--dry-run"]).ok();
    // Where the status is for everybody.
    kibana.login("ApiKey right", true);
    fails(&kibana, &wrong, 69, &["status 401", "missing authentication credentials", "check kibana.auth"]);
    // The login of Elasticsearch is used where Kibana has none of its own.
    let shared = Workspace::for_url("http://127.0.0.1:9");
    configure(&shared, "urls: ['{url}'], setup: false, auth: {api_key: right}", &format!("url: '{}'", kibana.url()));
    let _ = setup(&shared, &[]).ok();
    assert!(!kibana.names("default").is_empty());
}

#[test]
fn a_privilege_that_is_missing_is_named() {
    let kibana = Kibana::start("9.2.0");
    let workspace = workspace(&kibana.url(), "");
    kibana.protect("dashboard");
    let needs = "the Kibana privilege All on Dashboard, Visualize Library, Discover and Data View Management";
    fails(&kibana, &workspace, 69, &["status 403", "Unable to bulk_create dashboard", needs]);
    kibana.hide("index-pattern");
    fails(&kibana, &workspace, 69, &["status 403", "Unable to bulk_get index-pattern", needs]);
}

#[test]
fn each_object_that_could_not_be_imported_is_named_with_its_reason() {
    let kibana = Kibana::start("8.19.0");
    kibana.forget("index-pattern");
    let run = setup(&workspace(&kibana.url(), ""), &[]);
    assert_eq!(run.status, Some(69), "{}\n{}", run.stdout, run.stderr);
    assert_eq!(count(&run, ": created"), 0, "{}", run.stdout);
    let total = built("logweir-8.ndjson").len();
    assert!(run.stderr.contains(&format!("kibana imported 0 of {total} objects")), "{}", run.stderr);
    assert!(run.stderr.contains("index-pattern/logweir-logs: this Kibana does not know its type"), "{}", run.stderr);
    let missing = "refers to what is not there: index-pattern/logweir-logs";
    assert!(run.stderr.contains(missing), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), total + 1, "{}", run.stderr);
}

#[test]
fn conflicts_that_kibana_does_not_resolve_are_told() {
    let kibana = Kibana::start("8.19.0");
    let conflict = |error: Value| json!({"type": "search", "id": "logweir-a", "error": error});
    let answer = json!({"success": false, "successCount": 3, "errors": [
        conflict(json!({"type": "conflict", "destinationId": "other"})),
        conflict(json!({"type": "ambiguous_conflict", "destinations": [{"id": "one"}, {"id": "two"}]})),
    ]});
    kibana.twist("_import", Twist::Say(200, "application/json", answer.to_string()));
    let told = [
        "kibana imported 3 of",
        "search/logweir-a: conflicts with `other`",
        "conflicts with several that were imported from it: one, two",
    ];
    fails(&kibana, &workspace(&kibana.url(), ""), 69, &told);
}

#[test]
fn what_stands_before_kibana_may_answer_anything_and_nothing_of_it_is_taken_for_an_answer() {
    let kibana = Kibana::start("9.2.0");
    let workspace = workspace(&kibana.url(), "");
    let html = |status| Twist::Say(status, "text/html", HTML.to_owned());
    let says = |status, text: &str| Twist::Say(status, "application/json", text.to_owned());
    for part in ["api/status", "_export", "_import"] {
        kibana.twist(part, html(200));
        fails(
            &kibana,
            &workspace,
            69,
            &["another server than kibana answers", part, "check kibana.url", "Welcome to the hotel"],
        );
        kibana.relent();
        kibana.twist(part, html(502));
        fails(&kibana, &workspace, 69, &["status 502", "try again when it is up"]);
        kibana.relent();
        kibana.twist(part, Twist::Lose);
        let run = setup(&workspace, &[]);
        assert_eq!(run.status, Some(69), "{}\n{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("kibana: no whole answer from"), "{}", run.stderr);
        kibana.relent();
        if part != "_import" {
            continue;
        }
        assert!(run.stderr.contains("it may have imported them all the same: run it again"), "{}", run.stderr);
        let again = setup(&workspace, &[]).ok();
        assert!(again.stdout.contains("nothing to change"), "it was done: {}", again.stdout);
    }
    for (part, answer, words) in [
        ("/api/status", says(503, "Kibana server is not ready yet"), "Kibana server is not ready yet"),
        ("/api/status", says(200, "{\"status\": \"ok\"}"), "another server"),
        ("_export", says(200, ""), "another server"),
        ("_export", says(400, "{\"message\": \"Trying to export what cannot be\"}"), "Trying to export what cannot be"),
    ] {
        kibana.twist(part, answer);
        fails(&kibana, &workspace, 69, &[words]);
        kibana.relent();
    }
    kibana.remove("default", "index-pattern", "logweir-logs");
    kibana.twist("_import", says(200, "{\"success\": true, \"successCount\": 0}"));
    fails(&kibana, &workspace, 69, &["says success, but imported only 0 of 1 objects"]);
}

#[test]
fn an_import_that_is_too_large_for_kibana_or_a_proxy_names_the_limits() {
    let kibana = Kibana::start("9.2.0");
    kibana.limit(100);
    let limits = ["status 413", "savedObjects.maxImportPayloadBytes", "client_max_body_size"];
    fails(&kibana, &workspace(&kibana.url(), ""), 69, &limits);
}

#[test]
fn a_space_gets_boards_of_its_own_and_the_others_stay_as_they_are() {
    let (names, ..) = eight();
    for version in ["7.17.29", "9.2.0"] {
        let kibana = Kibana::start(version);
        kibana.space("ops");
        let default = workspace(&kibana.url(), "space: default");
        let ops = workspace(&kibana.url(), "space: ops");
        let _ = setup(&default, &[]).ok();
        let before = kibana.names("default");
        let run = setup(&ops, &[]).ok();
        assert_eq!(kibana.names("default"), before);
        let in_ops: BTreeSet<String> = before.iter().map(|name| format!("{name}-ops")).collect();
        assert_eq!(kibana.names("ops"), in_ops, "{}", run.stdout);
        assert!(run.stdout.contains(&format!("kibana {version}, space ops: imported")), "{}", run.stdout);
        assert!(run.stdout.contains("/s/ops/app/dashboards#/view/logweir-"), "{}", run.stdout);
        // Links and references stay in the space.
        for name in &in_ops {
            let (kind, id) = name.split_once('/').expect("kind/id");
            let object = kibana.object("ops", kind, id).expect("it is there");
            for reference in object["references"].as_array().expect("a list") {
                assert!(in_ops.contains(&name_of(reference)), "{name} refers to {reference}");
            }
            let text = object.to_string();
            for name in &names {
                let (_, id) = name.split_once('/').expect("kind/id");
                assert!(!text.contains(&format!("#/view/{id})")), "{id} of another space in {text}");
            }
        }
        for workspace in [&default, &ops] {
            let run = setup(workspace, &[]).ok();
            assert!(run.stdout.contains("nothing to change"), "{}", run.stdout);
        }
    }
}

#[test]
fn a_space_that_is_not_there_is_refused_with_those_that_are() {
    let kibana = Kibana::start("9.2.0");
    kibana.space("ops");
    let told = ["kibana.space: there is no space `opps`", "`default`, `ops`"];
    let wrong = workspace(&kibana.url(), "space: opps");
    fails(&kibana, &wrong, 78, &told);
    let check = wrong.run(&["check", "--set", &format!("elasticsearch.urls=[\"{}\"]", Node::shared().url)]);
    assert!(check.status == Some(78) && check.stderr.contains(told[0]), "{}", check.stderr);
    kibana.twist(
        "/api/spaces/space/ops",
        Twist::Say(403, "application/json", "{\"message\": \"Unauthorized to get ops space\"}".to_owned()),
    );
    fails(&kibana, &workspace(&kibana.url(), "space: ops"), 69, &["status 403", "Unauthorized to get ops space"]);
    let opensearch = Kibana::start("2.8.0");
    fails(&opensearch, &workspace(&opensearch.url(), "space: ops"), 78, &["OpenSearch Dashboards has no spaces"]);
    assert_eq!(kibana.seen("_import").len() + opensearch.seen("_import").len(), 0);
}

#[test]
fn a_base_path_is_part_of_the_address() {
    let kibana = Kibana::start("9.2.0");
    kibana.base("/boards");
    kibana.space("ops");
    for (url, more) in [(kibana.url(), ""), (format!("{}/", kibana.url()), "space: ops")] {
        let run = setup(&workspace(&url, more), &[]).ok();
        assert!(run.stdout.contains(": imported "), "{}", run.stdout);
        assert!(run.stdout.contains("/boards/"), "{}", run.stdout);
    }
    let beside: Vec<String> = kibana.seen("").into_iter().filter(|line| !line.contains(" /boards/")).collect();
    assert_eq!(beside, [""; 0]);
    let without = kibana.url().replace("/boards", "");
    fails(&kibana, &workspace(&without, ""), 69, &["status 404", "is the base path part of it?"]);
}

#[test]
fn tls_with_basic_login_and_with_an_api_key_below_a_base_path_works_through_a_real_proxy() {
    let kibana = Kibana::start("9.2.0");
    // logweir:right
    kibana.login("Basic bG9nd2VpcjpyaWdodA==", false);
    let proxy = Nginx::with_login(&kibana.url(), "right");
    let trust = format!("tls: {{{}}}", proxy.trust());
    let with = |auth: &str| workspace(&proxy.url(), &format!("{trust}, auth: {{{auth}}}"));
    let run = setup(&workspace(&proxy.url(), "auth: {username: logweir, password: right}"), &[]);
    assert!(run.status == Some(69) && run.stderr.contains("certificate"), "{}", run.stderr);
    let run = setup(&with("username: logweir, password: wrong"), &[]);
    assert!(run.status == Some(69) && run.stderr.contains("status 401"), "{}", run.stderr);
    assert_eq!(kibana.seen(""), [""; 0]);
    let run = setup(&with("username: logweir, password: right"), &[]).ok();
    assert!(run.stdout.contains(": imported "), "{}", run.stdout);

    let kibana = Kibana::start("8.19.0");
    kibana.login("ApiKey a2V5OnNlY3JldA==", false);
    let proxy = Nginx::start(&kibana.url(), "", "/kibana/", "");
    let key = Workspace::for_url("http://127.0.0.1:9");
    let file: PathBuf = key.path("key");
    fs::write(&file, "a2V5OnNlY3JldA==\n").expect("room");
    let sections = format!(
        "url: '{}/kibana', tls: {{{}}}, auth: {{api_key_file: '{}'}}",
        proxy.url(),
        proxy.trust(),
        file.display()
    );
    configure(&key, "urls: ['{url}'], setup: false", &sections);
    let run = setup(&key, &[]).ok();
    assert!(run.stdout.contains(": imported "), "{}", run.stdout);
    let run = setup(&key, &[]).ok();
    assert!(run.stdout.contains("nothing to change"), "{}", run.stdout);
    assert_eq!(proxy.requests("_import").len(), 1);
}

#[test]
fn templates_come_first_and_where_they_fail_kibana_is_not_asked() {
    let kibana = Kibana::start("9.2.0");
    let workspace = Workspace::for_url(&Node::shared().url);
    let configure = |elasticsearch: &str| configure(&workspace, elasticsearch, &format!("url: '{}'", kibana.url()));
    configure("urls: ['http://127.0.0.1:9']");
    let run = setup(&workspace, &[]);
    assert!(run.status == Some(69) && kibana.seen("").is_empty(), "{}\n{}", run.stdout, run.stderr);
    configure("urls: ['{url}']");
    let dry = setup(&workspace, &["--dry-run"]).ok();
    assert!(dry.stdout.contains("_index_template/logweir-boards: would be created"), "{}", dry.stdout);
    let run = setup(&workspace, &[]).ok();
    let at = |words: &str| run.stdout.find(words).unwrap_or_else(|| panic!("{words}: {}", run.stdout));
    assert!(at("_index_template/logweir-boards: created") < at("index-pattern/logweir-logs: created"));
    // Plain setup does not know Kibana.
    let asked = kibana.seen("").len();
    let plain = workspace.run(&["setup"]).ok();
    assert!(plain.stdout.contains("_index_template/logweir-boards: unchanged"), "{}", plain.stdout);
    assert_eq!(kibana.seen("").len(), asked);
    // Neither does a Kibana without an address.
    let run = setup(&workspace, &["--set", "kibana.url=null"]);
    assert!(run.status == Some(78) && run.stderr.contains("kibana.url: is not set"), "{}", run.stderr);
}

#[test]
fn check_says_which_kibana_answers_and_whether_the_boards_can_be_had_there() {
    for (version, name, fit) in [
        ("9.2.0", "kibana 9.2.0", true),
        ("2.8.0", "opensearch dashboards 2.8.0", true),
        ("7.9.3", "kibana 7.9.3", false),
    ] {
        let kibana = Kibana::start(version);
        let workspace = workspace(&kibana.url(), "");
        let node = format!("elasticsearch.urls=[\"{}\"]", Node::shared().url);
        let run = workspace.run(&["check", "--set", &node]).ok();
        assert!(run.stderr.contains(&format!("{name} answers")), "{}", run.stderr);
        assert_eq!(run.stderr.contains("no dashboards: "), !fit, "{}", run.stderr);
        assert_eq!(kibana.seen("POST"), [""; 0], "check writes nothing");
        if version == "9.2.0" {
            kibana.space("ops");
            let run = workspace.run(&["check", "--set", &node, "--set", "kibana.space=ops"]).ok();
            assert!(run.stderr.contains("kibana 9.2.0 answers, space ops is there"), "{}", run.stderr);
        }
    }
}
