//! What the fields of a line fill, once they are found.

use super::request;
use super::slot::number_end;
use super::time::{self, LastDay, Moment, Pattern, Reason};
use crate::record::{Document, Field, Value};

/// What a value fills.
#[derive(Debug)]
pub enum Target {
    /// Nothing.
    Ignored,
    /// This field, as it stands.
    Text(Field),
    /// This field, as a whole number.
    Number(Field),
    /// `http.response.status_code` and `event.outcome`.
    Status,
    /// Method, target and version.
    Request,
    /// `url.query`, with or without its question mark.
    Query,
    /// `http.version`, from `HTTP/1.1`.
    Protocol,
    /// `url.domain`, and `url.port` if it names one.
    Host,
    /// A host with the target right after it.
    UrlWithHost,
    /// A time or a part of one.
    Time(TimeText),
    /// `event.duration`, in units of so many nanoseconds.
    Duration(i64),
    /// `event.duration`, the sum of a list of seconds.
    Durations,
}

/// How a time is written.
#[derive(Debug)]
pub enum TimeText {
    /// `17/May/2015:10:05:03 +0000`
    Clf,
    /// ISO 8601.
    Iso,
    /// A number of units of so many nanoseconds since 1970.
    Epoch(i64),
    /// A number of units of so many nanoseconds after the full second.
    Fraction(i64),
    /// A `strftime` pattern: a time, or parts of one.
    Pattern(Pattern),
    /// As the inner one, but when the request ended: not used where the beginning is known.
    End(Box<TimeText>),
}

impl Target {
    /// The fields that it fills.
    pub fn fields(&self) -> &[Field] {
        match self {
            Self::Ignored | Self::Time(_) => &[],
            Self::Text(field) | Self::Number(field) => std::slice::from_ref(field),
            Self::Status => &[Field::HttpResponseStatusCode, Field::EventOutcome],
            Self::Request => &[Field::HttpRequestMethod, Field::UrlOriginal, Field::HttpVersion],
            Self::Query => &[Field::UrlQuery],
            Self::Protocol => &[Field::HttpVersion],
            Self::Host => &[Field::UrlDomain],
            Self::UrlWithHost => &[Field::UrlDomain, Field::UrlOriginal],
            Self::Duration(_) | Self::Durations => &[Field::EventDuration],
        }
    }

    /// The fields that it fills, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Ignored => "ignored".to_owned(),
            Self::Time(_) => "@timestamp".to_owned(),
            target => target.fields().iter().map(|field| field.path()).collect::<Vec<_>>().join(", "),
        }
    }

    /// Fills the field from what was found in `line`, which is neither nothing nor `-`; `plain` as in
    /// [`Document::put_range`].
    #[inline(never)]
    pub fn fill(
        &self,
        line: &[u8],
        (start, end): (usize, usize),
        plain: bool,
        escapes: bool,
        doc: &mut Document,
    ) -> Result<(), Reason> {
        const NUMBER: Reason = "it is not a whole number";
        let text = &line[start..end];
        match *self {
            Self::Ignored | Self::Time(_) => {}
            Self::Text(field) if escapes && !plain => put_unescaped(field, line, start, end, doc),
            Self::Text(field) => doc.put_range(field, start, end, plain),
            Self::Number(field) => doc.put(field, Value::Int(time::number(text).ok_or(NUMBER)?)),
            Self::Status => put_status(time::number(text).ok_or(NUMBER)?, doc),
            Self::Request => request::split(line, start, end, plain, doc),
            Self::Query => {
                let mark = usize::from(text[0] == b'?');
                if start + mark < end {
                    doc.put_range(Field::UrlQuery, start + mark, end, plain);
                }
            }
            Self::Protocol => {
                let skip = if text.starts_with(b"HTTP/") { 5 } else { 0 };
                doc.put_range(Field::HttpVersion, start + skip, end, plain);
            }
            Self::Host => put_host(line, start, end, doc),
            Self::UrlWithHost => {
                let slash = memchr::memchr(b'/', text).map_or(end, |at| start + at);
                put_host(line, start, slash, doc);
                if slash < end {
                    doc.put_range(Field::UrlOriginal, slash, end, plain);
                }
            }
            Self::Duration(unit) => {
                // Only seconds are ever written with a fraction.
                let whole = unit == time::NANOS || !text.contains(&b'.');
                let nanos = time::decimal(text, unit).filter(|_| whole).ok_or("it is not a duration")?;
                // A clock that was set back makes negative ones.
                if nanos >= 0 {
                    doc.put(Field::EventDuration, Value::Int(nanos));
                }
            }
            Self::Durations => {
                let items = text.split(|byte| matches!(byte, b',' | b':' | b' ')).filter(|item| item.len() > 1);
                let sum =
                    items.into_iter().try_fold(0_i64, |sum, item| sum.checked_add(time::decimal(item, time::NANOS)?));
                doc.put(Field::EventDuration, Value::Int(sum.ok_or("it is not a list of durations")?));
            }
        }
        Ok(())
    }
}

