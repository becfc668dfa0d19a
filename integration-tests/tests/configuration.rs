//! Wrong configurations stop the start, naming file, key, value and what would be right.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use integration_tests::daemon::binary;
use integration_tests::{Node, Run, Workspace};

/// Nothing answers on the port "discard" of this machine.
const NOBODY: &str = "http://127.0.0.1:9";

const SOURCE: &str = "sources:\n  - {name: web, paths: ['{logs}/*.log'], format: combined, dataset: wrong}\n";

/// The whole configuration, as written.
fn configured(text: &str) -> Workspace {
    let workspace = Workspace::for_url(NOBODY);
    let state = "checkpoint: {path: '{dir}/state'}\ndead_letters: {path: '{dir}/dead-letters'}\n";
    let text = format!("{text}{}", if text.contains("checkpoint:") { "" } else { state });
    let text = text.replace("{dir}", workspace.dir().to_str().expect("UTF-8"));
    let text = text.replace("{logs}", workspace.logs().to_str().expect("UTF-8"));
    std::fs::write(workspace.path("logweir.yaml"), text).expect("room");
    workspace
}

/// Expects that `run` ends with 78 and says all of `words` on one line of standard error, behind the file and `line`.
fn check(text: &str, line: usize, words: &[&str]) {
    let workspace = configured(text);
    let run = workspace.run(&["run", "--once", "--deadline", "20s"]);
    let place = format!("{}:{line}: ", workspace.path("logweir.yaml").display());
    assert_refused(&run, &[&[place.as_str()], words].concat());
    assert!(!workspace.path("state").is_dir(), "a wrong configuration must leave nothing behind");
}

