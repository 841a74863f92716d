//! The checksum algorithms of S3 (S3 user guide, "Checking object integrity"): names, streaming computation, and
//! combination of pieces.

use std::hash::Hasher as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use http::{HeaderMap, HeaderName, HeaderValue};
use md5::Md5;
use sha1::{Digest as _, Sha1};
use sha2::{Sha256, Sha512};
use shared::attributes::{Algorithm, Checksum};
use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

use crate::s3::checksums::crc_combine::Combiner;

/// All algorithms, each with its header and its name in S3.
pub const ALGORITHMS: [(Algorithm, &str, &str); 10] = [
    (Algorithm::Crc32, "x-amz-checksum-crc32", "CRC32"),
    (Algorithm::Crc32c, "x-amz-checksum-crc32c", "CRC32C"),
    (Algorithm::Crc64Nvme, "x-amz-checksum-crc64nvme", "CRC64NVME"),
    (Algorithm::Sha1, "x-amz-checksum-sha1", "SHA1"),
    (Algorithm::Sha256, "x-amz-checksum-sha256", "SHA256"),
    (Algorithm::Sha512, "x-amz-checksum-sha512", "SHA512"),
    (Algorithm::Md5, "x-amz-checksum-md5", "MD5"),
    (Algorithm::Xxhash64, "x-amz-checksum-xxhash64", "XXHASH64"),
    (Algorithm::Xxhash3, "x-amz-checksum-xxhash3", "XXHASH3"),
    (Algorithm::Xxhash128, "x-amz-checksum-xxhash128", "XXHASH128"),
];

/// Returns whether the library has no field for it: supported in headers only, and not in multipart uploads.
pub fn only_in_headers(algorithm: Algorithm) -> bool {
    use Algorithm::{Md5, Sha512, Xxhash3, Xxhash64, Xxhash128};
    matches!(algorithm, Sha512 | Md5 | Xxhash64 | Xxhash3 | Xxhash128)
}

/// Returns whether computing it takes longer than handing the bytes to another thread.
pub fn is_slow(algorithm: Algorithm) -> bool {
    use Algorithm::{Md5, Sha1, Sha256, Sha512};
    matches!(algorithm, Sha1 | Sha256 | Sha512 | Md5)
}

pub fn name(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.iter().find(|(a, ..)| *a == algorithm).map_or("", |(.., name)| name)
}

/// Finds an algorithm by S3's name, in any case.
pub fn named(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(.., n)| n.eq_ignore_ascii_case(name)).map(|(a, ..)| *a)
}

/// Returns the length of its checksum in bytes.
pub fn sum_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c => 4,
        Algorithm::Crc64Nvme | Algorithm::Xxhash64 | Algorithm::Xxhash3 => 8,
        Algorithm::Md5 | Algorithm::Xxhash128 => 16,
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
        Algorithm::Sha512 => 64,
    }
}

