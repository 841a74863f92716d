//! The answer for a path of the server's own that no route matches: 405 with the allowed methods, or 404 if there is
//! no such path.

use http::header::ALLOW;
use http::{HeaderValue, Method, Request};
use hyper::body::Incoming;

use crate::http::body;
use crate::wire::error::{ErrorCode, ErrorReply};

/// Methods of a path that anyone may read.
pub const SHOWN: &str = "GET, HEAD";
/// Methods of a path that some callers may read, and that other servers call.
pub const SHOWN_AND_CALLED: &str = "GET, HEAD, POST";
/// Methods of a path for other servers.
pub const CALLED: &str = "POST";

/// The method that routes a request: HEAD is routed as GET, and hyper omits the body.
pub fn method<B>(request: &Request<B>) -> Method {
    match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    }
}

/// The error for a request that no route matches. `allowed`: the methods of its path; `None`: there is no such path.
pub fn unrouted(request: Request<Incoming>, allowed: Option<&'static str>) -> ErrorReply {
    let (head, incoming) = request.into_parts();
    body::drain_unless_waiting(&head.headers, incoming);
    match allowed {
        Some(allowed) => {
            let message = format!("{} does not support {}", head.uri.path(), head.method);
            ErrorReply::new(ErrorCode::MethodNotAllowed, message, "use a method from the Allow header")
                .with_header(ALLOW, HeaderValue::from_static(allowed))
        }
        None => ErrorReply::new(
            ErrorCode::NoSuchRoute,
            "there is no such path",
            "paths under /_/ are Barge's own: health, status, metrics",
        ),
    }
}
