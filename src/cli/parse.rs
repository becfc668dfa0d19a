//! `logweir parse`: what lines become, without Elasticsearch.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::{CliError, ConfigArgs};
use crate::config::{self, Config, Format, Loaded, Source};
use crate::encode::FileFields;
use crate::parse;
use crate::pipeline::plan::Plan;
use crate::pipeline::run::host_name;
use crate::pipeline::transform::{Context, OfSource, Transform};
use crate::read::{Content, Cursor, Limits, Reader, Step};
use crate::record::FileId;

/// How much of the input `auto` looks at.
const DETECT_BYTES: usize = 64 << 10;

/// Show the documents that the lines of a file become
#[derive(Debug, Args)]
pub struct ParseArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The file, or - for standard input
    pub file: PathBuf,
    /// Say which format was found, and which field came from where
    #[arg(long)]
    pub explain: bool,
    /// Parse and enrich as this source of the configuration does
    #[arg(long, value_name = "NAME", conflicts_with = "format")]
    pub source: Option<String>,
    /// Parse as this format: combined, json, "{nginx: '…'}" [default: auto]
    #[arg(long)]
    pub format: Option<Format>,
}

/// Prints one JSON document a line.
///
/// # Errors
/// What kept the file from being read, or a source that is not configured.
pub fn run(args: &ParseArgs, loaded: &Loaded, out: &mut impl Write) -> Result<(), CliError> {
    let config = effective(args, &loaded.config)?;
    let host = config.host.clone().unwrap_or_else(host_name);
    let plans = Plan::compile(&config, &host)?;
    let Some(plan) = plans.first() else { return Ok(()) };
    let fail = |source| CliError::InputOutput { what: format!("cannot read {}", args.file.display()), source };
    // Standard input cannot be read at an offset: it is kept in a file that has no name.
    let copied = if args.file == Path::new("-") { Some(spool().map_err(fail)?) } else { None };
    let mut content = match copied {
        Some(file) => Content::of(file),
        None => Content::open(&args.file).map_err(fail)?.0,
    };
    let mut head = vec![0; DETECT_BYTES];
    let n = content.read_at(0, &mut head).map_err(fail)?;
    let (format, reason) = match &plan.format {
        Some(format) => (Arc::clone(format), "it is configured".to_owned()),
        None => {
            let detection = parse::detect(&head[..n]);
            let compiled = parse::Format::compile(&detection.format, &plan.source.map);
            let compiled = compiled.map_err(|error| CliError::Usage(error.to_string()))?;
            (Arc::new(compiled), detection.reason)
        }
    };
    if args.explain {
        writeln!(out, "format: {} ({reason})", format.name()).map_err(super::cannot_print)?;
        for (piece, meaning) in format.explain() {
            writeln!(out, "  {piece:<40} {meaning}").map_err(super::cannot_print)?;
        }
    }
    let limits = Limits { max_line_bytes: usize::try_from(config.read.max_line_bytes.0).unwrap_or(usize::MAX) };
    let file = FileId([0; 8]);
    let fields = FileFields::new(&args.file, file);
    let (mut transform, mut source) = (Transform::default(), OfSource::new(plan, &config.enrich));
    let mut context = Context {
        plan,
        format: &format,
        enrich: &config.enrich,
        file,
        fields: &fields,
        read_at: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
        last_time: None,
    };
    let (mut reader, mut cursor) = (Reader::default(), Cursor::start());
    let mut body = Vec::new();
    loop {
        let mut failed = None;
        let step = reader
            .step(&mut content, &mut cursor, true, limits, |line, _| {
                body.clear();
                if let Some((_, document)) = transform.line(line, &mut context, &mut source, &mut body) {
                    failed = out.write_all(&body[document..]).err();
                }
                failed.is_none()
            })
            .map_err(fail)?;
        if let Some(error) = failed {
            return Err(super::cannot_print(error));
        }
        if !matches!(step, Step::More { .. }) {
            return Ok(());
        }
    }
}

/// The configuration with the one source to parse as.
fn effective(args: &ParseArgs, config: &Config) -> Result<Config, CliError> {
    let named = |name: &String| {
        let found = config.sources.iter().find(|source| source.name == *name).cloned();
        found.ok_or_else(|| CliError::Usage(format!("--source {name}: there is no such source")))
    };
    let source = match &args.source {
        Some(name) => named(name)?,
        None => ad_hoc(args.format.clone().unwrap_or_default()),
    };
    Ok(Config { sources: vec![source], ..config.clone() })
}

fn ad_hoc(format: Format) -> Source {
    Source {
        name: "parse".to_owned(),
        paths: Vec::new(),
        exclude: Vec::new(),
        mode: config::Mode::Chunks,
        on_done: config::OnDone::Keep,
        archive_dir: None,
        format,
        map: std::collections::BTreeMap::new(),
        include_lines: Vec::new(),
        exclude_lines: Vec::new(),
        dataset: "parse".to_owned(),
        fields: std::collections::BTreeMap::new(),
        keep_fields: Vec::new(),
        start_at: config::StartAt::Beginning,
        ignore_older: None,
        index: None,
        pipeline: None,
    }
}

fn spool() -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let mut file = File::from(rustix::fs::open(std::env::temp_dir(), flags, mode)?);
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(file),
            n => file.write_all(&buffer[..n])?,
        }
    }
}
