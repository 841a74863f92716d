//! Tickets and receipts: what a master permits, and what a volume states.
//!
//! A ticket is in a URL, because clients drop headers on a redirect to another port. It is postcard, then a MAC, in
//! base64url. The key is not inside but covered by the MAC: it is in the URL's path already.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Timestamp;
use crate::condition::WriteCondition;
use crate::digest::Digest;
use crate::expiry::Expires;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::limits::{CLOCK_SKEW_MAX, TICKET_CHARS_MAX};
use crate::secret::{ClusterSecret, KeyPurpose};

const MAC_BYTES: usize = 32;

/// A signed, expiring permission for one operation on one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The cluster it is valid in.
    pub cluster: ClusterId,
    /// The blob it is valid for.
    pub blob: BlobId,
    /// When it expires. An upload that began before may end later.
    pub expires: Timestamp,
    /// Redirects so far between master and volume.
    pub hops: u8,
    /// Where volumes reach the issuing master, as a base URL.
    pub master: String,
    /// Where clients reach the issuing master, as a base URL.
    pub master_public: String,
    /// What it permits.
    pub operation: Operation,
}

/// What a ticket permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Reading the blob from this volume.
    Read(VolumeId),
    /// Writing the blob through a chain of volumes.
    Write(WriteGrant),
}

/// One volume of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The id of the volume.
    pub volume: VolumeId,
    /// Where its peers reach it, as a base URL.
    pub address: String,
}

/// Permission to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteGrant {
    /// The volumes, in the order in which the bytes flow.
    pub chain: Vec<ChainLink>,
    /// Length of the value in bytes, if the client declared it.
    pub length: Option<u64>,
    /// BLAKE3 of the value, if the client declared it.
    pub digest: Option<Digest>,
    /// The condition on the key's current value when the write commits.
    pub condition: WriteCondition,
    /// The wanted replication factor.
    pub wanted: u8,
    /// Replicas without which the upload fails.
    pub min_replicas: u8,
    /// Whether the sender may set a record's internal metadata: true for a master that commits by itself.
    pub internal_metadata: bool,
    /// When the value expires. Tickets of an older master end before this field.
    #[serde(default, deserialize_with = "or_default")]
    pub expires: Option<Expires>,
}

/// Defaults the last fields of an older record or ticket, where postcard ends before them. A truncated one does not
/// reach this: its checksum or MAC has been verified.
///
/// # Errors
/// Never.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(T::deserialize(d).unwrap_or_default())
}

/// A volume's signed statement that a blob is durable on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The cluster of the volume that signed.
    pub cluster: ClusterId,
    /// The volume that states it.
    pub volume: VolumeId,
    /// The durable blob.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// When it was issued, by the volume's clock.
    pub issued: Timestamp,
}

/// Why a ticket or receipt is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TicketError {
    /// Malformed, altered, for another key, or signed with another secret.
    #[error("it was altered, truncated, issued for another key or signed by another cluster")]
    Invalid,
    /// It has expired.
    #[error("it has expired")]
    Expired,
    /// A receipt too old for a commit.
    #[error("it is too old to be committed")]
    Stale,
}

impl Ticket {
    /// The text for the URL. The signature covers `key`.
    pub fn sign(&self, secret: &ClusterSecret, key: &Key) -> String {
        sign(self, secret, KeyPurpose::Ticket, key.as_str().as_bytes())
    }

    /// Parses and verifies a ticket for `key`.
    ///
    /// # Errors
    /// If it is not one of this cluster for this key, or has expired (with a grace for clock skew).
    pub fn verify(
        text: &str,
        secret: &ClusterSecret,
        key: &Key,
        now: Timestamp,
    ) -> Result<Self, TicketError> {
        let ticket = Self::verify_started(text, secret, key)?;
        if now > ticket.expires.after(CLOCK_SKEW_MAX) {
            return Err(TicketError::Expired);
        }
        Ok(ticket)
    }

    /// Like `verify`, for an upload that began before the ticket expired: ignores its time.
    ///
    /// # Errors
    /// If it is not one of this cluster for this key.
    pub fn verify_started(text: &str, secret: &ClusterSecret, key: &Key) -> Result<Self, TicketError> {
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketError::Invalid);
        }
        verify(text, secret, KeyPurpose::Ticket, key.as_str().as_bytes())
    }
}

impl Receipt {
    /// The signed text of the receipt.
    pub fn sign(&self, secret: &ClusterSecret) -> String {
        sign(self, secret, KeyPurpose::Receipt, b"")
    }

