//! The applied index at the last checkpoint, in a small file beside sled. sled takes a corrupt byte for the end of
//! its log, whatever follows: it opens without an error, with the keys of an earlier day. A master on such tables
//! would delete all newer values as orphans. The mark reveals the loss.
//!
//! 16 bytes: applied u64 │ CRC32C u32 of the 8 before │ zeros. Written after each sync but not synced itself: after a
//! power cut it may be older than the tables, never newer. A missing or torn mark is ignored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use shared::crc32c::crc32c;

const BYTES: usize = 16;
/// A file with the same content that marks a clean shutdown. It is synced, and removed at the next start.
const CLOSED: &str = "closed";
/// Name of the mark in the metadata directory.
pub(crate) const FILE: &str = "applied";

#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// Opens or creates the mark; returns its value if it is intact.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Option<u64>)> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(folder.join(FILE))?;
        let mut bytes = [0; BYTES];
        let whole = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(e) => return Err(e),
        };
        Ok((Self(file), whole.then(|| decode(bytes)).flatten()))
    }

    /// Records that `applied` commands are durable in the tables.
    pub(super) fn set(&self, applied: u64) {
        if let Err(error) = self.0.write_all_at(&encode(applied), 0) {
            tracing::warn!(%error, "the applied index could not be written to its mark file");
        }
    }
}

/// Records durably that the tables were closed after `applied` commands.
pub(super) fn set_closed(folder: &Path, applied: u64) -> io::Result<()> {
    let file = File::create(folder.join(CLOSED))?;
    file.write_all_at(&encode(applied), 0)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Returns after how many commands the tables were closed cleanly, and removes that record.
pub(super) fn take_closed(folder: &Path) -> io::Result<Option<u64>> {
    let path = folder.join(CLOSED);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    std::fs::remove_file(&path)?;
    File::open(folder)?.sync_all()?;
    Ok(bytes.try_into().ok().and_then(decode))
}

fn decode(bytes: [u8; BYTES]) -> Option<u64> {
    let (applied, _) = bytes.split_first_chunk()?;
    let applied = u64::from_le_bytes(*applied);
    (encode(applied) == bytes).then_some(applied)
}

fn encode(applied: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&applied.to_le_bytes());
    let sum = crc32c(&bytes[..8]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_set_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mark, before) = Mark::open(dir.path()).unwrap();
        assert_eq!(before, None);
        mark.set(7);
        mark.set(300);
        assert_eq!(Mark::open(dir.path()).unwrap().1, Some(300));
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(dir.path().join(FILE), &bytes).unwrap();
            assert_eq!(Mark::open(dir.path()).unwrap().1, None);
            std::fs::write(dir.path().join(FILE), &whole[..at]).unwrap();
            assert_eq!(Mark::open(dir.path()).unwrap().1, None);
        }
    }

    #[test]
    fn what_was_closed_is_open_after_one_look() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take_closed(dir.path()).unwrap(), None);
        set_closed(dir.path(), 7).unwrap();
        assert_eq!(take_closed(dir.path()).unwrap(), Some(7));
        assert_eq!(take_closed(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join(CLOSED), b"torn").unwrap();
        assert_eq!(take_closed(dir.path()).unwrap(), None);
    }
}
