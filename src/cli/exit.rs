//! What the process ends with, and the one place that decides which error is which status (sysexits, so that systemd and
//! scripts can tell them apart).

use std::io;

use crate::checkpoint::StoreError;
use crate::client::ClientError;
use crate::config::{AuthError, ConfigError};
use crate::pipeline::plan::PlanError;
use crate::pipeline::run::RunError;
use crate::setup::SetupError;
use crate::setup::dashboards::DashboardsError;
use crate::verify::VerifyError;

/// Done.
pub const DONE: u8 = 0;
/// The answer is no: `verify` found a line missing or twice, `check` found a file that cannot be read.
pub const ANSWER_NO: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 64;
/// Elasticsearch or Kibana cannot be reached or will not serve, or `--deadline` passed.
pub const UNAVAILABLE: u8 = 69;
/// A file or the store cannot be read or written.
pub const INPUT_OUTPUT: u8 = 74;
/// The configuration is wrong.
pub const CONFIGURATION: u8 = 78;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It did, and the answer is no.
    #[error("{0}")]
    AnswerNo(String),
    /// It was asked for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What it needs is not there now.
    #[error("{0}")]
    Unavailable(String),
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    InputOutput {
        /// What was tried, with its path.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A source cannot be used as it is configured.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A secret cannot be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Elasticsearch's address, certificate or login cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The checkpoint store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon stopped.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Templates could not be put in place.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The dashboards could not be imported.
    #[error(transparent)]
    Dashboards(#[from] DashboardsError),
    /// Nothing could be proven.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl CliError {
    /// The exit status for this error.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::AnswerNo(_) => ANSWER_NO,
            Self::Usage(_) => USAGE,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::InputOutput { .. } => INPUT_OUTPUT,
            // A file that was named and cannot be read is a wrong configuration: starting again will not help.
            Self::Config(ConfigError::Unreadable { .. } | ConfigError::Invalid(_))
            | Self::Plan(_)
            | Self::Auth(_)
            | Self::Client(_) => CONFIGURATION,
            Self::Store(error) => of_store(error),
            Self::Setup(SetupError::Unreachable(_) | SetupError::Refused { .. }) => UNAVAILABLE,
            Self::Setup(SetupError::Unable(_)) => CONFIGURATION,
            Self::Dashboards(
                DashboardsError::Unreachable(..)
                | DashboardsError::Refused { .. }
                | DashboardsError::Stranger { .. }
                | DashboardsError::NotImported(_),
            ) => UNAVAILABLE,
            Self::Dashboards(DashboardsError::Unable(_)) => CONFIGURATION,
            Self::Verify(VerifyError::Unreachable(_) | VerifyError::Refused { .. }) => UNAVAILABLE,
            Self::Verify(VerifyError::Store(error)) => of_store(error),
            Self::Verify(VerifyError::Read { .. } | VerifyError::Damaged { .. }) => INPUT_OUTPUT,
            Self::Run(error) => match error {
                RunError::Plan(_)
                | RunError::Claimed(_)
                | RunError::Auth(_)
                | RunError::Client(_)
                | RunError::Listen(_)
                | RunError::Otlp(_) => CONFIGURATION,
                RunError::Store(error) => of_store(error),
                RunError::DeadLetters { .. }
                | RunError::System { .. }
                | RunError::Unreadable { .. }
                | RunError::Unsaved(_) => INPUT_OUTPUT,
                RunError::Deadline(_) | RunError::Cut { .. } => UNAVAILABLE,
            },
        }
    }
}

/// A directory that cannot be made or written is configured wrongly; a store that is damaged or in use is not.
fn of_store(error: &StoreError) -> u8 {
    match error {
        StoreError::Io { source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            CONFIGURATION
        }
        StoreError::Io { .. }
        | StoreError::InUse { .. }
        | StoreError::Sqlite { .. }
        | StoreError::Damaged { .. }
        | StoreError::Newer { .. } => INPUT_OUTPUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_status() {
        let io = || io::Error::from(io::ErrorKind::PermissionDenied);
        for (error, code) in [
            (CliError::AnswerNo(String::new()), 1),
            (CliError::Usage(String::new()), 64),
            (CliError::Unavailable(String::new()), 69),
            (CliError::InputOutput { what: "read /x".to_owned(), source: io() }, 74),
            (CliError::Config(ConfigError::Invalid(Vec::new())), 78),
            (CliError::Config(ConfigError::Unreadable { path: "/x".into(), source: io() }), 78),
        ] {
            assert_eq!(error.code(), code);
        }
    }
}
