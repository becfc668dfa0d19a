//! Files that are known but nowhere any more: their documents are counted, and held against how their lines were settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ask::{Asker, COUNT_OFFSETS, Counted, Stretch};
use super::report::GoneFile;
use super::{VerifyError, can_count};
use crate::checkpoint::FileRow;
use crate::pipeline::plan::Plan;
use crate::read::Compression;

/// The reports of the files of `rows`.
pub async fn count(asker: &Asker<'_>, plans: &[Plan], rows: &[&FileRow]) -> Result<Vec<GoneFile>, VerifyError> {
    let mut files = Vec::with_capacity(rows.len());
    let mut by_target: BTreeMap<Arc<str>, (Vec<usize>, Vec<Stretch>)> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let plan = plans.iter().find(|plan| plan.source.name == *row.source);
        files.push(report(row, plan));
        if let Some(plan) = plan.filter(|plan| can_count(plan)) {
            let (of, stretches) = by_target.entry(Arc::clone(&plan.destination.target)).or_default();
            let pieces = pieces(row);
            of.extend(pieces.iter().map(|_| index));
            stretches.extend(pieces);
        }
    }
    for (target, (of, stretches)) in by_target {
        let mut sums: BTreeMap<usize, Option<Counted>> = BTreeMap::new();
        for (index, counted) in of.into_iter().zip(asker.count(&target, &stretches, true).await?) {
            let sum = sums.entry(index).or_insert(Some(Counted::default()));
            *sum = sum.zip(counted).map(|(sum, piece)| sum + piece);
        }
        for (index, sum) in sums {
            if let Some(sum) = sum {
                files[index].compare(sum.documents, sum.offsets, sum.once);
            }
        }
    }
    Ok(files)
}

/// What was read of a file, in pieces whose offsets one answer can hold if its lines are about as long as one another.
fn pieces(row: &FileRow) -> Vec<Stretch> {
    let lines = row.outcomes.total();
    let pieces = (lines / COUNT_OFFSETS).max(1);
    let length = row.position.offset.saturating_sub(row.start);
    let cut = |piece: u64| {
        row.start + u64::try_from(u128::from(length) * u128::from(piece) / u128::from(pieces)).unwrap_or(length)
    };
    let stretch = |piece| Stretch { file: row.id, start: cut(piece), end: cut(piece + 1), lines: lines / pieces };
    (0..pieces).map(stretch).collect()
}

fn report(row: &FileRow, plan: Option<&Plan>) -> GoneFile {
    let packed = Compression::of(&row.path) != Compression::None;
    GoneFile {
        path: row.path.to_path_buf(),
        file_id: row.id.to_string(),
        source: row.source.to_string(),
        target: plan.map(|plan| plan.destination.target.to_string()),
        lines: row.outcomes.total(),
        created: row.outcomes.created,
        duplicate: row.outcomes.duplicate,
        dead_lettered: row.outcomes.dead_lettered,
        skipped: row.outcomes.skipped,
        unread: if packed { 0 } else { row.size.saturating_sub(row.position.offset) },
        counted: None,
    }
}
