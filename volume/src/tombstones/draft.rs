//! A new file of tombstones beside the old one, written in steps: its memory is one step, however many there are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use shared::ids::{BlobId, VolumeId};
use shared::tombstone::Tombstone;

use super::format::{ENTRY, HEADER, READ_ENTRIES, each, encode, header};
use super::set_aside;

/// Where it is until it is whole.
pub(super) const NAME: &str = ".tombstones.new";

/// What is written of it.
#[derive(Debug)]
pub(super) struct Draft {
    pub file: File,
    pub edition: u64,
    pub count: u64,
    pub newest: Option<BlobId>,
    pub room: u64,
    volume: VolumeId,
    /// The last entries, not written yet.
    step: Vec<u8>,
}

impl Draft {
    /// One without tombstones, with room for some.
    pub fn create(folder: &Path, volume: VolumeId, edition: u64) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(folder.join(NAME))?;
        let room = set_aside(&file, 0, HEADER);
        file.write_all_at(&header(volume, edition), 0)?;
        Ok(Self { file, edition, count: 0, newest: None, room, volume, step: Vec::new() })
    }

    /// Appends those of `from..to` in another file that are to be kept.
    pub fn copy(
        &mut self,
        other: &File,
        from: u64,
        to: u64,
        keep: impl Fn(&Tombstone) -> bool,
    ) -> io::Result<()> {
        each(other, self.volume, from, to, |_, tombstone| match tombstone.filter(&keep) {
            Some(tombstone) => self.add(&tombstone),
            None => Ok(()),
        })
    }

    fn add(&mut self, tombstone: &Tombstone) -> io::Result<()> {
        self.step.extend(encode(tombstone, self.volume, self.count));
        self.count += 1;
        self.newest = self.newest.max(Some(tombstone.newest()));
        if (self.step.len() as u64) < READ_ENTRIES * ENTRY { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> io::Result<()> {
        let end = HEADER + self.count * ENTRY;
        self.room = set_aside(&self.file, self.room, end);
        self.file.write_all_at(&self.step, end - self.step.len() as u64)?;
        self.step.clear();
        Ok(())
    }

    /// All of it is durable when this returns, but for its name.
    pub fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync_all()
    }
}
