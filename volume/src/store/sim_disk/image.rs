//! The bytes of one simulated file, page by page: pages that were never written take no memory, and cache and disk
//! share pages until one of them changes (copy-on-write).
//!
//! The caller decides which changes survive, sector by sector.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::limits::PAGE_BYTES;

use crate::store::format::is_zero;

const PAGE: u64 = PAGE_BYTES as u64;
const SECTOR: usize = 512;
/// All sectors of a page.
const WHOLE: u8 = u8::MAX;

type Page = Arc<[u8; PAGE_BYTES]>;

/// The bytes of a file at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    length: u64,
    pages: BTreeMap<u64, Page>,
}

/// A change of a file, which may or may not reach the disk.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The pages afterwards, with masks of the written sectors; and the end of the write.
    Write {
        pages: Vec<(u64, Page, u8)>,
        end: u64,
    },
    Truncate(u64),
    /// Frees a range of pages.
    Punch(u64, u64),
    /// Preallocates a range of pages.
    Allocate(u64, u64),
}

impl Change {
    pub(super) fn is_data(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

/// Decides how much of a change survives.
pub(super) trait Survival {
    /// Returns which of the written sectors of a page survive.
    fn sectors(&mut self, written: u8) -> u8;
    /// Whether a change of length or space survives.
    fn metadata(&mut self) -> bool;
}

pub(super) struct Everything;

impl Survival for Everything {
    fn sectors(&mut self, written: u8) -> u8 {
        written
    }
    fn metadata(&mut self) -> bool {
        true
    }
}

fn zeros() -> Page {
    thread_local! {
        static ZEROS: Page = Arc::new([0; PAGE_BYTES]);
    }
    ZEROS.with(Arc::clone)
}

fn pages(offset: u64, bytes: u64) -> (u64, u64) {
    (offset / PAGE, (offset + bytes).div_ceil(PAGE))
}

fn at(n: u64) -> usize {
    usize::try_from(n).expect("a 64-bit machine")
}

impl Image {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Number of pages that a write of this range must allocate.
    pub(super) fn missing(&self, offset: u64, bytes: u64) -> u64 {
        let (from, to) = pages(offset, bytes);
        (to - from) - self.pages.range(from..to).count() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.length.min(offset + buffer.len() as u64);
        let (mut position, mut done) = (offset, 0);
        while position < end {
            let within = at(position % PAGE);
            let take = (PAGE_BYTES - within).min(at(end - position));
            let piece = &mut buffer[done..done + take];
            match self.pages.get(&(position / PAGE)) {
                Some(page) => piece.copy_from_slice(&page[within..within + take]),
                None => piece.fill(0),
            }
            done += take;
            position += take as u64;
        }
        done
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> Change {
        let end = offset + bytes.len() as u64;
        let (mut position, mut rest, mut changed) = (offset, bytes, Vec::new());
        while !rest.is_empty() {
            let within = at(position % PAGE);
            let (piece, after) = rest.split_at(rest.len().min(PAGE_BYTES - within));
            let page = self.pages.entry(position / PAGE).or_insert_with(zeros);
            Arc::make_mut(page)[within..within + piece.len()].copy_from_slice(piece);
            let sectors = within / SECTOR..(within + piece.len()).div_ceil(SECTOR);
            let mask = sectors.fold(0, |mask, n| mask | 1 << n);
            changed.push((position / PAGE, Arc::clone(page), mask));
            position += piece.len() as u64;
            rest = after;
        }
        self.length = self.length.max(end);
        Change::Write { pages: changed, end }
    }

    /// Applies the surviving part of a change.
    pub(super) fn apply(&mut self, change: &Change, survival: &mut impl Survival) {
        match change {
            Change::Write { pages, end } => {
                for (number, page, written) in pages {
                    self.merge(*number, page, survival.sectors(*written));
                }
                if *end > self.length && survival.metadata() {
                    self.length = *end;
                }
            }
            _ if !survival.metadata() => {}
            Change::Truncate(length) => self.truncate(*length),
            Change::Punch(from, to) => {
                let gone: Vec<_> = self.pages.range(from..to).map(|(n, _)| *n).collect();
                gone.iter().for_each(|n| drop(self.pages.remove(n)));
            }
            Change::Allocate(from, to) => {
                (*from..*to).for_each(|n| {
                    self.pages.entry(n).or_insert_with(zeros);
                });
            }
        }
    }

    fn merge(&mut self, number: u64, page: &Page, sectors: u8) {
        if sectors == WHOLE {
            self.pages.insert(number, Arc::clone(page));
        } else if sectors != 0 {
            let mine = Arc::make_mut(self.pages.entry(number).or_insert_with(zeros));
            for n in (0..8).filter(|n| sectors & 1 << n != 0) {
                mine[n * SECTOR..(n + 1) * SECTOR].copy_from_slice(&page[n * SECTOR..(n + 1) * SECTOR]);
            }
        }
    }

    fn truncate(&mut self, length: u64) {
        self.length = length;
        drop(self.pages.split_off(&length.div_ceil(PAGE)));
        self.clear_behind_end();
    }

    /// Clears bytes after the end of the file, which must read as zeros if it grows.
    pub(super) fn clear_behind_end(&mut self) {
        let (last, within) = (self.length / PAGE, at(self.length % PAGE));
        for (n, page) in self.pages.range_mut(last..) {
            let from = if *n == last { within } else { 0 };
            if !is_zero(&page[from..]) {
                Arc::make_mut(page)[from..].fill(0);
            }
        }
    }

    pub(super) fn holds_data(&self, offset: u64, bytes: u64) -> bool {
        let (from, to) = pages(offset, bytes);
        from * PAGE < self.length && self.pages.range(from..to).next().is_some()
    }

    /// Whether both share the page of a byte.
    pub(super) fn shares(&self, other: &Self, byte: u64) -> bool {
        let page = byte / PAGE;
        matches!((self.pages.get(&page), other.pages.get(&page)), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
    }

    /// Flips a bit, if the page exists.
    pub(super) fn flip(&mut self, byte: u64, bit: u8) -> bool {
        let page = self.pages.get_mut(&(byte / PAGE));
        page.is_some_and(|page| {
            Arc::make_mut(page)[at(byte % PAGE)] ^= 1 << bit;
            true
        })
    }
}

/// Pages that lie entirely in the range, for holes.
pub(super) fn inner_pages(offset: u64, bytes: u64) -> (u64, u64) {
    (offset.div_ceil(PAGE), (offset + bytes) / PAGE)
}

pub(super) fn outer_pages(offset: u64, bytes: u64) -> (u64, u64) {
    pages(offset, bytes)
}