/// Fills `http.response.status_code` and `event.outcome`.
#[inline]
pub fn put_status(status: i64, doc: &mut Document) {
    doc.put(Field::HttpResponseStatusCode, Value::Int(status));
    // nginx writes 000 where it never answered.
    if status >= 100 {
        doc.put(Field::EventOutcome, Value::Text(if status < 400 { "success" } else { "failure" }));
    }
}

/// The values of a format with JSON escapes stand in quotes: such a value is a JSON string.
fn put_unescaped(field: Field, line: &[u8], start: usize, end: usize, doc: &mut Document) {
    if memchr::memchr(b'\\', &line[start..end]).is_some()
        && let Some(quoted) = line.get(start.wrapping_sub(1)..=end)
        && let Ok(text) = serde_json::from_slice::<String>(quoted)
    {
        return doc.put_text(field, text.as_bytes());
    }
    doc.put_line(field, start, end);
}

fn put_host(line: &[u8], start: usize, end: usize, doc: &mut Document) {
    let text = &line[start..end];
    let colon = memchr::memrchr(b':', text).filter(|colon| {
        // Not the last colon of a bare IPv6 address.
        text[0] == b'[' || !text[..*colon].contains(&b':')
    });
    let port = colon.and_then(|colon| Some((colon, time::number(&text[colon + 1..])?)));
    let length = port.map_or(text.len(), |(colon, _)| colon);
    if length > 0 {
        doc.put_line(Field::UrlDomain, start, start + length);
    }
    if let Some((_, port)) = port
        && !doc.has(Field::UrlPort)
    {
        doc.put(Field::UrlPort, Value::Int(port));
    }
}

impl TimeText {
    /// Reads `text` into `moment`.
    pub fn read(&self, text: &[u8], moment: &mut Moment, last_day: &mut LastDay) -> Result<(), Reason> {
        const NUMBER: Reason = "it is not a number";
        match self {
            Self::Clf => moment.whole = Some(last_day.clf(text)?),
            Self::Iso => moment.whole = Some(time::iso(text)?),
            Self::Epoch(unit) => moment.whole = Some(time::decimal(text, *unit).ok_or(NUMBER)?),
            Self::Fraction(unit) => {
                let units = time::number(text).ok_or(NUMBER)?;
                moment.fraction = units.checked_mul(*unit).filter(|nanos| *nanos < time::NANOS);
            }
            Self::Pattern(pattern) => {
                pattern
                    .read(text, moment)
                    .filter(|length| *length == text.len())
                    .ok_or("it does not fit its pattern")?;
            }
            Self::End(inner) => inner.read(text, moment, last_day)?,
        }
        Ok(())
    }

    /// Where a time of this kind that starts at `start` ends.
    pub fn end(&self, line: &[u8], start: usize) -> Option<usize> {
        match self {
            Self::Clf => Some(start + time::CLF_LEN),
            Self::Iso => Some(start + time::iso_len(line.get(start..)?)?),
            Self::Epoch(_) | Self::Fraction(_) => Some(number_end(line, start)),
            Self::Pattern(pattern) => Some(start + pattern.read(line.get(start..)?, &mut Moment::default())?),
            Self::End(inner) => inner.end(line, start),
        }
    }
}
