//! The files in `compose/` are what Compose, the specification's schema and hadolint accept; what they promise is so; and
//! the images, followed by hand from the Dockerfile, run as the services say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use integration_tests::container::{Container, Stack, dockerfile, in_context, resolved, tools, words};
use integration_tests::fake::Fake;
use integration_tests::node::{PATIENCE, repository, until};
use integration_tests::{Node, daemon};
use regex::Regex;
use serde_json::{Value, json};

const FILES: [&str; 2] = ["compose.yaml", "compose.laptop.yaml"];

fn file(name: &str) -> String {
    fs::read_to_string(repository().join("compose").join(name)).expect("it is there")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn services(model: &Value) -> impl Iterator<Item = (&String, &Value)> {
    model["services"].as_object().expect("services").iter()
}

#[test]
fn compose_the_schema_and_the_linter_accept_the_files() {
    let output = tools(&["lint"]);
    assert!(output.status.success(), "{}", said(&output));
}

/// What a change does to a copy of `compose/`.
fn broken(name: &str, from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    fs::copy(repository().join("compose/.env"), dir.path().join(".env")).expect("room");
    let text = file(name);
    assert!(text.contains(from), "{name} has no {from}");
    let path = dir.path().join(name);
    fs::write(&path, text.replacen(from, to, 1)).expect("room");
    (dir, path)
}

#[test]
fn a_key_that_is_misspelt_and_a_wrong_instruction_are_refused() {
    for name in FILES {
        let (_dir, path) = broken(name, "mem_limit:", "mem_limits:");
        let path = path.to_str().expect("UTF-8");
        for arguments in [&["schema", path][..], &["compose", "--file", path, "config", "--quiet"]] {
            let output = tools(arguments);
            assert!(!output.status.success() && said(&output).contains("mem_limits"), "{}", said(&output));
        }
    }
    for (from, to, rule) in
        [("debian:12.11-slim", "debian:latest", "DL3007"), ("USER 10001:10001\n", "RUN sudo id\n", "DL3004")]
    {
        let (_dir, path) = broken("Dockerfile", from, to);
        let output = tools(&["hadolint", path.to_str().expect("UTF-8")]);
        assert!(!output.status.success() && said(&output).contains(rule), "{}", said(&output));
    }
}

#[test]
fn every_variable_is_defined_and_every_one_that_is_defined_is_used() {
    let defined = Regex::new(r"(?m)^([A-Z_]+)=(\S+)$").expect("a pattern");
    let env = file(".env");
    let defined: BTreeSet<&str> =
        defined.captures_iter(&env).map(|found| found.get(1).expect("a name").as_str()).collect();
    assert!(!env.to_lowercase().contains("password="), "{env}");
    let used = Regex::new(r"\$\{?([A-Z_]+)").expect("a pattern");
    let texts = FILES.map(file);
    let mut used: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| used.captures_iter(text))
        .map(|found| found.get(1).expect("a name").as_str())
        .collect();
    assert!(used.remove("COMPOSE_PROJECT_NAME"), "Compose itself gives the name of the project");
    assert_eq!(used, defined);
}

