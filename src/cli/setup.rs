//! `logweir setup`: what Elasticsearch needs before the first document.

use std::io::Write;
use std::sync::Arc;

use clap::Args;

use super::{CliError, ConfigArgs};
use crate::client::Client;
use crate::config::Loaded;
use crate::setup::{self, Change};

/// Put templates and retention in place; can be repeated, and deletes nothing
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
}

/// Prints what changed.
///
/// # Errors
/// Where Elasticsearch cannot be reached or refuses.
pub fn run(args: &SetupArgs, loaded: &Loaded, out: &mut impl Write) -> Result<(), CliError> {
    loaded.ready()?;
    let elasticsearch = &loaded.config.elasticsearch;
    let client = Arc::new(Client::new(elasticsearch, elasticsearch.auth.resolve()?)?);
    let changes = super::runtime()?.block_on(setup::apply(&client, &loaded.config, args.dry_run))?;
    for change in &changes {
        write_change(change, args.dry_run, out).map_err(super::cannot_print)?;
    }
    Ok(())
}

fn write_change(change: &Change, dry_run: bool, out: &mut impl Write) -> std::io::Result<()> {
    let done = match (change.differences.is_empty(), change.new, dry_run) {
        (true, _, _) => "unchanged",
        (false, true, false) => "created",
        (false, true, true) => "would be created",
        (false, false, false) => "updated",
        (false, false, true) => "would be updated",
    };
    writeln!(out, "{}: {done}", change.path)?;
    if change.new && !dry_run {
        return Ok(());
    }
    for difference in &change.differences {
        if let Some(before) = &difference.before {
            writeln!(out, "  - {}: {before}", difference.path)?;
        }
        if let Some(after) = &difference.after {
            writeln!(out, "  + {}: {after}", difference.path)?;
        }
    }
    Ok(())
}
