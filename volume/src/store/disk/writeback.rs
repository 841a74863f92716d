//! Bytes on their way to the disk before anybody waits for them: where a file system has no O_DIRECT, what is written
//! goes through the page cache, and without this the sync at the end of a value would have all of it to write.
#![expect(unsafe_code, reason = "sync_file_range has no safe form")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Begins to write a range of the page cache to the disk and does not wait for it. What does not begin now is written
/// by the sync that follows, and only that makes it durable.
///
/// # Errors
/// When the disk has one to tell. A file system that cannot do this is none.
pub(super) fn begin(file: &impl AsFd, offset: u64, bytes: usize) -> io::Result<()> {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else { return Ok(()) };
    // SAFETY: the descriptor is open as long as it is borrowed, and the call touches no memory of ours.
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
