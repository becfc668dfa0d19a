//! Sizes, durations and secrets as people write them.
//!
//! A size or a duration is a whole number with its unit; only zero goes without one. What is printed can be read back
//! and gives the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written with its unit: `512KiB`, `8MiB`, `1GiB`, `10MB`, `100B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ByteSize(#[serde(deserialize_with = "read_size")] pub u64);

/// Units of a size; in this order, the first that divides a size evenly is the one it is printed with.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// So many mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_number(text).ok_or_else(|| UnitError::not_a_size(text))?;
        if unit.is_empty() {
            return match number {
                0 => Ok(Self(0)),
                _ => Err(UnitError(format!("`{text}` has no unit; write `{}`", Self(number)))),
            };
        }
        let (_, factor) = SIZE_UNITS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(|| UnitError::not_a_size(text))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| UnitError(format!("`{text}` is too large")))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS.into_iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => f.write_str("0"),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A length of time, written with its unit: `250ms`, `5s`, `10m`, `1h`, `14d`, or with several: `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Span(#[serde(deserialize_with = "read_span")] pub Duration);

/// Units of a duration, in nanoseconds; in this order, the first that divides one evenly is the one it is printed with.
const TIME_UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut total = Duration::ZERO;
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(total));
        }
        loop {
            let (number, tail) = split_number(rest).ok_or_else(|| UnitError::not_a_time(text))?;
            let unit = &tail[..tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len())];
            if unit.is_empty() {
                return Err(UnitError(format!("`{text}` has no unit; write `{number}s` or `{number}ms`")));
            }
            let (_, factor) = TIME_UNITS
                .into_iter()
                .find(|(name, _)| *name == unit.trim())
                .ok_or_else(|| UnitError::not_a_time(text))?;
            let nanos = u128::from(number) * factor;
            total = u64::try_from(nanos / 1_000_000_000)
                .ok()
                .and_then(|secs| {
                    let part = Duration::from_nanos(u64::try_from(nanos % 1_000_000_000).unwrap_or(0));
                    Duration::from_secs(secs).checked_add(part)
                })
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| UnitError(format!("`{text}` is too long")))?;
            rest = &tail[unit.len()..];
            if rest.is_empty() {
                return Ok(Self(total));
            }
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        // Centuries with nanoseconds are more than one number can say: two numbers then.
        match TIME_UNITS.into_iter().find(|(_, factor)| nanos != 0 && nanos.is_multiple_of(*factor)) {
            None => f.write_str("0"),
            Some((unit, factor)) if nanos / factor <= u128::from(u64::MAX) => write!(f, "{}{unit}", nanos / factor),
            Some(_) => write!(f, "{}s{}ns", self.0.as_secs(), self.0.subsec_nanos()),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is no size or no duration, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

impl UnitError {
    fn not_a_size(text: &str) -> Self {
        Self(format!("`{text}` is not a size; write a whole number and B, KiB, MiB or GiB, such as `8MiB`"))
    }

    fn not_a_time(text: &str) -> Self {
        Self(format!("`{text}` is not a duration; write a whole number and ms, s, m, h or d, such as `250ms`"))
    }
}

/// The number at the start of `text`, and what follows it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    Some((trimmed[..end].parse().ok()?, trimmed[end..].trim_start()))
}

fn read_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<ByteSize>().map(|size| size.0).map_err(D::Error::custom)
}

fn read_span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<Span>().map(|span| span.0).map_err(D::Error::custom)
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit_and_printed_in_the_largest() {
        for (text, bytes, printed) in [
            ("0", 0, "0"),
            ("100B", 100, "100B"),
            ("512KiB", 512 << 10, "512KiB"),
            ("8MiB", 8 << 20, "8MiB"),
            (" 8 mib ", 8 << 20, "8MiB"),
            ("1024MiB", 1 << 30, "1GiB"),
            ("10MB", 10_000_000, "10MB"),
            ("1TiB", 1 << 40, "1TiB"),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), printed);
        }
    }

    #[test]
    fn a_wrong_size_says_what_to_write() {
        for (text, error) in [
            ("8388608", "`8388608` has no unit; write `8MiB`"),
            ("8M", "`8M` is not a size; write a whole number and B, KiB, MiB or GiB, such as `8MiB`"),
            ("1.5GiB", "`1.5GiB` is not a size; write a whole number and B, KiB, MiB or GiB, such as `8MiB`"),
            ("-1B", "`-1B` is not a size; write a whole number and B, KiB, MiB or GiB, such as `8MiB`"),
            ("99999999999TiB", "`99999999999TiB` is too large"),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn durations_are_read_with_their_unit_and_printed_in_the_largest() {
        for (text, duration, printed) in [
            ("0", Duration::ZERO, "0"),
            ("250ms", Duration::from_millis(250), "250ms"),
            ("5s", Duration::from_secs(5), "5s"),
            ("90m", Duration::from_secs(5400), "90m"),
            ("1h30m", Duration::from_secs(5400), "90m"),
            ("1h 30m", Duration::from_secs(5400), "90m"),
            ("24h", Duration::from_secs(86_400), "1d"),
            ("14d", Duration::from_secs(14 * 86_400), "14d"),
            ("3us", Duration::from_micros(3), "3us"),
        ] {
            assert_eq!(text.parse::<Span>(), Ok(Span(duration)), "{text}");
            assert_eq!(Span(duration).to_string(), printed);
        }
    }

    #[test]
    fn a_wrong_duration_says_what_to_write() {
        for (text, error) in [
            ("5", "`5` has no unit; write `5s` or `5ms`"),
            ("1h30", "`1h30` has no unit; write `30s` or `30ms`"),
            ("5 parsecs", "`5 parsecs` is not a duration; write a whole number and ms, s, m, h or d, such as `250ms`"),
            ("", "`` is not a duration; write a whole number and ms, s, m, h or d, such as `250ms`"),
            ("18446744073709551615d", "`18446744073709551615d` is too long"),
        ] {
            assert_eq!(text.parse::<Span>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    proptest! {
        #[test]
        fn any_size_can_be_read_back(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn any_duration_can_be_read_back(secs: u64, nanos in 0_u32..1_000_000_000) {
            let span = Span(Duration::new(secs, nanos));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
