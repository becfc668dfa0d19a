//! Telling which file a physical file is: comparing it with what is known, minting ids, and taking identities from one
//! physical file to another.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::files::{File, State};
use super::{BACKLOG_AGE_NS, Copy, Follower, REWRITTEN, Report, What};
use crate::checkpoint::FileRow;
use crate::config::{Mode, StartAt};
use crate::discover::identity::{self, Answer, Evidence, Found, Known};
use crate::filesystem::{FileSystem, Stat};
use crate::read::{Compression, Content, Cursor, Head};
use crate::record::{FileId, Outcomes, Position, tail_hash};
use crate::telemetry::FaultCause;
use crate::telemetry::events::{FileDiscovered, FileReplaced};

impl Follower {
    /// Finds out what a physical file is, if that can be told now.
    pub(super) fn look_at(&mut self, key: (u64, u64)) {
        let Some(physical) = self.physical.get(&key) else { return };
        let plan = &self.shared.plans[physical.source];
        if physical.stat.size == 0 {
            return;
        }
        let complete = self.waits_for_completion(physical);
        if complete && !self.is_complete(physical) {
            self.waiting.insert(key);
            return;
        }
        if let Some(limit) = plan.source.ignore_older
            && self.age_ns(physical.stat.mtime_ns) > i128::try_from(limit.0.as_nanos()).unwrap_or(i128::MAX)
            && !self.is_known_inode(physical.stat.inode)
        {
            self.set(key, What::Ignored);
            return;
        }
        let path = physical.path.clone();
        match self.tell(key, complete) {
            Ok(()) => {}
            // It vanished or was replaced between listing and opening: the next scan sees what is there now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.waiting.insert(key);
            }
            Err(error) => {
                self.shared.io_fault(FaultCause::Read, "read", &path, &error);
                if super::super::is_scarcity(&error) {
                    // Descriptors come back as other files reach their end.
                    self.waiting.insert(key);
                } else {
                    self.set(key, What::Unreadable);
                }
            }
        }
    }

    pub(super) fn is_known_inode(&self, inode: u64) -> bool {
        match self.scanning.as_ref().and_then(|scanning| scanning.known.as_ref()) {
            Some(known) => known.has_inode(inode),
            None => self.identities.values().any(|identity| identity.inode == inode),
        }
    }

    pub(super) fn set(&mut self, key: (u64, u64), what: What) {
        if let Some(physical) = self.physical.get_mut(&key) {
            physical.what = what;
        }
    }

    /// Opens a physical file and compares it with what is known.
    pub(super) fn tell(&mut self, key: (u64, u64), complete: bool) -> io::Result<()> {
        let Some(physical) = self.physical.get(&key) else { return Ok(()) };
        let (path, source, first_seen) = (physical.path.clone(), physical.source, physical.first_seen);
        let (mut content, stat) = Content::open_in(&*self.shared.files, &path)?;
        if stat.key() != key {
            // It was renamed, and its name given away: told once a scan has found where it is.
            self.next_scan = Instant::now();
            self.waiting.insert(key);
            return Ok(());
        }
        let Some(head) = content.head(complete)? else { return Ok(()) };
        let is_tail = self.shared.plans[source].source.mode == Mode::Tail;
        let head_key = head.key();
        let waited = first_seen.elapsed() >= self.shared.config.read.settle_time.0;
        let found = Found { inode: stat.inode, birth_ns: stat.birth_ns, waited };
        let mut answers = Vec::new();
        let mut compared = (0, 0);
        // Of what was read before, where it is shorter than that.
        let mut copied: Option<Position> = None;
        for id in self.ids_of_head(head_key) {
            let Some(identity) = self.identities.get(&id) else { continue };
            let other = identity.file.as_ref().filter(|file| file.lock().key != key);
            let known = Known {
                id,
                inode: identity.inode,
                birth_ns: identity.birth_ns,
                offset: identity.position.offset,
                attached_elsewhere: other.is_some(),
            };
            let evidence = match other {
                Some(file) => match compare_with_attached(&*self.shared.files, file, &mut content)? {
                    Compared::As(evidence, sizes) => {
                        compared = sizes;
                        evidence
                    }
                    // Compared once it is known what became of the carrier: its name was given away or removed just now,
                    // or it was cut and filled again, and this may be the copy that was made before.
                    unclear => {
                        if matches!(unclear, Compared::Replaced) {
                            self.shared.report(Report::Replaced(id));
                        }
                        answers.push((id, Answer::Wait));
                        continue;
                    }
                },
                None => match content.hash_at(identity.position.offset)? {
                    None => {
                        if identity.inode != stat.inode {
                            let length = content.length()?;
                            let mark = identity.marks.last_within(length, &mut content)?;
                            copied = [copied, mark].into_iter().flatten().max_by_key(|mark| mark.offset);
                        }
                        Evidence::Shorter
                    }
                    Some(hash) if hash == identity.position.tail_hash => Evidence::Equal,
                    Some(_) => Evidence::Different,
                },
            };
            answers.push((id, identity::compare(&known, &found, evidence)));
        }
        match identity::best(&answers) {
            Some((id, Answer::Itself | Answer::Same)) => self.attach(key, id, &path, source, stat, content, complete),
            Some((id, Answer::Copy)) => {
                self.set(key, What::Copy(Box::new(Copy { of: id, compared })));
                self.waiting.insert(key);
            }
            Some((_, Answer::Wait | Answer::Other)) => {
                self.set(key, What::Nameless);
                self.waiting.insert(key);
            }
            // It may be a copy in the making: of a file that nothing told of yet, or of what one was cut and filled with
            // since it was read. Both are met first by a scan, which looks at this one again.
            None if is_tail && self.scanning.is_none() => {
                self.set(key, What::Nameless);
                self.next_scan = Instant::now();
            }
            None if is_tail && self.finds_replaced(source) => return self.tell(key, complete),
            None => {
                let id = self.admit(&head, head_key, &path, source, &stat, &mut content, copied)?;
                self.attach(key, id, &path, source, stat, content, complete);
            }
        }
        Ok(())
    }

    /// A file never seen before gets its id and its row. `copied`: up to there it is a copy of what was read.
    #[expect(clippy::too_many_arguments, reason = "the facts of one file, all known at the only call")]
    pub(super) fn admit(
        &mut self,
        head: &Head,
        head_key: (u32, u64),
        path: &Arc<Path>,
        source: usize,
        stat: &Stat,
        content: &mut Content,
        copied: Option<Position>,
    ) -> io::Result<FileId> {
        let plan = &self.shared.plans[source];
        let taken = |id: FileId| self.identities.contains_key(&id);
        let (id, ordinal) = identity::mint(&self.shared.host, stat.inode, stat.birth_ns, &head.bytes, taken);
        let at_end = plan.source.start_at == StartAt::End
            && plan.source.mode == Mode::Tail
            && self.scans == 0
            && self.shared.first_start;
        let position = match copied {
            Some(position) => position,
            None if at_end => last_line_end(content)?,
            None => Cursor::start().position,
        };
        let length = if content.is_packed() { content.length()? } else { stat.size };
        let doubt_end = if self.shared.checkpoints.is_doubtful(stat.birth_ns, stat.mtime_ns) { length } else { 0 };
        let now_s = self.shared.wall_clock_s();
        let row = FileRow {
            id,
            source: plan.source.name.as_str().into(),
            path: Arc::clone(path),
            inode: stat.inode,
            birth_ns: stat.birth_ns,
            head_len: head_key.0,
            head_hash: head_key.1,
            ordinal,
            start: position.offset,
            position,
            reserved: doubt_end.max(position.offset),
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            format: None,
            last_time_ns: None,
            done: false,
            outcomes: Outcomes::default(),
            first_seen: now_s,
            last_seen: now_s,
        };
        self.discovered += 1;
        let (source, number) = (&plan.source.name, self.discovered);
        FileDiscovered { path, file: id, source, offset: position.offset, number }.emit(&self.shared.metrics);
        self.remember(&row);
        self.shared.admit(row);
        Ok(id)
    }

    /// The physical file `key` carries the identity `id` from now on.
    #[expect(clippy::too_many_arguments, reason = "the facts of one file, all known at the only two calls")]
    pub(super) fn attach(
        &mut self,
        key: (u64, u64),
        id: FileId,
        path: &Arc<Path>,
        source: usize,
        stat: Stat,
        mut content: Content,
        complete: bool,
    ) {
        content.rest();
        let Some(identity) = self.identities.get_mut(&id) else { return };
        identity.inode = stat.inode;
        identity.birth_ns = stat.birth_ns;
        identity.missing_scans = 0;
        // Wherever it is moved, and whatever source lists it there: its documents are in one target.
        let source = identity.source.unwrap_or(source);
        if let Some(physical) = self.physical.get_mut(&key) {
            physical.source = source;
        }
        let content_is_packed = content.is_packed();
        // What is there was compared up to where reading stands, a moment ago: if that is its end, there is nothing to read.
        let unread = content_is_packed || stat.size != identity.position.offset;
        // Of a complete file no more will come.
        let doubt_end = if content.is_packed() {
            identity.doubt_end
        } else {
            self.shared.checkpoints.end_doubt_at(id, stat.size).min(identity.doubt_end)
        };
        let slots = &self.shared.slots;
        // Held open from now on: a file deleted before its turn is still read.
        let may_hold = if unread { slots.has_room() } else { slots.has_room_at_rest() };
        let open = may_hold.then(|| slots.hold(content));
        let state = State {
            path: Arc::clone(path),
            key,
            open,
            head: identity.head,
            cursor: Cursor::at(identity.position),
            marks: std::mem::take(&mut identity.marks),
            complete,
            rest: 0,
            end: (!unread).then_some(stat),
            detached: false,
            format: identity.format.as_deref().and_then(|text| self.shared.stored_format(source, text)),
            last_time: identity.last_time,
            doubt_end,
        };
        // A compressed file is read to its end before the next, so that few decoders are there at once.
        let is_old = self.shared.wall_clock_ns().saturating_sub(stat.mtime_ns) > BACKLOG_AGE_NS;
        let backlog = content_is_packed || (unread && is_old);
        let file = File::new(id, source, &stat, backlog, state);
        identity.file = Some(Arc::clone(&file));
        self.shared.see(id, path, &stat);
        self.set(key, What::File(Arc::clone(&file)));
        if unread {
            self.shared.enqueue(&file);
        } else if complete {
            self.finished.insert(id);
        }
    }

    /// The physical file of `file` is another one now, or gone: the identity stays, to be found again.
    pub(super) fn detach(&mut self, file: &Arc<File>) -> (u64, u64) {
        let (position, marks, key, last_time) = {
            let mut state = file.lock();
            state.detached = true;
            state.open = None;
            (state.cursor.position, std::mem::take(&mut state.marks), state.key, state.last_time)
        };
        if let Some(identity) = self.identities.get_mut(&file.id) {
            identity.position = position;
            identity.marks = marks;
            identity.last_time = last_time.or(identity.last_time);
            identity.file = None;
            identity.last_seen_s = self.shared.wall_clock_s();
        }
        self.finished.remove(&file.id);
        self.held.remove(&file.id);
        if let Some(physical) = self.physical.get_mut(&key)
            && matches!(&physical.what, What::File(current) if current.id == file.id)
        {
            physical.what = What::Nameless;
            physical.first_seen = Instant::now();
        }
        key
    }

    /// Once a scan: looks whether the files of `source` that are to be read on are still what was read, and tells anew those
    /// that are not. Returns whether there were any.
    fn finds_replaced(&mut self, source: usize) -> bool {
        if !self.scanning.as_mut().is_some_and(|scanning| scanning.looked_at.insert(source)) {
            return false;
        }
        let of_source = self.physical.values().filter(|physical| physical.source == source);
        let unread: Vec<Arc<File>> = of_source
            // Of what is packed, nothing is cut and filled again; and to look would be to unpack it.
            .filter(|physical| Compression::of(&physical.path) == Compression::None)
            .filter_map(|physical| match &physical.what {
                // What nobody waits to read was looked at when it was read last.
                What::File(file) if file.queued.load(Ordering::Acquire) => Some(Arc::clone(file)),
                _ => None,
            })
            .collect();
        let mut any = false;
        for file in unread {
            // What cannot be read now is met again by whoever reads it.
            if matches!(Carrier::open(&*self.shared.files, &file), Ok(Carrier::Replaced)) {
                self.replaced(&file, REWRITTEN);
                any = true;
            }
        }
        any
    }

    /// What is at the path of `file` is another file now; it is told anew.
    pub(super) fn replaced(&mut self, file: &Arc<File>, why: &'static str) {
        let (path, offset) = {
            let state = file.lock();
            (Arc::clone(&state.path), state.cursor.position.offset)
        };
        FileReplaced { path: &path, file: file.id, offset, why }.emit(&self.shared.metrics);
        let key = self.detach(file);
        self.look_at(key);
    }
}

