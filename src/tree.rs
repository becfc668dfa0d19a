//! The fields of a line that is a tree itself (JSON): objects, arrays and values by number, in memory that is kept from
//! line to line.
//!
//! - Reading accepts and refuses what `serde_json` does, with its words; of a key written twice in one object, the last
//!   counts.
//! - Nothing here loses a value that another one meets, but for [`Tree::put_over`], which says so.
//! - Nothing is allocated per line once there was one of its size; objects with very many keys are the exception.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// How deep dotted keys may nest a tree; `serde_json` has the same bound for braces.
pub const MAX_DEPTH: usize = 128;

/// Objects with more keys get an index.
const WIDE: u32 = 24;

/// Beyond this a whole number may have become a float because 64 bits do not hold it.
const HUGE: f64 = 9.2e18;

/// Memory that one very long line took is given back.
const KEPT_TEXT: usize = 64 << 10;
const KEPT_NODES: usize = 1024;

/// A stretch of the tree's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The members of an object or of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List(u32);

/// The outermost object.
pub const ROOT: List = List(0);

/// What stands under a key, or in an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` and `false`
    Bool(bool),
    /// A whole number that is not negative.
    Unsigned(u64),
    /// A negative whole number.
    Signed(i64),
    /// Any other number; finite.
    Float(f64),
    /// A string.
    Text(Text),
    /// An object.
    Object(List),
    /// An array.
    Array(List),
    /// Something that whoever put it here knows by this number.
    Outer(u32),
}

/// No further node. The first node is nobody's next.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Empty in an array.
    key: Text,
    value: Value,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
    len: u32,
    /// The [`mark`] of each key that it has or had: most keys that are asked for are not there.
    marks: u64,
}

impl Ends {
    const NONE: Self = Self { first: NONE, last: NONE, len: 0, marks: 0 };
}

/// A bit that is the same for equal keys, and for others seldom.
fn mark(key: &[u8]) -> u64 {
    let first = key.first().map_or(0, |byte| u64::from(*byte));
    1 << ((first ^ (key.len() as u64).wrapping_mul(11)) % 64)
}

/// A tree, or none; see the module.
#[derive(Debug, Default)]
pub struct Tree {
    /// The first list is [`ROOT`]; where there is none, there is no tree.
    lists: Vec<Ends>,
    nodes: Vec<Node>,
    /// All keys and strings.
    text: String,
    /// Where the keys of wide objects are.
    wide: HashMap<u32, HashMap<Box<str>, u32>>,
    /// Whether a key was read that is not [plain](is_plain).
    dotted: bool,
    /// Whether a number was read beyond [`HUGE`].
    huge: bool,
}

/// Why a line is no tree.
#[derive(Debug)]
pub enum NoTree {
    /// It is JSON, but not an object: what it is.
    Other(&'static str),
    /// It is not JSON.
    NotJson(serde_json::Error),
}

impl Tree {
    /// Whether there is one.
    #[must_use]
    pub fn is_some(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Makes it none.
    pub fn clear(&mut self) {
        if self.is_some() {
            self.reset();
        }
    }

    fn reset(&mut self) {
        self.lists.clear();
        self.nodes.clear();
        self.text.clear();
        self.wide.clear();
        self.text.shrink_to(KEPT_TEXT);
        self.nodes.shrink_to(KEPT_NODES);
        self.lists.shrink_to(KEPT_NODES);
        (self.dotted, self.huge) = (false, false);
    }

    /// Makes it an object without members.
    pub fn start(&mut self) {
        self.clear();
        self.new_list();
    }

    /// Makes it the object that `json` is; none, if it is not one.
    ///
    /// # Errors
    /// [`NoTree`].
    pub fn read(&mut self, json: &str) -> Result<(), NoTree> {
        self.reset();
        let why = match self.read_value(json) {
            // Lists are numbered as they begin.
            Ok(Value::Object(ROOT)) => return Ok(()),
            Ok(other) => NoTree::Other(kind(other)),
            Err(error) => NoTree::NotJson(error),
        };
        self.reset();
        Err(why)
    }

    fn read_value(&mut self, json: &str) -> Result<Value, serde_json::Error> {
        let mut from = serde_json::Deserializer::from_str(json);
        let value = Reader(self).deserialize(&mut from)?;
        from.end()?;
        Ok(value)
    }

    /// Whether a number was read that may be a whole one beyond 64 bits.
    #[must_use]
    pub fn has_huge_number(&self) -> bool {
        self.huge
    }

    /// All keys and strings.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A key or a string.
    #[must_use]
    pub fn str(&self, text: Text) -> &str {
        &self.text[text.start as usize..text.end as usize]
    }

    fn bytes(&self, text: Text) -> &[u8] {
        &self.text.as_bytes()[text.start as usize..text.end as usize]
    }

    /// Keys and values of an object; of an array, with empty keys.
    pub fn members(&self, list: List) -> impl Iterator<Item = (Text, Value)> {
        let mut at = self.lists[list.0 as usize].first;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.next;
            Some((node.key, node.value))
        })
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self, list: List) -> bool {
        self.lists[list.0 as usize].len == 0
    }

