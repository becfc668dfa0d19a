//! A log of numbered lines that is indexed through a proxy, so that replies can be spoiled on their way.

use std::ops::Range;
use std::path::PathBuf;

use crate::node::{PATIENCE, until};
use crate::numbered::{append, assert_each_is_there_once, counted, lines};
use crate::{Daemon, Node, Proxy, Workspace};

/// A log, a daemon's directory, a proxy, the shared node.
pub struct Way {
    /// The cluster.
    pub node: &'static Node,
    /// Before it.
    pub proxy: Proxy,
    /// Its directory.
    pub workspace: Workspace,
    /// Where the documents go.
    pub target: String,
}

impl Way {
    /// Into this data set; with more keys of `elasticsearch`, and more sections.
    #[must_use]
    pub fn new(dataset: &str, elasticsearch: &str, sections: &str) -> Self {
        let node = Node::shared();
        let proxy = Proxy::start(&node.url);
        let workspace = Workspace::through(&proxy.url(), node);
        workspace.configure(
            &format!("  - {{name: web, paths: ['{{logs}}/*.log'], format: combined, dataset: {dataset}}}"),
            &format!("elasticsearch: {{urls: ['{{url}}'], {elasticsearch}}}\n{sections}"),
        );
        Self { node, proxy, workspace, target: format!("logs-{dataset}-default") }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.workspace.logs().join("access.log")
    }

    /// Appends lines of these numbers.
    pub fn append(&self, numbers: Range<u64>) {
        append(&self.log(), &lines(numbers));
    }

    /// A daemon that has indexed the first `lines` lines.
    #[must_use]
    pub fn started(&self, lines: u64) -> Daemon {
        self.append(0..lines);
        let daemon = self.workspace.start(&[]);
        counted(self.node, &self.target, lines, &daemon);
        daemon
    }

    /// From here on Elasticsearch takes every id again.
    pub fn roll_over(&self) {
        self.node.roll_over(&self.target);
    }

    /// Waits until the proxy has done so much: see [`Proxy::count`].
    pub fn done(&self, what: &str, times: u64) {
        let counts = || format!("{times} {what}, {:?}", self.proxy.counts());
        until(&counts(), PATIENCE, || (self.proxy.count(what) >= times).then_some(()));
    }

    /// Waits until the daemon has been told by a look-up that so many documents were there.
    pub fn looked_up(&self, daemon: &Daemon, documents: u64) {
        until(&format!("a look-up to find {documents}\n{}", daemon.log()), PATIENCE, || {
            (daemon.counter("logweir_documents_total", "duplicate") >= documents).then_some(())
        });
    }

    /// Everything passes again: expects each of `lines` lines once, and that nothing was wrong with any.
    ///
    /// # Panics
    /// If it is not so.
    pub fn ends(&self, daemon: Daemon, lines: u64) {
        self.proxy.lift_all();
        counted(self.node, &self.target, lines, &daemon);
        // What was there before it was asked for is still to be looked up.
        until(&format!("all to be settled\n{}", daemon.log()), PATIENCE, || {
            let check = self.workspace.run(&["checkpoints", "check", "--output", "json"]).ok().json();
            (check["total"]["lines"] == lines).then_some(())
        });
        let log = daemon.log();
        assert_eq!(daemon.stop(), Some(0), "{log}");
        assert_each_is_there_once(self.node, &self.target, 0..lines);
        self.workspace.assert_proven(lines);
        assert!(self.workspace.letters().is_empty(), "nothing is wrong with the lines");
    }
}
