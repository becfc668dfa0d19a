//! Instants as text, and which instant a line gets. No date library runs per line: the text of a second is kept, and
//! neighbouring lines share it.

use crate::config;
use crate::record::Tags;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Which `@timestamp` a line gets, and the tag that says so when it is not its own (invariant 9).
///
/// `own` is the line's time, `last` the time of the line before it in the same file, and `read_at` when it was read, all
/// in nanoseconds since 1970. A time outside the window that `enrich` gives around `read_at` is refused.
#[must_use]
pub fn decide_time(own: Option<i64>, last: Option<i64>, read_at: i64, enrich: &config::Enrich) -> (i64, Tags) {
    let nanos = |span: config::Span| i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX);
    match own {
        None => (last.unwrap_or(read_at), Tags::TIME_ASSUMED),
        Some(time)
            if time < read_at.saturating_sub(nanos(enrich.max_past))
                || time > read_at.saturating_add(nanos(enrich.max_future)) =>
        {
            (read_at, Tags::TIME_REJECTED)
        }
        Some(time) => (time, Tags::default()),
    }
}

/// Year, month and day of a day, counted from 1970-01-01 (the proleptic Gregorian calendar).
#[expect(clippy::cast_possible_truncation, reason = "an i64 of nanoseconds lies between the years 1677 and 2262")]
pub(super) fn civil(days: i64) -> (u32, u32, u32) {
    // Years start in March, so that the leap day is the last day of one (Howard Hinnant, "chrono-compatible low-level
    // date algorithms").
    let from_era = days + 719_468;
    let era = from_era.div_euclid(146_097);
    let day_of_era = from_era.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year.unsigned_abs() as u32, month as u32, day as u32)
}

/// Writes `value` as `digits.len()` decimal digits.
pub(super) fn put_digits(digits: &mut [u8], mut value: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The text of the last instant asked for; one a thread.
#[derive(Debug)]
pub struct TimeText {
    /// The second that `text` shows.
    second: i64,
    /// The day that `text` shows.
    day: i64,
    /// The instant that `text` shows, and how long that is.
    shown: (i64, usize),
    /// `"2015-05-17T10:05:03.000Z"` with its quotes, longer by the digits that are needed, and padding.
    text: [u8; TimeText::ROOM],
}

impl Default for TimeText {
    fn default() -> Self {
        let mut text = [0; Self::ROOM];
        text[..26].copy_from_slice(b"\"1970-01-01T00:00:00.000Z\"");
        Self { second: 0, day: 0, shown: (0, 26), text }
    }
}

impl TimeText {
    /// How much room the text takes, padding included.
    pub const ROOM: usize = 32;
    /// Where the fraction starts.
    const FRACTION: usize = 21;

    /// The instant as a JSON string in ISO 8601 (UTC), its length, and padding: milliseconds, or as many digits as it has.
    #[inline]
    pub fn quoted(&mut self, nanos: i64) -> (&[u8; Self::ROOM], usize) {
        if nanos != self.shown.0 {
            self.shown = (nanos, self.show(nanos));
        }
        (&self.text, self.shown.1)
    }

    fn show(&mut self, nanos: i64) -> usize {
        let second = nanos.div_euclid(NANOS_PER_SECOND);
        let fraction = nanos.rem_euclid(NANOS_PER_SECOND) as u32;
        if second != self.second {
            self.turn(second);
        }
        let digits = if fraction.is_multiple_of(1_000_000) {
            put_digits(&mut self.text[Self::FRACTION..Self::FRACTION + 3], fraction / 1_000_000);
            3
        } else if fraction.is_multiple_of(1000) {
            put_digits(&mut self.text[Self::FRACTION..Self::FRACTION + 6], fraction / 1000);
            6
        } else {
            put_digits(&mut self.text[Self::FRACTION..Self::FRACTION + 9], fraction);
            9
        };
        let end = Self::FRACTION + digits;
        self.text[end] = b'Z';
        self.text[end + 1] = b'"';
        end + 2
    }

    #[cold]
    fn turn(&mut self, second: i64) {
        let day = second.div_euclid(SECONDS_PER_DAY);
        let of_day = second.rem_euclid(SECONDS_PER_DAY) as u32;
        if day != self.day {
            let (year, month, day_of_month) = civil(day);
            put_digits(&mut self.text[1..5], year);
            put_digits(&mut self.text[6..8], month);
            put_digits(&mut self.text[9..11], day_of_month);
            self.day = day;
        }
        put_digits(&mut self.text[12..14], of_day / 3600);
        put_digits(&mut self.text[15..17], of_day / 60 % 60);
        put_digits(&mut self.text[18..20], of_day % 60);
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(cache: &mut TimeText, nanos: i64) -> String {
        let (text, len) = cache.quoted(nanos);
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    fn by_jiff(nanos: i64) -> String {
        let instant = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap();
        match nanos.rem_euclid(NANOS_PER_SECOND) {
            n if n % 1_000_000 == 0 => format!("\"{instant:.3}\""),
            n if n % 1000 == 0 => format!("\"{instant:.6}\""),
            _ => format!("\"{instant:.9}\""),
        }
    }

    proptest! {
        #[test]
        fn text_of_an_instant_is_what_jiff_says(
            instants in prop::collection::vec((any::<i64>(), prop::sample::select(&[1_i64, 1000, 1_000_000, 1_000_000_000][..])), 1..9)
        ) {
            let mut cache = TimeText::default();
            for (nanos, unit) in instants {
                let nanos = (nanos / unit) * unit;
                for near in [nanos, nanos.saturating_add(1_000_000), nanos.saturating_sub(3_600_000_000_000)] {
                    prop_assert_eq!(text(&mut cache, near), by_jiff(near));
                }
            }
        }
    }

    #[test]
    fn whole_seconds_have_three_zeros() {
        assert_eq!(text(&mut TimeText::default(), 1_431_857_103_000_000_000), "\"2015-05-17T10:05:03.000Z\"");
    }

    #[test]
    fn a_line_without_a_time_takes_the_last_one_of_its_file_else_that_of_reading() {
        let enrich = config::Enrich::default();
        assert_eq!(decide_time(None, Some(5), 9, &enrich), (5, Tags::TIME_ASSUMED));
        assert_eq!(decide_time(None, None, 9, &enrich), (9, Tags::TIME_ASSUMED));
    }

    #[test]
    fn a_time_outside_the_window_is_replaced_by_that_of_reading() {
        let enrich = config::Enrich {
            max_past: config::Span::secs(10),
            max_future: config::Span::secs(1),
            ..config::Enrich::default()
        };
        let read_at = 100 * NANOS_PER_SECOND;
        for (second, expected) in [(90, None), (89, Some(read_at)), (101, None), (102, Some(read_at))] {
            let own = second * NANOS_PER_SECOND;
            let (time, tags) = decide_time(Some(own), Some(7), read_at, &enrich);
            assert_eq!(time, expected.unwrap_or(own), "{second}");
            assert_eq!(tags.has(Tags::TIME_REJECTED), expected.is_some(), "{second}");
        }
    }

    #[test]
    fn a_window_wider_than_time_itself_refuses_nothing() {
        let forever = config::Span(std::time::Duration::MAX);
        let enrich = config::Enrich { max_past: forever, max_future: forever, ..config::Enrich::default() };
        assert_eq!(decide_time(Some(i64::MIN), None, -5, &enrich).1, Tags::default());
        assert_eq!(decide_time(Some(i64::MAX), None, 5, &enrich).1, Tags::default());
    }
}
