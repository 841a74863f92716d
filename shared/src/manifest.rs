//! The manifest: the record that makes several parts one value. It is a blob like any other, written when a multipart
//! upload is completed; no byte of the parts moves.
//!
//! ```text 0 "BARGEMAN" 8 │ 8 version u32, little endian │ 12 postcard of `Manifest` ``` It holds all that a rebuild
//! of the metadata must know of the object and its parts, except what is in the record's header. The record's
//! BLAKE3 covers it.

use serde::{Deserialize, Serialize};

use crate::attributes::{Attributes, Checksum, Etag};
use crate::digest::Digest;
use crate::ids::BlobId;

const MAGIC: &[u8; 8] = b"BARGEMAN";
const VERSION: [u8; 4] = 1u32.to_le_bytes();

/// One part of a multipart object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// As the client numbered it, 1..=10,000.
    pub number: u16,
    /// The blob with its bytes.
    pub blob: BlobId,
    /// Length in bytes.
    pub length: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// `None`: the entity tag is derived from the BLAKE3.
    pub etag: Option<Etag>,
    /// The checksum requested for the upload.
    pub checksum: Option<Checksum>,
}

/// The parts of a multipart object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The multipart upload that created it.
    pub upload: BlobId,
    /// Attributes of the whole object.
    pub attributes: Attributes,
    /// In the order of their bytes.
    pub parts: Vec<Part>,
}

/// The bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a manifest of a multipart object, or one of a later version")]
pub struct NoManifest;

impl Part {
    /// The object's entity tag for S3 clients, without quotes.
    pub fn tag(&self) -> String {
        self.etag.map_or_else(|| self.digest.to_string(), |etag| etag.to_string())
    }
}

impl Manifest {
    /// Length of the value in bytes.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|p| p.length).sum()
    }

    /// Encodes the record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a manifest holds nothing postcard refuses");
        [&MAGIC[..], &VERSION, &body].concat()
    }

    /// Decodes the record's bytes.
    ///
    /// # Errors
    /// If they are not a manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoManifest> {
        let body =
            bytes.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&VERSION)).ok_or(NoManifest)?;
        postcard::from_bytes(body).map_err(|_| NoManifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::limits::{MANIFEST_BYTES_MAX, PARTS_MAX};

    fn manifest(parts: u16) -> Manifest {
        let part = |number| Part {
            number,
            blob: BlobId::next(None, Timestamp::from_unix_ms(u64::from(number)), [7; 10]),
            length: u64::MAX,
            digest: Digest::of(&number.to_le_bytes()),
            etag: Some(Etag::Md5([3; 16])),
            checksum: Some(Checksum {
                algorithm: crate::attributes::Algorithm::Sha256,
                composite: None,
                sum: vec![9; 32],
            }),
        };
        let upload = BlobId::next(None, Timestamp::from_unix_ms(1), [1; 10]);
        Manifest { upload, attributes: Attributes::default(), parts: (1..=parts).map(part).collect() }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let whole = manifest(3);
        let bytes = whole.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(whole));
        for cut in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..cut]), Err(NoManifest), "{cut}");
        }
        assert_eq!(
            Manifest::decode(&[b"BARGEMAN", &[2, 0, 0, 0][..], &bytes[12..]].concat()),
            Err(NoManifest)
        );
    }

    /// The layout is permanent: all later versions must read a record of this version.
    #[test]
    fn golden() {
        let digest = blake3::hash(&manifest(2).encode());
        assert_eq!(digest.to_hex()[..16], *"f59c4525425da8ef");
    }

    #[test]
    fn the_largest_is_bounded() {
        assert!(manifest(PARTS_MAX).encode().len() < MANIFEST_BYTES_MAX);
    }
}
