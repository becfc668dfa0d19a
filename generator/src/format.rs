//! How an event looks as a line. Rendering appends to a buffer, allocates nothing, and writes out a date only when
//! the second changes.

use clap::ValueEnum;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::event::Event;
use crate::scenario::ErrorText;

/// A format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// NCSA combined, as Apache and nginx write it
    Combined,
    /// Combined, a space, and the request time in microseconds (Apache's %D)
    CombinedLatency,
    /// Combined, a space, and the request time in seconds with three decimals (nginx's $request_time)
    NginxLatency,
    /// Application logs, an object a line, with ECS names as flat keys
    Json,
    /// NCSA common; some clients by host name instead of address
    Common,
    /// timestamp,log_level,message,ip,service,endpoint
    Csv,
}

impl Format {
    /// The usual extension of files with such lines, without a dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Combined | Self::CombinedLatency | Self::NginxLatency | Self::Common => "log",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }

    /// The line, newline included, that may begin a file; only `csv` has one.
    #[must_use]
    pub fn header(self) -> Option<&'static [u8]> {
        (self == Self::Csv).then_some(b"timestamp,log_level,message,ip,service,endpoint\n")
    }
}

/// Renders events in one format.
#[derive(Clone, Debug)]
pub(crate) struct Renderer {
    format: Format,
    stamp: Stamp,
}

impl Renderer {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, stamp: Stamp { second: i64::MIN, text: Vec::with_capacity(32) } }
    }

    /// Appends the event as one line, newline included.
    pub(crate) fn render(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.stamp.turn_to(event.time_ns, self.format);
        match self.format {
            Format::Common => self.common(event, event.client.host.as_ref().unwrap_or(&event.client.address), out),
            Format::Combined => self.combined(event, out),
            Format::CombinedLatency => {
                self.combined(event, out);
                out.push(b' ');
                push_number(event.duration_us, out);
            }
            Format::NginxLatency => {
                self.combined(event, out);
                out.push(b' ');
                push_number(event.duration_us / 1_000_000, out);
                out.push(b'.');
                push_three_digits(event.duration_us / 1000 % 1000, out);
            }
            Format::Json => self.json(event, out),
            Format::Csv => self.csv(event, out),
        }
        out.push(b'\n');
    }

    fn common(&self, event: &Event<'_>, client: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(client.as_bytes());
        out.extend_from_slice(b" - ");
        out.extend_from_slice(event.client.user.as_deref().unwrap_or("-").as_bytes());
        out.extend_from_slice(b" [");
        out.extend_from_slice(&self.stamp.text);
        out.extend_from_slice(b"] \"");
        out.extend_from_slice(event.method.text.as_bytes());
        out.push(b' ');
        push_target(event, out);
        out.push(b' ');
        out.extend_from_slice(event.client.protocol.as_bytes());
        out.extend_from_slice(b"\" ");
        push_number(u64::from(event.status), out);
        out.push(b' ');
        // Apache's %b writes an empty body as a hyphen, nginx as 0.
        if event.body_bytes == 0 && self.format != Format::NginxLatency {
            out.push(b'-');
        } else {
            push_number(event.body_bytes, out);
        }
    }

    fn combined(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.common(event, &event.client.address, out);
        out.extend_from_slice(b" \"");
        out.extend_from_slice(event.referrer.unwrap_or("-").as_bytes());
        out.extend_from_slice(b"\" \"");
        out.extend_from_slice(event.client.user_agent.as_bytes());
        out.push(b'"');
    }

    // Of the texts, only those about errors may need escapes: the catalog refuses quotes in all others. The message
    // comes last, since dirt goes before the last quote of a line.
    fn json(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"@timestamp\":\"");
        self.push_instant(event, out);
        push_json("\",\"log.level\":\"", level(event.status), out);
        push_json("\",\"service.name\":\"", event.service, out);
        push_json("\",\"client.address\":\"", &event.client.address, out);
        push_json("\",\"http.request.method\":\"", &event.method.text, out);
        push_json("\",\"url.path\":\"", &event.path.text, out);
        if !event.query.is_empty() {
            push_json("\",\"url.query\":\"", event.query, out);
        }
        out.extend_from_slice(b"\",\"http.response.status_code\":");
        push_number(u64::from(event.status), out);
        out.extend_from_slice(b",\"http.response.body.bytes\":");
        push_number(event.body_bytes, out);
        out.extend_from_slice(b",\"event.duration\":");
        push_number(event.duration_us * 1000, out);
        push_json(",\"user_agent.original\":\"", &event.client.user_agent, out);
        if let Some(error) = event.error {
            out.extend_from_slice(b"\",\"error.type\":\"");
            push_escaped(&error.kind, Escapes::Json, out);
            out.extend_from_slice(b"\",\"error.message\":\"");
            push_escaped(&error.message, Escapes::Json, out);
        }
        out.extend_from_slice(b"\",\"message\":\"");
        push_message(event, Escapes::Json, out);
        out.extend_from_slice(b"\"}");
    }

    fn csv(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.push_instant(event, out);
        out.push(b',');
        out.extend_from_slice(level(event.status).as_bytes());
        out.extend_from_slice(b",\"");
        push_message(event, Escapes::Csv, out);
        out.extend_from_slice(b"\",");
        out.extend_from_slice(event.client.address.as_bytes());
        out.push(b',');
        push_csv_field(event.service, out);
        out.push(b',');
        push_csv_field(&event.path.text, out);
    }

    /// RFC 3339 with milliseconds.
    fn push_instant(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp.text);
        out.push(b'.');
        push_three_digits(event.time_ns.rem_euclid(1_000_000_000) as u64 / 1_000_000, out);
        out.push(b'Z');
    }
}

