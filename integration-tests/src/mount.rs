//! Small file systems of a test's own: to be filled, or to be mounted anew under another device number.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted in the end.
#[derive(Debug)]
pub struct Mount {
    directory: tempfile::TempDir,
    image: Option<tempfile::NamedTempFile>,
}

impl Mount {
    /// One in memory with room for `size`, such as `2m`.
    ///
    /// # Panics
    /// If it cannot be mounted: that takes root.
    #[must_use]
    pub fn tmpfs(size: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("logweir-mount-").tempdir().expect("room");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "logweir-test", text(directory.path())]);
        Self { directory, image: None }
    }

    /// An ext4 file system in a file.
    ///
    /// # Panics
    /// If it cannot be made or mounted: that takes root and a loop device.
    #[must_use]
    pub fn image() -> Self {
        let directory = tempfile::Builder::new().prefix("logweir-mount-").tempdir().expect("room");
        let image = tempfile::Builder::new().prefix("logweir-image-").tempfile().expect("room");
        image.as_file().set_len(16 << 20).expect("room");
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(image.path())]);
        let this = Self { directory, image: Some(image) };
        this.mount_image();
        this
    }

    fn mount_image(&self) {
        let image = self.image.as_ref().expect("it has one");
        run("mount", &["-o", "loop", text(image.path()), text(self.path())]);
    }

    /// Mounts the image of [`Mount::image`] anew, so that all its files have another device number.
    ///
    /// # Panics
    /// If something in it is still in use, or no other loop device is free.
    pub fn mount_anew(&self) {
        use std::os::unix::fs::MetadataExt;
        let device = || fs::metadata(self.path()).expect("it is there").dev();
        let before = device();
        run("umount", &[text(self.path())]);
        // Takes the device that was free now.
        let other = Self::image();
        self.mount_image();
        drop(other);
        assert_ne!(device(), before, "mounted on the same loop device");
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes all the room there is, but for `left` bytes; removing the file gives it back.
    ///
    /// # Panics
    /// If it cannot be filled.
    pub fn fill(&self, left: u64) -> PathBuf {
        use std::io::Write as _;
        let path = self.path().join("filler");
        let mut file = File::create(&path).expect("a file");
        // Until the system says that there is no room, however it counts.
        for size in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        let length = file.metadata().expect("it is there").len();
        file.set_len(length - left.min(length)).expect("shorter");
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: what a test left open must not keep it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(program: &str, arguments: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}; this takes root (`sudo`, or `unshare -rm`)");
}
