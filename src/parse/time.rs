//! Times as log files write them, to nanoseconds since 1970 in UTC, by arithmetic alone.
//!
//! A time without a zone is taken as UTC. What cannot be (32 May, 25 o'clock, a year beyond what 64 bits of nanoseconds
//! reach) is refused with a reason, never bent into something near. A leap second counts as the second after it.

/// Nanoseconds in a second.
pub const NANOS: i64 = 1_000_000_000;

/// Why a text is no time.
pub type Reason = &'static str;

const OUT_OF_RANGE: Reason = "the year is out of range (1678 to 2261)";

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const MONTH_NAMES: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Length of the time in Apache's `%t` (without brackets) and nginx's `$time_local`: `17/May/2015:10:05:03 +0000`.
pub const CLF_LEN: usize = 26;

/// What a time's parts say so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    year: Option<i64>,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    afternoon: Option<bool>,
    offset: i64,
    /// A whole time, known as such.
    pub whole: Option<i64>,
    /// Nanoseconds after the full second.
    pub fraction: Option<i64>,
}

impl Moment {
    /// The time that the parts make; `None` where they hold no date.
    pub fn finish(&self) -> Result<Option<i64>, Reason> {
        let base = match (self.whole, self.year) {
            (Some(whole), _) => whole,
            (None, None) => return Ok(None),
            (None, Some(year)) => {
                let hour = match self.afternoon {
                    None => self.hour,
                    Some(_) if !(1..=12).contains(&self.hour) => return Err("there is no such hour"),
                    Some(afternoon) => self.hour % 12 + if afternoon { 12 } else { 0 },
                };
                civil(year, self.month, self.day, hour, self.minute, self.second, self.offset)?
            }
        };
        match self.fraction {
            Some(fraction) if base % NANOS == 0 => Ok(base.checked_add(fraction)),
            _ => Ok(Some(base)),
        }
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar.
const fn days(year: i64, month: u8, day: u8) -> i64 {
    // Years begin in March here, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month as i64 + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day as i64 - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

const fn days_in(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Nanoseconds since 1970 of a civil time `offset` seconds east of UTC.
fn civil(year: i64, month: u8, day: u8, hour: u8, minute: u8, second: u8, offset: i64) -> Result<i64, Reason> {
    if !(1..=12).contains(&month) {
        return Err("there is no such month");
    }
    if day == 0 || day > days_in(year, month) {
        return Err("the month has no such day");
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err("the day has no such time");
    }
    let seconds =
        days(year, month, day) * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second) - offset;
    seconds.checked_mul(NANOS).ok_or(OUT_OF_RANGE)
}

fn digit(byte: u8) -> Option<u8> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(value)
}

fn two(text: &[u8], at: usize) -> Option<u8> {
    Some(digit(*text.get(at)?)? * 10 + digit(*text.get(at + 1)?)?)
}

/// Two digits, or a space and one.
fn padded_two(text: &[u8]) -> Option<u8> {
    if text.first() == Some(&b' ') { digit(*text.get(1)?) } else { two(text, 0) }
}

fn four(text: &[u8], at: usize) -> Option<i64> {
    Some(i64::from(two(text, at)?) * 100 + i64::from(two(text, at + 2)?))
}

/// Seconds east of UTC that `text` begins with (`Z`, `+02:00`, `+0200`, `+02`), and how many bytes say so.
fn zone(text: &[u8]) -> Option<(i64, usize)> {
    let sign = match text.first()? {
        b'Z' | b'z' => return Some((0, 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = i64::from(two(text, 1)?);
    let colon = usize::from(text.get(3) == Some(&b':'));
    let (minutes, length) = match two(text, 3 + colon) {
        Some(minutes) => (i64::from(minutes), 5 + colon),
        None => (0, 3),
    };
    (hours <= 24 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), length))
}

/// `17/May/2015:10:05:03 +0000`
#[inline(never)]
pub fn clf(text: &[u8]) -> Result<i64, Reason> {
    const SHAPE: Reason = "it is not written like 17/May/2015:10:05:03 +0000";
    let Ok(text) = <&[u8; CLF_LEN]>::try_from(text) else { return Err(SHAPE) };
    let separators = [text[2], text[6], text[11], text[14], text[17], text[20]];
    if separators != *b"//::: " {
        return Err(SHAPE);
    }
    let parts = || {
        let (offset, length) = zone(&text[21..])?;
        let date = (four(text, 7)?, two(text, 0)?);
        (length == 5).then_some((date, (two(text, 12)?, two(text, 15)?, two(text, 18)?), offset))
    };
    let ((year, day), (hour, minute, second), offset) = parts().ok_or(SHAPE)?;
    let month = month_number(&text[3..6]).ok_or("there is no such month")?;
    civil(year, month, day, hour, minute, second, offset)
}

fn month_number(name: &[u8]) -> Option<u8> {
    (1..).zip(MONTHS).find(|(_, month)| month.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

/// How many bytes of `text` look like an ISO 8601 time.
pub fn iso_len(text: &[u8]) -> Option<usize> {
    iso_parts(text).map(|(_, length)| length)
}

/// `2015-05-17T10:05:03.123Z`: also with a space for the `T`, without seconds, with a comma, up to any number of digits
/// after it (those beyond nanoseconds are dropped), with `+02:00`, `+0200`, `+02` or no zone.
pub fn iso(text: &[u8]) -> Result<i64, Reason> {
    const SHAPE: Reason = "it is not written like 2015-05-17T10:05:03Z";
    let (moment, length) = iso_parts(text).ok_or(SHAPE)?;
    if length != text.len() {
        return Err(SHAPE);
    }
    moment.finish()?.ok_or(SHAPE)
}

fn iso_parts(text: &[u8]) -> Option<(Moment, usize)> {
    let mut moment =
        Moment { year: Some(four(text, 0)?), month: two(text, 5)?, day: two(text, 8)?, ..Moment::default() };
    if text[4] != b'-' || text[7] != b'-' || !matches!(text.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    (moment.hour, moment.minute) = (two(text, 11)?, two(text, 14)?);
    if text[13] != b':' {
        return None;
    }
    let mut at = 16;
    if text.get(at) == Some(&b':') {
        moment.second = two(text, at + 1)?;
        at += 3;
        if let Some(b'.' | b',') = text.get(at) {
            let (nanos, length) = fraction(&text[at + 1..]);
            if length == 0 {
                return None;
            }
            moment.fraction = Some(nanos);
            at += 1 + length;
        }
    }
    if text.get(at) == Some(&b' ') && matches!(text.get(at + 1), Some(b'+' | b'-')) && zone(&text[at + 1..]).is_some() {
        at += 1;
    }
    if let Some((offset, length)) = text.get(at..).and_then(zone) {
        moment.offset = offset;
        at += length;
    }
    Some((moment, at))
}

/// The digits that `text` begins with, as nanoseconds after a decimal point, and how many they are.
pub fn fraction(text: &[u8]) -> (i64, usize) {
    let (mut nanos, mut unit, mut length) = (0, NANOS / 10, 0);
    while let Some(value) = text.get(length).copied().and_then(digit) {
        nanos += i64::from(value) * unit;
        unit /= 10;
        length += 1;
    }
    (nanos, length)
}

/// A plain decimal number (`12`, `12.034`, `-0.5`) times `unit`, where it fits.
pub fn decimal(text: &[u8], unit: i64) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let dot = memchr::memchr(b'.', digits).unwrap_or(digits.len());
    let whole = number(&digits[..dot])?;
    let mut value = whole.checked_mul(unit)?;
    if let Some(after) = digits.get(dot + 1..) {
        let (nanos, length) = fraction(after);
        if length == 0 || length != after.len() {
            return None;
        }
        value = value.checked_add(i64::try_from(i128::from(nanos) * i128::from(unit) / i128::from(NANOS)).ok()?)?;
    }
    Some(if negative { -value } else { value })
}

/// The whole number that is all of `text`: one to eighteen digits, so that it always fits.
pub fn number(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0;
    for byte in text {
        value = value * 10 + i64::from(digit(*byte)?);
    }
    Some(value)
}

/// A `strftime` pattern, compiled.
#[derive(Debug)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Literal(u8),
    Year,
    YearOfCentury,
    Month,
    MonthName,
    Day,
    DayPadded,
    WeekdayName,
    Hour,
    HourPadded,
    Minute,
    Second,
    Half,
    Zone,
    ZoneName,
    Epoch,
}

impl Pattern {
    /// Compiles `pattern`; the error names the first conversion that is not known.
    pub fn compile(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut bytes = pattern.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                parts.push(Part::Literal(byte));
                continue;
            }
            let mut letter = bytes.next();
            if let Some(b'E' | b'O' | b'-') = letter {
                letter = bytes.next();
            }
            let several: &[Part] = match letter {
                Some(b'Y') => &[Part::Year],
                Some(b'y') => &[Part::YearOfCentury],
                Some(b'm') => &[Part::Month],
                Some(b'b' | b'h' | b'B') => &[Part::MonthName],
                Some(b'd') => &[Part::Day],
                Some(b'e') => &[Part::DayPadded],
                Some(b'a' | b'A') => &[Part::WeekdayName],
                Some(b'H' | b'I') => &[Part::Hour],
                Some(b'k' | b'l') => &[Part::HourPadded],
                Some(b'M') => &[Part::Minute],
                Some(b'S') => &[Part::Second],
                Some(b'p' | b'P') => &[Part::Half],
                Some(b'z') => &[Part::Zone],
                Some(b'Z') => &[Part::ZoneName],
                Some(b's') => &[Part::Epoch],
                Some(b'F') => &[Part::Year, Part::Literal(b'-'), Part::Month, Part::Literal(b'-'), Part::Day],
                Some(b'T') => &[Part::Hour, Part::Literal(b':'), Part::Minute, Part::Literal(b':'), Part::Second],
                Some(b'R') => &[Part::Hour, Part::Literal(b':'), Part::Minute],
                Some(b'D') => &[Part::Month, Part::Literal(b'/'), Part::Day, Part::Literal(b'/'), Part::YearOfCentury],
                Some(b'n') => &[Part::Literal(b'\n')],
                Some(b't') => &[Part::Literal(b'\t')],
                Some(b'%') => &[Part::Literal(b'%')],
                Some(other) => return Err(format!("%{}", char::from(other))),
                None => return Err("%".to_owned()),
            };
            parts.extend_from_slice(several);
        }
        Ok(Self(parts))
    }

    /// Reads what `text` begins with into `moment`; how many bytes that took.
    pub fn read(&self, text: &[u8], moment: &mut Moment) -> Option<usize> {
        let mut at = 0;
        for part in &self.0 {
            at += part.read(text.get(at..)?, moment)?;
        }
        Some(at)
    }
}

impl Part {
    fn read(self, text: &[u8], moment: &mut Moment) -> Option<usize> {
        match self {
            Self::Literal(byte) => return (text.first() == Some(&byte)).then_some(1),
            Self::Year => {
                moment.year = Some(four(text, 0)?);
                return Some(4);
            }
            Self::YearOfCentury => {
                let year = i64::from(two(text, 0)?);
                // As POSIX reads it.
                moment.year = Some(if year < 69 { 2000 + year } else { 1900 + year });
            }
            Self::Month => moment.month = two(text, 0)?,
            Self::MonthName => {
                moment.month = month_number(text.get(..3)?)?;
                let long = MONTH_NAMES[usize::from(moment.month) - 1].as_bytes();
                let is_long = text.get(..long.len()).is_some_and(|text| text.eq_ignore_ascii_case(long));
                return Some(if is_long { long.len() } else { 3 });
            }
            Self::Day => moment.day = two(text, 0)?,
            Self::DayPadded => moment.day = padded_two(text)?,
            Self::WeekdayName => {
                let length = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                return (length >= 3).then_some(length);
            }
            Self::Hour => moment.hour = two(text, 0)?,
            Self::HourPadded => moment.hour = padded_two(text)?,
            Self::Minute => moment.minute = two(text, 0)?,
            Self::Second => moment.second = two(text, 0)?,
            Self::Half => {
                moment.afternoon = match text.get(..2)? {
                    b"AM" | b"am" => Some(false),
                    b"PM" | b"pm" => Some(true),
                    _ => return None,
                }
            }
            Self::Zone => {
                let (offset, length) = zone(text)?;
                moment.offset = offset;
                return Some(length);
            }
            Self::ZoneName => return (text.starts_with(b"UTC") || text.starts_with(b"GMT")).then_some(3),
            Self::Epoch => {
                let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
                moment.whole = Some(number(&text[..length])?.checked_mul(NANOS)?);
                return Some(length);
            }
        }
        Some(2)
    }
}

/// Remembers the last day that was worked out, with its zone: the times of a log share theirs many times over.
#[derive(Debug, Default)]
pub struct LastDay {
    day: [u8; 12],
    zone: [u8; 6],
    midnight: Option<i64>,
    /// The last time as it was written, and what it was.
    whole: Option<([u8; CLF_LEN], i64)>,
}

impl LastDay {
    /// [`clf`], but the calendar only where the day or the zone differs from the last one.
    #[inline(always)]
    pub fn clf(&mut self, text: &[u8]) -> Result<i64, Reason> {
        let Ok(fixed) = <&[u8; CLF_LEN]>::try_from(text) else { return clf(text) };
        if let Some((last, time)) = &self.whole
            && last == fixed
        {
            return Ok(*time);
        }
        let time = self.of_day(fixed)?;
        self.whole = Some((*fixed, time));
        Ok(time)
    }

    #[inline]
    fn of_day(&mut self, fixed: &[u8; CLF_LEN]) -> Result<i64, Reason> {
        if let Some(midnight) = self.midnight
            && fixed[..12] == self.day
            && fixed[20..] == self.zone
            && let Some(second) = second_of_day(fixed)
        {
            return midnight.checked_add(second * NANOS).ok_or(OUT_OF_RANGE);
        }
        let time = clf(fixed)?;
        self.day.copy_from_slice(&fixed[..12]);
        self.zone.copy_from_slice(&fixed[20..]);
        self.midnight = second_of_day(fixed).and_then(|second| time.checked_sub(second * NANOS));
        Ok(time)
    }
}

/// The second of its day that `17/May/2015:10:05:03 +0000` is, unless it cannot be.
#[inline]
fn second_of_day(text: &[u8; CLF_LEN]) -> Option<i64> {
    let text = u64::from_le_bytes(*text[12..].first_chunk()?);
    // Digits are 0 to 9 now, colons 0; what is above sets the highest bit of its byte, and perhaps of later ones.
    let digits = text ^ u64::from_le_bytes(*b"00:00:00");
    let is_time = (digits.wrapping_add(0x7676_7f76_767f_7676) | digits) & 0x8080_8080_8080_8080 == 0;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let [hour, minute, second] = [0, 24, 48].map(|at| (pairs >> at & 0xff).cast_signed());
    (is_time && hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(pattern: &str, text: &str) -> Option<i64> {
        let mut moment = Moment::default();
        let length = Pattern::compile(pattern).expect("pattern").read(text.as_bytes(), &mut moment)?;
        (length == text.len()).then(|| moment.finish().ok().flatten())?
    }

    fn jiff(text: &str) -> i64 {
        i64::try_from(text.parse::<jiff::Timestamp>().expect("time").as_nanosecond()).expect("range")
    }

    #[test]
    fn the_common_time_is_read_with_its_zone() {
        assert_eq!(clf(b"17/May/2015:10:05:03 +0000"), Ok(jiff("2015-05-17T10:05:03Z")));
        assert_eq!(clf(b"01/Aug/1995:00:00:01 -0400"), Ok(jiff("1995-08-01T04:00:01Z")));
        assert_eq!(clf(b"29/Feb/2024:23:59:59 +0530"), Ok(jiff("2024-02-29T18:29:59Z")));
        assert_eq!(clf(b"31/Dec/2016:23:59:60 +0000"), Ok(jiff("2017-01-01T00:00:00Z")));
    }

    #[test]
    fn a_time_that_cannot_be_is_refused_with_its_reason() {
        for (text, reason) in [
            ("32/May/2015:10:05:03 +0000", "the month has no such day"),
            ("29/Feb/2023:10:05:03 +0000", "the month has no such day"),
            ("00/May/2015:10:05:03 +0000", "the month has no such day"),
            ("17/Mai/2015:10:05:03 +0000", "there is no such month"),
            ("17/May/2015:25:05:03 +0000", "the day has no such time"),
            ("17/May/2015:10:60:03 +0000", "the day has no such time"),
            ("17/May/9999:10:05:03 +0000", "the year is out of range (1678 to 2261)"),
            ("17/May/2015 10:05:03 +0000", "it is not written like 17/May/2015:10:05:03 +0000"),
            ("17/May/2015:10:05:03", "it is not written like 17/May/2015:10:05:03 +0000"),
            ("17/May/2015:10:05:03 +9900", "it is not written like 17/May/2015:10:05:03 +0000"),
            ("", "it is not written like 17/May/2015:10:05:03 +0000"),
        ] {
            assert_eq!(clf(text.as_bytes()), Err(reason), "{text}");
        }
    }

    #[test]
    fn iso_8601_is_read_in_its_usual_spellings() {
        let time = jiff("2015-05-17T10:05:03.120Z");
        for text in [
            "2015-05-17T10:05:03.12Z",
            "2015-05-17t10:05:03.120000000z",
            "2015-05-17 10:05:03,120",
            "2015-05-17 12:05:03.12 +0200",
            "2015-05-17T12:05:03.120+02:00",
            "2015-05-17T12:05:03.1200000000009+02",
            "2015-05-17T04:35:03.12-0530",
        ] {
            assert_eq!(iso(text.as_bytes()), Ok(time), "{text}");
        }
        assert_eq!(iso(b"2015-05-17T10:05"), Ok(jiff("2015-05-17T10:05:00Z")));
        assert_eq!(iso(b"1969-12-31T23:59:59.5Z"), Ok(-NANOS / 2));
        assert!(iso(b"2015-05-17").is_err());
        assert!(iso(b"2015-05-17T10:05:03.Z").is_err());
        assert!(iso(b"2015-05-17T10:05:03Zulu").is_err());
        assert_eq!(iso(b"2015-13-17T10:05:03Z"), Err("there is no such month"));
    }

    #[test]
    fn strftime_patterns_read_what_they_write() {
        let time = Some(jiff("2015-05-07T22:05:03Z"));
        assert_eq!(pattern("%Y-%m-%dT%H:%M:%S%z", "2015-05-08T00:05:03+0200"), time);
        assert_eq!(pattern("%F %T", "2015-05-07 22:05:03"), time);
        assert_eq!(pattern("%a, %e %B %Y %I:%M:%S %p %Z", "Thu,  7 May 2015 10:05:03 PM GMT"), time);
        assert_eq!(pattern("%D %R:%S", "05/07/15 22:05:03"), time);
        assert_eq!(pattern("%s", "1431036303"), time);
        assert_eq!(pattern("%b %d %y %T%%", "September 07 99 00:00:00%"), Some(jiff("1999-09-07T00:00:00Z")));
        assert_eq!(pattern("%T", "22:05:03"), None, "a time of day alone is no time");
        assert_eq!(Pattern::compile("%Y %Q").err().as_deref(), Some("%Q"));
        assert_eq!(Pattern::compile("%Y %").err().as_deref(), Some("%"));
    }

    #[test]
    fn decimals_are_scaled_without_floats() {
        assert_eq!(decimal(b"1431857103.123", NANOS), Some(1_431_857_103_123_000_000));
        assert_eq!(decimal(b"0.045", NANOS), Some(45_000_000));
        assert_eq!(decimal(b"12", 1000), Some(12_000));
        assert_eq!(decimal(b"-0.5", NANOS), Some(-NANOS / 2));
        for text in ["", "-", ".", "1.", ".5", "1.2.3", "1e3", "9999999999999999999", "99999999999.0"] {
            assert_eq!(decimal(text.as_bytes(), NANOS), None, "{text}");
        }
    }

    #[test]
    fn the_last_day_is_remembered_and_a_bad_one_is_not() {
        let mut last = LastDay::default();
        for text in [
            "17/May/2015:10:05:03 +0000",
            "17/May/2015:23:59:60 +0000",
            "17/May/2015:24:05:03 +0000",
            "17/May/2015:10:05:03 +0100",
            "32/May/2015:10:05:03 +0100",
            "32/May/2015:10:05:03 +0100",
            "17/May/2015:10:0x:03 +0100",
            "17/May/2015:10-05:03 +0100",
            "17/May/2015:00:00:00 +0100",
            "",
        ] {
            assert_eq!(last.clf(text.as_bytes()), clf(text.as_bytes()), "{text}");
        }
        assert!(LastDay::default().clf(&[0; CLF_LEN]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn what_is_read_after_the_last_day_is_what_is_read_without_it(
            digits in prop::array::uniform6(prop_oneof![4 => 0_u8..6, 1 => 0_u8..10]),
            (at, byte) in (prop_oneof![0..CLF_LEN, 12..20_usize, Just(CLF_LEN)], prop_oneof![any::<u8>(), b'0'..b'<']),
        ) {
            let [a, b, c, d, e, f] = digits;
            let mut text = format!("17/May/2015:{}{b}:{c}{d}:{e}{f} +0100", a % 3).into_bytes();
            if let Some(place) = text.get_mut(at) {
                *place = byte;
            }
            let mut last = LastDay::default();
            last.clf(b"17/May/2015:10:05:03 +0100").expect("a time");
            prop_assert_eq!(last.clf(&text), clf(&text), "{}", text.escape_ascii());
        }

        #[test]
        fn arithmetic_agrees_with_jiff(second in -9_223_000_000_i64..9_223_000_000, minutes in -1439_i32..=1439) {
            let zone = jiff::tz::Offset::from_seconds(minutes * 60).expect("offset").to_time_zone();
            let zoned = jiff::Timestamp::from_second(second).expect("time").to_zoned(zone);
            let expected = second * NANOS;
            let text = zoned.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
            prop_assert_eq!(clf(text.as_bytes()), Ok(expected), "{}", text);
            let mut last = LastDay::default();
            for second in [second, second + 1, second + 3600, second - 86_400] {
                let zoned = jiff::Timestamp::from_second(second).expect("time").to_zoned(zoned.time_zone().clone());
                let text = zoned.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
                prop_assert_eq!(last.clf(text.as_bytes()), Ok(second * NANOS), "{}", text);
            }
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            prop_assert_eq!(iso(text.as_bytes()), Ok(expected), "{}", text);
        }

        #[test]
        fn nothing_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..40), form in "[0-9T:./ +A-Zaepr-]{0,40}") {
            for text in [&text[..], form.as_bytes()] {
                let _ = (clf(text), iso(text), decimal(text, NANOS), decimal(text, 1));
                let mut moment = Moment::default();
                let _ = Pattern::compile("%a %b %e %T %p %Z %z %y %s").map(|pattern| pattern.read(text, &mut moment));
                let _ = moment.finish();
            }
        }
    }
}
