//! The pump: threads that each take a file's turn, read, parse, enrich and encode its lines into a batch of their own,
//! and send full batches on. All work that costs CPU is here; none of it waits while it holds a file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::files::File;
use super::follow::Report;
use super::queue::Next;
use super::transform::{Context, OfSource, Transform};
use crate::batch::Builder;
use crate::encode::FileFields;
use crate::read::{Content, Head, Limits, Reader, Step};
use crate::record::Batch;
use crate::telemetry::Stage;
use crate::telemetry::events::LinesCut;

/// How much of one file is read in a turn: some milliseconds of work, so that no file waits long for another.
const TURN_BYTES: u64 = 1 << 20;

/// How much of a file `auto` looks at.
const DETECT_BYTES: usize = 64 << 10;

/// How long a thread waits for work or memory before it looks whether to end.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where the end of all work is waited for, a batch waits no longer than this for more to read.
const ONCE_PATIENCE: Duration = Duration::from_millis(5);

/// While batches are sent slower than they are filled, how long a thread with nothing to read waits before it looks again.
const FULL_PATIENCE: Duration = Duration::from_millis(5);

/// Where full batches go.
pub trait Outlet: Send {
    /// Whether a batch would be taken at once.
    fn has_room(&self) -> bool;

    /// Hands it on; waits while too many are on their way.
    fn send(&mut self, batch: Batch);
}

impl Outlet for tokio::sync::mpsc::Sender<Batch> {
    fn has_room(&self) -> bool {
        self.capacity() > 0
    }

    fn send(&mut self, batch: Batch) {
        // It fails only when the index stage is gone: the process is ending at once, and the checkpoint knows.
        drop(self.blocking_send(batch));
    }
}

/// One thread's state: buffers and caches that live as long as it does.
pub struct Pump {
    shared: Arc<Shared>,
    batches: Box<dyn Outlet>,
    /// How long to wait for work or memory.
    patience: Duration,
    reader: Reader,
    transform: Transform,
    /// By source.
    sources: Vec<OfSource>,
    /// By destination; most daemons have one.
    builders: Vec<Option<Builder>>,
}

/// How a turn ended.
enum Turn {
    /// There is more to read.
    More,
    /// All that is there was read, or the file cannot be read now.
    Done,
}