#[test]
fn every_service_is_pinned_bounded_watched_and_for_this_machine_only() {
    let tag = Regex::new(r"^docker\.elastic\.co/[a-z]+/[a-z]+:\d+\.\d+\.\d+$").expect("a pattern");
    for name in FILES {
        let model = resolved(name);
        let waited_for: BTreeSet<&String> = services(&model)
            .filter_map(|(_, service)| service["depends_on"].as_object())
            .flatten()
            .filter(|(_, how)| how["condition"] == "service_completed_successfully")
            .map(|(other, _)| other)
            .collect();
        let mut mounted = BTreeSet::new();
        for (service, of) in services(&model) {
            let what = format!("{name}: {service}: {of:#}");
            let image = of["image"].as_str().unwrap_or_default();
            let is_built = services(&model).any(|(_, other)| other["image"] == image && other["build"].is_object());
            assert!(is_built || tag.is_match(image), "{what}");

            // One that goes on says whether it is well; one that ends is waited for.
            assert_ne!(of["healthcheck"]["test"].is_array(), waited_for.contains(service), "{what}");
            assert!(!waited_for.contains(service) || of["restart"].is_null(), "{what}");
            for (other, how) in of["depends_on"].as_object().into_iter().flatten() {
                let healthy = model["services"][other]["healthcheck"].is_object();
                assert!(healthy || how["condition"] == "service_completed_successfully", "{what}");
            }

            let memory: u64 = of["mem_limit"].as_str().and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
            assert!((64 << 20..=4 << 30).contains(&memory), "{what}");
            assert!(words(&of["security_opt"]).contains(&"no-new-privileges:true".to_owned()), "{what}");
            assert!(of["privileged"].is_null() && of["network_mode"] != "host" && of["cap_add"].is_null(), "{what}");
            if is_built {
                assert!(of["read_only"] == true && words(&of["cap_drop"]) == ["ALL"], "{what}");
                assert!(of["pids_limit"].is_u64() && of["user"].is_null(), "{what}");
                // What is made here is never looked for elsewhere.
                assert!(of["build"].is_object() || of["pull_policy"] == "never", "{what}");
            }
            for port in of["ports"].as_array().into_iter().flatten() {
                assert_eq!(port["host_ip"], "127.0.0.1", "{what}");
            }
            for mount in of["volumes"].as_array().into_iter().flatten() {
                let source = mount["source"].as_str().expect("nothing is mounted without a name");
                match mount["type"].as_str() {
                    Some("volume") => drop(mounted.insert(source.to_owned())),
                    Some("bind") => assert!(Path::new(source).is_file() && mount["read_only"] == true, "{what}"),
                    _ => panic!("{what}"),
                }
            }
            // A secret's place may be in the environment, itself never.
            for (key, value) in of["environment"].as_object().into_iter().flatten() {
                let secret = ["PASSWORD", "KEY", "SECRET", "TOKEN"].iter().any(|part| key.contains(part));
                assert!(
                    !secret || (key.ends_with("_FILE") && value.as_str().is_some_and(|path| path.starts_with('/'))),
                    "{what}"
                );
            }
        }
        let declared: BTreeSet<String> = model["volumes"].as_object().expect("volumes").keys().cloned().collect();
        assert_eq!(mounted, declared, "{name}");
    }
}

#[test]
fn images_are_pinned_and_run_as_users_without_a_name() {
    let stages = dockerfile();
    let names: BTreeSet<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    let pinned = Regex::new(r"^[a-z]+:\d+\.\d+[\d.]*-").expect("a pattern");
    let user = Regex::new(r"^[1-9]\d*:[1-9]\d*$").expect("a pattern");
    for stage in &stages {
        assert!(names.contains(stage.from.as_str()) || pinned.is_match(&stage.from), "{}", stage.from);
    }
    let model = resolved(FILES[0]);
    let targets: BTreeSet<&str> =
        services(&model).filter_map(|(_, service)| service["build"]["target"].as_str()).collect();
    assert_eq!(targets, BTreeSet::from(["generator", "logweir", "setup"]));
    for target in targets {
        let stage = stages.iter().find(|stage| stage.name == target).expect("a stage");
        let users: Vec<&str> =
            stage.steps.iter().filter(|step| step.word == "USER").map(|step| step.rest.as_str()).collect();
        assert!(matches!(users[..], [one] if user.is_match(one)), "{target}: {users:?}");
    }
}

/// Cargo's own list of the files that a binary beside the tests was made of, below the repository.
fn made_of(binary: &Path) -> BTreeSet<PathBuf> {
    let list = fs::read_to_string(binary.with_extension("d")).expect("cargo wrote it");
    let files = list.split_once(": ").expect("a rule").1.split_whitespace();
    files.filter_map(|file| Some(Path::new(file).strip_prefix(repository()).ok()?.to_owned())).collect()
}