/// How a file compares with the physical file that carries an identity.
enum Compared {
    /// So; with the sizes on disk of the carrier and of the file.
    As(Evidence, (u64, u64)),
    /// The carrier is not at its path any more.
    Moved,
    /// What the carrier holds is not what was read from it.
    Replaced,
}

fn compare_with_attached(files: &dyn FileSystem, file: &File, content: &mut Content) -> io::Result<Compared> {
    // Before the carrier's, so that a copy in the making is never longer.
    let (size, length) = (content.stat()?.size, content.length()?);
    let (mut original, original_stat) = match Carrier::open(files, file)? {
        Carrier::Itself(content, stat) => (content, stat),
        Carrier::Moved => return Ok(Compared::Moved),
        Carrier::Replaced => return Ok(Compared::Replaced),
    };
    let sizes = (original_stat.size, size);
    // What has more than the carrier is no copy of it: nobody else would read the rest.
    let equal = length <= original.length()? && original.hash_at(length)? == content.hash_at(length)?;
    Ok(Compared::As(if equal { Evidence::Equal } else { Evidence::Different }, sizes))
}

/// What is at the path of a file that is followed.
enum Carrier {
    /// The physical file, with what was read from it.
    Itself(Content, Stat),
    /// Another physical file, or none.
    Moved,
    /// The physical file, with something else in it.
    Replaced,
}

