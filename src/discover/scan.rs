//! Listing globs: what matches, and what could not be listed. A listing that fails is a fault, never an empty directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::filesystem::{FileSystem, Kind, Os, Stat};

/// The globs of one source, compiled.
#[derive(Clone, Debug)]
pub struct Globs {
    patterns: Vec<Vec<Part>>,
    exclude_names: Vec<GlobMatcher>,
    exclude_paths: Vec<GlobMatcher>,
}

/// One component of a pattern.
#[derive(Clone, Debug)]
enum Part {
    Literal(PathBuf),
    Wild(GlobMatcher),
    /// `**`: any number of directories, none included.
    Deep,
}

/// A glob that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("glob {pattern:?}: {reason}")]
pub struct GlobError {
    pattern: String,
    reason: String,
}

/// What a listing found.
#[derive(Debug, Default)]
pub struct Listing {
    /// Regular files that match, each once; those left out that the caller said it need not hear of.
    /// Ordered by name.
    pub files: Vec<(PathBuf, Stat)>,
    /// Directories that were listed whole: a file of theirs that is not in `files` is not there.
    pub directories: BTreeSet<PathBuf>,
    /// Directories and files that could not be looked at.
    pub faults: Vec<(PathBuf, io::Error)>,
}

fn compile(pattern: &str) -> Result<GlobMatcher, GlobError> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| GlobError { pattern: pattern.to_owned(), reason: error.kind().to_string() })
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

impl Globs {
    /// Compiles a source's `paths` and `exclude`. Relative globs are taken from the current directory.
    ///
    /// # Errors
    /// The first glob that cannot be understood.
    pub fn compile(paths: &[String], exclude: &[String]) -> Result<Self, GlobError> {
        let mut patterns = Vec::new();
        for pattern in paths {
            let absolute = std::path::absolute(pattern)
                .map_err(|error| GlobError { pattern: pattern.clone(), reason: error.to_string() })?;
            let mut parts = Vec::new();
            for component in absolute.components() {
                match component {
                    Component::Normal(text) if text == OsStr::new("**") => parts.push(Part::Deep),
                    Component::Normal(text) => match text.to_str() {
                        Some(text) if is_wild(text) => parts.push(Part::Wild(compile(text)?)),
                        _ => parts.push(Part::Literal(PathBuf::from(text))),
                    },
                    other => parts.push(Part::Literal(PathBuf::from(other.as_os_str()))),
                }
            }
            patterns.push(parts);
        }
        let (mut exclude_names, mut exclude_paths) = (Vec::new(), Vec::new());
        for pattern in exclude {
            let kind = if pattern.contains('/') { &mut exclude_paths } else { &mut exclude_names };
            kind.push(compile(pattern)?);
        }
        Ok(Self { patterns, exclude_names, exclude_paths })
    }

    /// Whether `path` matches, by name alone.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        let parts: Vec<&OsStr> = path.components().map(Component::as_os_str).collect();
        !self.is_excluded(path) && self.patterns.iter().any(|pattern| matches_parts(pattern, &parts))
    }

    fn is_excluded(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        self.exclude_names.iter().any(|glob| glob.is_match(name))
            || self.exclude_paths.iter().any(|glob| glob.is_match(path))
    }

    /// Lists all files that match now.
    #[must_use]
    pub fn list(&self) -> Listing {
        self.list_but(&Os, &mut |_, _| false)
    }

    /// The same in another file system than this machine's, and without the files of which `leave_out` says so, so that a
    /// listing of very many files of which nothing is new holds none of them.
    pub fn list_but(&self, files: &dyn FileSystem, leave_out: &mut dyn FnMut(&Path, &Stat) -> bool) -> Listing {
        let mut walk = Walk { globs: self, files, leave_out, listing: Listing::default() };
        for pattern in &self.patterns {
            walk.walk(PathBuf::new(), pattern);
        }
        let files = &mut walk.listing.files;
        // By bytes: many times faster than by components.
        files.sort_unstable_by(|(one, _), (other, _)| one.as_os_str().cmp(other.as_os_str()));
        files.dedup_by(|(one, _), (other, _)| one.as_os_str() == other.as_os_str());
        walk.listing
    }
}

/// One listing in the making.
struct Walk<'a> {
    globs: &'a Globs,
    files: &'a dyn FileSystem,
    leave_out: &'a mut dyn FnMut(&Path, &Stat) -> bool,
    listing: Listing,
}

