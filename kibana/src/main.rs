//! `logweir-kibana [DIRECTORY]` builds the sources below DIRECTORY (default `kibana`) and writes `logweir-7.ndjson` and
//! `logweir-8.ndjson` into it. Exit status 0 done, 1 with what is wrong and where.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let directory = PathBuf::from(env::args_os().nth(1).unwrap_or_else(|| "kibana".into()));
    let built = match logweir_kibana::build(&directory) {
        Ok(built) => built,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for (name, text) in [("logweir-7.ndjson", &built.seven), ("logweir-8.ndjson", &built.eight)] {
        let path = directory.join(name);
        if let Err(error) = fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("{}: {} objects, {} bytes", path.display(), text.lines().count(), text.len());
    }
    ExitCode::SUCCESS
}
