//! A disk that lies, in memory: what a seed decides, it does, and the same seed does the same again.
//!
//! What it may do, and what the store therefore must survive:
//!
//! - **Nothing is durable before a sync.** Every file has two images: what reads show, and what the disk has.
//!   Writes, past the cache or through it, stay volatile until `sync_data` of that file. At a power cut each
//!   512-byte sector of each unsynced write is old or new, in any combination: torn, lost, in another order.
//!   Length, holes and space set aside are changes of their own that survive or do not, each for itself; bytes
//!   behind the end of a file are zeros if it grows again.
//! - **Names are durable after `sync_dir`**, not before, and never through a sync of the file. At a power cut a
//!   prefix of the creations, renames and removals since then survives; a rename does whole or not at all.
//! - **It stops at any change** (`stop_after`): that one is done or not, and nothing is answered any more. Then
//!   `restart` shows what the cache had (the process was killed), `power_cut` what the disk had.
//! - **EIO** on a read, a write (a prefix of its sectors may be there) or a sync. After a failed sync of a file any
//!   part of what it was to make durable is, the rest is lost, and reads go on showing all of it until the cache
//!   is dropped; the next sync succeeds, and makes the length durable, which is not forgotten.
//! - **ENOSPC** where a page would have to be found that is not there, after a prefix of the write; with
//!   `hides_full`, `free_bytes` promises room all the same.
//! - **A write that lies** (`Faults::lie`): one bit of what it was given arrives turned round, and it says that all
//!   went well.
//! - **Bit rot**: `flip` turns a bit round, on the disk and in what reads show.
//! - **No holes**: `punch` says that it cannot. **Slowness**: a change moves the clock.
//!
//! What it never does: lose what was synced, turn bytes round by itself, tear a sector.

mod faults;
mod image;
mod inode;
mod machine;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use shared::clock::Clock;

use super::disk::{Access, Disk, DiskFile, Punched};
pub(super) use faults::{Faults, Fired};
use image::{Change, inner_pages, outer_pages};
use machine::{Kind, Machine};