/// A running checksum.
pub enum Hasher {
    /// One of the three CRCs.
    Crc(Algorithm, Box<Crc>),
    Sha1(Sha1),
    Sha256(Sha256),
    /// SHA-512; boxed, for its state is the largest.
    Sha512(Box<Sha512>),
    /// MD5 of one body at a time, since few clients ask for it.
    Md5(Md5),
    /// XXH64 with seed 0, as the other two.
    Xxhash64(Box<XxHash64>),
    Xxhash3(Box<XxHash3_64>),
    Xxhash128(Box<XxHash3_128>),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        let crc = |kind| Self::Crc(algorithm, Box::new(Crc::new(kind)));
        match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Xxhash64 => Self::Xxhash64(Box::new(XxHash64::with_seed(0))),
            Algorithm::Xxhash3 => Self::Xxhash3(Box::new(XxHash3_64::with_seed(0))),
            Algorithm::Xxhash128 => Self::Xxhash128(Box::new(XxHash3_128::with_seed(0))),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, crc) => crc.update(bytes),
            Self::Sha1(sha) => sha.update(bytes),
            Self::Sha256(sha) => sha.update(bytes),
            Self::Sha512(sha) => sha.update(bytes),
            Self::Md5(md5) => md5.update(bytes),
            Self::Xxhash64(hash) => hash.write(bytes),
            Self::Xxhash3(hash) => hash.write(bytes),
            Self::Xxhash128(hash) => hash.write(bytes),
        }
    }

    /// Returns the checksum, big-endian.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(algorithm, crc) => crc.finalize().to_be_bytes()[8 - sum_bytes(algorithm)..].to_vec(),
            Self::Sha1(sha) => sha.finalize().to_vec(),
            Self::Sha256(sha) => sha.finalize().to_vec(),
            Self::Sha512(sha) => sha.finalize().to_vec(),
            Self::Md5(md5) => md5.finalize().to_vec(),
            Self::Xxhash64(hash) => hash.finish().to_be_bytes().to_vec(),
            Self::Xxhash3(hash) => hash.finish().to_be_bytes().to_vec(),
            Self::Xxhash128(hash) => hash.finish_128().to_be_bytes().to_vec(),
        }
    }
}

/// Decodes base64 of exactly `bytes` bytes.
pub fn decoded(text: &[u8], bytes: usize) -> Option<Vec<u8>> {
    BASE64.decode(text.trim_ascii()).ok().filter(|d| d.len() == bytes)
}

/// Encodes a checksum in base64, as in headers and XML.
pub fn encoded(sum: &[u8]) -> String {
    BASE64.encode(sum)
}

/// Returns the combiner for a CRC; none for other algorithms.
pub fn combiner(algorithm: Algorithm) -> Option<Combiner> {
    match algorithm {
        Algorithm::Crc32 => Some(Combiner::new(0xedb8_8320, 32)),
        Algorithm::Crc32c => Some(Combiner::new(0x82f6_3b78, 32)),
        Algorithm::Crc64Nvme => Some(Combiner::new(0x9a6c_9329_ac4b_c9b5, 64)),
        _ => None,
    }
}

/// Combines the checksums of consecutive pieces, given with their lengths; none for algorithms that cannot do that.
pub fn joined(algorithm: Algorithm, sums: &[(&[u8], u64)]) -> Option<Vec<u8>> {
    let combiner = combiner(algorithm)?;
    let number = |sum: &[u8]| sum.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let mut pieces = sums.iter().map(|(sum, length)| (number(sum), *length));
    let (first, _) = pieces.next()?;
    let whole = pieces.fold(first, |whole, (sum, length)| combiner.combine(whole, sum, length));
    Some(whole.to_be_bytes()[8 - sum_bytes(algorithm)..].to_vec())
}

/// Adds the checksum of a part to the headers of a response; `whole` is that of the object.
pub fn show_part(part: &Checksum, whole: &Checksum, headers: &mut HeaderMap) {
    show(part, headers);
    if whole.composite.is_some() {
        headers.insert("x-amz-checksum-type", HeaderValue::from_static("COMPOSITE"));
    }
}

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

#[cfg(test)]
mod tests {
    use crate::s3::checksums::algorithms::*;

    /// Checksums of "abc": FIPS 180-4, RFC 1321, and the tests in the repository of xxHash.
    const OF_ABC: [(Algorithm, &str); 6] = [
        (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Algorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        (Algorithm::Xxhash64, "44bc2cf5ad770999"),
        (Algorithm::Xxhash3, "78af5f94892f3950"),
        (Algorithm::Xxhash128, "06b05ab6733a618578af5f94892f3950"),
    ];

    #[test]
    fn sums_of_what_is_known() {
        for (algorithm, wanted) in OF_ABC {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            let sum = hasher.finish();
            assert_eq!(
                (sum.len(), &*shared::attributes::hex(&sum)),
                (sum_bytes(algorithm), wanted),
                "{algorithm:?}"
            );
        }
    }
}
