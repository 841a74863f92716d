//! A directory of the file system as a disk: system calls, each retried when a signal interrupts it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{Advice, AtFlags, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};
use shared::limits::PAGE_BYTES;

use super::{Access, Disk, DiskFile, Mapping, Punched, writeback};
use crate::store::buffer::Aligned;
use crate::store::format::PAGE;
use crate::store::lock;

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    directory: Arc<OwnedFd>,
    direct: bool,
    punches: bool,
}

#[derive(Debug)]
struct RealFile {
    /// For reads and holes, and for writes if `direct` is `None`.
    cached: OwnedFd,
    /// For writes past the page cache; `None` for files that are rarely written.
    direct: Mutex<Option<Arc<OwnedFd>>>,
    /// Directory and name, to open a temporary direct descriptor, if the file system supports O_DIRECT.
    place: Option<(Arc<OwnedFd>, Box<str>)>,
    /// Writes go through the page cache, and their writeback starts at once.
    early: bool,
    punches: bool,
}

pub(in crate::store) const PROBE: &str = "probe.tmp";

impl RealDisk {
    /// Opens the `segments` directory of a volume, creates it if necessary, and probes whether the file system
    /// supports O_DIRECT and hole punching.
    pub fn open(volume: &Path) -> io::Result<Self> {
        let path = volume.join("segments");
        std::fs::create_dir_all(&path)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())?;
        let parent = rustix::fs::open(volume, flags, Mode::empty())?;
        retry_on_intr(|| rustix::fs::fsync(&parent))?;
        let mut disk = Self { directory: Arc::new(directory), direct: false, punches: true };
        (disk.direct, disk.punches) = disk.probe();
        Ok(disk)
    }

    /// Disables hole punching, for tests and benchmarks.
    pub fn without_punching(mut self) -> Self {
        self.punches = false;
        self
    }

    /// Disables O_DIRECT, for tests and benchmarks.
    pub fn without_direct(mut self) -> Self {
        self.direct = false;
        self
    }

    /// Whether writes bypass the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Probes for O_DIRECT and hole punching. Some file systems refuse O_DIRECT at open, others at the first
    /// write; on a full disk the open alone decides. Hole punching is assumed unless the file system reports
    /// it as unsupported.
    fn probe(&self) -> (bool, bool) {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::openat(&self.directory, PROBE, flags, Mode::from_raw_mode(0o600));
        let direct = open(flags | OFlags::DIRECT).is_ok_and(|fd| {
            let page = Aligned::new(PAGE_BYTES);
            let written = retry_on_intr(|| rustix::io::pwrite(&fd, page.as_slice(), 0));
            !matches!(written, Err(Errno::INVAL | Errno::OPNOTSUPP))
        });
        let punches = open(flags).map_or(true, |fd| {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let punched = retry_on_intr(|| rustix::fs::fallocate(&fd, hole, 0, PAGE));
            !matches!(punched, Err(Errno::OPNOTSUPP | Errno::NOSYS))
        });
        let _ = rustix::fs::unlinkat(&self.directory, PROBE, AtFlags::empty());
        (direct, punches)
    }

    fn file(&self, name: &str, access: Access, create: OFlags) -> io::Result<Arc<dyn DiskFile>> {
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let cached = retry_on_intr(|| rustix::fs::openat(&self.directory, name, flags | create, mode))?;
        let direct = match access {
            Access::Direct if self.direct => Some(Arc::new(retry_on_intr(|| {
                rustix::fs::openat(&self.directory, name, flags | OFlags::DIRECT, mode)
            })?)),
            _ => None,
        };
        let place = self.direct.then(|| (Arc::clone(&self.directory), name.into()));
        let early = access == Access::Direct && !self.direct;
        Ok(Arc::new(RealFile { cached, direct: Mutex::new(direct), place, early, punches: self.punches }))
    }
}

impl Disk for RealDisk {
    fn punches(&self) -> bool {
        self.punches
    }