/// The text of a second, kept until the second changes.
#[derive(Clone, Debug)]
struct Stamp {
    second: i64,
    text: Vec<u8>,
}

impl Stamp {
    fn turn_to(&mut self, time_ns: i64, format: Format) {
        let second = time_ns.div_euclid(1_000_000_000);
        if second == self.second {
            return;
        }
        self.second = second;
        // Nanoseconds in an i64 reach 1677 to 2262, well inside what a timestamp can be.
        let timestamp = Timestamp::from_second(second).unwrap_or_default();
        let pattern = match format {
            Format::Json | Format::Csv => "%Y-%m-%dT%H:%M:%S",
            _ => "%d/%b/%Y:%H:%M:%S %z",
        };
        self.text.clear();
        self.text.extend_from_slice(timestamp.to_zoned(TimeZone::UTC).strftime(pattern).to_string().as_bytes());
    }
}

fn level(status: u16) -> &'static str {
    match status {
        500.. => "ERROR",
        400.. => "WARN",
        _ => "INFO",
    }
}

/// Path and query.
fn push_target(event: &Event<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(event.path.text.as_bytes());
    if !event.query.is_empty() {
        out.push(b'?');
        out.extend_from_slice(event.query.as_bytes());
    }
}

/// What happened, as a sentence with commas and, for failures, quotes.
fn push_message(event: &Event<'_>, escapes: Escapes, out: &mut Vec<u8>) {
    out.extend_from_slice(event.method.text.as_bytes());
    out.push(b' ');
    push_target(event, out);
    out.extend_from_slice(b" answered ");
    push_number(u64::from(event.status), out);
    out.extend_from_slice(b", ");
    push_number(event.body_bytes, out);
    out.extend_from_slice(b" bytes, in ");
    push_number(event.duration_us / 1000, out);
    out.extend_from_slice(b" ms");
    if let Some(ErrorText { message, .. }) = event.error {
        out.extend_from_slice(b": ");
        push_escaped(message, escapes, out);
    }
}

#[derive(Clone, Copy)]
enum Escapes {
    Json,
    Csv,
}

fn push_escaped(text: &str, escapes: Escapes, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match (byte, escapes) {
            (b'"', Escapes::Csv) => out.extend_from_slice(b"\"\""),
            (b'"' | b'\\', Escapes::Json) => out.extend_from_slice(&[b'\\', byte]),
            _ => out.push(byte),
        }
    }
}

fn push_csv_field(text: &str, out: &mut Vec<u8>) {
    if text.contains(',') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

fn push_json(key: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Decimal digits, without the cost of `write!`.
pub(crate) fn push_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

fn push_three_digits(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[100, 10, 1].map(|power| b'0' + (number / power % 10) as u8));
}
