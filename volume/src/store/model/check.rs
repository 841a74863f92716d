//! The invariants of an open store, whatever happened before.

use std::collections::BTreeSet;

use shared::digest::Digest;

use super::Violation;
use super::expected::{ExpectedBlob, Fate};
use super::world::{ModelState, violated};
use crate::store::segment::Extent;
use crate::store::{ReadError, Store, lock, scrub};

impl ModelState {
    /// Checks that every blob is in an allowed state, and reads all of it.
    pub(super) async fn check(&mut self) -> Result<(), Violation> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        if self.stopped() {
            return Ok(());
        }
        self.disk.faults(|f| f.paused = true);
        let checked = self.check_all(&store).await;
        self.disk.faults(|f| f.paused = false);
        checked
    }

    async fn check_all(&self, store: &Store) -> Result<(), Violation> {
        let inventory = store.inventory(None, usize::MAX);
        let here: BTreeSet<_> = inventory.iter().map(|e| e.blob).collect();
        for entry in &inventory {
            let known = self.blobs.iter().find(|k| k.id == entry.blob);
            match known {
                None => return violated(format!("unexpected blob {}", entry.blob)),
                Some(k) if k.length as u64 != entry.length => {
                    return violated(format!("{} is listed with {} bytes", self.name(k), entry.length));
                }
                Some(_) => {}
            }
        }
        for known in &self.blobs {
            let present = here.contains(&known.id);
            if present != store.has(known.id) {
                return violated(format!("inventory and lookup differ over {}", self.name(known)));
            }
            self.check_fate(known, present)?;
            if present {
                self.check_bytes(store, known).await?;
            }
        }
        let status = store.status();
        if status.blobs != here.len() as u64 {
            return violated(format!(
                "the status counts {} blobs, the inventory {}",
                status.blobs,
                here.len()
            ));
        }
        if status.read_only.is_some() && !self.is_sick() {
            return violated(format!("read-only without a fault: {:?}", status.read_only));
        }
        Ok(())
    }

    fn check_fate(&self, known: &ExpectedBlob, present: bool) -> Result<(), Violation> {
        let excused = known.hurt || known.place.is_some_and(|e| self.is_blind(e.segment));
        match known.fate {
            Fate::Absent | Fate::Gone if present && !known.pardoned => {
                violated(format!("{} came back: it was {:?}", self.name(known), known.fate))
            }
            Fate::Present if !present && !excused => violated(format!("{} is lost", self.name(known))),
            _ => Ok(()),
        }
    }

    async fn check_bytes(&self, store: &Store, known: &ExpectedBlob) -> Result<(), Violation> {
        match read_whole(store, known).await {
            Ok((bytes, digest)) if bytes != known.body() || digest != Digest::of(known.body()) => {
                violated(format!("{} has wrong bytes", self.name(known)))
            }
            Ok(_) => Ok(()),
            Err(ReadError::Corrupt { .. }) if known.hurt => Ok(()),
            Err(e) => violated(format!("{} cannot be read: {e:?}", self.name(known))),
        }
    }

    /// Checks that, with nothing under way, no lane, reservation or deleted byte is held.
    pub(super) async fn check_rest(&mut self) -> Result<(), Violation> {
        self.give_up_all();
        let Some(store) = self.store.clone() else { return Ok(()) };
        store.punched().await;
        if self.stopped() || self.is_sick() {
            return Ok(());
        }
        let s = store.status();
        if (s.lanes_busy, s.uploads, s.reserved_bytes) != (0, 0, 0) {
            return violated(format!("held with nothing under way: {s:?}"));
        }
        if !self.is_undisturbed() {
            return Ok(());
        }
        if s.dead_bytes > 0 {
            return violated(format!("deleted bytes are not freed: {s:?}"));
        }
        self.check_space(&store)
    }

    /// Checks that deleted records take no space, and that there is no unneeded file.
    fn check_space(&self, store: &Store) -> Result<(), Violation> {
        let (live, segments): (Vec<Extent>, Vec<_>) = {
            let catalog = lock(&store.0.catalog);
            let live = self.blobs.iter().filter_map(|k| catalog.get(k.id)).collect();
            (live, catalog.slots().map(|s| s.segment.number()).collect())
        };
        for known in self.blobs.iter().filter(|k| k.fate == Fate::Gone) {
            let Some(place) = known.place else { continue };
            let reused = live
                .iter()
                .any(|e| e.segment == place.segment && e.offset() < place.end() && place.offset() < e.end());
            let shown = self.disk.shows(&place.segment.segment_name(), place.body(), place.punchable());
            if shown && !reused {
                return violated(format!("{} still takes space", self.name(known)));
            }
        }
        let names = segments.iter().flat_map(|n| [n.index_name(), n.segment_name()]);
        let wanted: BTreeSet<_> = names.chain([scrub::FILE.to_owned()]).collect();
        match self.disk.files().into_iter().find(|(name, _)| !wanted.contains(name)) {
            Some((name, _)) => violated(format!("{name} is left over")),
            None => Ok(()),
        }
    }
}

async fn read_whole(store: &Store, known: &ExpectedBlob) -> Result<(Vec<u8>, Digest), ReadError> {
    let mut reader = store.reader(known.id).await?;
    let mut bytes = Vec::with_capacity(known.length);
    loop {
        let piece = reader.read(bytes.len() as u64, usize::MAX).await?;
        if piece.is_empty() {
            return Ok((bytes, reader.digest()));
        }
        bytes.extend_from_slice(&piece);
    }
}
