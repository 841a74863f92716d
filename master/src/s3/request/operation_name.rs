//! Names the operation of a request, as in the reference of S3, from its method, query and headers alone, so that
//! requests that are refused before the library sees them have a name. The fuzz test compares it with the library.

use std::sync::LazyLock;

use http::{HeaderMap, Method};
use shared::wire::routes::query_value;

/// How each operation is requested: name, method, resource, queries, headers. From the routes of the library's
/// `ops/generated.rs`, version 0.14.1.
const REQUESTS: &str = include_str!("permissions/requests.txt");
/// The name of requests that are no operation, or could be two.
const UNKNOWN: &str = "Unknown";
/// Requested by a form, which has no query or header of its own.
const FORM: &str = "PostObject";

/// The kind of resource that an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// The list of all buckets.
    Root,
    Bucket,
    /// A key in a bucket.
    Object,
}

impl ResourceKind {
    pub fn of(bucket: bool, key: bool) -> Self {
        match (bucket, key) {
            (false, _) => Self::Root,
            (true, false) => Self::Bucket,
            (true, true) => Self::Object,
        }
    }
}

/// How an operation is requested.
#[derive(Debug)]
pub struct OperationShape {
    /// Its name in the reference of S3.
    pub name: &'static str,
    pub method: Method,
    pub resource: ResourceKind,
    /// Required query parameters, with values where they matter.
    pub queries: Vec<(&'static str, Option<&'static str>)>,
    pub headers: Vec<&'static str>,
}

static OPERATIONS: LazyLock<Vec<OperationShape>> =
    LazyLock::new(|| REQUESTS.lines().filter_map(parse_shape).collect());

pub fn operations() -> &'static [OperationShape] {
    &OPERATIONS
}

fn parse_shape(line: &'static str) -> Option<OperationShape> {
    let mut fields = line.split(' ');
    let (name, method) = (fields.next()?, fields.next()?.parse().ok()?);
    let place = match fields.next()? {
        "root" => ResourceKind::Root,
        "bucket" => ResourceKind::Bucket,
        "object" => ResourceKind::Object,
        _ => return None,
    };
    let list = |text: &'static str, by: char| text.split(by).filter(|t| *t != "-").collect::<Vec<_>>();
    let queries = list(fields.next()?, '&').into_iter();
    let queries = queries.map(|q| q.split_once('=').map_or((q, None), |(n, v)| (n, Some(v)))).collect();
    Some(OperationShape { name, method, resource: place, queries, headers: list(fields.next()?, ';') })
}

/// Returns the operation of a request for a bucket, a key in one, or neither: the one with the most required
/// queries and headers.
pub fn operation_of(
    method: &Method,
    query: Option<&str>,
    headers: &HeaderMap,
    bucket: bool,
    key: bool,
) -> &'static str {
    if *method == Method::OPTIONS {
        return "PreflightRequest";
    }
    let (place, value) = (ResourceKind::of(bucket, key), |name: &str| query_value(query, name));
    let asks = |how: &&OperationShape| {
        how.method == *method
            && how.resource == place
            && how.name != FORM
            && how.queries.iter().all(|(n, v)| value(n).is_some_and(|is| v.is_none_or(|v| is == v)))
            && how.headers.iter().all(|h| headers.contains_key(*h))
    };
    let weight = |how: &&OperationShape| (how.queries.len(), how.headers.len());
    let most = operations().iter().filter(asks).map(|how| weight(&how)).max();
    let mut best = operations().iter().filter(asks).filter(|how| Some(weight(how)) == most);
    match (best.next(), best.next()) {
        (Some(how), None) => how.name,
        (None, _) if *method == Method::POST && place == ResourceKind::Bucket => FORM,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use crate::s3::request::operation_name::*;
    use crate::s3::request::permissions::rule;

    #[test]
    fn names_of_requests() {
        for (method, target, name) in [
            ("GET", "", "ListBuckets"),
            ("PUT", "", "Unknown"),
            ("HEAD", "b", "HeadBucket"),
            ("PUT", "b", "CreateBucket"),
            ("DELETE", "b", "DeleteBucket"),
            ("GET", "b", "ListObjects"),
            ("GET", "b?list-type=2&prefix=a", "ListObjectsV2"),
            ("GET", "b?list-type=1", "ListObjects"),
            ("GET", "b?versions", "ListObjectVersions"),
            ("GET", "b?uploads", "ListMultipartUploads"),
            ("GET", "b?location=", "GetBucketLocation"),
            ("PUT", "b?location", "CreateBucket"),
            ("GET", "b?cors", "GetBucketCors"),
            ("PUT", "b?cors", "PutBucketCors"),
            ("DELETE", "b?%63ors", "DeleteBucketCors"),
            ("POST", "b?delete", "DeleteObjects"),
            ("POST", "b", "PostObject"),
            ("OPTIONS", "b/k", "PreflightRequest"),
            ("GET", "b/k", "GetObject"),
            ("GET", "b/k?cors", "GetObject"),
            ("HEAD", "b/k?tagging", "HeadObject"),
            ("PUT", "b/k", "PutObject"),
            ("DELETE", "b/k?versionId=null", "DeleteObject"),
            ("GET", "b/k?attributes", "GetObjectAttributes"),
            ("PUT", "b/k?tagging", "PutObjectTagging"),
            ("POST", "b/k?uploads", "CreateMultipartUpload"),
            ("PUT", "b/k?partNumber=1&uploadId=u", "UploadPart"),
            ("GET", "b/k?uploadId=u", "ListParts"),
            ("POST", "b/k?uploadId=u", "CompleteMultipartUpload"),
            ("DELETE", "b/k?uploadId=u", "AbortMultipartUpload"),
            ("PATCH", "b/k", "Unknown"),
        ] {
            let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
            let method: Method = method.parse().unwrap();
            let of = |headers: &HeaderMap| {
                operation_of(&method, query, headers, !path.is_empty(), path.contains('/'))
            };
            assert_eq!(of(&HeaderMap::new()), name, "{method} {target}");
            let copies =
                HeaderMap::from_iter([("x-amz-copy-source".parse().unwrap(), "/b/j".parse().unwrap())]);
            let copied = match name {
                "PutObject" => "CopyObject",
                "UploadPart" => "UploadPartCopy",
                other => other,
            };
            assert_eq!(of(&copies), copied, "{method} {target}");
        }
    }

    #[test]
    fn the_table_has_all_operations() {
        assert_eq!(operations().len(), REQUESTS.lines().count(), "each line is one");
        for how in operations() {
            assert!(rule(how.name).is_some(), "{}", how.name);
        }
    }
}
