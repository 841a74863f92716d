//! Who asks by S3, and what they may do: the access keys of the native face, proved by a signature (AWS Signature Version 4).
//!
//! The library checks signatures; what it lets through that we do not want is refused in `guard`, before it looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use shared::wire::routes::query_value;

use super::error::{from_reply, from_tables};
use crate::auth::{Action, Caller};
use crate::master::Master;

/// While there are no access keys, a client of this machine may sign with any id and this secret: it says nothing.
pub const OPEN_SECRET: &str = "bargebarge";

/// Whether a request was let through: set by `Gate::check`, and by nobody else.
#[derive(Clone, Debug, Default)]
pub struct Admitted(Arc<AtomicBool>);

impl Admitted {
    /// Whether it was.
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Signatures and permissions.
#[derive(Clone)]
pub struct Gate(pub Arc<Master>);

#[async_trait::async_trait]
impl S3Auth for Gate {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        // A key that was revoked a moment ago on another master is revoked here.
        self.0.group.current().await.map_err(|e| from_reply(e.into()))?;
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

/// What an operation does, by its name in the S3 API reference.
fn action(operation: &str) -> Action {
    match operation {
        "ListObjects" | "ListObjectsV2" | "ListObjectVersions" | "ListMultipartUploads" | "ListBuckets" => {
            Action::List
        }
        "PutBucketCors"
        | "DeleteBucketCors"
        | "PutBucketTagging"
        | "DeleteBucketTagging"
        | "PutBucketLifecycleConfiguration"
        | "DeleteBucketLifecycle"
        | "PutBucketPolicy"
        | "PutBucketAcl" => Action::Admin,
        _ if operation.starts_with("Get") || operation.starts_with("Head") || operation == "ListParts" => {
            Action::Read
        }
        _ => Action::Write,
    }
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        // Who shows no key is judged by the present as well.
        self.0.group.current().await.map_err(|e| from_reply(e.into()))?;
        let keys = self.0.keys();
        let caller = match cx.credentials() {
            None => keys.nobody().map_err(from_tables)?,
            Some(credentials) => self.caller(&credentials.access_key)?,
        };
        let action = action(cx.s3_op().name());
        let (bucket, key) = match (cx.s3_path().as_object(), cx.s3_path().as_bucket()) {
            (Some((bucket, key)), _) => (Some(bucket), Some(key.to_owned())),
            (None, Some(bucket)) => (Some(bucket), None),
            (None, None) => (None, None),
        };
        let name = cx.s3_op().name();
        let key = match (&key, action) {
            // A listing is of what begins like this.
            (None, Action::List) if bucket.is_some() => {
                Some(query_value(cx.uri().query(), "prefix").unwrap_or_default())
            }
            _ => key,
        };
        // Which buckets there are is told to every key, of each that it may know of; many objects are looked at one by one, and
        // so is a form, whose key stands inside.
        let later =
            ["ListBuckets", "DeleteObjects", "PostObject"].contains(&name) && caller != Caller::Anonymous;
        let allowed = later || keys.permits(&caller, action, bucket, key.as_deref()).map_err(from_tables)?;
        if !allowed {
            return Err(denied());
        }
        if let Some(admitted) = cx.extensions_mut().get::<Admitted>() {
            admitted.0.store(true, Ordering::Release);
        }
        cx.extensions_mut().insert(caller);
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

fn denied() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

/// Who sent a request that was let through.
pub fn caller<T>(req: &S3Request<T>) -> Caller {
    req.extensions.get().cloned().unwrap_or(Caller::Anonymous)
}

/// Whether whoever sent a request may do this, too.
pub fn may<T>(req: &S3Request<T>, action: Action, bucket: &str, key: Option<&str>) -> S3Result<()> {
    if caller(req).may(action, Some(bucket), key) { Ok(()) } else { Err(denied()) }
}
