//! `/_/…` of a volume: health, and the calls of its masters. All calls but health are signed.

use std::sync::{Arc, PoisonError};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::limits::{INVENTORY_PAGE, RECLAIM_BATCH};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::volume::{
    DeleteRequest, DeleteResponse, IdentifyRequest, InventoryEntry, InventoryPage, InventoryRequest,
};
use shared::work::blocking;

use crate::server::Volume;

/// Answers 200 while values can be read here; `read_only` says why they cannot be written.
pub(super) fn health(volume: &Volume) -> Result<Response<Body>, ErrorReply> {
    let read_only = volume.store.status().read_only;
    let health = serde_json::json!({ "server": "barge-volume", "read_only": read_only });
    Ok(body::json(StatusCode::OK, &health))
}

/// Returns the volume's status.
pub(super) async fn status(
    volume: &Volume,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let () = read_signed(request).await?;
    Ok(body::json(StatusCode::OK, &volume.status()))
}

/// Refuses an unsigned status request: ids and addresses are not public, and a volume knows no access keys.
pub(super) fn not_shown(request: Request<Incoming>) -> ErrorReply {
    let (head, body) = request.into_parts();
    body::drain_unless_waiting(&head.headers, body);
    ErrorReply::new(
        ErrorCode::NotSigned,
        "the status of a volume requires a call signed with the cluster's secret",
        "use `barge cluster status --server URL --secret-file FILE`; health and metrics need no signature",
    )
}

/// Checks that a call is for this volume and from its cluster.
pub(super) fn check_meant(volume: &Volume, cluster: ClusterId, meant: VolumeId) -> Result<(), ErrorReply> {
    if volume.identity.volume() != meant {
        return Err(ErrorReply::new(
            ErrorCode::WrongVolume,
            format!("the call is for volume {meant}, but this is {}", volume.identity.volume()),
            "the address of that volume leads here: correct its --advertise, or the master's list",
        ));
    }
    check_cluster(volume, cluster)
}

/// Checks that a call is from the cluster of this volume.
pub(super) fn check_cluster(volume: &Volume, cluster: ClusterId) -> Result<(), ErrorReply> {
    if volume.identity.cluster() == Some(cluster) {
        return Ok(());
    }
    Err(ErrorReply::new(
        ErrorCode::WrongCluster,
        "this volume belongs to another cluster, or to none yet",
        "point the master at its own volumes",
    ))
}

/// Returns the volume's report; joins the calling master's cluster if it belongs to none.
pub(super) async fn identify(
    volume: &Volume,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: IdentifyRequest = read_signed(request).await?;
    volume.identity.join(question.cluster).map_err(|e| {
        ErrorReply::new(ErrorCode::WrongCluster, e.to_string(), "point the master at its own volumes")
    })?;
    volume.masters.heard(question.masters);
    if question.address.is_some() {
        *volume.address_by_masters.write().unwrap_or_else(PoisonError::into_inner) = question.address;
    }
    Ok(body::json(StatusCode::OK, &volume.report()))
}

/// Deletes blobs; the deletes are durable when this answers.
pub(super) async fn delete(
    volume: &Arc<Volume>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let message: DeleteRequest = read_signed(request).await?;
    let deleted = delete_now(volume, message).await?;
    Ok(body::json(StatusCode::OK, &deleted))
}

async fn delete_now(volume: &Arc<Volume>, message: DeleteRequest) -> Result<DeleteResponse, ErrorReply> {
    check_meant(volume, message.cluster, message.volume)?;
    if message.blobs.len().max(message.tombstones.len()) > RECLAIM_BATCH {
        return Err(ErrorReply::new(ErrorCode::BadBody, "too many blobs in one call", "send fewer"));
    }
    let now = volume.config.clock.now();
    if !message.tombstones.is_empty() {
        // Tombstones first: without one, a metadata rebuild would bring the value back from a volume that was down.
        let (volume, tombstones) = (Arc::clone(volume), message.tombstones);
        blocking(move || volume.tombstones.add(&tombstones, now)).await?;
    }
    let expiring = message.blobs.is_empty() && message.reclaimed_before.is_none();
    volume.used_tickets.add(&message.blobs, now);
    // Before the store deletes: a replica that becomes visible just afterwards must know of the delete.
    volume.incoming_replicas.mark_deleted(&message.blobs);
    let deleted = volume.store.delete(message.blobs).await?;
    if message.reclaimed_before.is_some() || expiring {
        expire_tombstones_later(volume, message.reclaimed_before).await;
    }
    Ok(DeleteResponse { found: deleted.found, bytes: deleted.bytes })
}

