//! One file of the lying disk: what reads show, what the disk has, and what stands between the two.

use std::borrow::Cow;

use super::faults::Chance;
use super::image::{Change, Everything, Image};

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) durable: Image,
    pub(super) volatile: Image,
    /// What the two differ by, unless a sync failed.
    pub(super) pending: Vec<Change>,
    /// A sync failed: `volatile` shows what is nowhere.
    lies: bool,
}

impl Inode {
    /// What was not durable survives by chance.
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

    /// The journal does its part; the bytes are marked clean, whatever became of them.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance<'_>) {
        for change in self.pending.drain(..) {
            chance.spares_metadata = !change.is_data();
            self.durable.apply(&change, chance);
        }
        self.lies = true;
        if self.durable.length() < self.volatile.length() {
            // The length is not forgotten: the next sync has it.
            self.pending.push(Change::Truncate(self.volatile.length()));
        }
    }

    pub(super) fn drop_cache(&mut self) {
        if std::mem::take(&mut self.lies) {
            self.volatile = self.shown_by_disk();
        }
    }

    /// What a read past the cache shows.
    pub(super) fn truth(&self) -> Cow<'_, Image> {
        if self.lies { Cow::Owned(self.shown_by_disk()) } else { Cow::Borrowed(&self.volatile) }
    }

    fn shown_by_disk(&self) -> Image {
        let mut image = self.durable.clone();
        self.pending.iter().for_each(|c| image.apply(c, &mut Everything));
        image
    }
}
