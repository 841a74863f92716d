//! Every header, query and operation in the reference of the S3 API (November 2026), and its support here:
//! implemented, always true, or refused by name. Nothing that a client asks for is silently ignored.

use http::Method;

use crate::s3::request::operation_name::{ResourceKind, operations};
use crate::s3::request::permissions::SELECTING;

/// The support of a request header, or of the form field of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Implemented by every operation that has this header.
    Done,
    /// Implemented by these operations; others refuse it.
    By(&'static [&'static str]),
    /// Accepted: what it asks for is true of everything here.
    AlwaysTrue,
    /// Accepted with these values, which change nothing; refused with others.
    Only(&'static [&'static str], Refusal),
    Refused(Refusal),
}

/// The reason and error of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It needs this missing feature.
    Missing(&'static str),
    /// ACLs, which have an error of their own.
    AccessLists,
    /// Storage classes, which have one, too.
    Classes,
    /// Temporary credentials, which have one, too.
    Tokens,
}

use Refusal::{AccessLists, Classes, Missing, Tokens};
use Support::{AlwaysTrue, By, Done, Only, Refused};

const BEGINS: &[&str] = &["CopyObject", "CreateMultipartUpload"];
const PARTS: &[&str] = &["CompleteMultipartUpload", "CreateMultipartUpload"];
const COPIES: &[&str] = &["CopyObject", "UploadPartCopy"];
/// Bodies in one piece, and XML documents.
const PIECES: &[&str] = &[
    "DeleteObjects",
    "PutBucketAcl",
    "PutBucketCors",
    "PutBucketLifecycleConfiguration",
    "PutBucketTagging",
    "PutObject",
    "PutObjectAcl",
    "PutObjectTagging",
];
const LOOKS: &[&str] = &["GetObjectAttributes"];
const TAGS: &[&str] = &["CopyObject", "CreateMultipartUpload", "PutObject"];
const LOCKS: Support = Refused(Missing("object locks"));
const ENCRYPTION: Support = Refused(Missing("server-side encryption"));
const ON_ARRIVAL: Support = Refused(Missing("Object Lambda"));
const RENAMES: Support = Refused(Missing("renaming in directory buckets"));
const GRANTS: Support = Refused(AccessLists);

