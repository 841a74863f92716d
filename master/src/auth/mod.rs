//! Who asks, and what they may do. `Caller::may` is the one rule, for the native face and for S3; it knows keys and
//! buckets as words and nothing of HTTP. Nothing here logs or shows a secret.

pub mod browser;
pub mod guesses;
mod header;
pub mod place;
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
use guesses::{Guesses, Wrong};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Of a value, or of what is known of a key or bucket.
    Read,
    /// To store or delete.
    Write,
    /// The keys that begin with something.
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
    /// Anybody: no key was shown, and keys are needed.
    Anonymous,
    /// The holder of an access key, who has proved it.
    Key {
        id: AccessKeyId,
        /// How much it permits.
        permission: Permission,
        scope: Option<Scope>,
    },
    /// Anybody, where no key is configured at all: they may do anything.
    Open,
}

impl Caller {
    /// The holder of `key`, who has proved it.
    pub fn of(id: AccessKeyId, key: &AccessKey) -> Self {
        Self::Key { id, permission: key.permission, scope: key.scope.clone() }
    }

    /// Whether the caller may do `action`. `bucket` is the first segment of a key and `key` the rest of it; for a list `key`
    /// is what the keys listed begin with. Without a bucket the whole store is meant, or a key in none: for that a key
    /// must have no scope. Without a key the bucket itself is meant: who holds a key to a part of it may know that it is
    /// there, and nothing more.
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

/// The access keys of the cluster, as this master knows them: wait for `Group::current` first.
///
/// Made for one request: a snapshot that is installed replaces the tables.
#[derive(Clone, Debug)]
pub struct Keys {
    tree: sled::Tree,
    policy: Arc<Policy>,
}

/// How a master judges those who show keys, or none.
#[derive(Debug)]
pub struct Policy {
    /// What secrets of keys are sealed with.
    pub secret: ClusterSecret,
    /// While there is no key, anybody may do anything who asks for one of these hosts; where there are none, nobody may.
    pub open: Option<Hosts>,
    /// Slows down those who guess secrets.
    pub guesses: Guesses,
}

/// A request, as far as it says who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'r> {
    /// GET and HEAD change nothing.
    pub method: &'r Method,
    /// Those that say who asks, and from which page.
    pub headers: &'r HeaderMap,
    /// Where it comes from.
    pub peer: IpAddr,
}

impl Keys {
    /// In the tables of now.
    pub fn new(tree: sled::Tree, policy: &Arc<Policy>) -> Self {
        Self { tree, policy: Arc::clone(policy) }
    }

    /// Whether there is any key.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn any(&self) -> Result<bool, TableError> {
        access_key::any(&self.tree)
    }

    /// The key of that id, and its secret.
    ///
    /// # Errors
    /// When the tables cannot be read, or the secret was sealed with another one of the cluster.
    pub fn find(&self, id: &str) -> Result<Option<(AccessKey, AccessSecret)>, TableError> {
        let Ok(named) = id.parse::<AccessKeyId>() else { return Ok(None) };
        let Some(key) = access_key::read(&self.tree, id)? else { return Ok(None) };
        let secret = key.secret.open(&self.policy.secret, &named);
        let secret = secret.map_err(|error| {
            tracing::warn!(%id, %error, "the secret of an access key cannot be opened: make the key anew");
            TableError::Damaged { kind: Kind::AccessKey, bytes: 0 }
        })?;
        Ok(Some((key, secret)))
    }

    /// Who somebody is that shows no key.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn nobody(&self) -> Result<Caller, TableError> {
        Ok(if self.policy.open.is_some() && !self.any()? { Caller::Open } else { Caller::Anonymous })
    }

    /// Whether a browser may be made to ask this, if anybody may do anything: see `Hosts::admit`. Whether that is so the
    /// tables say, and a caller that knows the present.
    ///
    /// # Errors
    /// The refusal that this sender gets while the master is open.
    pub fn if_open(&self, sender: Sender<'_>, permitted: bool) -> Result<(), NotForPages> {
        let Some(hosts) = &self.policy.open else { return Ok(()) };
        hosts.admit(sender.method, sender.headers, permitted)
    }

    /// Who shows this id and this secret.
    fn prove(&self, id: &str, secret: &str) -> Result<Result<Caller, Wrong>, TableError> {
        let Some(((key, known), named)) = self.find(id)?.zip(id.parse().ok()) else {
            return Ok(Err(Wrong::Id));
        };
        Ok(if known.is(secret) { Ok(Caller::of(named, &key)) } else { Err(Wrong::Secret) })
    }

    /// Returns when the key `id`, as `peer` shows it, may be looked at: see `Guesses::pace`. Wait for the present afterwards.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn pace(&self, id: &str, peer: IpAddr) -> Result<(), ErrorReply> {
        self.policy.guesses.pace(id, peer).await
    }

    /// As `pace`, for the key that a native request shows.
    ///
    /// # Errors
    /// `TooBusy` when too many wait already.
    pub async fn pace_sender(&self, sender: Sender<'_>) -> Result<(), ErrorReply> {
        match header::credentials(sender.headers) {
            Some(Ok(shown)) => self.pace(&shown.id, sender.peer).await,
            _ => Ok(()),
        }
    }

    /// The id of the key that a native request shows, good or not, as logs may have it.
    pub fn claimed(&self, headers: &HeaderMap) -> Option<String> {
        Some(self.shown(&header::credentials(headers)?.ok()?.id))
    }

    /// An id as logs may have it: see `guesses::shown`.
    pub fn shown(&self, id: &str) -> String {
        guesses::shown(id, matches!(access_key::read(&self.tree, id), Ok(Some(_))))
    }

    /// `peer` has shown a key that is not good.
    pub fn wrong(&self, id: &str, peer: IpAddr, wrong: Wrong) {
        self.policy.guesses.wrong(id, peer, wrong);
    }

    /// Whether anybody may read the values of `bucket`.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn anonymous_read(&self, bucket: &str) -> Result<bool, TableError> {
        Ok(bucket::record(&self.tree, bucket)?.is_some_and(|b| b.public_read))
    }

    /// As `Caller::may`, and with what a bucket permits to anybody.
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

    /// Lets a question pass whether a page may ask something: a browser shows no key with it. `Hosts::admit` holds all the same.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit_question(&self, sender: Sender<'_>) -> Result<(), ErrorReply> {
        match self.nobody()? {
            Caller::Open => Ok(self.if_open(sender, false)?),
            _ => Ok(()),
        }
    }

    /// Lets a request of the native face pass, or refuses it: 401 for whoever has to show a key, 403 for whoever has.
    /// `permitted`: a bucket's own rules let the page in that has made it.
    ///
    /// # Errors
    /// The refusal.
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
