//! Messages about access keys, between whoever holds the cluster's secret and a master. Secrets travel sealed, and only
//! towards the master.

use serde::{Deserialize, Serialize};

use crate::access::{AccessKeyId, Permission, Scope, Sealed};
use crate::clock::Timestamp;

/// A change of access keys or of bucket settings, with the next sequence number: one that is sent again, or comes after another
/// one, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<T> {
    /// `AccessKeysPage::sequence`, as it was read before.
    pub sequence: u64,
    /// The message of the route.
    pub change: T,
}

/// Makes an access key, or replaces the one of that id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAccessKey {
    /// Its id.
    pub id: AccessKeyId,
    /// Its secret.
    pub secret: Sealed,
    /// How much it permits.
    pub permission: Permission,
    /// Where; everywhere when there is none.
    pub scope: Option<Scope>,
    /// What whoever makes it wants to remember.
    pub note: String,
}

/// An access key is good no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeAccessKey {
    /// Its id.
    pub id: AccessKeyId,
}

/// Whether anybody may read the values of a bucket without an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAnonymous {
    /// The bucket, which must be there.
    pub bucket: String,
    /// Whether they may.
    pub read: bool,
}

/// Asks for a page of the access keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAccessKeys {
    /// Ids after this one.
    pub after: Option<AccessKeyId>,
}

/// One page of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeysPage {
    /// In the order of their ids.
    pub keys: Vec<AccessKeySummary>,
    /// Hand this back as `after` for the next page; none at the end.
    pub next: Option<AccessKeyId>,
    /// Changes of access keys and of what buckets permit so far: the next change names this number.
    pub sequence: u64,
}

/// What is shown of an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeySummary {
    /// Its id.
    pub id: AccessKeyId,
    /// How much it permits.
    pub permission: Permission,
    /// Where; everywhere when there is none.
    pub scope: Option<Scope>,
    /// What whoever made it wanted to remember.
    pub note: String,
    /// When it was made.
    pub created: Timestamp,
}