    /// What an object has under `key`.
    #[must_use]
    pub fn get(&self, object: List, key: &str) -> Option<Value> {
        self.find(object, key).map(|node| self.nodes[node as usize].value)
    }

    /// Replaces what an object has under `key`, if it has anything.
    pub fn set(&mut self, object: List, key: Text, value: Value) {
        if let Some(node) = self.find_text(object, key) {
            self.nodes[node as usize].value = value;
        }
    }

    /// Takes what an object has under `key`.
    pub fn take(&mut self, object: List, key: &str) -> Option<Value> {
        let node = self.find(object, key)?;
        let ends = &mut self.lists[object.0 as usize];
        let Node { next, value, .. } = self.nodes[node as usize];
        if ends.first == node {
            ends.first = next;
        } else {
            let mut before = ends.first;
            while self.nodes[before as usize].next != node {
                before = self.nodes[before as usize].next;
            }
            self.nodes[before as usize].next = next;
            if ends.last == node {
                ends.last = before;
            }
        }
        ends.len -= 1;
        if ends.len == 0 {
            *ends = Ends::NONE;
        }
        if let Some(index) = self.wide.get_mut(&object.0) {
            index.remove(key);
        }
        Some(value)
    }

    /// A string for this tree.
    pub fn new_text(&mut self, text: &str) -> Text {
        let start = position(self.text.len());
        self.text.push_str(text);
        Text { start, end: position(self.text.len()) }
    }

    /// An object or an array without members.
    pub fn new_list(&mut self) -> List {
        self.lists.push(Ends::NONE);
        List(position(self.lists.len() - 1))
    }

    /// Puts a value at the end of an array.
    pub fn push(&mut self, array: List, value: Value) {
        self.append(array, Node { key: Text::default(), value, next: NONE });
    }

    /// Puts a value into an object that has not this key.
    fn put_new(&mut self, object: List, key: Text, value: Value) {
        let node = self.append(object, Node { key, value, next: NONE });
        let mark = mark(self.bytes(key));
        self.lists[object.0 as usize].marks |= mark;
        if self.lists[object.0 as usize].len > WIDE || !self.wide.is_empty() {
            self.index(object, node);
        }
    }

    fn append(&mut self, list: List, node: Node) -> u32 {
        let at = position(self.nodes.len());
        self.nodes.push(node);
        let ends = &mut self.lists[list.0 as usize];
        if ends.first == NONE {
            ends.first = at;
        } else {
            self.nodes[ends.last as usize].next = at;
        }
        ends.last = at;
        ends.len += 1;
        at
    }

    /// Notes the key of the last node of an object that has many, or had; all of them, where none is noted.
    #[cold]
    fn index(&mut self, object: List, node: u32) {
        let Ends { first, len, .. } = self.lists[object.0 as usize];
        let (index, mut at) = match self.wide.entry(object.0) {
            Entry::Occupied(index) => (index.into_mut(), node),
            Entry::Vacant(_) if len <= WIDE => return,
            Entry::Vacant(index) => (index.insert(HashMap::new()), first),
        };
        while let Some(node) = self.nodes.get(at as usize) {
            index.insert(self.text[node.key.start as usize..node.key.end as usize].into(), at);
            at = node.next;
        }
    }

