//! The command line: what was typed ([`Cli`]), the configuration that belongs to it, and one file a command.
//!
//! Parsing touches nothing; [`run`] loads the configuration and hands both to the command. Errors go to stderr, one line
//! each; the status is decided in `exit` alone.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Loaded};
use crate::record::LineId;

pub mod check;
pub mod checkpoints;
pub mod dead_letters;
pub mod exit;
pub mod parse;
pub mod run;
pub mod setup;
pub mod verify;

pub use exit::CliError;

/// Reads log files as they arrive and indexes every line in Elasticsearch exactly once.
///
/// Exit status: 0 done; 1 the answer is no; 64 usage; 69 Elasticsearch or Kibana unavailable; 74 input/output;
/// 78 configuration.
#[derive(Debug, Parser)]
#[command(name = "logweir", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration comes from. Part of each command, not of the program: clap would let a `--set` after the
/// command silently replace those before it.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file [default: /etc/logweir/logweir.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change one value of the configuration, such as `batch.max_docs=500` or `sources.0.paths=["/tmp/*.log"]`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Setup(setup::SetupArgs),
    Parse(parse::ParseArgs),
    Verify(verify::VerifyArgs),
    Checkpoints(checkpoints::CheckpointsArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
}

impl Command {
    fn config(&self) -> &ConfigArgs {
        match self {
            Self::Run(args) => &args.config,
            Self::Check(args) => &args.config,
            Self::Setup(args) => &args.config,
            Self::Parse(args) => &args.config,
            Self::Verify(args) => &args.config,
            Self::Checkpoints(args) => args.config(),
            Self::DeadLetters(args) => args.config(),
        }
    }
}

/// For whom output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON value.
    Json,
}

/// What was typed, `arguments` beginning with the name of the program.
///
/// # Errors
/// The exit status, after help, version or a complaint has been printed.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, u8> {
    Cli::try_parse_from(ids_last(arguments.collect())).map_err(|error| {
        // Nothing can be done where stderr is closed.
        let _ = error.print();
        match error.kind() {
            clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => exit::DONE,
            _ => exit::USAGE,
        }
    })
}

/// Puts ids that begin with a hyphen, as one in 64 does, behind a `--`, so that they are not taken for options.
fn ids_last(arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.iter().any(|argument| argument == "--") {
        return arguments;
    }
    let is_id = |typed: &str| typed.starts_with('-') && LineId::parse(typed).is_some();
    let (ids, mut others): (Vec<_>, Vec<_>) =
        arguments.into_iter().partition(|argument| argument.to_str().is_some_and(is_id));
    if !ids.is_empty() {
        others.push("--".into());
        others.extend(ids);
    }
    others
}

/// The configuration for what was typed; `env` is the environment.
///
/// # Errors
/// Whatever is wrong with it.
pub fn load(cli: &Cli, env: impl Iterator<Item = (OsString, OsString)>) -> Result<Loaded, CliError> {
    let mut variables = Vec::new();
    for (name, value) in env {
        // Other programs' variables may be what they like.
        let Some(name) = name.to_str().filter(|name| name.starts_with("LOGWEIR__")) else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) => return Err(CliError::Usage(format!("{name}: is not UTF-8"))),
        }
    }
    let args = cli.command.config();
    Ok(config::load(args.config.as_deref(), variables.into_iter(), &args.set)?)
}

/// Does what was typed.
///
/// # Errors
/// Why it could not, or that the answer is no.
pub fn run(cli: Cli, loaded: Loaded) -> Result<(), CliError> {
    let out = &mut std::io::stdout().lock();
    match cli.command {
        Command::Run(args) => run::run(&args, loaded),
        Command::Check(args) => check::run(&args, &loaded, out),
        Command::Setup(args) => setup::run(&args, &loaded, out),
        Command::Parse(args) => parse::run(&args, &loaded, &mut std::io::BufWriter::new(out)),
        Command::Verify(args) => verify::run(&args, &loaded, out),
        Command::Checkpoints(args) => checkpoints::run(&args, &loaded, out),
        Command::DeadLetters(args) => dead_letters::run(&args, &loaded, out),
    }
}

/// The runtime that input and output wait on; work that costs CPU has threads of its own.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|source| CliError::InputOutput { what: "cannot start a runtime".to_owned(), source })
}

fn cannot_print(source: std::io::Error) -> CliError {
    CliError::InputOutput { what: "cannot write the output".to_owned(), source }
}

/// Prints `error` and says which status it is.
#[must_use]
pub fn report(error: &CliError) -> u8 {
    for line in error.to_string().lines() {
        eprintln!("logweir: {line}");
    }
    error.code()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn status(typed: &str) -> Result<Cli, u8> {
        parse(typed.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_and_version_are_no_errors_and_nonsense_is_usage() {
        for (typed, expected) in [
            ("logweir --help", 0),
            ("logweir --version", 0),
            ("logweir help run", 0),
            ("logweir run --help", 0),
            ("logweir", 64),
            ("logweir walk", 64),
            ("logweir run --twice", 64),
            ("logweir run --deadline 5", 64),
            ("logweir run --once --deadline 5", 64),
            ("logweir parse - --source web --format json", 64),
            ("logweir checkpoints", 64),
        ] {
            assert_eq!(status(typed).err(), Some(expected), "{typed}");
        }
    }

    #[test]
    fn an_id_may_begin_with_hyphens_and_a_misspelt_option_is_none() {
        for id in ["-K3sQx0uYb4AAAAAAAABrQ1x", "--hsQx0uYb4AAAAAAAABrQ1x", "-h3sQx0uYb4AAAAAAAABrQ1x"] {
            for rest in ["", " --config /x.yaml", " --set a=1"] {
                assert!(status(&format!("logweir dead-letters show{rest} -- {id}")).is_ok(), "{id}");
                for command in ["show", "replay", "drop"] {
                    let cli = status(&format!("logweir dead-letters {command} {id}{rest}"));
                    let Ok(Cli { command: Command::DeadLetters(args) }) = cli else { panic!("{command} {id}{rest}") };
                    assert!(format!("{:?}", args.command).contains(id), "{command} {id}{rest}: {args:?}");
                    let given = args.config();
                    assert_eq!(given.config.is_some(), rest.contains("config"), "{command} {id}{rest}");
                    assert_eq!(given.set.len(), usize::from(rest.contains("set")), "{command} {id}{rest}");
                }
            }
        }
        for command in
            ["show --outptu", "replay --al", "drop --al", "drop -K3sQx0uYb4AAAAAAAABrQ1x --al", "drop", "drop A"]
        {
            assert_eq!(status(&format!("logweir dead-letters {command}")).err(), Some(64), "{command}");
        }
        assert_eq!(status("logweir dead-letters show -h").err(), Some(0));
    }

    #[test]
    fn every_set_counts() {
        let cli = status("logweir run --set a=1 --once --deadline 5m --config /x.yaml --set b=2").unwrap();
        let args = cli.command.config();
        assert_eq!(
            (args.config.as_deref(), args.set.as_slice()),
            (Some("/x.yaml".as_ref()), &["a=1".to_owned(), "b=2".to_owned()][..])
        );
    }

    #[test]
    fn a_variable_of_ours_must_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let cli = status("logweir check").unwrap();
        let bad = || OsString::from_vec(vec![0xff]);
        let env = [("LOGWEIR__HOST".into(), bad())];
        assert_eq!(load(&cli, env.into_iter()).unwrap_err().to_string(), "LOGWEIR__HOST: is not UTF-8");
        assert!(load(&cli, [("PATH".into(), bad()), (bad(), bad())].into_iter()).is_ok());
    }
}
