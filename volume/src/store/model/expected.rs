//! The expected state of one blob in the model: its bytes, and the outcomes that are allowed.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::key::Key;

use crate::store::NewRecord;
use crate::store::segment::{Extent, SegmentNumber};

/// The allowed states of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Never stored, or failed.
    Absent,
    Present,
    /// Its delete was acknowledged.
    Gone,
    /// The outcome of a put or of a delete (`true`) is unknown.
    Either(bool),
}

#[derive(Clone, Debug)]
pub(super) struct ExpectedBlob {
    pub(super) id: BlobId,
    pub(super) length: usize,
    pub(super) declared: bool,
    pub(super) fate: Fate,
    /// Where its record is or was.
    pub(super) place: Option<Extent>,
    /// A bit of its record, or of something it depends on, was flipped: anything but wrong bytes is allowed.
    pub(super) hurt: bool,
    /// A record from which it was rewritten was hit; if it could not be deleted, an opening may show it again.
    pub(super) scarred: bool,
    /// A bit of its delete entry was flipped.
    pub(super) forgettable: bool,
    /// And the segment does not mark it as deleted either.
    pub(super) pardoned: bool,
    /// It was put again while its segment could not be read: there may be a duplicate.
    pub(super) twice: bool,
    /// It was being rewritten when the disk stopped: until an opening sees all segments there may be a duplicate.
    pub(super) adrift: bool,
    /// Other segments that its record was in.
    pub(super) past: BTreeSet<SegmentNumber>,
    from: usize,
}

const POOL: usize = 1 << 20;

/// Random bytes; all bodies are slices of them.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; POOL];
    Xoshiro256PlusPlus::seed_from_u64(7).fill_bytes(&mut bytes);
    bytes
});

impl ExpectedBlob {
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
            scarred: false,
            forgettable,
            pardoned,
            twice,
            adrift: false,
            past: BTreeSet::new(),
            from,
        }
    }

    /// Its delete was acknowledged; an unseen duplicate may still come back.
    pub(super) fn goes(&mut self) {
        self.fate = Fate::Gone;
        self.pardoned |= self.twice;
    }

    /// Its record is at `place` from now on.
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
