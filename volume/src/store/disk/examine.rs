//! Tests what a disk supports and how fast it syncs, with a small file beside the segments, and reads the figures of
//! its file system. If a crash leaves the file, the next opening of the store removes it.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use shared::limits::PAGE_BYTES;

use super::{Access, Disk, DiskFile, Punched, RealDisk};
use crate::store::buffer::Aligned;
use crate::store::format::PAGE;
use crate::store::lock;

pub(in crate::store) const TRIAL: &str = "examine.tmp";
/// Number of syncs to time; odd, for the median.
const SYNCS: u64 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFigures {
    /// Holes can be punched.
    pub punches: bool,
    /// Writes can bypass the page cache.
    pub direct: bool,
    /// Median time to append a page to a file and sync it.
    pub sync: Duration,
    /// Bytes that are free for an unprivileged process.
    pub free_bytes: u64,
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// Files that can still be created; `None` if the file system does not count them.
    pub inodes_free: Option<u64>,
    pub device: u64,
}

/// Tests the disk of a volume's directory. Blocks.
///
/// # Errors
/// When the disk fails or is full.
pub fn examine(volume: &Path) -> io::Result<DiskFigures> {
    // All calls use the same file name.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE);
    let disk = RealDisk::open(volume)?;
    disk.remove(TRIAL)?;
    let tried = disk.create(TRIAL, Access::Direct).and_then(|file| try_out(&*file));
    let removed = disk.remove(TRIAL);
    let (punches, sync) = tried?;
    removed?;
    let system = rustix::fs::statvfs(volume)?;
    Ok(DiskFigures {
        punches,
        direct: disk.is_direct(),
        sync,
        free_bytes: system.f_bavail.saturating_mul(system.f_frsize),
        capacity_bytes: system.f_blocks.saturating_mul(system.f_frsize),
        inodes_free: (system.f_files > 0).then_some(system.f_favail),
        device: rustix::fs::stat(volume)?.st_dev,
    })
}

fn try_out(file: &dyn DiskFile) -> io::Result<(bool, Duration)> {
    let page = Aligned::new(PAGE_BYTES);
    let mut syncs = Vec::new();
    for n in 0..SYNCS {
        let began = Instant::now();
        file.write_at(page.as_slice(), n * PAGE)?;
        file.sync_data()?;
        syncs.push(began.elapsed());
    }
    syncs.sort_unstable();
    Ok((file.punch(0, PAGE)? == Punched::Done, syncs[syncs.len() / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_tried_and_nothing_is_left_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("segments")).unwrap();
        std::fs::write(dir.path().join("segments").join(TRIAL), "of a crash").unwrap();
        let figures = examine(dir.path()).unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        assert_eq!((figures.direct, figures.punches), (disk.is_direct(), disk.punches()));
        assert!(figures.sync > Duration::ZERO && figures.capacity_bytes >= figures.free_bytes);
        assert!(figures.free_bytes > 0);
        assert!(disk.names().unwrap().is_empty());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(examine(&dir.path().join("file")).is_err());
    }
}
