//! A volume directory to open, fill, corrupt and reopen.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::clock::{Clock, Timestamp};
use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use tempfile::TempDir;
use volume::store::{Disk, DurableRecord, NewRecord, OpenReport, Options, RealDisk, Store, WriteError};

pub const PAGE: u64 = 4096;
pub const MIB: usize = 1 << 20;

pub struct Kit {
    pub dir: TempDir,
    pub options: Options,
}

impl Kit {
    pub fn new() -> Self {
        let options = Options {
            volume: VolumeId::random(),
            segment_bytes: 1 << 30,
            segment_age: Duration::from_secs(3600),
            reserve_bytes: 0,
            capacity_bytes: None,
            clock: Clock::manual(Timestamp::from_unix_ms(1_700_000_000_000)),
            open_threads: 2,
        };
        Self { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), options }
    }

    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::open(self.dir.path()).unwrap())
    }

    pub async fn open(&self) -> (Store, OpenReport) {
        self.open_on(self.disk()).await
    }

    pub async fn open_on(&self, disk: Arc<dyn Disk>) -> (Store, OpenReport) {
        let options = self.options.clone();
        shared::work::blocking(move || Store::open(disk, options)).await.unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("segments").join(name)
    }
    pub fn seg(&self, n: u32) -> PathBuf {
        self.path(&format!("{n:010}.seg"))
    }
    pub fn idx(&self, n: u32) -> PathBuf {
        self.path(&format!("{n:010}.idx"))
    }
    pub fn seg_len(&self, n: u32) -> u64 {
        std::fs::metadata(self.seg(n)).unwrap().len()
    }
    /// Returns the bytes that all files take on the disk.
    pub fn allocated(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let entries = std::fs::read_dir(self.path("")).unwrap();
        entries.map(|e| e.unwrap().metadata().unwrap().blocks() * 512).sum()
    }
}

pub fn blob() -> BlobId {
    static LAST: AtomicU64 = AtomicU64::new(1_700_000_000_000);
    let ms = LAST.fetch_add(1, Ordering::Relaxed);
    BlobId::next(None, Timestamp::from_unix_ms(ms), [9; 10])
}

/// Bytes that differ from block to block and from seed to seed.
pub fn body(length: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

pub fn record(blob: BlobId, length: Option<usize>) -> NewRecord {
    NewRecord {
        blob,
        key: Key::new("bucket/some/key").unwrap(),
        content_type: Some("text/plain".into()),
        metadata: vec![("colour".into(), "blue".into())],
        length: length.map(|n| n as u64),
    }
}

pub async fn put(store: &Store, body: &[u8]) -> BlobId {
    let blob = blob();
    put_as(store, blob, body).await.unwrap();
    blob
}

pub async fn put_as(store: &Store, blob: BlobId, body: &[u8]) -> Result<DurableRecord, WriteError> {
    let mut upload = store.begin(record(blob, Some(body.len()))).await?;
    for piece in body.chunks(300_000) {
        upload.write(piece).await?;
    }
    let stored = upload.finish().await?;
    assert_eq!(stored, DurableRecord { blob, length: body.len() as u64, digest: Digest::of(body) });
    Ok(stored)
}

pub async fn get(store: &Store, blob: BlobId) -> Vec<u8> {
    let mut reader = store.reader(blob).await.unwrap();
    let mut out = Vec::new();
    loop {
        let piece = reader.read(out.len() as u64, usize::MAX).await.unwrap();
        if piece.is_empty() {
            assert_eq!(out.len() as u64, reader.length());
            assert_eq!(Digest::of(&out), reader.digest());
            return out;
        }
        out.extend_from_slice(&piece);
    }
}
