//! Small file systems of a test's own: to be filled, or to be mounted anew under another device number.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system; unmounted in the end.
#[derive(Debug)]
pub struct Mount {
    directory: tempfile::TempDir,
    image: Option<tempfile::NamedTempFile>,
    /// Number of the loop device that the image is attached to.
    device: Cell<Option<u32>>,
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
        Self { directory, image: None, device: Cell::default() }
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
        let this = Self { directory, image: Some(image), device: Cell::default() };
        this.mount_image(None);
        this
    }

    /// Mounts the image by a loop device other than `not`.
    fn mount_image(&self, not: Option<u32>) {
        let image = self.image.as_ref().expect("it has one");
        let attach = |number: &u32| {
            let device = format!("/dev/loop{number}");
            let status = command("losetup", &[&device, text(image.path())]).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let number = (0..16).filter(|number| Some(*number) != not).find(attach).expect("no loop device is free");
        self.device.set(Some(number));
        run("mount", &[&format!("/dev/loop{number}"), text(self.path())]);
    }

    /// Mounts the image of [`Mount::image`] anew, so that all its files have another device number.
    ///
    /// # Panics
    /// If something in it is still in use, or no other loop device is free.
    pub fn mount_anew(&self) {
        let before = self.device.take();
        run("umount", &[text(self.path())]);
        detach(before);
        self.mount_image(before);
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
        let _ = Command::new("umount").arg("-l").arg(self.path()).stderr(Stdio::null()).status();
        detach(self.device.take());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn detach(device: Option<u32>) {
    if let Some(number) = device {
        let _ = command("losetup", &["-d", &format!("/dev/loop{number}")]).stderr(Stdio::null()).status();
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path);
    command
}

fn run(program: &str, arguments: &[&str]) {
    let output = command(program, arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}; this takes root (`sudo`, or `unshare -rm`)");
}