/// Headers of requests that begin with `x-amz-`, besides user metadata.
const HEADERS: [(&str, Support); 85] = [
    ("x-amz-acl", Only(&["private", "bucket-owner-full-control"], AccessLists)),
    ("x-amz-api-version", AlwaysTrue),
    ("x-amz-bucket-object-lock-enabled", Only(&["false", "False"], Missing("object locks"))),
    ("x-amz-bucket-object-lock-token", LOCKS),
    // Nothing is locked.
    ("x-amz-bypass-governance-retention", AlwaysTrue),
    ("x-amz-cf-id", AlwaysTrue),
    ("x-amz-checksum-algorithm", By(BEGINS)),
    ("x-amz-checksum-crc32", Done),
    ("x-amz-checksum-crc32c", Done),
    ("x-amz-checksum-crc64nvme", Done),
    ("x-amz-checksum-md5", By(PIECES)),
    ("x-amz-checksum-mode", Done),
    ("x-amz-checksum-sha1", Done),
    ("x-amz-checksum-sha256", Done),
    ("x-amz-checksum-sha512", By(PIECES)),
    ("x-amz-checksum-type", By(PARTS)),
    ("x-amz-checksum-xxhash128", By(PIECES)),
    ("x-amz-checksum-xxhash3", By(PIECES)),
    ("x-amz-checksum-xxhash64", By(PIECES)),
    ("x-amz-confirm-remove-self-bucket-access", AlwaysTrue),
    ("x-amz-content-sha256", Done),
    ("x-amz-copy-source", By(COPIES)),
    ("x-amz-copy-source-if-match", By(COPIES)),
    ("x-amz-copy-source-if-modified-since", By(COPIES)),
    ("x-amz-copy-source-if-none-match", By(COPIES)),
    ("x-amz-copy-source-if-unmodified-since", By(COPIES)),
    ("x-amz-copy-source-range", By(&["UploadPartCopy"])),
    ("x-amz-copy-source-server-side-encryption-customer-algorithm", ENCRYPTION),
    ("x-amz-copy-source-server-side-encryption-customer-key", ENCRYPTION),
    ("x-amz-copy-source-server-side-encryption-customer-key-md5", ENCRYPTION),
    ("x-amz-create-session-mode", Refused(Missing("sessions of directory buckets"))),
    ("x-amz-date", Done),
    ("x-amz-decoded-content-length", Done),
    ("x-amz-expected-bucket-owner", Done),
    ("x-amz-fwd-error-code", ON_ARRIVAL),
    ("x-amz-fwd-error-message", ON_ARRIVAL),
    ("x-amz-fwd-status", ON_ARRIVAL),
    ("x-amz-grant-full-control", GRANTS),
    ("x-amz-grant-read", GRANTS),
    ("x-amz-grant-read-acp", GRANTS),
    ("x-amz-grant-write", GRANTS),
    ("x-amz-grant-write-acp", GRANTS),
    ("x-amz-if-match-initiated-time", Refused(Missing("conditions of directory buckets"))),
    ("x-amz-if-match-last-modified-time", Refused(Missing("conditions of directory buckets"))),
    ("x-amz-if-match-size", Refused(Missing("conditions of directory buckets"))),
    ("x-amz-max-parts", By(LOOKS)),
    ("x-amz-metadata-directive", By(&["CopyObject"])),
    // Deletes need no second factor: versioning is off.
    ("x-amz-mfa", AlwaysTrue),
    ("x-amz-mp-object-size", By(&["CompleteMultipartUpload"])),
    ("x-amz-object-attributes", By(LOOKS)),
    ("x-amz-object-if-match", Refused(Missing("conditions of UpdateObjectEncryption"))),
    ("x-amz-object-lock-legal-hold", Only(&["OFF"], Missing("object locks"))),
    ("x-amz-object-lock-mode", LOCKS),
    ("x-amz-object-lock-retain-until-date", LOCKS),
    ("x-amz-object-ownership", Only(&["BucketOwnerEnforced"], AccessLists)),
    // Nothing is archived, so nothing is being restored.
    ("x-amz-optional-object-attributes", Only(&["RestoreStatus"], Missing("other attributes in a listing"))),
    ("x-amz-part-number-marker", By(LOOKS)),
    ("x-amz-rename-source", RENAMES),
    ("x-amz-rename-source-if-match", RENAMES),
    ("x-amz-rename-source-if-modified-since", RENAMES),
    ("x-amz-rename-source-if-none-match", RENAMES),
    ("x-amz-rename-source-if-unmodified-since", RENAMES),
    // There is no billing.
    ("x-amz-request-payer", AlwaysTrue),
    ("x-amz-request-route", ON_ARRIVAL),
    ("x-amz-request-token", ON_ARRIVAL),
    ("x-amz-sdk-checksum-algorithm", Done),
    ("x-amz-security-token", Only(&[""], Tokens)),
    ("x-amz-server-side-encryption", ENCRYPTION),
    ("x-amz-server-side-encryption-aws-kms-key-id", ENCRYPTION),
    ("x-amz-server-side-encryption-bucket-key-enabled", Only(&["false"], Missing("server-side encryption"))),
    ("x-amz-server-side-encryption-context", ENCRYPTION),
    ("x-amz-server-side-encryption-customer-algorithm", ENCRYPTION),
    ("x-amz-server-side-encryption-customer-key", ENCRYPTION),
    ("x-amz-server-side-encryption-customer-key-md5", ENCRYPTION),
    ("x-amz-skip-destination-validation", AlwaysTrue),
    ("x-amz-source-expected-bucket-owner", Done),
    ("x-amz-storage-class", Only(&["STANDARD"], Classes)),
    ("x-amz-tagging", By(TAGS)),
    ("x-amz-tagging-directive", By(&["CopyObject"])),
    // Older SDKs would accept a trailer in the response; there is none.
    ("x-amz-te", AlwaysTrue),
    ("x-amz-trailer", Done),
    // There are no transitions.
    ("x-amz-transition-default-minimum-object-size", AlwaysTrue),
    ("x-amz-user-agent", AlwaysTrue),
    ("x-amz-website-redirect-location", Refused(Missing("websites"))),
    ("x-amz-write-offset-bytes", Refused(Missing("appending"))),
];

