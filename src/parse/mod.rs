//! Lines become documents: one file a format, each with its table of cases.
//!
//! Everything here is pure: equal bytes make equal documents, whatever was read before. Parsing never fails: a line
//! that does not fit its format is a document with the line as `message`, tagged, with `error.message` saying where and
//! why, and the fields before the break. A line that fits has no `message` of its own.

use std::collections::BTreeMap;

use crate::config;
use crate::record::{Document, Field};

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
