//! The answer to an upload after its commit: the same from a volume that had it committed and from a master that
//! committed it itself.

use http::header::{ETAG, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::http::body::{self, Body};
use crate::wire::error::{ErrorCode, ErrorReply};
use crate::wire::master::{CommitOutcome, StoredObject};

/// The answer to the client. `needed`: replicas without which an upload fails.
///
/// # Errors
/// If the blob did not become the key's value.
pub fn committed(
    outcome: CommitOutcome,
    stored: &StoredObject,
    needed: usize,
    (method, headers): (&Method, &HeaderMap),
) -> Result<Response<Body>, ErrorReply> {
    let hint = "nothing was stored; send the value again";
    let status = match outcome {
        CommitOutcome::Created => StatusCode::CREATED,
        CommitOutcome::Replaced => StatusCode::OK,
        CommitOutcome::ConditionFailed => {
            return Err(ErrorReply::condition_failed(method, headers, &stored.key));
        }
        CommitOutcome::Overtaken => {
            let why = "a conditional write of the same key was committed first";
            return Err(ErrorReply::new(ErrorCode::Unavailable, why, hint).for_key(&stored.key));
        }
        CommitOutcome::NotEnoughReceipts => {
            let StoredObject { replicas, wanted, .. } = stored;
            let why = format!("{replicas} of {wanted} replicas became durable, and {needed} are needed");
            return Err(ErrorReply::new(ErrorCode::Unavailable, why, hint).for_key(&stored.key));
        }
    };
    let mut answer = body::json(status, stored);
    if let Ok(etag) = HeaderValue::from_str(&stored.blake3.etag()) {
        answer.headers_mut().insert(ETAG, etag);
    }
    Ok(answer)
}
