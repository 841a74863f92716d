//! What a server answers about a path of its own where no route fits: 405 with the methods that the path takes, 404 where there
//! is no such path.

use http::header::ALLOW;
use http::{HeaderValue, Method, Request};
use hyper::body::Incoming;

use crate::http::body;
use crate::wire::error::{ErrorCode, ErrorReply};

/// Methods of a path that anybody may look at.
pub const SHOWN: &str = "GET, HEAD";
/// Methods of a path that is shown to some, and told to other servers.
pub const SHOWN_AND_CALLED: &str = "GET, HEAD, POST";
/// Methods of a path that is for other servers.
pub const CALLED: &str = "POST";

/// The method by which a request is routed: HEAD goes where GET does, and hyper leaves the body out.
pub fn method<B>(request: &Request<B>) -> Method {
    match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    }
}

/// No route has taken it. `allowed`: what its path takes; none: there is no such path.
pub fn unrouted(request: Request<Incoming>, allowed: Option<&'static str>) -> ErrorReply {
    let (head, incoming) = request.into_parts();
    body::drain_unless_waiting(&head.headers, incoming);
    match allowed {
        Some(allowed) => {
            let message = format!("{} does not take {}", head.uri.path(), head.method);
            ErrorReply::new(ErrorCode::MethodNotAllowed, message, "use a method that Allow names")
                .with_header(ALLOW, HeaderValue::from_static(allowed))
        }
        None => ErrorReply::new(
            ErrorCode::NoSuchRoute,
            "there is nothing at this path",
            "paths under /_/ are Barge's own: health, status, metrics",
        ),
    }
}
