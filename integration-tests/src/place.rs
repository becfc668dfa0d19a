//! A directory of logs with numbered lines that rotate, move, shrink and vanish, and the questions asked of it.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::numbered::{self, assert_each_is_there_once};
use crate::{Daemon, Node, Workspace};

/// The log that rotates.
pub const LOG: &str = "access.log";
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
        let workspace = Workspace::through(url, node);
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
        self.lines += n;
        numbered::lines(self.lines - n..self.lines)
    }

    /// Appends the next `n` lines.
    pub fn append(&mut self, name: &str, n: u64) {
        let text = self.next(n);
        numbered::append(&self.path(name), &text);
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
        numbered::counted(self.node, &self.target, documents, daemon);
    }

    /// Expects each line in Elasticsearch once, without asking logweir.
    pub fn assert_each_is_there_once(&self) {
        self.assert_numbers(0..self.lines);
    }

    /// Expects these lines once each, and no others.
    pub fn assert_numbers(&self, expected: Range<u64>) {
        assert_each_is_there_once(self.node, &self.target, expected);
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
