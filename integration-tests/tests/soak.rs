//! The soak and the outage of `make soak` and `make outage`, in short: every kind of fault is there, and nothing is lost or
//! twice.

use std::process::Command;

use serde_json::Value;

/// Runs the program and gives its report, if it was satisfied.
fn report(arguments: &[&str]) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_soak")).args(arguments).arg("--report").arg(&path).output();
    let output = output.expect("it was built");
    let said = [output.stderr, output.stdout].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    serde_json::from_slice(&std::fs::read(&path).expect("a report")).expect("JSON")
}

#[test]
fn half_a_minute_of_random_faults_of_every_kind_loses_nothing_and_repeats_nothing() {
    let report = report(&["--seconds", "30", "--rate", "300"]);
    let kinds = report["faults_by_kind"].as_object().expect("kinds");
    let expected = [
        "429 storm",
        "connection cut",
        "copytruncate",
        "daemon killed",
        "daemon stopped",
        "disk full",
        "half a reply",
        "index blocked",
        "node killed",
        "node paused",
        "rename",
        "reply lost",
        "rollover",
    ];
    assert!(kinds.keys().eq(expected) && kinds.values().all(|kind| kind["times"].as_u64() >= Some(1)), "{report:#}");
    assert_eq!((&report["count"]["lost"], &report["count"]["twice"]), (&0.into(), &0.into()));
    assert_eq!(report["count"]["documents"], report["count"]["lines"]);
}

#[test]
fn memory_stays_below_its_bound_through_an_outage_and_the_files_are_the_queue() {
    let report = report(&["outage", "--seconds", "15", "--rate", "2000"]);
    let bytes = |name: &str| report[name].as_u64().expect("a number");
    assert!(bytes("memory_high_water_bytes") <= bytes("memory_bound_bytes"), "{report:#}");
    assert!(bytes("read_bytes") < bytes("written_bytes") / 2, "reading did not stop: {report:#}");
    assert_eq!(report["count"]["documents"], report["count"]["lines"]);
}