impl Pump {
    /// A thread's state, for `shared`; full batches go to `batches`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, batches: tokio::sync::mpsc::Sender<Batch>) -> Self {
        Self::with(shared, PATIENCE, Box::new(batches))
    }

    /// The same for any outlet and any patience.
    pub(crate) fn with(shared: Arc<Shared>, patience: Duration, batches: Box<dyn Outlet>) -> Self {
        let sources = shared.plans.iter().map(|plan| OfSource::new(plan, &shared.config.enrich)).collect();
        let builders = shared.destinations.iter().map(|_| None).collect();
        Self {
            batches,
            patience,
            reader: Reader::default(),
            transform: Transform::default(),
            sources,
            builders,
            shared,
        }
    }

    /// Works until the queue is closed; what was read by then is sent on.
    pub fn run(mut self) {
        while self.step() {}
    }

    /// Waits for a file, serves its turn and sends what is due. Returns whether to go on: not once the queue is closed and
    /// all is sent.
    pub(crate) fn step(&mut self) -> bool {
        let longest = if self.shared.once { ONCE_PATIENCE } else { self.patience };
        let wait = self.until_due().map_or(self.patience, |due| due.min(longest));
        match self.shared.queue.next(wait) {
            Next::Ready(file) => {
                self.shared.health.beat(Stage::Read);
                let more = self.serve(&file);
                self.send_due();
                if more {
                    self.shared.queue.push_back(file);
                }
                return true;
            }
            Next::Nothing if self.builders.iter().all(Option::is_none) => self.shared.health.idle(Stage::Read),
            Next::Nothing if self.shared.once => self.send_all(),
            Next::Nothing => {}
            Next::Closed => {
                self.send_all();
                return false;
            }
        }
        self.send_due();
        true
    }

    /// One turn of one file. Returns whether there is more to read.
    fn serve(&mut self, file: &Arc<File>) -> bool {
        let destination = self.shared.destination_of[file.source];
        if !self.open_builder(destination) {
            // No memory is free: Elasticsearch is behind, and the file is the queue.
            return true;
        }
        let turn = self.turn(file, destination);
        if self.builders[destination].as_ref().is_some_and(|builder| builder.is_full(&self.shared.limits)) {
            self.send(destination);
        }
        if matches!(turn, Turn::More) {
            return true;
        }
        file.backlog.store(0, Ordering::Relaxed);
        file.queued.store(false, Ordering::Release);
        if file.again.swap(false, Ordering::AcqRel) {
            self.shared.enqueue(file);
        }
        false
    }

    /// Sees to it that there is a batch to fill. Where memory is short, what is there already is sent first, so that no
    /// two threads can wait for each other.
    fn open_builder(&mut self, destination: usize) -> bool {
        if self.builders[destination].is_some() {
            return true;
        }
        let bytes = self.shared.limits.share();
        let share = self.shared.budget.take(bytes, Duration::ZERO).or_else(|| {
            self.send_all();
            self.shared.budget.take(bytes, self.patience)
        });
        let Some(share) = share else { return false };
        let to = self.shared.destinations[destination].clone();
        self.builders[destination] =
            Some(Builder::new(to, self.shared.spares.take(), share, &self.shared.limits, Instant::now()));
        true
    }

    fn turn(&mut self, file: &Arc<File>, destination: usize) -> Turn {
        let shared = Arc::clone(&self.shared);
        let mut state = file.lock();
        if state.detached {
            return Turn::Done;
        }
        if state.open.is_none() {
            match Content::open_in(&*shared.files, &state.path) {
                Ok((content, stat)) if stat.key() == state.key => state.open = Some(shared.slots.hold(content)),
                Ok(_) => {
                    shared.report(Report::Moved(file.id));
                    return Turn::Done;
                }
                Err(error) => {
                    shared.report(Report::Unreadable(file.id, error));
                    return Turn::Done;
                }
            }
        }
        let state = &mut *state;
        let Some(mut open) = state.open.take() else { return Turn::Done };
        // Nothing before the cursor proves that this is still the file: its first line does.
        if state.cursor.position.offset == 0 {
            match open.content.head(state.complete) {
                Ok(head) if head.as_ref().map(Head::key) == Some(state.head) => {}
                Ok(_) => {
                    shared.report(Report::Replaced(file.id));
                    return Turn::Done;
                }
                Err(error) => {
                    shared.report(Report::Unreadable(file.id, error));
                    return Turn::Done;
                }
            }
        }
        let result = self.read(file, state, &mut open.content, destination, &shared);
        file.read_to.store(state.cursor.position.offset, Ordering::Relaxed);
        open.used = Instant::now();
        if !open.content.is_packed() {
            state.marks.note(state.cursor.position, open.used);
        }
        let turn = match result {
            Ok(Step::More { .. }) => {
                state.end = None;
                Turn::More
            }
            Ok(Step::End { rest, .. }) => {
                state.rest = rest;
                state.end = open.content.stat().ok();
                if open.content.is_packed() {
                    file.size.store(file.read_to.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                if state.complete && !open.content.is_cut() {
                    shared.report(Report::Finished(file.id));
                }
                open.content.rest();
                Turn::Done
            }
            Ok(Step::Replaced) => {
                shared.report(Report::Replaced(file.id));
                return Turn::Done;
            }
            Err(error) => {
                shared.report(Report::Unreadable(file.id, error));
                return Turn::Done;
            }
        };
        if !shared.slots.is_over() {
            state.open = Some(open);
        }
        turn
    }

    /// Steps through the file until its turn is over, its batch is full or its end is reached.
    fn read(
        &mut self,
        file: &File,
        state: &mut super::files::State,
        content: &mut Content,
        destination: usize,
        shared: &Shared,
    ) -> io::Result<Step> {
        let plan = &shared.plans[file.source];
        let format = match (&state.format, &plan.format) {
            (Some(format), _) | (None, Some(format)) => Arc::clone(format),
            (None, None) => {
                let mut head = vec![0; DETECT_BYTES];
                let n = content.read_at(0, &mut head)?;
                shared.decide_format(file, &state.path, &head[..n])
            }
        };
        state.format = Some(Arc::clone(&format));
        let Some(builder) = self.builders[destination].as_mut() else { return Ok(Step::More { bytes: 0 }) };
        let (transform, source) = (&mut self.transform, &mut self.sources[file.source]);
        let limits = Limits { max_line_bytes: shared.max_line_bytes };
        let start = state.cursor.position;
        let doubtful = start.offset < state.doubt_end;
        builder.begin(file.id, &state.path, start, doubtful, Instant::now());
        let mut context = Context {
            plan,
            format: &format,
            enrich: &shared.config.enrich,
            file: file.id,
            fields: &FileFields::new(&state.path, file.id),
            read_at: shared.wall_clock_ns(),
            last_time: state.last_time,
        };
        let complete = state.complete;
        let mut cut = 0;
        let step = loop {
            let step = self.reader.step(content, &mut state.cursor, complete, limits, |line, _| {
                let start = builder.body().len();
                match transform.line(line, &mut context, source, builder.body()) {
                    Some((id, document)) => {
                        cut += u64::from(line.cut);
                        builder.added(id, line.offset, start, document);
                    }
                    None => builder.skipped(),
                }
                !builder.is_full(&shared.limits)
            });
            builder.reached(state.cursor.position);
            match step {
                Ok(Step::More { .. })
                    if !builder.is_full(&shared.limits) && state.cursor.position.offset - start.offset < TURN_BYTES => {
                }
                other => break other,
            }
        };
        let last_time = context.last_time;
        state.last_time = last_time;
        if cut > 0 {
            LinesCut { path: &state.path, lines: cut, offset: start.offset }.emit(&shared.metrics);
        }
        if let Some(run) = builder.last_run().filter(|run| !run.span.is_empty()) {
            shared.metrics.lines_read(run.lines, run.span.len());
            shared.register(run, last_time);
        }
        step
    }

    /// How long until the oldest batch is due.
    fn until_due(&self) -> Option<Duration> {
        let due = self.builders.iter().flatten().map(|builder| builder.due(&self.shared.limits)).min()?;
        let wait = due.saturating_duration_since(Instant::now());
        Some(if wait.is_zero() && !self.batches.has_room() { FULL_PATIENCE } else { wait })
    }

    /// What is old enough is sent; but while there is no room, it is filled further: so requests are as small as time
    /// asks for where the cluster keeps up, and as large as they may be where it does not.
    fn send_due(&mut self) {
        if !self.batches.has_room() {
            return;
        }
        let now = Instant::now();
        for destination in 0..self.builders.len() {
            if self.builders[destination].as_ref().is_some_and(|builder| builder.due(&self.shared.limits) <= now) {
                self.send(destination);
            }
        }
    }

    fn send_all(&mut self) {
        for destination in 0..self.builders.len() {
            self.send(destination);
        }
    }

    fn send(&mut self, destination: usize) {
        let Some(batch) = self.builders[destination].take().and_then(Builder::finish) else { return };
        self.batches.send(batch);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use serde_json::json;

    use super::*;
    use crate::checkpoint::Checkpoints;
    use crate::config::{Config, Span};
    use crate::discover::watch::Hint;
    use crate::filesystem::Os;
    use crate::pipeline::Parts;
    use crate::pipeline::follow::Follower;
    use crate::pipeline::plan::Plan;
    use crate::telemetry::{Health, Metrics};

    /// Keeps how many lines each batch has.
    #[derive(Clone, Default)]
    struct Noted {
        room: Arc<AtomicBool>,
        lines: Arc<Mutex<Vec<usize>>>,
    }

    impl Outlet for Noted {
        fn has_room(&self) -> bool {
            self.room.load(Ordering::SeqCst)
        }

        fn send(&mut self, batch: Batch) {
            self.lines.lock().unwrap().push(batch.items.len());
        }
    }

    #[test]
    fn a_batch_that_is_due_is_filled_further_while_nothing_more_can_be_sent() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        std::fs::write(&log, "one\n").unwrap();
        let mut config = Config::for_test(dir.path());
        config.read.notify = false;
        config.batch.max_age = Span(Duration::ZERO);
        let source = json!({"name": "web", "paths": [log], "format": "text", "dataset": "web"});
        config.sources = vec![serde_json::from_value(source).unwrap()];
        let metrics = Metrics::new("host");
        let (checkpoints, rows) = Checkpoints::open(&config.checkpoint, 100, |_| {}).unwrap();
        let parts = Parts {
            plans: Plan::compile(&config, "host").unwrap().into(),
            host: "host".to_owned(),
            checkpoints,
            first_start: true,
            once: false,
            files: Arc::new(Os),
            health: Health::new(metrics.clone(), Duration::from_secs(60)),
            metrics,
        };
        let shared = Shared::new(config, parts);
        let mut follower = Follower::new(Arc::clone(&shared), rows);
        follower.start().unwrap();
        let noted = Noted::default();
        let mut pump = Pump::with(shared, Duration::ZERO, Box::new(noted.clone()));

        pump.step();
        std::fs::File::options().append(true).open(&log).unwrap().write_all(b"two\n").unwrap();
        follower.turn(vec![Hint::Changed(log)]);
        pump.step();
        assert!(noted.lines.lock().unwrap().is_empty());
        noted.room.store(true, Ordering::SeqCst);
        pump.step();
        assert_eq!(*noted.lines.lock().unwrap(), [2]);
    }
}
