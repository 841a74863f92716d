//! What the reference of the S3 API (November 2026) knows by name, and what becomes of it here: done, true of every object
//! anyway, or refused by name. Nothing that a client asks for is passed over.

use http::Method;

use super::asked::{Place, operations};
use super::operations::SELECTING;

/// What becomes of a header of a request, or of a field of a form with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done, by every operation that reads such a header.
    Done,
    /// It is done by these operations, and means nothing to others.
    By(&'static [&'static str]),
    /// Nothing is to be done: what it asks for holds of everything here.
    Holds,
    /// With these values nothing is to be done; with others it is refused.
    Only(&'static [&'static str], Refusal),
    /// What it asks for is not there.
    Refused(Refusal),
}

/// How something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It needs what this store does not have.
    Missing(&'static str),
    /// Access lists have an error of their own.
    AccessLists,
    /// So have classes of storage.
    Classes,
    /// And temporary credentials.
    Tokens,
}

use Answer::{By, Done, Holds, Only, Refused};
use Refusal::{AccessLists, Classes, Missing, Tokens};

const BEGINS: &[&str] = &["CopyObject", "CreateMultipartUpload"];
const PARTS: &[&str] = &["CompleteMultipartUpload", "CreateMultipartUpload"];
const COPIES: &[&str] = &["CopyObject", "UploadPartCopy"];
/// What comes in one piece, and documents.
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
const LOCKS: Answer = Refused(Missing("object locks"));
const ENCRYPTION: Answer = Refused(Missing("encryption by the server"));
const ON_ARRIVAL: Answer = Refused(Missing("Object Lambda"));
const RENAMES: Answer = Refused(Missing("renaming in directory buckets"));
const GRANTS: Answer = Refused(AccessLists);

/// Headers of requests that begin with `x-amz-`, besides user metadata.
const HEADERS: [(&str, Answer); 85] = [
    ("x-amz-acl", Only(&["private", "bucket-owner-full-control"], AccessLists)),
    ("x-amz-api-version", Holds),
    ("x-amz-bucket-object-lock-enabled", Only(&["false", "False"], Missing("object locks"))),
    ("x-amz-bucket-object-lock-token", LOCKS),
    // Nothing is locked.
    ("x-amz-bypass-governance-retention", Holds),
    ("x-amz-cf-id", Holds),
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
    ("x-amz-confirm-remove-self-bucket-access", Holds),
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
    ("x-amz-mfa", Holds),
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
    // Nobody pays.
    ("x-amz-request-payer", Holds),
    ("x-amz-request-route", ON_ARRIVAL),
    ("x-amz-request-token", ON_ARRIVAL),
    ("x-amz-sdk-checksum-algorithm", Done),
    ("x-amz-security-token", Only(&[""], Tokens)),
    ("x-amz-server-side-encryption", ENCRYPTION),
    ("x-amz-server-side-encryption-aws-kms-key-id", ENCRYPTION),
    (
        "x-amz-server-side-encryption-bucket-key-enabled",
        Only(&["false"], Missing("encryption by the server")),
    ),
    ("x-amz-server-side-encryption-context", ENCRYPTION),
    ("x-amz-server-side-encryption-customer-algorithm", ENCRYPTION),
    ("x-amz-server-side-encryption-customer-key", ENCRYPTION),
    ("x-amz-server-side-encryption-customer-key-md5", ENCRYPTION),
    ("x-amz-skip-destination-validation", Holds),
    ("x-amz-source-expected-bucket-owner", Done),
    ("x-amz-storage-class", Only(&["STANDARD"], Classes)),
    ("x-amz-tagging", By(TAGS)),
    ("x-amz-tagging-directive", By(&["CopyObject"])),
    // Older SDKs would like a trailer, and look whether there is one.
    ("x-amz-te", Holds),
    ("x-amz-trailer", Done),
    // There are no transitions.
    ("x-amz-transition-default-minimum-object-size", Holds),
    ("x-amz-user-agent", Holds),
    ("x-amz-website-redirect-location", Refused(Missing("websites"))),
    ("x-amz-write-offset-bytes", Refused(Missing("appending"))),
];

/// What an object is encrypted with by Amazon in any case: a client that asks for it may be told that all is well.
const ENCRYPTED: &str = "AES256";

/// What becomes of a header; none: the reference does not know it either. `noop`: encryption and classes of storage that
/// clients cannot be kept from asking for are taken, and nothing is done.
pub fn header(name: &str, noop: bool) -> Option<Answer> {
    if name.starts_with("x-amz-meta-") {
        return Some(Done);
    }
    let found = HEADERS.binary_search_by_key(&name, |(known, _)| known).ok().map(|n| HEADERS[n].1)?;
    Some(match name {
        "x-amz-server-side-encryption" if noop => Only(&[ENCRYPTED], Missing("encryption by the server")),
        "x-amz-storage-class" if noop => Only(&CLASSES, Classes),
        _ => found,
    })
}

/// The classes of storage that S3 has.
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

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// It says which operation is meant.
    Selects,
    /// It says more about one.
    Of(Is),
    /// It asks for what is not there.
    Missing(&'static str),
}

/// Of which requests a query says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// GET and HEAD; a write would pass it over.
    Read,
    /// Parts: of an upload, or of an object that is read.
    Part,
    /// Versions of an object that is read or deleted, or whose tags are put.
    Version,
    /// Configurations of a bucket that have a name.
    Named,
    /// Any: it has a meaning for clients alone.
    Any,
}

