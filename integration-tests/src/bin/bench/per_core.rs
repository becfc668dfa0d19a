//! What one core does: formats and documents, the daemon on one core and the sink on another.

use anyhow::Result;
use logweir_generator::Format;
use serde_json::{Value, json};

use crate::Bench;
use crate::figure::{Figure, Unit};
use crate::input::Input;
use crate::place::{Place, Setup};
use crate::report::Outcome;
use crate::sink::{self, Sink};
use crate::stats::median;
use crate::throughput::{Round, run_to_end};

/// What is read, how, and what is sent.
struct Case {
    what: &'static str,
    lines: Format,
    format: fn() -> Value,
    ten_fields: bool,
    gzip: bool,
}

const COMBINED: Case = Case {
    what: "combined, default documents",
    lines: Format::Combined,
    format: || json!("combined"),
    ten_fields: false,
    gzip: false,
};

const CASES: [Case; 6] = [
    COMBINED,
    Case { what: "combined, ten fields", ten_fields: true, ..COMBINED },
    Case { what: "combined, default documents, gzip", gzip: true, ..COMBINED },
    Case {
        what: "nginx log_format with request time",
        lines: Format::NginxLatency,
        format: || {
            json!({"nginx": "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                             \"$http_referer\" \"$http_user_agent\" $request_time"})
        },
        ..COMBINED
    },
    Case { what: "JSON application logs", lines: Format::Json, format: || json!("json"), ..COMBINED },
    Case { what: "text", format: || json!("text"), ..COMBINED },
];

/// Runs all rounds. There is no goal: it is what to expect.
pub(crate) fn run(bench: &Bench, combined: &Input) -> Result<Outcome> {
    let mut figures = Vec::new();
    let mut all = Vec::new();
    for case in &CASES {
        let other =
            (case.lines != Format::Combined).then(|| Input::of(&bench.dir, combined.lines, case.lines)).transpose()?;
        let input = other.as_ref().unwrap_or(combined);
        let mut rounds = Vec::new();
        for round in 1..=bench.rounds {
            eprintln!("bench: per-core, {}, round {round} of {}", case.what, bench.rounds);
            rounds.push(once(bench, input, case)?);
        }
        let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        let bytes = input.bytes as f64 / input.lines as f64;
        let speed = middle(|round| round.events_per_second);
        let of = |what: &str| format!("{}: {what}", case.what);
        figures.push(Figure::new(of("events/s"), Unit::PerSecond, speed));
        figures.push(Figure::new(of("MB/s"), Unit::PerSecond, speed * bytes / 1e6));
        figures.push(Figure::new(of("CPU an event"), Unit::Microseconds, middle(|round| round.cpu_us_per_event)));
        all.push(json!({"case": case.what, "bytes_per_line": bytes, "rounds": rounds}));
    }
    let note = "the daemon on one core, the sink on another".to_owned();
    Ok(Outcome::new("per-core", figures, note, json!(all)))
}

fn once(bench: &Bench, input: &Input, case: &Case) -> Result<Round> {
    let sink = Sink::start(&bench.program, &sink::Options { verify: bench.verify, ..Default::default() })?;
    let mut setup = Setup::tail(&input.file, &sink.url());
    if case.ten_fields {
        setup = setup.ten_fields();
    }
    setup.source["format"] = (case.format)();
    setup.elasticsearch["compression"] = if case.gzip { "gzip" } else { "off" }.into();
    run_to_end(Place::new(bench, &setup)?.on_core(0), &sink, input.lines)
}
