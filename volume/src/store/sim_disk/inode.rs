//! One file of the simulated disk: its image in the cache, its image on the disk, and the pending changes.

use std::borrow::Cow;

use super::faults::Chance;
use super::image::{Change, Everything, Image};

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) durable: Image,
    pub(super) volatile: Image,
    /// The difference between the two, unless a sync failed.
    pub(super) pending: Vec<Change>,
    /// A sync failed: `volatile` has bytes that are not on the disk and not pending.
    lies: bool,
}

impl Inode {
    /// A power cut: a random part of the pending changes survives.
    pub(super) fn lose(&mut self, chance: &mut Chance<'_>) {
        for change in self.pending.drain(..) {
            chance.spares_metadata = false;
            self.durable.apply(&change, chance);
        }
        self.durable.clear_behind_end();
        self.lies = false;
    }

    pub(super) fn sync(&mut self) {
        self.pending.drain(..).for_each(|c| self.durable.apply(&c, &mut Everything));
    }

    /// A failed sync: changes of metadata are durable; pages are marked clean, whether written or not.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance<'_>) {
        for change in self.pending.drain(..) {
            chance.spares_metadata = !change.is_data();
            self.durable.apply(&change, chance);
        }
        self.lies = true;
        if self.durable.length() < self.volatile.length() {
            // The next sync makes the length durable.
            self.pending.push(Change::Truncate(self.volatile.length()));
        }
    }

    pub(super) fn drop_cache(&mut self) {
        if std::mem::take(&mut self.lies) {
            self.volatile = self.shown_by_disk();
        }
    }

    /// The image that a read past the cache returns.
    pub(super) fn truth(&self) -> Cow<'_, Image> {
        if self.lies { Cow::Owned(self.shown_by_disk()) } else { Cow::Borrowed(&self.volatile) }
    }

    fn shown_by_disk(&self) -> Image {
        let mut image = self.durable.clone();
        self.pending.iter().for_each(|c| image.apply(c, &mut Everything));
        image
    }
}
