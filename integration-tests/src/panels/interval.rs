//! Which interval Kibana takes for a histogram, and where its buckets begin.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::record::days;

/// From when to when is looked at, in milliseconds since 1970: the last one is still in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// What it is called in reports.
    pub name: String,
    /// The first millisecond.
    pub from: i64,
    /// The last millisecond.
    pub to: i64,
}

impl Period {
    /// So much later.
    #[must_use]
    pub fn shifted(&self, milliseconds: i64) -> Self {
        Self { name: self.name.clone(), from: self.from + milliseconds, to: self.to + milliseconds }
    }

    /// The condition on the time, as Kibana writes it.
    #[must_use]
    pub fn dsl(&self) -> Value {
        let bounds = json!({"gte": iso(self.from), "lte": iso(self.to), "format": "strict_date_optional_time"});
        json!({"range": {"@timestamp": bounds}})
    }
}

/// `2026-11-20T00:03:16.500Z`.
#[must_use]
pub fn iso(milliseconds: i64) -> String {
    let day = milliseconds.div_euclid(DAY);
    let rest = milliseconds.rem_euclid(DAY);
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (rest / HOUR, rest / MINUTE % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
}

/// Year, month and day, by counting.
fn civil(day: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= day).unwrap_or(1);
    (year, month, day - days(year, month, 1) + 1)
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
const MONTH: i64 = 30 * DAY;
const YEAR: i64 = 365 * DAY;

/// A bucket of so much time must be below the first to have the second; a year above all of them.
const ROUND: [(i64, &str, i64); 15] = [
    (500, "100ms", 100),
    (5 * SECOND, "1s", SECOND),
    (7500, "5s", 5 * SECOND),
    (15 * SECOND, "10s", 10 * SECOND),
    (45 * SECOND, "30s", 30 * SECOND),
    (3 * MINUTE, "1m", MINUTE),
    (9 * MINUTE, "5m", 5 * MINUTE),
    (20 * MINUTE, "10m", 10 * MINUTE),
    (45 * MINUTE, "30m", 30 * MINUTE),
    (2 * HOUR, "1h", HOUR),
    (6 * HOUR, "3h", 3 * HOUR),
    (DAY, "12h", 12 * HOUR),
    (WEEK, "1d", DAY),
    (3 * WEEK, "1w", WEEK),
    (YEAR, "1M", MONTH),
];

/// Kibana aims at so many bars where it chooses the interval of an aggregation, and takes no interval that gives more than the
/// second. TSVB aims at the second.
const BARS: i64 = 50;
const MOST_BARS: i64 = 100;

/// The interval of a date histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Every {
    /// Of an aggregation, as it is saved: `auto`, or such as `1h`.
    Aggregation(String),
    /// Of TSVB, as it is saved: empty, `auto`, `>=1m`, or such as `1h`.
    Series(String),
}

/// An interval, chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Such as `30m`.
    pub text: String,
    /// Where the calendar decides: `d`, `w`, `M` or `y`; else how long it is.
    length: Result<i64, char>,
}

impl Every {
    /// Which interval Kibana takes for a time as long as this.
    ///
    /// # Errors
    /// If what is saved is no interval.
    pub fn step(&self, period: &Period) -> Result<Step> {
        let length = period.to - period.from;
        let chosen = match self {
            Self::Aggregation(saved) if saved == "auto" => near(length / BARS).to_owned(),
            Self::Aggregation(saved) => {
                let saved = if saved.starts_with(|first: char| first.is_ascii_digit()) {
                    saved.clone()
                } else {
                    format!("1{saved}")
                };
                // Too many bars are not drawn.
                let least = at_least(length / MOST_BARS);
                if milliseconds(&saved)? < milliseconds(least)? { least.to_owned() } else { saved }
            }
            Self::Series(saved) => {
                let auto = format!("{}s", (milliseconds(near(length / MOST_BARS))? / SECOND).max(1));
                match saved.as_str() {
                    "" | "auto" => auto,
                    other => match other.strip_prefix(">=") {
                        Some(least) if milliseconds(least)? >= milliseconds(&auto)? => least.to_owned(),
                        Some(_) => auto,
                        None => other.to_owned(),
                    },
                }
            }
        };
        Step::parse(&chosen)
    }
}

/// The interval that comes nearest to this length.
fn near(target: i64) -> &'static str {
    ROUND.iter().find(|(bound, ..)| *bound > target).map_or("1y", |(_, text, _)| text)
}

/// The largest interval that is shorter than this.
fn at_least(target: i64) -> &'static str {
    if YEAR < target {
        return "1y";
    }
    ROUND.iter().rev().find(|(_, _, interval)| *interval < target).map_or("1ms", |(_, text, _)| text)
}

fn milliseconds(text: &str) -> Result<i64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).context("no unit of time")?;
    let number: i64 = text[..digits].parse().with_context(|| format!("no interval: {text}"))?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "w" => WEEK,
        "M" => MONTH,
        "y" => YEAR,
        other => bail!("a unit of time that is not known: {other}"),
    };
    ensure!(number > 0, "no interval: {text}");
    Ok(number * unit)
}

