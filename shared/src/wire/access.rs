//! Messages about access keys, from holders of the cluster secret to a master. Secrets of keys travel encrypted, and
//! only towards the master.

use serde::{Deserialize, Serialize};

use crate::access::{AccessKeyId, EncryptedSecret, Permission, Scope};
use crate::clock::Timestamp;

/// A change of access keys or bucket settings, with a sequence number: a repeated change, or one that another change
/// overtook, has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencedChange<T> {
    /// `AccessKeysPage::sequence`, as read before the change.
    pub sequence: u64,
    /// The request of the route.
    pub change: T,
}

/// Creates an access key, or replaces the one with that id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAccessKey {
    /// The key's id.
    pub id: AccessKeyId,
    /// The key's secret, encrypted for this cluster.
    pub secret: EncryptedSecret,
    /// Which operations the key permits.
    pub permission: Permission,
    /// The keys it is limited to; none: all.
    pub scope: Option<Scope>,
    /// Free text, one line, at most `ACCESS_NOTE_BYTES_MAX`.
    pub note: String,
}

/// Revokes an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeAccessKey {
    /// The key's id.
    pub id: AccessKeyId,
}

/// Sets whether anyone may read the values of a bucket without an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAnonymous {
    /// The bucket; it must exist.
    pub bucket: String,
    /// Whether anonymous reads are allowed.
    pub read: bool,
}

/// Requests a page of the access keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAccessKeys {
    /// Only ids after this one.
    pub after: Option<AccessKeyId>,
}

/// A page of access keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeysPage {
    /// In the order of their ids.
    pub keys: Vec<AccessKeySummary>,
    /// The `after` of the next page; none at the end.
    pub next: Option<AccessKeyId>,
    /// Number of changes to access keys and bucket permissions so far; the next change has to name it.
    pub sequence: u64,
}

/// An access key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeySummary {
    /// The key's id.
    pub id: AccessKeyId,
    /// Which operations the key permits.
    pub permission: Permission,
    /// The keys it is limited to; none: all.
    pub scope: Option<Scope>,
    /// Free text from its creation.
    pub note: String,
    /// When it was created, by the master's clock.
    pub created: Timestamp,
}
