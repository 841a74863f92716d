//! Used write tickets, to prevent replay. The store refuses a ticket whose blob is here; this remembers blobs that
//! were deleted since, until their tickets have expired.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::limits::TICKET_MEMORY;

/// Blobs that were deleted before their write ticket expired, oldest first.
#[derive(Debug, Default)]
pub struct UsedTickets(Mutex<BTreeSet<BlobId>>);

impl UsedTickets {
    /// Adds deleted blobs, and removes those whose tickets have expired.
    pub fn add(&self, blobs: &[BlobId], now: Timestamp) {
        let young = |blob: &BlobId| now.since(blob.created()) < TICKET_MEMORY;
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while spent.first().is_some_and(|oldest| !young(oldest)) {
            spent.pop_first();
        }
        spent.extend(blobs.iter().copied().filter(young));
    }

    /// Whether the write ticket for `blob` was used.
    pub fn contains(&self, blob: BlobId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_as_long_as_tickets_live() {
        let (spent, start) = (UsedTickets::default(), Timestamp::from_unix_ms(1 << 40));
        let (old, young) =
            (BlobId::next(None, start, [1; 10]), BlobId::next(None, start.after(TICKET_MEMORY), [1; 10]));
        spent.add(&[old], start);
        assert!(spent.contains(old));
        spent.add(&[young], start.after(TICKET_MEMORY));
        assert!(!spent.contains(old) && spent.contains(young));
    }
}
