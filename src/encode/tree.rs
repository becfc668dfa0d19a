//! Documents of lines that are trees themselves (JSON): the tree, with slots and fixed fields put over it.

use super::layout::{Content, From};
use super::writer::{BLOCK, Writer};
use super::{Item, Layout};
use crate::keep::Keep;
use crate::record::{Document, Tags, Value};
use crate::tree::{Kept, List, ROOT, Text, Tree, Value as Inner};

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
}

/// A tree with all that its leaves of other origin are written from.
pub(super) struct Full<'a> {
    pub(super) layout: &'a Layout,
    pub(super) tree: &'a Tree,
    pub(super) item: &'a Item<'a>,
    pub(super) doc: &'a Document,
}

impl Full<'_> {
    /// Writes the members of the document, which has begun, and its end.
    pub(super) fn write<W: Writer>(&self, writer: &mut W) {
        self.members(writer, ROOT, true, true);
        writer.short(END, 2);
    }

    /// Writes what stands in an object or array; `goes_on` if something stands there already.
    fn members<W: Writer>(&self, writer: &mut W, list: List, has_keys: bool, mut goes_on: bool) {
        for (key, value) in self.tree.members(list) {
            if goes_on {
                writer.short(COMMA, 1);
            }
            goes_on = true;
            if has_keys {
                self.text(writer, key);
                writer.short(COLON, 1);
            }
            self.value(writer, value);
        }
    }

    fn value<W: Writer>(&self, writer: &mut W, value: Inner) {
        match value {
            Inner::Text(text) => self.text(writer, text),
            Inner::Object(object) => {
                writer.short(OPEN, 1);
                self.members(writer, object, true, false);
                writer.short(CLOSE, 1);
            }
            Inner::Array(array) => {
                writer.short(BEGIN, 1);
                self.members(writer, array, false, false);
                writer.short(FINISH, 1);
            }
            Inner::Outer(leaf) => match &self.layout.leaves.at(leaf).content {
                Content::Fixed(json) => writer.all(json.as_bytes()),
                Content::Filled(from) => {
                    self.layout.write_leaf(writer, self.item, self.doc, *from);
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

    fn text<W: Writer>(&self, writer: &mut W, text: Text) {
        writer.string(self.tree.text().as_bytes(), text.start as usize, text.end as usize);
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
