//! A simulated, faulty disk in memory, for deterministic simulation tests: a seed decides its behavior, and the same
//! seed repeats it.
//!
//! Its fault model, which the store must survive:
//!
//! - **Nothing is durable before a sync.** Every file has two images: the cache, which reads return, and the disk.
//!   Writes, past the cache or through it, are volatile until `sync_data` of that file. At a power cut each
//!   512-byte sector of each unsynced write is old or new, in any combination: torn, lost, reordered. Changes of
//!   length, holes and preallocated space survive or do not, independently; bytes after the end of a file are zeros
//!   if it grows again.
//! - **Names are durable after `sync_dir`**, not before, and never through a sync of the file. At a power cut a
//!   prefix of the creations, renames and removals since then survives; renames are atomic.
//! - **It stops at any change** (`stop_after`): that one is done or not, and no call succeeds afterwards. Then
//!   `restart` continues from the cache (the process was killed), `power_cut` from the disk.
//! - **EIO** on a read, a write (a prefix of its sectors may be written) or a sync. After a failed sync of a file
//!   any part of its pending changes is durable, the rest is lost, and reads still return all of them until the
//!   cache is dropped; the next sync succeeds, and makes the length durable.
//! - **ENOSPC** when a page must be allocated on a full disk, after a prefix of the write; with `hides_full`,
//!   `free_bytes` still reports space.
//! - **A lying write** (`Faults::lie`): one bit is written flipped, and the write reports success.
//! - **Bit rot**: `flip` flips a bit, on the disk and in the cache.
//! - **No holes**: `punch` is unsupported. **Slowness**: a change advances the clock.
//!
//! It never loses synced bytes, flips bits by itself, or tears a sector.

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

/// One life of the disk: from an opening to a kill, a power cut or a close. Calls on files of an earlier life fail.
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

    /// Stops the disk after that many more changes: every later call fails.
    pub(super) fn stop_after(&self, changes: Option<u64>) {
        self.machine().stop_after(changes);
    }

    pub(super) fn stopped(&self) -> bool {
        self.machine().is_stopped(self.life)
    }

    /// Ends the process, not the machine: the next life sees the cache.
    pub(super) fn restart(&self) -> Self {
        Self { machine: Arc::clone(&self.machine), life: self.machine().next_life() }
    }

    /// Cuts the power: the next life sees what was durable, and a random part of the rest.
    pub(super) fn power_cut(&self) -> Self {
        self.machine().cut();
        self.restart()
    }

    /// Changes the planned faults.
    pub(super) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.machine().faults);
    }

    /// Returns the faults that have occurred.
    pub(super) fn fired(&self) -> Fired {
        self.machine().fired
    }

    /// Leaves space for that many pages only.
    pub(super) fn fill_up(&self, pages: Option<u64>) {
        self.machine().fill_up(pages);
    }

    /// Flips a bit of a file; `false` if there is none.
    pub(super) fn flip(&self, name: &str, byte: u64, bit: u8) -> bool {
        self.machine().flip(name, byte, bit)
    }

    /// Reads bytes of a file from the disk, without faults.
    pub(super) fn durable(&self, name: &str, buffer: &mut [u8], offset: u64) -> usize {
        self.machine().durable(name, |image| image.read(buffer, offset)).unwrap_or(0)
    }

    /// Whether the disk has data in a range.
    pub(super) fn durably_holds(&self, name: &str, offset: u64, bytes: u64) -> bool {
        self.machine().durable(name, |image| image.holds_data(offset, bytes)).unwrap_or(false)
    }

    /// Whether the cache has data in a range.
    pub(super) fn shows(&self, name: &str, offset: u64, bytes: u64) -> bool {
        self.machine().shown(name, |image| image.holds_data(offset, bytes)).unwrap_or(false)
    }

    /// Returns all files and their lengths in the cache.
    pub(super) fn files(&self) -> Vec<(String, u64)> {
        self.machine().files()
    }

    /// Whether `fill_up` limits the space.
    pub(super) fn is_full(&self) -> bool {
        self.machine().is_full()
    }

    /// Returns the number of changes so far, and a hash of all calls.
    pub(super) fn trail(&self) -> (u64, u64) {
        self.machine().trail()
    }

    /// Records all calls from now on.
    pub(super) fn record(&self) {
        self.machine().log = Some(Vec::new());
    }

    /// Returns the calls recorded since the last `take_log`.
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
        // Half of the time the bytes are not cached.
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
