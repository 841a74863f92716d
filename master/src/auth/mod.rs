//! Authentication and authorization. `Caller::may` is the one rule, for the native API and for S3; it takes keys and
//! buckets as plain strings and knows nothing of HTTP. Nothing here logs or shows a secret.

pub mod browser;
pub mod brute_force;
mod header;
pub mod resource;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use shared::access::{AccessKeyId, AccessSecret, Permission, Scope};
use shared::secret::ClusterSecret;
use shared::wire::error::ErrorReply;

use crate::tables::access_key::{self, AccessKey};
use crate::tables::bucket;
use crate::tables::{Kind, TableError};
use browser::{Hosts, NotForPages};
use brute_force::{BruteForceGuard, Wrong};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads a value, or the metadata of a key or bucket.
    Read,
    /// Stores or deletes.
    Write,
    /// Lists the keys with a prefix.
    List,
    Admin,
}

impl Action {
    fn needs(self) -> Permission {
        match self {
            Self::Read | Self::List => Permission::Read,
            Self::Write => Permission::Write,
            Self::Admin => Permission::Admin,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No access key was sent, but the cluster requires one.
    Anonymous,
    /// Authenticated with an access key.
    Key { id: AccessKeyId, permission: Permission, scope: Option<Scope> },
    /// The cluster has no access keys: every caller may do everything.
    Open,
}

impl Caller {
    pub fn of(id: AccessKeyId, key: &AccessKey) -> Self {
        Self::Key { id, permission: key.permission, scope: key.scope.clone() }
    }

    /// Whether the caller may do `action`. `bucket` is the first segment of a key and `key` the rest of it; for a
    /// list, `key` is the prefix. Without a bucket, `action` is about the whole store or a key outside buckets, which
    /// needs an access key without a scope. Without a key, it is about the bucket itself: an access key for a part of
    /// the bucket may see that the bucket exists, and nothing more.
    pub fn may(&self, action: Action, bucket: Option<&str>, key: Option<&str>) -> bool {
        let (permission, scope) = match self {
            Self::Open => return true,
            Self::Anonymous => return false,
            Self::Key { permission, scope, .. } => (*permission, scope),
        };
        let within = |scope: &Scope| match (bucket, key) {
            (None, _) => false,
            (Some(bucket), Some(key)) => scope.covers(bucket, key),
            (Some(bucket), None) if action == Action::Read => scope.bucket() == bucket,
            (Some(bucket), None) => scope.is_all_of(bucket),
        };
        permission >= action.needs() && scope.as_ref().is_none_or(within)
    }
}

/// The access keys of the cluster, as this master knows them: wait for `Group::ensure_linearizable` first.
///
/// Create it for each request: installing a snapshot replaces the tables.
#[derive(Clone, Debug)]
pub struct Keys {
    tree: sled::Tree,
    policy: Arc<AuthConfig>,
}

/// How a master authenticates requests.
#[derive(Debug)]
pub struct AuthConfig {
    /// The secret that encrypts the secrets of access keys.
    pub secret: ClusterSecret,
    /// As long as no access key exists, requests for these hosts may do everything. `None`: all requests are refused.
    pub open: Option<Hosts>,
    /// Slows down callers that guess secrets.
    pub guesses: BruteForceGuard,
}

/// What a request says about its sender.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'r> {
    pub method: &'r Method,
    /// All headers; the credentials, `Host`, `Origin` and the Fetch metadata are used.
    pub headers: &'r HeaderMap,
    /// The source address.
    pub peer: IpAddr,
}

impl Keys {
    /// Uses `tree`, the current tables.
    pub fn new(tree: sled::Tree, policy: &Arc<AuthConfig>) -> Self {
        Self { tree, policy: Arc::clone(policy) }
    }

    /// Whether the cluster has any access key.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn any(&self) -> Result<bool, TableError> {
        access_key::any(&self.tree)
    }

    /// Returns the access key with this id, and its secret.
    ///
    /// # Errors
    /// When the tables cannot be read, or the secret was encrypted with another cluster secret.
    pub fn find(&self, id: &str) -> Result<Option<(AccessKey, AccessSecret)>, TableError> {
        let Ok(named) = id.parse::<AccessKeyId>() else { return Ok(None) };
        let Some(key) = access_key::read(&self.tree, id)? else { return Ok(None) };
        let secret = key.secret.decrypt(&self.policy.secret, &named);
        let secret = secret.map_err(|error| {
            tracing::warn!(%id, %error, "the secret of an access key cannot be decrypted: create the key again");
            TableError::Corrupt { kind: Kind::AccessKey, bytes: 0 }
        })?;
        Ok(Some((key, secret)))
    }

