//! What an access log says, counted without any code of logweir: one regular expression over the raw bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::bytes::{Captures, Regex};

const DAY_SECONDS: i64 = 24 * 3600;

const COMMON: &str = concat!(
    r"(?-u)^(?P<host>\S+) \S+ \S+ \[(?P<day>\d\d)/(?P<month>[A-Z][a-z][a-z])/(?P<year>\d{4})",
    r":(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d) (?P<sign>[+-])(?P<east>\d\d)(?P<north>\d\d)\]",
    r#" "(?:(?P<method>[A-Z]+) )?(?:[^"\\]|\\.)*" (?P<status>\d{3}) (?P<bytes>\d+|-)"#,
);
const COMBINED_TAIL: &str = r#" "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*""#;

/// What a log says: of its well-formed lines, except where said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLog {
    /// All lines, malformed ones included, empty ones not.
    pub lines: u64,
    /// Lines by status code.
    pub by_status: BTreeMap<String, u64>,
    /// Lines by method.
    pub by_method: BTreeMap<String, u64>,
    /// Lines by day in UTC, as days since 1970-01-01.
    pub by_day: BTreeMap<i64, u64>,
    /// All bodies together; a `-` is none.
    pub bytes: u64,
    /// The different clients.
    pub hosts: BTreeSet<Vec<u8>>,
    /// Lines that are no log lines.
    pub malformed: Vec<Malformed>,
}

/// A line that is no log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, from 1.
    pub number: usize,
    /// Where it starts, in bytes from the start of the file.
    pub offset: usize,
    /// What it is, without the line end.
    pub bytes: Vec<u8>,
}

impl AccessLog {
    /// Counts a file in common log format.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn common(path: &Path) -> Self {
        Self::count(&std::fs::read(path).expect("the log is there"), "")
    }

    /// Counts a file in combined log format.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn combined(path: &Path) -> Self {
        Self::count(&std::fs::read(path).expect("the log is there"), COMBINED_TAIL)
    }

    fn count(text: &[u8], tail: &str) -> Self {
        let pattern = Regex::new(&format!("{COMMON}{tail}$")).expect("a regular expression");
        let mut log = Self::default();
        let mut offset = 0;
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let bytes = line.strip_suffix(b"\n").unwrap_or(line);
            match pattern.captures(bytes) {
                Some(found) => log.add(&found),
                None => log.malformed.push(Malformed { number: index + 1, offset, bytes: bytes.to_vec() }),
            }
            log.lines += u64::from(!bytes.is_empty());
            offset += line.len();
        }
        log
    }

    fn add(&mut self, found: &Captures<'_>) {
        *self.by_status.entry(text(found, "status")).or_default() += 1;
        if found.name("method").is_some() {
            *self.by_method.entry(text(found, "method")).or_default() += 1;
        }
        *self.by_day.entry(utc_day(found)).or_default() += 1;
        self.bytes += text(found, "bytes").parse::<u64>().unwrap_or(0);
        self.hosts.insert(found["host"].to_vec());
    }

    /// How many lines are well-formed.
    #[must_use]
    pub fn well_formed(&self) -> u64 {
        self.by_status.values().sum()
    }
}

fn text(found: &Captures<'_>, name: &str) -> String {
    String::from_utf8_lossy(&found[name]).into_owned()
}

fn utc_day(found: &Captures<'_>) -> i64 {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let number = |name: &str| text(found, name).parse::<i64>().expect("digits");
    let month = MONTHS.iter().position(|month| *month == text(found, "month")).expect("a month");
    let days = (1970..number("year")).map(|year| if is_leap(year) { 366 } else { 365 }).sum::<i64>()
        + (0..month).map(|month| month_length(number("year"), month)).sum::<i64>()
        + number("day")
        - 1;
    let offset = (number("east") * 60 + number("north")) * 60;
    let local = days * DAY_SECONDS + number("hour") * 3600 + number("minute") * 60 + number("second");
    let utc = if &found["sign"] == b"-" { local + offset } else { local - offset };
    utc.div_euclid(DAY_SECONDS)
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// Days in a month, counted from 0.
fn month_length(year: i64, month: usize) -> i64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        "a.example - - [31/Dec/1999:23:30:00 -0100] \"GET / HTTP/1.0\" 200 10\n",
        "b.example - - [01/Mar/2000:00:30:00 +0100] \"POST /x y HTTP/1.0\" 404 -\n",
        "a.example - frank [29/Feb/2000:12:00:00 +0000] \"\" 400 5\n",
        "half a li\n",
        "\n",
        "a.example - - [29/Feb/2000:12:00:00 +0000] \"GET / HTTP/1.0\" 200 10 \"-\" \"x\"\n",
    );

    #[test]
    fn the_reference_counts_what_can_be_counted_by_hand() {
        let log = AccessLog::count(LINES.as_bytes(), "");
        assert_eq!((log.lines, log.well_formed(), log.bytes, log.hosts.len()), (5, 3, 15, 2));
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect();
        assert_eq!(log.by_status, counts(&[("200", 1), ("400", 1), ("404", 1)]));
        assert_eq!(log.by_method, counts(&[("GET", 1), ("POST", 1)]));
        // `date -ud 2000-01-01 +%s` is 946684800, that of 2000-02-29 is 951782400.
        assert_eq!(log.by_day, BTreeMap::from([(946_684_800 / DAY_SECONDS, 1), (951_782_400 / DAY_SECONDS, 2)]));
        let malformed: Vec<(usize, usize)> = log.malformed.iter().map(|line| (line.number, line.offset)).collect();
        let half = LINES.find("half").expect("a line");
        assert_eq!(malformed, [(4, half), (5, half + 10), (6, half + 11)]);
        assert_eq!(AccessLog::count(LINES.as_bytes(), COMBINED_TAIL).well_formed(), 1);
    }
}
