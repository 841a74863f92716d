//! Calls of a master for its work on replicas: add a replica (re-replication), locate blobs, compare digests
//! (reconciliation, anti-entropy), and examine this server. All of them are signed.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::descriptors;
use shared::http::body::{self, Body};
use shared::http::reachability::check_urls;
use shared::http::signed_calls::read_signed;
use shared::inventory;
use shared::limits::{DIGEST_BOUNDS_MAX, EXAMINE_URLS_MAX, INVENTORY_PAGE};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::replicas::{
    AddReplicaRequest, AddReplicaResponse, BlobLocation, DigestsRequest, DigestsResponse, DiskExamination,
    Examination, ExamineRequest, LocateRequest, LocateResponse,
};
use shared::work::blocking;

use super::admin::{check_cluster, check_meant};
use crate::replicas::incoming;
use crate::server::Volume;
use crate::store;

/// Adds a replica; it is durable when this answers.
pub(super) async fn add_replica(
    volume: &Arc<Volume>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let message: AddReplicaRequest = read_signed(request).await?;
    let AddReplicaRequest { cluster, volume: meant, blob, bytes_per_second, verify } = message;
    check_meant(volume, cluster, meant)?;
    let stored = Box::pin(incoming::add_replica(volume, blob, bytes_per_second, verify)).await?;
    let receipt = volume.receipt(cluster, &stored);
    Ok(body::json(StatusCode::OK, &AddReplicaResponse { receipt }))
}

/// Returns where blobs are on this disk.
pub(super) async fn locate(
    volume: &Arc<Volume>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: LocateRequest = read_signed(request).await?;
    check_meant(volume, question.cluster, question.volume)?;
    check_count("blobs", question.blobs.len(), INVENTORY_PAGE)?;
    let asked = Arc::clone(volume);
    let places = blocking(move || {
        let places = asked.store.locations(&question.blobs).into_iter();
        let known = places.zip(&question.blobs).map(|(place, blob)| {
            place.map(|place| BlobLocation {
                segment: place.segment.get(),
                offset: place.offset,
                length: place.length,
                bad: asked.healer.knows(*blob),
                verified: place.verified,
            })
        });
        known.collect()
    });
    Ok(body::json(StatusCode::OK, &LocateResponse { locations: places.await }))
}

/// Returns digests of the blobs that are here, by ranges of ids.
pub(super) async fn digests(
    volume: &Arc<Volume>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: DigestsRequest = read_signed(request).await?;
    check_meant(volume, question.cluster, question.volume)?;
    let DigestsRequest { from, until, bounds, .. } = question;
    check_count("bounds", bounds.len(), DIGEST_BOUNDS_MAX)?;
    if !bounds.is_sorted_by(|a, b| a < b) {
        return Err(ErrorReply::new(
            ErrorCode::BadBody,
            "the bounds are not in ascending order",
            "send each bound once, in order",
        ));
    }
    let store = volume.store.clone();
    let ranges = blocking(move || inventory::digests(store.blobs(from, until), &bounds));
    Ok(body::json(StatusCode::OK, &DigestsResponse { ranges: ranges.await }))
}

/// Tests this server's disk, and whether it reaches the given addresses.
pub(super) async fn examine(
    volume: &Arc<Volume>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: ExamineRequest = read_signed(request).await?;
    check_cluster(volume, question.cluster)?;
    check_count("addresses", question.urls.len(), EXAMINE_URLS_MAX)?;
    let data = volume.config.data.clone();
    let tried = blocking(move || store::examine(&data));
    let (reached, tried) = tokio::join!(check_urls(volume.peers.http(), question.urls), tried);
    let figures = tried.map_err(|e| {
        let full = matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let code = if full { ErrorCode::NoSpace } else { ErrorCode::Internal };
        ErrorReply::new(
            code,
            format!("the test of the disk failed: {e}"),
            "see the volume's disk and its log",
        )
    })?;
    let disk = DiskExamination {
        directory: volume.config.data.display().to_string(),
        punches: figures.punches,
        direct: figures.direct,
        sync_micros: u64::try_from(figures.sync.as_micros()).unwrap_or(u64::MAX),
        free_bytes: figures.free_bytes,
        capacity_bytes: figures.capacity_bytes,
        inodes_free: figures.inodes_free,
        device: figures.device,
    };
    let examination = Examination {
        now: volume.config.clock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files_max: descriptors::limit(),
        disk: Some(disk),
        reached,
    };
    Ok(body::json(StatusCode::OK, &examination))
}

fn check_count(what: &str, count: usize, max: usize) -> Result<(), ErrorReply> {
    if count <= max {
        return Ok(());
    }
    Err(ErrorReply::new(ErrorCode::BadBody, format!("too many {what} in one call: {count}"), "send fewer"))
}
