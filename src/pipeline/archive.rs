//! Moving a finished file to the archive, so that at every instant it is in one place whole.

use std::io;
use std::path::{Path, PathBuf};

use crate::filesystem::FileSystem;
use crate::record::FileId;

/// Moves `path` into `directory`. A name that is taken there gets the file's id appended. Across file systems the copy is
/// on disk before the original is removed.
///
/// Returns where it is now.
///
/// # Errors
/// What the system says; the original is then still there.
pub fn archive(files: &dyn FileSystem, path: &Path, directory: &Path, id: FileId) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut target = directory.join(name);
    if files.link_stat(&target).is_ok() {
        let mut unique = name.to_owned();
        unique.push(format!(".{id}"));
        target = directory.join(unique);
    }
    match files.rename(path, &target) {
        Ok(()) => files.sync(directory)?,
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(files, path, &target, directory)?,
        Err(error) => return Err(error),
    }
    Ok(target)
}

fn copy(files: &dyn FileSystem, path: &Path, target: &Path, directory: &Path) -> io::Result<()> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    files.copy(path, &partial)?;
    files.sync(&partial)?;
    files.rename(&partial, target)?;
    files.sync(directory)?;
    files.remove(path)
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
