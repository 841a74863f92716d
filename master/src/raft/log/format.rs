//! The byte layout of the log, known to this file alone. Little endian.
//!
//! ```text
//! segment   0 "BARGELOG" 8 │ 8 version u32 │ 12 CRC32C of 0..12 and 16.. │ 16 salt 16 │ 32 first index u64
//!           40 length of the rest u32 │ 44 log id before the first, postcard
//! frame     0 length of the body u32 │ 4 CRC32C of salt, offset in the file, 0..4, 8.. │ 8 index u64
//!           16 batch u64 │ 24 bytes since the batch began u32 │ 28 kind u8 │ 29 zero 3 │ 32 body, postcard
//! state     0 "BARGEVOT" or so 8 │ 8 version u32 │ 12 CRC32C of 0..12 and 16.. │ 16 length u32 │ 20 postcard
//! ```
//!
//! Kinds: 1 entry, 2 truncate (index: the first void entry; no body). A batch is what one write and one sync make
//! durable. Each frame says where its batch began, so a good frame after a bad one shows whether the bad one had been
//! durable. The CRC covers salt and offset, so that a frame of another file or position fails it.

use openraft::{LogId, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::crc32c::crc32c_of;
use shared::limits::RAFT_LOG_ENTRY_BYTES_MAX;

use super::error::Corruption;

/// The format version of all files.
pub(super) const VERSION: u32 = 1;
/// The length of a frame without its body.
pub(super) const FRAME_HEADER_BYTES: usize = 32;
const SEGMENT_MAGIC: &[u8; 8] = b"BARGELOG";
const SEGMENT_FIXED_BYTES: usize = 44;
const STATE_FIXED_BYTES: usize = 20;

/// Random bytes, drawn for each segment.
pub(super) type Salt = [u8; 16];

/// An error that concerns a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileError {
    Corrupt(u64, Corruption),
    OtherVersion(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader<N: NodeId> {
    pub(super) salt: Salt,
    pub(super) first: u64,
    /// The entry before `first`, which may be purged.
    pub(super) previous: Option<LogId<N>>,
}

impl<N: NodeId> SegmentHeader<N> {
    pub(super) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let previous = postcard::to_stdvec(&self.previous)?;
        let length = u32::try_from(previous.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
        let mut out = preamble(SEGMENT_MAGIC);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&previous);
        put_checksum(&mut out);
        Ok(out)
    }

    /// Returns the header and its length.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), FileError> {
        let corrupt = FileError::Corrupt(0, Corruption::Header);
        if bytes.len() < SEGMENT_FIXED_BYTES || bytes[..8] != SEGMENT_MAGIC[..] {
            return Err(corrupt);
        }
        let rest = usize::try_from(u32_at(bytes, 40)).unwrap_or(usize::MAX);
        let Some(bytes) = SEGMENT_FIXED_BYTES.checked_add(rest).and_then(|end| bytes.get(..end)) else {
            return Err(corrupt);
        };
        check(bytes)?;
        let previous = postcard::from_bytes(&bytes[SEGMENT_FIXED_BYTES..])
            .map_err(|_| FileError::Corrupt(44, Corruption::Content))?;
        Ok((Self { salt: array_at(bytes, 16), first: u64_at(bytes, 32), previous }, bytes.len()))
    }
}

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    /// This entry and all after it are void.
    Truncate,
}

/// A frame without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) index: u64,
    /// The number of its batch.
    pub(super) batch: u64,
    /// Bytes since the beginning of the batch.
    pub(super) since: u32,
}

impl Frame {
    /// Appends the frame to `out`. `offset` is its position in the file, `length` that of `body` in bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>, salt: &Salt, offset: u64, length: u32, body: &[u8]) {
        let mut header = [0; FRAME_HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[8..16].copy_from_slice(&self.index.to_le_bytes());
        header[16..24].copy_from_slice(&self.batch.to_le_bytes());
        header[24..28].copy_from_slice(&self.since.to_le_bytes());
        header[28] = match self.kind {
            Kind::Entry => 1,
            Kind::Truncate => 2,
        };
        let crc = crc32c_of(&[salt, &offset.to_le_bytes(), &header[..4], &header[8..], body]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(body);
    }

    /// Decodes the frame at the start of `bytes`, which are at `offset` in the file. `None`: torn, corrupt
    /// or no frame.
    pub(super) fn decode<'a>(bytes: &'a [u8], salt: &Salt, offset: u64) -> Option<(Self, &'a [u8])> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        let kind = match header[28..32] {
            [1, 0, 0, 0] => Kind::Entry,
            [2, 0, 0, 0] => Kind::Truncate,
            _ => return None,
        };
        let length = usize::try_from(u32_at(header, 0)).ok().filter(|l| *l <= RAFT_LOG_ENTRY_BYTES_MAX)?;
        let body = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length)?;
        if crc32c_of(&[salt, &offset.to_le_bytes(), &header[..4], &header[8..], body]) != u32_at(header, 4) {
            return None;
        }
        let frame =
            Self { kind, index: u64_at(header, 8), batch: u64_at(header, 16), since: u32_at(header, 24) };
        Some((frame, body))
    }
}

