//! Write tickets that are used up. A ticket for a blob that is here is refused by the store; this
//! remembers those whose blob was deleted since, for as long as their tickets could still be shown.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::TICKET_MEMORY;

/// Blobs that were deleted while their write ticket was still good, oldest first.
#[derive(Debug, Default)]
pub struct Spent(Mutex<BTreeSet<BlobId>>);

impl Spent {
    /// Notes deleted blobs, and forgets those whose tickets have expired.
    pub fn add(&self, blobs: &[BlobId], now: Timestamp) {
        let young = |blob: &BlobId| now.since(blob.created()) < TICKET_MEMORY;
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while spent.first().is_some_and(|oldest| !young(oldest)) {
            spent.pop_first();
        }
        spent.extend(blobs.iter().copied().filter(young));
    }

    /// Whether a write ticket for `blob` has been used up.
    pub fn contains(&self, blob: BlobId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_as_long_as_tickets_live() {
        let (spent, start) = (Spent::default(), Timestamp::from_unix_ms(1 << 40));
        let (old, young) =
            (BlobId::next(None, start, [1; 10]), BlobId::next(None, start.after(TICKET_MEMORY), [1; 10]));
        spent.add(&[old], start);
        assert!(spent.contains(old));
        spent.add(&[young], start.after(TICKET_MEMORY));
        assert!(!spent.contains(old) && spent.contains(young));
    }
}
