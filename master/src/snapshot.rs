//! A snapshot of the tables in one file: what a master that lacks too much gets, what a back-up is.
//!
//! ```text
//! magic (8) · version (4) · frames · end frame
//! frame     = length (4) · CRC32C over number, length and records (4) · records
//! record    = path length (4) · value length (4), all ones for "removed" · path · value
//! end frame = length 0
//! ```
//! Little endian. Read in order, a later record of a path takes the place of an earlier one. A file without its end
//! frame is not whole.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use shared::crc32c::crc32c_of;
use shared::digest::Digest;

use crate::tables::TableError;

const MAGIC: &[u8; 8] = b"BARGSNAP";
const VERSION: u32 = 1;
/// A frame is written when it has passed this size.
const FRAME_BYTES: usize = 256 << 10;
/// No frame of ours is longer: one record above `FRAME_BYTES` has at most this.
const FRAME_BYTES_MAX: usize = 4 << 20;
const REMOVED: u32 = u32::MAX;

/// A snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file says no.
    #[error("the snapshot {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The tables say no.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The tables could not be opened.
    #[error("the tables cannot be written: {0}")]
    Unwritable(String),
    /// It could not be written on.
    #[error("the snapshot was given up, because a write to it failed; see the log")]
    Interrupted,
    /// It is not what was written.
    #[error("{path} is no whole snapshot of Barge's metadata: {why}. Take another one; nothing was changed")]
    Damaged {
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl SnapshotError {
    /// An error of the file at `path`.
    pub fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source }
    }
}

/// What a finished snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub digest: Digest,
}

#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    hasher: blake3::Hasher,
    frame: Vec<u8>,
    frames: u64,
    bytes: u64,
}

impl Writer {
    /// Begins the file `path`, in the place of what was there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self, SnapshotError> {
        let file = BufWriter::new(File::create(path).map_err(SnapshotError::io(path))?);
        let frame = Vec::with_capacity(FRAME_BYTES * 2);
        let mut writer =
            Self { file, path: path.to_owned(), hasher: blake3::Hasher::new(), frame, frames: 0, bytes: 0 };
        writer.put(&[&MAGIC[..], &VERSION.to_le_bytes()].concat())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(SnapshotError::io(&self.path))
    }

    /// Appends new values, or none, of paths.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn changes<'c>(
        &mut self,
        changes: impl Iterator<Item = (&'c [u8], Option<&'c [u8]>)>,
    ) -> Result<(), SnapshotError> {
        for (path, value) in changes {
            self.frame.extend_from_slice(&length(path).to_le_bytes());
            self.frame.extend_from_slice(&value.map_or(REMOVED, length).to_le_bytes());
            self.frame.extend_from_slice(path);
            self.frame.extend_from_slice(value.unwrap_or_default());
            if self.frame.len() >= FRAME_BYTES {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), SnapshotError> {
        let frame = std::mem::take(&mut self.frame);
        let sum = crc(self.frames, &frame);
        self.put(&length(&frame).to_le_bytes())?;
        self.put(&sum)?;
        self.put(&frame)?;
        self.frames += 1;
        self.frame = frame;
        self.frame.clear();
        Ok(())
    }

    /// Ends the file, and makes it durable.
    ///
    /// # Errors
    /// When that fails.
    pub fn finish(mut self) -> Result<Summary, SnapshotError> {
        if !self.frame.is_empty() {
            self.end_frame()?;
        }
        self.end_frame()?;
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(SnapshotError::io(&self.path))?;
        Ok(Summary { bytes: self.bytes, digest: Digest::from(self.hasher.finalize()) })
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(REMOVED)
}

fn crc(number: u64, records: &[u8]) -> [u8; 4] {
    crc32c_of(&[&number.to_le_bytes(), &(records.len() as u64).to_le_bytes(), records]).to_le_bytes()
}

/// Paths with their new values, or none.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Reads one, frame by frame. After the last frame it ends; an error is the end as well.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    frames: u64,
    ended: bool,
}

impl Reader {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is none of ours.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = BufReader::new(File::open(path).map_err(SnapshotError::io(path))?);
        let mut reader = Self { file, path: path.to_owned(), frames: 0, ended: false };
        let head: [u8; 12] = reader.array()?;
        if head[..8] != MAGIC[..] {
            return Err(reader.damaged("it does not begin like one"));
        }
        if head[8..] != VERSION.to_le_bytes() {
            return Err(reader.damaged("it was written by another version"));
        }
        Ok(reader)
    }

    fn damaged(&self, why: &'static str) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), why }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.file.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => SnapshotError::io(&self.path)(e),
        })
    }

    fn frame(&mut self) -> Result<Option<Changes>, SnapshotError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let sum: [u8; 4] = self.array()?;
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged("a frame is longer than any of ours"));
        }
        let mut records = vec![0; length];
        self.fill(&mut records)?;
        if crc(self.frames, &records) != sum {
            return Err(self.damaged("a checksum is wrong"));
        }
        self.frames += 1;
        if length == 0 {
            let mut more = [0];
            return match self.file.read(&mut more).map_err(SnapshotError::io(&self.path))? {
                0 => Ok(None),
                _ => Err(self.damaged("something stands behind its end")),
            };
        }
        let mut rest = records.as_slice();
        let mut changes = Changes::new();
        while !rest.is_empty() {
            changes.push(record(&mut rest).ok_or_else(|| self.damaged("a record is cut"))?);
        }
        Ok(Some(changes))
    }
}

fn record(rest: &mut &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let path_length = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?);
    let value_length = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?);
    let path = rest.split_off(..path_length as usize)?.to_vec();
    let value = match value_length {
        REMOVED => None,
        length => Some(rest.split_off(..length as usize)?.to_vec()),
    };
    Some((path, value))
}

impl Iterator for Reader {
    type Item = Result<Changes, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.frame();
        self.ended = !matches!(frame, Ok(Some(_)));
        frame.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path) -> Vec<u8> {
        let mut writer = Writer::create(path).unwrap();
        let value = vec![7; 100_000];
        for n in 0..6u8 {
            writer.changes([(&[n][..], Some(&value[..])), (&[n, 1][..], None)].into_iter()).unwrap();
        }
        let summary = writer.finish().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!((summary.bytes, summary.digest), (bytes.len() as u64, Digest::of(&bytes)));
        bytes
    }

    fn read(path: &Path) -> Result<usize, SnapshotError> {
        Reader::open(path)?.try_fold(0, |n, frame| Ok(n + frame?.len()))
    }

    #[test]
    fn whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bytes = written(&path);
        assert_eq!(read(&path).unwrap(), 12);
        for cut in [0, 5, 12, 20, bytes.len() / 2, bytes.len() - 8, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(matches!(read(&path), Err(SnapshotError::Damaged { .. })), "cut at {cut}");
        }
        for at in [0, 9, 13, 17, 40, 300_000, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(read(&path), Err(SnapshotError::Damaged { .. })), "flipped at {at}");
        }
        std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Damaged { .. })));
    }
}