/// Small files that are replaced whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateFile {
    Vote,
    /// The last purged log id.
    Purged,
    /// A `begin_at` in progress: log id and vote.
    Begin,
}

impl StateFile {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Vote => b"BARGEVOT",
            Self::Purged => b"BARGEPUR",
            Self::Begin => b"BARGEBEG",
        }
    }

    pub(super) fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, postcard::Error> {
        let body = postcard::to_stdvec(value)?;
        let length = u32::try_from(body.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
        let mut out = preamble(self.magic());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&body);
        put_checksum(&mut out);
        Ok(out)
    }

    pub(super) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, FileError> {
        if bytes.len() < STATE_FIXED_BYTES || bytes[..8] != self.magic()[..] {
            return Err(FileError::Corrupt(0, Corruption::Header));
        }
        check(bytes)?;
        if usize::try_from(u32_at(bytes, 16)) != Ok(bytes.len() - STATE_FIXED_BYTES) {
            return Err(FileError::Corrupt(16, Corruption::Content));
        }
        postcard::from_bytes(&bytes[STATE_FIXED_BYTES..])
            .map_err(|_| FileError::Corrupt(20, Corruption::Content))
    }
}

fn preamble(magic: &[u8; 8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(magic);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

fn put_checksum(file: &mut [u8]) {
    let crc = crc32c_of(&[&file[..12], &file[16..]]);
    file[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Checks the checksum before the version: corruption must not look like another version.
fn check(file: &[u8]) -> Result<(), FileError> {
    if crc32c_of(&[&file[..12], &file[16..]]) != u32_at(file, 12) {
        return Err(FileError::Corrupt(0, Corruption::Checksum));
    }
    match u32_at(file, 8) {
        VERSION => Ok(()),
        other => Err(FileError::OtherVersion(other)),
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a range of N bytes is N bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use openraft::testing::log_id;

    use super::*;

    #[test]
    fn the_layout_stays_as_it_is() {
        let header = SegmentHeader { salt: [7; 16], first: 5, previous: Some(log_id(2, 3, 4)) };
        let bytes = header.encode().unwrap();
        assert_eq!(hex(&bytes), GOLDEN_HEADER);
        assert_eq!(SegmentHeader::<u64>::decode(&bytes), Ok((header, bytes.len())));
        let mut out = Vec::new();
        let frame = Frame { kind: Kind::Entry, index: 5, batch: 9, since: 0 };
        frame.encode(&mut out, &[7; 16], 48, 3, b"abc");
        assert_eq!(hex(&out), GOLDEN_FRAME);
        assert_eq!(Frame::decode(&out, &[7; 16], 48), Some((frame, &b"abc"[..])));
        assert_eq!(Frame::decode(&out, &[7; 16], 49), None, "another place");
        assert_eq!(Frame::decode(&out, &[8; 16], 48), None, "another file");
        let vote = StateFile::Vote.encode(&openraft::Vote::<u64>::new(3, 1)).unwrap();
        assert_eq!(hex(&vote), GOLDEN_VOTE);
        assert!(StateFile::Purged.decode::<LogId<u64>>(&vote).is_err(), "a vote is no log id");
    }

    #[test]
    fn another_version_is_said_so() {
        let mut bytes = StateFile::Purged.encode(&log_id::<u64>(1, 1, 1)).unwrap();
        bytes[8] = 9;
        assert_eq!(
            StateFile::Purged.decode::<LogId<u64>>(&bytes),
            Err(FileError::Corrupt(0, Corruption::Checksum))
        );
        put_checksum(&mut bytes);
        assert_eq!(StateFile::Purged.decode::<LogId<u64>>(&bytes), Err(FileError::OtherVersion(9)));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    const GOLDEN_HEADER: &str =
        "42415247454c4f4701000000860a255e0707070707070707070707070707070705000000000000000400000001020304";
    const GOLDEN_FRAME: &str = "030000001cd8a68e050000000000000009000000000000000000000001000000616263";
    const GOLDEN_VOTE: &str = "4241524745564f5401000000e85a134303000000030100";
}
