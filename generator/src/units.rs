//! Durations and sizes as people write them: `90s`, `250ms`, `7d`, `10MiB`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer};

/// The duration that a text such as `250ms`, `90s`, `24h` or `7d` (days of 24 hours) names.
///
/// # Errors
/// If the text is no duration, has no unit, or is negative.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let span: Span = text.parse().with_context(|| format!("{text:?} is not a duration such as 250ms, 30s or 24h"))?;
    let signed: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours())?;
    Duration::try_from(signed).with_context(|| format!("the duration {text:?} is negative"))
}

/// The number of bytes that a text such as `4096`, `64KiB`, `10MiB` or `2GB` names.
///
/// # Errors
/// If the text is no whole number with a known unit, or the number is too large.
pub fn parse_size(text: &str) -> Result<u64> {
    let digits_end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().with_context(|| format!("{text:?} is not a size such as 4096, 64KiB or 10MiB"))?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => bail!("{text:?} has the unknown unit {other:?}; known are B, kB, MB, GB, KiB, MiB, GiB"),
    };
    number.checked_mul(factor).with_context(|| format!("the size {text:?} is too large"))
}

/// For `#[serde(deserialize_with)]`: a duration written as text.
pub(crate) fn duration_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(|error| serde::de::Error::custom(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::{parse_duration, parse_size};
    use std::time::Duration;

    #[test]
    fn durations_read_as_written() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("30s", Some(Duration::from_secs(30))),
            ("24h", Some(Duration::from_secs(86_400))),
            ("7d", Some(Duration::from_secs(7 * 86_400))),
            ("1h 30m", Some(Duration::from_secs(5400))),
            ("-3s", None),
            ("30", None),
            ("soon", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_read_as_written() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("64KiB", Some(65_536)),
            ("2 MB", Some(2_000_000)),
            ("1GiB", Some(1 << 30)),
            ("-1", None),
            ("3 parsecs", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
