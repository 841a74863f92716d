//! Bit rot in files that a running volume serves.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use shared::limits::PAGE_BYTES;

/// Bodies start at pages; this many bytes tell one from all others.
const NEEDLE: usize = 64;

/// Flips a bit of the record whose body starts like `value`, `offset` bytes from the start of the body (the header
/// is before it, the trailer after it). Returns false if no segment holds the body.
///
/// # Panics
/// If a segment cannot be written.
pub fn flip(volume: &Path, value: &[u8], offset: i64) -> bool {
    let needle = &value[..value.len().min(NEEDLE)];
    for entry in fs::read_dir(volume.join("segments")).into_iter().flatten().flatten() {
        // A segment may be removed meanwhile.
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
