//! Bit rot in files that a running volume serves.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use shared::limits::PAGE_BYTES;

/// Bodies begin at pages, and so many bytes tell one from all others.
const NEEDLE: usize = 64;

/// Flips a bit of the record whose body begins as `value` does, `offset` bytes from the body's beginning (its header
/// is before it, its trailer behind it); false when it is in none of the segments.
///
/// # Panics
/// When a segment cannot be written.
pub fn flip(volume: &Path, value: &[u8], offset: i64) -> bool {
    let needle = &value[..value.len().min(NEEDLE)];
    for entry in fs::read_dir(volume.join("segments")).into_iter().flatten().flatten() {
        // A segment may go while we look.
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        let found = bytes.chunks(PAGE_BYTES).position(|page| page.starts_with(needle));
        let Some(page) = found else { continue };
        let Ok(file) = OpenOptions::new().read(true).write(true).open(entry.path()) else { continue };
        let at = ((page * PAGE_BYTES) as u64).checked_add_signed(offset).expect("a place in the segment");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte of the record");
        file.write_all_at(&[byte[0] ^ 0x10], at).expect("it can be written");
        return true;
    }
    false
}