/// Queries besides those that select an operation.
const QUERIES: [(&str, Query); 33] = [
    ("abac", Query::Missing("access by attributes")),
    ("bucket-region", Query::Of(Is::Read)),
    ("continuation-token", Query::Of(Is::Read)),
    ("delimiter", Query::Of(Is::Read)),
    ("encoding-type", Query::Of(Is::Read)),
    ("fetch-owner", Query::Of(Is::Read)),
    ("id", Query::Of(Is::Named)),
    ("key-marker", Query::Of(Is::Read)),
    ("marker", Query::Of(Is::Read)),
    ("max-buckets", Query::Of(Is::Read)),
    ("max-directory-buckets", Query::Of(Is::Read)),
    ("max-keys", Query::Of(Is::Read)),
    ("max-parts", Query::Of(Is::Read)),
    ("max-uploads", Query::Of(Is::Read)),
    ("metadataConfiguration", Query::Missing("tables of metadata")),
    ("metadataInventoryTable", Query::Missing("tables of metadata")),
    ("metadataJournalTable", Query::Missing("tables of metadata")),
    ("part-number-marker", Query::Of(Is::Read)),
    ("partNumber", Query::Of(Is::Part)),
    ("prefix", Query::Of(Is::Read)),
    ("renameObject", Query::Missing("renaming in directory buckets")),
    ("response-cache-control", Query::Of(Is::Read)),
    ("response-content-disposition", Query::Of(Is::Read)),
    ("response-content-encoding", Query::Of(Is::Read)),
    ("response-content-language", Query::Of(Is::Read)),
    ("response-content-type", Query::Of(Is::Read)),
    ("response-expires", Query::Of(Is::Read)),
    ("select-type", Query::Of(Is::Any)),
    ("start-after", Query::Of(Is::Read)),
    ("upload-id-marker", Query::Of(Is::Read)),
    ("version-id-marker", Query::Of(Is::Read)),
    ("versionId", Query::Of(Is::Version)),
    ("x-id", Query::Of(Is::Any)),
];

/// What becomes of a query; none: the reference does not know it either.
pub fn query(name: &str) -> Option<Query> {
    if SELECTING.binary_search(&name).is_ok() {
        return Some(Query::Selects);
    }
    QUERIES.binary_search_by_key(&name, |(known, _)| known).ok().map(|n| QUERIES[n].1)
}

/// The methods that an object or bucket takes with a query that selects an operation.
pub fn methods(place: Place, selecting: &str) -> Vec<Method> {
    let asks = |queries: &[(&str, Option<&str>)]| queries.iter().any(|(name, _)| *name == selecting);
    let mut found: Vec<Method> = Vec::new();
    for how in operations().iter().filter(|how| how.place == place && asks(&how.queries)) {
        if !found.contains(&how.method) {
            found.push(how.method.clone());
        }
    }
    found
}

/// What an operation would need that is not there; none: it is answered.
pub fn needs(operation: &str) -> Option<&'static str> {
    MISSING.iter().find(|(names, _)| names.contains(&operation)).map(|(_, what)| *what)
}

/// Operations that are refused, to whom may ask for them, and what they would need.
const MISSING: [(&[&str], &str); 14] = [
    (&["PutBucketPolicy"], "bucket policies; access keys say who may do what: `barge key`"),
    (&["PutBucketVersioning"], "versions"),
    (
        &["PutBucketEncryption"],
        "encryption by the server; encrypt before you upload, or the disks of the volumes",
    ),
    (&["PutBucketWebsite"], "websites"),
    (
        &["PutBucketReplication"],
        "replication between clusters; within one, objects have the copies of --replicas",
    ),
    (&["PutBucketAccelerateConfiguration"], "transfer acceleration"),
    (&["PutBucketLogging"], "access logs in buckets; `--audit-log FILE` notes every request"),
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
        "reports about buckets; `barge ls --json` and /_/metrics say what there is",
    ),
    (
        &[
            "CreateBucketMetadataTableConfiguration",
            "DeleteBucketMetadataTableConfiguration",
            "GetBucketMetadataTableConfiguration",
        ],
        "tables of metadata",
    ),
    (
        &["GetObjectTorrent", "RestoreObject", "SelectObjectContent"],
        "torrents, archives and queries of what is in an object",
    ),
    (
        &["CreateSession", "ListDirectoryBuckets", "WriteGetObjectResponse"],
        "directory buckets and Object Lambda",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(HEADERS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(QUERIES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(SELECTING.is_sorted());
    }

    #[test]
    fn methods_of_subresources() {
        assert_eq!(methods(Place::Bucket, "cors"), [Method::DELETE, Method::GET, Method::PUT]);
        assert_eq!(methods(Place::Bucket, "logging"), [Method::GET, Method::PUT]);
        assert_eq!(methods(Place::Bucket, "delete"), [Method::POST]);
        assert_eq!(methods(Place::Object, "cors"), [] as [Method; 0]);
        assert_eq!(
            methods(Place::Object, "uploadId"),
            [Method::DELETE, Method::POST, Method::GET, Method::PUT]
        );
    }

    #[test]
    fn every_operation_is_answered_or_refused_by_name() {
        let answered: Vec<String> = include_str!("ops.rs")
            .lines()
            .filter(|line| line.contains("Input)"))
            .map(|line| line.trim_start().split('(').next().unwrap_or_default().replace('_', ""))
            .collect();
        for how in operations().iter().filter(|how| how.name != "PostObject") {
            let there = answered.contains(&how.name.to_ascii_lowercase());
            // Some are answered where they ask for what is so anyway, and refused otherwise.
            assert!(there || needs(how.name).is_some(), "{}", how.name);
        }
        for name in MISSING.iter().flat_map(|(names, _)| *names) {
            assert!(operations().iter().any(|how| how.name == *name), "{name}");
        }
    }
}
