//! Queries the volumes: their identity, every record, every tombstone. Page by page, a few volumes in parallel; a
//! call that fails is retried.
//!
//! Tombstones are read last, so that a delete during the reading of records is not missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::{HeaderValue, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::digest::Digest;
use shared::http::body;
use shared::http::client::{CallError, PeerClient};
use shared::ids::{ClusterId, VolumeId};
use shared::limits::{MANIFEST_BYTES_MAX, REBUILD_PAGE, REBUILD_VOLUMES_AT_ONCE};
use shared::wire::routes::{HEALING_HEADER, MANIFEST_HEADER, RECORDS, TOMBSTONES};
use shared::wire::volume::{
    RecordEntry, RecordsPage, RecordsRequest, TombstonesPage, TombstonesRequest, VolumeReport,
};
use shared::work::blocking;

use super::collect::Collected;
use super::{RebuildError, RebuildProgress};

/// Time limit of one page: some hundred records, two reads each, from a disk that seeks.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts per page.
const ATTEMPTS: u32 = 4;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// The volumes of one cluster.
#[derive(Clone, Debug)]
pub struct Volumes {
    pub cluster: ClusterId,
    /// The address and the report of each.
    pub all: Vec<(String, VolumeReport)>,
}

impl Volumes {
    /// Returns an error if one of them has refused segments or quarantined ranges.
    pub fn all_served(&self) -> Result<(), RebuildError> {
        let unserved = |report: &VolumeReport| report.segments_refused + report.ranges_quarantined > 0;
        let Some((address, report)) = self.all.iter().find(|(_, report)| unserved(report)) else {
            return Ok(());
        };
        let (segments, ranges) = (report.segments_refused, report.ranges_quarantined);
        Err(RebuildError::NotServed { address: address.clone(), segments, ranges })
    }
}

/// Asks all volumes for their identity, and checks that they belong to one cluster.
pub async fn who(peers: &PeerClient, addresses: &[String]) -> Result<Volumes, RebuildError> {
    let question = RecordsRequest { cluster: None, volume: None, after: None, limit: 1 };
    let ask = async |address: &String| {
        let page: RecordsPage = patiently(peers, address, RECORDS, &question).await?;
        Ok::<_, RebuildError>((address.clone(), page.report))
    };
    let all: Vec<_> =
        stream::iter(addresses).map(ask).buffered(REBUILD_VOLUMES_AT_ONCE).try_collect().await?;
    let mut seen: BTreeMap<VolumeId, String> = BTreeMap::new();
    let mut cluster = None;
    for (address, report) in &all {
        let theirs = report.cluster.ok_or_else(|| RebuildError::NoCluster { address: address.clone() })?;
        let ours = *cluster.get_or_insert(theirs);
        if theirs != ours {
            return Err(RebuildError::OtherCluster { address: address.clone(), theirs, ours });
        }
        if let Some(other) = seen.insert(report.volume, address.clone()) {
            return Err(RebuildError::Same { address: address.clone(), other, volume: report.volume });
        }
    }
    let cluster = cluster.ok_or(RebuildError::NoVolumes)?;
    Ok(Volumes { cluster, all })
}

pub async fn all(
    peers: &PeerClient,
    volumes: &Volumes,
    collected: &Arc<Collected>,
    progress: &Arc<RebuildProgress>,
) -> Result<(), RebuildError> {
    let expected = volumes.all.iter().map(|(_, report)| report.blobs).sum();
    progress.expected.store(expected, Ordering::Relaxed);
    let read = async |(address, report): &(String, VolumeReport)| {
        records(peers, volumes.cluster, address, report.volume, collected, progress).await?;
        tombstones(peers, volumes.cluster, address, report.volume, collected).await
    };
    stream::iter(&volumes.all).map(read).buffer_unordered(REBUILD_VOLUMES_AT_ONCE).try_collect().await
}

async fn records(
    peers: &PeerClient,
    cluster: ClusterId,
    address: &str,
    volume: VolumeId,
    collected: &Arc<Collected>,
    progress: &RebuildProgress,
) -> Result<(), RebuildError> {
    let mut after = None;
    loop {
        let question =
            RecordsRequest { cluster: Some(cluster), volume: Some(volume), after, limit: REBUILD_PAGE };
        let page: RecordsPage = patiently(peers, address, RECORDS, &question).await?;
        progress.read.fetch_add(page.records.len() as u64, Ordering::Relaxed);
        for record in &page.records {
            manifest(peers, (cluster, address, volume), record, collected).await?;
        }
        let (collected, records) = (Arc::clone(collected), page.records);
        blocking(move || collected.add_records(volume, records)).await?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Fetches a manifest that is not known yet. If this volume cannot read it, another one may.
async fn manifest(
    peers: &PeerClient,
    (cluster, address, volume): (ClusterId, &str, VolumeId),
    record: &RecordEntry,
    collected: &Arc<Collected>,
) -> Result<(), RebuildError> {
    let Some(value) = &record.value else { return Ok(()) };
    let noted = value.metadata.iter().any(|(name, _)| name == MANIFEST_HEADER);
    if !noted || collected.has_manifest(record.blob)? {
        return Ok(());
    }
    let target = peers.raw_read(cluster, volume, &value.key, record.blob);
    let mut request = Request::get(format!("{address}{target}")).body(body::empty());
    if let Ok(request) = &mut request {
        request.headers_mut().insert(HEALING_HEADER, HeaderValue::from_static("1"));
    }
    let Ok(request) = request else { return Ok(()) };
    let bytes = match peers.http().send_within(request, PAGE_TIMEOUT).await {
        Ok(answer) if answer.status().is_success() => {
            body::collect(answer.into_body(), MANIFEST_BYTES_MAX).await.ok()
        }
        _ => None,
    };
    match bytes.filter(|bytes| Digest::of(bytes) == value.blake3) {
        Some(bytes) => collected.add_manifest(record.blob, &bytes),
        None => {
            tracing::warn!(key = %value.key, blob = %record.blob, address, "this volume cannot read a manifest");
            Ok(())
        }
    }
}

async fn tombstones(
    peers: &PeerClient,
    cluster: ClusterId,
    address: &str,
    volume: VolumeId,
    collected: &Arc<Collected>,
) -> Result<(), RebuildError> {
    let mut after = None;
    loop {
        let question = TombstonesRequest { cluster, volume, after };
        let page: TombstonesPage = patiently(peers, address, TOMBSTONES, &question).await?;
        let collected = Arc::clone(collected);
        blocking(move || collected.add_tombstones(volume, &page.tombstones)).await?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Calls a volume, and retries unless it refuses.
async fn patiently<Q: Serialize + Sync, A: DeserializeOwned>(
    peers: &PeerClient,
    address: &str,
    path: &str,
    question: &Q,
) -> Result<A, CallError> {
    let mut attempt = 1;
    loop {
        match peers.call_within(address, path, question, PAGE_TIMEOUT).await {
            Err(CallError::Unreachable { .. } | CallError::Unknown { .. } | CallError::Broken { .. })
                if attempt < ATTEMPTS =>
            {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}
