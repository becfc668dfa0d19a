//! Lines become documents: one file a format, each with its table of cases.
//!
//! Everything here is pure: equal bytes make equal documents, whatever was read before. Parsing never fails: a line
//! that does not fit its format is a document with the line as `message`, tagged, with `error.code` saying why in one word
//! ([`Failure`]), `error.message` where and how, and the fields before the break. A line that fits has no `message` of its own.

use std::collections::BTreeMap;

use crate::config;
use crate::record::{Document, Field, Tags, Value};

mod apache;
mod detect;
mod filter;
mod json;
mod nginx;
mod plan;
mod request;
mod slot;
mod target;
mod time;

pub use detect::{Detection, detect};
pub use filter::LineFilter;

/// A format or rule of the configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It is not written as Apache or nginx would read it.
    #[error("the format cannot be read at byte {at}: {reason}")]
    Syntax {
        /// Where, in bytes from the start of the format.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// Two fields without a literal between.
    #[error("{first} and {second} stand with nothing between at byte {at}: where one ends cannot be told")]
    Adjacent {
        /// The first.
        first: String,
        /// The second.
        second: String,
        /// Where the second starts, in bytes from the start of the format.
        at: usize,
    },
    /// Only literals.
    #[error("the format has no fields")]
    NoFields,
    /// `auto` is no format: [`detect`] finds one.
    #[error("`auto` stands for the format that the first lines of a file show")]
    Auto,
    /// A mapping of JSON keys to fields.
    #[error("map.{key}: {reason}")]
    Map {
        /// The key in the line.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A rule on lines.
    #[error("{key}: {reason}")]
    Rule {
        /// `include_lines` or `exclude_lines`.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Why a line does not fit its format: a closed set, so that it can be counted. The words are `error.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It does not begin as the format does.
    WrongStart,
    /// It ends too early.
    Truncated,
    /// A field is not followed by what comes after it in the format.
    MissingSeparator,
    /// There is more after what should be its end.
    TrailingData,
    /// A field that is a number holds something else.
    BadNumber,
    /// A field that is a time holds something else, or a time that cannot be.
    BadTime,
    /// A field that is a duration holds something else.
    BadDuration,
    /// It is not JSON.
    BadJson,
    /// It is JSON, nested deeper than is read.
    TooDeep,
    /// It is JSON, but no object.
    NotAnObject,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::WrongStart,
        Self::Truncated,
        Self::MissingSeparator,
        Self::TrailingData,
        Self::BadNumber,
        Self::BadTime,
        Self::BadDuration,
        Self::BadJson,
        Self::TooDeep,
        Self::NotAnObject,
    ];

    /// Its word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongStart => "wrong_start",
            Self::Truncated => "truncated",
            Self::MissingSeparator => "missing_separator",
            Self::TrailingData => "trailing_data",
            Self::BadNumber => "bad_number",
            Self::BadTime => "bad_time",
            Self::BadDuration => "bad_duration",
            Self::BadJson => "bad_json",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
        }
    }

    /// Marks `doc` as that of a `line` that does not fit; `message` says where and how.
    fn put(self, line: &[u8], doc: &mut Document, message: &str) {
        doc.put_text(Field::ErrorMessage, message.as_bytes());
        doc.put(Field::ErrorType, Value::Text("parse_failure"));
        doc.put(Field::ErrorCode, Value::Text(self.code()));
        doc.put_line(Field::Message, 0, line.len());
        doc.tags.add(Tags::PARSE_FAILURE);
    }
}

/// A source's format, compiled once and shared by threads.
#[derive(Debug)]
pub struct Format {
    name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plan(plan::Plan),
    Json(json::Json),
    Text,
}

/// What a thread keeps between lines: only what makes the next one cheaper, never what changes its document.
#[derive(Debug, Default)]
pub struct Cache {
    last_day: time::LastDay,
    ranges: Vec<(usize, usize)>,
    furthest: Vec<(usize, usize)>,
}

impl Format {
    /// Compiles `format`; `map` says which keys of a JSON line become which fields, and is for `json` alone.
    pub fn compile(format: &config::Format, map: &BTreeMap<String, String>) -> Result<Self, FormatError> {
        let (name, kind) = match format {
            config::Format::Auto => return Err(FormatError::Auto),
            config::Format::Common => ("common", Kind::Plan(apache::compile(apache::COMMON)?)),
            config::Format::Combined => ("combined", Kind::Plan(apache::compile(apache::COMBINED)?)),
            config::Format::Apache(format) => ("apache", Kind::Plan(apache::compile(format)?)),
            config::Format::Nginx(format) => ("nginx", Kind::Plan(nginx::compile(format)?)),
            config::Format::Json => ("json", Kind::Json(json::Json::compile(map)?)),
            config::Format::Text => ("text", Kind::Text),
        };
        Ok(Self { name, kind })
    }

    /// Makes `doc`, which must be clear, the document of `line` (without its terminator).
    pub fn parse(&self, line: &[u8], doc: &mut Document, cache: &mut Cache) {
        match &self.kind {
            Kind::Plan(plan) => plan.parse(line, doc, cache),
            Kind::Json(json) => json.parse(line, doc),
            Kind::Text => doc.put_line(Field::Message, 0, line.len()),
        }
    }

    /// Each piece of the format, or key of the line, with the fields it fills, `literal` or `ignored`.
    #[must_use]
    pub fn explain(&self) -> Vec<(String, String)> {
        match &self.kind {
            Kind::Plan(plan) => plan.explain(),
            Kind::Json(json) => json.explain(),
            Kind::Text => vec![("the line".to_owned(), Field::Message.path().to_owned())],
        }
    }

    /// The format's name, as the configuration writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

#[cfg(test)]
mod tests;
