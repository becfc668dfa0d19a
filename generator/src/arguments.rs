//! The command line, and what it means in terms of the library.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use logweir_generator::units::{parse_duration, parse_size};
use logweir_generator::{
    Format, Layout, Limit, Load, Rotation, RotationMethod, RunInfo, Scenario, Schedule, Settings, WriterOptions,
};

/// Writes reproducible log traffic, and a manifest that says what was written.
///
/// Equal arguments, with --seed and --start given, write equal bytes. Without --total, --duration or --simulate the
/// run goes on until Ctrl-C, which ends it cleanly: the last chunk is moved in and the manifest is complete.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Directory to write to; made if it is not there
    #[arg(required_unless_present = "print_scenario")]
    directory: Option<PathBuf>,

    /// Format of the lines
    #[arg(long, value_enum, default_value = "combined", help_heading = "Traffic")]
    format: Format,
    /// Equal seeds give equal traffic
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Traffic")]
    seed: u64,
    /// Scenario file instead of the built-in shop
    #[arg(long, value_name = "FILE.json", help_heading = "Traffic")]
    pub(crate) scenario: Option<PathBuf>,
    /// Print the built-in scenario, an example of the file format, and exit
    #[arg(long, help_heading = "Traffic")]
    pub(crate) print_scenario: bool,
    /// Share of lines that are spoilt, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION", help_heading = "Traffic")]
    dirty: f64,

    /// Events per second, in step with the real clock; 0: at full speed, with a virtual clock for the timestamps
    #[arg(long, default_value_t = 0.0, value_name = "N", help_heading = "Time")]
    rate: f64,
    /// Let the rate follow the scenario's day curve and episodes; --rate is then the mean of an ordinary day
    #[arg(long, help_heading = "Time")]
    vary: bool,
    /// End after this many events
    #[arg(long, value_name = "N", help_heading = "Time")]
    total: Option<u64>,
    /// End after this much time of the timestamps, such as 30s; with --rate also real time
    #[arg(long, value_parser = parse_duration, conflicts_with = "total", value_name = "TIME", help_heading = "Time")]
    duration: Option<Duration>,
    /// Timestamp to begin with, RFC 3339 [default: now; with --simulate: now less that span]
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    start: Option<Timestamp>,
    /// Spread --total events over a span such as 24h, following day curve and episodes, at full speed
    #[arg(
        long, value_parser = parse_duration, requires = "total", conflicts_with_all = ["rate", "vary"],
        value_name = "TIME", help_heading = "Time"
    )]
    simulate: Option<Duration>,

    /// First part of the file names
    #[arg(long, default_value = "access", help_heading = "Files")]
    name: String,
    /// Many files that arrive complete, or one that grows
    #[arg(long, value_enum, default_value = "chunks", help_heading = "Files")]
    mode: Mode,
    /// Lines a chunk
    #[arg(
        long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..),
        value_name = "N", help_heading = "Files"
    )]
    chunk_lines: u64,
    /// Rotate the growing file every N lines
    #[arg(
        long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "rotate_bytes",
        value_name = "N", help_heading = "Files"
    )]
    rotate_lines: Option<u64>,
    /// Rotate the growing file at this size, such as 10MiB
    #[arg(long, value_parser = parse_size, value_name = "SIZE", help_heading = "Files")]
    rotate_bytes: Option<u64>,
    /// How to rotate
    #[arg(long, value_enum, default_value = "rename", help_heading = "Files")]
    rotate_by: RotationMethod,
    /// Rotated files to keep; 0: all
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Files")]
    keep: usize,
    /// Compress chunks, or rotated files
    #[arg(long, help_heading = "Files")]
    gzip: bool,
    /// Whether every csv file begins with a line of column names
    #[arg(long, value_enum, default_value = "on", help_heading = "Files")]
    csv_header: Switch,
    /// Where to write the manifest: every second, and at the end
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub(crate) manifest: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  logweir-generator logs --rate 200 --format nginx-latency --manifest manifest.json
  logweir-generator logs --simulate 24h --total 1000000 --seed 7
  logweir-generator logs --mode grow --rate 5000 --rotate-bytes 10MiB --rotate-by copytruncate --keep 5
  logweir-generator logs --total 100000 --format json --dirty 0.01 --gzip

