//! What one line becomes: left out by a rule, or parsed, enriched, dated and encoded. Nothing is allocated per line.

use super::plan::Plan;
use crate::config::Enrich;
use crate::encode::{Buffers, FileFields, IndexPattern, Item, Shapes, decide_time};
use crate::enrich::Chain;
use crate::parse::{Cache, Format};
use crate::record::{Document, FileId, LineId, RawLine};

/// Buffers and caches that live as long as their thread.
#[derive(Debug, Default)]
pub struct Transform {
    document: Document,
    cache: Cache,
    buffers: Buffers,
}

/// What a thread keeps of one source.
#[derive(Debug)]
pub struct OfSource {
    chain: Chain,
    pattern: Option<IndexPattern>,
    shapes: Shapes,
}

impl OfSource {
    /// Of the source that `plan` is made of.
    #[must_use]
    pub fn new(plan: &Plan, enrich: &Enrich) -> Self {
        Self { chain: Chain::new(enrich, plan.layout.keep()), pattern: plan.dated.clone(), shapes: Shapes::default() }
    }
}

/// What is the same for the lines of one turn of a file, and the time that goes from line to line.
#[derive(Debug)]
pub struct Context<'a> {
    /// The file's source.
    pub plan: &'a Plan,
    /// The file's format.
    pub format: &'a Format,
    /// Which enrichers are on, and which times are believed.
    pub enrich: &'a Enrich,
    /// Which file.
    pub file: FileId,
    /// Its fields in documents.
    pub fields: &'a FileFields,
    /// When its lines are read, in ns since 1970.
    pub read_at: i64,
    /// The last time that a line of it gave.
    pub last_time: Option<i64>,
}

impl Transform {
    /// Appends what is sent for `line` to `out`: its id, and where in `out` the document starts; `None` if a rule leaves
    /// it out.
    #[inline]
    pub fn line(
        &mut self,
        line: RawLine<'_>,
        context: &mut Context<'_>,
        source: &mut OfSource,
        out: &mut Vec<u8>,
    ) -> Option<(LineId, usize)> {
        if line.bytes.is_empty() || !context.plan.filter.keeps(line.bytes) {
            return None;
        }
        let Self { document, cache, buffers } = self;
        document.clear();
        context.format.parse(line.bytes, document, cache);
        source.chain.apply(line.bytes, document);
        let (time, remark) = decide_time(document.time, context.last_time, context.read_at, context.enrich);
        document.tags.add(remark);
        if remark.is_empty() {
            context.last_time = Some(time);
        }
        let id = LineId::new(context.file, line.offset, line.bytes);
        let index = source.pattern.as_mut().map(|pattern| pattern.fill(time));
        let item = Item { line, id, file: context.fields, time, index };
        Some((id, context.plan.layout.encode(&item, document, buffers, &mut source.shapes, out)))
    }
}