    fn find(&self, object: List, key: &str) -> Option<u32> {
        let Ends { first, len, marks, .. } = self.lists[object.0 as usize];
        if marks & mark(key.as_bytes()) == 0 {
            return None;
        }
        if len > WIDE
            && let Some(index) = self.wide.get(&object.0)
        {
            return index.get(key).copied();
        }
        let mut at = first;
        while let Some(node) = self.nodes.get(at as usize) {
            let length = (node.key.end - node.key.start) as usize;
            if length == key.len() && self.bytes(node.key) == key.as_bytes() {
                return Some(at);
            }
            at = node.next;
        }
        None
    }

    fn find_text(&self, object: List, key: Text) -> Option<u32> {
        self.find(object, self.str(key))
    }

    // What is put here stays, whatever it meets.

    /// Makes dotted keys the nested paths they stand for. Empty parts are left out; a key without any other part is `_`.
    /// Past [`MAX_DEPTH`] levels, dots become `_`.
    pub fn nest(&mut self) {
        // Most lines have no dotted key: they need not be built again.
        if self.dotted {
            self.nest_members(ROOT, 0);
            self.dotted = false;
        }
    }

    fn nest_members(&mut self, object: List, depth: usize) {
        let Ends { first: mut at, .. } = std::mem::replace(&mut self.lists[object.0 as usize], Ends::NONE);
        self.wide.remove(&object.0);
        while let Some(&Node { key, value, next }) = self.nodes.get(at as usize) {
            at = next;
            if is_plain(self.str(key)) {
                self.nest_value(value, depth + 1);
                self.add(object, key, value);
                continue;
            }
            let room = MAX_DEPTH.saturating_sub(depth);
            // Most keys are short and most values simple: then nothing needs to be counted.
            let is_simple = !matches!(value, Value::Object(_) | Value::Array(_));
            if !is_simple || self.str(key).len() > room {
                let parts = self.str(key).split('.').filter(|part| !is_blank(part)).count();
                let joins = parts > room;
                self.nest_value(value, depth + if joins { 1 } else { parts.max(1) });
                if joins {
                    let parts: Vec<&str> = self.str(key).split('.').filter(|part| !is_blank(part)).collect();
                    let key = self.new_text(&parts.join("_"));
                    self.add(object, key, value);
                    continue;
                }
            }
            self.add_nested(object, key, value);
        }
    }

    /// Puts `value` at the path that a dotted key stands for.
    fn add_nested(&mut self, mut object: List, key: Text, value: Value) {
        let mut last = None;
        let mut start = key.start;
        while start <= key.end {
            let rest = Text { start, end: key.end };
            let end = match self.bytes(rest).iter().position(|byte| *byte == b'.') {
                Some(length) => start + position(length),
                None => key.end,
            };
            let part = Text { start, end };
            if !is_blank(self.str(part))
                && let Some(parent) = last.replace(part)
            {
                object = self.object_at(object, parent);
            }
            start = end + 1;
        }
        let last = match last {
            Some(last) => last,
            None => self.new_text("_"),
        };
        self.add(object, last, value);
    }

    fn nest_value(&mut self, value: Value, depth: usize) {
        match value {
            Value::Object(object) => self.nest_members(object, depth),
            Value::Array(array) => {
                let mut at = self.lists[array.0 as usize].first;
                while let Some(&Node { value, next, .. }) = self.nodes.get(at as usize) {
                    self.nest_value(value, depth + 1);
                    at = next;
                }
            }
            _ => {}
        }
    }

    /// The object under `key`, made if there is none.
    fn object_at(&mut self, object: List, key: Text) -> List {
        match self.find_text(object, key) {
            Some(node) => {
                let inner = self.object_of(self.nodes[node as usize].value);
                self.nodes[node as usize].value = Value::Object(inner);
                inner
            }
            None => {
                let inner = self.new_list();
                self.put_new(object, key, Value::Object(inner));
                inner
            }
        }
    }

    /// The object that `value` is, or a new one with it as its `value`.
    fn object_of(&mut self, value: Value) -> List {
        match value {
            Value::Object(object) => object,
            other => self.wrap(other, "value"),
        }
    }

    /// An object that holds `value` under `key`; a null is held by nothing.
    pub fn wrap(&mut self, value: Value, key: &str) -> List {
        let object = self.new_list();
        if value != Value::Null {
            let key = self.new_text(key);
            self.put_new(object, key, value);
        }
        object
    }

