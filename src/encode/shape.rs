//! Documents with the same fields, made into a text with gaps: what stands between the fields, and fields that say the same
//! in all of them (`event.kind`), are one piece. The lines of a log have few different sets of fields.

use super::layout::From;
use super::writer::{BLOCK, Fast, Writer};
use super::{Item, Layout, write_slot};
use crate::record::{Document, Field, Value};

/// Bytes that are copied at once; twice a block, which most pieces fit into.
const COPIED: usize = 2 * BLOCK;

/// Shapes that are kept; of a log with more, the rest is written field by field.
const MAX_SHAPES: usize = 32;

/// After so many documents without a shape, other ones than those that came first may be the usual ones.
const RELEARN: usize = 10_000;

/// The shapes of one layout that one thread has seen.
#[derive(Debug, Default)]
pub struct Shapes {
    known: Vec<Shape>,
    /// Documents without one since they were learned.
    missed: usize,
}

#[derive(Debug)]
pub(super) struct Shape {
    /// The ranks of the leaves that its documents have.
    ranks: u64,
    /// Fields that say the same in all of them.
    constants: Vec<(Field, Value)>,
    gaps: Vec<Gap>,
}

/// A piece, and what comes after it; nothing after the last, and where it is longer than what is copied at once.
#[derive(Debug)]
struct Gap {
    text: [u8; COPIED],
    len: usize,
    from: Option<From>,
}

impl Shapes {
    /// The shape of a document with these ranks.
    #[inline]
    pub(super) fn of(&mut self, layout: &Layout, ranks: u64, doc: &Document) -> Option<&Shape> {
        match self.known.iter().position(|shape| shape.fits(ranks, doc)) {
            Some(at) => self.known.get(at),
            None => self.learn(layout, ranks, doc),
        }
    }

    #[cold]
    fn learn(&mut self, layout: &Layout, ranks: u64, doc: &Document) -> Option<&Shape> {
        if self.known.len() == MAX_SHAPES {
            self.missed += 1;
            if self.missed < RELEARN {
                return None;
            }
            self.missed = 0;
            self.known.clear();
        }
        self.known.push(Shape::new(layout, ranks, doc));
        self.known.last()
    }
}

impl Shape {
    fn new(layout: &Layout, ranks: u64, doc: &Document) -> Self {
        let mut shape = Self { ranks, constants: Vec::new(), gaps: Vec::new() };
        let mut last = 0;
        let mut text = Vec::new();
        for rank in (0..u64::BITS as usize).filter(|rank| ranks >> rank & 1 != 0) {
            layout.table.between(last, rank).write(&mut text);
            last = rank;
            let from = layout.table.filled[rank];
            if let From::Slot(field) = from
                && let value @ (Value::Text(_) | Value::StaticJson(_)) = doc.value(field)
            {
                write_slot(&mut text, &[], doc, field);
                shape.constants.push((field, value));
            } else {
                shape.push(&text, Some(from));
                text.clear();
            }
        }
        layout.table.between(last, layout.table.filled.len()).write(&mut text);
        shape.push(&text, None);
        shape
    }

    fn push(&mut self, text: &[u8], from: Option<From>) {
        let mut chunks = text.chunks(COPIED).peekable();
        while let Some(chunk) = chunks.next() {
            let mut text = [0; COPIED];
            text[..chunk.len()].copy_from_slice(chunk);
            self.gaps.push(Gap { text, len: chunk.len(), from: from.filter(|_| chunks.peek().is_none()) });
        }
    }

    /// Whether a document is of this shape.
    #[inline]
    fn fits(&self, ranks: u64, doc: &Document) -> bool {
        // Constants are compared by where they are, not by what they say: most are the very same.
        let same = |a: Value, b: Value| match (a, b) {
            (Value::Text(a), Value::Text(b)) | (Value::StaticJson(a), Value::StaticJson(b)) => std::ptr::eq(a, b),
            _ => false,
        };
        self.ranks == ranks && self.constants.iter().all(|&(field, value)| same(doc.value(field), value))
    }

    /// Writes what a document of this shape has; returns whether all was valid UTF-8.
    #[inline]
    pub(super) fn write(&self, layout: &Layout, writer: &mut Fast, item: &Item<'_>, doc: &Document) -> bool {
        let mut valid = true;
        for gap in &self.gaps {
            writer.medium(&gap.text, gap.len);
            // Said first, because it is nearly always so.
            if let Some(From::Slot(field)) = gap.from
                && let Value::Plain { start, end } = doc.value(field)
            {
                writer.plain(item.line.bytes, start as usize, end as usize);
            } else if let Some(from) = gap.from {
                valid &= layout.write_leaf(writer, item, doc, from);
            }
        }
        valid
    }
}
