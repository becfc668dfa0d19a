//! Index names that carry the event's date: `web-%Y.%m.%d`. They are filled with UTC, and the name of an hour is kept.

use super::time::{civil, put_digits};

const NANOS_PER_HOUR: i64 = 3_600_000_000_000;
const HOURS_PER_DAY: i64 = 24;

/// Elasticsearch's limit.
const MAX_NAME_BYTES: usize = 255;

/// Why a pattern cannot name an index.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("index pattern {pattern:?}: {kind}")]
pub struct IndexPatternError {
    pattern: String,
    kind: IndexPatternErrorKind,
}

/// What is wrong with a pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexPatternErrorKind {
    /// A `%` that is followed by something else than a known letter.
    #[error("%{0} is not known: use %Y, %m, %d, %H, %G, %V or %%")]
    Unknown(char),
    /// A `%` at the end.
    #[error("it ends with a lone %")]
    LonePercent,
    /// A character that no index name may have.
    #[error("{0:?} is not allowed in an index name")]
    Character(char),
    /// A first character that no index name may have.
    #[error("an index name does not start with {0:?}")]
    First(char),
    /// `.` and `..`, or nothing.
    #[error("this is no name")]
    NoName,
    /// More than 255 bytes.
    #[error("the name is longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    Month,
    Day,
    Hour,
    IsoYear,
    IsoWeek,
}

/// A pattern and the last name made of it; one a thread.
#[derive(Clone, Debug)]
pub struct IndexPattern {
    /// Where the digits of each part start in `name`.
    parts: Vec<(usize, Part)>,
    name: String,
    /// Hours since 1970 that `name` shows.
    hour: Option<i64>,
}

impl IndexPattern {
    /// Reads a pattern: `%Y` year, `%m` month, `%d` day, `%H` hour, `%G` and `%V` year and week of ISO 8601, `%%` a
    /// percent sign, and the rest as it stands.
    ///
    /// # Errors
    /// If it holds another `%`, or if its names would not be legal index names.
    pub fn parse(pattern: &str) -> Result<Self, IndexPatternError> {
        Self::read(pattern).map_err(|kind| IndexPatternError { pattern: pattern.to_owned(), kind })
    }

    fn read(pattern: &str) -> Result<Self, IndexPatternErrorKind> {
        let mut name = String::new();
        let mut parts = Vec::new();
        let mut chars = pattern.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                name.push(char);
                continue;
            }
            let part = match chars.next() {
                Some('Y') => Part::Year,
                Some('m') => Part::Month,
                Some('d') => Part::Day,
                Some('H') => Part::Hour,
                Some('G') => Part::IsoYear,
                Some('V') => Part::IsoWeek,
                Some('%') => {
                    name.push('%');
                    continue;
                }
                Some(other) => return Err(IndexPatternErrorKind::Unknown(other)),
                None => return Err(IndexPatternErrorKind::LonePercent),
            };
            parts.push((name.len(), part));
            name.push_str(&"0000"[..part.digits()]);
        }
        check_name(&name)?;
        Ok(Self { parts, name, hour: None })
    }

    /// Whether all names are one.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.parts.is_empty()
    }

    /// The name for an instant, in nanoseconds since 1970.
    pub fn fill(&mut self, nanos: i64) -> &str {
        let hour = nanos.div_euclid(NANOS_PER_HOUR);
        if self.hour != Some(hour) {
            self.turn(hour);
        }
        &self.name
    }

    #[cold]
    fn turn(&mut self, hour: i64) {
        let day = hour.div_euclid(HOURS_PER_DAY);
        let (year, month, day_of_month) = civil(day);
        // The week belongs to the year that its Thursday is in; 1970-01-01 was a Thursday.
        let thursday = day - (day + 3).rem_euclid(7) + 3;
        let (iso_year, ..) = civil(thursday);
        let mut name = std::mem::take(&mut self.name).into_bytes();
        for &(at, part) in &self.parts {
            let value = match part {
                Part::Year => year,
                Part::Month => month,
                Part::Day => day_of_month,
                Part::Hour => u32::try_from(hour.rem_euclid(HOURS_PER_DAY)).unwrap_or_default(),
                Part::IsoYear => iso_year,
                Part::IsoWeek => week_of_thursday(thursday, iso_year),
            };
            put_digits(&mut name[at..at + part.digits()], value);
        }
        self.name = String::from_utf8(name).unwrap_or_default();
        self.hour = Some(hour);
    }
}

