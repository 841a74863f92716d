//! Verifies a whole value against its committed digest while it streams. The last bytes are sent only when the digest
//! matches: a client sees a truncated answer, never wrong bytes in a complete one.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::digest::Digest;
use shared::http::entity::Piece;

use crate::tables::object::Object;

/// A running hash of the bytes so far, and how many are still to come.
pub(super) struct DigestCheck {
    digest: Digest,
    hasher: blake3::Hasher,
    left: u64,
}

impl DigestCheck {
    /// Creates a check for an answer that is all of `object`; none for ranges and multipart objects.
    pub(super) fn of(object: &Object, pieces: &VecDeque<Piece>) -> Option<Self> {
        // The digest of a multipart object is that of its manifest.
        let all = match pieces.iter().collect::<Vec<_>>()[..] {
            [Piece::Range(range)] => range.len() == object.size && object.parts.is_none(),
            _ => false,
        };
        all.then(|| Self { digest: object.digest, hasher: blake3::Hasher::new(), left: object.size })
    }

    /// Adds the next bytes. Returns whether they may be sent.
    pub(super) fn passes(&mut self, bytes: &Bytes) -> bool {
        self.hasher.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.left > 0 || Digest::from(self.hasher.finalize()) == self.digest
    }
}
