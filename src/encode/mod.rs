//! A document as it is sent: one bulk item, an action line and a document line, appended to the body of a batch.
//!
//! What can be known when a source is configured is made then ([`Layout`]): the order of the leaves, the text between any
//! two of them, fixed fields. What is left per line is to walk over the fields that are set and to copy their bytes. The
//! item is written into a small buffer that stays in the processor's nearest cache, and from there to the body in one copy;
//! one that is too long for it, straight into the body. Nothing is allocated per line, unless the line is a tree itself (JSON).
//!
//! Equal lines, documents and files give equal items.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::config::{self, Format};
use crate::json;
use crate::keep::Keep;
use crate::record::{Document, Field, FileId, LineId, RawLine, Tags, Value};

mod index_name;
mod layout;
mod shape;
mod time;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

pub use index_name::{IndexPattern, IndexPatternError, IndexPatternErrorKind};
pub use shape::Shapes;
pub use time::{TimeText, decide_time};

use layout::{From, Leaves, Table};
use tree::Full;
use writer::{BLOCK, Fast, Writer};

/// Why a source's documents cannot be laid out as configured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A static field is an object where another field needs a value, or the other way round.
    #[error("fields: {field:?} cannot stand beside the field {with:?}: one of them would have to be an object")]
    Conflict {
        /// The static field.
        field: String,
        /// The field it collides with.
        with: String,
    },
    /// A static field that the daemon sets itself, and needs as it is.
    #[error("fields: {field:?} is set by logweir itself and cannot be replaced")]
    Reserved {
        /// The field.
        field: String,
    },
    /// A dotted name with nothing before, between or after its dots.
    #[error("fields: {field:?} is not a dotted field name")]
    NoPath {
        /// The name.
        field: String,
    },
    /// Tags that are not text.
    #[error("fields: \"tags\" must be a text or a list of texts")]
    Tags,
    /// A field to keep that no document of this source has.
    #[error("keep_fields: there is no field {field:?}; did you mean {nearest:?}?")]
    UnknownKeep {
        /// The name.
        field: String,
        /// The known name that looks most like it.
        nearest: String,
    },
}

/// The members of the `user_agent` object that enriching can add.
const USER_AGENT_MEMBERS: [&str; 5] =
    ["user_agent.name", "user_agent.version", "user_agent.os.name", "user_agent.os.version", "user_agent.device.name"];

/// The members of the `calendar` object that enriching can add.
const CALENDAR_MEMBERS: [&str; 2] = ["calendar.weekday", "calendar.hour"];

/// Fields that are there or not by configuration: their names are known to `keep_fields` either way.
const OPTIONAL: [&str; 6] = [
    "event.original",
    "host.name",
    "log.file.path",
    "data_stream.type",
    "data_stream.dataset",
    "data_stream.namespace",
];

/// What is the same for all lines of a file.
#[derive(Clone, Debug)]
pub struct FileFields {
    path: Box<[u8]>,
    id: [u8; 18],
}

impl FileFields {
    /// The fields of the file with this path and id; a path that is not UTF-8 is shown with U+FFFD.
    #[must_use]
    pub fn new(path: &Path, id: FileId) -> Self {
        let mut text = Vec::new();
        json::push_string(&mut text, path.as_os_str().as_bytes());
        let mut quoted = [b'"'; 18];
        quoted[1..17].copy_from_slice(id.to_string().as_bytes());
        Self { path: text.into(), id: quoted }
    }
}

/// A line on its way into a batch, with what the document cannot know.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The line.
    pub line: RawLine<'a>,
    /// Its id.
    pub id: LineId,
    /// Its file.
    pub file: &'a FileFields,
    /// Its `@timestamp` as [`decide_time`] has it, in nanoseconds since 1970.
    pub time: i64,
    /// The index it goes to, if not that of the whole request.
    pub index: Option<&'a str>,
}

/// What encoding keeps from line to line; one a thread.
#[derive(Debug, Default)]
pub struct Buffers {
    fast: Fast,
    time: TimeText,
}

/// How the documents of one source are laid out.
#[derive(Debug)]
pub struct Layout {
    table: Table,
    leaves: Leaves,
    keep: Keep,
    /// Which slots become leaves, and how far their bits are rotated to be the bits of ranks.
    moves: Vec<(u64, u32)>,
    /// Ranks that every document has, besides `@timestamp`.
    always: u64,
    /// The rank of `tags`, which is the last, if it is kept.
    tags_rank: Option<usize>,
    /// The source's own tags.
    tags: Vec<String>,
}

