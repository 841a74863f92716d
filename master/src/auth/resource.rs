//! The resource of a native request, in the terms of `Caller::may`: the bucket is the part of a key before
//! its first slash.

use http::Method;
use http::Request;
use shared::key::{Key, decode};
use shared::wire::routes::{LIST, query_value};

use super::Action;

/// Splits a key into its bucket and the rest. A key without a slash is in no bucket.
pub fn split(key: &str) -> (Option<&str>, Option<&str>) {
    match key.split_once('/') {
        Some((bucket, rest)) if !bucket.is_empty() => (Some(bucket), Some(rest)),
        _ => (None, Some(key)),
    }
}

/// Returns the action of a native request, and its key or, for a list, its prefix. `None` if the path is no valid
/// key: such a request is refused for every caller.
pub fn asked<B>(request: &Request<B>) -> (Action, Option<String>) {
    let (method, path) = (request.method(), request.uri().path());
    if *method == Method::GET && query_value(request.uri().query(), LIST).is_some() {
        return (Action::List, decode(path.strip_prefix('/').unwrap_or(path)).ok());
    }
    let action = if [Method::GET, Method::HEAD].contains(method) { Action::Read } else { Action::Write };
    (action, Key::from_path(path).ok().map(String::from))
}
