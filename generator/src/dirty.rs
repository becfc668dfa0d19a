//! Lines as they should not be: what real files hold after crashes, attacks and broken clients. A dirty line is a
//! clean one, spoilt after it was rendered; it still ends with a newline and holds no other, so that lines can be counted.

use rand::Rng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use crate::format::Format;

/// A way in which a line is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dirty {
    /// The request has no protocol, as in HTTP/0.9. Only for formats that show the protocol.
    NoProtocol,
    /// Quotes, not escaped, inside a quoted text.
    QuoteInQuotes,
    /// Bytes that are not UTF-8.
    NonUtf8,
    /// The line ends in the middle.
    Cut,
    /// Random bytes.
    Garbage,
    /// Nothing but the newline.
    Empty,
    /// The line ends with a carriage return and a newline.
    CarriageReturn,
    /// Hyphens where values should be.
    Missing,
    /// Tens of thousands of bytes.
    VeryLong,
}

impl Dirty {
    /// Every way.
    pub const ALL: [Self; 9] = [
        Self::NoProtocol,
        Self::QuoteInQuotes,
        Self::NonUtf8,
        Self::Cut,
        Self::Garbage,
        Self::Empty,
        Self::CarriageReturn,
        Self::Missing,
        Self::VeryLong,
    ];

    /// Whether lines of this format can be spoilt in this way.
    #[must_use]
    pub fn applies_to(self, format: Format) -> bool {
        self != Self::NoProtocol || !matches!(format, Format::Json | Format::Csv)
    }

    /// Spoils the line that begins at `begin` and is the last in `lines`.
    pub(crate) fn spoil(self, format: Format, lines: &mut Vec<u8>, begin: usize, rng: &mut SmallRng) {
        // In every format the last quote of a line ends a text.
        let text_end = rposition(lines, begin, b"\"").unwrap_or(begin);
        match self {
            Self::NoProtocol => {
                if let Some(protocol) = rposition(lines, begin, b" HTTP/") {
                    let length = lines[protocol..].iter().take_while(|byte| **byte != b'"').count();
                    lines.drain(protocol..protocol + length);
                }
            }
            Self::QuoteInQuotes => insert(lines, text_end, b" \"quoted\", \" again"),
            Self::NonUtf8 => insert(lines, text_end, b" caf\xe9 \xff\xfe\xc3("),
            Self::Cut => {
                // Well before the end, where a cut could leave a line that is shorter but whole.
                let length = lines.len() - begin;
                end_line_at(lines, begin + rng.random_range(1..length / 2));
            }
            Self::Garbage => {
                lines.truncate(begin);
                for _ in 0..rng.random_range(20..200) {
                    let byte: u8 = rng.random();
                    lines.push(if byte == b'\n' { 0 } else { byte });
                }
                lines.push(b'\n');
            }
            Self::Empty => end_line_at(lines, begin),
            Self::CarriageReturn => insert(lines, lines.len() - 1, b"\r"),
            Self::Missing => miss(format, lines, begin),
            Self::VeryLong => {
                let length = rng.random_range(16 << 10..64 << 10);
                lines.splice(text_end..text_end, std::iter::repeat_n(b'x', length));
            }
        }
    }
}

/// Keeps where the line is from and when it was, and puts hyphens (for JSON: also where numbers should be) for the rest.
fn miss(format: Format, lines: &mut Vec<u8>, begin: usize) {
    let kept_until = match format {
        Format::Json => rposition(lines, begin, b",\"http.request.method\""),
        Format::Csv => position(lines, begin, b","),
        _ => position(lines, begin, b"] ").map(|end| end + 2),
    };
    lines.truncate(kept_until.unwrap_or(begin));
    let rest: &[u8] = match format {
        Format::Common => b"\"-\" 408 -\n",
        Format::Combined => b"\"-\" 408 - \"-\" \"-\"\n",
        Format::CombinedLatency | Format::NginxLatency => b"\"-\" 408 - \"-\" \"-\" -\n",
        Format::Json => {
            b",\"http.request.method\":\"-\",\"url.path\":\"-\",\"http.response.status_code\":\"-\",\"event.duration\":\"-\",\"message\":\"-\"}\n"
        }
        Format::Csv => b",-,-,-,-,-\n",
    };
    lines.extend_from_slice(rest);
}

fn insert(lines: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    lines.splice(at..at, bytes.iter().copied());
}

fn end_line_at(lines: &mut Vec<u8>, end: usize) {
    lines.truncate(end);
    lines.push(b'\n');
}

fn position(lines: &[u8], begin: usize, wanted: &[u8]) -> Option<usize> {
    let found = lines[begin..].windows(wanted.len()).position(|window| window == wanted);
    found.map(|offset| begin + offset)
}

fn rposition(lines: &[u8], begin: usize, wanted: &[u8]) -> Option<usize> {
    let found = lines[begin..].windows(wanted.len()).rposition(|window| window == wanted);
    found.map(|offset| begin + offset)
}
