//! `logweir dead-letters`: what Elasticsearch refused for good, to look at, send again or give up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::{Args, Subcommand};

use super::{CliError, ConfigArgs, Output};
use crate::client::Client;
use crate::config::Loaded;
use crate::index::dead_letter::{self, ReplayError};
use crate::record::{ID_LEN, LineId};

/// Show, send again or give up what Elasticsearch refused for good
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Show how many there are, by reason, with one id each
    List {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
        /// Print a table, or all letters as one JSON value a line
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one whole: where its line is, the document and the answer
    Show {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
        /// Its `_id`
        #[arg(value_parser = line_id)]
        id: String,
    },
    /// Send them again; what Elasticsearch takes now is a dead letter no more
    Replay {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
        /// Only these `_id`s [default: all]
        #[arg(value_parser = line_id)]
        ids: Vec<String>,
    },
    /// Give them up
    Drop {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
        /// Their `_id`s
        #[arg(required_unless_present = "all", value_parser = line_id)]
        ids: Vec<String>,
        /// Give up all
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// An `_id` as typed.
fn line_id(typed: &str) -> Result<String, String> {
    let id = LineId::parse(typed).map(|_| typed.to_owned());
    id.ok_or_else(|| format!("an _id is {ID_LEN} letters, digits, hyphens and underscores"))
}

impl DeadLettersArgs {
    /// Where the configuration comes from.
    #[must_use]
    pub fn config(&self) -> &ConfigArgs {
        match &self.command {
            DeadLettersCommand::List { config, .. }
            | DeadLettersCommand::Show { config, .. }
            | DeadLettersCommand::Replay { config, .. }
            | DeadLettersCommand::Drop { config, .. } => config,
        }
    }
}

/// Looks at the dead letters or changes them.
///
/// # Errors
/// [`CliError::AnswerNo`] if there is no such letter, or if some were refused again.
pub fn run(args: &DeadLettersArgs, loaded: &Loaded, out: &mut impl Write) -> Result<(), CliError> {
    let path = &loaded.config.dead_letters.path;
    let fail =
        |source| CliError::InputOutput { what: format!("cannot use the dead letters in {}", path.display()), source };
    match &args.command {
        DeadLettersCommand::List { output: Output::Json, .. } => {
            let mut written = Ok(());
            dead_letter::list(path, |letter| {
                if written.is_ok() {
                    written =
                        serde_json::to_writer(&mut *out, &letter).map_err(Into::into).and_then(|()| writeln!(out));
                }
            })
            .map_err(fail)?;
            written.map_err(super::cannot_print)
        }
        DeadLettersCommand::List { output: Output::Text, .. } => {
            let mut by_reason: BTreeMap<String, (u64, String, String)> = BTreeMap::new();
            dead_letter::list(path, |letter| {
                let known = by_reason.entry(letter.kind.clone()).or_insert((0, letter.id, letter.reason));
                known.0 += 1;
            })
            .map_err(fail)?;
            write_table(&by_reason, out).map_err(super::cannot_print)
        }
        DeadLettersCommand::Show { id, .. } => match dead_letter::show(path, id).map_err(fail)? {
            Some(letter) => {
                serde_json::to_writer_pretty(&mut *out, &letter).map_err(|error| super::cannot_print(error.into()))?;
                writeln!(out).map_err(super::cannot_print)
            }
            None => Err(CliError::AnswerNo(format!("there is no dead letter {id}"))),
        },
        DeadLettersCommand::Drop { ids, all, .. } => {
            let ids: BTreeSet<String> = ids.iter().cloned().collect();
            let dropped = dead_letter::drop(path, (!all).then_some(&ids)).map_err(fail)?;
            writeln!(out, "{dropped} dropped").map_err(super::cannot_print)
        }
        DeadLettersCommand::Replay { ids, .. } => {
            loaded.ready()?;
            let elasticsearch = &loaded.config.elasticsearch;
            let client = Client::new(elasticsearch, elasticsearch.auth.resolve()?)?;
            let ids: BTreeSet<String> = ids.iter().cloned().collect();
            let only = (!ids.is_empty()).then_some(&ids);
            let deadline = elasticsearch.request_timeout.0;
            let replayed = super::runtime()?.block_on(dead_letter::replay(&client, path, only, deadline));
            let replayed = replayed.map_err(|error| match error {
                ReplayError::Cluster(error) => CliError::Unavailable(error.to_string()),
                ReplayError::Io(source) => fail(source),
            })?;
            let refused = replayed.refused;
            writeln!(
                out,
                "{} created, {} there already, {refused} refused again",
                replayed.created, replayed.duplicate
            )
            .map_err(super::cannot_print)?;
            if refused > 0 {
                return Err(CliError::AnswerNo(format!("{refused} dead letters were refused again")));
            }
            Ok(())
        }
    }
}

fn write_table(by_reason: &BTreeMap<String, (u64, String, String)>, out: &mut impl Write) -> std::io::Result<()> {
    if by_reason.is_empty() {
        return writeln!(out, "there are no dead letters");
    }
    writeln!(out, "{:>8}  {:<24}  {:<36}  REASON", "LETTERS", "AN ID", "TYPE")?;
    for (kind, (count, id, reason)) in by_reason {
        writeln!(out, "{count:>8}  {id:<24}  {kind:<36}  {reason}")?;
    }
    Ok(())
}
