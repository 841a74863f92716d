//! Calls between servers, as they come in: read whole, checked, and only then understood.

use http::Request;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::http::body;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::secret::{ClusterSecret, SignatureError};
use crate::wire::error::{ErrorCode, ErrorReply};
use crate::wire::routes::SIGNATURE_HEADER;

/// The message of a signed call.
///
/// # Errors
/// When it is too large, not signed by this cluster, or not a message of this kind.
pub async fn read_signed<T: DeserializeOwned>(
    secret: &ClusterSecret,
    now: Timestamp,
    request: Request<Incoming>,
) -> Result<T, ErrorReply> {
    let text = read_signed_bytes(secret, now, request, MESSAGE_BYTES_MAX).await?;
    serde_json::from_slice(&text).map_err(|e| {
        ErrorReply::new(
            ErrorCode::BadBody,
            format!("the message cannot be read: {e}"),
            "use the same version of Barge everywhere",
        )
    })
}

/// The body of a signed call, of at most `max` bytes.
///
/// # Errors
/// When it is too large, or not signed by this cluster.
pub async fn read_signed_bytes(
    secret: &ClusterSecret,
    now: Timestamp,
    request: Request<Incoming>,
    max: usize,
) -> Result<Vec<u8>, ErrorReply> {
    let (head, incoming) = request.into_parts();
    let signature = head.headers.get(SIGNATURE_HEADER).and_then(|v| v.to_str().ok());
    let target = head.uri.path_and_query().map_or("", |t| t.as_str());
    // Before the body: a stranger's costs no memory.
    let digest = match secret.check_call(signature, head.method.as_str(), target, now) {
        Ok(digest) => digest,
        Err(error) => {
            body::drain_unless_waiting(&head.headers, incoming);
            return Err(unsigned(&error));
        }
    };
    let text = body::collect(incoming, max).await?;
    if blake3::hash(&text) == digest { Ok(text) } else { Err(unsigned(&SignatureError::Invalid)) }
}

fn unsigned(error: &SignatureError) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::NotSigned,
        error.to_string(),
        "start all servers of the cluster with the same --secret-file, and set their clocks",
    )
}