Exit status: 0 done, also after Ctrl-C; 64 usage; 74 input/output; 78 scenario";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Chunks,
    Grow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Arguments {
    /// What clap cannot say about single arguments.
    pub(crate) fn check(self) -> Result<Self, clap::Error> {
        let rotates = self.rotate_lines.is_some() || self.rotate_bytes.is_some();
        let refused = if !(0.0..=1.0).contains(&self.dirty) {
            "--dirty must be between 0 and 1"
        } else if self.rate != 0.0 && !(0.001..=1e9).contains(&self.rate) {
            "--rate must be 0, or between 0.001 and 1e9"
        } else if self.vary && self.rate == 0.0 {
            "--vary needs a --rate above 0"
        } else if self.rotate_bytes == Some(0) {
            "--rotate-bytes must be above 0"
        } else if rotates && self.mode == Mode::Chunks {
            "--rotate-lines and --rotate-bytes need --mode grow"
        } else if self.gzip && self.mode == Mode::Grow && !rotates {
            "--gzip compresses rotated files: it needs --rotate-lines or --rotate-bytes"
        } else if self.keep > 0 && !rotates {
            "--keep needs --rotate-lines or --rotate-bytes"
        } else if self.simulate.is_some_and(|span| span.is_zero()) || self.duration.is_some_and(|span| span.is_zero()) {
            "a span of time must be above 0"
        } else if self.name.is_empty() || self.name.contains('/') {
            "--name must be a part of a file name"
        } else {
            return Ok(self);
        };
        Err(Self::command().error(ErrorKind::ValueValidation, refused))
    }

    pub(crate) fn in_real_time(&self) -> bool {
        self.rate > 0.0
    }

    pub(crate) fn schedule(&self) -> Schedule {
        let span = self.simulate.and_then(|span| SignedDuration::try_from(span).ok()).unwrap_or_default();
        let load = match (self.simulate, self.vary) {
            (Some(_), _) => Load::Filling,
            (None, true) => Load::Varying(self.rate),
            (None, false) if self.rate > 0.0 => Load::Steady(self.rate),
            (None, false) => Load::Virtual,
        };
        Schedule {
            start: self.start.unwrap_or_else(|| Timestamp::now().saturating_sub(span).unwrap_or(Timestamp::UNIX_EPOCH)),
            load,
            total: self.total,
            duration: self.simulate.or(self.duration),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { seed: self.seed, format: self.format, dirty: self.dirty }
    }

    pub(crate) fn info(&self, scenario: &Scenario, schedule: &Schedule) -> RunInfo {
        let format = self.format.to_possible_value().map(|value| value.get_name().to_owned());
        RunInfo {
            scenario: scenario.name.clone(),
            format: format.unwrap_or_default(),
            seed: self.seed,
            start: schedule.start,
        }
    }

    pub(crate) fn writer_options(&self, schedule: &Schedule) -> WriterOptions {
        let (layout, name) = match self.mode {
            // The start is part of the name, so that the next run does not find its names taken.
            Mode::Chunks => (
                Layout::Chunks { lines: self.chunk_lines },
                format!("{}-{}", self.name, schedule.start.strftime("%Y%m%dT%H%M%SZ")),
            ),
            Mode::Grow => (
                Layout::Growing(Rotation {
                    limit: self.rotate_lines.map(Limit::Lines).or(self.rotate_bytes.map(Limit::Bytes)),
                    method: self.rotate_by,
                    keep: self.keep,
                }),
                self.name.clone(),
            ),
        };
        WriterOptions {
            directory: self.directory.clone().unwrap_or_default(),
            name,
            extension: self.format.extension().to_owned(),
            layout,
            gzip: self.gzip,
            header: self.format.header().filter(|_| self.csv_header == Switch::On).map(<[u8]>::to_vec),
        }
    }
}
