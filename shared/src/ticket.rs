//! Tickets and receipts: what the master permits, and what a volume states.
//!
//! A ticket stands in a URL, because clients drop headers on a redirect to another port. It is
//! postcard, then a MAC, in base64url. The key is not inside but under the MAC: it is in the URL's path already.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::condition::WriteCondition;
use crate::digest::Digest;
use crate::ids::{BlobId, ClusterId, VolumeId};
use crate::key::Key;
use crate::limits::{CLOCK_SKEW_MAX, TICKET_CHARS_MAX};
use crate::secret::{ClusterSecret, Purpose};

const MAC_BYTES: usize = 32;

/// A signed, expiring permission for one operation on one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The cluster it is good in.
    pub cluster: ClusterId,
    /// The blob it is good for.
    pub blob: BlobId,
    /// When it ends. An upload that began before may end later.
    pub expires: Timestamp,
    /// How often the client has been sent round between master and volume.
    pub hops: u8,
    /// Where volumes reach the master that gave it, as a base URL.
    pub master: String,
    /// Where clients reach that master, as a base URL.
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
pub struct Link {
    /// The volume.
    pub volume: VolumeId,
    /// Where its peers reach it, as a base URL.
    pub address: String,
}

/// Permission to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteGrant {
    /// The volumes, in the order in which the bytes flow.
    pub chain: Vec<Link>,
    /// Length of the value in bytes, when the client declared it.
    pub length: Option<u64>,
    /// BLAKE3 of the value, when the client declared it.
    pub digest: Option<Digest>,
    /// What must hold of the key's present value when the write commits.
    pub condition: WriteCondition,
    /// Copies the cluster wants of it.
    pub wanted: u8,
    /// Copies without which the upload fails.
    pub min_replicas: u8,
    /// Whether the sender may say what only servers say of a record: a master that commits itself.
    pub notes: bool,
}

/// A volume's signed statement that a blob is durable on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who states it.
    pub volume: VolumeId,
    /// What is durable.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// When it was stated, by the volume's clock.
    pub issued: Timestamp,
}

/// Why a ticket or receipt is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TicketError {
    /// Not in the form of one, altered, for another key, or signed with another secret.
    #[error("it was altered, cut, made for another key or signed by another cluster")]
    Invalid,
    /// Its time has passed.
    #[error("it has expired")]
    Expired,
    /// A receipt too old to be committed against.
    #[error("it is too old to be committed")]
    Stale,
}

impl Ticket {
    /// The text that stands in the URL. `key` is bound by the signature.
    pub fn seal(&self, secret: &ClusterSecret, key: &Key) -> String {
        seal(self, secret, Purpose::Ticket, key.as_str().as_bytes())
    }

    /// Reads and checks a ticket for `key`.
    ///
    /// # Errors
    /// When it is not one of this cluster for this key, or has expired (with a grace for clocks that differ).
    pub fn open(text: &str, secret: &ClusterSecret, key: &Key, now: Timestamp) -> Result<Self, TicketError> {
        let ticket = Self::open_begun(text, secret, key)?;
        if now > ticket.expires.after(CLOCK_SKEW_MAX) {
            return Err(TicketError::Expired);
        }
        Ok(ticket)
    }

    /// As `open`, for an upload that began before the ticket expired: its time is not looked at.
    ///
    /// # Errors
    /// When it is not one of this cluster for this key.
    pub fn open_begun(text: &str, secret: &ClusterSecret, key: &Key) -> Result<Self, TicketError> {
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketError::Invalid);
        }
        open(text, secret, Purpose::Ticket, key.as_str().as_bytes())
    }
}

impl Receipt {
    /// The text that travels.
    pub fn seal(&self, secret: &ClusterSecret) -> String {
        seal(self, secret, Purpose::Receipt, b"")
    }

