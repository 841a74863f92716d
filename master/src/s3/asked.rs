//! What a request asks for, by the name of the operation in the reference of S3, from its line and headers alone: requests
//! that are refused before the library looks have a name, too.

use http::{HeaderMap, Method};
use shared::wire::routes::query_value;

/// Of requests that are no operation.
const UNKNOWN: &str = "Unknown";

/// Settings of a bucket, by the query that names them: to read, to write and to remove. Empty: there is no such operation.
const SETTINGS: [(&str, [&str; 3]); 20] = [
    ("accelerate", ["GetBucketAccelerateConfiguration", "PutBucketAccelerateConfiguration", ""]),
    ("acl", ["GetBucketAcl", "PutBucketAcl", ""]),
    ("cors", ["GetBucketCors", "PutBucketCors", "DeleteBucketCors"]),
    ("encryption", ["GetBucketEncryption", "PutBucketEncryption", "DeleteBucketEncryption"]),
    (
        "lifecycle",
        ["GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycle"],
    ),
    ("location", ["GetBucketLocation", "", ""]),
    ("logging", ["GetBucketLogging", "PutBucketLogging", ""]),
    ("notification", ["GetBucketNotificationConfiguration", "PutBucketNotificationConfiguration", ""]),
    ("object-lock", ["GetObjectLockConfiguration", "PutObjectLockConfiguration", ""]),
    (
        "ownershipControls",
        ["GetBucketOwnershipControls", "PutBucketOwnershipControls", "DeleteBucketOwnershipControls"],
    ),
    ("policy", ["GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"]),
    ("policyStatus", ["GetBucketPolicyStatus", "", ""]),
    ("publicAccessBlock", ["GetPublicAccessBlock", "PutPublicAccessBlock", "DeletePublicAccessBlock"]),
    ("replication", ["GetBucketReplication", "PutBucketReplication", "DeleteBucketReplication"]),
    ("requestPayment", ["GetBucketRequestPayment", "PutBucketRequestPayment", ""]),
    ("tagging", ["GetBucketTagging", "PutBucketTagging", "DeleteBucketTagging"]),
    ("versioning", ["GetBucketVersioning", "PutBucketVersioning", ""]),
    ("website", ["GetBucketWebsite", "PutBucketWebsite", "DeleteBucketWebsite"]),
    ("uploads", ["ListMultipartUploads", "", ""]),
    ("versions", ["ListObjectVersions", "", ""]),
];

/// Settings of an object, in the same way.
const OF_OBJECTS: [(&str, [&str; 3]); 6] = [
    ("attributes", ["GetObjectAttributes", "", ""]),
    ("acl", ["GetObjectAcl", "PutObjectAcl", ""]),
    ("legal-hold", ["GetObjectLegalHold", "PutObjectLegalHold", ""]),
    ("retention", ["GetObjectRetention", "PutObjectRetention", ""]),
    ("tagging", ["GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"]),
    ("torrent", ["GetObjectTorrent", "", ""]),
];

/// The operation that a request asks for, of a bucket, of a key in one, or of neither.
pub fn asked_for(
    method: &Method,
    query: Option<&str>,
    headers: &HeaderMap,
    bucket: bool,
    key: bool,
) -> &'static str {
    let has = |name: &str| query_value(query, name).is_some();
    let copies = headers.contains_key("x-amz-copy-source");
    let Some(verb) = [Method::GET, Method::PUT, Method::DELETE].iter().position(|m| m == method) else {
        return match *method {
            Method::HEAD if key => "HeadObject",
            Method::HEAD if bucket => "HeadBucket",
            Method::POST if key && has("uploads") => "CreateMultipartUpload",
            Method::POST if key && has("uploadId") => "CompleteMultipartUpload",
            Method::POST if key && has("restore") => "RestoreObject",
            Method::POST if key && has("select") => "SelectObjectContent",
            Method::POST if !key && bucket && has("delete") => "DeleteObjects",
            Method::POST if !key && bucket => "PostObject",
            Method::OPTIONS => "PreflightRequest",
            _ => UNKNOWN,
        };
    };
    let settings: &[(&str, [&str; 3])] = if key { &OF_OBJECTS } else { &SETTINGS };
    let set = settings.iter().filter(|(name, names)| bucket && !names[verb].is_empty() && has(name));
    if let Some((_, names)) = set.into_iter().next() {
        return names[verb];
    }
    match verb {
        0 if key && has("uploadId") => "ListParts",
        0 if key => "GetObject",
        0 if bucket && query_value(query, "list-type").as_deref() == Some("2") => "ListObjectsV2",
        0 if bucket => "ListObjects",
        0 => "ListBuckets",
        1 if key && has("uploadId") => {
            if copies {
                "UploadPartCopy"
            } else {
                "UploadPart"
            }
        }
        1 if key => {
            if copies {
                "CopyObject"
            } else {
                "PutObject"
            }
        }
        1 if bucket => "CreateBucket",
        2 if key && has("uploadId") => "AbortMultipartUpload",
        2 if key => "DeleteObject",
        2 if bucket => "DeleteBucket",
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::operations::rule;

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
                asked_for(&method, query, headers, !path.is_empty(), path.contains('/'))
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
    fn all_settings_are_operations() {
        let all = SETTINGS.iter().chain(&OF_OBJECTS).flat_map(|(_, names)| names).filter(|n| !n.is_empty());
        for name in all {
            assert!(rule(name).is_some(), "{name}");
        }
    }
}
