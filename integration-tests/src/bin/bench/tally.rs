//! Counting what a body holds, at the cost of one pass over its bytes; and for runs that prove instead of measure,
//! reading it: is it NDJSON, are the actions `create`, did no id come twice?

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Counts lines and bytes of what is written to it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// Whether the last byte ended a line.
    ended: bool,
}

impl Lines {
    /// Counts a piece.
    pub(crate) fn take(&mut self, piece: &[u8]) {
        self.lines += memchr::memchr_iter(b'\n', piece).count() as u64;
        self.bytes += piece.len() as u64;
        self.ended = piece.last().map_or(self.ended, |byte| *byte == b'\n');
    }

    /// Documents, if this is a bulk body: two lines each, the last of them ended.
    pub(crate) fn documents(&self) -> Option<u64> {
        (self.ended && self.lines.is_multiple_of(2)).then_some(self.lines / 2)
    }
}

/// A body as it comes in: always counted, kept only if it will be read.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) lines: Lines,
    pub(crate) kept: Option<Vec<u8>>,
}

impl Write for Body {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.lines.take(piece);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(piece);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was found in the bodies of a whole run.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    ids: HashSet<Box<str>>,
    pub(crate) faults: u64,
    /// The first of them, in words.
    pub(crate) first_fault: Option<String>,
}

impl Proof {
    /// How many different ids there were.
    pub(crate) fn ids(&self) -> usize {
        self.ids.len()
    }

    /// Reads a body.
    pub(crate) fn read(&mut self, body: &[u8]) {
        let Ok(text) = std::str::from_utf8(body) else { return self.fault("a body is not UTF-8".to_owned()) };
        let mut lines = text.split_terminator('\n');
        while let Some(action) = lines.next() {
            match serde_json::from_str::<Action<'_>>(action) {
                Ok(Action { create: Target { id } }) => {
                    if !self.ids.insert(id.as_ref().into()) {
                        self.fault(format!("the id {id} came twice"));
                    }
                }
                Err(error) => self.fault(format!("{error}: {action}")),
            }
            match lines.next() {
                Some(document) if document.starts_with('{') => {
                    if let Err(error) = serde_json::from_str::<IgnoredAny>(document) {
                        self.fault(format!("{error}: {document}"));
                    }
                }
                Some(other) => self.fault(format!("not a document: {other}")),
                None => self.fault("an action without a document".to_owned()),
            }
        }
    }

    fn fault(&mut self, words: String) {
        self.faults += 1;
        self.first_fault.get_or_insert(words);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action<'a> {
    #[serde(borrow)]
    create: Target<'a>,
}

#[derive(Deserialize)]
struct Target<'a> {
    #[serde(borrow, rename = "_id")]
    id: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_pairs_of_lines_however_they_are_cut() {
        for (body, expected) in [
            ("{}\n{}\n", Some(1)),
            ("{}\n{}\n{}\n{}\n", Some(2)),
            ("{}\n{}\n{}\n", None),
            ("{}\n{}\n{}\n{}", None),
            ("{}\n{}", None),
            ("", None),
        ] {
            for cut in 0..=body.len() {
                let mut lines = Lines::default();
                lines.take(&body.as_bytes()[..cut]);
                lines.take(&body.as_bytes()[cut..]);
                assert_eq!(lines.documents(), expected, "{body:?} cut at {cut}");
                assert_eq!(lines.bytes, body.len() as u64);
            }
        }
    }

    #[test]
    fn a_proof_finds_what_counting_does_not() {
        let good = "{\"create\":{\"_id\":\"a\"}}\n{\"x\":1}\n{\"create\":{\"_index\":\"i\",\"_id\":\"b\"}}\n{}\n";
        for (body, faults) in [
            (good.to_owned(), 0),
            (format!("{good}{good}"), 2),
            (good.replace("create", "index"), 2),
            (good.replace("\"x\"", "x"), 1),
            (good.replace("{\"x\":1}", "1"), 1),
            (good.replace("_id", "id"), 2),
            ("{\"create\":{\"_id\":\"a\"}}\n".to_owned(), 1),
        ] {
            let mut proof = Proof::default();
            proof.read(body.as_bytes());
            assert_eq!(proof.faults, faults, "{body} {:?}", proof.first_fault);
        }
        let mut proof = Proof::default();
        proof.read(good.as_bytes());
        assert_eq!(proof.ids(), 2);
        proof.read(&good.as_bytes()[..50]);
        assert!(proof.first_fault.unwrap().contains("came twice"));
    }
}
