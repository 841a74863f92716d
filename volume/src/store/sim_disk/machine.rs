//! The machine of the simulated disk: files, names, what of both is durable, and the planned faults. For the fault
//! model see `sim_disk`.
//!
//! All randomness comes from one seeded generator, and all collections are ordered, so that runs are reproducible.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;
use shared::clock::Clock;

use super::faults::{Chance, Faults, Fired, due};
use super::image::{Change, Everything, Image};
use super::inode::Inode;

/// Pages of a disk that is not filled up.
const PAGES: u64 = 1 << 20;
const SECTOR: usize = 512;

/// A call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Rename,
    Remove,
    SyncDir,
    Write,
    Sync,
    Truncate,
    Punch,
    Allocate,
}

#[derive(Clone, Debug)]
enum Naming {
    Add(String, u64),
    Move(String, String),
    Take(String),
}

#[derive(Debug)]
pub(super) struct Machine {
    rng: Xoshiro256PlusPlus,
    clock: Clock,
    life: u64,
    stopped: bool,
    changes: u64,
    stop_at: Option<u64>,
    hash: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    journal: Vec<Naming>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    pages: u64,
    pub(super) faults: Faults,
    pub(super) fired: Fired,
    pub(super) log: Option<Vec<String>>,
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

impl Machine {
    pub(super) fn new(seed: u64, clock: Clock) -> Self {
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            clock,
            life: 0,
            stopped: false,
            changes: 0,
            stop_at: None,
            hash: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            journal: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            pages: PAGES,
            faults: Faults::default(),
            fired: Fired::default(),
            log: None,
        }
    }

    // Lives.

    pub(super) fn stop_after(&mut self, changes: Option<u64>) {
        self.stop_at = changes.map(|n| self.changes + 1 + n);
    }

    pub(super) fn is_stopped(&self, life: u64) -> bool {
        self.stopped || life != self.life
    }

    pub(super) fn next_life(&mut self) -> u64 {
        (self.stopped, self.stop_at) = (false, None);
        self.life += 1;
        self.life
    }

    /// A power cut: a random part of what was not durable survives.
    pub(super) fn cut(&mut self) {
        let kept = if self.rng.random_bool(0.3) { self.journal.len() } else { 0 };
        let kept = if kept == 0 { self.rng.random_range(0..=self.journal.len()) } else { kept };
        let journal = std::mem::take(&mut self.journal);
        journal.iter().take(kept).for_each(|n| play(n, &mut self.durable_names));
        self.names = self.durable_names.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.inodes.retain(|n, _| named.contains(n));
        let mut chance = Chance::draw(&mut self.rng);
        for inode in self.inodes.values_mut() {
            inode.lose(&mut chance);
            inode.volatile = inode.durable.clone();
        }
    }

    // Calls.

    /// Records a call; `Err` if the disk has stopped or the caller is of an earlier life.
    pub(super) fn look(
        &mut self,
        life: u64,
        what: &str,
        inode: u64,
        offset: u64,
        bytes: u64,
    ) -> io::Result<()> {
        if self.is_stopped(life) {
            return Err(dead());
        }
        self.note(what, inode, offset, bytes);
        Ok(())
    }

