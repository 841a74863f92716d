//! Verifies receipts against the ticket that permitted the write. A receipt that does not verify is not counted;
//! `apply` decides whether the rest is enough.

use shared::digest::Digest;
use shared::ids::VolumeId;
use shared::key::Key;
use shared::limits::UPLOAD_TIME_MAX;
use shared::ticket::{Operation, Receipt, Ticket, WriteGrant};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::cluster::Cluster;
use crate::config::Config;

/// What the receipts prove: the value, and the volumes on which it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedReceipts {
    pub length: u64,
    pub digest: Digest,
    /// Volumes whose receipts are valid.
    pub replicas: Vec<VolumeId>,
}

/// Verifies receipts and returns what they prove.
///
/// # Errors
/// When the ticket permits no write, belongs to another cluster or is too old, or no receipt is valid.
pub fn verify_receipts<'t>(
    cluster: &Cluster,
    config: &Config,
    key: &Key,
    ticket: &'t Ticket,
    receipts: &[String],
) -> Result<(VerifiedReceipts, &'t WriteGrant), ErrorReply> {
    let bad = |why: String| ErrorReply::new(ErrorCode::BadTicket, why, "send the value again").for_key(key);
    let Operation::Write(grant) = &ticket.operation else {
        return Err(bad("the ticket does not permit a write".into()));
    };
    if ticket.cluster != cluster.id() {
        return Err(bad("the ticket belongs to another cluster".into()));
    }
    let (now, lifetime) = (config.clock.now(), config.receipt_lifetime());
    if now.since(ticket.blob.created()) > UPLOAD_TIME_MAX {
        return Err(bad(format!("the upload took longer than {} hours", UPLOAD_TIME_MAX.as_secs() / 3600)));
    }
    let mut proof: Option<VerifiedReceipts> = None;
    for text in receipts.iter().take(grant.chain.len()) {
        let receipt = match Receipt::verify(text, &config.secret, now, lifetime) {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(%key, %error, "ignored an invalid receipt");
                continue;
            }
        };
        let first = proof.get_or_insert_with(|| VerifiedReceipts {
            length: receipt.length,
            digest: receipt.digest,
            replicas: Vec::new(),
        });
        let same = receipt.length == first.length && receipt.digest == first.digest;
        if same && matches_ticket(&receipt, ticket, grant) && !first.replicas.contains(&receipt.volume) {
            first.replicas.push(receipt.volume);
        } else {
            tracing::warn!(%key, volume = %receipt.volume, "ignored a receipt that does not match its ticket");
        }
    }
    let proof = proof.ok_or_else(|| bad("no receipt is valid".into()))?;
    // A volume of the chain that gave no valid receipt has just failed: the next upload avoids it.
    for link in grant.chain.iter().filter(|link| !proof.replicas.contains(&link.volume)) {
        cluster.suspect(link.volume);
    }
    Ok((proof, grant))
}

/// Whether a receipt is for the write that the ticket permitted.
fn matches_ticket(receipt: &Receipt, ticket: &Ticket, grant: &WriteGrant) -> bool {
    receipt.cluster == ticket.cluster
        && receipt.blob == ticket.blob
        && grant.chain.iter().any(|link| link.volume == receipt.volume)
        && grant.length.is_none_or(|n| n == receipt.length)
        && grant.digest.is_none_or(|d| d == receipt.digest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::clock::Timestamp;
    use shared::condition::WriteCondition;
    use shared::ids::{BlobId, ClusterId};
    use shared::secret::ClusterSecret;
    use shared::ticket::ChainLink;

    use super::*;
    use crate::config::Replication;

    fn ticket(cluster: ClusterId, blob: BlobId, length: Option<u64>, digest: Option<Digest>) -> Ticket {
        let link = |n| ChainLink { volume: VolumeId::from_bytes([n; 16]), address: String::new() };
        Ticket {
            cluster,
            blob,
            expires: blob.created(),
            hops: 0,
            master: String::new(),
            master_public: String::new(),
            operation: Operation::Write(WriteGrant {
                chain: vec![link(1), link(2)],
                length,
                digest,
                condition: WriteCondition::None,
                wanted: 2,
                min_replicas: 1,
                internal_metadata: false,
                expires: None,
            }),
        }
    }

    #[test]
    fn only_receipts_for_what_the_ticket_permits_count() {
        let (id, secret) = (ClusterId::random(), ClusterSecret::from_bytes(b"0123456789abcdef"));
        let cluster = Cluster::new(id, Duration::from_secs(1), Duration::from_secs(1), vec![]);
        let config = Config::new("none".into(), secret.clone(), Replication::new(2, None).unwrap());
        let (now, key) = (config.clock.now(), Key::new("a/key").unwrap());
        let (blob, another) = (BlobId::next(None, now, [1; 10]), BlobId::next(None, now, [2; 10]));
        let (digest, length) = (Digest::of(b"bytes"), 5);
        let of = |n| {
            let volume = VolumeId::from_bytes([n; 16]);
            Receipt { cluster: id, volume, blob, length, digest, issued: now }
        };
        let counted = |ticket: &Ticket, second: &Receipt| {
            let receipts = [&of(1), second].map(|receipt| receipt.sign(&secret));
            verify_receipts(&cluster, &config, &key, ticket, &receipts).unwrap().0.replicas.len()
        };
        let any = ticket(id, blob, None, None);
        assert_eq!(counted(&any, &of(2)), 2);
        let long_ago = Timestamp::from_unix_ms(now.unix_ms() - 3_600_000);
        let wrong = [
            of(1),
            of(3),
            Receipt { cluster: ClusterId::random(), ..of(2) },
            Receipt { blob: another, ..of(2) },
            Receipt { length: 6, ..of(2) },
            Receipt { digest: Digest::of(b"other"), ..of(2) },
            Receipt { issued: long_ago, ..of(2) },
        ];
        let believed: Vec<_> = wrong.iter().filter(|receipt| counted(&any, receipt) != 1).collect();
        assert_eq!(believed, Vec::<&Receipt>::new());
        for (length, digest) in [(Some(6), None), (None, Some(Digest::of(b"other")))] {
            assert_eq!(counted(&ticket(id, blob, length, digest), &of(2)), 0, "{length:?} {digest:?}");
        }
    }
}
