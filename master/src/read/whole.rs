//! Compares all of a value with the digest that was committed, while it passes. The last bytes go out only when they fit: a
//! client sees a cut answer, never other bytes that look whole.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::digest::Digest;
use shared::http::entity::Piece;

use crate::tables::object::Object;

/// A running hash of the bytes that have passed, and how many are still to come.
pub(super) struct Whole {
    digest: Digest,
    hasher: blake3::Hasher,
    left: u64,
}

impl Whole {
    /// Of an answer that is all of `object`.
    pub(super) fn of(object: &Object, pieces: &VecDeque<Piece>) -> Option<Self> {
        // The digest of a value in parts is that of its list of parts.
        let all = match pieces.iter().collect::<Vec<_>>()[..] {
            [Piece::Range(range)] => range.len() == object.size && object.parts.is_none(),
            _ => false,
        };
        all.then(|| Self { digest: object.digest, hasher: blake3::Hasher::new(), left: object.size })
    }

    /// Takes the next bytes; whether they may go out.
    pub(super) fn passes(&mut self, bytes: &Bytes) -> bool {
        self.hasher.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.left > 0 || Digest::from(self.hasher.finalize()) == self.digest
    }
}
