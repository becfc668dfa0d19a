//! The leaves of a source's documents in the order they are written, and the text between any two of them.
//!
//! A leaf is *fixed* (its JSON is known when the source is configured) or *filled* from the line. Which filled leaves a
//! line has differs from line to line, what stands between two of them does not: closing braces, a comma, fixed leaves,
//! opening objects, the key. All of that is one text per pair, made here once.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::LayoutError;
use super::writer::{BLOCK, Writer};
use crate::config::{self, Target};
use crate::keep::{Keep, is_at_or_below};
use crate::record::{ECS_VERSION, Field};

/// Where the content of a filled leaf comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// `@timestamp`.
    Time,
    /// A slot of the document.
    Slot(Field),
    /// The whole line.
    Line,
    /// The path of the file.
    FilePath,
    /// The id of the file.
    FileId,
    /// Where the line starts.
    Offset,
    /// The tags.
    Tags,
}

impl From {
    /// Leaves that the daemon itself relies on: a static field cannot take their place.
    const fn is_reserved(self) -> bool {
        matches!(self, Self::Time | Self::FileId | Self::Offset)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// This JSON.
    Fixed(String),
    Filled(From),
}

fn fixed(value: impl Into<Json>) -> Content {
    Content::Fixed(value.into().to_string())
}

/// A leaf: where it is in the document, and what it says.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) path: String,
    /// The parts of the path.
    pub(super) way: Box<[Box<str>]>,
    pub(super) content: Content,
}

/// Leaves with every object's leaves next to each other.
#[derive(Debug, Default)]
pub(super) struct Leaves(Vec<Leaf>);

impl Leaves {
    /// All leaves that documents of `source` may have, whatever is kept, and the source's own tags.
    pub(super) fn of(
        source: &config::Source,
        enrich: &config::Enrich,
        elasticsearch: &config::Elasticsearch,
        host: &str,
    ) -> Result<(Self, Vec<String>), LayoutError> {
        let mut leaves = Self::default();
        leaves.add("@timestamp", Content::Filled(From::Time));
        leaves.add("ecs.version", fixed(ECS_VERSION));
        for &field in Field::ALL {
            let made = match field {
                Field::Calendar => enrich.calendar.enabled,
                Field::UserAgent => enrich.user_agent,
                _ => true,
            };
            if made {
                leaves.add(field.path(), Content::Filled(From::Slot(field)));
            }
        }
        leaves.add("event.dataset", fixed(source.dataset.as_str()));
        if enrich.original {
            leaves.add("event.original", Content::Filled(From::Line));
        }
        if enrich.host {
            leaves.add("host.name", fixed(host));
        }
        if enrich.file_path {
            leaves.add("log.file.path", Content::Filled(From::FilePath));
        }
        leaves.add("log.file.id", Content::Filled(From::FileId));
        leaves.add("log.offset", Content::Filled(From::Offset));
        let mut reserved: &[&str] = &[];
        if let Target::DataStream(_) = source.target(elasticsearch) {
            leaves.add("data_stream.type", fixed("logs"));
            leaves.add("data_stream.dataset", fixed(source.dataset.as_str()));
            leaves.add("data_stream.namespace", fixed(elasticsearch.namespace.as_str()));
            reserved = &["data_stream.type", "data_stream.dataset", "data_stream.namespace"];
        }
        let mut tags = Vec::new();
        for (path, value) in &source.fields {
            if path == "tags" {
                tags = tag_list(value)?;
                continue;
            }
            leaves.add_static(path, value, reserved)?;
        }
        leaves.add("tags", Content::Filled(From::Tags));
        Ok((leaves, tags))
    }

