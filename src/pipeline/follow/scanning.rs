//! A scan: what the globs of all sources list now, which is the truth that hints only hasten; and polling where there are none.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FREED, Follower};
use crate::checkpoint;
use crate::discover::scan::Listing;
use crate::filesystem::Stat;
use crate::telemetry::FaultCause;

/// Listing may take no more than this part of the time, however many hints ask for a scan. What a scan finds is work that
/// is to be done.
const SCAN_SHARE: u32 = 20;

/// The same of scans that nothing asked for: of very many files they are rarer than `scan_interval`.
pub(super) const SAFETY_SHARE: u32 = 1000;

/// What is kept while a scan goes on.
#[derive(Debug, Default)]
pub(super) struct Scanning {
    /// Sources whose unread files were looked at, before new ones are taken in.
    pub(super) looked_at: BTreeSet<usize>,
    /// The files that were known when it began; made when first one is asked for.
    pub(super) known: Option<Known>,
}

/// Inodes and births of files, sorted, because of very many each is asked for.
#[derive(Debug)]
pub(super) struct Known(Vec<(u64, i64)>);

impl Known {
    fn new(files: impl Iterator<Item = (u64, i64)>) -> Self {
        let mut files: Vec<_> = files.collect();
        files.sort_unstable();
        Self(files)
    }

    fn has(&self, stat: &Stat) -> bool {
        self.0.binary_search(&(stat.inode, stat.birth_ns)).is_ok()
    }

    /// Whether a file of any birth has this inode.
    pub(super) fn has_inode(&self, inode: u64) -> bool {
        let first = self.0.partition_point(|(known, _)| *known < inode);
        self.0.get(first).is_some_and(|(known, _)| *known == inode)
    }
}

/// Where a name was listed last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Listed {
    /// In which scan; 0: in none.
    pub(super) scan: u64,
    /// By which source.
    pub(super) source: usize,
}

/// A file that two sources claim.
#[derive(Debug, thiserror::Error)]
#[error("two sources claim {path}: {first} and {second}; exclude it from one of them, or narrow its paths")]
pub struct Claimed {
    pub(super) path: PathBuf,
    first: String,
    second: String,
}

impl Follower {
    /// Lists all globs: the truth.
    pub(super) fn scan(&mut self) -> Result<(), Claimed> {
        let began = Instant::now();
        let scan = self.scans + 1;
        // Second names of files: the names that files are known by note it themselves.
        let mut second_names: HashMap<PathBuf, usize> = HashMap::new();
        let mut directories = BTreeSet::new();
        let mut claimed_twice = None;
        let mut newest_ns = 0;
        let mut listed = Duration::ZERO;
        self.scanning = Some(Scanning::default());
        for source in 0..self.shared.plans.len() {
            let lists = Instant::now();
            let listing = self.list(Listed { scan, source }, &mut newest_ns);
            listed += lists.elapsed();
            for (path, stat) in self.in_order(listing.files) {
                let by_its_name = self.paths.get(&*path).and_then(|key| self.physical.get(key));
                let first = by_its_name
                    .filter(|physical| physical.listed.scan == scan)
                    .map(|physical| physical.listed.source)
                    .or_else(|| second_names.get(&path).copied());
                // Two globs of one source may list it twice, with what changed in between.
                if let Some(first) = first.filter(|first| *first != source) {
                    let name = |index: usize| self.shared.plans[index].source.name.clone();
                    claimed_twice = Some(Claimed { path, first: name(first), second: name(source) });
                    continue;
                }
                self.observe(&path, stat, source, false);
                match self.physical.get_mut(&stat.key()) {
                    Some(physical) if *physical.path == *path => physical.listed = Listed { scan, source },
                    _ => {
                        second_names.insert(path, source);
                    }
                }
            }
            for (path, error) in listing.faults {
                self.shared.io_fault(FaultCause::Scan, "list", &path, &error);
            }
            directories.extend(listing.directories);
        }
        self.scanning = None;
        self.look_for_missing(scan, &directories);
        let any_new = self.watch(&directories);
        self.freed.retain(|_, at| at.elapsed() < FREED);
        self.expire();
        if self.scans == 0 {
            self.shared.checkpoints.bound_origin(newest_ns, self.shared.wall_clock_ns());
        }
        let now = Instant::now();
        self.scans = scan;
        self.shared.metrics.scanned(now - began);
        self.rested = now + listed * SCAN_SHARE;
        let share = if self.unwatched.is_empty() && self.watcher.is_some() { SAFETY_SHARE } else { SCAN_SHARE };
        let interval = self.shared.config.read.scan_interval.0.max(listed * share);
        // What changed between listing and watching was not heard of: looked for soon.
        self.next_scan = if any_new { self.rested } else { now + interval };
        claimed_twice.map_or(Ok(()), Err)
    }

    /// Lists the globs of one source. Files that stand still note that they were listed; only of the others, more is to be
    /// looked at. `newest_ns` becomes the age of the youngest of all.
    fn list(&mut self, listed: Listed, newest_ns: &mut i64) -> Listing {
        let shared = Arc::clone(&self.shared);
        let (paths, all) = (&self.paths, &mut self.physical);
        shared.plans[listed.source].globs.list_but(&*shared.files, &mut |path, stat| {
            *newest_ns = (*newest_ns).max(checkpoint::age(stat.birth_ns, stat.mtime_ns));
            let Some(physical) = paths.get(path).and_then(|key| all.get_mut(key)) else { return false };
            let is_first = physical.listed.scan != listed.scan || physical.listed.source == listed.source;
            let stands_still = physical.stat == *stat && physical.stands_still();
            if is_first && stands_still {
                physical.listed = listed;
            }
            is_first && stands_still
        })
    }

    /// Oldest first, so that a backlog is met in the order it was written; but before all, physical files that are known: of
    /// twins that were equal so far, the one that was read goes on, and the other is compared with it.
    fn in_order(&mut self, mut files: Vec<(PathBuf, Stat)>) -> Vec<(PathBuf, Stat)> {
        if let Some(scanning) = self.scanning.as_mut().filter(|_| !files.is_empty()) {
            let all = self.identities.values().map(|identity| (identity.inode, identity.birth_ns));
            let known = scanning.known.get_or_insert_with(|| Known::new(all));
            files.sort_by_key(|(_, stat)| (!known.has(stat), checkpoint::age(stat.birth_ns, stat.mtime_ns)));
        }
        files
    }

    /// Returns whether a directory was not watched before.
    fn watch(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else {
            self.unwatched.clone_from(directories);
            return false;
        };
        let (any_new, errors) = watcher.watch(directories);
        for error in errors {
            self.shared.fault(FaultCause::Watches, "watch", &error.directory, &error.reason);
        }
        self.unwatched = directories.iter().filter(|directory| !watcher.covers(directory)).cloned().collect();
        any_new
    }

    /// Looks at known files of directories that cannot be watched.
    pub(super) fn poll(&mut self) {
        self.next_poll = Instant::now() + self.shared.config.read.poll_interval.0;
        if self.unwatched.is_empty() {
            return;
        }
        let known: Vec<(Arc<Path>, usize)> = self
            .physical
            .values()
            .filter(|physical| physical.path.parent().is_some_and(|parent| self.unwatched.contains(parent)))
            .map(|physical| (physical.path.clone(), physical.source))
            .collect();
        for (path, source) in known {
            if let Ok(stat) = self.shared.files.stat(&path) {
                self.observe(&path, stat, source, false);
            }
        }
    }
}
