//! `logweir verify`: the proof that each line is in Elasticsearch exactly once.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use super::{CliError, ConfigArgs, Output};
use crate::client::Client;
use crate::config::Loaded;
use crate::pipeline::plan::Plan;
use crate::pipeline::run::host_name;
use crate::telemetry::progress;
use crate::verify::{Counts, FileReport, GoneFile, Progress, Report, Verification};

/// Between two progress lines.
const EVERY: Duration = Duration::from_millis(200);

/// Prove that each line is in Elasticsearch exactly once: missing, twice, dead-lettered, per file
///
/// Works while the daemon runs and after, wherever rotation, compression or archiving have put the files. The report is
/// what is printed: keep it with `> report.txt` or `--output json > report.json`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Print a table, or one JSON value
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Compares files, store, dead letters and Elasticsearch.
///
/// # Errors
/// [`CliError::AnswerNo`] if a line is missing, twice or changed, or a document is there that no line accounts for.
pub fn run(args: &VerifyArgs, loaded: &Loaded, out: &mut impl Write) -> Result<(), CliError> {
    loaded.ready()?;
    let config = &loaded.config;
    if let Some(name) = &args.source
        && !config.sources.iter().any(|source| source.name == *name)
    {
        return Err(CliError::Usage(format!("--source {name}: there is no such source")));
    }
    let host = config.host.clone().unwrap_or_else(host_name);
    let plans = Plan::compile(config, &host)?;
    let client = Client::new(&config.elasticsearch, config.elasticsearch.auth.resolve()?)?;
    let terminal = std::io::stderr().is_terminal();
    let began = Instant::now();
    let mut last = began;
    let mut show = |progress: &Progress| {
        if terminal && last.elapsed() >= EVERY {
            last = Instant::now();
            eprint!("\r\x1b[2K{}", live(progress, began.elapsed()));
        }
    };
    let verification = Verification { client: &client, config, plans: &plans, host: &host, progress: &mut show };
    let report = super::runtime()?.block_on(verification.run(args.source.as_deref()));
    if terminal {
        eprint!("\r\x1b[2K");
    }
    let report = report?;
    let written = match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &report).map_err(Into::into).and_then(|()| writeln!(out))
        }
        Output::Text => write_text(&report, out),
    };
    written.map_err(super::cannot_print)?;
    if report.proven { Ok(()) } else { Err(CliError::AnswerNo(report.conclusion)) }
}

/// `1,234,567 lines, 12 %, 85,000 lines/s, 1 min 40 s left: 0 missing, 0 twice`.
fn live(progress: &Progress, took: Duration) -> String {
    let Progress { counts, bytes } = progress;
    #[expect(clippy::cast_precision_loss, reason = "shown in whole numbers")]
    let (done, all, lines) = (counts.bytes as f64, *bytes as f64, counts.lines as f64);
    let share = if all > 0.0 { (done / all).min(1.0) } else { 1.0 };
    let rate = lines / took.as_secs_f64().max(0.001);
    let left = if share > 0.0 { took.as_secs_f64() * (1.0 - share) / share } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and far below 2^64")]
    let (percent, rate, left) = ((share * 100.0) as u64, rate as u64, left.ceil() as u64);
    let left = if left < 60 { format!("{left} s") } else { format!("{} min {} s", left / 60, left % 60) };
    let mut text = format!(
        "{} lines, {percent} %, {} lines/s, {left} left: {} missing, {} twice",
        progress::grouped(counts.lines),
        progress::grouped(rate),
        counts.missing,
        counts.twice
    );
    if counts.changed > 0 {
        text.push_str(&format!(", {} changed", counts.changed));
    }
    text
}

fn write_text(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let cluster = &report.cluster;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    writeln!(out, "logweir {} on {}, store {}", report.logweir, report.host, or_unknown(&report.store_id))?;
    writeln!(
        out,
        "cluster {} ({}) at {}",
        or_unknown(&cluster.name),
        or_unknown(&cluster.uuid),
        cluster.urls.join(", ")
    )?;
    writeln!(out, "from {} to {}\n", report.started_at, report.ended_at)?;
    writeln!(
        out,
        "{:>12} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>12}  FILE",
        "LINES", "ONCE", "MISSING", "TWICE", "CHANGED", "EXTRA", "DEAD", "SKIPPED", "BEHIND"
    )?;
    let row = |out: &mut dyn Write, counts: &Counts, name: &str| {
        writeln!(
            out,
            "{:>12} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>12}  {name}",
            counts.lines,
            counts.once,
            counts.missing,
            counts.twice,
            counts.changed,
            counts.extra,
            counts.dead_lettered,
            counts.skipped,
            counts.behind
        )
    };
    for file in &report.files {
        row(out, &file.counts, &shown(&file.path))?;
        write_file(file, out)?;
    }
    row(out, &report.total, "total")?;
    for gone in &report.gone {
        write_gone(gone, out)?;
    }
    writeln!(out, "{}", report.conclusion)
}

/// A name can hold what commands a terminal.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

fn write_file(file: &FileReport, out: &mut impl Write) -> std::io::Result<()> {
    write!(out, "    file {} of {} in {}", file.file_id, file.source, file.target)?;
    if let (Some(first), Some(last)) = (&file.first_id, &file.last_id) {
        let end = file.start + file.counts.bytes;
        write!(out, ", bytes {}..{end} xxh3 {}, ids {first}..{last}", file.start, file.hash)?;
    }
    writeln!(out)?;
    for (what, offsets) in [("missing", &file.missing_at), ("twice", &file.twice_at), ("changed", &file.changed_at)] {
        if !offsets.is_empty() {
            writeln!(out, "    {what} at byte {offsets:?}{}", if offsets.len() < 10 { "" } else { " and more" })?;
        }
    }
    Ok(())
}

fn write_gone(gone: &GoneFile, out: &mut impl Write) -> std::io::Result<()> {
    write!(
        out,
        "gone: {}, file {} of {}: {} lines were settled ({} created, {} there already, {} dead-lettered, {} skipped)",
        shown(&gone.path),
        gone.file_id,
        gone.source,
        gone.lines,
        gone.created,
        gone.duplicate,
        gone.dead_lettered,
        gone.skipped
    )?;
    match &gone.counted {
        None => write!(out, ", its documents cannot be counted")?,
        Some(counted) => write!(
            out,
            "; there are {} documents: {} lines once, {} twice, {} missing, {} too many",
            counted.documents, counted.once, counted.twice, counted.missing, counted.extra
        )?,
    }
    if gone.unread > 0 {
        write!(out, "; {} bytes of it were never indexed", gone.unread)?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_says_rate_and_what_remains() {
        let counts = Counts { lines: 1_500_000, bytes: 300, missing: 2, ..Counts::default() };
        let progress = Progress { counts, bytes: 1000 };
        let expected = "1,500,000 lines, 30 %, 50,000 lines/s, 1 min 10 s left: 2 missing, 0 twice";
        assert_eq!(live(&progress, Duration::from_secs(30)), expected);
        let nothing = live(&Progress::default(), Duration::ZERO);
        assert_eq!(nothing, "0 lines, 100 %, 0 lines/s, 0 s left: 0 missing, 0 twice");
    }
}