    pub(super) fn at(&self, at: u32) -> &Leaf {
        &self.0[at as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Leaf> {
        self.0.iter()
    }

    /// Puts a leaf behind the last one that shares most of its objects, so that objects stay in one piece.
    fn add(&mut self, path: &str, content: Content) {
        let shared = |leaf: &Leaf| common_objects(&leaf.path, path);
        let most = self.0.iter().map(shared).max().unwrap_or(0);
        let at = match most {
            0 => self.0.len(),
            _ => self.0.iter().rposition(|leaf| shared(leaf) == most).map_or(self.0.len(), |last| last + 1),
        };
        let way = path.split('.').map(Into::into).collect();
        self.0.insert(at, Leaf { path: path.to_owned(), way, content });
    }

    /// Adds a field with a fixed value; of an object, each of its leaves, so that it merges with known ones.
    fn add_static(&mut self, path: &str, value: &Json, reserved: &[&str]) -> Result<(), LayoutError> {
        if path.split('.').any(str::is_empty) {
            return Err(LayoutError::NoPath { field: path.to_owned() });
        }
        if let Json::Object(members) = value
            && !members.is_empty()
        {
            return members
                .iter()
                .try_for_each(|(key, value)| self.add_static(&format!("{path}.{key}"), value, reserved));
        }
        let conflict = |with: &str| LayoutError::Conflict { field: path.to_owned(), with: with.to_owned() };
        if is_at_or_below(path, "tags") {
            return Err(conflict("tags"));
        }
        let mut replaced = None;
        for (index, leaf) in self.0.iter().enumerate() {
            if leaf.path == path {
                if reserved.contains(&path) || matches!(leaf.content, Content::Filled(from) if from.is_reserved()) {
                    return Err(LayoutError::Reserved { field: path.to_owned() });
                }
                replaced = Some(index);
            } else if is_at_or_below(path, &leaf.path) || is_at_or_below(&leaf.path, path) {
                return Err(conflict(&leaf.path));
            }
        }
        let content = fixed(value.clone());
        match replaced {
            Some(index) => self.0[index].content = content,
            None => self.add(path, content),
        }
        Ok(())
    }

    /// Leaves out what is not kept.
    pub(super) fn retain(&mut self, keep: &Keep) {
        self.0.retain(|leaf| match leaf.content {
            // Their members are picked when they are made.
            Content::Filled(From::Slot(Field::Calendar | Field::UserAgent)) => keep.touches(&leaf.path),
            _ => keep.keeps(&leaf.path),
        });
    }
}

/// Tags of a source: one, or a list of them.
fn tag_list(value: &Json) -> Result<Vec<String>, LayoutError> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    match value {
        Json::String(tag) => Some(vec![tag.clone()]),
        Json::Array(tags) => tags.iter().map(text).collect(),
        _ => None,
    }
    .ok_or(LayoutError::Tags)
}

/// How many objects two leaves are both in.
fn common_objects(a: &str, b: &str) -> usize {
    objects(a).zip(objects(b)).take_while(|(a, b)| a == b).count()
}

fn objects(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit_once('.').map(|(objects, _)| objects.split('.')).into_iter().flatten()
}

/// Writes what stands between the leaf at `from` and the value of that at `to`.
fn step(text: &mut String, from: &str, to: &str) {
    let common = common_objects(from, to);
    text.extend(std::iter::repeat_n('}', objects(from).count() - common));
    text.push(',');
    for object in objects(to).skip(common) {
        let _ = write!(text, "{}:{{", Json::from(object));
    }
    let key = to.rsplit_once('.').map_or(to, |(_, key)| key);
    let _ = write!(text, "{}:", Json::from(key));
}

/// One text of the table.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its first two blocks, and zeros after it.
    head: [u8; 2 * BLOCK],
    /// How much of that it is.
    len: usize,
    /// What is longer than that; nearly always nothing.
    rest: Box<[u8]>,
}

impl Piece {
    fn new(text: &str) -> Self {
        let text = text.as_bytes();
        let len = text.len().min(2 * BLOCK);
        let mut head = [0; 2 * BLOCK];
        head[..len].copy_from_slice(&text[..len]);
        Self { head, len, rest: text[len..].into() }
    }

    /// Writes it.
    #[inline]
    pub(super) fn write<W: Writer>(&self, writer: &mut W) {
        writer.medium(&self.head, self.len);
        if !self.rest.is_empty() {
            writer.all(&self.rest);
        }
    }
}

/// The filled leaves, ranked as they are written, and the texts between them.
#[derive(Debug)]
pub(super) struct Table {
    /// What fills the leaf of each rank.
    pub(super) filled: Vec<From>,
    /// `[from * (ranks + 1) + to]`, where the last `to` is the end.
    pieces: Vec<Piece>,
}

impl Table {
    pub(super) fn new(leaves: &Leaves) -> Self {
        let places: Vec<(usize, From)> = leaves
            .iter()
            .enumerate()
            .filter_map(|(at, leaf)| match leaf.content {
                Content::Filled(from) => Some((at, from)),
                Content::Fixed(_) => None,
            })
            .collect();
        let mut pieces = Vec::new();
        for (from, &(from_at, _)) in places.iter().enumerate() {
            for to in 0..=places.len() {
                let mut text = String::new();
                if to > from {
                    let to_at = places.get(to).map_or(leaves.0.len(), |&(at, _)| at);
                    between(&mut text, &leaves.0, from_at, to_at);
                }
                pieces.push(Piece::new(&text));
            }
        }
        Self { filled: places.into_iter().map(|(_, from)| from).collect(), pieces }
    }

    /// The text between two ranks; `to` may be the number of ranks, which is the end.
    #[inline]
    pub(super) fn between(&self, from: usize, to: usize) -> &Piece {
        &self.pieces[from * (self.filled.len() + 1) + to]
    }
}

/// Writes what stands between leaves `from` and `to`, which are filled, or the end: the fixed ones between, and the way.
fn between(text: &mut String, leaves: &[Leaf], from: usize, to: usize) {
    let mut last = &leaves[from].path;
    for leaf in &leaves[from + 1..to] {
        if let Content::Fixed(value) = &leaf.content {
            step(text, last, &leaf.path);
            text.push_str(value);
            last = &leaf.path;
        }
    }
    match leaves.get(to) {
        Some(leaf) => step(text, last, &leaf.path),
        None => {
            text.extend(std::iter::repeat_n('}', objects(last).count()));
            text.push_str("}\n");
        }
    }
}
