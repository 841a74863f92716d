//! Whichever write of a rewrite lies, or sync fails, the value is not lost: the old record is deleted only after the
//! new one was read back. The rest of a dropped upload is cut off after its last write.

use std::time::Duration;

use shared::clock::{Clock, Timestamp};
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::WRITE_BUFFER_BYTES;
use shared::work::Inline;

use super::*;
use crate::store::sim_disk::SimDisk;
use crate::store::{Options, ReadError, lock};

/// Number of seeds, each of which flips another bit of a write.
const SEEDS: u64 = 8;

fn options() -> Options {
    Options {
        volume: VolumeId::from_bytes([5; 16]),
        segment_bytes: 64 << 20,
        segment_age: Duration::from_secs(3600),
        reserve_bytes: 0,
        capacity_bytes: None,
        clock: Clock::manual(began()),
        open_threads: 1,
    }
}

fn began() -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000)
}

fn blob() -> BlobId {
    BlobId::next(None, began(), [9; 10])
}

fn record(body: &[u8]) -> NewRecord {
    record_of(blob(), body)
}

fn record_of(blob: BlobId, body: &[u8]) -> NewRecord {
    NewRecord {
        blob,
        key: Key::new("bucket/key").unwrap(),
        content_type: None,
        metadata: Vec::new(),
        length: Some(body.len() as u64),
    }
}

fn body(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

async fn send(begun: Result<RecordWriter, WriteError>, body: &[u8]) -> Result<DurableRecord, WriteError> {
    let mut upload = begun?;
    upload.write(body).await?;
    upload.finish().await
}

async fn read(store: &Store) -> Result<Vec<u8>, ReadError> {
    let (mut reader, mut bytes) = (store.reader(blob()).await?, Vec::new());
    loop {
        let piece = reader.read(bytes.len() as u64, usize::MAX).await?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&piece);
    }
}

/// The outcome of a rewrite.
enum Rewrite {
    /// There were fewer writes: none lied.
    Honest,
    /// One write lied; the rewrite was refused or not.
    Lied { refused: bool },
}

/// Stores `body` and rewrites its record; the write after the first `lie` ones of the rewrite lies.
async fn rewrite(body: &[u8], seed: u64, lie: u32) -> Rewrite {
    let disk = SimDisk::new(seed, Clock::manual(began()));
    let (store, _) = Store::open(Arc::new(disk.clone()), options()).unwrap();
    send(store.begin(record(body)).await, body).await.unwrap();
    disk.faults(|f| f.lie = Some(lie));
    let rewritten = send(store.begin_rewrite(record(body), Digest::of(body)).await, body).await;
    if disk.fired().lies == 0 {
        rewritten.unwrap();
        return Rewrite::Honest;
    }
    let what = format!("{} bytes, write {lie} of the rewrite lies, seed {seed}: {rewritten:?}", body.len());
    assert!(read(&store).await.is_ok_and(|bytes| bytes == body), "{what}");
    store.close().await;
    let (store, _) = Store::open(Arc::new(disk.power_cut()), options()).unwrap();
    assert!(read(&store).await.is_ok_and(|bytes| bytes == body), "{what}, and then opened again");
    Rewrite::Lied { refused: rewritten.is_err() }
}

#[tokio::test]
async fn a_write_that_lies_costs_no_value_that_is_rewritten() {
    let _inline = Inline::enter();
    // Bodies of one write and of several.
    for (body, body_writes) in [(body(40_000), 1), (body(2 * WRITE_BUFFER_BYTES + 5), 3)] {
        let (mut lie, mut refused) = (0, Vec::new());
        'writes: loop {
            let mut times = 0;
            for seed in 0..SEEDS {
                match Box::pin(rewrite(&body, seed, lie)).await {
                    Rewrite::Honest => break 'writes,
                    Rewrite::Lied { refused } => times += u64::from(refused),
                }
            }
            refused.push(times);
            lie += 1;
        }
        // Flips before the trailer and the index are detected, except in unused bits.
        assert!(refused.len() > body_writes, "{refused:?}");
        assert!(refused[..body_writes].iter().all(|times| *times >= SEEDS / 2), "{refused:?}");
    }
}

/// Stores a value in segment 1; a rewrite goes to segment 0, after another value.
async fn store_in_the_second_segment(disk: &SimDisk, body: &[u8]) -> Store {
    let (store, _) = Store::open(Arc::new(disk.clone()), options()).unwrap();
    let first = store.begin(record_of(BlobId::next(None, began(), [1; 10]), &[])).await.unwrap();
    send(store.begin(record(body)).await, body).await.unwrap();
    first.finish().await.unwrap();
    let extent = lock(&store.0.catalog).get(blob()).unwrap();
    assert_eq!(extent.segment.0, 1);
    store
}