fn assert_refused(run: &Run, words: &[&str]) {
    assert_eq!(run.status, Some(78), "{}\n{}", run.stdout, run.stderr);
    let said = run.stderr.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(said, "{words:?} not on one line of\n{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// `logweir` with these arguments and nothing else.
fn logweir(arguments: &[&str], directory: &Path) -> Run {
    let output = Command::new(binary())
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn an_unknown_key_is_answered_with_its_nearest_neighbour() {
    check(&format!("{SOURCE}batch:\n  max_byte: 1MiB\n"), 4, &["batch.max_byte", "did you mean `max_bytes`?"]);
    check(&format!("{SOURCE}elasticserch: {{}}\n"), 3, &["elasticserch", "did you mean `elasticsearch`?"]);
    check(
        "sources:\n  - name: web\n    path: ['/x']\n    dataset: d\n",
        3,
        &["sources.0.path", "did you mean `paths`?"],
    );
}

#[test]
fn a_size_or_time_without_a_unit_is_answered_with_one_that_has() {
    check(&format!("{SOURCE}batch: {{max_bytes: 8388608}}\n"), 3, &["batch.max_bytes", "`8388608`", "`8MiB`"]);
    check(&format!("{SOURCE}batch: {{max_age: 5}}\n"), 3, &["batch.max_age", "`5`", "`5s` or `5ms`"]);
}

#[test]
fn a_value_of_the_wrong_kind_is_answered_with_the_right_kind() {
    check(&format!("{SOURCE}read: {{notify: 1}}\n"), 3, &["read.notify", "`1`", "`true` nor `false`"]);
    check(
        &format!("{SOURCE}elasticsearch: {{compression: zip}}\n"),
        3,
        &["elasticsearch.compression", "`zip`", "`auto`, `off` or `gzip`"],
    );
    check(&format!("{SOURCE}elasticsearch: {{urls: ['localhost:9200']}}\n"), 3, &["elasticsearch.urls.0", "http://"]);
}

#[test]
fn every_wrong_line_is_named_at_once() {
    let workspace = configured(&format!("{SOURCE}batch: {{max_bytes: 1, max_age: 1}}\nread: {{x: 1}}\n"));
    let run = workspace.run(&["run"]);
    for words in [["yaml:3: ", "batch.max_bytes"], ["yaml:3: ", "batch.max_age"], ["yaml:4: ", "read.x"]] {
        assert_refused(&run, &words);
    }
}

#[test]
fn a_missing_data_set_and_missing_sources_are_named() {
    check("sources:\n  - {name: web, paths: ['/x']}\n", 2, &["sources.0", "`dataset` is missing"]);
    let run = configured("host: a\n").run(&["run", "--once"]);
    assert_refused(&run, &["sources", "there is none"]);
}

#[test]
fn two_sources_with_one_glob_are_named() {
    let text = "sources:\n  - {name: one, paths: ['/x/*.log'], dataset: d}\n  - {name: two, paths: ['/x/*.log'], dataset: e}\n";
    check(text, 3, &["sources.1.paths.0", "`/x/*.log`", "`one`"]);
}

#[test]
fn two_sources_that_claim_one_file_are_named_with_it() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    workspace.configure(
        "  - {name: one, paths: ['{logs}/*.log'], format: text, dataset: claim.one}\n  \
         - {name: two, paths: ['{logs}/a*'], format: text, dataset: claim.two}",
        "",
    );
    std::fs::write(workspace.logs().join("a.log"), "x\n").expect("room");
    for arguments in [&["run", "--once"][..], &["run"]] {
        assert_refused(&workspace.run(arguments), &["a.log", "one", "two", "exclude"]);
    }
    assert_eq!(node.count("logs-claim.two-default"), 0);
}

#[test]
fn a_format_that_cannot_tell_its_fields_apart_is_refused_with_the_place() {
    let source = |format: &str| format!("sources:\n  - {{name: web, paths: ['/x'], dataset: d, format: {format}}}\n");
    let run = configured(&source("{apache: '%h%l %t'}")).run(&["run", "--once", "--deadline", "20s"]);
    assert_refused(&run, &["sources", "format", "%h and %l stand with nothing between", "byte 2"]);
    let run = configured(&source("{apache: '%h %'}")).run(&["run", "--once", "--deadline", "20s"]);
    assert_refused(&run, &["sources", "format", "byte 3", "`%%`"]);
    let run = configured(&source("{nginx: '$remote_addr$status'}")).run(&["run", "--once", "--deadline", "20s"]);
    assert_refused(&run, &["sources", "format", "nothing between"]);
    check(&source("tsv"), 2, &["sources.0.format", "`tsv`", "`combined`", "`json`"]);
    check(&source("nginx"), 2, &["sources.0.format", "`nginx` needs a text"]);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    // A file where a directory is needed: nobody can write there, not even root.
    let text = format!("{SOURCE}checkpoint: {{path: '{{dir}}/logweir.yaml/state'}}\n");
    let workspace = configured(&text);
    let run = workspace.run(&["run", "--once", "--deadline", "20s"]);
    assert_refused(&run, &["checkpoint.path", "logweir.yaml/state"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let workspace = Workspace::for_url(NOBODY);
    let run = workspace.run(&["run", "--once"]);
    assert_refused(&run, &["cannot read the configuration", "logweir.yaml", "No such file"]);
    let workspace = configured("a: [1\nb: 2\n");
    assert_refused(&workspace.run(&["check"]), &["logweir.yaml:2: ", "not YAML"]);
}

#[test]
fn wrong_values_from_the_command_line_and_the_environment_are_named_by_where_they_come_from() {
    let workspace = configured(SOURCE);
    let run = workspace.run(&["run", "--once", "--set", "batch.max_docs=many"]);
    assert_refused(&run, &["--set batch.max_docs", "`many`", "whole number"]);
    let config = workspace.path("logweir.yaml");
    let output = Command::new(binary())
        .args(["run", "--once", "--config"])
        .arg(config)
        .env("LOGWEIR__BATCH__MAX_AGE", "soon")
        .output()
        .expect("the binary starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let run = Run { status: output.status.code(), stdout: String::new(), stderr };
    assert_refused(&run, &["LOGWEIR__BATCH__MAX_AGE", "batch.max_age", "`soon`"]);
}

#[test]
fn check_finds_what_run_would_refuse_and_shows_what_it_would_take() {
    let workspace = configured(&format!("{SOURCE}batch: {{max_bytes: 5}}\n"));
    assert_refused(&workspace.run(&["check", "--offline"]), &["batch.max_bytes", "`5`"]);
    let workspace = configured(SOURCE);
    let run = workspace.run(&["check", "--offline"]).ok();
    assert!(run.stdout.contains("sources.0.name"), "{}", run.stdout);
}

#[test]
fn nonsense_on_the_command_line_is_64() {
    let directory = tempfile::tempdir().expect("a directory");
    for arguments in [
        &["run", "--twice"][..],
        &["walk"],
        &[],
        &["run", "--deadline", "5s"],
        &["run", "--once", "--deadline", "5"],
        &["checkpoints"],
        &["verify", "--output", "xml"],
    ] {
        let run = logweir(arguments, directory.path());
        assert_eq!(run.status, Some(64), "{arguments:?}\n{}\n{}", run.stdout, run.stderr);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{arguments:?}: errors go to standard error");
    }
}

#[test]
fn help_and_version_are_0() {
    let directory = tempfile::tempdir().expect("a directory");
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "verify"]] {
        let run = logweir(arguments, directory.path()).ok();
        assert!(run.stdout.contains("logweir") && run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_cluster_that_is_down_is_69_when_the_deadline_passes() {
    let workspace = Workspace::for_url(NOBODY);
    workspace.configure("  - {name: web, paths: ['{logs}/*.log'], format: combined, dataset: down}", "");
    workspace.take_data("apache-combined-2015-05.log");
    let began = Instant::now();
    let run = workspace.run(&["run", "--once", "--deadline", "2s"]);
    let took = began.elapsed();
    assert_eq!(run.status, Some(69), "{}\n{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("127.0.0.1:9"), "it says what it waited for: {}", run.stderr);
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_cluster_that_is_down_makes_verify_unavailable_and_no_proof() {
    let workspace = Workspace::for_url(NOBODY);
    workspace.configure("  - {name: web, paths: ['{logs}/*.log'], format: combined, dataset: down}", "");
    workspace.take_data("apache-combined-2015-05.log");
    let run = workspace.run(&["verify"]);
    assert_eq!(run.status, Some(69), "{}\n{}", run.stdout, run.stderr);
}
