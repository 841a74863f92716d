//! A read-only disk for a dry run of an opening: files are opened for reading only, and all changes are discarded and
//! reported as successful.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use crate::store::disk::{Access, Disk, DiskFile, Punched};

/// The `segments` directory of a volume.
#[derive(Debug)]
pub(super) struct ReadOnly(OwnedFd);

/// A file of it; `None` for one whose creation was discarded.
#[derive(Debug)]
struct ReadOnlyFile(Option<OwnedFd>);

impl ReadOnly {
    /// Opens the directory; an error if it does not exist.
    pub(super) fn open(volume: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(retry_on_intr(|| rustix::fs::open(volume.join("segments"), flags, Mode::empty()))?))
    }
}

impl Disk for ReadOnly {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
    fn create(&self, _: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ReadOnlyFile(None)))
    }
    fn open(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, Mode::empty()))?;
        Ok(Arc::new(ReadOnlyFile(Some(file))))
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl DiskFile for ReadOnlyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(file) = &self.0 else { return Ok(0) };
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            match retry_on_intr(|| rustix::io::pread(file, &mut buffer[done..], at))? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }
    fn read_cached_at(&self, _: &mut [u8], _: u64) -> usize {
        0
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn punch(&self, _: u64, _: u64) -> io::Result<Punched> {
        Ok(Punched::Done)
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn length(&self) -> io::Result<u64> {
        let Some(file) = &self.0 else { return Ok(0) };
        Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
    }
    fn allocated(&self) -> io::Result<u64> {
        let Some(file) = &self.0 else { return Ok(0) };
        Ok(u64::try_from(rustix::fs::fstat(file)?.st_blocks).unwrap_or(0) * 512)
    }
    fn holds_data(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        let Some(file) = &self.0 else { return Ok(false) };
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data < offset + bytes),
            Err(Errno::NXIO) => Ok(false),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }
    fn drop_cache(&self) {
        if let Some(file) = &self.0 {
            // A hint: errors do not matter.
            let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
        }
    }
}