impl Part {
    const fn digits(self) -> usize {
        match self {
            Self::Year | Self::IsoYear => 4,
            Self::Month | Self::Day | Self::Hour | Self::IsoWeek => 2,
        }
    }
}

/// Which Thursday of `year` the day `thursday` is.
fn week_of_thursday(thursday: i64, year: u32) -> u32 {
    (1..).take_while(|weeks| civil(thursday - 7 * i64::from(*weeks)).0 == year).count() as u32 + 1
}

/// What Elasticsearch asks of a name (`MetadataCreateIndexService.validateIndexOrAliasName`).
fn check_name(name: &str) -> Result<(), IndexPatternErrorKind> {
    if matches!(name, "" | "." | "..") {
        return Err(IndexPatternErrorKind::NoName);
    }
    if let Some(first @ ('-' | '_' | '+')) = name.chars().next() {
        return Err(IndexPatternErrorKind::First(first));
    }
    let refused = |char: &char| {
        char.is_uppercase()
            || char.is_control()
            || matches!(char, '\\' | '/' | '*' | '?' | '"' | '<' | '>' | '|' | ' ' | ',' | '#' | ':')
    };
    if let Some(char) = name.chars().find(refused) {
        return Err(IndexPatternErrorKind::Character(char));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(IndexPatternErrorKind::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_is_filled_with_the_date_in_utc() {
        for (pattern, second, name) in [
            ("web-%Y.%m.%d", 1_431_857_103, "web-2015.05.17"),
            ("web-%Y.%m.%d-%H", 1_431_857_103, "web-2015.05.17-10"),
            ("web-%G-%V", 1_609_459_200, "web-2020-53"),
            ("web-%G-%V", 1_230_768_000, "web-2009-01"),
            ("web-%G-%V", 1_230_508_799, "web-2008-52"),
            ("web-%G-%V", 1_230_508_800, "web-2009-01"),
            ("%Y%%", -1, "1969%"),
            ("plain", 0, "plain"),
        ] {
            assert_eq!(IndexPattern::parse(pattern).unwrap().fill(second * 1_000_000_000), name, "{pattern}");
        }
    }

    #[test]
    fn what_cannot_name_an_index_is_refused() {
        use IndexPatternErrorKind::*;
        let long = "x".repeat(256);
        for (pattern, kind) in [
            ("web-%y", Unknown('y')),
            ("web-%", LonePercent),
            ("Web", Character('W')),
            ("a b", Character(' ')),
            ("a/b", Character('/')),
            ("-a", First('-')),
            ("", NoName),
            ("..", NoName),
            (long.as_str(), TooLong),
        ] {
            assert_eq!(IndexPattern::parse(pattern).unwrap_err().kind, kind, "{pattern}");
        }
        let message = IndexPattern::parse("web-%y").unwrap_err().to_string();
        assert_eq!(message, "index pattern \"web-%y\": %y is not known: use %Y, %m, %d, %H, %G, %V or %%");
    }

    proptest! {
        #[test]
        fn names_agree_with_jiff(instants in prop::collection::vec(any::<i64>(), 1..9)) {
            let mut pattern = IndexPattern::parse("%Y.%m.%d.%H.%G.%V").unwrap();
            for nanos in instants {
                let instant = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap();
                let expected = instant.strftime("%Y.%m.%d.%H.%G.%V").to_string();
                prop_assert_eq!(pattern.fill(nanos), expected);
            }
        }
    }
}
