//! Private disks: ext4 or XFS in a file on a loop device, to be filled up or cut from power.

use std::path::{Path, PathBuf};

use crate::folder::Folder;
use crate::tool::{compile, must};

/// Shuts a mounted file system down as a power cut does: what is not on the disk now, journal included,
/// never gets there.
const CUT: &str = r#"
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
int main(int argc, char **argv) {
    uint32_t without_log_flush = 2;
    int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0 || ioctl(fd, _IOR('X', 125, uint32_t), &without_log_flush)) { perror("cut"); return 1; }
    return 0;
}
"#;

/// The file system of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    /// XFS; at least 300 MiB.
    Xfs,
}

/// A file system in a file.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

/// Reports whether this machine allows loop devices; skips `test` if not.
///
/// # Panics
/// As `skip` does.
pub fn available(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let able = root && Path::new("/dev/loop-control").exists();
    if !able {
        crate::skip(test, "it needs root and loop devices");
    }
    able
}

impl Disk {
    /// Makes and mounts a disk of `mib` MiB with ext4.
    ///
    /// # Panics
    /// If the machine does not allow it.
    pub async fn new(folder: &Folder, name: &str, mib: u64) -> Self {
        Self::with(FileSystem::Ext4, folder, name, mib).await
    }

    /// Makes and mounts a disk of `mib` MiB.
    ///
    /// # Panics
    /// If the machine does not allow it.
    pub async fn with(file_system: FileSystem, folder: &Folder, name: &str, mib: u64) -> Self {
        let (image, mount) = (folder.join(format!("{name}.img")), folder.join(name));
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(mib << 20).expect("room for the image");
        std::fs::create_dir_all(&mount).expect("a mount point");
        let (mkfs, options) = match file_system {
            FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0"][..]),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f"][..]),
        };
        must(mkfs, options.iter().map(std::ffi::OsStr::new).chain([image.as_os_str()])).await;
        let mut disk = Self { image, mount, mounted: false };
        disk.mount().await;
        disk
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts the disk, which replays its journal.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub async fn mount(&mut self) {
        let (image, mount) = (self.image.to_string_lossy(), self.mount.to_string_lossy());
        must("mount", ["-o", "loop", &image, &mount]).await;
        self.mounted = true;
    }

    /// Unmounts the disk, which no process may use now.
    ///
    /// # Panics
    /// If a process still uses it.
    pub async fn unmount(&mut self) {
        must("umount", [self.mount.as_os_str()]).await;
        self.mounted = false;
    }

    /// Cuts the power. Freeze the writers before, kill them after.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub async fn cut(&self, cutter: &Path) {
        must(&cutter.to_string_lossy(), [self.mount.as_os_str()]).await;
    }

    /// Returns the free bytes.
    pub fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.mount).map_or(0, |s| s.f_bavail * s.f_frsize)
    }
}

/// The program that cuts the power of a disk.
pub async fn cutter(folder: &Folder) -> PathBuf {
    compile(folder, "cut", CUT, &[]).await
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a process that is being killed may still hold the mount.
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.mount).status();
        }
    }
}
