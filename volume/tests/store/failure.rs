//! A failing disk: nothing is acknowledged after a failure, and reads go on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use shared::limits::RESERVE_FIRST_BYTES;
use volume::store::{Access, DeleteError, Disk, DiskFile, Punched, WriteError};

use super::kit::{Kit, MIB, blob, body, get, put, put_as, record};

/// The steps that can be made to fail, on files whose names have this ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Write,
    Sync,
    Truncate,
    Punch,
    Create,
    SyncDir,
    Rename,
}

/// A real disk with injected failures. Fault model: a step fails with an error and has no effect; the disk can be
/// nearly full, without hole punching, without a page cache.
#[derive(Debug)]
struct Faulty {
    disk: Arc<dyn Disk>,
    knobs: Arc<Knobs>,
}

#[derive(Debug, Default)]
struct Knobs {
    fail: Mutex<Vec<(Step, &'static str, Errno)>>,
    free: AtomicU64,
    no_punch: AtomicBool,
    log: Mutex<Vec<(Step, String)>>,
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    name: String,
    knobs: Arc<Knobs>,
}

impl Knobs {
    fn set(&self, step: Step, ending: &'static str, error: Errno) {
        self.fail.lock().unwrap().push((step, ending, error));
    }
    fn clear(&self) {
        self.fail.lock().unwrap().clear();
    }
    fn step(&self, step: Step, name: &str) -> io::Result<()> {
        self.log.lock().unwrap().push((step, name.to_owned()));
        let fail = self.fail.lock().unwrap();
        let hit = fail.iter().find(|(s, ending, _)| *s == step && name.ends_with(ending));
        hit.map_or(Ok(()), |(_, _, e)| Err((*e).into()))
    }
    fn file(
        self: &Arc<Self>,
        name: &str,
        file: io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FaultyFile { file: file?, name: name.to_owned(), knobs: Arc::clone(self) }))
    }
}

impl Disk for Faulty {
    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }
    fn create(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.knobs.step(Step::Create, name)?;
        self.knobs.file(name, self.disk.create(name, access))
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.knobs.file(name, self.disk.open(name, access))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.knobs.step(Step::Rename, to)?;
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.knobs.step(Step::SyncDir, "")?;
        self.disk.sync_dir()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        match self.knobs.free.load(Ordering::Relaxed) {
            0 => self.disk.free_bytes(),
            n => Ok(n),
        }
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn read_cached_at(&self, _: &mut [u8], _: u64) -> usize {
        0
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.knobs.step(Step::Write, &self.name)?;
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.knobs.step(Step::Sync, &self.name)?;
        self.file.sync_data()
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.knobs.step(Step::Truncate, &self.name)?;
        self.file.truncate(bytes)
    }
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<Punched> {
        self.knobs.step(Step::Punch, &self.name)?;
        if self.knobs.no_punch.load(Ordering::Relaxed) {
            return Ok(Punched::Unsupported);
        }
        self.file.punch(offset, bytes)
    }
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.allocate(offset, bytes)
    }
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
    fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }
    fn holds_data(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.file.holds_data(offset, bytes)
    }
    fn drop_cache(&self) {
        self.file.drop_cache();
    }
}

fn faulty(kit: &Kit) -> (Arc<dyn Disk>, Arc<Knobs>) {
    let knobs = Arc::new(Knobs::default());
    (Arc::new(Faulty { disk: kit.disk(), knobs: Arc::clone(&knobs) }), knobs)
}

#[tokio::test]
async fn a_failed_write_or_sync_poisons_and_reads_go_on() {
    for (step, size) in [(Step::Write, 100), (Step::Write, 5 * MIB), (Step::Sync, 100), (Step::Sync, 5 * MIB)]
    {
        let kit = Kit::new();
        let (disk, knobs) = faulty(&kit);
        let (store, _) = kit.open_on(disk).await;
        let before = put(&store, &body(100_000, 1)).await;
        let busy = store.begin(record(blob(), Some(3))).await.unwrap();
        knobs.set(step, ".seg", Errno::IO);
        let failed = blob();
        let e = put_as(&store, failed, &body(size, 2)).await.unwrap_err();
        assert!(matches!(e, WriteError::Io(_)), "{e:?}");
        knobs.clear();
        // The disk works again, but uploads are still refused.
        let e = put_as(&store, blob(), b"x").await.unwrap_err();
        assert!(matches!(e, WriteError::ReadOnly(_)), "{e:?}");
        let status = store.status();
        assert!(status.read_only.unwrap().contains("Input/output error") || step == Step::Write || size > 0);
        assert_eq!(status.available_bytes, 0);
        assert!(!store.has(failed));
        assert_eq!(get(&store, before).await, body(100_000, 1));
        // Deletes still work.
        assert_eq!(store.delete(vec![before]).await.unwrap().found, 1);
        busy.abort().await;
        store.punched().await;
        let status = store.status();
        assert_eq!((status.lanes_busy, status.uploads, status.reserved_bytes), (0, 0, 0));
        drop(store);
        let (store, _) = kit.open().await;
        assert!(!store.has(before));
        put(&store, b"x").await;
    }
}

