//! What can be wrong with a configuration: a value each, all of them at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// The preset of this name.
    Preset(String),
    /// This line (from 1) of this file.
    File(Arc<Path>, usize),
    /// The environment variable with this name.
    Environment(String),
    /// `--set` with this key.
    Set(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Set(key) => write!(f, "--set {key}"),
        }
    }
}

impl Origin {
    /// The mark that a value carries through the merge, where the crate `config` has room for a text.
    pub(super) fn mark(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::Preset(name) => format!("preset {name}"),
            Self::File(_, line) => format!("file {line}"),
            Self::Environment(name) => format!("env {name}"),
            Self::Set(key) => format!("set {key}"),
        }
    }

    /// The origin that a mark stands for; there is only one file.
    pub(super) fn from_mark(mark: &str, file: &Arc<Path>) -> Self {
        match mark.split_once(' ') {
            Some(("preset", name)) => Self::Preset(name.to_owned()),
            Some(("file", line)) => Self::File(file.clone(), line.parse().unwrap_or(1)),
            Some(("env", name)) => Self::Environment(name.to_owned()),
            Some(("set", key)) => Self::Set(key.to_owned()),
            _ => Self::Default,
        }
    }
}

/// One thing that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the value comes from.
    pub origin: Origin,
    /// The key, dotted, such as `sources.0.paths`; empty where it is the text as a whole.
    pub key: String,
    /// A sentence, lower case and without a full stop.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        // `--set KEY` names the key already.
        if !self.key.is_empty() && self.origin != Origin::Set(self.key.clone()) {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Why there is no configuration to work with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says what cannot be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

/// Decides on the problems found.
pub(super) fn none_of(problems: Vec<Problem>) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(problems)) }
}
