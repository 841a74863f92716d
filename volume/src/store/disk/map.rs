//! Memory-mapped pages of a file: bytes that can be sent without a copy.
//!
//! Only the kernel accesses mapped bytes, when `writev` sends them to a socket: if the disk cannot read them, that
//! call fails, and there is no SIGBUS. Bytes that must be copied first (for TLS) must not come from here.
#![expect(unsafe_code, reason = "mapping a file, and asking which of its pages are there, have no safe form")]

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use memmap2::{Advice, Mmap, MmapOptions};
use shared::limits::PAGE_BYTES;

/// A mapped range of a file.
#[derive(Clone, Debug)]
pub struct Mapping(Arc<Mmap>);

/// A part of a mapping, which keeps the mapping alive.
#[derive(Debug)]
pub struct MappedPart {
    mapping: Mapping,
    from: usize,
    to: usize,
}

impl Mapping {
    /// Maps a range of the file, from a page boundary.
    ///
    /// # Errors
    /// When the kernel returns one.
    pub(super) fn new(file: &impl AsFd, offset: u64, bytes: usize) -> io::Result<Self> {
        // SAFETY: every holder of a part of the mapping pins the record; a pinned record never changes, and its file
        // is never truncated before its end. If another process changes the file, only unverified answers change: the
        // bytes are never read here.
        let map = unsafe { MmapOptions::new().offset(offset).len(bytes).map(file.as_fd().as_raw_fd())? };
        Ok(Self(Arc::new(map)))
    }

    /// Whether all of a range is in the page cache.
    pub fn is_resident(&self, from: usize, to: usize) -> bool {
        let (from, to) = (from / PAGE_BYTES * PAGE_BYTES, to.min(self.0.len()));
        let mut pages = vec![0_u8; to.saturating_sub(from).div_ceil(PAGE_BYTES)];
        // SAFETY: the range lies in the mapping, begins at a page, and there is a byte for each of its pages.
        let asked = unsafe {
            libc::mincore(
                self.0.as_ptr().wrapping_add(from).cast_mut().cast(),
                to.saturating_sub(from),
                pages.as_mut_ptr(),
            )
        };
        asked == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    /// Loads a range into memory, and waits for it.
    ///
    /// # Errors
    /// When the disk returns one.
    pub fn load(&self, from: usize, to: usize) -> io::Result<()> {
        let (from, to) = (from / PAGE_BYTES * PAGE_BYTES, to.min(self.0.len()));
        match self.0.advise_range(Advice::PopulateRead, from, to.saturating_sub(from)) {
            // Not supported before Linux 5.14: then sending loads the pages.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            loaded => loaded,
        }
    }

    pub fn part(&self, from: usize, to: usize) -> MappedPart {
        MappedPart { mapping: self.clone(), from, to: to.min(self.0.len()) }
    }
}

impl AsRef<[u8]> for MappedPart {
    fn as_ref(&self) -> &[u8] {
        &self.mapping.0[self.from..self.to]
    }
}
