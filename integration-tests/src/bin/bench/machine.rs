//! What this machine can do at best: find line ends in the same file, and move ready-made bodies into the same sink.
//! Between the two lies what a log indexer can hope for, and the first of them scales goals from machine to machine.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use integration_tests::machine::{cores, cpu_model, load_average};
use serde::Serialize;

use crate::input::Input;
use crate::sink::{Options, Sink};
use crate::stats::{median, rate};
use crate::tally::Lines;

/// As much as is read at once.
const READ_BYTES: usize = 256 << 10;
/// As large as the daemon's bodies.
const BODY_BYTES: usize = 2 << 20;
/// Bodies sent in one measurement.
const BODIES: u64 = 800;
/// What the machine on which the goals were set finds, in lines a second.
const REFERENCE_LINES: f64 = 23e6;
/// A load average above this means that others used the machine in the last minute.
const QUIET_LOAD: f64 = 0.5;

/// An item as the daemon writes it for a line of average length.
const ITEM: &str = concat!(
    r#"{"create":{"_id":"3q2-7wECAwQAAAABPk9rb2F5"}}"#,
    "\n",
    r#"{"@timestamp":"2026-03-01T09:59:58.000Z","ecs":{"version":"9.2.0"},"event":{"kind":"event","category":["web"],"#,
    r#""type":["access"],"dataset":"nginx.access","outcome":"success"},"host":{"name":"bench"},"log":{"file":"#,
    r#"{"path":"/var/log/nginx/access.log","id":"deadbeef01020304"},"offset":123456789},"data_stream":{"type":"logs","#,
    r#""dataset":"nginx.access","namespace":"default"},"source":{"address":"198.51.100.23","ip":"198.51.100.23"},"#,
    r#""http":{"version":"1.1","request":{"method":"GET","referrer":"https://shop.example.com/category/garden"},"#,
    r#""response":{"status_code":200,"body":{"bytes":18213}}},"url":{"original":"/product/1047?ref=list&page=12","#,
    r#""path":"/product/1047","query":"ref=list&page=12"},"user_agent":{"original":"Mozilla/5.0 (Windows NT 10.0; "#,
    r#"Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36","name":"Chrome","version":"#,
    r#""141.0.0.0","os":{"name":"Windows","version":"10"},"device":{"name":"Other"}}}"#,
    "\n"
);

/// The machine, and its limits.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// The load average of the last minute before anything was measured.
    pub(crate) load: f64,
    /// Whether others used the machine until now, or still do: then times are upper bounds.
    pub(crate) noisy: bool,
    /// `wc -l`, of the same file; 0 where there is no such program.
    pub(crate) wc_lines_per_second: f64,
    /// Finding newlines in blocks of 256 KiB.
    pub(crate) scan_lines_per_second: f64,
    /// Which share of the reference machine that is; goals for throughput are multiplied by it.
    pub(crate) scale: f64,
    pub(crate) ready_made: Vec<ReadyMade>,
}

/// Bodies that nobody had to make, sent to the sink.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReadyMade {
    pub(crate) connections: u64,
    pub(crate) events_per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// Microseconds of processor time that the sink had for one event.
    pub(crate) sink_us_per_event: f64,
}

impl Machine {
    /// Measures it; `program` is the benchmark itself.
    pub(crate) fn measure(program: &Path, input: &Input, rounds: u32) -> Result<Self> {
        let load = load_average().context("cannot read /proc/loadavg")?;
        eprintln!("bench: the limits of this machine");
        // Also brings the file into memory, where each run finds it.
        scan(input)?;
        let mut scans = Vec::new();
        let mut wc = Vec::new();
        for _ in 0..rounds.max(3) {
            scans.push(scan(input)?);
            wc.push(word_count(input)?);
        }
        let scan_lines_per_second = median(scans);
        let mut ready_made = Vec::new();
        for connections in [1, 2] {
            let runs = (0..rounds).map(|_| ready_made_bodies(program, connections)).collect::<Result<Vec<_>>>()?;
            ready_made.push(ReadyMade {
                connections,
                events_per_second: median(runs.iter().map(|run| run.events_per_second)),
                bytes_per_second: median(runs.iter().map(|run| run.bytes_per_second)),
                sink_us_per_event: median(runs.iter().map(|run| run.sink_us_per_event)),
            });
        }
        Ok(Self {
            cpu: cpu_model(),
            cores: cores(),
            load,
            noisy: load > QUIET_LOAD,
            wc_lines_per_second: median(wc),
            scan_lines_per_second,
            scale: scan_lines_per_second / REFERENCE_LINES,
            ready_made,
        })
    }
}

/// Lines a second.
fn scan(input: &Input) -> Result<f64> {
    let mut block = vec![0; READ_BYTES];
    let mut file = File::open(&input.file)?;
    let mut lines = Lines::default();
    let began = Instant::now();
    loop {
        match file.read(&mut block)? {
            0 => break,
            count => lines.take(&block[..count]),
        }
    }
    let time = began.elapsed();
    let file = input.file.display();
    ensure!(lines.lines == input.lines, "{file} has {} lines; delete it to have it made anew", lines.lines);
    Ok(rate(input.lines, time))
}

/// Lines a second.
fn word_count(input: &Input) -> Result<f64> {
    let began = Instant::now();
    let Ok(output) = Command::new("wc").arg("-l").arg(&input.file).output() else { return Ok(0.0) };
    let time = began.elapsed();
    ensure!(output.status.success(), "wc -l failed");
    Ok(rate(input.lines, time))
}

fn ready_made_bodies(program: &Path, connections: u64) -> Result<ReadyMade> {
    let items = BODY_BYTES / ITEM.len();
    let body = ITEM.repeat(items);
    let sink = Sink::start(program, &Options::default())?;
    let each = BODIES / connections;
    let began = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..connections).map(|_| scope.spawn(|| send(&sink.address, &body, each))).collect();
        senders.into_iter().try_for_each(|sender| match sender.join() {
            Ok(sent) => sent,
            Err(_) => bail!("a sender panicked"),
        })
    })?;
    let time = began.elapsed();
    let events = each * connections * items as u64;
    let counted = sink.counted()?;
    ensure!(counted.documents == events, "the sink counted {} of {events} events", counted.documents);
    Ok(ReadyMade {
        connections,
        events_per_second: rate(events, time),
        bytes_per_second: rate(counted.body_bytes, time),
        sink_us_per_event: counted.cpu_seconds * 1e6 / events as f64,
    })
}

/// Sends the body so often over one connection, and waits for each answer.
fn send(address: &str, body: &str, times: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let head = format!(
        "POST /logs-nginx.access-default/_bulk?filter_path=errors,items.*.status HTTP/1.1\r\nHost: {address}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = vec![0; READ_BYTES];
    for _ in 0..times {
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut received = 0;
        // An answer ends with the only such pair of brackets in it.
        while !answer[..received].ends_with(b"]}") {
            match stream.read(&mut answer[received..])? {
                0 => bail!("the sink gave half an answer"),
                count => received += count,
            }
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "the sink refused a body");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Proof;

    #[test]
    fn the_ready_made_item_is_one() {
        let mut proof = Proof::default();
        proof.read(ITEM.as_bytes());
        assert_eq!((proof.faults, proof.first_fault.as_deref(), proof.ids()), (0, None, 1));
        let mut lines = Lines::default();
        lines.take(ITEM.repeat(3).as_bytes());
        assert_eq!(lines.documents(), Some(3));
    }
}
