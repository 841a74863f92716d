//! The audit log line of a request. It never contains a query, a header with credentials, or a body.

use std::net::SocketAddr;

use http::{Method, Request};
use serde::Serialize;
use shared::clock::Timestamp;
use shared::http::serve::Context;
use shared::key::decode;
use shared::limits::KEY_BYTES_MAX;
use shared::wire::routes::{self, LIST, query_value};

/// One line of the audit log. The order of the fields is the order in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Arrival of the request, as RFC 3339.
    pub time: String,
    /// The API: `native`, `s3` or `resp`.
    pub api: &'static str,
    /// The source address.
    pub peer: SocketAddr,
    /// The id of the access key that was sent, valid or not.
    pub access_key: Option<String>,
    /// Whether the request was signed with the cluster secret.
    pub cluster_secret: bool,
    /// The name of the S3 or native operation.
    pub operation: &'static str,
    pub bucket: Option<String>,
    /// The key within the bucket; the complete key if it is in no bucket.
    pub key: Option<String>,
    /// The HTTP status of the response.
    pub status: u16,
    /// Bytes read of the request body.
    pub bytes_in: u64,
    /// Bytes sent of the response body.
    pub bytes_out: u64,
    /// The same id as in the response and in the other logs.
    pub request_id: String,
}

impl Line {
    /// Creates the line of a request that is not answered yet.
    pub fn new(api: &'static str, operation: &'static str, context: Context, now: Timestamp) -> Self {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(now.unix_ms());
        Self {
            time: humantime::format_rfc3339_millis(time).to_string(),
            api,
            peer: context.peer,
            access_key: None,
            cluster_secret: false,
            operation,
            bucket: None,
            key: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            request_id: context.request_id.to_string(),
        }
    }

    /// Sets bucket and key.
    #[must_use]
    pub fn about(mut self, bucket: Option<&str>, key: Option<&str>) -> Self {
        self.bucket = bucket.map(bounded);
        self.key = key.map(bounded);
        self
    }
}

/// Truncates to the length of a key: an invalid key may be longer.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(KEY_BYTES_MAX)].to_owned()
}

/// The kind of a native request for the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Values and lists.
    Values(&'static str),
    /// The cluster and its access keys.
    Administration(&'static str),
    /// Frequent calls between servers: logged only when one is refused for lack of the cluster secret.
    Internal,
    /// Frequent requests of monitoring that reveal nothing about values: not logged.
    Watching,
}

/// The administrative operations, by route.
const ADMINISTRATION: [(&str, &str); 18] = [
    (routes::STATUS, "GetClusterStatus"),
    (routes::EVENTS, "ListEvents"),
    (routes::MASTERS, "ListMasters"),
    (routes::MASTERS_ADD, "AddMaster"),
    (routes::MASTERS_REMOVE, "RemoveMaster"),
    (routes::MASTERS_INIT, "InitCluster"),
    (routes::KEYS, "ListAccessKeys"),
    (routes::KEYS_PUT, "PutAccessKey"),
    (routes::KEYS_REVOKE, "RevokeAccessKey"),
    (routes::KEYS_ANONYMOUS, "PutBucketAnonymousRead"),
    (routes::BACKUP, "BackupMetadata"),
    (routes::ADMIN_STATE, "SetVolumeDuty"),
    (routes::REBALANCE, "SteerRebalance"),
    (routes::ORPHANS, "CollectOrphans"),
    (routes::EXPLAIN, "ExplainObject"),
    (routes::MODES, "GetReplicationModes"),
    (routes::MODES_SET, "PutReplicationMode"),
    (routes::DOCTOR, "ExamineCluster"),
];

/// Classifies a request of the native API.
pub fn kind(method: &Method, path: &str, query: Option<&str>) -> Kind {
    if let Some((_, name)) = ADMINISTRATION.iter().find(|(route, _)| *route == path) {
        return Kind::Administration(name);
    }
    if [routes::HEALTH, routes::METRICS].contains(&path) {
        return Kind::Watching;
    }
    if path.starts_with("/_/") {
        return Kind::Internal;
    }
    let lists = *method == Method::GET && query_value(query, LIST).is_some();
    Kind::Values(match *method {
        _ if lists => "ListObjectsV2",
        Method::GET | Method::HEAD if path == "/" => return Kind::Watching,
        Method::GET => "GetObject",
        Method::HEAD => "HeadObject",
        Method::PUT | Method::POST => "PutObject",
        Method::DELETE => "DeleteObject",
        Method::OPTIONS => "PreflightRequest",
        _ => "Unknown",
    })
}

/// Returns the bucket and the key of a native request.
pub fn place<B>(request: &Request<B>) -> (Option<String>, Option<String>) {
    let path = request.uri().path();
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.starts_with("_/") || path.is_empty() {
        return (None, None);
    }
    // An invalid key is shown as it was sent.
    let text = decode(path).unwrap_or_else(|_| path.to_owned());
    match text.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() => (Some(bucket.to_owned()), Some(key.to_owned())),
        _ => (None, Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_requests_are() {
        let of = |method: &str, target: &str| {
            let request = Request::builder().method(method).uri(target).body(()).unwrap();
            kind(request.method(), request.uri().path(), request.uri().query())
        };
        for (method, target, name) in [
            ("GET", "/b/k?stream", "GetObject"),
            ("HEAD", "/k", "HeadObject"),
            ("POST", "/b/k?list", "PutObject"),
            ("PUT", "/b/k", "PutObject"),
            ("DELETE", "/b/k", "DeleteObject"),
            ("GET", "/?list", "ListObjectsV2"),
            ("PATCH", "/b/k", "Unknown"),
        ] {
            assert_eq!(of(method, target), Kind::Values(name), "{method} {target}");
        }
        assert_eq!(of("POST", "/_/keys/put"), Kind::Administration("PutAccessKey"));
        assert_eq!(of("GET", "/_/keys/put"), Kind::Administration("PutAccessKey"), "refused, and logged");
        assert_eq!(of("POST", "/_/raft/append"), Kind::Internal);
        assert_eq!(of("GET", "/_/nonsense"), Kind::Internal);
        assert_eq!(of("GET", "/_/health"), Kind::Watching);
        assert_eq!(of("GET", "/"), Kind::Watching);
    }

    #[test]
    fn where_they_are() {
        let of = |target: &str| {
            let (bucket, key) = place(&Request::get(target).body(()).unwrap());
            (bucket.unwrap_or_default(), key.unwrap_or_default())
        };
        let pair = |bucket: &str, key: &str| (bucket.to_owned(), key.to_owned());
        assert_eq!(of("/b/a%20c?ticket=secret"), pair("b", "a c"));
        assert_eq!(of("/plain"), pair("", "plain"));
        assert_eq!(of("/?list"), pair("", ""));
        assert_eq!(of("/_/keys"), pair("", ""));
        assert_eq!(of("/b/%FF"), pair("b", "%FF"));
        assert_eq!(bounded(&"ä".repeat(2000)).len(), KEY_BYTES_MAX);
    }
}
