//! A history, run: writers, rotation, the cluster's moods and the process's deaths, and after them the proof.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Lie;
use super::cluster::Model;
use super::dice::Dice;
use super::disk::{Disk, LetterBox};
use super::files::{Files, Node};
use super::fixture::Fixture;
use super::history::{Hints, History, LOGS, Mode, What};
use super::lines::{Lines, Sort};
use super::process::{CHUNKS, Process};
use crate::checkpoint::FileRow;
use crate::discover::watch::Hint;
use crate::filesystem::FileSystem;
use crate::record::{Batch, FileId, LineId};

const MS: Duration = Duration::from_millis(1);

/// How long after the last fault everything has to be there.
const PATIENCE: Duration = Duration::from_secs(200);

/// How long it is watched after that: nothing more may come.
const AFTERMATH: Duration = Duration::from_secs(4);

/// How many rotated files are kept.
const KEPT: usize = 4;

/// What a history came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What failed; empty where nothing did.
    pub wrong: Vec<String>,
    pub lines: u64,
    pub faults: BTreeMap<&'static str, u64>,
}

/// Which lines were handed on, by file and offset: noted on their way, so that a checkpoint can be held against them.
#[derive(Debug, Default)]
pub struct Sent {
    files: BTreeMap<FileId, BTreeMap<u64, LineId>>,
}

impl Sent {
    pub fn note(&mut self, batch: &Batch) {
        for item in &batch.items {
            let file = batch.runs[item.run as usize].file;
            self.files.entry(file).or_default().insert(item.offset, item.id);
        }
    }
}

/// A log and who writes it.
#[derive(Default)]
struct Log {
    node: Option<Arc<Node>>,
    /// The rest of a line that only began, and its number.
    half: Option<(usize, String)>,
    /// The next lines still go to the file that was renamed.
    lingers: bool,
    /// Being copied: its writer waits.
    busy: bool,
}

/// What was begun and goes on later.
enum Later {
    CopyPart { from: Arc<Node>, to: PathBuf, until: usize },
    CopyDone { log: usize, from: Arc<Node>, to: PathBuf, between: bool },
    PackPart { from: PathBuf, packed: Arc<Vec<u8>>, from_byte: usize },
    PackDone { from: PathBuf },
    ChunkPart { path: PathBuf, node: Arc<Node>, line: usize, text: String },
    ChunkDone { path: PathBuf },
    Sync,
}

struct World<'a> {
    history: &'a History,
    fixture: Rc<Fixture>,
    files: Arc<Files>,
    cluster: Model,
    letters: Arc<LetterBox>,
    disk: Disk,
    lines: Lines,
    header: Option<usize>,
    logs: Vec<Log>,
    chunks: usize,
    later: Vec<(Instant, Later)>,
    process: Option<Process>,
    start_at: Option<Instant>,
    /// How long the process stays away after the death that is set.
    down_after_trap: Option<u64>,
    /// The process ends in order, and stays away for so long.
    down_after_stop: Option<u64>,
    stores: u64,
    /// The store was lost, and the new one may not know all files yet.
    is_new: bool,
    new_until: Option<Instant>,
    sent: Arc<Mutex<Sent>>,
    /// By file: checkpoints were held against what was sent up to here.
    proven: BTreeMap<FileId, u64>,
    lie: Option<Lie>,
    dice: Dice,
    wrong: Vec<String>,
    faults: BTreeMap<&'static str, u64>,
}

/// Runs one history to its end.
pub fn run(history: &History, lie: Option<Lie>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing but a thread");
    runtime.block_on(async {
        let mut world = World::new(history, lie);
        world.live().await;
        Outcome { wrong: world.wrong, lines: world.lines.count(), faults: world.faults }
    })
}

impl<'a> World<'a> {
    fn new(history: &'a History, lie: Option<Lie>) -> Self {
        let setup = &history.setup;
        let lines = Lines::default();
        Self {
            history,
            fixture: Fixture::of(setup.mode),
            files: Arc::new(Files::new(&["/logs", "/archive"], setup.births, setup.reuse)),
            cluster: Model::new(history.seed, MS * u32::try_from(setup.refresh_ms).unwrap_or(1), lines.clone(), lie),
            letters: LetterBox::new(lines.clone()),
            disk: Disk::default(),
            header: setup.header.map(|padding| lines.make(Sort::Header, padding)),
            lines,
            logs: (0..LOGS).map(|_| Log::default()).collect(),
            chunks: 0,
            later: Vec::new(),
            process: None,
            start_at: None,
            down_after_trap: None,
            down_after_stop: None,
            stores: 0,
            is_new: false,
            new_until: None,
            sent: Arc::default(),
            proven: BTreeMap::new(),
            lie,
            dice: Dice::new(history.seed, 3),
            wrong: Vec::new(),
            faults: BTreeMap::new(),
        }
    }

