//! Documents of lines that are trees themselves (JSON): the tree, with slots and fixed fields put over it.
//!
//! This is the way of correctness, not of speed: the tree is there already, and is changed in place.

use serde_json::{Map, Value as Json};

use super::layout::{Content, From};
use super::{Item, Layout, TimeText};
use crate::keep::Keep;
use crate::record::{Document, Field, Tags, Value};

impl Layout {
    /// Appends the document line of `tree` to `out`.
    #[inline(never)]
    pub(super) fn encode_tree(
        &self,
        mut tree: Map<String, Json>,
        item: &Item<'_>,
        doc: &mut Document,
        time: &mut TimeText,
        out: &mut Vec<u8>,
    ) {
        if !self.keep.is_all() {
            prune(&mut tree, "", &self.keep);
        }
        let (timestamp, len) = time.quoted(item.time);
        put_json(&mut tree, "@timestamp", &timestamp[..len]);
        let ranks = self.ranks(doc);
        let mut rank = 0;
        let mut valid = true;
        for leaf in self.leaves.iter() {
            let from = match &leaf.content {
                Content::Fixed(value) => {
                    put(&mut tree, &leaf.path, value.clone());
                    continue;
                }
                Content::Filled(from) => *from,
            };
            let is_set = ranks >> rank & 1 != 0;
            rank += 1;
            if !is_set {
                continue;
            }
            match from {
                From::Slot(field) => match slot(doc, field, item.line.bytes) {
                    Slot::Text(text) => valid &= put_text(&mut tree, &leaf.path, text),
                    Slot::Json(text) => put_json(&mut tree, &leaf.path, text),
                    Slot::Int(value) => put(&mut tree, &leaf.path, value.into()),
                },
                From::Line => valid &= put_text(&mut tree, &leaf.path, item.line.bytes),
                From::FilePath => put_json(&mut tree, &leaf.path, &item.file.path),
                From::FileId => put_json(&mut tree, &leaf.path, &item.file.id),
                From::Offset => put(&mut tree, &leaf.path, item.line.offset.into()),
                From::Time | From::Tags => {}
            }
        }
        if !valid {
            doc.tags.add(Tags::INVALID_UTF8);
        }
        if self.tags_rank.is_some() {
            self.put_tags(&mut tree, doc.tags);
        }
        // Writing a tree of strings, numbers and lists into memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, &tree);
        out.push(b'\n');
    }

    /// Adds the tags of source and line to those that the tree has.
    fn put_tags(&self, tree: &mut Map<String, Json>, tags: Tags) {
        let mut added = self.all_tags(tags).peekable();
        if added.peek().is_none() {
            return;
        }
        let mut all = match tree.remove("tags") {
            Some(Json::Array(tags)) => tags,
            None | Some(Json::Null) => Vec::new(),
            Some(tag) => vec![tag],
        };
        for tag in added {
            if !all.iter().any(|known| known == tag) {
                all.push(tag.into());
            }
        }
        tree.insert("tags".to_owned(), all.into());
    }
}

enum Slot<'a> {
    Text(&'a [u8]),
    Json(&'a [u8]),
    Int(i64),
}

fn slot<'a>(doc: &'a Document, field: Field, line: &'a [u8]) -> Slot<'a> {
    let bytes = doc.bytes(field, line).unwrap_or_default();
    match doc.get(field) {
        Some(Value::Int(value)) => Slot::Int(value),
        Some(Value::Json { .. } | Value::StaticJson(_) | Value::Ready(_)) => Slot::Json(bytes),
        _ => Slot::Text(bytes),
    }
}

/// Puts text at `path`; returns whether it was valid UTF-8.
fn put_text(tree: &mut Map<String, Json>, path: &str, text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let valid = matches!(text, std::borrow::Cow::Borrowed(_));
    put(tree, path, text.into_owned().into());
    valid
}

/// Puts ready-made JSON at `path`.
fn put_json(tree: &mut Map<String, Json>, path: &str, text: &[u8]) {
    let value = serde_json::from_slice(text);
    debug_assert!(value.is_ok(), "ready-made JSON of {path} is none");
    put(tree, path, value.unwrap_or(Json::Null));
}

/// Puts `value` at the dotted `path`, over whatever is in the way; objects are merged.
fn put(tree: &mut Map<String, Json>, path: &str, value: Json) {
    let Some((object, rest)) = path.split_once('.') else {
        merge(tree.entry(path).or_insert(Json::Null), value);
        return;
    };
    let member = tree.entry(object).or_insert(Json::Null);
    if !member.is_object() {
        *member = Json::Object(Map::new());
    }
    if let Json::Object(members) = member {
        put(members, rest, value);
    }
}

fn merge(into: &mut Json, value: Json) {
    match (into, value) {
        (Json::Object(into), Json::Object(members)) => {
            for (key, value) in members {
                merge(into.entry(key).or_insert(Json::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}

/// Takes out what is not kept, and objects that are empty then.
fn prune(tree: &mut Map<String, Json>, above: &str, keep: &Keep) {
    tree.retain(|key, value| {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        if keep.keeps(&path) {
            return true;
        }
        match value {
            Json::Object(members) if keep.touches(&path) => {
                prune(members, &path, keep);
                !members.is_empty()
            }
            _ => false,
        }
    });
}
