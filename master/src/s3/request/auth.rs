//! Authentication and authorization of S3 requests: the access keys of the native API, verified by a signature (AWS
//! Signature Version 4, SigV4), in `Gate::check`. In place of IAM and bucket policies there are the scopes of access
//! keys and public buckets.
//!
//! The library verifies signatures. What it would accept and this store must not is refused by `guard` beforehand.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::request::Parts;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::GetObjectInput;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use shared::wire::routes::query_value;

use crate::auth::brute_force::Wrong;
use crate::auth::{Action, Caller, Keys};
use crate::s3::S3Operations;
use crate::s3::error::from_tables;
use crate::s3::request::context::RequestContext;
use crate::s3::request::operation_name::operation_of;
use crate::s3::request::permissions::{AccessRule, NOT_FOR_ANYBODY, name, rule};
use crate::s3::request::unreadable_headers::ProvedSigner;

/// While there are no access keys, a client on this machine may sign with any id and this secret,
/// which proves nothing.
pub const OPEN_SECRET: &str = "bargebarge";

/// The operation that the library found in a request, for the caller of the library.
#[derive(Clone, Debug, Default)]
pub struct FoundOperation(Arc<OnceLock<&'static str>>);

impl FoundOperation {
    /// Returns the operation; none if the library refused the request before it knew.
    pub fn get(&self) -> Option<&'static str> {
        self.0.get().copied()
    }
}

/// What a request asks for, as the guard has read it.
#[derive(Clone, Debug)]
pub struct CheckedTarget {
    operation: &'static str,
    bucket: Option<String>,
    key: Option<String>,
}

impl CheckedTarget {
    pub fn of(head: &Parts, about: &RequestContext) -> Self {
        let (bucket, key) = (about.bucket.clone(), about.key.clone());
        let (has_bucket, has_key) = (bucket.is_some(), key.is_some());
        let operation = operation_of(&head.method, head.uri.query(), &head.headers, has_bucket, has_key);
        Self { operation, bucket, key }
    }

    /// Whether the library reads the request in the same way. If not, its operation would run unchecked.
    fn is_that_of(&self, cx: &S3AccessContext<'_>) -> bool {
        name(cx.s3_op().name()) == Some(self.operation)
            && cx.s3_path().get_bucket_name() == self.bucket.as_deref()
            && cx.s3_path().get_object_key() == self.key.as_deref()
    }
}

/// Provides secrets to the library, and decides permissions.
#[derive(Clone)]
pub struct Gate(pub S3Operations);