    /// Reads and checks a receipt that was issued within `lifetime`.
    ///
    /// # Errors
    /// When it is not one of this cluster, or too old.
    pub fn open(
        text: &str,
        secret: &ClusterSecret,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Self, TicketError> {
        let receipt: Self = open(text, secret, Purpose::Receipt, b"")?;
        if now.since(receipt.issued) > lifetime || receipt.issued.since(now) > CLOCK_SKEW_MAX {
            return Err(TicketError::Stale);
        }
        Ok(receipt)
    }
}

fn seal<T: Serialize>(what: &T, secret: &ClusterSecret, purpose: Purpose, context: &[u8]) -> String {
    let mut bytes = postcard::to_stdvec(what).expect("tickets and receipts hold nothing postcard refuses");
    let mac = secret.mac(purpose, &[&bytes, context]);
    bytes.extend_from_slice(mac.as_bytes());
    BASE64.encode(bytes)
}

fn open<T: for<'a> Deserialize<'a>>(
    text: &str,
    secret: &ClusterSecret,
    purpose: Purpose,
    context: &[u8],
) -> Result<T, TicketError> {
    let bytes = BASE64.decode(text).map_err(|_| TicketError::Invalid)?;
    let cut = bytes.len().checked_sub(MAC_BYTES).ok_or(TicketError::Invalid)?;
    let (body, mac) = bytes.split_at(cut);
    let mac = blake3::Hash::from_slice(mac).map_err(|_| TicketError::Invalid)?;
    // The comparison of two `blake3::Hash` takes constant time; nothing is decoded before it holds.
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
        let link = |n: u8| Link {
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
                notes: false,
            }),
        }
    }

    #[test]
    fn good_for_its_key_cluster_and_time_only() {
        let (secret, key, now) =
            (ClusterSecret::from_bytes(&[1; 32]), Key::new("a/b").unwrap(), Timestamp::from_unix_ms(1 << 40));
        let text = ticket().seal(&secret, &key);
        assert!(text.len() < TICKET_CHARS_MAX / 2, "{}", text.len());
        assert_eq!(Ticket::open(&text, &secret, &key, now), Ok(ticket()));
        let open = |s: &ClusterSecret, k, t| Ticket::open(&text, s, &Key::new(k).unwrap(), t).unwrap_err();
        assert_eq!(open(&secret, "a/c", now), TicketError::Invalid);
        assert_eq!(open(&ClusterSecret::from_bytes(&[2; 32]), "a/b", now), TicketError::Invalid);
        assert_eq!(open(&secret, "a/b", now.after(TICKET_LIFETIME * 2)), TicketError::Expired);
        // The clock of who gave it may be behind the one it is looked at with.
        let last = ticket().expires.after(CLOCK_SKEW_MAX);
        assert_eq!(Ticket::open(&text, &secret, &key, last), Ok(ticket()));
        assert_eq!(open(&secret, "a/b", last.after(Duration::from_millis(1))), TicketError::Expired);
        for cut in 0..text.len() {
            assert_eq!(Ticket::open(&text[..cut], &secret, &key, now), Err(TicketError::Invalid));
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
        let text = receipt.seal(&secret);
        let minute = Duration::from_secs(60);
        assert_eq!(Receipt::open(&text, &secret, now, minute), Ok(receipt));
        assert_eq!(Receipt::open(&text, &secret, now.after(minute * 2), minute), Err(TicketError::Stale));
        let key = Key::new("k").unwrap();
        assert_eq!(Ticket::open(&text, &secret, &key, now), Err(TicketError::Invalid));
    }

    proptest! {
        #[test]
        fn one_changed_character_is_refused(at in 0usize..600, with in "[A-Za-z0-9_-]") {
            let (secret, key) = (ClusterSecret::from_bytes(&[1; 32]), Key::new("a/b").unwrap());
            let text = ticket().seal(&secret, &key);
            let at = at % text.len();
            prop_assume!(text[at..=at] != with);
            let altered = format!("{}{}{}", &text[..at], with, &text[at + 1..]);
            let now = Timestamp::from_unix_ms(1 << 40);
            prop_assert_eq!(Ticket::open(&altered, &secret, &key, now), Err(TicketError::Invalid));
        }
    }
}
