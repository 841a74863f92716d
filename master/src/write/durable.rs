//! Writes a value that this master commits, not the first volume: streamed uploads, S3 requests and manifests.
//! The volumes return receipts; the caller proposes the commit.

use crate::write::placement::UploadSpec;

use http::Method;
use http::header::{HeaderMap, HeaderValue};
use shared::http::metadata::Described;
use shared::ids::BlobId;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes::CHAIN_HEADER;
use shared::wire::volume::ChainResponse;

use super::Writer;
use super::pipeline::Source;
use super::receipts::{VerifiedReceipts, verify_receipts};
use crate::state::command::Commit;

/// A blob that is durable but not committed yet.
#[derive(Debug)]
pub struct DurableBlob {
    pub blob: BlobId,
    /// What the receipts prove.
    pub proof: VerifiedReceipts,
    pub wanted: u8,
    /// Replicas without which the commit fails.
    pub min_replicas: u8,
}

impl DurableBlob {
    /// The commit that makes the blob the value of its key.
    pub fn to_commit(&self, wanted: &UploadSpec, described: &Described) -> Commit {
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

impl Writer {
    /// Makes a value durable on as many of the wanted volumes as possible. The commit fails if they are fewer
    /// than the minimum.
    ///
    /// # Errors
    /// When the source fails, no volume accepts the value, or no receipt is valid.
    pub async fn write_replicas(
        &self,
        wanted: &UploadSpec,
        described: &Described,
        source: Source,
    ) -> Result<DurableBlob, ErrorReply> {
        let mut headers = HeaderMap::new();
        described.apply(&mut headers);
        self.write_replicas_with(wanted, headers, source).await
    }

    /// As `write_replicas`, with headers that the volumes check.
    ///
    /// # Errors
    /// The errors of `write_replicas`.
    pub async fn write_replicas_with(
        &self,
        wanted: &UploadSpec,
        mut headers: HeaderMap,
        mut source: Source,
    ) -> Result<DurableBlob, ErrorReply> {
        self.metrics.uploads_streamed.inc();
        headers.insert(CHAIN_HEADER, HeaderValue::from_static("1"));
        let fed = self.send_through_chain(wanted, &Method::PUT, &headers, &mut source).await;
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
        let (proof, grant) = verify_receipts(
            &self.volumes.cluster,
            &self.config,
            &wanted.key,
            &granted.ticket,
            &response.receipts,
        )?;
        Ok(DurableBlob {
            blob: granted.ticket.blob,
            proof,
            wanted: grant.wanted,
            min_replicas: grant.min_replicas,
        })
    }
}
