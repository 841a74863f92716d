//! Flips bits, and tracks what each may cost: the record that was hit, the segment if it was its first page, and
//! a delete recorded only in the entry or index that was hit. Nothing else.

use shared::limits::PAGE_BYTES;

use super::expected::{ExpectedBlob, Fate};
use super::step::Fault;
use super::world::ModelState;
use crate::store::format::{SegmentHeader, tombstone};
use crate::store::segment::{Extent, SegmentNumber};

const INDEX_HEADER: usize = 64;
const ENTRY: usize = 64;
const DELETE: u8 = 2;

impl ModelState {
    /// Sometimes flips a bit while the store is closed, unless the fate of a blob is open: the effect of the flip
    /// could not be told from that of the crash.
    pub(super) fn rot_at_rest(&mut self) {
        let settled = self.blobs.iter().all(|k| !matches!(k.fate, Fate::Either(_)));
        if settled && let Fault::Flip { file, place, bit: bit @ 0..2 } = Fault::draw_flip(self) {
            self.flip(file, place, bit);
        }
    }

    pub(super) fn flip(&mut self, file: usize, place: usize, bit: u8) {
        let names = self.disk.files();
        let Some((name, length)) = file.checked_rem(names.len()).map(|n| names[n].clone()) else { return };
        let Ok(length) = usize::try_from(length) else { return };
        let Some(mut byte) = place.checked_rem(length) else { return };
        // Prefer headers and trailers: a small part of the bytes, but most of what can go wrong.
        if place & 1 << 29 != 0 {
            byte = byte / PAGE_BYTES * PAGE_BYTES + place % 64;
        }
        if let Some(segment) = SegmentNumber::from_name(&name, ".seg") {
            if self.disk.flip(&name, byte as u64, bit) {
                self.hit_segment(segment, byte as u64);
            }
        } else if let Some(segment) = SegmentNumber::from_name(&name, ".idx") {
            let mut entry = [0; ENTRY];
            self.disk.durable(&name, &mut entry, (byte / ENTRY * ENTRY) as u64);
            if self.disk.flip(&name, byte as u64, bit) {
                self.hit_index(segment, byte, &entry);
            }
        }
        self.say(|| format!("  flipped {name} at {byte}"));
    }

    fn hit_segment(&mut self, segment: SegmentNumber, byte: u64) {
        let whole = byte < PAGE_BYTES as u64;
        if whole {
            self.beheaded.insert(segment);
        }
        let hit = |e: &Extent| e.segment == segment && (whole || (e.offset()..e.end()).contains(&byte));
        // For a blob that may have a duplicate, only one place is known.
        let back = self.unindexed.contains(&segment);
        let twice = |k: &ExpectedBlob| k.twice || k.adrift || (back && k.past.contains(&segment));
        for known in self.blobs.iter_mut().filter(|k| twice(k) || k.place.as_ref().is_some_and(hit)) {
            known.hurt = true;
        }
    }

    fn hit_index(&mut self, segment: SegmentNumber, byte: usize, entry: &[u8; ENTRY]) {
        self.unindexed.insert(segment);
        for known in &mut self.blobs {
            let ours = entry[0] == DELETE && entry[16..32] == *known.id.as_bytes();
            known.forgettable |= byte >= INDEX_HEADER && ours;
        }
        if byte < INDEX_HEADER {
            self.disowned.insert(segment);
        }
    }

    /// Before an opening: deletes that are no longer recorded on the disk may be undone.
    pub(super) fn pardon(&mut self) {
        for n in 0..self.blobs.len() {
            let known = &self.blobs[n];
            let Some(place) = known.place.filter(|_| known.fate != Fate::Present) else { continue };
            let doubtful = known.forgettable
                || self.disowned.contains(&place.segment)
                || known.past.iter().any(|n| self.disowned.contains(n));
            // A mark in a page that was hit does not count.
            if doubtful && (known.hurt || !known.past.is_empty() || !self.is_marked(known, &place)) {
                // What comes back may be a record that was hit before its blob was rewritten.
                let known = &mut self.blobs[n];
                (known.pardoned, known.hurt) = (true, known.hurt || !known.past.is_empty());
            }
        }
    }

    /// Whether the record is marked as deleted in the segment on the disk.
    fn is_marked(&self, known: &ExpectedBlob, place: &Extent) -> bool {
        let name = place.segment.segment_name();
        let mut page = vec![0; PAGE_BYTES];
        self.disk.durable(&name, &mut page, 0);
        let Ok(header) = SegmentHeader::decode(&page, self.options.volume, place.segment) else {
            return true;
        };
        self.disk.durable(&name, &mut page, place.offset());
        tombstone::is_set(&header, place.offset(), known.id, &page)
            || !self.disk.durably_holds(&name, place.body(), place.punchable())
    }
}