#[test]
fn the_build_gets_what_the_binaries_are_made_of_and_no_secrets() {
    for name in ["logweir", "logweir-generator"] {
        let files = made_of(&daemon::binary().with_file_name(name));
        assert!(files.len() > 5, "{name}: {files:?}");
        let missing: Vec<_> = files.iter().filter(|file| !in_context(file)).collect();
        assert!(missing.is_empty(), "{name} needs what .dockerignore leaves out: {missing:?}");
    }
    for other in [".git/config", "target/debug/logweir", "compose/.env", "compose/secrets/password", "logweir.yaml"] {
        assert!(!in_context(Path::new(other)), "{other}");
    }

    // The workspace is whole: cargo finds every member and target that a manifest names.
    let context = tempfile::tempdir().expect("a directory");
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .expect("git");
    let files: Vec<PathBuf> = String::from_utf8_lossy(&listed.stdout).lines().map(PathBuf::from).collect();
    let mut sizes = BTreeMap::new();
    for file in files.iter().filter(|file| in_context(file) && repository().join(file).is_file()) {
        let to = context.path().join(file);
        fs::create_dir_all(to.parent().expect("below the context")).expect("room");
        sizes.insert(file, fs::copy(repository().join(file), to).expect("room"));
    }
    assert!(sizes.values().sum::<u64>() < 16 << 20, "the context is large: {sizes:?}");
    let output = Command::new("cargo")
        .args(["metadata", "--locked", "--offline", "--format-version=1", "--no-deps"])
        .current_dir(context.path())
        .stdin(Stdio::null())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", said(&output));
    let tree = ["tree", "--locked", "--offline", "--workspace", "--depth=0"];
    let output = Command::new("cargo").args(tree).current_dir(context.path()).output().expect("cargo");
    assert!(output.status.success(), "{}", said(&output));
}

/// As Elasticsearch answers who has no login.
const NO_LOGIN: &str = "missing authentication credentials for REST request [/]";
/// The API key that the scripted Elasticsearch gives.
const KEY: &str = "bG9nd2VpcjpzZWNyZXQ=";

