//! The disk as the store sees it: one flat directory of files. These are traits, so that tests can use a simulated,
//! faulty disk; `RealDisk` (in `real`) is the one in production.
//!
//! Everything here blocks (except `read_cached_at`), handles EINTR and short transfers, and returns errors unchanged.

mod examine;
mod map;
mod real;
mod writeback;

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex};

pub(super) use examine::TRIAL;
pub use examine::{DiskFigures, examine};
pub use map::{MappedPart, Mapping};
pub(super) use real::PROBE;
pub use real::RealDisk;

/// How the bytes of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache (O_DIRECT) if the file system supports it: address, offset and length of every write are
    /// multiples of the page size.
    Direct,
    /// Through the page cache, without alignment.
    Cached,
}

/// Whether a hole was punched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Punched {
    /// The space is free.
    Done,
    /// The file system does not support holes.
    Unsupported,
}

/// One directory of files.
pub trait Disk: Debug + Send + Sync + 'static {
    fn names(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file; an error if the name exists.
    fn create(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames `from` to `to`, atomically replacing it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; one that does not exist is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes of the file system that are available to an unprivileged process.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Whether holes can be punched into files.
    fn punches(&self) -> bool {
        true
    }
    /// Bytes reserved on this file system by all stores of this process: two volumes on one disk must not reserve the
    /// same free bytes. Each store fetches it once.
    fn reservations(&self) -> Arc<Mutex<u64>> {
        Arc::default()
    }
}

/// One open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads until the buffer is full or the file ends.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads from the disk, past the page cache if possible, until the buffer is full or the file ends. Address,
    /// offset and length are multiples of the page size.
    fn read_disk_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }
    /// Reads from the page cache, without waiting for the disk; 0 if the bytes are not cached.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> usize;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Called when nothing is appended any longer: closes the descriptor for direct writes.
    fn release_preallocation(&self) {}
    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Sets the length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Frees the space of a range (punches a hole), which reads as zeros afterwards.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<Punched>;
    /// Preallocates space for a range without changing the length; does nothing if the file system does
    /// not support it.
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
    /// Bytes taken on the disk.
    fn allocated(&self) -> io::Result<u64>;
    /// Whether any part of a range has space on the disk; `true` if unknown.
    fn holds_data(&self, offset: u64, bytes: u64) -> io::Result<bool>;
    /// Maps a range of the file, from a page boundary; `None` if that is not possible.
    fn map(&self, _offset: u64, _bytes: u64) -> Option<Mapping> {
        None
    }
    /// Drops clean pages from the cache, so that reads return what is on the disk. After a failed fsync the cache
    /// holds bytes that the disk does not have.
    fn drop_cache(&self);
}
