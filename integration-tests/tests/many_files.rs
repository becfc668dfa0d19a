//! Many files are watched without as many open descriptors, and a low limit of descriptors loses nothing.

use std::fs;
use std::io::Write;
use std::time::Duration;

use integration_tests::dice::Dice;
use integration_tests::machine::memory;
use integration_tests::node::until;
use integration_tests::{Node, Proxy, Workspace};

const FILES: u64 = 20_000;

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn twenty_thousand_files_are_followed_with_three_hundred_descriptors() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    for number in 0..FILES {
        let path = workspace.logs().join(format!("{number}.log"));
        fs::write(path, format!("file {number}, the first line\nfile {number}, the second\n")).expect("room");
    }
    workspace.configure("  - {name: many, paths: ['{logs}/*.log'], format: text, dataset: many.files}", "");
    let daemon = workspace.start(&[]);
    let mut most = 0;
    until("all lines", Duration::from_secs(180), || {
        most = most.max(descriptors(daemon.pid()));
        (node.count("logs-many.files-default") == 2 * FILES).then_some(())
    });
    // A line that comes now is heard of at once, among all these files.
    let append = |name: &str| {
        let file = fs::OpenOptions::new().append(true).open(workspace.logs().join(name));
        file.expect("it is there").write_all(b"the last line of all\n").expect("room");
    };
    append("777.log");
    until("the last line", Duration::from_secs(20), || {
        most = most.max(descriptors(daemon.pid()));
        (node.count("logs-many.files-default") == 2 * FILES + 1).then_some(())
    });
    assert!(most <= 300, "{most} descriptors");
    let log = daemon.log();
    let named = log.matches("file discovered").count();
    assert!(named < 100 && log.contains("more files discovered"), "{named} are named");
    assert_eq!(daemon.stop(), Some(0));

    // With their checkpoints there is nothing to read of any: they leave descriptors to those that grow.
    let daemon = workspace.start(&[]);
    append("778.log");
    until("the line after the start", Duration::from_secs(30), || {
        (node.count("logs-many.files-default") == 2 * FILES + 2).then_some(())
    });
    let held = daemon.metric("logweir_files_open").expect("the gauge");
    assert!(held <= 130.0, "{held} files are held open");
    let resident = memory(daemon.pid(), "VmRSS").expect("it runs");
    assert!(resident < 80 << 20, "{} MiB", resident >> 20);
    assert_eq!(daemon.stop(), Some(0));
    workspace.assert_proven(2 * FILES + 2);
}

#[test]
fn a_limit_of_a_hundred_descriptors_or_of_sixty_and_two_hundred_files_lose_nothing() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    for number in 0..200 {
        let path = workspace.logs().join(format!("{number}.log"));
        fs::write(path, format!("number {number}\n").repeat(20)).expect("room");
    }
    for limit in [100, 60] {
        let source = format!("  - {{name: few, paths: ['{{logs}}/*.log'], format: text, dataset: few.than{limit}}}");
        workspace.configure(&source, "");
        let run = workspace.run_limited(&["run", "--once", "--deadline", "60s"], &format!("ulimit -n {limit}")).ok();
        assert_eq!(node.count(&format!("logs-few.than{limit}-default")), 4000, "{limit}: {}", run.stderr);
        workspace.assert_proven(4000);
        fs::remove_dir_all(workspace.path("state")).expect("the store is there");
    }
}

#[test]
fn compressed_files_that_wait_for_elasticsearch_take_no_memory_each() {
    const LINES: u64 = 40;
    // Nothing listens there yet.
    let proxy = Proxy::start(&Node::shared().url);
    proxy.refuse(true);
    let workspace = Workspace::for_url(&proxy.url());
    let packed = 250;
    for number in 0..packed {
        // Does not get smaller by being packed, so that a decoder keeps all it may.
        let mut dice = Dice::seeded(number);
        let mut line = || (0..500).map(|_| format!("{:08x}", dice.below(1 << 32))).collect::<String>() + "\n";
        let text: String = (0..LINES).map(|_| line()).collect();
        let text = zstd::stream::encode_all(text.as_bytes(), 3).expect("memory");
        fs::write(workspace.logs().join(format!("{number}.log.zst")), text).expect("room");
    }
    workspace.configure(
        "  - {name: packed, paths: ['{logs}/*.zst'], format: text, dataset: many.packed}",
        "read: {settle_time: 100ms}",
    );
    let daemon = workspace.start(&["--set", "telemetry.log_level=debug"]);
    until("all of them to be watched", Duration::from_secs(60), || {
        let log = daemon.log();
        (log.matches("file discovered").count() as u64 == packed).then_some(())
    });
    let resident = memory(daemon.pid(), "VmRSS").expect("it runs");
    assert!(resident < 80 << 20, "{} MiB", resident >> 20);
    proxy.refuse(false);
    until("all lines", Duration::from_secs(120), || {
        (Node::shared().count("logs-many.packed-default") == packed * LINES).then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
    workspace.assert_proven(packed * LINES);
}
