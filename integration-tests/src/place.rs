//! A directory of logs with numbered lines that rotate, move, shrink and vanish, and the questions asked of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::node::until;
use crate::{Daemon, Node, Workspace};

/// The log that rotates.
pub const LOG: &str = "access.log";
/// How long something may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// So that a test need not wait long.
pub const QUICK: &str = "read: {scan_interval: 500ms, settle_time: 300ms";

/// A place with logs whose lines are numbered.
#[derive(Debug)]
pub struct Place {
    /// The cluster.
    pub node: &'static Node,
    /// Its directory.
    pub workspace: Workspace,
    /// Where the documents go.
    pub target: String,
    /// How many lines were written in all files.
    pub lines: u64,
}

impl Place {
    /// With `paths: ['{logs}/{glob}']` and more keys of the source.
    #[must_use]
    pub fn new(name: &str, glob: &str, source: &str) -> Self {
        Self::with(name, glob, source, "")
    }

    /// And more keys of `read`, and sections.
    #[must_use]
    pub fn with(name: &str, glob: &str, source: &str, more: &str) -> Self {
        Self::through(&Node::shared().url, name, glob, source, more)
    }

    /// And by way of a proxy.
    #[must_use]
    pub fn through(url: &str, name: &str, glob: &str, source: &str, more: &str) -> Self {
        let node = Node::shared();
        let workspace = Workspace::for_url(url);
        let source =
            format!("  - {{name: web, paths: ['{{logs}}/{glob}'], format: combined, dataset: files.{name}{source}}}");
        let (read, sections) = more.split_once('\n').unwrap_or((more, ""));
        workspace.configure(&source, &format!("{QUICK}{read}}}\n{sections}"));
        Self { node, workspace, target: format!("logs-files.{name}-default"), lines: 0 }
    }

    /// A log of this name.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.workspace.logs().join(name)
    }

    /// The next `n` lines.
    pub fn next(&mut self, n: u64) -> String {
        let mut text = String::new();
        for number in self.lines..self.lines + n {
            let _ = writeln!(
                text,
                "192.0.2.{} - - [03/Jun/2024:10:{:02}:{:02} +0000] \"GET /line/{number} HTTP/1.1\" 200 {} \"-\" \
                 \"curl/8.5.0\"",
                number % 200,
                number / 60 % 60,
                number % 60,
                number % 900 + 100,
            );
        }
        self.lines += n;
        text
    }

    /// Appends the next `n` lines.
    pub fn append(&mut self, name: &str, n: u64) {
        let text = self.next(n);
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).expect("the log");
        file.write_all(text.as_bytes()).expect("room");
    }

    /// Renames a log.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    /// `access.log` becomes `access.log.1`, that one `access.log.2`, and so on.
    pub fn rotate(&self) {
        let name = |n: u32| if n == 0 { LOG.to_owned() } else { format!("{LOG}.{n}") };
        let old = (1..).take_while(|n| self.path(&name(*n)).is_file()).count() as u32;
        for n in (0..=old).rev() {
            self.rename(&name(n), &name(n + 1));
        }
    }

    /// Runs the system's logrotate over `access.log`.
    pub fn logrotate(&self, options: &str) {
        let config = self.workspace.path("logrotate.conf");
        let text = format!("{} {{\n  rotate 20\n{options}\n}}\n", self.path(LOG).display());
        fs::write(&config, text).expect("room");
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("logrotate")
            .arg("--force")
            .arg("--state")
            .arg(self.workspace.path("logrotate.state"))
            .arg(&config)
            // Where it is, for users who are not root.
            .env("PATH", format!("{path}:/usr/sbin"))
            .output()
            .expect("logrotate (Debian: package logrotate)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the daemon.
    pub fn start(&self) -> Daemon {
        self.workspace.start(&[])
    }

    /// Indexes what is there, in one run that ends by itself.
    pub fn once(&self) {
        let _ = self.workspace.run(&["run", "--once"]).ok();
    }

    /// How many documents there are.
    pub fn count(&self) -> u64 {
        self.node.count(&self.target)
    }

    /// Waits until as many documents are there as lines were written.
    pub fn caught_up(&self, daemon: &Daemon) {
        self.counted(daemon, self.lines);
    }

    /// Waits until there are so many documents.
    pub fn counted(&self, daemon: &Daemon, documents: u64) {
        let began = Instant::now();
        until("documents", 2 * PATIENCE, || {
            let count = self.count();
            let late = began.elapsed() > PATIENCE;
            assert!(!late, "{count} documents of {documents} in {}\n{}", self.target, daemon.log());
            (count >= documents).then_some(())
        });
    }

    /// How often each number is there, by reading the documents.
    #[must_use]
    pub fn numbers(&self) -> BTreeMap<u64, u64> {
        let answer = self.node.search(&self.target, &json!({"size": 10_000, "_source": ["url.path"]}));
        let mut numbers = BTreeMap::new();
        for hit in answer["hits"]["hits"].as_array().expect("hits") {
            let path = hit["_source"]["url"]["path"].as_str().unwrap_or_else(|| panic!("{hit}"));
            let number = path.strip_prefix("/line/").and_then(|number| number.parse().ok());
            *numbers.entry(number.unwrap_or_else(|| panic!("{hit}"))).or_default() += 1;
        }
        numbers
    }

    /// Expects each line in Elasticsearch once, without asking logweir.
    pub fn assert_each_is_there_once(&self) {
        self.assert_numbers(0..self.lines);
    }

    /// Expects these lines once each, and no others.
    pub fn assert_numbers(&self, expected: impl Iterator<Item = u64>) {
        let expected: BTreeMap<u64, u64> = expected.map(|number| (number, 1)).collect();
        let found = self.numbers();
        let missing: Vec<_> = expected.keys().filter(|number| !found.contains_key(number)).collect();
        let odd: Vec<_> = found.iter().filter(|(number, n)| expected.get(number) != Some(*n)).collect();
        assert!(missing.is_empty() && odd.is_empty(), "missing: {missing:?}, twice or too much: {odd:?}");
    }

    /// Ends the daemon once everything is there, and proves it.
    pub fn finish(&self, daemon: Daemon) {
        self.caught_up(&daemon);
        self.end(daemon);
        self.proven();
    }

    /// Ends the daemon.
    pub fn end(&self, daemon: Daemon) {
        let status = daemon.stop();
        // Shown where what follows fails.
        println!("{}", fs::read_to_string(self.workspace.path("daemon.log")).unwrap_or_default());
        assert_eq!(status, Some(0));
    }

    /// Expects each line once, by the numbers in the lines and by `verify`.
    pub fn proven(&self) {
        self.assert_each_is_there_once();
        self.workspace.assert_proven(self.lines);
    }

    /// Elasticsearch refuses writes to the target, or no longer.
    pub fn block(&self, blocked: bool) {
        let settings = json!({"index.blocks.write": blocked});
        self.node.ok("PUT", &format!("{}/_settings", self.target), Some(&settings));
    }

    /// Lines that are indexed before anything is blocked, so that there is something to block.
    pub fn begin(&mut self, name: &str) -> Daemon {
        self.append(name, 10);
        let daemon = self.start();
        self.caught_up(&daemon);
        self.block(true);
        daemon
    }
}

/// The first value of a metric, by what its line starts with.
pub fn metric(daemon: &Daemon, start: &str) -> Option<f64> {
    let text = daemon.metrics()?;
    text.lines().find_map(|line| line.strip_prefix(start)?.split_whitespace().next()?.parse().ok())
}
