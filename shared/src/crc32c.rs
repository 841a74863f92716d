//! CRC-32C (Castagnoli; RFC 3720, section 12.1), the checksum of formats on disk and of snapshots.
//!
//! The library's code is inlined into the calling crate, and only as fast as that crate is optimized: so it is called
//! here, in a crate that is optimized in tests, too.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of several pieces, concatenated.
pub fn crc32c_of(pieces: &[&[u8]]) -> u32 {
    let mut crc = Crc32c::default();
    pieces.iter().for_each(|piece| crc.update(piece));
    crc.finish()
}

/// A CRC-32C in progress.
#[derive(Debug)]
pub struct Crc32c(Digest);

impl Default for Crc32c {
    /// The checksum of no bytes.
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// Adds bytes behind those added before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn finish(&self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a CRC32 has 32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the catalogue of CRCs.
    #[test]
    fn the_examples_of_the_rfc() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, sum) in [
            (&[0; 32][..], 0x8a91_36aa_u32),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(crc32c(bytes), sum);
            assert_eq!(crc32c_of(&[&bytes[..7], &[], &bytes[7..]]), sum);
        }
    }
}
