//! What faults are done to: a node, a proxy in front of it, a daemon, its directory.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration_tests::machine::memory;
use integration_tests::{Daemon, Node, Proxy, Workspace};
use serde_json::json;

use crate::traffic::{FORMAT, Kind};

pub(crate) const TARGET: &str = "logs-soak-default";
const VERSION: &str = "9.2.0";
/// How often documents are counted; each time costs Elasticsearch a refresh.
const POLL: Duration = Duration::from_millis(250);
/// Of the file system that holds the state.
const STATE_MIB: u64 = 16;
/// What the daemon may hold in batches; the default.
pub(crate) const MAX_MEMORY: u64 = 24 << 20;
/// Beyond that: program, runtime, tables, store, what is known of some hundred files.
pub(crate) const BESIDE_BATCHES: u64 = 64 << 20;

pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) proxy: Proxy,
    // In this order: the daemon ends before its state is unmounted and its directory removed.
    daemon: Option<Daemon>,
    memory: Memory,
    _state: State,
    pub(crate) workspace: Workspace,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let node = Node::start(VERSION, &[]);
        let proxy = Proxy::start(&node.url);
        let workspace = Workspace::for_url(&proxy.url());
        let state = State::mount(workspace.path("state"))?;
        fs::create_dir(workspace.path("done"))?;
        let source = |kind: Kind, rest: &str| {
            let name = kind.name();
            format!(
                "  - {{name: {name}, paths: ['{{logs}}/{name}/*'], format: {{nginx: '{FORMAT}'}}, dataset: soak{rest}}}"
            )
        };
        let sources = [
            source(Kind::Rename, ""),
            source(Kind::Copytruncate, ""),
            source(Kind::Chunks, ", mode: chunks, on_done: archive, archive_dir: '{dir}/done'"),
        ];
        // Short times, so that a fault of seconds is one that counts, and there is room for many.
        let more = "read: {scan_interval: 2s, settle_time: 1s}\nshutdown: {grace_period: 5s}\n\
                    elasticsearch: {urls: ['{url}'], request_timeout: 8s, retry: {max_delay: 1s}}";
        workspace.configure(&sources.join("\n"), more);
        Ok(Self { node, proxy, daemon: None, memory: Memory::watch(), _state: state, workspace })
    }

    pub(crate) fn start_daemon(&mut self) {
        let daemon = self.workspace.start(&[]);
        self.memory.shared.pid.store(daemon.pid(), Ordering::Relaxed);
        self.daemon = Some(daemon);
    }

    /// The daemon, which nobody but us may have ended.
    pub(crate) fn daemon(&mut self) -> Result<&mut Daemon> {
        let daemon = self.daemon.as_mut().context("no daemon was started")?;
        if !daemon.is_running() {
            let log = daemon.log();
            let end: Vec<&str> = log.lines().rev().take(20).collect();
            bail!("the daemon ended by itself:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        Ok(daemon)
    }

    /// SIGKILL.
    pub(crate) fn kill_daemon(&mut self) -> Result<()> {
        self.daemon()?;
        self.memory.shared.pid.store(0, Ordering::Relaxed);
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
        Ok(())
    }

    /// SIGTERM, and an end as it should be.
    pub(crate) fn stop_daemon(&mut self) -> Result<()> {
        self.daemon()?.serves();
        self.memory.shared.pid.store(0, Ordering::Relaxed);
        let status = self.daemon.take().and_then(Daemon::stop);
        ensure!(status == Some(0), "the daemon ended with status {status:?}");
        Ok(())
    }

    pub(crate) fn restart_node(&mut self) {
        self.node.restart(VERSION);
        self.proxy.set_target(&self.node.url);
    }

    /// Fills the file system of the state, until `then` returns.
    pub(crate) fn fill_disk(&self, then: impl FnOnce()) -> Result<()> {
        let path = self.workspace.path("state/ballast");
        let mut ballast = File::create(&path).context("the ballast")?;
        let block = [0; 4096];
        while ballast.write_all(&block).is_ok() {}
        then();
        drop(ballast);
        fs::remove_file(&path).context("the ballast")
    }

    pub(crate) fn block_index(&self, block: &str, blocked: bool) {
        let value = if blocked { json!(true) } else { json!(null) };
        self.node.ok("PUT", &format!("{TARGET}/_settings"), Some(&json!({ format!("index.blocks.{block}"): value })));
    }

    /// Waits until there are so many documents; how long that took.
    pub(crate) fn caught_up(&mut self, documents: u64, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let count = self.node.count(TARGET);
            if count >= documents {
                return Ok(began.elapsed());
            }
            self.daemon()?;
            if began.elapsed() > limit {
                let log = self.log();
                let end: Vec<&str> = log.lines().rev().take(30).collect();
                let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
                bail!("after {limit:?} there are {count} documents of {documents}; the daemon says:\n{end}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// All that all daemons said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.workspace.path("daemon.log")).unwrap_or_default()
    }

    /// What must never be said.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(" ERROR ")).map(ToOwned::to_owned).collect()
    }

    /// The memory of the daemon now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.daemon.as_ref().and_then(|daemon| memory(daemon.pid(), "VmRSS")).unwrap_or(0)
    }

    /// The most memory that any daemon had, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        self.memory.shared.most.load(Ordering::Relaxed)
    }

    pub(crate) fn metric(&self, start: &str) -> Option<f64> {
        self.daemon.as_ref()?.metric(start)
    }
}

/// A small file system for the state, mounted in this process's own view.
struct State(PathBuf);

impl State {
    fn mount(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path)?;
        let size = format!("size={STATE_MIB}m,mode=700");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        let hint = "a small file system cannot be mounted: this needs root, or user namespaces";
        ensure!(status.context(hint)?.success(), hint);
        Ok(Self(path))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Watches the memory of daemons that come and go.
struct Memory {
    shared: Arc<Watched>,
}

#[derive(Default)]
struct Watched {
    pid: AtomicU32,
    most: AtomicU64,
    ended: AtomicBool,
}

impl Memory {
    fn watch() -> Self {
        let shared = Arc::new(Watched::default());
        let watched = Arc::clone(&shared);
        std::thread::spawn(move || {
            while !watched.ended.load(Ordering::Relaxed) {
                if let pid @ 1.. = watched.pid.load(Ordering::Relaxed) {
                    watched.most.fetch_max(memory(pid, "VmHWM").unwrap_or(0), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { shared }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}
