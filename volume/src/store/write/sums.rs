//! Digest and block checksums of a body, computed incrementally.

use shared::digest::Digest;
use shared::limits::BLOCK_BYTES;

use shared::crc32c::Crc32c;

#[derive(Debug)]
pub(super) struct Sums {
    hasher: blake3::Hasher,
    block: Crc32c,
    in_block: usize,
    blocks: Vec<u32>,
}

impl Sums {
    pub(super) fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), block: Crc32c::default(), in_block: 0, blocks: Vec::new() }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.in_block));
            self.block.update(now);
            self.in_block += now.len();
            if self.in_block == BLOCK_BYTES {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.blocks.push(std::mem::take(&mut self.block).finish());
        self.in_block = 0;
    }

    /// BLAKE3 of the bytes so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.finalize().into()
    }

    /// Returns the digest and the checksums of all blocks.
    pub(super) fn finish(mut self) -> (Digest, Vec<u32>) {
        if self.in_block > 0 {
            self.end_block();
        }
        (self.digest(), self.blocks)
    }
}
