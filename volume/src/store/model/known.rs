//! What the model knows of one blob: its bytes, and what may have become of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::key::Key;

use crate::store::NewRecord;
use crate::store::segment::{Extent, SegmentNumber};

/// What may be seen of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was never there, or failed and is gone.
    Absent,
    Present,
    /// Its delete was acknowledged.
    Gone,
    /// A put or a delete (`true`) of it ended in nobody knows what.
    Either(bool),
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: BlobId,
    pub(super) length: usize,
    pub(super) declared: bool,
    pub(super) fate: Fate,
    /// Where its record is or was.
    pub(super) place: Option<Extent>,
    /// A bit of its record, or of what it hangs on, was turned round: it may be anything but wrong.
    pub(super) hurt: bool,
    /// A bit of the entry that says it was deleted was turned round.
    pub(super) forgettable: bool,
    /// And the segment did not say it too.
    pub(super) pardoned: bool,
    /// It was put again while its segment could not be read: there may be two.
    pub(super) twice: bool,
    /// It was being written anew when the disk stopped: until an opening sees all segments it may be in two.
    pub(super) adrift: bool,
    /// Where else its record was.
    pub(super) past: BTreeSet<SegmentNumber>,
    from: usize,
}

const POOL: usize = 1 << 20;

/// Bytes of which all bodies are parts.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; POOL];
    Xoshiro256PlusPlus::seed_from_u64(7).fill_bytes(&mut bytes);
    bytes
});

impl Known {
    pub(super) fn new(number: usize, length: usize, declared: bool) -> Self {
        let ms = 1_700_000_000_000 + number as u64;
        let id = BlobId::next(None, Timestamp::from_unix_ms(ms), [9; 10]);
        let from = number * 7919 % (POOL - length);
        let (forgettable, pardoned, hurt, twice) = (false, false, false, false);
        Self {
            id,
            length,
            declared,
            fate: Fate::Absent,
            place: None,
            hurt,
            forgettable,
            pardoned,
            twice,
            adrift: false,
            past: BTreeSet::new(),
            from,
        }
    }

    /// Its delete was acknowledged; of a second copy that nobody saw, nothing is known.
    pub(super) fn goes(&mut self) {
        self.fate = Fate::Gone;
        self.pardoned |= self.twice;
    }

    /// Its record is there from now on.
    pub(super) fn stands_at(&mut self, place: Option<Extent>) {
        if let (Some(old), true) = (self.place, place.is_some() && self.place != place) {
            self.past.insert(old.segment);
        }
        self.place = place.or(self.place);
    }

    pub(super) fn body(&self) -> &'static [u8] {
        &BYTES[self.from..self.from + self.length]
    }

    pub(super) fn record(&self) -> NewRecord {
        NewRecord {
            blob: self.id,
            key: Key::new("bucket/some/key").expect("it is a key"),
            content_type: None,
            metadata: Vec::new(),
            length: self.declared.then_some(self.length as u64),
        }
    }
}
