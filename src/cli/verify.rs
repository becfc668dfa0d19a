//! `logweir verify`: the proof that each line is in Elasticsearch exactly once.

use std::io::{IsTerminal, Write};
use std::path::Path;

use clap::Args;

use super::{CliError, ConfigArgs, Output};
use crate::checkpoint;
use crate::client::Client;
use crate::config::Loaded;
use crate::index::dead_letter;
use crate::pipeline::plan::Plan;
use crate::pipeline::run::host_name;
use crate::verify::{Counts, FileReport, Report, Verification};

/// Prove that each line is in Elasticsearch exactly once: missing, twice, dead-lettered, per file
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
/// [`CliError::AnswerNo`] if a line is missing, twice or changed.
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
    let inspection = checkpoint::inspect(&config.checkpoint.path)?;
    let mut dead_letters = std::collections::HashSet::new();
    dead_letter::list(&config.dead_letters.path, |letter| {
        dead_letters.insert(letter.id);
    })
    .map_err(|source| {
        let what = format!("cannot read the dead letters in {}", config.dead_letters.path.display());
        CliError::InputOutput { what, source }
    })?;
    let terminal = std::io::stderr().is_terminal();
    let mut progress = |counts: &Counts| {
        if terminal {
            eprint!("\r\x1b[2K{} lines compared, {} missing, {} twice", counts.lines, counts.missing, counts.twice);
        }
    };
    let verification = Verification {
        client: &client,
        config,
        plans: &plans,
        rows: inspection.rows,
        host: &host,
        dead_letters,
        progress: &mut progress,
    };
    let mut report = super::runtime()?.block_on(verification.run(args.source.as_deref()))?;
    report.at = jiff::Timestamp::now().as_second();
    if terminal {
        eprint!("\r\x1b[2K");
    }
    let written = match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &report).map_err(Into::into).and_then(|()| writeln!(out))
        }
        Output::Text => write_text(&report, out),
    };
    written.map_err(super::cannot_print)?;
    let total = &report.total;
    if total.is_proven() {
        return Ok(());
    }
    Err(CliError::AnswerNo(format!(
        "of {} lines {} are missing, {} are there twice, {} were changed",
        total.lines, total.missing, total.twice, total.changed
    )))
}

fn write_text(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>12}  FILE",
        "LINES", "ONCE", "MISSING", "TWICE", "CHANGED", "DEAD", "SKIPPED", "BEHIND"
    )?;
    let row = |out: &mut dyn Write, counts: &Counts, name: &str| {
        writeln!(
            out,
            "{:>12} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>12}  {name}",
            counts.lines,
            counts.once,
            counts.missing,
            counts.twice,
            counts.changed,
            counts.dead_lettered,
            counts.skipped,
            counts.behind
        )
    };
    for file in &report.files {
        row(out, &file.counts, &shown(&file.path))?;
        write_examples(file, out)?;
    }
    row(out, &report.total, "total")?;
    for gone in &report.gone {
        writeln!(out, "gone: {} ({} lines, {}): cannot be compared", shown(&gone.path), gone.lines, gone.file_id)?;
    }
    if report.total.is_proven() && report.total.behind == 0 {
        writeln!(out, "each line is there exactly once")?;
    } else if report.total.is_proven() {
        writeln!(
            out,
            "each line up to the checkpoint is there exactly once; {} bytes are to come",
            report.total.behind
        )?;
    }
    Ok(())
}

fn write_examples(file: &FileReport, out: &mut impl Write) -> std::io::Result<()> {
    for (what, offsets) in [("missing", &file.missing_at), ("twice", &file.twice_at), ("changed", &file.changed_at)] {
        if !offsets.is_empty() {
            writeln!(out, "    {what} at byte {offsets:?}{}", if offsets.len() < 10 { "" } else { " and more" })?;
        }
    }
    Ok(())
}

/// A name can hold what commands a terminal.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}