#[async_trait::async_trait]
impl S3Auth for Gate {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        // A key that another master has just revoked must not be accepted here.
        self.0.current().await?;
        let keys = self.0.keys();
        if keys.nobody().map_err(from_tables)? == Caller::Open {
            return Ok(SecretKey::from(OPEN_SECRET));
        }
        let found = keys.find(id).map_err(from_tables)?;
        let (_, secret) = found.ok_or_else(|| {
            s3_error!(InvalidAccessKeyId, "The access key id you provided does not exist in our records.")
        })?;
        Ok(SecretKey::from(secret.expose()))
    }
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = name(cx.s3_op().name());
        if let (Some(operation), Some(seen)) = (operation, cx.extensions_mut().get::<FoundOperation>()) {
            let _ = seen.0.set(operation);
        }
        let checked = cx.extensions_mut().get::<CheckedTarget>().cloned();
        if !checked.is_some_and(|checked| checked.is_that_of(cx)) {
            tracing::warn!(operation, path = ?cx.s3_path(), "refused a request that has two readings");
            return Err(s3_error!(
                InvalidRequest,
                "The path or query of this request can be read in two ways; encode it as the reference of S3 says"
            ));
        }
        // Anonymous callers are checked against current metadata as well.
        self.0.current().await?;
        let keys = self.0.keys();
        // In the second pass, the signature was verified by the first.
        let before = cx.extensions_mut().get::<ProvedSigner>().cloned();
        let shown = cx.credentials().map(|shown| shown.access_key.clone()).or(before.and_then(|p| p.0));
        let caller = match shown {
            None => keys.nobody().map_err(from_tables)?,
            Some(id) => self.caller(&id)?,
        };
        let rule = operation.and_then(rule).unwrap_or(AccessRule::Nobody);
        let (bucket, key) = match (cx.s3_path().as_object(), cx.s3_path().as_bucket()) {
            (Some((bucket, key)), _) => (Some(bucket), Some(key.to_owned())),
            (None, Some(bucket)) => (Some(bucket), None),
            (None, None) => (None, None),
        };
        let key = match (&key, rule) {
            // A listing needs permission for its prefix.
            (None, AccessRule::Needs(Action::List)) if bucket.is_some() => {
                Some(query_value(cx.uri().query(), "prefix").unwrap_or_default())
            }
            _ => key,
        };
        let allowed = match (rule, bucket) {
            (AccessRule::Readers, Some(bucket)) => {
                let public = !caller.may(Action::Read, Some(bucket), key.as_deref());
                let asks = |names: &[&str]| names.iter().any(|n| query_value(cx.uri().query(), n).is_some());
                let open = !public || keys.anonymous_read(bucket).map_err(from_tables)?;
                if open && caller == Caller::Anonymous && asks(&NOT_FOR_ANYBODY) {
                    return Err(s3_error!(
                        InvalidRequest,
                        "Request specific response headers cannot be used for anonymous GET requests."
                    ));
                }
                open && !(caller == Caller::Anonymous && asks(&["versionId"]))
            }
            (AccessRule::Readers | AccessRule::Nobody, _) | (AccessRule::EachInside, None) => false,
            (AccessRule::AnyKey, _) => caller != Caller::Anonymous,
            (AccessRule::EachInside, Some(bucket)) => writes_in(&caller, bucket),
            (AccessRule::Needs(action), bucket) => caller.may(action, bucket, key.as_deref()),
        };
        if !allowed {
            return Err(denied());
        }
        cx.extensions_mut().insert(caller);
        Ok(())
    }

    /// Drops empty `response-*` values, which the library would put into the response.
    async fn get_object(&self, req: &mut S3Request<GetObjectInput>) -> S3Result<()> {
        let input = &mut req.input;
        for text in [
            &mut input.response_cache_control,
            &mut input.response_content_disposition,
            &mut input.response_content_encoding,
            &mut input.response_content_language,
            &mut input.response_content_type,
        ] {
            text.take_if(|text| text.is_empty());
        }
        Ok(())
    }
}

impl Gate {
    fn caller(&self, id: &str) -> S3Result<Caller> {
        let keys = self.0.keys();
        if keys.nobody().map_err(from_tables)? == Caller::Open {
            return Ok(Caller::Open);
        }
        let found = keys.find(id).map_err(from_tables)?.zip(id.parse().ok());
        found.map(|((key, _), id)| Caller::of(id, &key)).ok_or_else(|| S3ErrorCode::InvalidAccessKeyId.into())
    }
}

/// Returns which credential is wrong, by the code of the refusal.
pub fn wrong(code: &str) -> Option<Wrong> {
    match code {
        "InvalidAccessKeyId" => Some(Wrong::Id),
        "SignatureDoesNotMatch" => Some(Wrong::Secret),
        _ => None,
    }
}

/// Counts a wrong credential, except while `OPEN_SECRET` is accepted.
pub fn note(keys: &Keys, id: &str, peer: IpAddr, wrong: Wrong) {
    if !matches!(keys.nobody(), Ok(Caller::Open)) {
        keys.wrong(id, peer, wrong);
    }
}

/// Returns whether the caller may write any keys in the bucket at all.
fn writes_in(caller: &Caller, bucket: &str) -> bool {
    let begins = match caller {
        Caller::Key { scope: Some(scope), .. } => scope.prefix(),
        _ => "",
    };
    caller.may(Action::Write, Some(bucket), Some(begins))
}

fn denied() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

pub fn caller<T>(req: &S3Request<T>) -> Caller {
    req.extensions.get().cloned().unwrap_or(Caller::Anonymous)
}

/// Checks that the caller of a request may also do this.
pub fn may<T>(req: &S3Request<T>, action: Action, bucket: &str, key: Option<&str>) -> S3Result<()> {
    if caller(req).may(action, Some(bucket), key) { Ok(()) } else { Err(denied()) }
}
