//! Who asks by S3, and what they may do: the access keys of the native face, proved by a signature (AWS Signature Version 4).
//!
//! The library checks signatures; what it lets through that we do not want is refused in `guard`, before it looks.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::GetObjectInput;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use shared::wire::routes::query_value;

use super::error::{from_reply, from_tables};
use super::lenient::Proved;
use super::operations::{NOT_FOR_ANYBODY, Rule, name, rule};
use crate::auth::guesses::Wrong;
use crate::auth::{Action, Caller, Keys};
use crate::master::Master;

/// While there are no access keys, a client of this machine may sign with any id and this secret: it says nothing.
pub const OPEN_SECRET: &str = "bargebarge";

/// The operation that the library found in a request, for the one who handed it the request.
#[derive(Clone, Debug, Default)]
pub struct FoundOperation(Arc<OnceLock<&'static str>>);

impl FoundOperation {
    /// None when the library did not come so far.
    pub fn get(&self) -> Option<&'static str> {
        self.0.get().copied()
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

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = name(cx.s3_op().name());
        if let (Some(operation), Some(seen)) = (operation, cx.extensions_mut().get::<FoundOperation>()) {
            let _ = seen.0.set(operation);
        }
        // Who shows no key is judged by the present as well.
        self.0.group.current().await.map_err(|e| from_reply(e.into()))?;
        let keys = self.0.keys();
        // Where it is asked once more, the signature was proved the first time.
        let before = cx.extensions_mut().get::<Proved>().cloned();
        let shown = cx.credentials().map(|shown| shown.access_key.clone()).or(before.and_then(|p| p.0));
        let caller = match shown {
            None => keys.nobody().map_err(from_tables)?,
            Some(id) => self.caller(&id)?,
        };
        let rule = operation.and_then(rule).unwrap_or(Rule::Nobody);
        let (bucket, key) = match (cx.s3_path().as_object(), cx.s3_path().as_bucket()) {
            (Some((bucket, key)), _) => (Some(bucket), Some(key.to_owned())),
            (None, Some(bucket)) => (Some(bucket), None),
            (None, None) => (None, None),
        };
        let key = match (&key, rule) {
            // A listing is of what begins like this.
            (None, Rule::Needs(Action::List)) if bucket.is_some() => {
                Some(query_value(cx.uri().query(), "prefix").unwrap_or_default())
            }
            _ => key,
        };
        let allowed = match (rule, bucket) {
            (Rule::Readers, Some(bucket)) => {
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
            (Rule::Readers | Rule::Nobody, _) | (Rule::EachInside, None) => false,
            (Rule::AnyKey, _) => caller != Caller::Anonymous,
            (Rule::EachInside, Some(bucket)) => writes_in(&caller, bucket),
            (Rule::Needs(action), bucket) => caller.may(action, bucket, key.as_deref()),
        };
        if !allowed {
            return Err(denied());
        }
        cx.extensions_mut().insert(caller);
        Ok(())
    }

    /// The library puts these into the answer, and what is empty asks for nothing.
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

/// What is wrong with a signature, by the code of its refusal.
pub fn wrong(code: &str) -> Option<Wrong> {
    match code {
        "InvalidAccessKeyId" => Some(Wrong::Id),
        "SignatureDoesNotMatch" => Some(Wrong::Secret),
        _ => None,
    }
}

/// Counts it; not while the secret is one that everybody knows.
pub fn note(keys: &Keys, id: &str, peer: IpAddr, wrong: Wrong) {
    if !matches!(keys.nobody(), Ok(Caller::Open)) {
        keys.wrong(id, peer, wrong);
    }
}

/// Whether the caller may write anything in a bucket.
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

/// Who sent a request that was let through.
pub fn caller<T>(req: &S3Request<T>) -> Caller {
    req.extensions.get().cloned().unwrap_or(Caller::Anonymous)
}

/// Whether whoever sent a request may do this, too.
pub fn may<T>(req: &S3Request<T>, action: Action, bucket: &str, key: Option<&str>) -> S3Result<()> {
    if caller(req).may(action, Some(bucket), key) { Ok(()) } else { Err(denied()) }
}
