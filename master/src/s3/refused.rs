//! What is refused before the S3 face has looked at it, or while it cannot look: XML all the same, for that is what S3
//! clients read.

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response};
use shared::http::body::Body;
use shared::http::serve;
use shared::ids::RequestId;
use shared::wire::error::ErrorReply;

use super::{error, refusal};

/// An error of ours as an answer of S3.
pub fn render(refused: ErrorReply, request_id: RequestId) -> Response<Body> {
    serve::note(&refused);
    let again = refused.code.retry_after_secs();
    let mut error = error::from_reply(refused);
    error.set_request_id(request_id.to_string());
    let mut answer = refusal(error);
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert("x-amz-request-id", id);
    }
    if let Some(secs) = again {
        headers.insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    answer
}
