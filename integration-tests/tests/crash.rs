//! The daemon is killed again and again while a log grows and rotates: no line is lost, and none is there twice.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use integration_tests::dice::Dice;
use integration_tests::node::until;
use integration_tests::numbered::{assert_each_is_there_once, lines};
use integration_tests::{Node, Workspace};

const KILLS: usize = 20;
/// Where one of the kills is followed by a rollover.
const ROLLOVER_AT: usize = KILLS / 2;
const LINES_A_FILE: u64 = 2500;
/// After these a line a pause, so that a busy machine, on which lives are long, has not more to index for it.
const PLENTY: u64 = 40_000;
const PAUSE: Duration = Duration::from_millis(5);
const MAX_LINES_A_PAUSE: u64 = 30;

/// Appends numbered lines to `access.log`, in pieces that need not end with a line, and rotates it as logrotate does:
/// `access.log.1` is the youngest of the old.
struct Writer {
    directory: PathBuf,
    file: File,
    /// What is not written yet.
    pending: Vec<u8>,
    in_file: u64,
    lines: u64,
    rotated: usize,
    dice: Dice,
}

impl Writer {
    fn spawn(directory: &Path, dice: Dice) -> (SyncSender<()>, JoinHandle<(u64, usize)>) {
        let (stop, stopped) = sync_channel(1);
        let directory = directory.to_owned();
        let file = open(&directory);
        let writer = Self { directory, file, pending: Vec::new(), in_file: 0, lines: 0, rotated: 0, dice };
        (stop, std::thread::spawn(move || writer.write_until(&stopped)))
    }

    /// How many lines, and how many files rotated away.
    fn write_until(mut self, stopped: &Receiver<()>) -> (u64, usize) {
        while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
            let lines = if self.lines < PLENTY { self.dice.below(MAX_LINES_A_PAUSE) } else { 1 };
            for _ in 0..lines {
                self.line();
                if self.in_file == LINES_A_FILE {
                    self.rotate();
                }
            }
            // The last line comes in two pieces.
            let now = self.pending.len() - usize::try_from(self.dice.below(60)).expect("small").min(self.pending.len());
            self.put(now);
        }
        self.put(self.pending.len());
        (self.lines, self.rotated)
    }

    fn line(&mut self) {
        self.pending.extend_from_slice(lines(self.lines..self.lines + 1).as_bytes());
        self.lines += 1;
        self.in_file += 1;
    }

    fn put(&mut self, bytes: usize) {
        self.file.write_all(&self.pending[..bytes]).expect("room");
        self.pending.drain(..bytes);
    }

    fn rotate(&mut self) {
        self.put(self.pending.len());
        let name = |n: usize| match n {
            0 => self.directory.join("access.log"),
            n => self.directory.join(format!("access.log.{n}")),
        };
        for n in (0..=self.rotated).rev() {
            std::fs::rename(name(n), name(n + 1)).expect("renamed");
        }
        self.rotated += 1;
        self.file = open(&self.directory);
        self.in_file = 0;
    }
}

fn open(directory: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(directory.join("access.log")).expect("the log")
}

/// How many documents there are, of a target that the first of them makes.
fn refreshed_count(node: &Node, target: &str) -> u64 {
    let _ = node.ask("POST", &format!("{target}/_refresh?ignore_unavailable=true"), None);
    let (status, answer) = node.ask("GET", &format!("{target}/_count?ignore_unavailable=true"), None);
    if status == 404 { 0 } else { answer["count"].as_u64().unwrap_or(0) }
}

/// Kills the daemon `KILLS` times while lines come, then lets it finish, and expects each line once.
fn check(target: &str, dataset: &str, more: &str, arguments: &[&str], roll_over: bool) {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let more = format!("read: {{scan_interval: 500ms}}\nshutdown: {{grace_period: 5s}}\n{more}");
    workspace.configure(
        &format!("  - {{name: web, paths: ['{{logs}}/access.log*'], format: combined, dataset: {dataset}}}"),
        &more,
    );
    let mut dice = Dice::for_test();
    let (stop, writer) = Writer::spawn(&workspace.logs(), Dice::seeded(dice.seed() ^ 0x5EED));
    let mut grew = 0;
    for kill in 0..KILLS {
        let before = refreshed_count(node, target);
        let daemon = workspace.start(arguments);
        // Half of them early, while the daemon starts and looks up what is in doubt; half while it indexes.
        let indexes = dice.below(2) == 0;
        if indexes {
            let more = || (refreshed_count(node, target) > before).then_some(());
            until(&format!("documents in life {kill}\n{}", daemon.log()), Duration::from_secs(60), more);
        }
        let moment = Duration::from_millis(dice.below(400));
        let began = Instant::now();
        until("the moment", Duration::from_secs(60), || (began.elapsed() >= moment).then_some(()));
        if dice.below(3) == 0 {
            // Asked to end, and perhaps before it can be asked.
            daemon.signal("TERM");
            let _ = daemon.ended();
        } else {
            daemon.kill();
        }
        if kill == ROLLOVER_AT && roll_over {
            let there = || (node.ask("POST", &format!("{target}/_rollover"), None).0 == 200).then_some(());
            until("a data stream to roll over", Duration::from_secs(30), there);
        }
        let after = refreshed_count(node, target);
        let from = if indexes { "its first document" } else { "its start" };
        println!("kill {kill}, {moment:?} from {from}: {after} documents");
        grew += usize::from(after > before);
    }
    stop.send(()).expect("the writer runs");
    let (lines, rotated) = writer.join().expect("the writer wrote");
    println!("{lines} lines, {rotated} rotations, {grew} of {KILLS} lives sent something");
    assert!(grew >= KILLS / 4, "the kills came too early to prove anything: {grew} lives of {KILLS} sent something");
    assert!(rotated >= 2, "only {rotated} rotations");

    let _ = workspace.run(&[&["run", "--once"], arguments].concat()).ok();
    assert_each_is_there_once(node, target, 0..lines);
    workspace.assert_proven(lines);
}

#[test]
fn twenty_kills_lose_nothing_and_repeat_nothing_in_a_data_stream_that_rolls_over() {
    check("logs-crash.stream-default", "crash.stream", "", &[], true);
}

#[test]
fn twenty_kills_lose_nothing_and_repeat_nothing_in_date_named_indices() {
    check("crashdated-*", "crash.dated", "elasticsearch: {urls: ['{url}'], index: 'crashdated-%Y.%m.%d'}", &[], false);
}

#[test]
fn small_batches_and_a_small_reservation_survive_twenty_kills_too() {
    check(
        "logs-crash.small-default",
        "crash.small",
        "batch: {max_docs: 50, max_age: 5ms}",
        &["--set", "checkpoint.reserve_ahead=16KiB"],
        true,
    );
}
