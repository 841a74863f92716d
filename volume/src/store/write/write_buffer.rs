//! The buffer that an upload fills: first the partial page of the one before, then bytes of the client.

use std::time::Instant;

use shared::limits::PAGE_BYTES;

use crate::store::buffer::Buffer;

#[derive(Debug)]
pub(super) struct WriteBuffer {
    pub(super) buffer: Buffer,
    pub(super) used: usize,
    /// Offset of the bytes that are not hashed yet.
    pub(super) fresh: usize,
    /// When it was taken from the pool.
    pub(super) since: Instant,
}

impl WriteBuffer {
    pub(super) fn room(&self) -> usize {
        self.buffer.as_slice().len() - self.used
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.buffer.as_mut_slice()[self.used..self.used + taken].copy_from_slice(&bytes[..taken]);
        self.used += taken;
        taken
    }

    pub(super) fn pad(&mut self) {
        let end = self.used.next_multiple_of(PAGE_BYTES);
        self.buffer.as_mut_slice()[self.used..end].fill(0);
        self.used = end;
    }
}