    /// Returns the caller of a request without an access key.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn nobody(&self) -> Result<Caller, TableError> {
        Ok(if self.policy.open.is_some() && !self.any()? { Caller::Open } else { Caller::Anonymous })
    }

    /// Applies `Hosts::admit`, the rule for a master without access keys. The caller decides from current tables
    /// whether there are none.
    ///
    /// # Errors
    /// The refusal that this sender gets while the master is open.
    pub fn if_open(&self, sender: Sender<'_>, permitted: bool) -> Result<(), NotForPages> {
        let Some(hosts) = &self.policy.open else { return Ok(()) };
        hosts.admit(sender.method, sender.headers, permitted)
    }

    /// Authenticates this id and secret.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn prove(&self, id: &str, secret: &str) -> Result<Result<Caller, Wrong>, TableError> {
        let Some(((key, known), named)) = self.find(id)?.zip(id.parse().ok()) else {
            return Ok(Err(Wrong::Id));
        };
        Ok(if known.is(secret) { Ok(Caller::of(named, &key)) } else { Err(Wrong::Secret) })
    }

    /// Delays the check of the key `id` sent by `peer`: see `BruteForceGuard::throttle`. Wait
    /// for `Group::ensure_linearizable` afterwards.
    ///
    /// # Errors
    /// When too many requests already wait.
    pub async fn throttle(&self, id: &str, peer: IpAddr) -> Result<(), ErrorReply> {
        self.policy.guesses.throttle(id, peer).await
    }

    /// As `throttle`, for the key of a native request.
    ///
    /// # Errors
    /// `TooBusy` when too many requests already wait.
    pub async fn throttle_sender(&self, sender: Sender<'_>) -> Result<(), ErrorReply> {
        match header::credentials(sender.headers) {
            Some(Ok(shown)) => self.throttle(&shown.id, sender.peer).await,
            _ => Ok(()),
        }
    }

    /// Returns the key id that a native request claims, valid or not, in the form for logs.
    pub fn claimed(&self, headers: &HeaderMap) -> Option<String> {
        Some(self.shown(&header::credentials(headers)?.ok()?.id))
    }

    /// Returns an id in the form for logs: see `brute_force::shown`.
    pub fn shown(&self, id: &str) -> String {
        brute_force::shown(id, matches!(access_key::read(&self.tree, id), Ok(Some(_))))
    }

    /// Records that `peer` sent an invalid key.
    pub fn wrong(&self, id: &str, peer: IpAddr, wrong: Wrong) {
        self.policy.guesses.wrong(id, peer, wrong);
    }

    /// Whether everyone may read the values of `bucket`.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn anonymous_read(&self, bucket: &str) -> Result<bool, TableError> {
        Ok(bucket::record(&self.tree, bucket)?.is_some_and(|b| b.public_read))
    }

    /// As `Caller::may`, plus the anonymous read access of a bucket.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn permits(
        &self,
        caller: &Caller,
        action: Action,
        bucket: Option<&str>,
        key: Option<&str>,
    ) -> Result<bool, TableError> {
        if caller.may(action, bucket, key) {
            return Ok(true);
        }
        match (action, bucket, key) {
            (Action::Read, Some(bucket), Some(_)) => self.anonymous_read(bucket),
            _ => Ok(false),
        }
    }

    /// Admits a CORS preflight request: a browser sends no key with it. `Hosts::admit` still applies.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn admit_question(&self, sender: Sender<'_>) -> Result<(), ErrorReply> {
        match self.nobody()? {
            Caller::Open => Ok(self.if_open(sender, false)?),
            _ => Ok(()),
        }
    }

    /// Admits or refuses a request of the native API: 401 without a valid key, 403 with one. `permitted`: the CORS
    /// rules of the bucket permit the page that made the request.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn admit(
        &self,
        sender: Sender<'_>,
        permitted: bool,
        action: Action,
        bucket: Option<&str>,
        key: Option<&str>,
    ) -> Result<(), ErrorReply> {
        let any = self.any()?;
        if self.policy.open.is_some() && !any {
            return Ok(self.if_open(sender, permitted)?);
        }
        let caller = match header::credentials(sender.headers) {
            None => Caller::Anonymous,
            Some(Ok(shown)) => {
                let caller = self.prove(&shown.id, &shown.secret)?.map_err(|wrong| {
                    self.wrong(&shown.id, sender.peer, wrong);
                    header::wrong()
                })?;
                let elsewhere = browser::is_of_another_site(sender.method, sender.headers)
                    || browser::has_foreign_origin(sender.headers);
                if shown.remembered && elsewhere {
                    return Err(NotForPages::Remembered.into());
                }
                caller
            }
            Some(Err(refusal)) => return Err(refusal),
        };
        if self.permits(&caller, action, bucket, key)? {
            return Ok(());
        }
        Err(match caller {
            _ if !any => header::closed(),
            Caller::Anonymous => header::missing(),
            Caller::Key { .. } | Caller::Open => header::forbidden(),
        })
    }
}
