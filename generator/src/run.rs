//! The loop that ties generator, writer and manifest together, at full speed or in step with the real clock. This is
//! the only place that reads a clock, and it decides when lines are written, never what they say.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::generator::Generator;
use crate::manifest::{Manifest, RunInfo, Tally};
use crate::writer::Writer;

/// How often the manifest is renewed and progress is told.
const TICK: Duration = Duration::from_secs(1);
/// The shortest sleep: faster events are written in small groups.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// The longest sleep: how late a request to stop may be seen.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// How many events are written at full speed between two looks at the clock.
const EVENTS_PER_LOOK: u64 = 4096;

/// A run: everything from the first line to the complete manifest.
#[derive(Debug)]
pub struct Run {
    /// Where lines come from.
    pub generator: Generator,
    /// Where they go.
    pub writer: Writer,
    /// What the manifest says about the run.
    pub info: RunInfo,
    /// Where the manifest goes, every second and at the end.
    pub manifest_path: Option<PathBuf>,
    /// Whether an event is written only when as much real time has passed as lies between it and the start.
    pub in_real_time: bool,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Events written.
    pub events: u64,
    /// The time since the run began.
    pub elapsed: Duration,
}

impl Run {
    /// Writes until the schedule ends or `stop` is set, and returns the complete manifest. Calls `on_tick` every second.
    ///
    /// # Errors
    /// If lines or manifest cannot be written. Then the manifest file is the one of the last second.
    pub fn execute(mut self, stop: &AtomicBool, mut on_tick: impl FnMut(Progress)) -> Result<Manifest> {
        let mut tally = Tally::new(self.generator.catalog());
        let begin = Instant::now();
        let mut next_tick = TICK;
        let mut elapsed = Duration::ZERO;
        let mut events = 0;
        let mut line = Vec::with_capacity(4096);
        while let Some(offset_ns) = self.generator.next_offset_ns() {
            let due = Duration::from_nanos(offset_ns);
            if self.in_real_time && due > elapsed {
                elapsed = begin.elapsed();
                if due > elapsed {
                    self.writer.flush()?;
                    thread::sleep((due - elapsed).clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
                    elapsed = begin.elapsed();
                }
            } else if events % EVENTS_PER_LOOK == 0 {
                elapsed = begin.elapsed();
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if elapsed >= next_tick {
                next_tick = elapsed + TICK;
                on_tick(Progress { events, elapsed });
                self.save_snapshot(&tally)?;
            }
            if self.in_real_time && due > elapsed {
                continue;
            }
            line.clear();
            if let Some(event) = self.generator.next_line(&mut line) {
                self.writer.write_line(&line)?;
                tally.count(&event);
                events += 1;
            }
        }
        let mut manifest = tally.manifest(&self.info, self.generator.catalog(), self.writer.finish()?);
        manifest.complete = true;
        if let Some(path) = &self.manifest_path {
            manifest.save(path)?;
        }
        Ok(manifest)
    }

    fn save_snapshot(&mut self, tally: &Tally) -> Result<()> {
        let Some(path) = &self.manifest_path else { return Ok(()) };
        // Lines first: a manifest never promises what is not in the files.
        self.writer.flush()?;
        tally.manifest(&self.info, self.generator.catalog(), self.writer.files()).save(path)
    }
}
