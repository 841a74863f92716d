//! The response that redirects a client to a volume.

use http::header::{CACHE_CONTROL, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use shared::http::body::{self, Body};

/// Builds a 307: with other redirect codes clients change the method or drop the body.
pub fn redirect(location: &str, hint: &'static str) -> Response<Body> {
    let mut answer =
        body::json(StatusCode::TEMPORARY_REDIRECT, &serde_json::json!({ "redirect": { "hint": hint } }));
    let headers = answer.headers_mut();
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
