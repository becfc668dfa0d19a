//! Modelled files: inodes with several names or none, births that can be hidden, numbers that are given again, and open
//! files that outlive their names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

use crate::filesystem::{Entry, FileSystem, Kind, OpenFile, Stat};

/// When every history begins, in s since 1970.
pub const EPOCH_S: i64 = 1_790_000_000;

/// What a file holds, and which lines that is.
#[derive(Debug, Default)]
pub struct Content {
    pub bytes: Vec<u8>,
    /// Numbers of the lines whose first byte is here.
    pub lines: Vec<usize>,
    /// A copy of another file, plain or packed.
    pub is_copy: bool,
    mtime_ns: i64,
    links: u64,
}

/// A physical file.
#[derive(Debug)]
pub struct Node {
    number: u64,
    birth_ns: i64,
    content: Mutex<Content>,
}

impl Node {
    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("one thread")
    }
}

#[derive(Debug)]
pub struct Files {
    began: Instant,
    births: bool,
    reuse: bool,
    tree: Mutex<Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    names: BTreeMap<PathBuf, Arc<Node>>,
    directories: BTreeSet<PathBuf>,
    next: u64,
    /// Files without a name: their numbers are free once nobody holds them open.
    gone: Vec<Arc<Node>>,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Files {
    /// Empty directories. `births`: whether the file system says when a file was made; `reuse`: whether it gives the
    /// number of a file that is gone to the next.
    pub fn new(directories: &[&str], births: bool, reuse: bool) -> Self {
        let mut all = BTreeSet::from([PathBuf::from("/")]);
        all.extend(directories.iter().map(PathBuf::from));
        let tree = Tree { directories: all, next: 100, ..Tree::default() };
        Self { began: Instant::now(), births, reuse, tree: Mutex::new(tree) }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().expect("one thread")
    }

    pub fn node(&self, path: &Path) -> Option<Arc<Node>> {
        self.tree().names.get(path).cloned()
    }

    /// All files that have a name, each once a name.
    pub fn nodes(&self) -> Vec<(PathBuf, Arc<Node>)> {
        self.tree().names.iter().map(|(path, node)| (path.clone(), Arc::clone(node))).collect()
    }

    /// Those of them whose names begin so.
    pub fn nodes_called(&self, start: &str) -> Vec<(PathBuf, Arc<Node>)> {
        self.nodes().into_iter().filter(|(path, _)| path.to_string_lossy().starts_with(start)).collect()
    }

    /// Makes an empty file.
    pub fn create(&self, path: &Path) -> Arc<Node> {
        let now = self.now_ns();
        let mut tree = self.tree();
        let free = tree.gone.iter().position(|node| Arc::strong_count(node) == 1).filter(|_| self.reuse);
        let number = match free {
            Some(index) => tree.gone.swap_remove(index).number,
            None => {
                tree.next += 1;
                tree.next
            }
        };
        let content = Content { mtime_ns: now, links: 1, ..Content::default() };
        let node = Arc::new(Node { number, birth_ns: now, content: Mutex::new(content) });
        tree.put(path, Arc::clone(&node));
        node
    }

    /// Appends; `line` is the number of the line that begins with these bytes.
    pub fn append(&self, node: &Node, bytes: &[u8], line: Option<usize>) {
        let now = self.now_ns();
        let mut content = node.content();
        content.bytes.extend_from_slice(bytes);
        content.lines.extend(line);
        content.mtime_ns = now;
    }

    pub fn truncate(&self, node: &Node) {
        let now = self.now_ns();
        let mut content = node.content();
        content.bytes.clear();
        content.lines.clear();
        content.mtime_ns = now;
    }

    pub fn link(&self, path: &Path, name: &Path) {
        let node = self.node(path).expect("a name is given to a file that is there");
        node.content().links += 1;
        self.tree().put(name, node);
    }
}

impl Tree {
    fn put(&mut self, path: &Path, node: Arc<Node>) {
        if let Some(old) = self.names.insert(path.to_owned(), node) {
            self.unlinked(old);
        }
    }

    fn unlinked(&mut self, node: Arc<Node>) {
        let links = {
            let mut content = node.content();
            content.links -= 1;
            content.links
        };
        if links == 0 {
            self.gone.push(node);
        }
    }
}

#[derive(Debug)]
struct Handle {
    node: Arc<Node>,
    births: bool,
}

fn stat(node: &Node, births: bool) -> Stat {
    let content = node.content();
    Stat {
        kind: Kind::File,
        device: 1,
        inode: node.number,
        size: content.bytes.len() as u64,
        mtime_ns: content.mtime_ns,
        birth_ns: if births { node.birth_ns } else { 0 },
        links: content.links,
    }
}

impl OpenFile for Handle {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&self.node, self.births))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.node.content();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
        let n = (content.bytes.len() - from).min(buf.len());
        buf[..n].copy_from_slice(&content.bytes[from..from + n]);
        Ok(n)
    }
}

impl FileSystem for Files {
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let tree = self.tree();
        match tree.names.get(path) {
            Some(node) => Ok(stat(node, self.births)),
            None if tree.directories.contains(path) => {
                Ok(Stat { kind: Kind::Directory, device: 1, inode: 1, size: 0, mtime_ns: 0, birth_ns: 0, links: 1 })
            }
            None => Err(not_found()),
        }
    }

    fn link_stat(&self, path: &Path) -> io::Result<Stat> {
        self.stat(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let tree = self.tree();
        if !tree.directories.contains(directory) {
            return Err(not_found());
        }
        let mut entries = Vec::new();
        for (path, node) in &tree.names {
            if path.parent() == Some(directory) {
                let name: OsString = path.file_name().unwrap_or_default().to_owned();
                entries.push(Entry { name, inode: node.number });
            }
        }
        Ok(entries)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let node = self.node(path).ok_or_else(not_found)?;
        Ok(Arc::new(Handle { node, births: self.births }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let node = tree.names.remove(from).ok_or_else(not_found)?;
        tree.put(to, node);
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.node(from).ok_or_else(not_found)?;
        let copy = self.create(to);
        let (bytes, lines) = {
            let content = node.content();
            (content.bytes.clone(), content.lines.clone())
        };
        self.append(&copy, &bytes, None);
        copy.content().lines = lines;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let node = tree.names.remove(path).ok_or_else(not_found)?;
        tree.unlinked(node);
        Ok(())
    }

    fn sync(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn now_ns(&self) -> i64 {
        let since = i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX);
        EPOCH_S * 1_000_000_000 + since
    }
}