    fn reservations(&self) -> Arc<Mutex<u64>> {
        static BY_DEVICE: Mutex<BTreeMap<u64, Arc<Mutex<u64>>>> = Mutex::new(BTreeMap::new());
        let device = rustix::fs::fstat(&self.directory).map_or(0, |s| s.st_dev);
        Arc::clone(lock(&BY_DEVICE).entry(device).or_default())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.file(name, access, OFlags::CREATE | OFlags::EXCL)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.file(name, access, OFlags::empty())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fsync(&self.directory))?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let fs = rustix::fs::fstatvfs(&self.directory)?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

fn read_whole(fd: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        match retry_on_intr(|| rustix::io::pread(fd, &mut buffer[done..], at))? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

impl RealFile {
    /// Returns the direct descriptor, or a temporary one.
    fn direct(&self) -> Option<Arc<OwnedFd>> {
        if let Some(direct) = &*lock(&self.direct) {
            return Some(Arc::clone(direct));
        }
        let (directory, name) = self.place.as_ref()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECT;
        let open = || rustix::fs::openat(directory, &**name, flags, Mode::empty());
        retry_on_intr(open).ok().map(Arc::new)
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_whole(&self.cached, buffer, offset)
    }

    fn read_disk_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(direct) = self.direct() else {
            let range = std::num::NonZeroU64::new(buffer.len() as u64);
            let _ = rustix::fs::fadvise(&self.cached, offset, range, Advice::DontNeed);
            return self.read_at(buffer, offset);
        };
        // If the file ends in the middle of a sector, a direct read stops before it.
        let done = read_whole(&direct, buffer, offset)?;
        if done.is_multiple_of(PAGE_BYTES) {
            return Ok(done);
        }
        let from = done / PAGE_BYTES * PAGE_BYTES;
        Ok(from + self.read_at(&mut buffer[from..], offset + from as u64)?)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let pieces = &mut [io::IoSliceMut::new(buffer)];
        // On any error the blocking read that follows reports it.
        rustix::io::preadv2(&self.cached, pieces, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let direct = lock(&self.direct).clone();
        let fd = direct.as_deref().unwrap_or(&self.cached);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            match retry_on_intr(|| rustix::io::pwrite(fd, &bytes[done..], at))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => done += n,
            }
        }
        if self.early {
            writeback::begin(&self.cached, offset, bytes.len())?;
        }
        Ok(())
    }

    fn release_preallocation(&self) {
        *lock(&self.direct) = None;
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fdatasync(&self.cached))?)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&self.cached, bytes))?)
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<Punched> {
        if !self.punches {
            return Ok(Punched::Unsupported);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| rustix::fs::fallocate(&self.cached, flags, offset, bytes)) {
            Ok(()) => Ok(Punched::Done),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Punched::Unsupported),
            Err(e) => Err(e.into()),
        }
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::fallocate(&self.cached, FallocateFlags::KEEP_SIZE, offset, bytes))
        {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(&self.cached)?.st_size).unwrap_or(0))
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(&self.cached)?.st_blocks).unwrap_or(0) * 512)
    }

    fn holds_data(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        match rustix::fs::seek(&self.cached, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data < offset + bytes),
            Err(Errno::NXIO) => Ok(false),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    fn map(&self, offset: u64, bytes: u64) -> Option<Mapping> {
        Mapping::new(&self.cached, offset, usize::try_from(bytes).ok()?).ok()
    }

    fn drop_cache(&self) {
        // A hint: a file system that does not support it has no page cache to drop.
        let _ = rustix::fs::fadvise(&self.cached, 0, None, Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_can_be_written_read_punched_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let file = disk.create("a", Access::Direct).unwrap();
        assert!(disk.create("a", Access::Direct).is_err());
        let mut pages = Aligned::new(4 * PAGE_BYTES);
        pages.as_mut_slice().fill(7);
        file.write_at(pages.as_slice(), 4096).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.length().unwrap(), 5 * 4096);
        let mut back = vec![0; 3 * 4096];
        assert_eq!(file.read_at(&mut back, 3 * 4096).unwrap(), 2 * 4096);
        assert!(back[..2 * 4096].iter().all(|b| *b == 7));
        assert!(file.holds_data(4096, 4 * 4096).unwrap());
        let before = file.allocated().unwrap();
        assert_eq!(file.punch(2 * 4096, 2 * 4096).unwrap(), Punched::Done);
        assert!(!file.holds_data(2 * 4096, 2 * 4096).unwrap());
        assert!(file.allocated().unwrap() < before);
        file.truncate(4096).unwrap();
        assert_eq!(file.length().unwrap(), 4096);
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.names().unwrap(), ["b"]);
        disk.remove("b").unwrap();
        disk.remove("b").unwrap();
        disk.sync_dir().unwrap();
        assert!(disk.free_bytes().unwrap() > 0);
    }
}
