//! The checksums that S3 clients compute (S3 user guide, "Checking object integrity"): their names, sums of bytes as they come,
//! and of pieces that are joined.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use shared::attributes::{Algorithm, Checksum};

use super::combine::Combiner;

/// All algorithms, and the header of each.
pub const ALGORITHMS: [(Algorithm, &str, &str); 5] = [
    (Algorithm::Crc32, "x-amz-checksum-crc32", "CRC32"),
    (Algorithm::Crc32c, "x-amz-checksum-crc32c", "CRC32C"),
    (Algorithm::Crc64Nvme, "x-amz-checksum-crc64nvme", "CRC64NVME"),
    (Algorithm::Sha1, "x-amz-checksum-sha1", "SHA1"),
    (Algorithm::Sha256, "x-amz-checksum-sha256", "SHA256"),
];

/// As S3 calls it.
pub fn name(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.iter().find(|(a, ..)| *a == algorithm).map_or("", |(.., name)| name)
}

/// By S3's name.
pub fn named(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(.., n)| n.eq_ignore_ascii_case(name)).map(|(a, ..)| *a)
}

/// Bytes of its sum.
pub fn sum_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c => 4,
        Algorithm::Crc64Nvme => 8,
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
    }
}

/// One algorithm under way.
pub enum Hasher {
    /// One of the three CRCs.
    Crc(Algorithm, Box<Crc>),
    /// SHA-1.
    Sha1(Sha1),
    /// SHA-256.
    Sha256(Sha256),
}

impl Hasher {
    /// Of nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let crc = |kind| Self::Crc(algorithm, Box::new(Crc::new(kind)));
        match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    /// Takes in bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, crc) => crc.update(bytes),
            Self::Sha1(sha) => sha.update(bytes),
            Self::Sha256(sha) => sha.update(bytes),
        }
    }

    /// The sum, big endian.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(algorithm, crc) => crc.finalize().to_be_bytes()[8 - sum_bytes(algorithm)..].to_vec(),
            Self::Sha1(sha) => sha.finalize().to_vec(),
            Self::Sha256(sha) => sha.finalize().to_vec(),
        }
    }
}

/// Base64 of so many bytes.
pub fn decoded(text: &[u8], bytes: usize) -> Option<Vec<u8>> {
    BASE64.decode(text.trim_ascii()).ok().filter(|d| d.len() == bytes)
}

/// As it stands in headers and XML.
pub fn encoded(sum: &[u8]) -> String {
    BASE64.encode(sum)
}

/// What joins sums of this algorithm; none where that cannot be done.
pub fn combiner(algorithm: Algorithm) -> Option<Combiner> {
    match algorithm {
        Algorithm::Crc32 => Some(Combiner::new(0xedb8_8320, 32)),
        Algorithm::Crc32c => Some(Combiner::new(0x82f6_3b78, 32)),
        Algorithm::Crc64Nvme => Some(Combiner::new(0x9a6c_9329_ac4b_c9b5, 64)),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    }
}

/// The sum of bytes of which those of the pieces are known, with their lengths; none for algorithms that cannot do that.
pub fn joined(algorithm: Algorithm, sums: &[(&[u8], u64)]) -> Option<Vec<u8>> {
    let combiner = combiner(algorithm)?;
    let number = |sum: &[u8]| sum.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let mut pieces = sums.iter().map(|(sum, length)| (number(sum), *length));
    let (first, _) = pieces.next()?;
    let whole = pieces.fold(first, |whole, (sum, length)| combiner.combine(whole, sum, length));
    Some(whole.to_be_bytes()[8 - sum_bytes(algorithm)..].to_vec())
}

/// Adds the checksum of a part of an object to the headers of an answer; `whole` is the object's.
pub fn show_part(part: &Checksum, whole: &Checksum, headers: &mut HeaderMap) {
    show(part, headers);
    if whole.composite.is_some() {
        headers.insert("x-amz-checksum-type", HeaderValue::from_static("COMPOSITE"));
    }
}

/// Adds a checksum to the headers of an answer.
pub fn show(found: &Checksum, headers: &mut HeaderMap) {
    let name = ALGORITHMS.iter().find(|(a, ..)| *a == found.algorithm).map(|(_, header, _)| *header);
    let sum = encoded(&found.sum);
    let (text, kind) = match found.composite {
        Some(parts) => (format!("{sum}-{parts}"), "COMPOSITE"),
        None => (sum, "FULL_OBJECT"),
    };
    if let (Some(name), Ok(value)) = (name, HeaderValue::from_str(&text)) {
        headers.insert(HeaderName::from_static(name), value);
        headers.insert("x-amz-checksum-type", HeaderValue::from_static(kind));
    }
}
