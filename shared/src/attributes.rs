//! Attributes of an object besides value and metadata: the entity tag and checksums that S3 clients compute,
//! too, and tags.
//!
//! Nothing here is trusted for integrity: bytes are always verified by BLAKE3 and block checksums.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// S3's entity tag (`ETag` of PutObject and CompleteMultipartUpload in the S3 API reference).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Etag {
    /// MD5 of the bytes.
    Md5([u8; 16]),
    /// MD5 of the parts' MD5 sums, and the number of parts.
    Parts([u8; 16], u16),
}

/// The text between the quotes.
impl std::fmt::Display for Etag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Md5(sum) => f.write_str(&hex(sum)),
            Self::Parts(sum, parts) => write!(f, "{}-{parts}", hex(sum)),
        }
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The checksum algorithm that a client asked for (S3: `ChecksumAlgorithm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// CRC-32 of zlib.
    Crc32,
    /// CRC-32C of Castagnoli.
    Crc32c,
    /// CRC-64 of NVMe: S3's default, if the client names none.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512; this and the following are for objects in one piece only.
    Sha512,
    /// MD5 as a checksum, beside the entity tag.
    Md5,
    /// XXH64 with the seed 0.
    Xxhash64,
    /// XXH3 of 64 bits.
    Xxhash3,
    /// XXH3 of 128 bits.
    Xxhash128,
}

/// A checksum of an object as S3 shows it (S3 user guide, "Checking object integrity").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// The algorithm that computed it.
    pub algorithm: Algorithm,
    /// The number of parts, for the checksum of their checksums (S3: `COMPOSITE`). `None`: of
    /// all bytes (`FULL_OBJECT`).
    pub composite: Option<u16>,
    /// Big endian, as the algorithm prints it.
    pub sum: Vec<u8>,
}

/// S3 attributes of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// `None`: the entity tag is derived from the value's BLAKE3.
    pub etag: Option<Etag>,
    /// `None`: it was not stored by an S3 client.
    pub checksum: Option<Checksum>,
    /// Names and values, in order of arrival.
    pub tags: Vec<(String, String)>,
}