/// Expires tombstones in the background, if that is due.
async fn expire_tombstones_later(volume: &Arc<Volume>, before: Option<BlobId>) {
    let (now, asked) = (volume.config.clock.now(), Arc::clone(volume));
    if blocking(move || asked.tombstones.is_expiry_due(before)).await {
        let volume = Arc::clone(volume);
        tokio::spawn(blocking(move || {
            volume.tombstones.expire(before, now, |blob| volume.store.has(blob));
        }));
    }
}

/// Returns a page of the inventory.
pub(super) async fn inventory(
    volume: &Volume,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: InventoryRequest = read_signed(request).await?;
    check_meant(volume, question.cluster, question.volume)?;
    let now = volume.config.clock.now();
    let entries = volume
        .store
        .inventory_before(question.after, question.until, question.limit.min(INVENTORY_PAGE))
        .into_iter()
        .map(|e| InventoryEntry {
            blob: e.blob,
            length: e.length,
            age_ms: u64::try_from(now.since(e.finished).as_millis()).unwrap_or(u64::MAX),
        })
        .collect();
    Ok(body::json(StatusCode::OK, &InventoryPage { entries }))
}

#[cfg(test)]
mod tests {
    use shared::tombstone::Tombstone;

    use super::*;
    use crate::replicas::incoming::tests::{blob, upload};
    use crate::server::test_volume::volume;

    #[tokio::test]
    async fn a_value_whose_tombstone_cannot_be_kept_is_not_deleted() {
        let (_folder, volume) = volume();
        let cluster = ClusterId::random();
        volume.identity.join(cluster).unwrap();
        for n in 1..=2 {
            upload(&volume, blob(n), b"a value").await.finish().await.unwrap();
        }
        let call = |n, tombstones| DeleteRequest {
            cluster,
            volume: volume.identity.volume(),
            blobs: vec![blob(n)],
            tombstones,
            reclaimed_before: None,
        };
        let tombstones = vec![Tombstone::Refused { blob: blob(1) }];
        volume.tombstones.pretend_read_only();
        for _ in 0..2 {
            let refused = delete_now(&volume, call(1, tombstones.clone())).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::Internal);
            assert!(volume.store.has(blob(1)));
        }
        // An overwritten value needs no tombstone.
        assert_eq!(delete_now(&volume, call(2, vec![])).await.unwrap().found, 1);
        assert!(!volume.store.has(blob(2)));
    }

    #[tokio::test]
    async fn a_delete_keeps_its_tombstones() {
        let (_folder, volume) = volume();
        let cluster = ClusterId::random();
        volume.identity.join(cluster).unwrap();
        upload(&volume, blob(1), b"a value").await.finish().await.unwrap();
        let tombstones = vec![Tombstone::Refused { blob: blob(1) }];
        let message = DeleteRequest {
            cluster,
            volume: volume.identity.volume(),
            blobs: vec![blob(1)],
            tombstones: tombstones.clone(),
            reclaimed_before: None,
        };
        assert_eq!(delete_now(&volume, message.clone()).await.unwrap().found, 1);
        assert_eq!(volume.tombstones.page(None).unwrap().tombstones, tombstones);
        // Calls for another volume or from another cluster change nothing.
        let elsewhere = DeleteRequest { volume: VolumeId::random(), ..message.clone() };
        let of_others = DeleteRequest { cluster: ClusterId::random(), ..message };
        for (message, code) in [(elsewhere, ErrorCode::WrongVolume), (of_others, ErrorCode::WrongCluster)] {
            assert_eq!(delete_now(&volume, message).await.unwrap_err().code, code);
        }
        assert_eq!(volume.tombstones.page(None).unwrap().tombstones, tombstones);
    }
}
