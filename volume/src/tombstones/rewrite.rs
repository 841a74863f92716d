//! A new file of tombstones, written beside the old one in steps: it takes the memory of one step.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use shared::ids::{BlobId, VolumeId};
use shared::tombstone::Tombstone;

use super::format::{ENTRY, HEADER, READ_ENTRIES, each, encode, header};
use super::preallocate;

/// Name of the file until it is complete.
pub(super) const NAME: &str = ".tombstones.new";

#[derive(Debug)]
pub(super) struct TombstoneRewrite {
    pub file: File,
    pub edition: u64,
    pub count: u64,
    pub newest: Option<BlobId>,
    pub room: u64,
    volume: VolumeId,
    /// The last entries, still to be written.
    step: Vec<u8>,
}

impl TombstoneRewrite {
    /// Creates a file without tombstones.
    pub fn create(folder: &Path, volume: VolumeId, edition: u64) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(folder.join(NAME))?;
        let room = preallocate(&file, 0, HEADER);
        file.write_all_at(&header(volume, edition), 0)?;
        Ok(Self { file, edition, count: 0, newest: None, room, volume, step: Vec::new() })
    }

    /// Appends those of the entries `from..to` of another file for which `keep` holds.
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
        self.room = preallocate(&self.file, self.room, end);
        self.file.write_all_at(&self.step, end - self.step.len() as u64)?;
        self.step.clear();
        Ok(())
    }

    /// Makes the contents durable; the name is not yet.
    pub fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync_all()
    }
}
