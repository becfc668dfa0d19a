//! `logweir run`: the daemon.

use clap::Args;

use super::{CliError, ConfigArgs};
use crate::config::{Loaded, Span};
use crate::pipeline::run::{Options, run as run_pipeline};
use crate::telemetry::logs;

/// Run the daemon: read what the sources match and index it, for ever
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Index all there is now, then exit
    #[arg(long)]
    pub once: bool,
    /// With --once: give up after this time, such as 10m, with status 69
    #[arg(long, value_name = "TIME", requires = "once")]
    pub deadline: Option<Span>,
}

/// Runs until a signal, or with `--once` until all is done.
///
/// # Errors
/// What stops the daemon.
pub fn run(args: &RunArgs, loaded: Loaded) -> Result<(), CliError> {
    loaded.ready()?;
    logs::init(&loaded.config.telemetry).map_err(|error| CliError::Usage(error.to_string()))?;
    let options = Options { once: args.once, deadline: args.deadline.map(|limit| limit.0) };
    super::runtime()?.block_on(run_pipeline(loaded.config, options))?;
    Ok(())
}
