//! `logweir checkpoints`: how far each file is, whether the store is sound, and starting over.

use std::io::Write;

use clap::{Args, Subcommand};

use super::{CliError, ConfigArgs, Output};
use crate::checkpoint::{self, Verdict};
use crate::config::Loaded;

/// Show the progress of files, check the store, or start over
#[derive(Debug, Args)]
pub struct CheckpointsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CheckpointsCommand,
}

/// What to do with checkpoints.
#[derive(Debug, Subcommand)]
pub enum CheckpointsCommand {
    /// Show each file with its position
    List {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
        /// Print a table, or one JSON value
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Say what the store holds, what is wrong with it, and what a start would do
    Check {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
        /// Print text, or one JSON value
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Put the store aside, so that all files are read again; what is in Elasticsearch already is looked up and stays
    /// single
    Reset {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl CheckpointsArgs {
    /// Where the configuration comes from.
    #[must_use]
    pub fn config(&self) -> &ConfigArgs {
        match &self.command {
            CheckpointsCommand::List { config, .. }
            | CheckpointsCommand::Check { config, .. }
            | CheckpointsCommand::Reset { config } => config,
        }
    }
}

/// Looks at the store or puts it aside.
///
/// # Errors
/// [`CliError::AnswerNo`] if a start would refuse the store; what is wrong was printed then.
pub fn run(args: &CheckpointsArgs, loaded: &Loaded, out: &mut impl Write) -> Result<(), CliError> {
    let path = &loaded.config.checkpoint.path;
    let print = |text: &str, out: &mut dyn Write| out.write_all(text.as_bytes()).map_err(super::cannot_print);
    let (inspection, output, is_list) = match &args.command {
        CheckpointsCommand::Reset { .. } => {
            let aside = checkpoint::reset(path, jiff::Timestamp::now().as_second())?;
            let text = aside.map_or_else(
                || format!("there is no store in {}\n", path.display()),
                |aside| format!("the store is now {}; the next start makes a new one\n", aside.display()),
            );
            return print(&text, out);
        }
        CheckpointsCommand::List { output, .. } => (checkpoint::inspect(path)?, output, true),
        CheckpointsCommand::Check { output, .. } => (checkpoint::inspect(path)?, output, false),
    };
    let text = match (output, is_list) {
        (Output::Json, _) => serde_json::to_string_pretty(&inspection).unwrap_or_default() + "\n",
        (Output::Text, true) => inspection.list(),
        (Output::Text, false) => inspection.to_string(),
    };
    print(&text, out)?;
    if inspection.verdict == Verdict::Refuse {
        return Err(CliError::AnswerNo(format!("a start would refuse the store in {}", path.display())));
    }
    Ok(())
}
