//! What the program promises: exit statuses, pace, and a clean end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use logweir_generator::Manifest;
use tempfile::TempDir;

fn program(directory: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logweir-generator"));
    command.current_dir(directory).args(arguments.split_whitespace());
    command
}

fn output(directory: &Path, arguments: &str) -> Output {
    program(directory, arguments).output().unwrap()
}

#[test]
fn equal_arguments_write_equal_files() {
    let directory = TempDir::new().unwrap();
    for logs in ["a", "b"] {
        let arguments = format!("{logs} --simulate 24h --total 5500 --start 2026-03-01T00:00:00Z --dirty 0.01 --gzip");
        assert!(output(directory.path(), &arguments).status.success());
    }
    let files = |logs: &str| -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(directory.path().join(logs))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    };
    assert_eq!(files("a").len(), 6);
    assert!(files("a") == files("b"));
}

#[test]
fn usage_errors_exit_64() {
    let directory = TempDir::new().unwrap();
    for arguments in [
        "",
        "logs --no-such-option",
        "logs --dirty 2",
        "logs --rate -1",
        "logs --vary",
        "logs --simulate 24h",
        "logs --total 5 --duration 3s",
        "logs --rotate-lines 5",
        "logs --mode grow --gzip",
        "logs --start yesterday",
        "logs --chunk-lines 0",
    ] {
        let output = output(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments}");
        assert!(!output.stderr.is_empty(), "{arguments}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_built_in_scenario_can_be_edited_and_given_back() {
    let directory = TempDir::new().unwrap();
    let printed = output(directory.path(), "--print-scenario").stdout;
    let edited = String::from_utf8(printed).unwrap().replace("\"/search\"", "\"/find\"");
    fs::write(directory.path().join("mine.json"), &edited).unwrap();
    let made = output(directory.path(), "logs --scenario mine.json --total 2000 --mode grow");
    assert!(made.status.success(), "{made:?}");
    assert!(fs::read_to_string(directory.path().join("logs/access.log")).unwrap().contains(" /find?"));

    fs::write(directory.path().join("mine.json"), edited.replace("\"virtual_rate\"", "\"virtual_raet\"")).unwrap();
    let refused = output(directory.path(), "logs --scenario mine.json --total 5");
    assert_eq!(refused.status.code(), Some(78));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("mine.json") && message.contains("virtual_raet"), "{message}");
}

#[test]
fn what_cannot_be_written_exits_74() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("logs"), "a file, no directory").unwrap();
    assert_eq!(output(directory.path(), "logs --total 5").status.code(), Some(74));
}

#[test]
fn a_rate_is_kept_in_real_time() {
    let directory = TempDir::new().unwrap();
    let begin = Instant::now();
    let made = output(directory.path(), "logs --rate 500 --duration 1s --mode grow --manifest m.json");
    assert!(made.status.success(), "{made:?}");
    // Load on the machine may make it slower, but nothing may make it faster.
    assert!(begin.elapsed() > Duration::from_millis(990), "{:?}", begin.elapsed());
    assert_eq!(Manifest::load(&directory.path().join("m.json")).unwrap().lines, 500);
}

#[test]
fn a_signal_ends_the_run_with_a_complete_manifest() {
    for signal in ["-INT", "-TERM"] {
        let directory = TempDir::new().unwrap();
        let manifest_path = directory.path().join("m.json");
        let arguments = "logs --rate 300 --chunk-lines 1000 --manifest m.json";
        let mut child = program(directory.path(), arguments).stderr(Stdio::null()).spawn().unwrap();

        // The first manifest comes after a second, and the first chunk only after three.
        let begin = Instant::now();
        while !manifest_path.is_file() {
            assert!(begin.elapsed() < Duration::from_secs(60), "no manifest while the run goes on");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(!Manifest::load(&manifest_path).unwrap().complete);

        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert!(child.wait().unwrap().success(), "{signal}");
        let manifest = Manifest::load(&manifest_path).unwrap();
        assert!(manifest.complete);
        let [file] = manifest.files.as_slice() else { panic!("one chunk, cut short by the signal: {manifest:?}") };
        let content = fs::read(directory.path().join(file.path.as_ref().unwrap())).unwrap();
        assert_eq!(content.len() as u64, file.bytes);
        assert_eq!(manifest.lines, file.lines);
    }
}
