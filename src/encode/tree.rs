//! Documents of lines that are trees themselves (JSON): the tree, with slots and fixed fields put over it.

use super::layout::{Content, From};
use super::writer::{BLOCK, Writer};
use super::{Item, Layout};
use crate::keep::Keep;
use crate::record::{Document, Tags, Value};
use crate::tree::{Kept, List, ROOT, Tree, Value as Inner};

impl Layout {
    /// Puts the leaves of this layout that `doc` has over `tree`, and what is kept of it, so that it can be written.
    /// Adds to `doc.tags` what only encoding can see.
    pub(super) fn put_over(&self, tree: &mut Tree, item: &Item<'_>, doc: &mut Document) {
        if !self.keep.is_all() {
            prune(tree, &self.keep);
        }
        // It is written first.
        tree.take(ROOT, "@timestamp");
        let ranks = self.ranks(doc);
        let mut rank = 0;
        let mut valid = true;
        for (at, leaf) in self.leaves.iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "there are some dozens of leaves")]
            let outer = Inner::Outer(at as u32);
            // What is JSON already; any other text is written later, and only looked at here.
            let (json, text): (&str, &[u8]) = match &leaf.content {
                Content::Fixed(value) => (value, &[]),
                Content::Filled(from) => {
                    let is_set = ranks >> rank & 1 != 0;
                    rank += 1;
                    if !is_set {
                        continue;
                    }
                    match from {
                        From::Slot(field) => {
                            let bytes = doc.bytes(*field, item.line.bytes).unwrap_or_default();
                            match doc.value(*field) {
                                Value::Json { .. } | Value::StaticJson(_) | Value::Ready(_) => {
                                    (str::from_utf8(bytes).unwrap_or_default(), &[])
                                }
                                _ => ("", bytes),
                            }
                        }
                        From::Line => ("", item.line.bytes),
                        From::FilePath | From::FileId | From::Offset | From::Time | From::Tags => ("", &[]),
                    }
                }
            };
            valid &= simdutf8::basic::from_utf8(text).is_ok();
            // What is an object joins one that is there.
            if json.starts_with('{') {
                tree.put_object_over(&leaf.way, json, outer);
            } else {
                tree.put_over(&leaf.way, outer);
            }
        }
        if !valid {
            doc.tags.add(Tags::INVALID_UTF8);
        }
        if self.tags_rank.is_some() {
            self.put_tags(tree, doc.tags);
        }
    }

    /// Adds the tags of source and line to those that the tree has.
    fn put_tags(&self, tree: &mut Tree, tags: Tags) {
        let mut added = self.all_tags(tags).peekable();
        if added.peek().is_none() {
            return;
        }
        let all = match tree.get(ROOT, "tags") {
            Some(Inner::Array(tags)) => tags,
            there => {
                let all = tree.new_list();
                if let Some(tag) = there.filter(|tag| *tag != Inner::Null) {
                    tree.push(all, tag);
                }
                tree.put_over(&["tags"], Inner::Array(all));
                all
            }
        };
        for tag in added {
            let is_tag = |(_, known)| matches!(known, Inner::Text(known) if tree.str(known) == tag);
            if !tree.members(all).any(is_tag) {
                let tag = Inner::Text(tree.new_text(tag));
                tree.push(all, tag);
            }
        }
    }

    /// Writes the members of the document, which has begun, and its end.
    pub(super) fn write_tree<W: Writer>(&self, writer: &mut W, tree: &Tree, item: &Item<'_>, doc: &Document) {
        for (key, value) in tree.members(ROOT) {
            writer.short(COMMA, 1);
            writer.string(tree.text().as_bytes(), key.start as usize, key.end as usize);
            writer.short(COLON, 1);
            self.write_value(writer, tree, value, item, doc);
        }
        writer.short(END, 2);
    }

    fn write_value<W: Writer>(&self, writer: &mut W, tree: &Tree, value: Inner, item: &Item<'_>, doc: &Document) {
        match value {
            Inner::Text(text) => {
                writer.string(tree.text().as_bytes(), text.start as usize, text.end as usize);
            }
            Inner::Object(object) => self.write_members(writer, tree, object, true, item, doc),
            Inner::Array(array) => self.write_members(writer, tree, array, false, item, doc),
            Inner::Outer(leaf) => match &self.leaves.at(leaf).content {
                Content::Fixed(json) => writer.all(json.as_bytes()),
                Content::Filled(from) => {
                    self.write_leaf(writer, item, doc, *from);
                }
            },
            Inner::Signed(value) => writer.int(value),
            Inner::Unsigned(value) => match i64::try_from(value) {
                Ok(value) => writer.int(value),
                Err(_) => write_number(writer, &value),
            },
            Inner::Float(value) => write_number(writer, &value),
            Inner::Bool(value) => writer.all(if value { b"true" } else { b"false" }),
            Inner::Null => writer.all(b"null"),
        }
    }

    fn write_members<W: Writer>(
        &self,
        writer: &mut W,
        tree: &Tree,
        list: List,
        is_object: bool,
        item: &Item<'_>,
        doc: &Document,
    ) {
        let (mut before, end) = if is_object { (OPEN, CLOSE) } else { (BEGIN, FINISH) };
        if tree.is_empty(list) {
            writer.short(before, 1);
        }
        for (key, value) in tree.members(list) {
            writer.short(before, 1);
            before = COMMA;
            if is_object {
                writer.string(tree.text().as_bytes(), key.start as usize, key.end as usize);
                writer.short(COLON, 1);
            }
            self.write_value(writer, tree, value, item, doc);
        }
        writer.short(end, 1);
    }
}

const COMMA: &[u8; BLOCK] = b",                               ";
const COLON: &[u8; BLOCK] = b":                               ";
const OPEN: &[u8; BLOCK] = b"{                               ";
const CLOSE: &[u8; BLOCK] = b"}                               ";
const BEGIN: &[u8; BLOCK] = b"[                               ";
const FINISH: &[u8; BLOCK] = b"]                               ";
const END: &[u8; BLOCK] = b"}\n                              ";

/// Writes a number as `serde_json` does.
fn write_number<W: Writer>(writer: &mut W, value: &impl serde::Serialize) {
    // No number is longer.
    let mut text = [0; BLOCK];
    let mut rest = &mut text[..];
    let written = serde_json::to_writer(&mut rest, value);
    debug_assert!(written.is_ok(), "a number is longer than {BLOCK} digits");
    let len = BLOCK - rest.len();
    writer.short(&text, len);
}

/// Takes out what is not kept, and objects that are empty then.
fn prune(tree: &mut Tree, keep: &Keep) {
    tree.retain(&mut |path| match path {
        path if keep.keeps(path) => Kept::All,
        path if keep.touches(path) => Kept::Some,
        _ => Kept::Nothing,
    });
}
