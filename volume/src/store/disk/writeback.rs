//! Bytes on their way to the disk before anybody waits for them: where a file system has no O_DIRECT, what is written
//! goes through the page cache, and the sync at the end of a value would find all of it still there.
#![expect(unsafe_code, reason = "sync_file_range has no safe form")]

use std::os::fd::{AsFd, AsRawFd};

/// Begins to write a range of the page cache to the disk and does not wait for it. A hint: what does not begin now is
/// written by the sync that follows, and only that makes it durable.
pub(super) fn begin(file: &impl AsFd, offset: u64, bytes: usize) {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else { return };
    // SAFETY: the descriptor is open as long as it is borrowed, and the call touches no memory of ours.
    unsafe {
        libc::sync_file_range(file.as_fd().as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE);
    }
}
