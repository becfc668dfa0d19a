//! Reading the answer to a bulk request: one answer an item, in the order sent, without building a tree.
//!
//! Neighbours that are equal to the byte are kept once with their number, so that an answer in which everything was
//! created costs a comparison an item. Nothing is acted on before all of the answer was read and has as many items as
//! were sent: anything else is [`Undecodable`], and then any of it may have been applied.

use std::borrow::Cow;

use serde::Deserialize;

/// The parameter that leaves only what is read here.
pub const FILTER_PATH: &str = "errors,items.*.status,items.*.error,items.*.failure_store";
/// The same, with the index that each item went to.
pub const FILTER_PATH_WITH_INDEX: &str = "errors,items.*.status,items.*.error,items.*.failure_store,items.*._index";

/// What was answered to one item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemReply {
    /// HTTP status of the item.
    pub status: u16,
    /// Why it failed.
    pub error: Option<Failure>,
    /// What the failure store had to do with it.
    pub failure_store: Option<String>,
    /// The index it went to, if that was asked.
    pub index: Option<String>,
}

/// Why an item failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// `error.type`.
    pub kind: String,
    /// `error.reason`, and the reason below it if there is one.
    pub reason: String,
}

/// Equal answers to so many neighbouring items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alike {
    /// How many.
    pub count: usize,
    /// The answer.
    pub reply: ItemReply,
}

/// The bytes are not a whole answer to what was sent.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// Not the JSON of a bulk answer.
    #[error("the answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Another number of items.
    #[error("the answer has {found} items where {sent} were sent")]
    Count {
        /// In the answer.
        found: usize,
        /// In the request.
        sent: usize,
    },
}

/// Reads an answer to `sent` items; the counts of what is returned add up to `sent`.
pub fn decode(body: &[u8], sent: usize) -> Result<Vec<Alike>, Undecodable> {
    let runs = match compact(body) {
        Some(runs) => runs,
        None => thorough(body)?,
    };
    let found = runs.iter().map(|run| run.count).sum();
    if found == sent { Ok(runs) } else { Err(Undecodable::Count { found, sent }) }
}

/// Reads an answer as Elasticsearch writes it, without white space; `None` if it is written in another way, or wrong.
fn compact(body: &[u8]) -> Option<Vec<Alike>> {
    let mut rest = skip_members(body.strip_prefix(b"{")?, b"\"items\":[")?;
    let mut runs: Vec<Alike> = Vec::new();
    let mut previous: &[u8] = &[];
    loop {
        match runs.last_mut() {
            Some(run) if rest.starts_with(previous) => {
                run.count += 1;
                rest = &rest[previous.len()..];
            }
            _ => {
                let mut items = serde_json::Deserializer::from_slice(rest).into_iter::<OpReply>();
                let reply = items.next()?.ok()?.0;
                let (item, after) = rest.split_at(items.byte_offset());
                // An item starts with its brace; `starts_with` above relies on its being whole.
                (item.first() == Some(&b'{')).then_some(())?;
                runs.push(Alike { count: 1, reply });
                (previous, rest) = (item, after);
            }
        }
        match rest.split_first()? {
            (b',', after) => rest = after,
            (b']', after) => {
                rest = after;
                break;
            }
            _ => return None,
        }
    }
    while let Some(after) = rest.strip_prefix(b",") {
        rest = skip_member(after)?;
    }
    (rest == b"}").then_some(runs)
}

/// Skips small members up to and including `key`.
fn skip_members<'a>(mut rest: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    loop {
        if let Some(after) = rest.strip_prefix(key) {
            return Some(after);
        }
        rest = skip_member(rest)?.strip_prefix(b",")?;
    }
}

/// Skips one of the members beside the items: `"errors":false`, `"took":12`, `"ingest_took":3`.
fn skip_member(rest: &[u8]) -> Option<&[u8]> {
    let rest =
        [&b"\"errors\":"[..], b"\"took\":", b"\"ingest_took\":"].iter().find_map(|key| rest.strip_prefix(*key))?;
    let (value, after) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count());
    serde_json::from_slice::<serde::de::IgnoredAny>(value).ok().map(|_| after)
}

/// Reads any JSON that is a bulk answer.
fn thorough(body: &[u8]) -> Result<Vec<Alike>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Whole {
        items: Vec<OpReply>,
    }
    let whole: Whole = serde_json::from_slice(body)?;
    let mut runs: Vec<Alike> = Vec::new();
    for OpReply(reply) in whole.items {
        match runs.last_mut() {
            Some(run) if run.reply == reply => run.count += 1,
            _ => runs.push(Alike { count: 1, reply }),
        }
    }
    Ok(runs)
}

/// `{"create": {...}}`: the answer, whatever the operation is called.
struct OpReply(ItemReply);

impl<'de> Deserialize<'de> for OpReply {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ItemReply;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an operation with its answer")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<ItemReply, M::Error> {
                use serde::de::Error as _;
                let missing = || M::Error::custom("an item without an answer");
                map.next_key::<serde::de::IgnoredAny>()?.ok_or_else(missing)?;
                let reply = map.next_value::<Fields<'de>>()?;
                match map.next_key::<serde::de::IgnoredAny>()? {
                    None => Ok(reply.into()),
                    Some(_) => Err(M::Error::custom("an item with two answers")),
                }
            }
        }
        deserializer.deserialize_map(Visitor).map(Self)
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    status: u16,
    #[serde(borrow)]
    error: Option<Words<'a>>,
    #[serde(borrow)]
    failure_store: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "_index")]
    index: Option<Cow<'a, str>>,
}

