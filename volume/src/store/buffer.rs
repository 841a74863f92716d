//! Pools of page-aligned buffers for the bytes of segments. A pool has a fixed number of buffers, allocates each
//! when it is first needed and then reuses it; callers wait while there is none. That bound keeps memory
//! independent of value sizes.
//!
//! The code that returns a buffer must not wait for another one, or uploads could deadlock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use shared::limits::PAGE_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;

/// Memory that begins at a multiple of the page size, as O_DIRECT requires.
#[derive(Debug)]
pub(super) struct Aligned {
    // Never grown: growing would move it.
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// Zeroed memory of this size.
    pub(super) fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + PAGE_BYTES];
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        Self { memory, start, bytes }
    }
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

/// A fixed number of buffers of one size.
#[derive(Debug)]
pub(super) struct Pool {
    bytes: usize,
    count: usize,
    permits: Arc<Semaphore>,
    free: Mutex<Vec<Aligned>>,
    waiting: AtomicUsize,
}

/// A buffer on loan; it returns to its pool on drop.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Option<Aligned>,
    pool: Option<Arc<Pool>>,
    /// `None` for a buffer outside of any pool.
    _permit: Option<OwnedSemaphorePermit>,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Pool {
    pub(super) fn new(bytes: usize, count: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            count,
            permits: Arc::new(Semaphore::new(count)),
            free: Mutex::new(Vec::with_capacity(count)),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Takes a buffer as soon as there is one; first come, first served. Its content is arbitrary.
    pub(super) async fn take(self: &Arc<Self>) -> Buffer {
        let permit = {
            let _waiting = Waiting::new(&self.waiting);
            Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
        };
        self.lend(permit)
    }

    /// Takes a buffer if there is one now.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Buffer> {
        Arc::clone(&self.permits).try_acquire_owned().ok().map(|permit| self.lend(permit))
    }

    fn lend(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Buffer {
        let reused = lock(&self.free).pop();
        let memory = reused.unwrap_or_else(|| Aligned::new(self.bytes));
        Buffer { memory: Some(memory), pool: Some(Arc::clone(self)), _permit: Some(permit) }
    }

    /// Buffers on loan.
    pub(super) fn lent(&self) -> usize {
        self.count.saturating_sub(self.permits.available_permits())
    }

    /// Whether callers wait for a buffer: those who can do without theirs should return it.
    pub(super) fn contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Buffer {
    /// A buffer outside of any pool, for a caller that must not wait and needs little.
    pub(super) fn single(bytes: usize) -> Self {
        Self { memory: Some(Aligned::new(bytes)), pool: None, _permit: None }
    }
    pub(super) fn as_slice(&self) -> &[u8] {
        self.memory.as_ref().expect("only drop takes it").as_slice()
    }
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.memory.as_mut().expect("only drop takes it").as_mut_slice()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Before the permit is released, so that its next holder finds this buffer.
        if let (Some(memory), Some(pool)) = (self.memory.take(), &self.pool) {
            lock(&pool.free).push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn buffers_are_aligned_reused_and_bounded() {
        let pool = Pool::new(8192, 2);
        let a = pool.take().await;
        assert_eq!(a.as_slice().as_ptr().align_offset(PAGE_BYTES), 0);
        assert_eq!(a.as_slice().len(), 8192);
        let address = a.as_slice().as_ptr();
        drop(a);
        let a = pool.take().await;
        assert_eq!(a.as_slice().as_ptr(), address);
        let _b = pool.take().await;
        let third = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.take().await }
        });
        while !pool.contended() {
            tokio::task::yield_now().await;
        }
        drop(a);
        let c = third.await.unwrap();
        assert_eq!(c.as_slice().as_ptr(), address);
        assert!(!pool.contended());
    }
}