/// One life of the disk: from an opening to a kill, a power cut or a close. Files of an earlier life are dead.
#[derive(Clone, Debug)]
pub(super) struct SimDisk {
    machine: Arc<Mutex<Machine>>,
    life: u64,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimDisk {
    pub(super) fn new(seed: u64, clock: Clock) -> Self {
        Self { machine: Arc::new(Mutex::new(Machine::new(seed, clock))), life: 0 }
    }

    /// After so many more changes nothing is done or answered.
    pub(super) fn stop_after(&self, changes: Option<u64>) {
        self.machine().stop_after(changes);
    }

    /// Whether it stopped.
    pub(super) fn stopped(&self) -> bool {
        self.machine().is_stopped(self.life)
    }

    /// The process ended, the machine goes on: the next life sees what the cache shows.
    pub(super) fn restart(&self) -> Self {
        Self { machine: Arc::clone(&self.machine), life: self.machine().next_life() }
    }

    /// The machine lost its power: the next life sees what was durable, and chance.
    pub(super) fn power_cut(&self) -> Self {
        self.machine().cut();
        self.restart()
    }

    /// The faults that are to come.
    pub(super) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.machine().faults);
    }

    /// The faults that came.
    pub(super) fn fired(&self) -> Fired {
        self.machine().fired
    }

    /// No room but for so many pages.
    pub(super) fn fill_up(&self, pages: Option<u64>) {
        self.machine().fill_up(pages);
    }

    /// Turns a bit of a file round; `false` if there is nothing.
    pub(super) fn flip(&self, name: &str, byte: u64, bit: u8) -> bool {
        self.machine().flip(name, byte, bit)
    }

    /// The bytes that the disk has of a file: a read that no fault touches.
    pub(super) fn durable(&self, name: &str, buffer: &mut [u8], offset: u64) -> usize {
        self.machine().durable(name, |image| image.read(buffer, offset)).unwrap_or(0)
    }

    /// Whether the disk has any bytes of a range.
    pub(super) fn durably_holds(&self, name: &str, offset: u64, bytes: u64) -> bool {
        self.machine().durable(name, |image| image.holds_data(offset, bytes)).unwrap_or(false)
    }

    /// Whether reads show any bytes of a range.
    pub(super) fn shows(&self, name: &str, offset: u64, bytes: u64) -> bool {
        self.machine().shown(name, |image| image.holds_data(offset, bytes)).unwrap_or(false)
    }

    /// All files and their lengths, as reads show them.
    pub(super) fn files(&self) -> Vec<(String, u64)> {
        self.machine().files()
    }

    /// Whether it was filled up.
    pub(super) fn is_full(&self) -> bool {
        self.machine().is_full()
    }

    /// Changes so far, and a hash of all that was ever asked.
    pub(super) fn trail(&self) -> (u64, u64) {
        self.machine().trail()
    }

    /// From now on all that is asked is written down.
    pub(super) fn record(&self) {
        self.machine().log = Some(Vec::new());
    }

    /// What was written down since the last call.
    pub(super) fn take_log(&self) -> Vec<String> {
        self.machine().log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect("no thread panics while it holds the disk")
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut machine = self.machine();
        machine.look(self.life, "names", 0, 0, 0)?;
        Ok(machine.names())
    }

    fn create(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.machine().change(self.life, Kind::Create, name, |m| m.create(name))?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine();
        machine.look(self.life, "open", 0, 0, 0)?;
        let inode = machine.inode_of(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.machine().change(self.life, Kind::Rename, from, |m| m.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.machine().change(self.life, Kind::Remove, name, |m| m.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.machine().change(self.life, Kind::SyncDir, "", Machine::sync_dir)
    }

    fn punches(&self) -> bool {
        !self.machine().faults.no_holes
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut machine = self.machine();
        machine.look(self.life, "free", 0, 0, 0)?;
        Ok(machine.free_bytes())
    }
}

impl SimFile {
    fn change(
        &self,
        kind: Kind,
        offset: u64,
        bytes: u64,
        f: impl FnOnce(&mut Machine) -> io::Result<()>,
    ) -> io::Result<()> {
        self.disk.machine().change_file(self.disk.life, kind, (self.inode, offset, bytes), f)
    }

    fn space(&self, kind: Kind, offset: u64, bytes: u64, change: &Change) -> io::Result<()> {
        self.change(kind, offset, bytes, |m| m.apply(self.inode, change))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut machine = self.disk.machine();
        machine.look(self.disk.life, "read", self.inode, offset, buffer.len() as u64)?;
        machine.fail_read()?;
        Ok(machine.volatile(self.inode).read(buffer, offset))
    }

    fn read_disk_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut machine = self.disk.machine();
        machine.look(self.disk.life, "direct", self.inode, offset, buffer.len() as u64)?;
        machine.fail_read()?;
        Ok(machine.read_disk(self.inode, buffer, offset))
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        // The cache has what it has: one time in two nothing.
        let mut machine = self.disk.machine();
        if machine.look(self.disk.life, "cached", self.inode, offset, 0).is_err() || machine.coin() {
            return 0;
        }
        machine.volatile(self.inode).read(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Kind::Write, offset, bytes.len() as u64, |m| m.write(self.inode, bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Kind::Sync, 0, 0, |m| m.sync(self.inode))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.space(Kind::Truncate, 0, bytes, &Change::Truncate(bytes))
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<Punched> {
        if self.disk.machine().faults.no_holes {
            return Ok(Punched::Unsupported);
        }
        let (from, to) = inner_pages(offset, bytes);
        self.space(Kind::Punch, offset, bytes, &Change::Punch(from, to))?;
        Ok(Punched::Done)
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.change(Kind::Allocate, offset, bytes, |m| {
            let (from, to) = outer_pages(offset, bytes);
            m.room_for(self.inode, offset, bytes)?;
            m.apply(self.inode, &Change::Allocate(from, to))
        })
    }

    fn length(&self) -> io::Result<u64> {
        let mut machine = self.disk.machine();
        machine.look(self.disk.life, "length", self.inode, 0, 0)?;
        Ok(machine.volatile(self.inode).length())
    }

    fn allocated(&self) -> io::Result<u64> {
        let mut machine = self.disk.machine();
        machine.look(self.disk.life, "allocated", self.inode, 0, 0)?;
        Ok(machine.volatile(self.inode).page_count() * 4096)
    }

    fn holds_data(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        let mut machine = self.disk.machine();
        machine.look(self.disk.life, "data", self.inode, offset, bytes)?;
        Ok(machine.volatile(self.inode).holds_data(offset, bytes))
    }

    fn drop_cache(&self) {
        let mut machine = self.disk.machine();
        if machine.look(self.disk.life, "drop", self.inode, 0, 0).is_ok() {
            machine.drop_cache(self.inode);
        }
    }
}

#[cfg(test)]
mod tests;
