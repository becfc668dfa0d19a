//! Where log lines go: standard error, as text or JSON, filtered as configured.
//!
//! Under systemd, text lines carry their priority the way the journal reads it, and no time: the journal has its own.

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, Telemetry};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "telemetry.log_level: `{filter}` is not a log filter: {source}; right would be `info` or `warn,logweir=debug`"
    )]
    Filter {
        /// What was configured.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Part of the filter is neither a level nor `target=level`.
    #[error(
        "telemetry.log_level: `{part}` in `{filter}` is not a level; right would be off, error, warn, info, debug or trace, \
         or `logweir=debug`"
    )]
    Level {
        /// What was configured.
        filter: String,
        /// The part that is wrong.
        part: String,
    },
    /// Something else receives log lines already.
    #[error("logging has been set up already")]
    Twice,
}

/// Sends this process's log lines to standard error from now on.
///
/// # Errors
/// Where `telemetry.log_level` is not a filter, or at the second call.
pub fn init(config: &Telemetry) -> Result<(), LogError> {
    let journal = stderr_is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let ansi = !journal && io::stderr().is_terminal();
    let subscriber = subscriber(config, journal, ansi, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_already_set| LogError::Twice)
}

fn subscriber<W>(
    config: &Telemetry,
    journal: bool,
    ansi: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_target(false).with_ansi(ansi);
    let layer = match (config.log_format, journal) {
        (LogFormat::Json, _) => layer.json().flatten_event(true).with_writer(writer).boxed(),
        (LogFormat::Text, true) => layer.without_time().with_level(false).with_writer(Prioritized(writer)).boxed(),
        (LogFormat::Text, false) => layer.with_writer(writer).boxed(),
    };
    let filter = filter(&config.log_level)?;
    Ok(Box::new(tracing_subscriber::registry().with(layer.with_filter(filter))))
}

/// `EnvFilter` takes any bare word for the name of a target, so that a misspelt level would silence everything: a bare word
/// must be a level here.
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    for part in text.split(',').map(str::trim) {
        let level = !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        if !level && !part.contains(['=', '[']) {
            return Err(LogError::Level { filter: text.to_owned(), part: part.to_owned() });
        }
    }
    EnvFilter::try_new(text).map_err(|source| LogError::Filter { filter: text.to_owned(), source })
}

/// Whether standard error is the stream to the journal that `JOURNAL_STREAM` (`device:inode`) speaks of: the variable alone
/// is also inherited by shells on desktops, whose programs write to a terminal.
fn stderr_is_journal(journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Puts the priority before each line, as sd-daemon(3) has it: `<4>` is a warning.
struct Prioritized<W>(W);

struct PrioritizedLine<W> {
    prefix: &'static str,
    writer: W,
}

impl<W: Write> Write for PrioritizedLine<W> {
    /// A line comes in one piece and goes on in one piece, so that threads do not mix theirs.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.write_all(&[self.prefix.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Prioritized<W> {
    type Writer = PrioritizedLine<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        PrioritizedLine { prefix: "<6>", writer: self.0.make_writer() }
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        let prefix = match *metadata.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        };
        PrioritizedLine { prefix, writer: self.0.make_writer_for(metadata) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged_as(config: &Telemetry, journal: bool, what: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(config, journal, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, what);
        let lines = lines.0.lock().unwrap().clone();
        String::from_utf8(lines).unwrap()
    }

    /// What `what` logs on this thread, as text.
    pub(crate) fn logged(what: impl FnOnce()) -> String {
        logged_as(&Telemetry::default(), false, what)
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let log = logged_as(&Telemetry::default(), true, || {
            tracing::error!(lines = 3, "nothing moves");
            tracing::info!("running");
            tracing::debug!("left out");
        });
        assert_eq!(log, "<3>nothing moves lines=3\n<6>running\n");
    }

    #[test]
    fn json_lines_are_flat_objects_with_a_time() {
        let config = Telemetry { log_format: LogFormat::Json, ..Telemetry::default() };
        let log = logged_as(&config, true, || tracing::warn!(lines = 3, "cut"));
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!((&line["level"], &line["message"], &line["lines"]), (&"WARN".into(), &"cut".into(), &3.into()));
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn a_filter_that_means_nothing_is_an_error_that_names_its_key() {
        for text in ["inof", "logweir=debug,wran", "logweir=loud", ""] {
            let error = filter(text).expect_err(text).to_string();
            assert!(error.starts_with("telemetry.log_level: `"), "{error}");
        }
        for text in ["info", "WARN", "off", "warn,logweir=debug", "logweir::read=trace, info"] {
            assert!(filter(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_journal_stream_that_is_not_standard_error_is_no_journal() {
        for stream in [None, Some(""), Some("0:0"), Some("x:y")] {
            assert!(!stderr_is_journal(stream), "{stream:?}");
        }
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        assert!(stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
    }
}
