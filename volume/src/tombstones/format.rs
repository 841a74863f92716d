//! The layout of the tombstones' file: a header, and entries of one size.
//!
//! ```text
//! header  0 "BARGETMB" 8 │ 8 version u32 │ 12 zero u32 │ 16 volume 16 │ 32 edition u64 │ 40 zeros
//!         60 CRC32C of 0..60
//! entry   0 kind u8: 1 deleted, 2 refused │ 1 zeros │ 4 key's hash 16, or zeros │ 20 blob 16
//!         36 CRC32C of volume, the entry's number u64 and 0..36
//! expiry  0 kind u8: 3 │ 1 zeros │ 4 expires ms u64, or ones for never │ 12 revision u32 │ 16 zeros │ 20 blob 16
//!         36 CRC32C, as above
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use shared::clock::Timestamp;
use shared::crc32c::crc32c_of;
use shared::ids::{BlobId, VolumeId};
use shared::tombstone::{BlobExpiry, KeyHash, Tombstone};

use super::TombstoneError;

const MAGIC: &[u8; 8] = b"BARGETMB";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const ENTRY_BYTES: usize = 40;
pub(super) const HEADER: u64 = HEADER_BYTES as u64;
pub(super) const ENTRY: u64 = ENTRY_BYTES as u64;
/// Entries read at once.
pub(super) const READ_ENTRIES: u64 = 4096;

pub(super) fn crc(pieces: &[&[u8]]) -> [u8; 4] {
    crc32c_of(pieces).to_le_bytes()
}

pub(super) fn header(volume: VolumeId, edition: u64) -> Vec<u8> {
    let mut out = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4], volume.as_bytes()].concat();
    out.extend(edition.to_le_bytes());
    out.resize(HEADER_BYTES - 4, 0);
    let sum = crc(&[&out]);
    out.extend(sum);
    out
}

/// Returns the edition. A corrupt header is rewritten: each entry has its own checksum.
pub(super) fn check_header(
    file: &File,
    volume: VolumeId,
    path: &Path,
    now: Timestamp,
) -> Result<u64, TombstoneError> {
    let io = |source| TombstoneError::Io { path: path.to_owned(), source };
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_exact_at(&mut bytes, 0);
    let whole = read.is_ok()
        && bytes[..8] == *MAGIC
        && bytes[HEADER_BYTES - 4..] == crc(&[&bytes[..HEADER_BYTES - 4]]);
    if !whole {
        match read {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(io(e)),
            _ => tracing::warn!("the header of the tombstones was corrupt and has been rewritten"),
        }
        let edition = now.unix_ms();
        file.write_all_at(&header(volume, edition), 0).and_then(|()| file.sync_all()).map_err(io)?;
        return Ok(edition);
    }
    let found = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if found != VERSION {
        return Err(TombstoneError::OtherVersion { path: path.to_owned(), found });
    }
    if bytes[16..32] != volume.as_bytes()[..] {
        return Err(TombstoneError::Stranger(path.to_owned()));
    }
    let mut edition = [0; 8];
    edition.copy_from_slice(&bytes[32..40]);
    Ok(u64::from_le_bytes(edition))
}

pub(super) fn encode(tombstone: &Tombstone, volume: VolumeId, number: u64) -> [u8; ENTRY_BYTES] {
    let mut out = [0; ENTRY_BYTES];
    match tombstone {
        Tombstone::Deleted { key, generation } => {
            out[0] = 1;
            out[4..20].copy_from_slice(key.as_bytes());
            out[20..36].copy_from_slice(generation.as_bytes());
        }
        Tombstone::Refused { blob } => {
            out[0] = 2;
            out[20..36].copy_from_slice(blob.as_bytes());
        }
        Tombstone::Expires(BlobExpiry { blob, at, revision }) => {
            out[0] = 3;
            out[4..12].copy_from_slice(&at.map_or(u64::MAX, Timestamp::unix_ms).to_le_bytes());
            out[12..16].copy_from_slice(&revision.to_le_bytes());
            out[20..36].copy_from_slice(blob.as_bytes());
        }
    }
    let sum = crc(&[volume.as_bytes(), &number.to_le_bytes(), &out[..36]]);
    out[36..].copy_from_slice(&sum);
    out
}

pub(super) fn decode(bytes: &[u8], volume: VolumeId, number: u64) -> Option<Tombstone> {
    if bytes[36..] != crc(&[volume.as_bytes(), &number.to_le_bytes(), &bytes[..36]]) {
        return None;
    }
    let blob = BlobId::from_bytes(bytes[20..36].try_into().ok()?).ok()?;
    match bytes[0] {
        1 => Some(Tombstone::Deleted {
            key: KeyHash::from_bytes(bytes[4..20].try_into().ok()?),
            generation: blob,
        }),
        2 => Some(Tombstone::Refused { blob }),
        3 => {
            let ms = u64::from_le_bytes(bytes[4..12].try_into().ok()?);
            let at = (ms != u64::MAX).then(|| Timestamp::from_unix_ms(ms));
            let revision = u32::from_le_bytes(bytes[12..16].try_into().ok()?);
            Some(Tombstone::Expires(BlobExpiry { blob, at, revision }))
        }
        _ => None,
    }
}

/// Calls `tell` for the entries `from..to` with the number and the tombstone, `None` for a corrupt one.
pub(super) fn each(
    file: &File,
    volume: VolumeId,
    from: u64,
    to: u64,
    mut tell: impl FnMut(u64, Option<Tombstone>) -> io::Result<()>,
) -> io::Result<()> {
    let mut next = from;
    let mut bytes = Vec::new();
    while next < to {
        let end = to.min(next + READ_ENTRIES);
        bytes.resize(usize::try_from((end - next) * ENTRY).unwrap_or(0), 0);
        file.read_exact_at(&mut bytes, HEADER + next * ENTRY)?;
        for (number, entry) in (next..).zip(bytes.chunks_exact(ENTRY_BYTES)) {
            tell(number, decode(entry, volume, number))?;
        }
        next = end;
    }
    Ok(())
}
