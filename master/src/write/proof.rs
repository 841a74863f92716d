//! What receipts prove. They are checked against the ticket that permitted the write; what they do not prove is left out,
//! and `apply` decides whether the rest is enough.

use shared::digest::Digest;
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::UPLOAD_TIME_MAX;
use shared::ticket::{Operation, Receipt, Ticket, WriteGrant};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::master::Master;

/// What is durable, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub length: u64,
    pub digest: Digest,
    /// Whose receipts are good.
    pub replicas: Vec<VolumeId>,
}

/// Counts what is true of the receipts.
///
/// # Errors
/// When the ticket permits no write, is of another cluster or too old, or no receipt is good.
pub fn prove<'t>(
    master: &Master,
    key: &Key,
    ticket: &'t Ticket,
    receipts: &[String],
) -> Result<(Proof, &'t WriteGrant), ErrorReply> {
    let bad = |why: String| ErrorReply::new(ErrorCode::BadTicket, why, "send the value again").for_key(key);
    let Operation::Write(grant) = &ticket.operation else {
        return Err(bad("the ticket does not permit a write".into()));
    };
    if ticket.cluster != master.cluster.id() {
        return Err(bad("the ticket is of another cluster".into()));
    }
    let (now, lifetime) = (master.config.clock.now(), master.config.receipt_lifetime());
    if now.since(ticket.blob.created()) > UPLOAD_TIME_MAX {
        return Err(bad(format!("the upload took longer than {} hours", UPLOAD_TIME_MAX.as_secs() / 3600)));
    }
    let mut proof: Option<Proof> = None;
    for text in receipts.iter().take(grant.chain.len()) {
        let receipt = match Receipt::open(text, &master.config.secret, now, lifetime) {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(%key, %error, "a receipt does not count");
                continue;
            }
        };
        let first = proof.get_or_insert_with(|| Proof {
            length: receipt.length,
            digest: receipt.digest,
            replicas: Vec::new(),
        });
        let same = receipt.length == first.length && receipt.digest == first.digest;
        if same && counts(&receipt, ticket, grant) && !first.replicas.contains(&receipt.volume) {
            first.replicas.push(receipt.volume);
        } else {
            tracing::warn!(%key, volume = %receipt.volume, "a receipt does not match its ticket");
        }
    }
    let proof = proof.ok_or_else(|| bad("no receipt is good any more".into()))?;
    // A volume of the chain that gave no receipt has just failed: the next upload passes it over.
    for link in grant.chain.iter().filter(|link| !proof.replicas.contains(&link.volume)) {
        master.cluster.suspect(link.volume);
    }
    Ok((proof, grant))
}

/// Whether a receipt is for what the ticket permitted.
fn counts(receipt: &Receipt, ticket: &Ticket, grant: &WriteGrant) -> bool {
    receipt.cluster == ticket.cluster
        && receipt.blob == ticket.blob
        && grant.chain.iter().any(|link| link.volume == receipt.volume)
        && grant.length.is_none_or(|n| n == receipt.length)
        && grant.digest.is_none_or(|d| d == receipt.digest)
}