    /// Puts `value` at the path; what stands in the way is kept, as [`Tree::add`] says.
    pub fn insert<'a>(&mut self, mut object: List, path: impl IntoIterator<Item = &'a str>, value: Value) {
        let mut path = path.into_iter().peekable();
        while let Some(part) = path.next() {
            let key = self.known_text(object, part);
            if path.peek().is_none() {
                self.add(object, key, value);
                return;
            }
            object = self.object_at(object, key);
        }
    }

    /// `key` as text of this tree, not made anew where the object has it.
    fn known_text(&mut self, object: List, key: &str) -> Text {
        match self.find(object, key) {
            Some(node) => self.nodes[node as usize].key,
            None => self.new_text(key),
        }
    }

    /// Puts `value` under `key`. Where something is there already, objects become one, an object takes anything else as
    /// its `value`, other values become an array, and a null is replaced.
    fn add(&mut self, object: List, key: Text, value: Value) {
        match self.find_text(object, key) {
            Some(node) => {
                let merged = self.merge(self.nodes[node as usize].value, value);
                self.nodes[node as usize].value = merged;
            }
            None => self.put_new(object, key, value),
        }
    }

    fn merge(&mut self, there: Value, value: Value) -> Value {
        match (there, value) {
            (there, Value::Object(more)) => {
                let object = self.object_of(there);
                let mut at = self.lists[more.0 as usize].first;
                while let Some(&Node { key, value, next }) = self.nodes.get(at as usize) {
                    self.add(object, key, value);
                    at = next;
                }
                Value::Object(object)
            }
            (there, Value::Null) => there,
            (Value::Object(object), other) => {
                let key = self.known_text(object, "value");
                self.add(object, key, other);
                there
            }
            (Value::Null, other) => other,
            (there, other) => {
                let array = match there {
                    Value::Array(array) => array,
                    there => {
                        let array = self.new_list();
                        self.push(array, there);
                        array
                    }
                };
                match other {
                    Value::Array(more) => {
                        let mut at = self.lists[more.0 as usize].first;
                        while let Some(&Node { value, next, .. }) = self.nodes.get(at as usize) {
                            self.push(array, value);
                            at = next;
                        }
                    }
                    other => self.push(array, other),
                }
                Value::Array(array)
            }
        }
    }

    /// Takes the value at the path out, and the objects that it leaves empty.
    pub fn remove(&mut self, object: List, path: &[String]) -> Option<Value> {
        let (first, rest) = path.split_first()?;
        if rest.is_empty() {
            return self.take(object, first);
        }
        let Some(Value::Object(inner)) = self.get(object, first) else { return None };
        let value = self.remove(inner, rest)?;
        if self.is_empty(inner) {
            self.take(object, first);
        }
        Some(value)
    }

    /// Leaves the members for which `keep` says so, told their dotted path; of others, the members of theirs if it says
    /// that these are to be looked through, and nothing if nothing is left of them.
    pub fn retain(&mut self, keep: &mut impl FnMut(&str) -> Kept) {
        self.retain_members(ROOT, &mut String::new(), keep);
    }

    fn retain_members(&mut self, object: List, path: &mut String, keep: &mut impl FnMut(&str) -> Kept) {
        let Ends { first: mut at, .. } = std::mem::replace(&mut self.lists[object.0 as usize], Ends::NONE);
        self.wide.remove(&object.0);
        let above = path.len();
        while let Some(&Node { key, value, next }) = self.nodes.get(at as usize) {
            at = next;
            if above > 0 {
                path.push('.');
            }
            path.push_str(self.str(key));
            match (keep(path), value) {
                (Kept::All, _) => self.put_new(object, key, value),
                (Kept::Some, Value::Object(inner)) => {
                    self.retain_members(inner, path, keep);
                    if !self.is_empty(inner) {
                        self.put_new(object, key, value);
                    }
                }
                _ => {}
            }
            path.truncate(above);
        }
    }

    // What is put here wins.

    /// Puts `value` at the path, over whatever is in the way.
    pub fn put_over<P: AsRef<str>>(&mut self, path: &[P], value: Value) {
        let Some((object, key)) = self.way_to(path) else { return };
        self.put_over_in(object, key, value);
    }

    fn put_over_in(&mut self, object: List, key: &str, value: Value) {
        match self.find(object, key) {
            Some(node) => self.nodes[node as usize].value = value,
            None => {
                let key = self.new_text(key);
                self.put_new(object, key, value);
            }
        }
    }

    /// Puts the object that `json` is at the path: its members over those of an object that is there, else as
    /// `otherwise`.
    pub fn put_object_over<P: AsRef<str>>(&mut self, path: &[P], json: &str, otherwise: Value) {
        let Some((object, key)) = self.way_to(path) else { return };
        if let Some(Value::Object(there)) = self.get(object, key)
            && let Ok(Value::Object(members)) = self.read_value(json)
        {
            self.merge_over(there, members);
        } else {
            self.put_over_in(object, key, otherwise);
        }
    }

    fn merge_over(&mut self, into: List, members: List) {
        let mut at = self.lists[members.0 as usize].first;
        while let Some(&Node { key, value, next }) = self.nodes.get(at as usize) {
            at = next;
            let Some(node) = self.find_text(into, key) else {
                self.put_new(into, key, value);
                continue;
            };
            let there = &mut self.nodes[node as usize].value;
            match (*there, value) {
                (Value::Object(into), Value::Object(members)) => self.merge_over(into, members),
                (_, value) => *there = value,
            }
        }
    }

    /// The object that is to hold the last part of a path, made where there is none, and that part.
    fn way_to<'a, P: AsRef<str>>(&mut self, path: &'a [P]) -> Option<(List, &'a str)> {
        let (key, objects) = path.split_last()?;
        let mut object = ROOT;
        for part in objects {
            let part = part.as_ref();
            object = match self.get(object, part) {
                Some(Value::Object(inner)) => inner,
                _ => {
                    let inner = self.new_list();
                    self.put_over_in(object, part, Value::Object(inner));
                    inner
                }
            };
        }
        Some((object, key.as_ref()))
    }

    /// A value as `serde_json` has it. [`Value::Outer`] is null.
    #[must_use]
    pub fn to_json(&self, value: Value) -> serde_json::Value {
        match value {
            Value::Null | Value::Outer(_) => serde_json::Value::Null,
            Value::Bool(value) => value.into(),
            Value::Unsigned(value) => value.into(),
            Value::Signed(value) => value.into(),
            Value::Float(value) => value.into(),
            Value::Text(text) => self.str(text).into(),
            Value::Object(object) => {
                let member = |(key, value)| (self.str(key).to_owned(), self.to_json(value));
                serde_json::Value::Object(self.members(object).map(member).collect())
            }
            Value::Array(array) => self.members(array).map(|(_, value)| self.to_json(value)).collect(),
        }
    }
}

