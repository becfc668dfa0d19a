//! Files that are no longer where they were: renamed beyond the globs, deleted while still unread, gone for good.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::files::File;
use super::{Follower, What};
use crate::filesystem::FileSystem;
use crate::telemetry::events::FileGone;

impl Follower {
    /// Files that were there and are not in a listing of their directory any more.
    pub(super) fn look_for_missing(&mut self, scan: u64, directories: &BTreeSet<PathBuf>) {
        let missing: Vec<(u64, u64)> = self
            .physical
            .iter()
            .filter(|(_, physical)| physical.listed.scan != scan)
            .filter(|(_, physical)| {
                physical
                    .path
                    .parent()
                    .is_some_and(|parent| directories.contains(parent) || !self.shared.files.is_dir(parent))
            })
            .map(|(key, _)| *key)
            .collect();
        let mut listed: HashMap<PathBuf, HashMap<u64, PathBuf>> = HashMap::new();
        for key in missing {
            let Some(physical) = self.physical.get(&key) else { continue };
            // Outside the globs but followed: it was found here by its inode earlier, and may still be here.
            if let Ok(stat) = self.shared.files.stat(&physical.path)
                && stat.key() == key
            {
                let (path, source) = (physical.path.clone(), physical.source);
                self.observe(&path, stat, source, false);
                continue;
            }
            let What::File(file) = &physical.what else {
                self.drop_physical(key);
                continue;
            };
            let file = Arc::clone(file);
            let parent = physical.path.parent().map(Path::to_owned).unwrap_or_default();
            let inodes = listed.entry(parent).or_insert_with_key(|parent| inodes_of(&*self.shared.files, parent));
            if let Some(path) = inodes.get(&key.1).cloned()
                && self.shared.files.stat(&path).is_ok_and(|stat| stat.key() == key)
            {
                self.strayed(key, &file, &path);
                continue;
            }
            self.deleted(key, &file);
        }
    }

    /// A file left the globs by a rename within its directory: it is followed under its new name until it is read.
    pub(super) fn strayed(&mut self, key: (u64, u64), file: &Arc<File>, path: &Path) {
        self.renamed(key, path);
        self.shared.enqueue(file);
    }

    /// A file has no name any more. What is not read of it can be read as long as it is held open.
    pub(super) fn deleted(&mut self, key: (u64, u64), file: &Arc<File>) {
        let read = &self.shared.config.read;
        let Some(physical) = self.physical.get_mut(&key) else { return };
        let gone_for = physical.gone_since.get_or_insert_with(Instant::now).elapsed();
        let (held, unread) = {
            let mut state = file.lock();
            let end = state
                .open
                .as_ref()
                .and_then(|open| open.content.stat().ok())
                .map_or(physical.stat.size, |stat| stat.size);
            let read_all = state.end.is_some_and(|at| at.size == end) && (state.rest == 0 || state.complete);
            // Nobody can append to what nobody can name, but a writer may still hold it open: its last line counts as
            // complete once it stood still.
            if gone_for >= read.settle_time.0 {
                state.complete = true;
            }
            let unread = if read_all { 0 } else { end.saturating_sub(state.cursor.position.offset) };
            (state.open.is_some() || file.queued.load(Ordering::Acquire), unread)
        };
        let others: u64 = self.held.iter().filter(|(id, _)| **id != file.id).map(|(_, bytes)| bytes).sum();
        let too_much = others + unread > read.max_deleted_bytes.0 || gone_for > read.max_deleted_age.0;
        if unread > 0 && held && !too_much {
            self.held.insert(file.id, unread);
            self.shared.enqueue(file);
            return;
        }
        let path = physical.path.clone();
        FileGone { path: &path, file: file.id, unread_bytes: unread }.emit(&self.shared.metrics);
        self.detach(file);
        self.drop_physical(key);
    }

    pub(super) fn drop_physical(&mut self, key: (u64, u64)) {
        if let Some(physical) = self.physical.remove(&key)
            && self.paths.get(&physical.path) == Some(&key)
        {
            self.paths.remove(&physical.path);
            self.freed.insert(physical.path, Instant::now());
        }
    }

    /// Forgets files that have been gone for long.
    pub(super) fn expire(&mut self) {
        let read = &self.shared.config.read;
        let now_s = self.shared.wall_clock_s();
        let limit_s = i64::try_from(read.forget_after.0.as_secs()).unwrap_or(i64::MAX);
        let mut gone = Vec::new();
        for (id, identity) in &mut self.identities {
            if identity.file.is_some() {
                identity.missing_scans = 0;
                identity.last_seen_s = now_s;
                continue;
            }
            identity.missing_scans = identity.missing_scans.saturating_add(1);
            if identity.missing_scans >= read.forget_after_scans
                && now_s.saturating_sub(identity.last_seen_s) >= limit_s
            {
                gone.push(*id);
            }
        }
        for id in &gone {
            if let Some(identity) = self.identities.remove(id) {
                self.by_head.remove(&(identity.head, *id));
            }
        }
        if !gone.is_empty() {
            self.shared.checkpoints.forget(&gone);
        }
    }
}

fn inodes_of(files: &dyn FileSystem, directory: &Path) -> HashMap<u64, PathBuf> {
    let entries = files.list(directory).unwrap_or_default();
    entries.into_iter().map(|entry| (entry.inode, directory.join(entry.name))).collect()
}
