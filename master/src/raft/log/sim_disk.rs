//! A simulated disk in memory that injects faults, determined by a seed.
//!
//! - **Nothing is durable before a sync.** A power cut keeps each write since the last sync of its file completely,
//!   not at all, up to any byte, or in some pieces of 16 bytes; likewise lengths.
//! - **Names are durable after `sync_dir`.** A power cut sets each name, independently, to one of its states since
//!   then.
//! - **It stops** at the n-th change (`fault`): that change is done or not, and every later call fails.
//! - **EIO** on the n-th change. A failed write leaves a prefix. A failed sync makes any part of the pending writes
//!   durable; reads still show all of them until the cache is dropped, and the next sync succeeds.
//! - **`lying`**: a sync does nothing and succeeds. A test that finds no loss with it would never find one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

/// A fault at a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Stop,
    Eio,
}

/// The disk between two restarts: files opened before the last restart fail.
#[derive(Debug, Clone)]
pub(super) struct SimDisk {
    machine: Arc<Mutex<Machine>>,
    life: u64,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

#[derive(Debug, Default)]
struct Machine {
    life: u64,
    stopped: bool,
    fault: Option<(u64, Fault)>,
    lying: bool,
    random: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<BTreeMap<String, usize>>,
    changes: u64,
    syncs: u64,
    writes: u64,
}

#[derive(Debug, Default)]
struct Inode {
    shown: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        let machine = Machine { random: seed | 1, ..Machine::default() };
        Self { machine: Arc::new(Mutex::new(machine)), life: 0 }
    }

    /// Injects a fault after the given number of changes.
    pub(super) fn fault(&self, fault: Option<(u64, Fault)>) {
        self.machine().fault = fault;
    }

    /// Whether no fault is pending: it happened, or there was none.
    pub(super) fn fault_came(&self) -> bool {
        self.machine().fault.is_none()
    }

    /// Makes all later syncs lie.
    pub(super) fn lie(&self) {
        self.machine().lying = true;
    }

    /// Restarts the process; the page cache survives.
    pub(super) fn restart(&self) -> Self {
        let mut machine = self.machine();
        machine.life += 1;
        machine.stopped = false;
        machine.fault = None;
        Self { machine: Arc::clone(&self.machine), life: machine.life }
    }

    /// Cuts the power: what is durable survives, and a random part of the rest.
    pub(super) fn power_cut(&self) -> Self {
        self.machine().cut();
        self.restart()
    }

    /// Runs `f` while the disk is blocked.
    pub(super) fn held<T>(&self, f: impl FnOnce() -> T) -> T {
        let _held = self.machine();
        f()
    }

    /// The numbers of file syncs and writes so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let machine = self.machine();
        (machine.syncs, machine.writes)
    }

    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let machine = self.machine();
        machine.names.iter().map(|(name, i)| (name.clone(), machine.inodes[*i].shown.clone())).collect()
    }

    /// Creates a disk with these durable files.
    pub(super) fn with_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new(1);
        {
            let mut machine = disk.machine();
            for (name, bytes) in files {
                let inode = Inode { shown: bytes.clone(), durable: bytes.clone(), pending: Vec::new() };
                machine.inodes.push(inode);
                let at = machine.inodes.len() - 1;
                machine.names.insert(name.clone(), at);
            }
            machine.durable_names = machine.names.clone();
        }
        disk
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect("no thread panics while it holds the disk")
    }

    fn look(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.machine();
        if machine.stopped || machine.life != self.life { Err(eio()) } else { Ok(machine) }
    }

    /// Begins a change: the state, and whether the change fails half way.
    fn change(&self) -> io::Result<(MutexGuard<'_, Machine>, bool)> {
        let mut machine = self.look()?;
        machine.changes += 1;
        let fails = match machine.fault {
            Some((0, fault)) => {
                machine.fault = None;
                machine.stopped = fault == Fault::Stop;
                true
            }
            Some((left, fault)) => {
                machine.fault = Some((left - 1, fault));
                false
            }
            None => false,
        };
        Ok((machine, fails))
    }

    fn rename_like(&self, change: impl FnOnce(&mut Machine) -> io::Result<()>) -> io::Result<()> {
        let (mut machine, fails) = self.change()?;
        if !fails || machine.coin() {
            change(&mut machine)?;
            let now = machine.names.clone();
            machine.name_changes.push(now);
        }
        if fails { Err(eio()) } else { Ok(()) }
    }
}