#[tokio::test]
async fn a_full_disk_is_a_refusal_and_no_failure() {
    let kit = Kit::new();
    let (disk, knobs) = faulty(&kit);
    let (store, _) = kit.open_on(disk).await;
    let keep = put(&store, &body(100_000, 1)).await;
    let before = kit.seg_len(0);
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        for size in [100, 5 * MIB] {
            knobs.set(Step::Write, ".seg", errno);
            let e = put_as(&store, blob(), &body(size, 2)).await.unwrap_err();
            assert!(matches!(e, WriteError::NoSpace { .. }), "{e:?}");
            store.punched().await;
            assert_eq!(kit.seg_len(0), before);
            knobs.clear();
            assert_eq!(store.status().read_only, None);
        }
    }
    // New segments cannot be created either.
    let busy = store.begin(record(blob(), Some(3))).await.unwrap();
    knobs.set(Step::Write, ".seg", Errno::NOSPC);
    assert!(matches!(put_as(&store, blob(), b"y").await, Err(WriteError::NoSpace { .. })));
    assert!(!kit.seg(1).exists());
    knobs.clear();
    drop(busy);
    store.delete(vec![keep]).await.unwrap();
    put(&store, b"goes on").await;
}

#[tokio::test]
async fn space_is_set_aside_as_bytes_come_and_more_than_there_is_is_refused_at_once() {
    let mut kit = Kit::new();
    kit.options.reserve_bytes = 10 * MIB as u64;
    let (disk, knobs) = faulty(&kit);
    let (store, _) = kit.open_on(disk).await;
    knobs.free.store(15 * MIB as u64, Ordering::Relaxed);
    let e = store.begin(record(blob(), Some(5 * MIB))).await.unwrap_err();
    let WriteError::NoSpace { needed, available } = e else { panic!("{e:?}") };
    assert!(needed > 5 * MIB as u64 && available == 5 * MIB as u64);
    let first = store.begin(record(blob(), Some(4 * MIB))).await.unwrap();
    assert_eq!(store.status().reserved_bytes, RESERVE_FIRST_BYTES);
    drop(first);
    store.punched().await;
    // It reserves no more than it has sent or declared; when the disk fills up it is refused in the middle.
    for length in [None, Some(24 * MIB)] {
        knobs.free.store(80 * MIB as u64, Ordering::Relaxed);
        let mut upload = store.begin(record(blob(), length)).await.unwrap();
        let piece = body(MIB, 1);
        let mut refused = None;
        for n in 1..=24 {
            if n == 9 {
                knobs.free.store(10 * MIB as u64, Ordering::Relaxed);
            }
            if let Err(e) = upload.write(&piece).await {
                refused = Some(e);
                break;
            }
            let (held, sent) = (store.status().reserved_bytes, (n * MIB) as u64);
            assert!(held <= sent.max(RESERVE_FIRST_BYTES), "{held} bytes are held for {sent}");
        }
        assert!(matches!(refused, Some(WriteError::NoSpace { .. })), "{refused:?}");
        drop(upload);
        store.punched().await;
    }
    assert_eq!((kit.seg_len(0), store.status().reserved_bytes), (4096, 0));
}

#[tokio::test]
async fn a_failed_truncate_poisons() {
    let kit = Kit::new();
    let (disk, knobs) = faulty(&kit);
    let (store, _) = kit.open_on(disk).await;
    let keep = put(&store, b"keep").await;
    let mut upload = store.begin(record(blob(), None)).await.unwrap();
    upload.write(&body(3 * MIB, 1)).await.unwrap();
    knobs.set(Step::Truncate, ".seg", Errno::IO);
    upload.abort().await;
    assert!(store.status().read_only.is_some());
    drop(store);
    let (store, report) = kit.open().await;
    assert_eq!(report.blobs, 1);
    assert!(report.torn_bytes > 0);
    assert_eq!(get(&store, keep).await, b"keep");
}

#[tokio::test]
async fn a_delete_that_could_not_be_made_durable_is_an_error_and_frees_nothing() {
    for step in [Step::Write, Step::Sync] {
        let kit = Kit::new();
        let (disk, knobs) = faulty(&kit);
        let (store, _) = kit.open_on(disk).await;
        let id = put(&store, &body(100_000, 1)).await;
        knobs.set(step, ".idx", Errno::IO);
        assert!(matches!(store.delete(vec![id]).await, Err(DeleteError::Io(_))));
        knobs.clear();
        store.punched().await;
        assert!(!knobs.log.lock().unwrap().iter().any(|(s, _)| *s == Step::Punch));
        assert_eq!(get(&store, id).await, body(100_000, 1));
        assert!(store.status().read_only.is_some());
        // After a failed sync a later one proves nothing.
        assert!(matches!(store.delete(vec![id]).await, Err(DeleteError::Poisoned { .. })));
    }
}

