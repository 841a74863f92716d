//! Errors before the S3 API has seen a request, or while it cannot see any. They are XML as well, since that is what
//! S3 clients read.

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response};
use shared::http::body::Body;
use shared::http::serve;
use shared::ids::RequestId;
use shared::wire::error::ErrorReply;

use crate::s3::{error, refusal};

pub fn render_refusal(refused: ErrorReply, request_id: RequestId) -> Response<Body> {
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
