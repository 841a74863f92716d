//! A message whose MD5 is being computed: its state, and bytes that do not fill a block yet.

use bytes::{Buf, Bytes};
use md5::block_api::compress;

use super::lanes::BLOCK_BYTES;

/// The initial state (RFC 1321, 3.3).
const BEGIN: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// Offset of the message's length in its last block.
const LENGTH_AT: usize = 56;

/// A message so far.
#[derive(Clone, Debug)]
pub struct Message {
    pub words: [u32; 4],
    bytes: u64,
    held: [u8; BLOCK_BYTES],
    holds: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self { words: BEGIN, bytes: 0, held: [0; BLOCK_BYTES], holds: 0 }
    }
}

impl Message {
    /// A message of which this many bytes count as hashed.
    #[cfg(test)]
    pub fn claiming(bytes: u64) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Returns its MD5, after padding with a one, zeros and its length in bits (RFC 1321, 3.1 and 3.2).
    pub fn finish(mut self) -> [u8; 16] {
        let mut end = [0; 2 * BLOCK_BYTES];
        end[..self.holds].copy_from_slice(&self.held[..self.holds]);
        end[self.holds] = 0x80;
        let blocks = if self.holds < LENGTH_AT { 1 } else { 2 };
        let length_at = (blocks - 1) * BLOCK_BYTES + LENGTH_AT;
        end[length_at..length_at + 8].copy_from_slice(&self.bytes.wrapping_mul(8).to_le_bytes());
        compress(&mut self.words, &end.as_chunks().0[..blocks]);
        let mut sum = [0; 16];
        for (at, word) in sum.as_chunks_mut().0.iter_mut().zip(self.words) {
            *at = word.to_le_bytes();
        }
        sum
    }
}

/// A message and the bytes that follow in it.
#[derive(Debug)]
pub struct Lane {
    pub message: Message,
    pieces: std::vec::IntoIter<Bytes>,
    piece: Bytes,
}

impl Lane {
    pub fn new(mut message: Message, pieces: Vec<Bytes>) -> Self {
        message.bytes += pieces.iter().map(|p| p.len() as u64).sum::<u64>();
        Self { message, pieces: pieces.into_iter(), piece: Bytes::new() }
    }

    /// Whether there is a whole block; if not, all bytes are in the message.
    pub fn is_ready(&mut self) -> bool {
        loop {
            let message = &mut self.message;
            let whole = message.holds == BLOCK_BYTES;
            if whole || (message.holds == 0 && self.piece.len() >= BLOCK_BYTES) {
                return true;
            }
            if self.piece.is_empty() {
                let Some(next) = self.pieces.next() else { return false };
                self.piece = next;
                continue;
            }
            let taken = self.piece.len().min(BLOCK_BYTES - message.holds);
            message.held[message.holds..message.holds + taken].copy_from_slice(&self.piece[..taken]);
            message.holds += taken;
            self.piece.advance(taken);
        }
    }

    /// The bytes to hash next, at least one block if there is one.
    pub fn next(&self) -> &[u8] {
        if self.message.holds == BLOCK_BYTES { &self.message.held } else { &self.piece }
    }

    /// Marks this many of the next bytes, whole blocks, as hashed.
    pub fn hashed(&mut self, bytes: usize) {
        if self.message.holds == BLOCK_BYTES {
            self.message.holds = 0;
        } else {
            self.piece.advance(bytes);
        }
    }

    /// Hashes all of it, alone.
    pub fn hash(&mut self) {
        while self.is_ready() {
            let mut words = self.message.words;
            let blocks = self.next().as_chunks().0;
            let bytes = blocks.len() * BLOCK_BYTES;
            compress(&mut words, blocks);
            self.message.words = words;
            self.hashed(bytes);
        }
    }
}