    async fn live(&mut self) {
        let began = Instant::now();
        // Some files are older than the first start.
        let first = self.dice.range(0, 600);
        self.start_at = Some(began + MS * u32::try_from(first).unwrap_or(0));
        let mut steps = self.history.steps.iter().peekable();
        while self.wrong.is_empty() {
            while let Some(step) = steps.next_if(|step| began.elapsed().as_millis() >= u128::from(step.at)) {
                self.step(step.what).await;
            }
            self.go_on_later();
            self.slice().await;
            if steps.peek().is_none() && self.later.is_empty() {
                break;
            }
            self.pause().await;
        }
        self.heal();
        self.drain().await;
        if let Some(process) = self.process.take() {
            self.cluster.disconnect();
            process.kill(&mut self.dice, &mut Disk::default(), &mut |_| {}).await;
        }
        for (fault, count) in self.cluster.take_faults() {
            *self.faults.entry(fault).or_default() += count;
        }
        *self.faults.entry("dead letters full").or_default() += self.letters.refused();
    }

    async fn pause(&mut self) {
        let longest = self.history.setup.slice_ms;
        let pause = self.dice.range(longest / 4, longest);
        tokio::time::sleep(MS * u32::try_from(pause).unwrap_or(1)).await;
    }

    /// A little of everything that moves by itself.
    async fn slice(&mut self) {
        let now = Instant::now();
        if self.process.is_none() && self.start_at.is_some_and(|at| now >= at) {
            self.start();
        }
        let Some(mut process) = self.process.take() else { return };
        if self.cluster.is_sprung() {
            self.count("killed at a step");
            let down = self.down_after_trap.take().unwrap_or(100);
            self.process = Some(process);
            self.kill(down).await;
            return;
        }
        let mut written = Vec::new();
        let sync_late = self.lie == Some(Lie::CommitsBeforeSync);
        let goes_on = process.slice(&mut self.dice, &mut self.disk, sync_late, &mut |row| written.push(row.clone()));
        if sync_late && !written.is_empty() {
            self.later.push((now + MS * 1500, Later::Sync));
        }
        self.hold_against(&written);
        self.wrong.extend(process.wrong());
        if goes_on {
            self.process = Some(process);
        } else {
            // All is on disk: what is left of it has nothing more to say.
            self.cluster.disconnect();
            if process.is_cut_off() {
                self.forget_life();
            }
            process.kill(&mut self.dice, &mut Disk::default(), &mut |_| {}).await;
            let down = self.down_after_stop.take().unwrap_or(100);
            self.start_at = Some(now + MS * u32::try_from(down).unwrap_or(0));
        }
    }

    fn start(&mut self) {
        self.start_at = None;
        if self.disk.rows().next().is_none() {
            self.stores += 1;
        }
        if self.is_new && self.new_until.is_none() {
            self.new_until = Some(Instant::now() + MS * 5000);
        }
        let now_s = self.files.now_ns() / 1_000_000_000;
        let store = self.disk.open(self.history.seed.wrapping_add(self.stores), now_s);
        let connection = self.cluster.connect();
        self.process = Some(Process::start(
            &self.history.setup,
            &self.fixture,
            &self.files,
            store,
            connection,
            Arc::clone(&self.letters),
            Arc::clone(&self.sent),
        ));
    }

    async fn kill(&mut self, down: u64) {
        let Some(process) = self.process.take() else { return };
        self.cluster.disconnect();
        let mut written = Vec::new();
        process.kill(&mut self.dice, &mut self.disk, &mut |row| written.push(row.clone())).await;
        self.hold_against(&written);
        self.forget_life();
        self.down_after_stop = None;
        self.start_at = Some(Instant::now() + MS * u32::try_from(down).unwrap_or(0));
    }

    /// A process is gone with requests on their way: what was in them is read again, or its writer destroyed it.
    fn forget_life(&self) {
        self.lines.died();
        self.sent.lock().expect("one thread").files.clear();
    }

