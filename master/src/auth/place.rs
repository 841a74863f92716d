//! What a native request is about, in the words of `Caller::may`: a bucket is what stands before the first slash of a
//! key.

use http::Method;
use http::Request;
use shared::key::{Key, decode};
use shared::wire::routes::{LIST, query_value};

use super::Action;

/// Bucket, and the rest of the key. A key without a slash is in no bucket.
pub fn split(key: &str) -> (Option<&str>, Option<&str>) {
    match key.split_once('/') {
        Some((bucket, rest)) if !bucket.is_empty() => (Some(bucket), Some(rest)),
        _ => (None, Some(key)),
    }
}

/// What a native request about keys asks for, and of which key, or of which beginning of keys. None of those whose path
/// is no key: they are refused for that, whoever asks.
pub fn asked<B>(request: &Request<B>) -> (Action, Option<String>) {
    let (method, path) = (request.method(), request.uri().path());
    if *method == Method::GET && query_value(request.uri().query(), LIST).is_some() {
        return (Action::List, decode(path.strip_prefix('/').unwrap_or(path)).ok());
    }
    let action = if [Method::GET, Method::HEAD].contains(method) { Action::Read } else { Action::Write };
    (action, Key::from_path(path).ok().map(String::from))
}
