//! The buffer of an upload that takes what comes next: bytes from the one before that did not fill a page, then
//! those of the client.

use std::time::Instant;

use shared::limits::PAGE_BYTES;

use crate::store::buffer::Buffer;

#[derive(Debug)]
pub(super) struct Filling {
    pub(super) buffer: Buffer,
    pub(super) used: usize,
    /// Where bytes begin that are not hashed yet.
    pub(super) fresh: usize,
    /// When it was taken from the pool.
    pub(super) since: Instant,
}

impl Filling {
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
