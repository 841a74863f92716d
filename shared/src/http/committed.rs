//! The answer to an upload that came to its commit: the same from the volume that had it committed and from a master that
//! did so itself.

use http::header::{ETAG, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::http::body::{self, Body};
use crate::wire::error::{ErrorCode, ErrorReply};
use crate::wire::master::{CommitOutcome, Stored};

/// What the client is told. `needed`: copies without which an upload fails.
///
/// # Errors
/// When the value did not become the key's.
pub fn committed(
    outcome: CommitOutcome,
    stored: &Stored,
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
            let why = "a conditional write of the same key was faster";
            return Err(ErrorReply::new(ErrorCode::Unavailable, why, hint).for_key(&stored.key));
        }
        CommitOutcome::NotEnoughReceipts => {
            let Stored { replicas, wanted, .. } = stored;
            let why = format!("{replicas} of {wanted} copies became durable, and {needed} are needed");
            return Err(ErrorReply::new(ErrorCode::Unavailable, why, hint).for_key(&stored.key));
        }
    };
    let mut answer = body::json(status, stored);
    if let Ok(etag) = HeaderValue::from_str(&stored.blake3.etag()) {
        answer.headers_mut().insert(ETAG, etag);
    }
    Ok(answer)
}
