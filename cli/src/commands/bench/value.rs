//! The values to put: slices of one random buffer with another start for each key, so that no two are equal and
//! none is ever copied.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use shared::digest::Digest;

/// Too large to stay in a server's CPU cache, small enough for one of ours.
const BUFFER_BYTES: usize = 4 << 20;
/// Bytes offered to the socket at once.
const SLICE_BYTES: usize = 512 * 1024;
/// Distance between the starts of consecutive keys: odd, so that every start is used before one repeats.
const STEP: u64 = 1_048_573;

/// All values of a benchmark: one size, different bytes.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    buffer: Bytes,
    size: u64,
}

impl Values {
    /// Values of this size; their bytes differ in each run.
    pub(crate) fn new(size: u64) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES];
        blake3::Hasher::new_keyed(&rand::random()).finalize_xof().fill(&mut buffer);
        Self { buffer: buffer.into(), size }
    }

    /// Length of each.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The body of a key's value.
    pub(crate) fn body(&self, key: u64) -> ValueBody {
        let at = key.wrapping_mul(STEP) % BUFFER_BYTES as u64;
        let at = usize::try_from(at).expect("less than the buffer's length");
        ValueBody { buffer: self.buffer.clone(), at, left: self.size }
    }

    /// BLAKE3 of a key's value, computed on each call.
    pub(crate) fn digest(&self, key: u64) -> Digest {
        let mut body = self.body(key);
        let mut hash = blake3::Hasher::new();
        while let Some(slice) = body.slice() {
            hash.update(&slice);
        }
        hash.finalize().into()
    }
}

/// The rest of one value.
#[derive(Clone, Debug)]
pub(crate) struct ValueBody {
    buffer: Bytes,
    at: usize,
    left: u64,
}

impl ValueBody {
    pub(crate) fn empty() -> Self {
        Self { buffer: Bytes::new(), at: 0, left: 0 }
    }

    fn slice(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let here = (self.buffer.len() - self.at).min(SLICE_BYTES);
        let take = usize::try_from(self.left).map_or(here, |left| left.min(here));
        let slice = self.buffer.slice(self.at..self.at + take);
        self.at = (self.at + take) % self.buffer.len();
        self.left -= take as u64;
        Some(slice)
    }
}

impl Body for ValueBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.slice().map(|slice| Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_differ() {
        let values = Values::new(5 << 20);
        let mut body = values.body(3);
        let mut len = 0;
        while let Some(slice) = body.slice() {
            len += slice.len();
        }
        assert_eq!(len, 5 << 20);
        let digests: std::collections::BTreeSet<_> = (0..50).map(|n| values.digest(n)).collect();
        assert_eq!(digests.len(), 50);
        assert_eq!(Values::new(0).digest(1), Digest::of(b""));
    }
}