/// The encryption that S3 applies to every object by default, so many clients ask for it.
const ENCRYPTED: &str = "AES256";

/// Returns the support of a header; none if the reference does not know it. `noop`: accept and ignore encryption
/// and storage classes.
pub fn header(name: &str, noop: bool) -> Option<Support> {
    if name.starts_with("x-amz-meta-") {
        return Some(Done);
    }
    let found = HEADERS.binary_search_by_key(&name, |(known, _)| known).ok().map(|n| HEADERS[n].1)?;
    Some(match name {
        "x-amz-server-side-encryption" if noop => Only(&[ENCRYPTED], Missing("server-side encryption")),
        "x-amz-storage-class" if noop => Only(&CLASSES, Classes),
        _ => found,
    })
}

const CLASSES: [&str; 11] = [
    "DEEP_ARCHIVE",
    "EXPRESS_ONEZONE",
    "FSX_OPENZFS",
    "GLACIER",
    "GLACIER_IR",
    "INTELLIGENT_TIERING",
    "ONEZONE_IA",
    "REDUCED_REDUNDANCY",
    "SNOW",
    "STANDARD",
    "STANDARD_IA",
];

/// The support of a query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// It selects the operation.
    Selects,
    /// It is an option of such requests.
    Of(QueryScope),
    /// It needs this missing feature.
    Missing(&'static str),
}

/// The requests that a query parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryScope {
    /// GET and HEAD; a write would ignore it.
    Read,
    /// Parts: of an upload, or of an object that is read.
    Part,
    /// Versions: of an object that is read or deleted, or whose tags are put.
    Version,
    /// Named configurations of a bucket.
    Named,
    /// Any: it matters to clients only.
    Any,
}

/// Query parameters other than those that select an operation.
const QUERIES: [(&str, Query); 33] = [
    ("abac", Query::Missing("attribute-based access control")),
    ("bucket-region", Query::Of(QueryScope::Read)),
    ("continuation-token", Query::Of(QueryScope::Read)),
    ("delimiter", Query::Of(QueryScope::Read)),
    ("encoding-type", Query::Of(QueryScope::Read)),
    ("fetch-owner", Query::Of(QueryScope::Read)),
    ("id", Query::Of(QueryScope::Named)),
    ("key-marker", Query::Of(QueryScope::Read)),
    ("marker", Query::Of(QueryScope::Read)),
    ("max-buckets", Query::Of(QueryScope::Read)),
    ("max-directory-buckets", Query::Of(QueryScope::Read)),
    ("max-keys", Query::Of(QueryScope::Read)),
    ("max-parts", Query::Of(QueryScope::Read)),
    ("max-uploads", Query::Of(QueryScope::Read)),
    ("metadataConfiguration", Query::Missing("metadata tables")),
    ("metadataInventoryTable", Query::Missing("metadata tables")),
    ("metadataJournalTable", Query::Missing("metadata tables")),
    ("part-number-marker", Query::Of(QueryScope::Read)),
    ("partNumber", Query::Of(QueryScope::Part)),
    ("prefix", Query::Of(QueryScope::Read)),
    ("renameObject", Query::Missing("renaming in directory buckets")),
    ("response-cache-control", Query::Of(QueryScope::Read)),
    ("response-content-disposition", Query::Of(QueryScope::Read)),
    ("response-content-encoding", Query::Of(QueryScope::Read)),
    ("response-content-language", Query::Of(QueryScope::Read)),
    ("response-content-type", Query::Of(QueryScope::Read)),
    ("response-expires", Query::Of(QueryScope::Read)),
    ("select-type", Query::Of(QueryScope::Any)),
    ("start-after", Query::Of(QueryScope::Read)),
    ("upload-id-marker", Query::Of(QueryScope::Read)),
    ("version-id-marker", Query::Of(QueryScope::Read)),
    ("versionId", Query::Of(QueryScope::Version)),
    ("x-id", Query::Of(QueryScope::Any)),
];

/// Returns the support of a query parameter; none if the reference does not know it.
pub fn query(name: &str) -> Option<Query> {
    if SELECTING.binary_search(&name).is_ok() {
        return Some(Query::Selects);
    }
    QUERIES.binary_search_by_key(&name, |(known, _)| known).ok().map(|n| QUERIES[n].1)
}