/// What stands for Elasticsearch and Kibana in the stack's network: nginx with their certificate at their addresses. Behind it
/// are the shared node, a scripted one for what that has not (security), and a scripted Kibana.
struct Servers {
    children: Vec<Child>,
    security: Fake,
    kibana: Fake,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

impl Servers {
    fn start(stack: &Stack) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        let start = || runtime.block_on(Fake::start()).expect("a port");
        let (security, kibana) = (start(), start());
        security.deny("_security/user/kibana_system/_password", 200, "{}");
        let key = json!({"id": "logweir", "name": "logweir", "api_key": "secret", "encoded": KEY});
        security.deny("_security/api_key", 200, &key.to_string());
        security.deny("_security/_authenticate", 200, r#"{"username": "elastic"}"#);

        let set = fs::read_to_string(repository().join("kibana/logweir-8.ndjson")).expect("the built set");
        let objects: Vec<Value> = set.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let absent: Vec<Value> = objects
            .iter()
            .map(|object| json!({"type": object["type"], "id": object["id"], "error": {"statusCode": 404}}))
            .collect();
        let status = json!({"version": {"number": "9.2.0"}, "status": {"overall": {"level": "available"}}});
        kibana.deny("/api/status", 200, &status.to_string());
        let refusal =
            json!({"statusCode": 400, "message": "Error fetching objects", "attributes": {"objects": absent}});
        kibana.deny("_export", 400, &refusal.to_string());
        kibana.deny("_import", 200, &json!({"success": true, "successCount": objects.len()}).to_string());

        let dir = tempfile::tempdir().expect("a directory");
        let certificate = stack.volume("elasticsearch-secrets");
        let tls = format!("ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;", certificate.display());
        let at = |name: &str| dir.path().join(name).display().to_string();
        let [node, socket] = ["elasticsearch.sock", "kibana.sock"].map(at);
        let refusal = json!({"error": {"type": "security_exception", "reason": NO_LOGIN}, "status": 401});
        // A socket in the file system is reached from any network.
        let outside = format!(
            "map $http_authorization $is_known {{ default 0; 'ApiKey {KEY}' 1; }}
            server {{
                listen unix:{node};
                location /_security/ {{ proxy_pass {}; }}
                location / {{
                    default_type application/json;
                    if ($is_known = 0) {{ return 401 '{refusal}'; }}
                    proxy_pass {};
                }}
            }}
            server {{ listen unix:{socket}; location / {{ proxy_pass {}; }} }}",
            security.url(),
            Node::shared().url,
            kibana.url(),
        );
        let inside = format!(
            "server {{ listen 127.0.0.1:9200 ssl; {tls} location / {{ proxy_pass http://unix:{node}:; }} }}
            server {{ listen 127.0.0.1:5601 ssl; {tls} location / {{ proxy_pass http://unix:{socket}:; }} }}"
        );
        let mut servers = Self { children: Vec::new(), security, kibana, runtime, dir };
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        for (name, conf, mut command) in
            [("outside", outside, Command::new("nginx")), ("inside", inside, stack.in_network("nginx"))]
        {
            let home = servers.dir.path().join(name);
            fs::create_dir(&home).expect("room");
            let conf = format!(
                "daemon off; master_process off; user root; pid nginx.pid;
                events {{}}
                http {{
                    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
                    scgi_temp_path s; client_max_body_size 0; access_log off;
                    {conf}
                }}"
            );
            fs::write(home.join("nginx.conf"), conf).expect("room");
            command
                .env("PATH", &path)
                .arg("-p")
                .arg(&home)
                .args(["-e", "error.log", "-c"])
                .arg(home.join("nginx.conf"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            servers.children.push(command.spawn().expect("nginx (Debian: package nginx-light)"));
        }
        servers
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _here = self.runtime.enter();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a service to its end and gathers the arguments and environments of all processes meanwhile.
fn watched(stack: &Stack, service: &str) -> (String, BTreeSet<String>) {
    let mut container = stack.start(service);
    let mut seen = BTreeSet::new();
    let status = until(&format!("the end of {service}"), PATIENCE, || {
        for entry in fs::read_dir("/proc").expect("processes").flatten() {
            for what in ["cmdline", "environ"] {
                let bytes = fs::read(entry.path().join(what)).unwrap_or_default();
                seen.insert(String::from_utf8_lossy(&bytes).replace('\0', " "));
            }
        }
        container.ended()
    });
    assert!(status.success(), "{service}: {status}\n{}", container.log());
    (container.log(), seen)
}

/// Expects that a container runs as its service promises, and can write into what it may and nothing else.
fn assert_is_confined(container: &Container, service: &Value) {
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).expect("it runs");
    let is = |line: &str| {
        assert!(status.lines().any(|have| have.split_whitespace().eq(line.split_whitespace())), "{line}: {status}")
    };
    is("NoNewPrivs: 1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd"] {
        is(&format!("{set}: 0000000000000000"));
    }
    is("Uid: 10001 10001 10001 10001");
    is("Gid: 10001 10001 10001 10001");
    let probe = |directory: &str| format!("touch {directory}/probe && rm {directory}/probe");
    let can_write = |directory: &str| container.shell(&probe(directory));
    for directory in ["", "/etc", "/usr/bin", "/var/lib", "/var/log", "/root"] {
        assert!(!container.shell_as_root(&probe(directory)), "{directory} can be written");
    }
    assert!(can_write("/tmp"));
    for mount in service["volumes"].as_array().expect("volumes") {
        let target = mount["target"].as_str().expect("a path");
        if mount["type"] == "volume" {
            assert_eq!(can_write(target), mount["read_only"] != true, "{target}");
            assert_eq!(container.shell_as_root(&probe(target)), mount["read_only"] != true, "{target}");
        } else {
            assert!(
                container.shell(&format!("test -r {target}")) && !container.shell_as_root(&format!("echo >>{target}"))
            );
        }
    }
}

fn lines_of(directory: &Path, start: &str) -> u64 {
    let files = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let logs = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)));
    logs.map(|log| fs::read_to_string(log).expect("UTF-8").lines().count() as u64).sum()
}

/// In the order in which the services wait for each other.
#[test]
fn the_services_run_as_their_file_says_and_every_line_is_proven_to_be_there() {
    let stack = Stack::new("compose.yaml");
    let read = |volume: &str, name: &str| fs::read_to_string(stack.volume(volume).join(name)).expect("it was made");

    stack.finish("certificates");
    let password = read("elasticsearch-secrets", "elastic-password").trim().to_owned();
    let kibana_password = read("setup-secrets", "kibana-system-password").trim().to_owned();
    assert!(password.len() == 48 && kibana_password.len() == 48 && password != kibana_password);

    let servers = Servers::start(&stack);
    let elasticsearch = stack.stand_in("elasticsearch", "setup", "1000:0");
    until("Elasticsearch's health check", PATIENCE, || {
        elasticsearch.is_healthy(stack.service("elasticsearch")).then_some(())
    });
    // As its entrypoint wants a file with a password, and as it finds its certificate, from its configuration's directory.
    let environment = &stack.service("elasticsearch")["environment"];
    let file = environment["ELASTIC_PASSWORD_FILE"].as_str().expect("a path");
    assert!(elasticsearch.shell(&format!("test \"$(stat -L -c %a {file})\" = 400 && test -r {file}")), "{file}");
    for (key, value) in environment.as_object().expect("settings") {
        if [".key", ".certificate", ".certificate_authorities"].iter().any(|end| key.ends_with(end)) {
            let file = value.as_str().expect("a path");
            assert!(elasticsearch.shell(&format!("test -r /usr/share/elasticsearch/config/{file}")), "{key}: {file}");
        }
    }
    assert!(!elasticsearch.shell("echo >>/usr/share/elasticsearch/config/secrets/elastic-password"));

    // Who asks is the superuser, by a password that no process shows.
    let (log, seen) = watched(&stack, "users");
    assert!(log.contains("API key logweir is made") && log.contains("API key logweir-setup is made"), "{log}");
    assert!(seen.iter().any(|process| process.contains("curl --silent")), "nobody was seen to ask");
    for secret in [&password, &kibana_password, KEY] {
        let shows = seen.iter().find(|process| process.contains(secret));
        assert!(shows.is_none(), "a secret is shown: {shows:?}");
    }
    let asked = servers.security.seen("/_security/");
    let basic = format!("basic {}", base64(&format!("elastic:{password}")));
    assert!(
        asked.len() == 5 && asked.iter().all(|one| one.headers["authorization"].eq_ignore_ascii_case(&basic)),
        "{asked:#?}"
    );
    let set: Value = serde_json::from_str(&servers.security.seen("kibana_system/_password")[0].body).expect("JSON");
    assert_eq!(set, json!({ "password": kibana_password }));
    let keys: Vec<Value> = servers
        .security
        .seen("POST /_security/api_key")
        .iter()
        .map(|one| serde_json::from_str(&one.body).expect("JSON"))
        .collect();
    let roles = &keys[0]["role_descriptors"]["index"];
    assert_eq!((&keys[0]["name"], &roles["cluster"]), (&json!("logweir"), &json!(["monitor"])));
    assert!(
        roles["applications"].is_null()
            && words(&roles["indices"][0]["names"]).iter().all(|name| name.starts_with("logs-") && name.contains('.'))
    );
    assert_eq!(keys[1]["role_descriptors"]["setup"]["applications"][0]["resources"], json!(["space:default"]));

    // What Kibana is started with is there and says what it must.
    let kibana = stack.stand_in("kibana", "setup", "1000:0");
    let configurations = words(&stack.service("kibana")["command"]);
    let configurations: Vec<&str> = configurations.iter().filter_map(|word| word.strip_prefix("--config=")).collect();
    assert_eq!(configurations.len(), 2);
    for file in configurations {
        let output = kibana.exec(&["cat".to_owned(), file.to_owned()]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{file}");
        for path in text.split(['"', ' ', '[', ']', '\n']).filter(|word| word.starts_with('/')) {
            assert!(kibana.shell(&format!("test -r {path}")), "{file}: {path}");
        }
        assert_eq!(
            text.contains(&format!("elasticsearch.password: {kibana_password}\n")),
            file.ends_with("secrets.yml")
        );
    }
    until("Kibana's health check", PATIENCE, || kibana.is_healthy(stack.service("kibana")).then_some(()));

    let log = stack.finish("setup");
    assert!(
        log.contains("_index_template/logweir-shop.access")
            && log.contains("_index_template/logweir-logweir.metrics")
            && log.contains("imported"),
        "{log}"
    );
    let import = servers.kibana.seen("_import");
    assert!(matches!(&import[..], [one] if one.headers["authorization"] == format!("ApiKey {KEY}")), "{import:?}");

    let access = stack.start("generator");
    let is_healthy = |container: &Container, service: &str| {
        until(&format!("{service}: its health check\n{}", container.log()), PATIENCE, || {
            container.is_healthy(stack.service(service)).then_some(())
        });
    };
    is_healthy(&access, "generator");
    let application = stack.start("application");
    is_healthy(&application, "application");
    let logweir = stack.start("logweir");
    is_healthy(&logweir, "logweir");
    let output = logweir.exec(&["/usr/bin/logweir", "check"].map(ToOwned::to_owned));
    assert!(output.status.success(), "{}", said(&output));
    assert_is_confined(&access, stack.service("generator"));
    assert_is_confined(&logweir, stack.service("logweir"));

    let node = Node::shared();
    let targets = ["logs-shop.access-default", "logs-shop.application-default"];
    for target in targets {
        until(&format!("documents in {target}\n{}", logweir.log()), PATIENCE, || {
            (node.count(target) > 100).then_some(())
        });
    }
    assert_eq!((access.stop(), application.stop()), (Some(0), Some(0)));
    let logs = stack.volume("logs");
    let lines = ["access.log", "application.json"].map(|start| lines_of(&logs, start));
    for (target, lines) in targets.iter().zip(lines) {
        until(&format!("{lines} documents in {target}"), PATIENCE, || (node.count(target) == lines).then_some(()));
    }
    until("what logweir says of itself", PATIENCE, || (node.count("logs-logweir.metrics-default") >= 3).then_some(()));
    // Checkpoints follow within a second; `verify` compares no further than they are.
    until("the proof of every line", PATIENCE, || {
        let output = logweir.exec(&["/usr/bin/logweir", "verify", "--output", "json"].map(ToOwned::to_owned));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        assert!(output.status.success() && report["proven"] == true, "{report:#}");
        (report["total"]["lines"] == lines.iter().sum::<u64>()).then_some(())
    });
    let log = logweir.log();
    assert_eq!(logweir.stop(), Some(0), "{log}");
    assert!(!log.contains(" ERROR "), "{log}");

    // Once more, as a second `up` does: what is there is kept.
    let before =
        ["ca.pem", "server.pem", "server.key", "kibana-system-password"].map(|name| read("setup-secrets", name));
    stack.finish("certificates");
    let log = stack.finish("users");
    assert!(log.ends_with("API key logweir is kept\nAPI key logweir-setup is kept\n"), "{log}");
    let after =
        ["ca.pem", "server.pem", "server.key", "kibana-system-password"].map(|name| read("setup-secrets", name));
    assert!(before == after && read("elasticsearch-secrets", "elastic-password").trim() == password);
}

fn base64(text: &str) -> String {
    let script = "printf %s \"$0\" | base64 -w0";
    let output = Command::new("sh").args(["-c", script, text]).output().expect("a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