/// What of a member is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It, and what is below it.
    All,
    /// What is below it, where that is kept.
    Some,
    /// Nothing.
    Nothing,
}

/// Whether a key stays as it is.
fn is_plain(key: &str) -> bool {
    !key.as_bytes().contains(&b'.') && !is_blank(key)
}

fn is_blank(text: &str) -> bool {
    // Said first, because it is nearly always so.
    let begins = text.as_bytes().first().is_some_and(|byte| byte.is_ascii_graphic());
    !begins && text.trim_start().is_empty()
}

/// Positions fit: a line is at most `max_line_bytes`, which is checked to fit u32 several times over.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn position(at: usize) -> u32 {
    debug_assert!(u32::try_from(at).is_ok_and(|at| at < NONE));
    at as u32
}

/// What a value is, in messages.
#[must_use]
pub fn kind(value: Value) -> &'static str {
    match value {
        Value::Null | Value::Outer(_) => "null",
        Value::Bool(_) => "a boolean",
        Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => "a number",
        Value::Text(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads a value into the tree.
struct Reader<'a>(&'a mut Tree);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        self.0.huge |= value.abs() >= HUGE;
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(self.0.new_text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let array = self.0.new_list();
        while let Some(value) = items.next_element_seed(Reader(&mut *self.0))? {
            self.0.push(array, value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let object = self.0.new_list();
        while let Some(key) = members.next_key_seed(Key(&mut *self.0))? {
            let value = members.next_value_seed(Reader(&mut *self.0))?;
            match self.0.find_text(object, key) {
                Some(node) => self.0.nodes[node as usize].value = value,
                None => self.0.put_new(object, key, value),
            }
        }
        Ok(Value::Object(object))
    }
}

/// Reads a key into the tree.
struct Key<'a>(&'a mut Tree);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Text;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Text, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Text, E> {
        self.0.dotted |= !is_plain(key);
        Ok(self.0.new_text(key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json, json};

    use super::*;

    fn read(json: &str) -> Tree {
        let mut tree = Tree::default();
        tree.read(json).unwrap();
        tree
    }

    fn shown(tree: &Tree) -> Json {
        tree.to_json(Value::Object(ROOT))
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 60, 40, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::vec(("[a-z\"\u{e9}]{0,2}", inner), 0..40)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_json_reads(members in prop::collection::vec(("[a-z]{0,2}", any_json()), 0..60)) {
            // Of a key written twice the last counts.
            let text: Vec<String> = members.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
            let text = format!("{{{}}}", text.join(" , "));
            prop_assert_eq!(shown(&read(&text)), serde_json::from_str::<Json>(&text).unwrap());
        }

        #[test]
        fn what_is_refused_is_what_serde_json_refuses(text in "[{}\\[\\]\",:a-c0-9.eE\\\\ -]{0,30}") {
            let mut tree = Tree::default();
            match (tree.read(&text), serde_json::from_str::<Json>(&text)) {
                (Ok(()), Ok(Json::Object(object))) => prop_assert_eq!(shown(&tree), Json::Object(object)),
                (Err(NoTree::Other(_)), Ok(_)) => prop_assert!(!tree.is_some()),
                (Err(NoTree::NotJson(error)), Err(expected)) => {
                    prop_assert_eq!(error.to_string(), expected.to_string());
                    prop_assert!(!tree.is_some());
                }
                (read, expected) => prop_assert!(false, "{read:?} {expected:?}"),
            }
        }

        /// Objects get an index when they grow, and keep it when they shrink.
        #[test]
        fn an_object_is_a_map_however_wide_it_is(steps in prop::collection::vec((0_u8..3, 0_u16..60), 0..300)) {
            let mut tree = Tree::default();
            tree.start();
            let mut map = Map::new();
            for (step, key) in steps {
                let (key, value) = (format!("k{key}"), u64::from(key) + u64::from(step));
                if step == 0 {
                    prop_assert_eq!(tree.take(ROOT, &key).map(|value| tree.to_json(value)), map.remove(&key));
                } else {
                    tree.put_over(&[&key], Value::Unsigned(value));
                    map.insert(key, value.into());
                }
                prop_assert_eq!(tree.is_empty(ROOT), map.is_empty());
            }
            prop_assert_eq!(shown(&tree), Json::Object(map));
        }
    }

    #[test]
    fn what_is_put_over_wins_and_objects_are_joined() {
        let mut tree = read(r#"{"a":{"b":1,"c":{"d":2}},"e":"text","n":null}"#);
        tree.put_over(&["a", "b"], Value::Bool(true));
        tree.put_over(&["e", "f", "g"], Value::Signed(-1));
        tree.put_over(&["x"], Value::Float(1.5));
        tree.put_object_over(&["a", "c"], r#"{"d":{"y":1},"z":[2]}"#, Value::Null);
        tree.put_object_over(&["n"], r#"{"lost":1}"#, Value::Unsigned(7));
        let expected = json!({
            "a": {"b": true, "c": {"d": {"y": 1}, "z": [2]}}, "e": {"f": {"g": -1}}, "n": 7, "x": 1.5,
        });
        assert_eq!(shown(&tree), expected);
    }

    #[test]
    fn what_is_not_kept_is_left_out_with_objects_that_are_empty_then() {
        let mut tree = read(r#"{"a":{"b":{"c":1},"d":2},"e":{"f":3},"g":4,"h":{}}"#);
        tree.retain(&mut |path| match path {
            "a.b" | "g" => Kept::All,
            "a" | "e" | "h" => Kept::Some,
            _ => Kept::Nothing,
        });
        assert_eq!(shown(&tree), json!({"a": {"b": {"c": 1}}, "g": 4}));
    }

    #[test]
    fn a_tree_of_very_many_keys_takes_no_longer_than_its_length() {
        // Were each key held against all before it, this would take minutes.
        let members: Vec<String> = (0..100_000).map(|number| format!(r#""k{number}.a":1,"k{number}.b":2"#)).collect();
        let mut tree = read(&format!("{{{}}}", members.join(",")));
        tree.nest();
        assert_eq!(tree.members(ROOT).count(), 100_000);
        assert_eq!(tree.to_json(tree.get(ROOT, "k99999").unwrap()), json!({"a": 1, "b": 2}));
    }
}
