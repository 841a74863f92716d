//! Tells a volume where the other replicas of a blob are: for read repair, healing, or adding a replica.

use crate::cluster::VolumeAddress;
use crate::metadata::Metadata;
use crate::tables::object::Blob;
use crate::tables::upload::{PartRecord, manifest_note, part_note};
use crate::tables::{TableError, object, repair_queue, replica, upload};
use crate::volumes::Volumes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::digest::Digest;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::ids::BlobId;
use shared::key::Key;
use shared::ticket::Operation;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{ReplicaSourcesRequest, ReplicaSourcesResponse};
use shared::work::blocking;

/// Answers with the other live replicas of a blob; 404 when the volume need not hold the blob.
pub(super) async fn replica_sources(
    metadata: &Metadata,
    volumes: &Volumes,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let ReplicaSourcesRequest { cluster, volume, blob } = read_signed(request).await?;
    let unknown = || {
        ErrorReply::new(ErrorCode::NotFound, "no object refers to that blob there", "nothing has to be done")
    };
    if cluster != volumes.cluster_id() {
        return Err(ErrorReply::new(
            ErrorCode::WrongCluster,
            "the volume belongs to another cluster",
            "point the volume at its own master",
        ));
    }
    metadata.ensure_linearizable().await?;
    let tree = metadata.database.tree();
    // A pending replica counts too.
    let expected = match replica::read(&tree, volume, blob)? {
        Some(key) => Some(key),
        None => repair_queue::pending_replica(&tree, blob, volume)?.map(|blob_ref| blob_ref.key),
    };
    let key = expected.ok_or_else(unknown)?;
    let of = key.clone();
    // A part is found by scanning all parts of its object.
    let found = blocking(move || written(&tree, &of, blob)).await?;
    let (held, blake3, content_type, metadata) = found.ok_or_else(unknown)?;
    let others: Vec<_> = held.replicas.iter().copied().filter(|v| *v != volume).collect();
    let source = |replica: VolumeAddress| {
        let target = volumes.target(&key, blob, 0, Operation::Read(replica.volume));
        format!("{}{target}", replica.address)
    };
    let sources = volumes.cluster.alive(&others).into_iter().map(source).collect();
    let answer = ReplicaSourcesResponse {
        key: key.clone(),
        length: held.length,
        blake3,
        content_type,
        metadata,
        sources,
    };
    Ok(body::json(StatusCode::OK, &answer))
}

/// The content of a blob's records: replicas, digest, content type and metadata.
type Written = (Blob, Digest, Option<String>, Vec<(String, String)>);

fn written(tree: &sled::Tree, key: &Key, blob: BlobId) -> Result<Option<Written>, TableError> {
    let object = object::read_stored(tree, key)?;
    if let Some(object) = object
        && let Some(held) = object.blobs.iter().find(|b| b.id == blob)
    {
        let mut metadata = object.metadata;
        if object.parts.is_some() {
            metadata.push(manifest_note());
        }
        return Ok(Some((held.clone(), object.digest, object.content_type, metadata)));
    }
    let part = upload::part_of(tree, key, blob)?;
    Ok(part.map(|(upload, PartRecord { part, replicas })| {
        let held = Blob { id: blob, length: part.length, replicas };
        (held, part.digest, None, vec![part_note(upload, part.number)])
    }))
}