    /// A checkpoint on disk never passes an unsettled byte.
    fn hold_against(&mut self, rows: &[FileRow]) {
        let sent = self.sent.lock().expect("one thread");
        for row in rows {
            let Some(lines) = sent.files.get(&row.id) else { continue };
            let proven = self.proven.entry(row.id).or_default();
            if *proven >= row.position.offset {
                continue;
            }
            for (offset, id) in lines.range(*proven..row.position.offset) {
                if !self.cluster.has(id) && !self.letters.has(id.as_str()) {
                    self.wrong.push(format!("the checkpoint of {} passed byte {offset}, which is not settled", row.id));
                }
            }
            *proven = row.position.offset;
        }
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    async fn step(&mut self, what: What) {
        match what {
            What::Append { log, lines, sort, padding, half } => self.append(log, lines, sort, padding, half),
            What::Rename { log, lingers } => self.rename(log, lingers),
            What::CopyTruncate { log, parts, between } => self.copy_truncate(log, parts, between),
            What::Truncate { log } => {
                self.finish_line(log);
                if let Some(node) = self.writable(log) {
                    self.count("truncated");
                    self.empty(&node);
                    self.hint(Hint::Changed(log_path(log)));
                }
            }
            What::Remove { log, number } => self.remove(log, number),
            What::Pack { log, number } => self.pack(log, number),
            What::Link { log } => {
                let (path, name) = (log_path(log), PathBuf::from(format!("/logs/{log}.link.log")));
                if self.files.node(&path).is_some() && self.files.node(&name).is_none() {
                    self.count("linked");
                    self.files.link(&path, &name);
                    self.names_changed(&name);
                }
            }
            What::Chunk { lines, padding, moved_in, again, unended } => {
                self.chunk(lines, padding, moved_in, again, unended);
            }
            What::RollOver => {
                if self.cluster.roll_over() {
                    self.count("rolled over");
                }
            }
            What::Trouble { trouble, lasts, percent } => {
                self.cluster.trouble(trouble, MS * u32::try_from(lasts).unwrap_or(0), percent);
            }
            What::StoreFull { lasts } => {
                self.count("disk full");
                self.disk.fill(MS * u32::try_from(lasts).unwrap_or(0));
            }
            What::LettersFull { lasts } => self.letters.fill(MS * u32::try_from(lasts).unwrap_or(0)),
            What::Kill { down } => {
                if self.process.is_some() {
                    self.count("killed");
                    self.kill(down).await;
                }
            }
            What::KillAt { trap, down } => {
                if self.process.is_some() {
                    self.down_after_trap = Some(down);
                    self.cluster.set_trap(trap);
                }
            }
            What::PowerCut { down } => {
                self.count("power cut");
                self.kill(down).await;
                self.disk.power_cut();
            }
            What::Stop { down } => {
                if let Some(process) = &mut self.process {
                    process.stop();
                    self.down_after_stop = Some(down);
                    self.count("stopped");
                }
            }
            What::LoseStore { down } => {
                self.count("store lost");
                self.kill(down).await;
                self.lose_store();
            }
        }
    }

    fn lose_store(&mut self) {
        // What it knew to be a dead letter is sent once more, as after a death.
        self.lines.died();
        self.disk.lose();
        self.new_until = None;
        self.is_new = true;
        self.forgive_loss();
    }

    /// While a store is new, files that are copied get other ids than their originals had before.
    fn forgive_loss(&self) {
        if !self.is_new || self.new_until.is_some_and(|until| Instant::now() > until) {
            return;
        }
        // Ordinals and twins are kept in the store alone: a known limit.
        let nodes = self.files.nodes();
        let copied: BTreeSet<usize> = nodes
            .iter()
            .filter(|(_, node)| node.content().is_copy)
            .flat_map(|(_, node)| node.content().lines.clone())
            .collect();
        for (_, node) in nodes {
            let content = node.content();
            let has_twin = content.is_copy || content.lines.iter().any(|line| copied.contains(line));
            if has_twin {
                content.lines.iter().for_each(|line| self.lines.may_repeat(*line));
            }
        }
    }

    // Writers.

    fn hint(&mut self, hint: Hint) {
        let delay = match self.history.setup.hints {
            Hints::Prompt => self.dice.range(0, 20),
            Hints::Late => self.dice.range(0, 1500),
            Hints::Some if self.dice.chance(50) => self.dice.range(0, 50),
            Hints::Some | Hints::None => return,
        };
        if let Some(process) = &mut self.process {
            process.hint(hint, MS * u32::try_from(delay).unwrap_or(0));
        }
    }

    fn names_changed(&mut self, path: &Path) {
        self.hint(Hint::Changed(path.to_owned()));
        self.hint(Hint::Names);
    }

    /// Where the writer of `log` writes; nowhere while it waits.
    fn writable(&mut self, log: usize) -> Option<Arc<Node>> {
        if self.logs[log].busy { None } else { self.logs[log].node.clone() }
    }

    fn put(&mut self, node: &Node, line: usize, ended: bool) {
        let text = self.lines.text(line);
        self.files.append(node, text.as_bytes(), Some(line));
        if ended {
            self.files.append(node, b"\n", None);
        }
        self.lines.written(line);
    }

    fn finish_line(&mut self, log: usize) {
        if let Some((line, rest)) = self.logs[log].half.take()
            && let Some(node) = self.logs[log].node.clone()
        {
            self.files.append(&node, rest.as_bytes(), None);
            self.lines.written(line);
        }
    }

    fn append(&mut self, log: usize, lines: u64, sort: Sort, padding: usize, half: bool) {
        if self.logs[log].busy {
            return;
        }
        let path = log_path(log);
        self.finish_line(log);
        let node = match self.logs[log].node.clone() {
            Some(node) => node,
            None => {
                let node = self.files.create(&path);
                self.logs[log].node = Some(Arc::clone(&node));
                self.names_changed(&path);
                node
            }
        };
        if let Some(header) = self.header
            && node.content().bytes.is_empty()
        {
            self.put(&node, header, true);
        }
        for number in 0..lines {
            let line = self.lines.make(if number % 3 == 0 { sort } else { Sort::Plain }, padding);
            if half && number + 1 == lines {
                let text = self.lines.text(line) + "\n";
                let (now, later) = text.split_at(text.len() / 2);
                self.files.append(&node, now.as_bytes(), Some(line));
                self.logs[log].half = Some((line, later.to_owned()));
            } else {
                self.put(&node, line, true);
            }
        }
        if self.logs[log].lingers {
            self.finish_line(log);
            self.logs[log].lingers = false;
            self.logs[log].node = None;
            // It closed the file under whatever name it has now.
            let named = self.files.nodes().into_iter().find(|(_, other)| Arc::ptr_eq(other, &node));
            if let Some((path, _)) = named {
                self.hint(Hint::Completed(path));
            }
        } else {
            self.hint(Hint::Changed(path));
        }
    }

    /// Makes room for a new `.1`.
    fn shift(&mut self, log: usize) {
        for number in (1..=KEPT).rev() {
            for end in ["", ".gz"] {
                let from = rotated(log, number, end);
                if self.files.node(&from).is_none() {
                    continue;
                }
                if number == KEPT {
                    self.unlink(&from);
                } else {
                    self.move_to(&from, &rotated(log, number + 1, end));
                }
            }
        }
    }

    fn move_to(&mut self, from: &Path, to: &Path) {
        self.files.rename(from, to).expect("it is there");
        self.hint(Hint::Completed(to.to_owned()));
        self.hint(Hint::Names);
    }

    /// Whether something of `log` is being copied or packed: rotation waits for it, as logrotate does.
    fn rotates(&self, log: usize) -> bool {
        let of_log = |path: &Path| path.to_string_lossy().starts_with(&format!("/logs/{log}.log"));
        self.logs[log].busy
            || self.later.iter().any(|(_, later)| match later {
                Later::PackPart { from, .. } | Later::PackDone { from } => of_log(from),
                _ => false,
            })
    }

    fn rename(&mut self, log: usize, lingers: bool) {
        let path = log_path(log);
        if self.rotates(log) || self.logs[log].lingers || self.files.node(&path).is_none() {
            return;
        }
        self.count("renamed");
        self.shift(log);
        self.move_to(&path, &rotated(log, 1, ""));
        if lingers {
            self.logs[log].lingers = true;
        } else {
            self.finish_line(log);
            self.logs[log].node = None;
        }
    }

    fn copy_truncate(&mut self, log: usize, parts: u64, between: bool) {
        let path = log_path(log);
        if self.rotates(log) || self.logs[log].lingers {
            return;
        }
        let Some(from) = self.files.node(&path) else { return };
        self.finish_line(log);
        self.count("copied and truncated");
        self.shift(log);
        let to = rotated(log, 1, "");
        let copy = self.files.create(&to);
        copy.content().is_copy = true;
        self.names_changed(&to);
        self.logs[log].busy = true;
        let (now, length) = (Instant::now(), from.content().bytes.len());
        let parts = usize::try_from(parts).unwrap_or(1);
        let mut at = now;
        for part in 1..=parts {
            at += MS * u32::try_from(self.dice.range(0, 150)).unwrap_or(0);
            let until = length * part / parts;
            self.later.push((at, Later::CopyPart { from: Arc::clone(&from), to: to.clone(), until }));
        }
        at += MS * u32::try_from(self.dice.range(0, 60)).unwrap_or(0);
        self.later.push((at, Later::CopyDone { log, from, to, between }));
    }

    fn pack(&mut self, log: usize, number: usize) {
        let from = rotated(log, number, "");
        let lingers = self.logs[log].lingers && number == 1;
        if self.rotates(log) || lingers || self.files.node(&rotated(log, number, ".gz")).is_some() {
            return;
        }
        let Some(node) = self.files.node(&from) else { return };
        self.count("packed");
        let packed = Arc::new(gzip(&node.content().bytes));
        let to = rotated(log, number, ".gz");
        let copy = self.files.create(&to);
        copy.content().is_copy = true;
        self.names_changed(&to);
        let mut at = Instant::now();
        for from_byte in [0, packed.len() / 2] {
            at += MS * u32::try_from(self.dice.range(0, 150)).unwrap_or(0);
            self.later.push((at, Later::PackPart { from: from.clone(), packed: Arc::clone(&packed), from_byte }));
        }
        self.later.push((at + MS, Later::PackDone { from }));
    }

    fn remove(&mut self, log: usize, number: usize) {
        let path = rotated(log, number, "");
        if self.rotates(log) || self.files.node(&path).is_none() || (self.logs[log].lingers && number == 1) {
            return;
        }
        self.count("removed");
        self.unlink(&path);
    }

    fn unlink(&mut self, path: &Path) {
        let Some(node) = self.files.node(path) else { return };
        self.files.remove(path).expect("it is there");
        self.hint(Hint::Names);
        let lines = node.content().lines.clone();
        self.destroyed(&lines);
    }

    fn empty(&mut self, node: &Node) {
        let lines = node.content().lines.clone();
        self.files.truncate(node);
        self.destroyed(&lines);
    }

    /// What is in no file any more need not arrive.
    fn destroyed(&self, lines: &[usize]) {
        self.forgive_loss();
        let nodes = self.files.nodes();
        for line in lines {
            if !nodes.iter().any(|(path, node)| path.starts_with("/logs") && node.content().lines.contains(line)) {
                self.lines.destroyed(*line);
            }
        }
    }

    fn chunk(&mut self, lines: u64, padding: usize, moved_in: bool, again: bool, unended: bool) {
        if !again || self.chunks == 0 {
            self.chunks += 1;
        }
        let path = PathBuf::from(format!("{CHUNKS}{}.log", self.chunks));
        if self.files.node(&path).is_some() || (lines == 0 && self.header.is_none()) {
            return;
        }
        let mut numbers: Vec<usize> = self.header.into_iter().collect();
        numbers.extend(
            (0..lines)
                .map(|number| self.lines.make(if number % 5 == 4 { Sort::Refused } else { Sort::Plain }, padding)),
        );
        self.count(if moved_in { "chunk moved in" } else { "chunk written" });
        if moved_in {
            let hidden = PathBuf::from(format!("/logs/.c{}", self.chunks));
            let node = self.files.create(&hidden);
            for (place, line) in numbers.iter().enumerate() {
                self.put(&node, *line, !(unended && place + 1 == numbers.len()));
            }
            self.move_to(&hidden, &path);
            return;
        }
        let node = self.files.create(&path);
        self.names_changed(&path);
        let mut at = Instant::now();
        for (place, line) in numbers.iter().enumerate() {
            // It never pauses for as long as the settle time.
            at += MS * u32::try_from(if place % 4 == 0 { self.dice.range(0, 200) } else { 0 }).unwrap_or(0);
            let end = if unended && place + 1 == numbers.len() { "" } else { "\n" };
            let text = self.lines.text(*line) + end;
            self.later.push((at, Later::ChunkPart { path: path.clone(), node: Arc::clone(&node), line: *line, text }));
        }
        self.later.push((at + MS, Later::ChunkDone { path }));
    }

    fn go_on_later(&mut self) {
        let now = Instant::now();
        loop {
            let next = self.later.iter().enumerate().filter(|(_, (at, _))| *at <= now);
            let Some(next) = next.min_by_key(|(_, (at, _))| *at).map(|(index, _)| index) else { break };
            let (_, later) = self.later.remove(next);
            match later {
                Later::CopyPart { from, to, until } => {
                    let Some(copy) = self.files.node(&to) else { continue };
                    let have = copy.content().bytes.len();
                    let part = from.content().bytes[have.min(until)..until].to_vec();
                    self.files.append(&copy, &part, None);
                    self.hint(Hint::Changed(to));
                }
                Later::CopyDone { log, from, to, between } => {
                    if let Some(copy) = self.files.node(&to) {
                        let lines = from.content().lines.clone();
                        copy.content().lines = lines;
                        self.forgive_loss();
                        self.hint(Hint::Completed(to));
                    }
                    if between {
                        let line = self.lines.make(Sort::Plain, 10);
                        self.put(&from, line, true);
                    }
                    self.empty(&from);
                    self.hint(Hint::Changed(log_path(log)));
                    self.logs[log].busy = false;
                }
                Later::PackPart { from, packed, from_byte } => {
                    let to = with_gz(&from);
                    let Some(copy) = self.files.node(&to) else { continue };
                    let part = if from_byte == 0 { &packed[..packed.len() / 2] } else { &packed[from_byte..] };
                    self.files.append(&copy, part, None);
                    self.hint(Hint::Changed(to));
                }
                Later::PackDone { from } => {
                    let to = with_gz(&from);
                    if let (Some(copy), Some(original)) = (self.files.node(&to), self.files.node(&from)) {
                        let lines = original.content().lines.clone();
                        copy.content().lines = lines;
                        self.forgive_loss();
                        self.hint(Hint::Completed(to));
                        self.unlink(&from);
                    }
                }
                Later::ChunkPart { path, node, line, text } => {
                    self.files.append(&node, text.as_bytes(), Some(line));
                    self.lines.written(line);
                    self.hint(Hint::Changed(path));
                }
                Later::ChunkDone { path } => self.hint(Hint::Completed(path)),
                Later::Sync => self.disk.sync(),
            }
        }
    }

    // The end.

    /// No more faults, and nothing half done.
    fn heal(&mut self) {
        self.cluster.heal();
        self.disk.make_room();
        self.letters.make_room();
        for log in 0..LOGS {
            self.finish_line(log);
        }
    }

    /// Runs until everything is there, and a while longer; then nothing may be missing, twice or strange.
    async fn drain(&mut self) {
        let healed = Instant::now();
        let mut done_at = None;
        while self.wrong.is_empty() {
            self.go_on_later();
            self.slice().await;
            let idle = self.process.as_ref().is_some_and(Process::is_idle) && self.cluster.is_quiet();
            let done = idle && self.lines.missing().is_empty();
            done_at = if done { done_at.or(Some(Instant::now())) } else { None };
            if done_at.is_some_and(|at: Instant| at.elapsed() >= AFTERMATH) {
                break;
            }
            if healed.elapsed() >= PATIENCE {
                let process = self.process.as_ref().map_or("no process".to_owned(), Process::describe);
                let cluster = self.cluster.describe();
                self.wrong
                    .push(format!("after {PATIENCE:?} not there: {:?}; {process}; {cluster}", self.lines.missing()));
            }
            self.pause().await;
        }
        self.wrong.extend(self.lines.wrong());
        for id in self.cluster.repeated_ids() {
            self.wrong.push(format!("the id {} is there more than once", id.as_str()));
        }
        // Of files that begin alike, one may be a copy of what another one was: it stays.
        if self.wrong.is_empty() && self.header.is_none() && self.history.setup.mode == Mode::ChunksDeleted {
            let left = self.files.nodes();
            self.wrong.extend(left.into_iter().map(|(path, _)| format!("{} was not deleted", path.display())));
        }
    }
}

fn log_path(log: usize) -> PathBuf {
    PathBuf::from(format!("/logs/{log}.log"))
}

fn rotated(log: usize, number: usize, end: &str) -> PathBuf {
    PathBuf::from(format!("/logs/{log}.log.{number}{end}"))
}

fn with_gz(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.gz", path.display()))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all")
}