/// An error is an object, or in a few old places just text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words<'a> {
    Object(#[serde(borrow)] Cause<'a>),
    Text(Cow<'a, str>),
}

#[derive(Deserialize)]
struct Cause<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    caused_by: Option<Box<Cause<'a>>>,
}

impl From<Fields<'_>> for ItemReply {
    fn from(fields: Fields<'_>) -> Self {
        Self {
            status: fields.status,
            error: fields.error.map(Into::into),
            failure_store: fields.failure_store.map(Cow::into_owned),
            index: fields.index.map(Cow::into_owned),
        }
    }
}

impl From<Words<'_>> for Failure {
    fn from(words: Words<'_>) -> Self {
        let cause = match words {
            Words::Object(cause) => cause,
            Words::Text(text) => return Self { kind: String::new(), reason: text.into_owned() },
        };
        let mut reason = cause.reason.unwrap_or_default().into_owned();
        if let Some(below) = cause.caused_by.and_then(|below| below.reason) {
            reason.push_str(": ");
            reason.push_str(&below);
        }
        Self { kind: cause.kind.unwrap_or_default().into_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CREATED: &str = r#"{"create":{"status":201}}"#;
    const CONFLICT: &str = r#"{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[\u0061]: there","index":"i"}}}"#;

    fn counts(body: &str, sent: usize) -> Vec<(usize, u16)> {
        decode(body.as_bytes(), sent).expect(body).iter().map(|run| (run.count, run.reply.status)).collect()
    }

    #[test]
    fn equal_neighbours_are_counted_and_order_is_kept() {
        let c = CREATED;
        for body in [
            format!(r#"{{"errors":true,"items":[{c},{c},{CONFLICT},{c}]}}"#),
            format!(r#"{{"took":3,"ingest_took":1,"errors":true,"items":[{c},{c},{CONFLICT},{c}]}}"#),
            format!(r#"{{"items":[{c},{c},{CONFLICT},{c}],"errors":true,"took":5}}"#),
            format!("{{ \"items\" :\n [{c}, {c},{CONFLICT} ,{c}], \"other\": {{}} }}"),
        ] {
            assert_eq!(counts(&body, 4), [(2, 201), (1, 409), (1, 201)]);
        }
    }

    #[test]
    fn an_error_keeps_type_reason_and_the_reason_below() {
        let body = r#"{"errors":true,"items":[{"create":{"_index":".ds-x-000002","status":400,"failure_store":"failed","error":
            {"type":"document_parsing_exception","reason":"no \"a\"","caused_by":{"type":"t","reason":"below"}}}}]}"#;
        let run = decode(body.as_bytes(), 1).expect("answer").remove(0);
        let error = Failure { kind: "document_parsing_exception".to_owned(), reason: "no \"a\": below".to_owned() };
        let expected = ItemReply {
            status: 400,
            error: Some(error),
            failure_store: Some("failed".to_owned()),
            index: Some(".ds-x-000002".to_owned()),
        };
        assert_eq!(run.reply, expected);
    }

    #[test]
    fn another_number_of_items_is_no_answer() {
        let body = format!(r#"{{"errors":false,"items":[{CREATED},{CREATED}]}}"#);
        for sent in [0, 1, 3] {
            assert!(matches!(decode(body.as_bytes(), sent), Err(Undecodable::Count { found: 2, .. })));
        }
    }

    #[test]
    fn half_an_answer_is_no_answer() {
        let body = format!(r#"{{"errors":true,"items":[{CREATED},{CREATED},{CONFLICT}]}}"#);
        for end in 0..body.len() {
            for sent in 0..4 {
                assert!(decode(&body.as_bytes()[..end], sent).is_err(), "{end}");
            }
        }
        for other in ["<html>busy</html>", "", "{}", "[]", "null", r#"{"items":{}}"#, r#"{"items":[{}]}"#] {
            assert!(decode(other.as_bytes(), 0).is_err(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), sent in 0_usize..4) {
            let _ = decode(&bytes, sent);
        }

        #[test]
        fn both_ways_to_read_agree(
            picks in proptest::collection::vec(0_usize..3, 1..20),
            cut in 0_usize..2000,
            broken in any::<u8>(),
            breaks in any::<bool>(),
        ) {
            let kinds = [CREATED, CONFLICT, r#"{"create":{"status":201,"_index":"a"}}"#];
            let items: Vec<_> = picks.iter().map(|&pick| kinds[pick]).collect();
            let mut body = format!(r#"{{"errors":true,"took":7,"items":[{}]}}"#, items.join(",")).into_bytes();
            if breaks {
                let at = cut % body.len();
                body[at] = broken;
            }
            // What the quick way accepts, the other way reads in the same way.
            if let Some(quick) = compact(&body) {
                prop_assert_eq!(joined(quick), thorough(&body).expect("the same"));
            } else {
                prop_assert!(breaks);
            }
        }
    }

    /// Neighbours that differ in bytes can still say the same.
    fn joined(runs: Vec<Alike>) -> Vec<Alike> {
        let mut all: Vec<Alike> = Vec::new();
        for run in runs {
            match all.last_mut() {
                Some(last) if last.reply == run.reply => last.count += run.count,
                _ => all.push(run),
            }
        }
        all
    }
}
