//! The proof: each line of the files is in Elasticsearch exactly once, and nothing else is under their ids.
//!
//! Reads the files again, computes the id that each line must have, and asks Elasticsearch for these ids, ten thousand a
//! request. Which file is which comes from the checkpoint store, read without disturbing a running daemon; a file is
//! compared as far as its checkpoint says, so the daemon may go on meanwhile. A file that moves, vanishes or is truncated
//! under the comparison is looked for again by what it is; what is nowhere any more is told as gone, and its documents are
//! counted. Memory does not grow with lines.
//! Beside [`crate::pipeline`] and [`crate::cli`] the only module that knows several stages.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::checkpoint::{self, FileRow, StoreError};
use crate::client::{Client, SendError};
use crate::config::Config;
use crate::index::dead_letter;
use crate::pipeline::plan::Plan;
use crate::record::{FileId, ID_LEN, LineId};

mod ask;
mod compare;
mod find;
mod gone;
mod report;

pub use report::{Cluster, Counts, FileReport, GoneCounts, GoneFile, Report};

use ask::Asker;
use compare::Comparison;
use find::{Finder, Identity, Subject};

/// So often are files looked for that moved, or that were found wanting while the daemon ran.
const PASSES: usize = 3;

/// Before they are looked for again.
const PAUSE: Duration = Duration::from_millis(300);

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint store is damaged.
    #[error(
        "the checkpoint store {} cannot be relied on: {problem}; `logweir checkpoints check` says more", path.display()
    )]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong first.
        problem: String,
    },
    /// Elasticsearch cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] SendError),
    /// Elasticsearch refused to be searched.
    #[error("elasticsearch refused to search {target} with status {status}: {reason}")]
    Refused {
        /// Where.
        target: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// What was compared so far.
    pub counts: Counts,
    /// Bytes to compare, those compared included; grows if files are looked for again.
    pub bytes: u64,
}

/// What verification needs.
pub struct Verification<'a> {
    /// The cluster.
    pub client: &'a Client,
    /// The configuration.
    pub config: &'a Config,
    /// The sources, compiled.
    pub plans: &'a [Plan],
    /// Name of this host.
    pub host: &'a str,
    /// Called after each request.
    pub progress: &'a mut (dyn FnMut(&Progress) + Send),
}

/// What the store and the dead letters say at one time.
struct Known {
    rows: Vec<FileRow>,
    store_id: Option<String>,
    /// Whether a daemon may be changing all this.
    in_use: bool,
    /// Ids, in order: 24 bytes a letter, and letters are bounded by `dead_letters.max_bytes`.
    letters: Vec<LineId>,
}

/// What was found by all passes so far.
#[derive(Default)]
struct Findings {
    rows: BTreeMap<FileId, FileRow>,
    compared: BTreeMap<FileId, (Subject, FileReport)>,
}

impl Findings {
    /// Takes what one pass found of the files `wanted`; returns which files are to be looked for again.
    fn take(
        &mut self,
        plans: &[Plan],
        known: Known,
        wanted: impl Fn(&FileId) -> bool,
        found: Vec<(Subject, Option<FileReport>)>,
    ) -> HashSet<FileId> {
        // A file that was found moves its other names out of the way.
        let keys: HashSet<(u64, u64)> = found.iter().map(|(subject, _)| subject.key).collect();
        self.compared.retain(|_, (subject, _)| subject.identity != Identity::Unknown || !keys.contains(&subject.key));
        let (mut again, mut moved) = (HashSet::new(), false);
        for (subject, report) in found {
            if let Some(report) = report {
                // What a running daemon is changing may look wrong for a moment: it counts when seen twice.
                if known.in_use && !report.counts.is_proven() {
                    again.insert(subject.id);
                }
                self.compared.insert(subject.id, (subject, report));
                continue;
            }
            moved = true;
            again.insert(subject.id);
            if subject.identity == Identity::SameInode {
                // All of what took its place is to come.
                let behind = subject.behind + subject.to.offset;
                let other = Subject { id: subject.minted, identity: Identity::Unknown, behind, ..subject };
                let report = compare::blank(plans, &other);
                self.compared.insert(other.id, (other, report));
            }
        }
        self.rows.extend(known.rows.into_iter().filter(|row| wanted(&row.id)).map(|row| (row.id, row)));
        // What is nowhere may have been on its way from one name to another.
        if known.in_use || moved {
            again.extend(self.rows.keys().filter(|id| !self.compared.contains_key(id)));
        }
        again
    }