/// Returns the methods of a resource with a parameter that selects an operation.
pub fn methods(place: ResourceKind, selecting: &str) -> Vec<Method> {
    let asks = |queries: &[(&str, Option<&str>)]| queries.iter().any(|(name, _)| *name == selecting);
    let mut found: Vec<Method> = Vec::new();
    for how in operations().iter().filter(|how| how.resource == place && asks(&how.queries)) {
        if !found.contains(&how.method) {
            found.push(how.method.clone());
        }
    }
    found
}

/// Returns the feature that an operation needs and this store lacks; none if it is answered.
pub fn missing_feature(operation: &str) -> Option<&'static str> {
    MISSING.iter().find(|(names, _)| names.contains(&operation)).map(|(_, what)| *what)
}

/// Operations that are refused, even to permitted callers, and the features that they need.
const MISSING: [(&[&str], &str); 14] = [
    (&["PutBucketPolicy"], "bucket policies; use the permissions of access keys (`barge key`)"),
    (&["PutBucketVersioning"], "versions"),
    (
        &["PutBucketEncryption"],
        "server-side encryption; encrypt values before the upload, or the disks of the volumes",
    ),
    (&["PutBucketWebsite"], "websites"),
    (
        &["PutBucketReplication"],
        "replication between clusters; within one, --replicas is the number of replicas",
    ),
    (&["PutBucketAccelerateConfiguration"], "transfer acceleration"),
    (&["PutBucketLogging"], "access logs in buckets; `--audit-log FILE` records every request"),
    (&["PutBucketNotificationConfiguration"], "notifications"),
    (&["PutBucketRequestPayment"], "billing"),
    (&["PutObjectLockConfiguration", "PutObjectLegalHold", "PutObjectRetention"], "object locks"),
    (
        &[
            "PutBucketAnalyticsConfiguration",
            "PutBucketIntelligentTieringConfiguration",
            "PutBucketInventoryConfiguration",
            "PutBucketMetricsConfiguration",
        ],
        "bucket reports; use `barge ls --json` and /_/metrics",
    ),
    (
        &[
            "CreateBucketMetadataTableConfiguration",
            "DeleteBucketMetadataTableConfiguration",
            "GetBucketMetadataTableConfiguration",
        ],
        "metadata tables",
    ),
    (
        &["GetObjectTorrent", "RestoreObject", "SelectObjectContent"],
        "torrents, archives or queries of object contents",
    ),
    (
        &["CreateSession", "ListDirectoryBuckets", "WriteGetObjectResponse"],
        "directory buckets or Object Lambda",
    ),
];

#[cfg(test)]
mod tests {
    use crate::s3::request::supported::*;

    #[test]
    fn tables_are_sorted() {
        assert!(HEADERS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(QUERIES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(SELECTING.is_sorted());
    }

    #[test]
    fn methods_of_subresources() {
        assert_eq!(methods(ResourceKind::Bucket, "cors"), [Method::DELETE, Method::GET, Method::PUT]);
        assert_eq!(methods(ResourceKind::Bucket, "logging"), [Method::GET, Method::PUT]);
        assert_eq!(methods(ResourceKind::Bucket, "delete"), [Method::POST]);
        assert_eq!(methods(ResourceKind::Object, "cors"), [] as [Method; 0]);
        assert_eq!(
            methods(ResourceKind::Object, "uploadId"),
            [Method::DELETE, Method::POST, Method::GET, Method::PUT]
        );
    }

    #[test]
    fn every_operation_is_answered_or_refused_by_name() {
        let answered: Vec<String> = include_str!("../dispatch.rs")
            .lines()
            .filter(|line| line.contains("Input)"))
            .map(|line| line.trim_start().split('(').next().unwrap_or_default().replace('_', ""))
            .collect();
        for how in operations().iter().filter(|how| how.name != "PostObject") {
            let there = answered.contains(&how.name.to_ascii_lowercase());
            // Some are answered if they change nothing, and refused otherwise.
            assert!(there || missing_feature(how.name).is_some(), "{}", how.name);
        }
        for name in MISSING.iter().flat_map(|(names, _)| *names) {
            assert!(operations().iter().any(|how| how.name == *name), "{name}");
        }
    }
}
