//! The files in `compose/` are what Compose, the specification's schema and hadolint accept; what they promise is so; and
//! the images, followed by hand from the Dockerfile, run as the services say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use integration_tests::container::{dockerfile, in_context, resolved, tools, words};
use integration_tests::daemon;
use integration_tests::node::repository;
use regex::Regex;
use serde_json::Value;

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
    let used: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| used.captures_iter(text))
        .map(|found| found.get(1).expect("a name").as_str())
        .collect();
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
