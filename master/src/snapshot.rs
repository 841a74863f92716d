//! A snapshot of the tables in one file: a backup, and what a master too far behind the log receives.
//!
//! ```text
//! magic (8) · version (4) · frames · end frame
//! frame     = length (4) · CRC32C over number, length and records (4) · records
//! record    = path length (4) · value length (4), all ones for "removed" · path · value
//! end frame = length 0
//! ```
//! Little endian. A later record of a path replaces an earlier one. A file without its end frame is incomplete.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use shared::crc32c::crc32c_of;
use shared::digest::Digest;

use crate::tables::TableError;

const MAGIC: &[u8; 8] = b"BARGSNAP";
const VERSION: u32 = 1;
/// A frame is written once it exceeds this size.
const FRAME_BYTES: usize = 256 << 10;
/// Maximum size of a frame: `FRAME_BYTES` plus one record.
const FRAME_BYTES_MAX: usize = 4 << 20;
const REMOVED: u32 = u32::MAX;

/// A snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file returned an error.
    #[error("the snapshot {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The tables could not be opened.
    #[error("the tables cannot be written: {reason}")]
    Unwritable { reason: String },
    /// A write failed, or the tables were replaced meanwhile.
    #[error(
        "the snapshot was aborted: a write to it failed, or the tables were replaced. See the log, then retry"
    )]
    Interrupted,
    /// The file is incomplete or corrupt.
    #[error(
        "{path} is not a complete snapshot of Barge's metadata: {why}. Use another one; nothing was changed"
    )]
    Corrupt { path: PathBuf, why: &'static str },
}

impl SnapshotError {
    /// Wraps an IO error of the file at `path`.
    pub fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source }
    }
}

/// Size and digest of a finished snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
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
    /// Creates or overwrites the file `path`.
    ///
    /// # Errors
    /// When it cannot be created.
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

    /// Appends changes: paths with their new values, `None` for removed ones.
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

    /// Writes the end frame and makes the file durable.
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

/// Paths with their new values, `None` for removed ones.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Reads a snapshot frame by frame. The iterator ends after the last frame or the first error.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    frames: u64,
    ended: bool,
}

impl Reader {
    /// Opens the snapshot at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is not a snapshot of this version.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = BufReader::new(File::open(path).map_err(SnapshotError::io(path))?);
        let mut reader = Self { file, path: path.to_owned(), frames: 0, ended: false };
        let head: [u8; 12] = reader.array()?;
        if head[..8] != MAGIC[..] {
            return Err(reader.corrupt("its first bytes are not those of a snapshot"));
        }
        if head[8..] != VERSION.to_le_bytes() {
            return Err(reader.corrupt("it was written by another version of Barge"));
        }
        Ok(reader)
    }

    fn corrupt(&self, why: &'static str) -> SnapshotError {
        SnapshotError::Corrupt { path: self.path.clone(), why }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.file.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt("it ends too early"),
            _ => SnapshotError::io(&self.path)(e),
        })
    }

    fn frame(&mut self) -> Result<Option<Changes>, SnapshotError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let sum: [u8; 4] = self.array()?;
        if length > FRAME_BYTES_MAX {
            return Err(self.corrupt("a frame is longer than allowed"));
        }
        let mut records = vec![0; length];
        self.fill(&mut records)?;
        if crc(self.frames, &records) != sum {
            return Err(self.corrupt("a checksum does not match"));
        }
        self.frames += 1;
        if length == 0 {
            let mut more = [0];
            return match self.file.read(&mut more).map_err(SnapshotError::io(&self.path))? {
                0 => Ok(None),
                _ => Err(self.corrupt("there are bytes after its end")),
            };
        }
        let mut rest = records.as_slice();
        let mut changes = Changes::new();
        while !rest.is_empty() {
            changes.push(record(&mut rest).ok_or_else(|| self.corrupt("a record is truncated"))?);
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
            assert!(matches!(read(&path), Err(SnapshotError::Corrupt { .. })), "cut at {cut}");
        }
        for at in [0, 9, 13, 17, 40, 300_000, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(read(&path), Err(SnapshotError::Corrupt { .. })), "flipped at {at}");
        }
        std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Corrupt { .. })));
    }
}