#[tokio::test]
async fn an_upload_whose_index_entry_fails_is_stored_all_the_same() {
    let kit = Kit::new();
    let (disk, knobs) = faulty(&kit);
    let (store, _) = kit.open_on(disk).await;
    let first = put(&store, b"first").await;
    knobs.set(Step::Write, ".idx", Errno::IO);
    let second = put(&store, b"second").await;
    knobs.clear();
    assert_eq!(get(&store, second).await, b"second");
    assert!(store.status().read_only.is_some());
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.records_recovered), (2, 1));
    assert_eq!(
        (get(&store, first).await, get(&store, second).await),
        (b"first".to_vec(), b"second".to_vec())
    );
}

#[tokio::test]
async fn a_segment_that_cannot_be_made_durable_is_not_used() {
    for (step, ending) in
        [(Step::Sync, ".seg"), (Step::Sync, ".idx"), (Step::SyncDir, ""), (Step::Create, ".idx")]
    {
        let kit = Kit::new();
        let (disk, knobs) = faulty(&kit);
        let (store, _) = kit.open_on(disk).await;
        knobs.set(step, ending, Errno::IO);
        assert!(matches!(put_as(&store, blob(), b"x").await, Err(WriteError::Io(_))));
        knobs.clear();
        assert!(matches!(put_as(&store, blob(), b"x").await, Err(WriteError::ReadOnly(_))));
        assert_eq!(store.status().lanes_busy, 0);
        let (store, report) = kit.open().await;
        assert_eq!((report.segments, report.blobs), (0, 0));
        put(&store, b"x").await;
    }
}

#[tokio::test]
async fn a_seal_that_fails_loses_nothing() {
    for (step, ending) in
        [(Step::Create, ".tmp"), (Step::Sync, ".tmp"), (Step::Rename, ".idx"), (Step::SyncDir, "")]
    {
        let mut kit = Kit::new();
        kit.options.segment_bytes = 1 << 20;
        let (disk, knobs) = faulty(&kit);
        let (store, _) = kit.open_on(disk).await;
        let small = put(&store, b"small").await;
        knobs.set(step, ending, Errno::IO);
        let id = put(&store, &body(2 * MIB, 1)).await;
        store.punched().await;
        knobs.clear();
        let status = store.status();
        assert_eq!((status.segments_sealed, status.lanes_busy), (0, 0));
        assert_eq!(get(&store, id).await, body(2 * MIB, 1));
        assert_eq!(store.delete(vec![small]).await.is_ok(), step != Step::SyncDir);
        store.punched().await;
        drop(store);
        let (store, report) = kit.open().await;
        assert_eq!(report.blobs, if step == Step::SyncDir { 2 } else { 1 });
        store.punched().await;
        assert_eq!(store.status().segments_sealed, 1);
        assert_eq!(get(&store, id).await, body(2 * MIB, 1));
    }
}

#[tokio::test]
async fn the_order_of_a_delete_is_entry_sync_punch() {
    let kit = Kit::new();
    let (disk, knobs) = faulty(&kit);
    let (store, _) = kit.open_on(disk).await;
    let id = put(&store, &body(100_000, 1)).await;
    knobs.log.lock().unwrap().clear();
    store.delete(vec![id]).await.unwrap();
    store.punched().await;
    let log: Vec<_> = knobs.log.lock().unwrap().iter().map(|(s, n)| (*s, n[10..].to_owned())).collect();
    let expected =
        [(Step::Write, ".idx"), (Step::Sync, ".idx"), (Step::Write, ".seg"), (Step::Punch, ".seg")];
    assert_eq!(log, expected.map(|(s, n)| (s, n.to_owned())));
}

#[tokio::test]
async fn one_sync_an_upload() {
    let kit = Kit::new();
    let (disk, knobs) = faulty(&kit);
    let (store, _) = kit.open_on(disk).await;
    put(&store, b"the first makes the segment").await;
    knobs.log.lock().unwrap().clear();
    put(&store, &body(100_000, 1)).await;
    let log: Vec<_> = knobs.log.lock().unwrap().iter().map(|(s, n)| (*s, n[10..].to_owned())).collect();
    let expected = [(Step::Write, ".seg"), (Step::Sync, ".seg"), (Step::Write, ".idx")];
    assert_eq!(log, expected.map(|(s, n)| (s, n.to_owned())));
}

#[tokio::test]
async fn where_holes_cannot_be_made_dead_bytes_are_counted() {
    let kit = Kit::new();
    let (disk, knobs) = faulty(&kit);
    knobs.no_punch.store(true, Ordering::Relaxed);
    let (store, _) = kit.open_on(Arc::clone(&disk)).await;
    let id = put(&store, &body(100_000, 1)).await;
    let keep = put(&store, b"keep").await;
    store.delete(vec![id]).await.unwrap();
    store.punched().await;
    assert!(store.status().dead_bytes > 100_000);
    drop(store);
    std::fs::remove_file(kit.idx(0)).unwrap();
    let (store, report) = kit.open_on(disk).await;
    assert_eq!((report.blobs, report.quarantined), (1, 0));
    store.punched().await;
    assert!(store.status().dead_bytes > 100_000);
    assert_eq!(get(&store, keep).await, b"keep");
}
