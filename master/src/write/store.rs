//! A value in, when this master and not the first volume commits it: what comes by S3, and what the master makes itself.
//! The volumes give receipts; whoever called proposes the commit with all that belongs to it.

use std::sync::Arc;

use http::Method;
use http::header::{HeaderMap, HeaderValue};
use shared::http::metadata::Described;
use shared::ids::BlobId;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes::CHAIN_HEADER;
use shared::wire::volume::ChainResponse;

use super::feed::{Source, Wanted, feed};
use super::proof::{Proof, prove};
use crate::master::Master;
use crate::state::command::Commit;

/// A blob that is durable, and not committed yet.
#[derive(Debug)]
pub struct Durable {
    pub blob: BlobId,
    /// What the receipts prove.
    pub proof: Proof,
    pub wanted: u8,
    /// Copies without which it fails.
    pub min_replicas: u8,
}

impl Durable {
    /// What makes it the value of its key.
    pub fn commit(&self, wanted: &Wanted, described: &Described) -> Commit {
        Commit {
            key: wanted.key.clone(),
            blob: self.blob,
            size: self.proof.length,
            digest: self.proof.digest,
            content_type: described.content_type.clone(),
            metadata: described.metadata.clone(),
            replicas: self.proof.replicas.clone(),
            wanted: self.wanted,
            min_replicas: self.min_replicas,
            condition: wanted.condition.clone(),
        }
    }
}

/// Makes a value durable on as many volumes as can be had, and at least the minimum.
///
/// # Errors
/// When the source breaks off, no volume takes it, or too few copies became durable.
pub async fn store(
    master: &Arc<Master>,
    wanted: &Wanted,
    described: &Described,
    source: Source,
) -> Result<Durable, ErrorReply> {
    let mut headers = HeaderMap::new();
    described.apply(&mut headers);
    store_with(master, wanted, headers, source).await
}

/// As `store`, with headers that the volumes judge.
///
/// # Errors
/// As `store`.
pub async fn store_with(
    master: &Arc<Master>,
    wanted: &Wanted,
    mut headers: HeaderMap,
    mut source: Source,
) -> Result<Durable, ErrorReply> {
    master.metrics.uploads_streamed.inc();
    headers.insert(CHAIN_HEADER, HeaderValue::from_static("1"));
    let fed = feed(master, wanted, &Method::PUT, &headers, &mut source).await;
    let (granted, answer) = match fed {
        Ok(fed) => fed,
        Err(refusal) => {
            source.drain();
            return Err(refusal.for_key(&wanted.key));
        }
    };
    if let Some(refused) = answer.error() {
        source.drain();
        let hint = if refused.error.code == ErrorCode::OutcomeUnknown {
            "send the value again: a repeated PUT is harmless"
        } else {
            "nothing was stored; send the value again"
        };
        return Err(ErrorReply::new(refused.error.code, refused.error.message, hint).for_key(&wanted.key));
    }
    let response: ChainResponse = serde_json::from_slice(&answer.body).map_err(|_| {
        ErrorReply::new(
            ErrorCode::OutcomeUnknown,
            "the volume's answer to the upload cannot be read",
            "send the value again: a repeated PUT is harmless",
        )
    })?;
    let (proof, grant) = prove(master, &wanted.key, &granted.ticket, &response.receipts)?;
    Ok(Durable { blob: granted.ticket.blob, proof, wanted: grant.wanted, min_replicas: grant.min_replicas })
}