    /// Known files of which something was settled, and that were nowhere.
    fn gone(&self) -> impl Iterator<Item = &FileRow> {
        self.rows.values().filter(|row| !self.compared.contains_key(&row.id) && row.outcomes.total() > 0)
    }
}

impl Verification<'_> {
    /// Compares all files of all sources (or of the one named `only`).
    ///
    /// # Errors
    /// Where Elasticsearch cannot be asked, or store or files not be read: half a proof is none.
    pub async fn run(mut self, only: Option<&str>) -> Result<Report, VerifyError> {
        let started_at = now();
        let asker = Asker::new(self.client, &self.config.elasticsearch);
        let targets: BTreeSet<&str> = self.plans.iter().map(|plan| &*plan.destination.target).collect();
        let mut store_id = None;
        let mut findings = Findings::default();
        let mut again: Option<HashSet<FileId>> = None;
        let mut progress = Progress::default();
        for pass in 0..PASSES {
            let known = self.known()?;
            store_id = store_id.or_else(|| known.store_id.clone());
            for target in &targets {
                // What was acknowledged before the store was read is searchable from here on.
                asker.refresh(target).await?;
            }
            let wanted = |id: &FileId| again.as_ref().is_none_or(|again| again.contains(id));
            let mut subjects = Finder::new(self.plans, &known.rows, self.host, known.in_use).find(only)?;
            subjects.retain(|subject| wanted(&subject.id));
            progress.bytes += subjects.iter().map(|subject| subject.to.offset - subject.from.offset).sum::<u64>();
            let comparison = Comparison::new(&mut self, &asker, &known.letters, &mut progress);
            let reports = comparison.run(&subjects).await?;
            let found_some = !subjects.is_empty();
            let next = findings.take(self.plans, known, wanted, subjects.into_iter().zip(reports).collect());
            // Once it was looked for again in vain, it is gone.
            if next.is_empty() || (pass > 0 && !found_some) || pass + 1 == PASSES {
                break;
            }
            again = Some(next);
            tokio::time::sleep(PAUSE).await;
        }
        let gone: Vec<&FileRow> = findings.gone().filter(|row| only.is_none_or(|name| name == &*row.source)).collect();
        let gone = gone::count(&asker, self.plans, &gone).await?;
        let mut report = Report {
            logweir: env!("CARGO_PKG_VERSION"),
            host: self.host.to_owned(),
            store_id,
            cluster: asker.cluster().await,
            started_at,
            ended_at: now(),
            proven: false,
            conclusion: String::new(),
            total: Counts::default(),
            files: findings.compared.into_values().map(|(_, report)| report).collect(),
            gone,
        };
        report.files.sort_by(|a, b| a.path.cmp(&b.path));
        report.conclude();
        Ok(report)
    }

    /// Store first, dead letters next, then Elasticsearch is refreshed: what the store calls settled is in one of them.
    fn known(&self) -> Result<Known, VerifyError> {
        let inspection = checkpoint::inspect(&self.config.checkpoint.path)?;
        if let Some(problem) = inspection.problems.into_iter().next() {
            return Err(VerifyError::Damaged { path: inspection.path, problem });
        }
        let directory = &self.config.dead_letters.path;
        let mut letters = Vec::new();
        dead_letter::list(directory, |letter| {
            letters.extend(<[u8; ID_LEN]>::try_from(letter.id.as_bytes()).ok().map(LineId));
        })
        .map_err(|source| VerifyError::Read { path: directory.clone(), source })?;
        letters.sort_unstable();
        let store_id = inspection.store.map(|store| store.id);
        Ok(Known { rows: inspection.rows, store_id, in_use: inspection.in_use, letters })
    }
}

/// Whether documents of a source say which file and place they come from.
fn can_count(plan: &Plan) -> bool {
    ["log.file.id", "log.offset"].iter().all(|field| plan.layout.keep().keeps(field))
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string()
}
