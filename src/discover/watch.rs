//! Hearing of changes: `notify`, reduced to hints. What is lost here is found by the next scan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher as _};

/// How many hints may wait; more are dropped, and a whole scan asked for instead.
const QUEUE: usize = 8192;

/// Something seems to have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// This file has new content, or is new.
    Changed(PathBuf),
    /// A writer closed this file, or it was moved in: what is there is complete.
    Completed(PathBuf),
    /// Names changed in a directory.
    Names,
    /// This name is gone, or leads elsewhere now: if it is a directory's, so is its watch.
    Gone(PathBuf),
}

/// Watches directories (not their subdirectories) with the system's notifications.
pub struct Watcher {
    inner: notify::RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    /// Set when hints were lost: scan everything.
    lost: Arc<AtomicBool>,
}

/// Why a directory is not watched: scanning and polling cover it.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {directory}: {reason}")]
pub struct WatchError {
    /// The directory.
    pub directory: PathBuf,
    /// What the system says, and which limit to raise where it is one.
    pub reason: String,
}

impl Watcher {
    /// A watcher and the receiving end of its hints.
    ///
    /// # Errors
    /// Where the system has no notifications, or no more of them (`fs.inotify.max_user_instances`).
    pub fn new() -> Result<(Self, Receiver<Hint>), WatchError> {
        let (sender, receiver) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) => forward(&event, &sender, &flag),
            Err(_) => flag.store(true, Ordering::Relaxed),
        })
        .map_err(|error| explain(Path::new("/"), &error))?;
        Ok((Self { inner, watched: BTreeSet::new(), lost }, receiver))
    }

    /// Watches exactly `directories` from now on. Returns whether any of them was not watched before: what happened in it
    /// until now was not heard of.
    pub fn watch(&mut self, directories: &BTreeSet<PathBuf>) -> (bool, Vec<WatchError>) {
        let (mut any_new, mut errors) = (false, Vec::new());
        let gone: Vec<PathBuf> = self.watched.difference(directories).cloned().collect();
        for directory in gone {
            // It may have vanished, and its watch with it.
            let _ = self.inner.unwatch(&directory);
            self.watched.remove(&directory);
        }
        for directory in directories {
            if self.watched.contains(directory) {
                continue;
            }
            match self.inner.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => any_new |= self.watched.insert(directory.clone()),
                Err(error) => errors.push(explain(directory, &error)),
            }
        }
        (any_new, errors)
    }

    /// Whether `directory` is watched.
    #[must_use]
    pub fn covers(&self, directory: &Path) -> bool {
        self.watched.contains(directory)
    }

    /// If this was a watched directory, it was removed or moved away: its watch is set anew by the next call of
    /// [`Watcher::watch`], if there is one of that name then. Returns whether it was one.
    pub fn forget(&mut self, directory: &Path) -> bool {
        let known = self.watched.remove(directory);
        if known {
            let _ = self.inner.unwatch(directory);
        }
        known
    }

    /// All watches are set anew by the next call of [`Watcher::watch`].
    pub fn forget_all(&mut self) {
        for directory in std::mem::take(&mut self.watched) {
            let _ = self.inner.unwatch(&directory);
        }
    }

    /// Whether hints were lost since the last call.
    pub fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }
}

fn explain(directory: &Path, error: &notify::Error) -> WatchError {
    let reason = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the limit of watches is reached: raise fs.inotify.max_user_watches".to_owned()
        }
        notify::ErrorKind::Io(io) if io.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "the limit of watchers is reached: raise fs.inotify.max_user_instances, or the descriptor limit".to_owned()
        }
        _ => error.to_string(),
    };
    WatchError { directory: directory.to_owned(), reason }
}

fn forward(event: &notify::Event, sender: &SyncSender<Hint>, lost: &AtomicBool) {
    if event.need_rescan() {
        lost.store(true, Ordering::Relaxed);
    }
    for hint in hints(event) {
        if sender.try_send(hint).is_err() {
            lost.store(true, Ordering::Relaxed);
        }
    }
}

/// What an event may mean.
fn hints(event: &notify::Event) -> Vec<Hint> {
    let mut hints = Vec::new();
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            hints.extend(event.paths.iter().cloned().map(Hint::Completed));
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            hints.extend(event.paths.iter().cloned().map(Hint::Completed));
            hints.push(Hint::Names);
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
            hints.push(Hint::Names);
            hints.extend(event.paths.iter().cloned().map(Hint::Gone));
        }
        EventKind::Create(_) => hints.extend(event.paths.iter().cloned().map(Hint::Changed)),
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
            hints.extend(event.paths.iter().cloned().map(Hint::Changed));
        }
        _ => {}
    }
    hints
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_written_and_a_file_moved_in_are_heard_of_as_complete() {
        let dir = tempfile::tempdir().unwrap();
        let (mut watcher, hints) = Watcher::new().unwrap();
        let directories = BTreeSet::from([dir.path().to_owned()]);
        assert!(matches!(watcher.watch(&directories), (true, errors) if errors.is_empty()));
        assert!(matches!(watcher.watch(&directories), (false, errors) if errors.is_empty()));
        let (written, moved) = (dir.path().join("written.log"), dir.path().join("moved.log"));
        std::fs::write(&written, "x\n").unwrap();
        std::fs::rename(&written, &moved).unwrap();
        let mut seen = Vec::new();
        while !(seen.contains(&Hint::Completed(written.clone())) && seen.contains(&Hint::Completed(moved.clone()))) {
            seen.push(hints.recv_timeout(Duration::from_secs(10)).expect("a hint"));
        }
        assert!(seen.contains(&Hint::Changed(written)));
    }

    #[test]
    fn an_overflow_asks_for_a_scan() {
        let (sender, _receiver) = sync_channel(1);
        let lost = AtomicBool::new(false);
        let event = notify::Event::new(EventKind::Create(notify::event::CreateKind::File)).add_path("/a/b".into());
        forward(&event, &sender, &lost);
        assert!(!lost.load(Ordering::Relaxed));
        forward(&event, &sender, &lost);
        assert!(lost.load(Ordering::Relaxed));
    }
}