impl Layout {
    /// Lays out the documents of `source`.
    ///
    /// # Errors
    /// If its static fields collide with others, or if it keeps fields that do not exist.
    pub fn new(
        source: &config::Source,
        enrich: &config::Enrich,
        elasticsearch: &config::Elasticsearch,
        host: &str,
    ) -> Result<Self, LayoutError> {
        let (mut leaves, tags) = Leaves::of(source, enrich, elasticsearch, host)?;
        // The keys of lines that are trees are anything.
        if !matches!(source.format, Format::Json | Format::Auto) {
            check_keep(&source.keep_fields, &leaves)?;
        }
        let keep = Keep::new(&source.keep_fields);
        leaves.retain(&keep);
        let table = Table::new(&leaves);
        let mut moves: Vec<(u64, u32)> = Vec::new();
        let mut always = 0;
        let mut tags_rank = None;
        for (rank, from) in table.filled.iter().enumerate() {
            match from {
                From::Slot(field) => {
                    #[expect(clippy::cast_possible_truncation, reason = "both are below 64")]
                    let rotate = (rank as u32).wrapping_sub(*field as u32) % 64;
                    let bit = 1 << *field as u64;
                    match moves.last_mut() {
                        Some((mask, same)) if *same == rotate => *mask |= bit,
                        _ => moves.push((bit, rotate)),
                    }
                }
                From::Line | From::FilePath | From::FileId | From::Offset => always |= 1 << rank,
                From::Tags => tags_rank = Some(rank),
                From::Time => {}
            }
        }
        Ok(Self { table, leaves, keep, moves, always, tags_rank, tags })
    }

    /// Which fields documents keep.
    #[must_use]
    pub fn keep(&self) -> &Keep {
        &self.keep
    }

