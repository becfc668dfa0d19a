//! Numbered lines at a steady rate, in a file that is rotated by renaming, in one that is rotated by copytruncate, and in
//! compressed chunks. Each ends with its stream's letter and its number, which becomes `http.request.id`.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use integration_tests::dice::Dice;
use logweir_generator::{
    Format, Generator, Layout, Limit, Load, Manifest, Rotation, RotationMethod, RunInfo, Scenario, Schedule, Settings,
    Tally, Writer, WriterOptions,
};

/// How often what was made is written.
const PACE: Duration = Duration::from_millis(10);

/// What the lines look like: those of the generator, and the number.
pub(crate) const FORMAT: &str = concat!(
    r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "#,
    r#""$http_user_agent" $request_time $request_id"#,
);

/// How the files of a stream come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rename,
    Copytruncate,
    Chunks,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Rename, Self::Copytruncate, Self::Chunks];

    /// Its directory among the logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rename => "rename",
            Self::Copytruncate => "copytruncate",
            Self::Chunks => "chunks",
        }
    }

    /// What its numbers begin with.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Rename => 'r',
            Self::Copytruncate => 'c',
            Self::Chunks => 'k',
        }
    }

    /// Of the lines of a second.
    fn share(self) -> f64 {
        match self {
            Self::Rename | Self::Copytruncate => 0.45,
            Self::Chunks => 0.1,
        }
    }
}

/// What was written to one stream.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) kind: Kind,
    pub(crate) manifest: Manifest,
}

/// Writers at work; they end when told.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    /// Lines in files that a reader can see.
    visible: Vec<Arc<AtomicU64>>,
    writers: Vec<JoinHandle<Result<Written>>>,
}

impl Traffic {
    /// Starts to write `rate` lines a second below `logs`; files rotate about every so many seconds.
    pub(crate) fn start(logs: &Path, dice: &mut Dice, rate: u64, rotate_every: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut visible, mut writers) = (Vec::new(), Vec::new());
        for kind in Kind::ALL {
            let rate = rate as f64 * kind.share();
            let lines = (rate * dice.between(rotate_every * 800, rotate_every * 1200).as_secs_f64()) as u64;
            let stream = Stream::new(kind, logs, dice.below(u64::MAX >> 33), rate, lines.max(10))?;
            let shown = Arc::new(AtomicU64::new(0));
            visible.push(Arc::clone(&shown));
            let stop = Arc::clone(&stop);
            writers.push(std::thread::spawn(move || stream.write_until(&stop, &shown)));
        }
        Ok(Self { stop, visible, writers })
    }

    /// Lines written so far that a reader can see.
    pub(crate) fn visible(&self) -> u64 {
        self.visible.iter().map(|lines| lines.load(Ordering::Relaxed)).sum()
    }

    /// Ends it; what was written.
    pub(crate) fn finish(self) -> Result<Vec<Written>> {
        self.stop.store(true, Ordering::Relaxed);
        let end = |writer: JoinHandle<Result<Written>>| writer.join().map_err(|_| anyhow!("a writer panicked"))?;
        self.writers.into_iter().map(end).collect()
    }
}

struct Stream {
    kind: Kind,
    generator: Generator,
    writer: Writer,
    info: RunInfo,
    /// Lines a chunk; 1 for files that grow.
    unit: u64,
}

impl Stream {
    fn new(kind: Kind, logs: &Path, seed: u64, rate: f64, lines: u64) -> Result<Self> {
        let scenario = Scenario::shop();
        let format = Format::NginxLatency;
        let start = SystemTime::now().try_into().context("the clock")?;
        let schedule = Schedule { start, load: Load::Steady(rate), total: None, duration: None };
        let generator = Generator::new(&scenario, &schedule, Settings { seed, format, dirty: 0.0 })?;
        let grows = |method| Layout::Growing(Rotation { limit: Some(Limit::Lines(lines)), method, keep: 0 });
        let layout = match kind {
            Kind::Rename => grows(RotationMethod::Rename),
            Kind::Copytruncate => grows(RotationMethod::Copytruncate),
            Kind::Chunks => Layout::Chunks { lines },
        };
        let writer = Writer::open(WriterOptions {
            directory: logs.join(kind.name()),
            name: "access".to_owned(),
            extension: format.extension().to_owned(),
            layout,
            gzip: kind == Kind::Chunks,
            header: None,
        })?;
        let info = RunInfo { scenario: scenario.name, format: "nginx-latency".to_owned(), seed, start };
        let unit = if kind == Kind::Chunks { lines } else { 1 };
        Ok(Self { kind, generator, writer, info, unit })
    }

    fn write_until(mut self, stop: &AtomicBool, visible: &AtomicU64) -> Result<Written> {
        let mut tally = Tally::new(self.generator.catalog());
        let mut line = Vec::with_capacity(4096);
        let mut number: u64 = 0;
        let began = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = began.elapsed();
            while self.generator.next_offset_ns().is_some_and(|due| Duration::from_nanos(due) <= now) {
                line.clear();
                let Some(event) = self.generator.next_line(&mut line) else { break };
                tally.count(&event);
                line.pop();
                writeln!(line, " {}{number}", self.kind.letter())?;
                self.writer.write_line(&line)?;
                number += 1;
            }
            self.writer.flush()?;
            visible.store(number / self.unit * self.unit, Ordering::Relaxed);
            std::thread::sleep(PACE);
        }
        let mut manifest = tally.manifest(&self.info, self.generator.catalog(), self.writer.finish()?);
        manifest.complete = true;
        Ok(Written { kind: self.kind, manifest })
    }
}
