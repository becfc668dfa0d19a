//! Moving a finished file to the archive, so that at every instant it is in one place whole.

use std::io;
use std::path::{Path, PathBuf};

use crate::filesystem::{FileSystem, OpenFile};
use crate::record::FileId;

const BLOCK: usize = 64 << 10;

/// Moves `path` into `directory`. A name that is taken there gets the file's id appended. Across file systems the copy is
/// on disk before the original is removed; whoever was killed between the two finds the copy, and makes no second one.
///
/// Returns where it is now.
///
/// # Errors
/// What the system says; the original is then still there.
pub fn archive(files: &dyn FileSystem, path: &Path, directory: &Path, id: FileId) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut unique = name.to_owned();
    unique.push(format!(".{id}"));
    let names = [directory.join(name), directory.join(unique)];
    let target = if files.link_stat(&names[0]).is_ok() { &names[1] } else { &names[0] };
    match files.rename(path, target) {
        Ok(()) => {
            files.sync(directory)?;
            Ok(target.clone())
        }
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let there = names.iter().find(|name| is_copy(files, path, name).unwrap_or(false));
            if there.is_none() {
                copy(files, path, target)?;
            }
            files.sync(directory)?;
            files.remove(path)?;
            Ok(there.unwrap_or(target).clone())
        }
        Err(error) => Err(error),
    }
}

fn copy(files: &dyn FileSystem, path: &Path, target: &Path) -> io::Result<()> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let before = files.stat(path)?;
    let copied = files.copy(path, &partial).and_then(|()| files.sync(&partial)).and_then(|()| {
        let unchanged = files.stat(path)? == before;
        if unchanged { Ok(()) } else { Err(io::Error::other("it was written while it was copied")) }
    });
    if let Err(error) = copied {
        // Half a copy must not take the room that it lacks; what cannot be removed is written over next time.
        let _ = files.remove(&partial);
        return Err(error);
    }
    files.rename(&partial, target)
}

/// Whether `copy` is what [`FileSystem::copy`] made of `path`: of the same time, and with the same bytes.
fn is_copy(files: &dyn FileSystem, path: &Path, copy: &Path) -> io::Result<bool> {
    let of = |path| files.stat(path).map(|stat| (stat.kind, stat.size, stat.mtime_ns));
    if of(path)? != of(copy)? {
        return Ok(false);
    }
    let (one, other) = (files.open(path)?, files.open(copy)?);
    let mut blocks = [vec![0; BLOCK], vec![0; BLOCK]];
    let mut offset = 0;
    loop {
        let [first, second] = &mut blocks;
        let (read, also) = (fill(&*one, first, offset)?, fill(&*other, second, offset)?);
        if first[..read] != second[..also] {
            return Ok(false);
        }
        if read < BLOCK {
            return Ok(true);
        }
        offset += BLOCK as u64;
    }
}

/// Reads until `buf` is full or the file ends.
fn fill(file: &dyn OpenFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::filesystem::Os;

    #[test]
    fn a_taken_name_is_kept_beside_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a.log"), dir.path().join("done"));
        fs::create_dir(&to).unwrap();
        for content in ["first", "second"] {
            fs::write(&from, content).unwrap();
            archive(&Os, &from, &to, FileId([7; 8])).unwrap();
        }
        assert_eq!(fs::read_to_string(to.join("a.log")).unwrap(), "first");
        assert_eq!(fs::read_to_string(to.join("a.log.0707070707070707")).unwrap(), "second");
        assert!(!from.try_exists().unwrap());
    }
}