impl Step {
    fn parse(text: &str) -> Result<Self> {
        let length = match text {
            "1d" => Ok(DAY),
            "1w" => Err('w'),
            "1M" => Err('M'),
            "1y" => Err('y'),
            other => {
                ensure!(!other.ends_with(['w', 'M', 'y']), "Elasticsearch has no {other}");
                Ok(milliseconds(other)?)
            }
        };
        Ok(Self { text: text.to_owned(), length })
    }

    /// How long it is, if that is always the same.
    #[must_use]
    pub fn milliseconds(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in a double")]
        self.length.ok().map(|length| length as f64)
    }

    /// Its part of the aggregation: one of a unit is the calendar's.
    #[must_use]
    pub fn dsl(&self) -> (&'static str, &str) {
        let calendar = ["1m", "1h", "1d", "1w", "1M", "1y"].contains(&self.text.as_str());
        (if calendar { "calendar_interval" } else { "fixed_interval" }, &self.text)
    }

    /// Where the bucket of this moment begins.
    #[must_use]
    pub fn floor(&self, time: i64) -> i64 {
        match self.length {
            Ok(length) => time.div_euclid(length) * length,
            // 1970-01-01 was a Thursday; weeks begin on Monday.
            Err('w') => (time + 3 * DAY).div_euclid(WEEK) * WEEK - 3 * DAY,
            Err(unit) => {
                let (year, month, _) = civil(time.div_euclid(DAY));
                days(year, if unit == 'M' { month } else { 1 }, 1) * DAY
            }
        }
    }
}

/// The interval of a histogram of numbers: what is saved, or a round one, but so that there are not more bars than Kibana draws.
/// `range` is from the least to the greatest value.
#[must_use]
pub fn number_interval(saved: Option<f64>, most_bars: Option<f64>, range: f64, whole_numbers: bool) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let limit = MOST_BARS as f64;
    let interval = match saved {
        _ if range <= 0.0 => saved.unwrap_or(1.0),
        Some(saved) if range / saved > limit => {
            let least = range / limit;
            let magnitude = 10f64.powf(least.log10().floor());
            let mut interval = magnitude;
            while interval < least {
                interval += magnitude;
            }
            interval
        }
        Some(saved) => saved,
        None => {
            let bars = most_bars.unwrap_or(limit).min(limit);
            if range < bars && whole_numbers {
                return 1.0;
            }
            let lower = 10f64.powf((range / bars).log10().floor());
            let buckets = range / lower;
            lower * [1.0, 2.0, 5.0].into_iter().find(|factor| buckets / factor <= bars).unwrap_or(10.0)
        }
    };
    if interval > 0.0 { interval } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: i64, every: &Every) -> String {
        every.step(&Period { name: String::new(), from: 0, to: length }).unwrap().text
    }

    #[test]
    fn a_day_has_bars_of_half_an_hour_and_points_every_ten_minutes() {
        let aggregation = |text: &str| Every::Aggregation(text.to_owned());
        let series = |text: &str| Every::Series(text.to_owned());
        for (length, every, expected) in [
            (DAY, aggregation("auto"), "30m"),
            (15 * MINUTE, aggregation("auto"), "30s"),
            (7 * DAY, aggregation("auto"), "3h"),
            (30 * DAY, aggregation("auto"), "12h"),
            (DAY, aggregation("h"), "1h"),
            (30 * DAY, aggregation("h"), "3h"),
            (DAY, series(""), "600s"),
            (DAY, series(">=1h"), "1h"),
            (DAY, series(">=1m"), "600s"),
            (DAY, series("1m"), "1m"),
        ] {
            assert_eq!(of(length, &every), expected, "{length} {every:?}");
        }
        assert!(aggregation("fortnight").step(&Period { name: String::new(), from: 0, to: 1 }).is_err());
    }

    #[test]
    fn buckets_begin_where_the_calendar_says() {
        let moment = days(2026, 11, 22) * DAY + 13 * HOUR + 7;
        for (step, expected) in [
            ("30m", days(2026, 11, 22) * DAY + 13 * HOUR),
            ("1d", days(2026, 11, 22) * DAY),
            ("1w", days(2026, 11, 16) * DAY),
            ("1M", days(2026, 11, 1) * DAY),
            ("1y", days(2026, 1, 1) * DAY),
        ] {
            assert_eq!(Step::parse(step).unwrap().floor(moment), expected, "{step}");
        }
        assert_eq!(iso(moment), "2026-11-22T13:00:00.007Z");
    }

    #[test]
    fn a_histogram_of_numbers_has_no_more_bars_than_can_be_drawn() {
        assert_eq!(number_interval(Some(10.0), None, 900.0, true), 10.0);
        assert_eq!(number_interval(Some(10.0), None, 12_300.0, true), 200.0);
        assert_eq!(number_interval(None, None, 900.0, true), 10.0);
        assert_eq!(number_interval(None, None, 1100.0, true), 20.0);
        assert_eq!(number_interval(None, None, 23.0, true), 1.0);
        assert_eq!(number_interval(None, None, 0.0, true), 1.0);
    }
}
