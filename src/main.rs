//! The program: what was typed, its configuration, what it does, and the status it ends with.

use std::process::ExitCode;

use logweir::cli;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    let done = cli::load(&cli, std::env::vars_os()).and_then(|loaded| cli::run(cli, loaded));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::report(&error).into(),
    }
}
