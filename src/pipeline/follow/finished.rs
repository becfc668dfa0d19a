//! The fate of complete files once all their lines are settled, and that on disk: kept, deleted or archived (invariant 8).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::super::archive::archive;
use super::Follower;
use crate::config::{Mode, OnDone};
use crate::simulated::{Bug, put_back};
use crate::telemetry::FaultCause;
use crate::telemetry::events::FileDone;

/// After a file could not be deleted or archived.
const DONE_RETRY: Duration = Duration::from_secs(1);

impl Follower {
    /// Files that were read to their end get their fate once all their lines are settled.
    pub(super) fn settle_finished(&mut self) {
        let may_try = Instant::now() >= self.next_done;
        let mut uncommitted = false;
        for id in self.finished.clone() {
            let Some(file) = self.identities.get(&id).and_then(|identity| identity.file.clone()) else {
                self.finished.remove(&id);
                continue;
            };
            let (path, key, end) = {
                let state = file.lock();
                (Arc::clone(&state.path), state.key, state.end)
            };
            let settled = self.shared.checkpoints.position(id).map(|position| position.offset);
            let Some(end) = end else {
                self.finished.remove(&id);
                continue;
            };
            if settled != Some(file.read_to.load(Ordering::Relaxed)) || !may_try {
                continue;
            }
            let plan = &self.shared.plans[file.source];
            if plan.source.mode != Mode::Chunks || plan.source.on_done == OnDone::Keep {
                self.finished.remove(&id);
                self.shared.checkpoints.mark_done(id);
                continue;
            }
            // A chunk that is out of the way is not read again, so what became of its lines must be known from the disk.
            if !self.shared.checkpoints.is_committed(id) && !put_back(Bug::DoneBeforeCommit) {
                uncommitted = true;
                continue;
            }
            self.finished.remove(&id);
            // The file must be what was read, to the byte: a writer that came back keeps it alive.
            let unchanged = self.shared.files.stat(&path).is_ok_and(|stat| stat == end);
            if !unchanged {
                self.next_scan = Instant::now();
                continue;
            }
            let result = match (&plan.source.on_done, &plan.source.archive_dir) {
                (OnDone::Archive, Some(directory)) => archive(&*self.shared.files, &path, directory, id).map(Some),
                _ => self.shared.files.remove(&path).map(|()| None),
            };
            match result {
                Ok(to) => {
                    FileDone { path: &path, file: id, to: to.as_deref() }.emit(&self.shared.metrics);
                    self.shared.checkpoints.mark_done(id);
                    self.detach(&file);
                    self.drop_physical(key);
                }
                Err(error) => {
                    self.shared.io_fault(FaultCause::Done, "delete or archive", &path, &error);
                    self.finished.insert(id);
                    // An archive that is full is not copied to ten times a second.
                    self.next_done = Instant::now() + DONE_RETRY;
                }
            }
        }
        // Nobody waits for a daemon's files to be out of the way, but for `--once` to end.
        if uncommitted && self.shared.once && self.shared.is_drained() {
            self.shared.checkpoints.hurry();
        }
    }
}