impl Walk<'_> {
    fn walk(&mut self, at: PathBuf, parts: &[Part]) {
        let Some((part, rest)) = parts.split_first() else {
            self.found(at);
            return;
        };
        match part {
            Part::Literal(name) => {
                let next = at.join(name);
                if rest.is_empty() {
                    self.literal_file(next);
                } else {
                    self.walk(next, rest);
                }
            }
            Part::Wild(glob) => {
                for name in self.entries(&at) {
                    if glob.is_match(Path::new(&name)) && visible(glob, &name) {
                        self.walk_into(at.join(&name), rest);
                    }
                }
            }
            Part::Deep => {
                self.walk(at.clone(), rest);
                for name in self.entries(&at) {
                    let next = at.join(&name);
                    // Links to directories are not followed under `**`: they could lead in circles.
                    let is_directory = self.files.link_stat(&next).is_ok_and(|stat| stat.kind == Kind::Directory);
                    if is_directory && !name.as_bytes().starts_with(b".") {
                        self.walk(next, parts);
                    }
                }
            }
        }
    }

    fn walk_into(&mut self, next: PathBuf, rest: &[Part]) {
        if rest.is_empty() {
            self.found(next);
        } else if self.files.is_dir(&next) {
            self.walk(next, rest);
        }
    }

    /// A file named without a wildcard: its directory need not be readable, only searchable.
    fn literal_file(&mut self, path: PathBuf) {
        if let Some(parent) = path.parent()
            && self.files.is_dir(parent)
        {
            self.listing.directories.insert(parent.to_owned());
        }
        self.found(path);
    }

    fn found(&mut self, path: PathBuf) {
        if self.globs.is_excluded(&path) {
            return;
        }
        match self.files.stat(&path) {
            Ok(stat) if stat.is_file() => {
                if !(self.leave_out)(&path, &stat) {
                    self.listing.files.push((path, stat));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.listing.faults.push((path, error)),
        }
    }

    fn entries(&mut self, directory: &Path) -> Vec<std::ffi::OsString> {
        match self.files.list(directory) {
            Ok(entries) => {
                self.listing.directories.insert(directory.to_owned());
                entries.into_iter().map(|entry| entry.name).collect()
            }
            Err(error) => {
                self.listing.faults.push((directory.to_owned(), error));
                Vec::new()
            }
        }
    }
}

/// `*` does not match a name that starts with a dot: writers put unfinished files there.
fn visible(glob: &GlobMatcher, name: &OsStr) -> bool {
    !name.as_bytes().starts_with(b".") || glob.glob().glob().starts_with('.')
}

fn matches_parts(pattern: &[Part], path: &[&OsStr]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((Part::Deep, rest)), _) => {
            matches_parts(rest, path) || path.split_first().is_some_and(|(_, tail)| matches_parts(pattern, tail))
        }
        (Some((Part::Literal(name), rest)), Some((first, tail))) => {
            name.as_os_str() == *first && matches_parts(rest, tail)
        }
        (Some((Part::Wild(glob), rest)), Some((first, tail))) => {
            glob.is_match(Path::new(first)) && visible(glob, first) && matches_parts(rest, tail)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x\n").unwrap();
        }
        dir
    }

    fn check(files: &[&str], paths: &[&str], exclude: &[&str], expected: &[&str]) {
        let dir = tree(files);
        let absolute: Vec<String> = paths.iter().map(|p| dir.path().join(p).to_str().unwrap().to_owned()).collect();
        let exclude: Vec<String> = exclude.iter().map(|&p| p.to_owned()).collect();
        let globs = Globs::compile(&absolute, &exclude).unwrap();
        let listing = globs.list();
        let found: Vec<&str> =
            listing.files.iter().map(|(path, _)| path.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(found, expected, "{paths:?}");
        assert!(listing.files.iter().all(|(path, _)| globs.matches(path)), "matching by name agrees with listing");
    }

    #[test]
    fn globs_find_what_people_expect() {
        let files = ["a.log", "a.log.1", "b.txt", ".hidden.log", "x/a.log", "x/y/a.log", "x/.tmp/a.log"];
        check(&files, &["a.log*"], &[], &["a.log", "a.log.1"]);
        check(&files, &["*"], &[], &["a.log", "a.log.1", "b.txt"]);
        check(&files, &["*.log", "a.*"], &["*.1"], &["a.log"]);
        check(&files, &["**/*.log"], &[], &["a.log", "x/a.log", "x/y/a.log"]);
        check(&files, &["*/a.log"], &[], &["x/a.log"]);
        check(&files, &["**/*.log"], &["**/y/*"], &["a.log", "x/a.log"]);
        check(&files, &["{a,b}.{log,txt}"], &[], &["a.log", "b.txt"]);
        check(&files, &["missing/a.log"], &[], &[]);
        check(&files, &[".hid*"], &[], &[".hidden.log"]);
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_a_fault_not_an_empty_one() {
        let dir = tree(&["logs/a.log"]);
        let pattern = dir.path().join("gone/*.log").to_str().unwrap().to_owned();
        let listing = Globs::compile(&[pattern], &[]).unwrap().list();
        assert!(listing.files.is_empty());
        assert_eq!(listing.faults.len(), 1);
        assert!(listing.directories.is_empty());
    }

    #[test]
    fn names_that_are_not_utf8_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let name = std::ffi::OsString::from_vec(b"caf\xe9.log".to_vec());
        std::fs::write(dir.path().join(&name), "x\n").unwrap();
        let pattern = dir.path().join("*.log").to_str().unwrap().to_owned();
        let listing = Globs::compile(&[pattern], &[]).unwrap().list();
        assert_eq!(listing.files[0].0.file_name().unwrap(), name);
    }

    #[test]
    fn a_bad_glob_is_named() {
        let error = Globs::compile(&["/var/log/[a.log".to_owned()], &[]).unwrap_err();
        assert!(error.to_string().contains("[a.log"), "{error}");
    }
}
