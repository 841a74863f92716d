//! Early writeback: without O_DIRECT, writes go through the page cache, and the sync at the end of a value would have
//! to write all of it.
#![expect(unsafe_code, reason = "sync_file_range has no safe form")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Starts to write a range of the page cache to the disk, without waiting. Only the sync that follows makes it
/// durable, and writes the rest.
///
/// # Errors
/// When the disk returns one. A file system that does not support this is no error.
pub(super) fn begin(file: &impl AsFd, offset: u64, bytes: usize) -> io::Result<()> {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else { return Ok(()) };
    // SAFETY: the descriptor stays open while it is borrowed, and the call accesses no memory of this process.
    let outcome = unsafe {
        libc::sync_file_range(file.as_fd().as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE)
    };
    if outcome == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}