    fn note(&mut self, what: &str, inode: u64, offset: u64, bytes: u64) {
        let first = what.bytes().fold(0, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        for n in [first, inode, offset, bytes] {
            self.hash = (self.hash ^ n).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        if let Some(log) = &mut self.log {
            let name = self.names.iter().find(|(_, n)| **n == inode).map_or("", |(name, _)| name);
            log.push(format!("{:>6} {what} {name} {offset}+{bytes}", self.changes));
        }
    }

    /// Makes a change of names.
    pub(super) fn change<T>(
        &mut self,
        life: u64,
        kind: Kind,
        name: &str,
        f: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(log) = &mut self.log {
            log.push(format!("       {kind:?} {name}"));
        }
        self.change_file(life, kind, (u64::MAX, 0, 0), f)
    }

    /// Makes a change. The one at which the disk stops is done or not, and fails in either case.
    pub(super) fn change_file<T>(
        &mut self,
        life: u64,
        kind: Kind,
        (inode, offset, bytes): (u64, u64, u64),
        f: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_stopped(life) {
            return Err(dead());
        }
        self.changes += 1;
        self.note(&format!("{kind:?}"), inode, offset, bytes);
        self.clock.advance(Duration::from_millis(self.faults.slow_ms));
        if self.stop_at.is_some_and(|n| self.changes >= n) {
            if self.coin() {
                let _ = f(self);
            }
            self.stopped = true;
            return Err(dead());
        }
        // A failing sync or write does part of its work: they check for faults themselves.
        if !matches!(kind, Kind::Sync | Kind::Write) {
            if kind == Kind::SyncDir { self.fail_sync()? } else { self.fail_write()? }
        }
        f(self)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.rng.random()
    }

    pub(super) fn fail_read(&mut self) -> io::Result<()> {
        due(&mut self.faults.read, self.faults.paused, &mut self.fired.reads)
    }
    fn fail_write(&mut self) -> io::Result<()> {
        due(&mut self.faults.write, self.faults.paused, &mut self.fired.writes)
    }
    fn fail_sync(&mut self) -> io::Result<()> {
        due(&mut self.faults.sync, self.faults.paused, &mut self.fired.syncs)
    }

    // Names.

    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn inode_of(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<u64> {
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.name(Naming::Add(name.to_owned(), inode));
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if !self.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.name(Naming::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is one of the changes of names, which can fail")]
    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        if self.names.contains_key(name) {
            self.name(Naming::Take(name.to_owned()));
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is one of the changes of names, which can fail")]
    pub(super) fn sync_dir(&mut self) -> io::Result<()> {
        self.journal.clear();
        self.durable_names = self.names.clone();
        Ok(())
    }

    fn name(&mut self, naming: Naming) {
        play(&naming, &mut self.names);
        self.journal.push(naming);
    }

    // Bytes.

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("a file that is open has an inode in its life")
    }

    pub(super) fn volatile(&mut self, inode: u64) -> &Image {
        &self.inode(inode).volatile
    }

    pub(super) fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let failed = self.fail_write().and_then(|()| self.room_for(inode, offset, bytes.len() as u64));
        let written = match &failed {
            Ok(()) => bytes.len(),
            Err(e) if e.kind() == io::ErrorKind::StorageFull => self.fits(inode, offset, bytes.len()),
            Err(_) => bytes.len().min(self.rng.random_range(0..=bytes.len() / SECTOR) * SECTOR),
        };
        let mut arrived = Cow::Borrowed(&bytes[..written]);
        if self.lies() && written > 0 {
            let bit = self.rng.random_range(0..written * 8);
            arrived.to_mut()[bit / 8] ^= 1 << (bit % 8);
        }
        let file = self.inode(inode);
        let change = file.volatile.write(&arrived, offset);
        file.pending.push(change);
        failed
    }

    /// Whether this write lies.
    fn lies(&mut self) -> bool {
        due(&mut self.faults.lie, self.faults.paused, &mut self.fired.lies).is_err()
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is one of the changes of files, which can fail")]
    pub(super) fn apply(&mut self, inode: u64, change: &Change) -> io::Result<()> {
        let file = self.inode(inode);
        file.volatile.apply(change, &mut Everything);
        file.pending.push(change.clone());
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        let failed = self.fail_sync();
        let mut chance = Chance::draw(&mut self.rng);
        let file = self.inodes.get_mut(&inode).ok_or_else(dead)?;
        if failed.is_ok() {
            file.sync();
        } else {
            file.fail_sync(&mut chance);
        }
        failed
    }

    pub(super) fn read_disk(&mut self, inode: u64, buffer: &mut [u8], offset: u64) -> usize {
        self.inode(inode).truth().read(buffer, offset)
    }

    pub(super) fn drop_cache(&mut self, inode: u64) {
        self.inode(inode).drop_cache();
    }

    // Space.

    pub(super) fn fill_up(&mut self, left: Option<u64>) {
        self.pages = left.map_or(PAGES, |n| self.used() + n);
    }

    pub(super) fn is_full(&self) -> bool {
        self.pages < PAGES
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let pages = if self.faults.hides_full { PAGES } else { self.pages };
        pages.saturating_sub(self.used()) * 4096
    }

    /// Fails with ENOSPC if a range needs more pages than are free.
    pub(super) fn room_for(&mut self, inode: u64, offset: u64, bytes: u64) -> io::Result<()> {
        let missing = self.volatile(inode).missing(offset, bytes);
        if missing > 0 && self.used() + missing > self.pages {
            self.fired.full += 1;
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    /// Bytes of a failing write that still fit.
    fn fits(&mut self, inode: u64, offset: u64, bytes: usize) -> usize {
        let room = self.pages.saturating_sub(self.used());
        let file = self.volatile(inode);
        let ends = (1..bytes).map(|n| n * SECTOR).take_while(|n| *n < bytes);
        ends.take_while(|n| file.missing(offset, *n as u64) <= room).last().unwrap_or(0)
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|n| self.inodes.get(n)).map(|f| f.volatile.page_count()).sum()
    }

    // Direct access for tests.

    pub(super) fn flip(&mut self, name: &str, byte: u64, bit: u8) -> bool {
        let Some(file) = self.names.get(name).and_then(|n| self.inodes.get_mut(n)) else { return false };
        // Only pages that are equal in cache and disk are flipped.
        file.durable.shares(&file.volatile, byte)
            && file.durable.flip(byte, bit)
            && file.volatile.flip(byte, bit)
    }

    pub(super) fn durable<T>(&self, name: &str, read: impl FnOnce(&Image) -> T) -> Option<T> {
        self.names.get(name).and_then(|n| self.inodes.get(n)).map(|f| read(&f.durable))
    }

    pub(super) fn shown<T>(&self, name: &str, read: impl FnOnce(&Image) -> T) -> Option<T> {
        self.names.get(name).and_then(|n| self.inodes.get(n)).map(|f| read(&f.volatile))
    }

    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let length = |n: &u64| self.inodes.get(n).map_or(0, |f| f.volatile.length());
        self.names.iter().map(|(name, n)| (name.clone(), length(n))).collect()
    }

    pub(super) fn trail(&self) -> (u64, u64) {
        (self.changes, self.hash)
    }
}

fn play(naming: &Naming, names: &mut BTreeMap<String, u64>) {
    match naming {
        Naming::Add(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        Naming::Move(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Naming::Take(name) => {
            names.remove(name);
        }
    }
}
