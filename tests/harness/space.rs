//! Space: the volumes hold what the objects reference, and nothing else.

use std::time::{Duration, Instant};

use reqwest::Method;
use shared::limits::{INDEX_ROOM_BYTES, PAGE_BYTES};

use crate::cluster::Cluster;
use crate::oracle::Oracle;
use crate::wait::moment;

/// Header, trailer and padding of a record, and what the file system adds to a file.
const PER_BLOB: u64 = 8 * PAGE_BYTES as u64;
/// Hole punching leaves the header page behind: room for some hundred of them on each volume.
const PUNCHED: u64 = 4 << 20;
const PER_SEGMENT: u64 = 4 * PAGE_BYTES as u64 + INDEX_ROOM_BYTES;

/// Waits until all space of deleted, overwritten, aborted or uncommitted values is free. `holes` says for each volume
/// whether its file system supports holes: if not, some dead bytes wait for a compaction.
///
/// # Panics
/// If the space is not free within a time that depends on the orphan grace period.
pub async fn is_back(cluster: &Cluster, oracle: &Oracle, replicas: u64, grace: Duration, holes: &[bool]) {
    let client = cluster.client();
    let mut present = 0;
    for key in oracle.keys() {
        let head = client.send(Method::HEAD, &key, &[], None).await.expect("an answer");
        present += u64::from(head.status == 200);
    }
    let deadline = Instant::now() + grace * 10 + Duration::from_secs(30);
    loop {
        let status = cluster.status().await.expect("the master is up");
        let held = cluster.footprint().await;
        assert_eq!(status.objects, present, "keys that the master counts");
        let copies = present * replicas;
        let blobs: u64 = held.blobs.iter().sum();
        let mut excess = Vec::new();
        for (n, holes) in holes.iter().enumerate() {
            let (allocated, segments) = cluster.segment_bytes(n);
            let most = held.live_bytes[n] + held.blobs[n] * PER_BLOB + segments * PER_SEGMENT;
            if *holes && allocated > most + PUNCHED {
                excess.push(format!(
                    "volume{}: {allocated} bytes in {segments} segments, {most} expected",
                    n + 1
                ));
            }
        }
        let now = format!(
            "reclaim_pending {}, {blobs} blobs for {copies} copies, {held:?}, {excess:?}",
            status.reclaim_pending
        );
        if status.reclaim_pending == 0 && blobs == copies && excess.is_empty() && held.uploads == 0 {
            crate::say(format_args!("space is free again: {now}"));
            return;
        }
        assert!(Instant::now() < deadline, "space is not free again: {now}");
        moment(Duration::from_millis(200)).await;
    }
}
