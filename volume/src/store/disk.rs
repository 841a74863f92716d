//! The disk as the store sees it: one flat directory of files. Two traits, so that tests can put
//! a lying disk underneath; `RealDisk` (in `real`) is the one that serves.
//!
//! Everything here blocks (but for `read_cached_at`), handles EINTR and short transfers, and decides
//! nothing: an error goes up as it came.

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
    /// Past the page cache where the file system can: address, offset and length of every write
    /// are multiples of the page size.
    Direct,
    /// Through the page cache, in any piece.
    Cached,
}

/// Whether a hole could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Punched {
    /// The space is free.
    Done,
    /// This file system cannot.
    Unsupported,
}

/// One directory of files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// The names in the directory.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A new, empty file; an error if the name is taken.
    fn create(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// A file that exists.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Puts `from` in the place of `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; one that does not exist is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what was created, renamed and removed durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes of the file system that an unprivileged process can still fill.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Whether space can be given back in the middle of a file here.
    fn punches(&self) -> bool {
        true
    }
    /// Bytes set aside on this file system by all stores of this process: two volumes on one disk must not promise
    /// the same free bytes. Asked for once by each.
    fn reservations(&self) -> Arc<Mutex<u64>> {
        Arc::default()
    }
}

/// One open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads until the buffer is full or the file ends.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads what the disk has, past the page cache where it can be told apart, until the buffer is full or the file
    /// ends. Address, offset and length are multiples of the page size.
    fn read_disk_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }
    /// Reads what the page cache holds, without waiting for the disk: 0 if it holds nothing.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> usize;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Says that nothing is appended any more: what only that needs is let go of.
    fn settle(&self) {}
    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Sets the length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Gives back the space of a range; it reads as zeros afterwards.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<Punched>;
    /// Sets space aside for a range without changing the length. Where a file system cannot, nothing happens.
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Bytes taken on the disk.
    fn allocated(&self) -> io::Result<u64>;
    /// Whether any of a range has space on the disk; `true` where that cannot be known.
    fn holds_data(&self, offset: u64, bytes: u64) -> io::Result<bool>;
    /// Maps a range that is in the file, from a page boundary; none where that cannot be done.
    fn map(&self, _offset: u64, _bytes: u64) -> Option<Mapping> {
        None
    }
    /// Forgets cached pages that are clean, so that reads show what the disk has. After a failed
    /// fsync the cache holds bytes that the disk does not.
    fn drop_cache(&self);
}