/// Stops a rewrite after `changes`, kills the process, and lets sync number `sync` of the next opening fail. After a
/// power cut the value must be there. Returns whether there was a duplicate, and whether the sync failed.
async fn rewrite_and_open(seed: u64, changes: u64, sync: u32) -> (bool, bool) {
    let body = body(40_000);
    let disk = SimDisk::new(seed, Clock::manual(began()));
    let store = store_in_the_second_segment(&disk, &body).await;
    disk.stop_after(Some(changes));
    let _ = send(store.begin_rewrite(record(&body), Digest::of(&body)).await, &body).await;
    disk.stop_after(None);
    let disk = disk.restart();
    disk.faults(|f| f.sync = Some(sync));
    let before = disk.fired().syncs;
    let (store, report) = Store::open(Arc::new(disk.clone()), options()).unwrap();
    let failed = disk.fired().syncs > before;
    disk.faults(|f| f.sync = None);
    drop(store);
    let (store, _) = Store::open(Arc::new(disk.power_cut()), options()).unwrap();
    let read = read(&store).await;
    assert!(
        read.as_ref().is_ok_and(|bytes| *bytes == body),
        "seed {seed}, {changes} changes, sync {sync}: {read:?}"
    );
    (report.duplicates > 0, failed)
}

#[tokio::test]
async fn a_copy_that_could_not_be_synced_costs_no_other() {
    let _inline = Inline::enter();
    let mut twice_and_failed = 0;
    for seed in 0..SEEDS {
        for changes in 0..12 {
            // Sync 0 is that of the directory, without which the opening fails.
            for sync in 1..6 {
                let (twice, failed) = Box::pin(rewrite_and_open(seed, changes, sync)).await;
                twice_and_failed += u32::from(twice && failed);
            }
        }
    }
    assert!(twice_and_failed > 0, "a sync failed while there was a duplicate");
}

/// How long the last write is held.
const A_MOMENT: Duration = Duration::from_millis(100);

/// An upload is dropped while a write is in flight: its rest is cut off after that write has ended, and not before.
async fn give_up(aborted: bool) {
    let disk = SimDisk::new(1, Clock::manual(began()));
    let (store, _) = Store::open(Arc::new(disk.clone()), options()).unwrap();
    let mut upload = store.begin(record(&body(10 * PAGE_BYTES))).await.unwrap();
    let buffer = store.0.write_pool.take().await;
    let lane = upload.lane.as_mut().unwrap();
    lane.spend(PAGE).unwrap();
    let (segment, at, inner) = (Arc::clone(&lane.segment), lane.start, Arc::clone(&store.0));
    let before = segment.end();
    let (go, wait) = std::sync::mpsc::channel();
    upload.inflight.submit(buffer, 0..0, move |buffer| {
        wait.recv().expect("it is told to go on");
        write_at(&inner, &segment, &buffer.as_slice()[..PAGE_BYTES], at)
    });
    let ended = async {
        if aborted {
            upload.abort().await;
        } else {
            drop(upload);
        }
        store.close().await;
    };
    let mut ended = pin!(ended);
    assert!(tokio::time::timeout(A_MOMENT, &mut ended).await.is_err(), "it waits for the write");
    go.send(()).unwrap();
    ended.await;
    let segments: Vec<_> = disk.files().into_iter().filter(|(name, _)| name.ends_with(".seg")).collect();
    assert!(matches!(segments[..], [(_, length)] if length == before), "{segments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_cut_off_behind_its_last_write() {
    give_up(true).await;
    give_up(false).await;
}

#[test]
fn a_record_takes_no_more_than_placement_asks_for() {
    const MIB: u64 = 1 << 20;
    let lengths = [0, 1, 4095, 4096, 65_535, 65_536, MIB, 70 * MIB + 1, 1 << 30, 33 << 30, BLOB_BYTES_MAX];
    for length in lengths {
        let (takes, asked) = (length + super::overhead(length), shared::size::record_bytes_max(length));
        assert!(takes <= asked, "{length}: {takes} and {asked}");
        assert!(asked - takes <= MIB + length / 16_384, "{length}: {takes} and {asked}");
    }
}

#[tokio::test]
async fn a_value_is_not_deleted_while_its_old_record_cannot_be() {
    let _inline = Inline::enter();
    let (disk, body) = (SimDisk::new(1, Clock::manual(began())), body(40_000));
    let store = store_in_the_second_segment(&disk, &body).await;
    // Those of the new body and of the new trailer succeed; that of the old record's delete fails.
    disk.faults(|f| f.sync = Some(2));
    send(store.begin_rewrite(record(&body), Digest::of(&body)).await, &body).await.unwrap();
    assert_eq!(disk.fired().syncs, 1);
    store.delete(vec![blob()]).await.unwrap_err();
    assert!(read(&store).await.is_ok_and(|bytes| bytes == body));
}