    /// Parses and verifies a receipt that was issued within `lifetime`.
    ///
    /// # Errors
    /// If it is not one of this cluster, or too old.
    pub fn verify(
        text: &str,
        secret: &ClusterSecret,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Self, TicketError> {
        let receipt: Self = verify(text, secret, KeyPurpose::Receipt, b"")?;
        if now.since(receipt.issued) > lifetime || receipt.issued.since(now) > CLOCK_SKEW_MAX {
            return Err(TicketError::Stale);
        }
        Ok(receipt)
    }
}

fn sign<T: Serialize>(what: &T, secret: &ClusterSecret, purpose: KeyPurpose, context: &[u8]) -> String {
    let mut bytes = postcard::to_stdvec(what).expect("tickets and receipts hold nothing postcard refuses");
    let mac = secret.mac(purpose, &[&bytes, context]);
    bytes.extend_from_slice(mac.as_bytes());
    BASE64.encode(bytes)
}

fn verify<T: for<'a> Deserialize<'a>>(
    text: &str,
    secret: &ClusterSecret,
    purpose: KeyPurpose,
    context: &[u8],
) -> Result<T, TicketError> {
    let bytes = BASE64.decode(text).map_err(|_| TicketError::Invalid)?;
    let cut = bytes.len().checked_sub(MAC_BYTES).ok_or(TicketError::Invalid)?;
    let (body, mac) = bytes.split_at(cut);
    let mac = blake3::Hash::from_slice(mac).map_err(|_| TicketError::Invalid)?;
    // Comparing two `blake3::Hash` takes constant time; nothing is decoded before they match.
    if secret.mac(purpose, &[body, context]) != mac {
        return Err(TicketError::Invalid);
    }
    postcard::from_bytes(body).map_err(|_| TicketError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TICKET_LIFETIME;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        let link = |n: u8| ChainLink {
            volume: VolumeId::from_bytes([n; 16]),
            address: format!("http://volume{n}.internal:3001"),
        };
        Ticket {
            cluster: ClusterId::from_bytes([9; 16]),
            blob: BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [3; 10]),
            expires: Timestamp::from_unix_ms(1 << 40).after(TICKET_LIFETIME),
            hops: 1,
            master: "http://master.internal:3000".into(),
            master_public: "http://localhost:3000".into(),
            operation: Operation::Write(WriteGrant {
                chain: (0..8).map(link).collect(),
                length: Some(u64::MAX),
                digest: Some(Digest::of(b"x")),
                condition: WriteCondition::Absent,
                wanted: 3,
                min_replicas: 2,
                internal_metadata: false,
                expires: Some(Expires::After(60_000)),
            }),
        }
    }

    #[test]
    fn good_for_its_key_cluster_and_time_only() {
        let (secret, key, now) =
            (ClusterSecret::from_bytes(&[1; 32]), Key::new("a/b").unwrap(), Timestamp::from_unix_ms(1 << 40));
        let text = ticket().sign(&secret, &key);
        assert!(text.len() < TICKET_CHARS_MAX / 2, "{}", text.len());
        assert_eq!(Ticket::verify(&text, &secret, &key, now), Ok(ticket()));
        let open = |s: &ClusterSecret, k, t| Ticket::verify(&text, s, &Key::new(k).unwrap(), t).unwrap_err();
        assert_eq!(open(&secret, "a/c", now), TicketError::Invalid);
        assert_eq!(open(&ClusterSecret::from_bytes(&[2; 32]), "a/b", now), TicketError::Invalid);
        assert_eq!(open(&secret, "a/b", now.after(TICKET_LIFETIME * 2)), TicketError::Expired);
        // The issuer's clock may be behind the verifier's.
        let last = ticket().expires.after(CLOCK_SKEW_MAX);
        assert_eq!(Ticket::verify(&text, &secret, &key, last), Ok(ticket()));
        assert_eq!(open(&secret, "a/b", last.after(Duration::from_millis(1))), TicketError::Expired);
        for cut in 0..text.len() {
            assert_eq!(Ticket::verify(&text[..cut], &secret, &key, now), Err(TicketError::Invalid));
        }
    }

    #[test]
    fn a_receipt_is_no_ticket_and_grows_stale() {
        let (secret, now) = (ClusterSecret::from_bytes(&[1; 32]), Timestamp::from_unix_ms(1 << 40));
        let receipt = Receipt {
            cluster: ClusterId::from_bytes([9; 16]),
            volume: VolumeId::from_bytes([1; 16]),
            blob: ticket().blob,
            length: 5,
            digest: Digest::of(b"12345"),
            issued: now,
        };
        let text = receipt.sign(&secret);
        let minute = Duration::from_secs(60);
        assert_eq!(Receipt::verify(&text, &secret, now, minute), Ok(receipt));
        assert_eq!(Receipt::verify(&text, &secret, now.after(minute * 2), minute), Err(TicketError::Stale));
        let key = Key::new("k").unwrap();
        assert_eq!(Ticket::verify(&text, &secret, &key, now), Err(TicketError::Invalid));
    }

    proptest! {
        #[test]
        fn one_changed_character_is_refused(at in 0usize..600, with in "[A-Za-z0-9_-]") {
            let (secret, key) = (ClusterSecret::from_bytes(&[1; 32]), Key::new("a/b").unwrap());
            let text = ticket().sign(&secret, &key);
            let at = at % text.len();
            prop_assume!(text[at..=at] != with);
            let altered = format!("{}{}{}", &text[..at], with, &text[at + 1..]);
            let now = Timestamp::from_unix_ms(1 << 40);
            prop_assert_eq!(Ticket::verify(&altered, &secret, &key, now), Err(TicketError::Invalid));
        }
    }
}