impl Machine {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let value = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % bound.max(1)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn cut(&mut self) {
        for inode in 0..self.inodes.len() {
            self.settle(inode, false);
            self.inodes[inode].shown = self.inodes[inode].durable.clone();
        }
        let mut states = vec![std::mem::take(&mut self.durable_names)];
        states.append(&mut self.name_changes);
        for name in states.iter().flat_map(BTreeMap::keys).cloned().collect::<BTreeSet<_>>() {
            let survives = self.below(states.len());
            if let Some(inode) = states[survives].get(&name) {
                self.durable_names.insert(name, *inode);
            }
        }
        self.names = self.durable_names.clone();
    }

    /// Makes pending changes durable: all of them, or a random part.
    fn settle(&mut self, inode: usize, whole: bool) {
        for change in std::mem::take(&mut self.inodes[inode].pending) {
            for part in if whole { vec![change] } else { self.leave(change) } {
                apply(&mut self.inodes[inode].durable, &part);
            }
        }
    }

    fn leave(&mut self, change: Change) -> Vec<Change> {
        let Change::Write(at, bytes) = &change else {
            return if self.coin() { vec![change] } else { Vec::new() };
        };
        match self.below(4) {
            0 => Vec::new(),
            1 => vec![change],
            2 => {
                let keep = self.below(bytes.len() + 1);
                vec![Change::Write(*at, bytes[..keep].to_vec())]
            }
            _ => bytes
                .chunks(16)
                .enumerate()
                .filter(|_| self.coin())
                .map(|(i, piece)| Change::Write(at + i * 16, piece.to_vec()))
                .collect(),
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(_, data) if data.is_empty() => {}
        Change::Write(at, data) => {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Change::Length(length) => bytes.resize(*length, 0),
    }
}

fn eio() -> io::Error {
    io::Error::other("EIO")
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.look()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inode = 0;
        self.rename_like(|m| {
            m.inodes.push(Inode::default());
            inode = m.inodes.len() - 1;
            m.names.insert(name.to_owned(), inode);
            Ok(())
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = *self.look()?.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_like(|m| {
            let inode = m.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            m.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.rename_like(|m| m.names.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let (mut machine, fails) = self.change()?;
        if fails {
            return Err(eio());
        }
        if !machine.lying {
            machine.name_changes.clear();
            machine.durable_names = machine.names.clone();
        }
        Ok(())
    }
}

impl SimFile {
    fn alter(&self, change: Change) -> io::Result<()> {
        let (mut machine, fails) = self.disk.change()?;
        let change = match change {
            Change::Write(at, bytes) if fails => {
                let keep = machine.below(bytes.len() + 1);
                Change::Write(at, bytes[..keep].to_vec())
            }
            other => other,
        };
        machine.writes += 1;
        apply(&mut machine.inodes[self.inode].shown, &change);
        machine.inodes[self.inode].pending.push(change);
        if fails { Err(eio()) } else { Ok(()) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let machine = self.disk.look()?;
        let from = usize::try_from(offset).unwrap();
        let bytes = machine.inodes[self.inode].shown.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.alter(Change::Write(usize::try_from(offset).unwrap(), bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        let (mut machine, fails) = self.disk.change()?;
        machine.syncs += 1;
        if fails && !machine.stopped {
            machine.settle(self.inode, false);
        }
        if fails {
            return Err(eio());
        }
        if !machine.lying {
            machine.settle(self.inode, true);
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.alter(Change::Length(usize::try_from(bytes).unwrap()))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.look()?.inodes[self.inode].shown.len() as u64)
    }

    fn drop_cache(&self) {
        if let Ok(mut machine) = self.disk.look() {
            let inode = &mut machine.inodes[self.inode];
            if inode.pending.is_empty() {
                inode.shown = inode.durable.clone();
            }
        }
    }
}