    /// Appends `item` with the fields of `doc` to `out`, and returns where in `out` the document line starts. `shapes` are
    /// those that this thread has of this layout.
    ///
    /// Clears `doc.tree`, and adds to `doc.tags` what only encoding can see.
    pub fn encode(
        &self,
        item: &Item<'_>,
        doc: &mut Document,
        buffers: &mut Buffers,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> usize {
        if item.line.cut {
            doc.tags.add(Tags::LINE_CUT);
        }
        let Buffers { fast, time } = buffers;
        if doc.tree.is_some() {
            return self.encode_tree(item, doc, fast, time, out);
        }
        if Fast::fits(item.line.bytes.len() + doc.scratch.len()) {
            fast.clear();
            write_action(fast, item);
            let source = out.len() + Writer::len(fast);
            // What is not UTF-8 is seen only here, and adds a tag, so that the document has another shape.
            let written = match shapes.of(self, self.ranks(doc) | self.tags_bit(doc), doc) {
                Some(shape) => {
                    write_time(fast, time, item);
                    shape.write(self, fast, item, doc)
                }
                None => {
                    self.write_document(fast, time, item, doc);
                    true
                }
            };
            if written && let Some(bytes) = fast.bytes() {
                out.extend_from_slice(bytes);
                return source;
            }
        }
        write_action(out, item);
        let source = out.len();
        self.write_document(out, time, item, doc);
        source
    }

    /// The same of a line that is a tree.
    #[inline(never)]
    fn encode_tree(
        &self,
        item: &Item<'_>,
        doc: &mut Document,
        fast: &mut Fast,
        time: &mut TimeText,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut tree = std::mem::take(&mut doc.tree);
        self.put_over(&mut tree, item, doc);
        let full = Full { layout: self, tree: &tree, item, doc };
        let mut source = None;
        if Fast::fits(item.line.bytes.len() + doc.scratch.len()) {
            fast.clear();
            write_action(fast, item);
            let start = out.len() + Writer::len(fast);
            write_time(fast, time, item);
            full.write(fast);
            if let Some(bytes) = fast.bytes() {
                out.extend_from_slice(bytes);
                source = Some(start);
            }
        }
        let source = source.unwrap_or_else(|| {
            write_action(out, item);
            let source = out.len();
            write_time(out, time, item);
            full.write(out);
            source
        });
        tree.clear();
        doc.tree = tree;
        source
    }

    /// Writes a document leaf by leaf.
    #[inline(never)]
    fn write_document<W: Writer>(&self, writer: &mut W, time: &mut TimeText, item: &Item<'_>, doc: &mut Document) {
        write_time(writer, time, item);
        let mut last = 0;
        let mut ranks = self.ranks(doc);
        let mut valid = true;
        while ranks != 0 {
            let rank = ranks.trailing_zeros() as usize;
            ranks &= ranks - 1;
            self.table.between(last, rank).write(writer);
            last = rank;
            valid &= self.write_leaf(writer, item, doc, self.table.filled[rank]);
        }
        if !valid {
            doc.tags.add(Tags::INVALID_UTF8);
        }
        if let Some(rank) = self.tags_rank
            && self.tags_bit(doc) != 0
        {
            self.table.between(last, rank).write(writer);
            last = rank;
            self.write_tags(writer, doc.tags);
        }
        self.table.between(last, self.table.filled.len()).write(writer);
    }

    /// Writes one leaf; returns whether it was valid UTF-8.
    #[inline(always)]
    fn write_leaf<W: Writer>(&self, writer: &mut W, item: &Item<'_>, doc: &Document, from: From) -> bool {
        match from {
            From::Slot(field) => return write_slot(writer, item.line.bytes, doc, field),
            From::Line => return writer.string(item.line.bytes, 0, item.line.bytes.len()),
            From::FilePath => writer.all(&item.file.path),
            From::FileId => writer.all(&item.file.id),
            From::Offset => writer.int(item.line.offset.cast_signed()),
            From::Tags => self.write_tags(writer, doc.tags),
            From::Time => {}
        }
        true
    }

    /// The bit of the rank of `tags`, if the document has any.
    #[inline]
    fn tags_bit(&self, doc: &Document) -> u64 {
        if doc.tags.is_empty() && self.tags.is_empty() { 0 } else { self.tags_rank.map_or(0, |rank| 1 << rank) }
    }

    /// The ranks of the leaves that `doc` has, lowest first; without time and tags.
    #[inline]
    fn ranks(&self, doc: &Document) -> u64 {
        let mut set = doc.set_bits();
        if doc.has(Field::UserAgent) {
            set &= !(1 << Field::UserAgentOriginal as u64);
        }
        self.moves.iter().fold(self.always, |ranks, &(mask, rotate)| ranks | (set & mask).rotate_left(rotate))
    }

    #[cold]
    fn write_tags<W: Writer>(&self, writer: &mut W, tags: Tags) {
        let mut text = Vec::new();
        for tag in self.all_tags(tags) {
            text.push(if text.is_empty() { b'[' } else { b',' });
            json::push_string(&mut text, tag.as_bytes());
        }
        text.push(b']');
        writer.all(&text);
    }

    /// The source's own tags, then those of the line.
    fn all_tags(&self, tags: Tags) -> impl Iterator<Item = &str> {
        let own = Tags::ALL.into_iter().filter(move |(tag, _)| tags.has(*tag)).map(|(_, text)| text);
        self.tags.iter().map(String::as_str).chain(own)
    }
}

/// Writes how each document begins.
#[inline]
fn write_time<W: Writer>(writer: &mut W, time: &mut TimeText, item: &Item<'_>) {
    writer.short(b"{\"@timestamp\":                  ", 14);
    let (text, len) = time.quoted(item.time);
    writer.short(text, len);
}

#[inline]
fn write_action<W: Writer>(writer: &mut W, item: &Item<'_>) {
    match item.index {
        None => writer.short(b"{\"create\":{\"_id\":\"              ", 18),
        Some(index) => {
            // An index name needs no escape: none of the characters that would is legal in one.
            writer.all(b"{\"create\":{\"_index\":\"");
            writer.all(index.as_bytes());
            writer.all(b"\",\"_id\":\"");
        }
    }
    let mut id_and_end = [0; BLOCK];
    id_and_end[..24].copy_from_slice(&item.id.0);
    id_and_end[24..28].copy_from_slice(b"\"}}\n");
    writer.short(&id_and_end, 28);
}

/// Writes what `field`, which is set, holds; returns whether it was valid UTF-8.
#[inline(always)]
fn write_slot<W: Writer>(writer: &mut W, line: &[u8], doc: &Document, field: Field) -> bool {
    match doc.value(field) {
        Value::Plain { start, end } => writer.plain(line, start as usize, end as usize),
        Value::Line { start, end } => return writer.string(line, start as usize, end as usize),
        Value::Scratch { start, end } => return writer.string(&doc.scratch, start as usize, end as usize),
        Value::Json { start, end } => writer.all(&doc.scratch[start as usize..end as usize]),
        Value::Text(text) => writer.plain(text.as_bytes(), 0, text.len()),
        Value::StaticJson(text) => writer.all(text.as_bytes()),
        Value::Ready(ready) => {
            let (block, len) = ready.block();
            writer.short(block, len);
        }
        Value::Int(value) => writer.int(value),
    }
    true
}

/// Looks for names to keep that no document can have.
fn check_keep(names: &[String], leaves: &Leaves) -> Result<(), LayoutError> {
    let known: Vec<&str> = leaves
        .iter()
        .map(|leaf| leaf.path.as_str())
        .chain(CALENDAR_MEMBERS)
        .chain(USER_AGENT_MEMBERS)
        .chain(OPTIONAL)
        .collect();
    for name in names {
        if known.iter().any(|path| crate::keep::is_at_or_below(path, name)) {
            continue;
        }
        let nearest =
            known.iter().max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        let nearest = nearest.copied().unwrap_or("@timestamp").to_owned();
        return Err(LayoutError::UnknownKeep { field: name.clone(), nearest });
    }
    Ok(())
}
