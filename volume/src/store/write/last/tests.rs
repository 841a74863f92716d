//! Whichever write of a rewrite lies, the value is not lost: the old record goes only for one that the disk gives back.

use std::time::Duration;

use shared::clock::Clock;
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::WRITE_BUFFER_BYTES;
use shared::work::Inline;

use super::*;
use crate::store::sim_disk::SimDisk;
use crate::store::{NewRecord, Options, ReadError, Store, Upload};

/// As many places of each write are turned round.
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
    NewRecord {
        blob: blob(),
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

async fn send(begun: Result<Upload, WriteError>, body: &[u8]) -> Result<Stored, WriteError> {
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

/// What a rewrite came to.
enum Rewrite {
    /// Fewer writes than that: none lied.
    Honest,
    /// One lied, and the rewrite was refused, or it was not.
    Lied { refused: bool },
}

/// Stores `body` and rewrites its record; the write behind the first `lie` ones of the rewrite lies.
async fn rewrite(body: &[u8], seed: u64, lie: u32) -> Rewrite {
    let disk = SimDisk::new(seed, Clock::manual(began()));
    let (store, _) = Store::open(Arc::new(disk.clone()), options()).unwrap();
    send(store.begin(record(body)).await, body).await.unwrap();
    disk.faults(|f| f.lie = Some(lie));
    let rewritten = send(store.begin_again(record(body), Digest::of(body)).await, body).await;
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
    // In one write, and in several.
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
        // What is before the trailer and the index is noticed, but for bits that stand for nothing.
        assert!(refused.len() > body_writes, "{refused:?}");
        assert!(refused[..body_writes].iter().all(|times| *times >= SEEDS / 2), "{refused:?}");
    }
}
