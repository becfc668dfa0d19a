//! `logweir-generator`: writes reproducible log traffic and a manifest of it.
//!
//! Exit status: 0 done, also after Ctrl-C; 64 usage; 74 input/output; 78 scenario.

mod arguments;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Parser;
use logweir_generator::{Generator, Manifest, Progress, Run, Scenario, Writer};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::Arguments;

const EXIT_USAGE: u8 = 64;
const EXIT_IO: u8 = 74;
const EXIT_SCENARIO: u8 = 78;

/// An error and the exit status it leads to.
struct Failure(u8, anyhow::Error);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse().and_then(Arguments::check) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, too, but not to us. Nothing is left to do if the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(status, error)) => {
            eprintln!("logweir-generator: {error:#}");
            status.into()
        }
    }
}

fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let io = |error| Failure(EXIT_IO, error);
    if arguments.print_scenario {
        let printed = std::io::stdout().write_all(Scenario::SHOP.as_bytes());
        return printed.context("cannot write to standard output").map_err(io);
    }
    let scenario = match &arguments.scenario {
        Some(path) => Scenario::load(path).map_err(|error| Failure(EXIT_SCENARIO, error))?,
        None => Scenario::shop(),
    };
    let schedule = arguments.schedule();
    let generator = Generator::new(&scenario, &schedule, arguments.settings())
        .map_err(|error| Failure(EXIT_SCENARIO, error.context(format!("scenario {:?}", scenario.name))))?;
    let stop = stop_on_signals().map_err(io)?;
    let writer = Writer::open(arguments.writer_options(&schedule)).map_err(io)?;
    let run = Run {
        generator,
        writer,
        info: arguments.info(&scenario, &schedule),
        manifest_path: arguments.manifest.clone(),
        in_real_time: arguments.in_real_time(),
    };
    let shows_progress = std::io::stderr().is_terminal();
    let mut last = Progress::default();
    let manifest = run.execute(&stop, |progress| {
        if shows_progress {
            let elapsed = (progress.elapsed - last.elapsed).as_secs_f64();
            let rate = (progress.events - last.events) as f64 / elapsed;
            eprint!("\r{} lines, {rate:.0} lines/s\x1b[K", progress.events);
        }
        last = progress;
    });
    if shows_progress {
        eprint!("\r\x1b[K");
    }
    summarize(&manifest.map_err(io)?);
    Ok(())
}

/// Becomes true at the first Ctrl-C or SIGTERM; the second ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the first signal does not see what it sets itself.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot handle signals")?;
    }
    Ok(stop)
}

fn summarize(manifest: &Manifest) {
    let dirty: u64 = manifest.dirty.values().sum();
    eprintln!(
        "wrote {} lines ({dirty} dirty), {} bytes, {} files",
        manifest.lines,
        manifest.bytes,
        manifest.files.len(),
    );
}