impl Carrier {
    fn open(files: &dyn FileSystem, file: &File) -> io::Result<Self> {
        let (path, key, head, position, complete) = {
            let state = file.lock();
            (Arc::clone(&state.path), state.key, state.head, state.cursor.position, state.complete)
        };
        let (mut content, stat) = match Content::open_in(files, &path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Moved),
            Err(error) => return Err(error),
        };
        if stat.key() != key {
            return Ok(Self::Moved);
        }
        let is_what_was_read = content.head(complete)?.is_some_and(|found| found.key() == head)
            && content.hash_at(position.offset)? == Some(position.tail_hash);
        Ok(if is_what_was_read { Self::Itself(content, stat) } else { Self::Replaced })
    }
}

fn last_line_end(content: &mut Content) -> io::Result<Position> {
    const BLOCK: u64 = 64 << 10;
    let mut end = content.length()?;
    let mut buf = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let length = usize::try_from(end - start).unwrap_or(buf.len());
        let n = content.read_at(start, &mut buf[..length])?;
        if let Some(newline) = memchr::memrchr(b'\n', &buf[..n]) {
            let offset = start + newline as u64 + 1;
            let tail_hash = content.hash_at(offset)?.unwrap_or_default();
            return Ok(Position { offset, tail_hash });
        }
        end = start;
    }
    Ok(Position { offset: 0, tail_hash: tail_hash(&[]) })
}
