//! Permissions of the S3 operations: one table, by their names in the reference of S3. Operations without a rule are
//! refused. There are no bucket policies: an access key has a permission and a scope.

use crate::auth::Action;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRule {
    /// Callers that may read the key; on a public bucket, anyone.
    Readers,
    /// Callers with an access key: the response lists only what each may read.
    AnyKey,
    /// Callers that may write some keys in the bucket: each object is checked by itself.
    EachInside,
    Needs(Action),
    /// Nobody: the library does not carry it out.
    Nobody,
}

/// Every operation that the library knows.
const RULES: [(AccessRule, &[&str]); 8] = [
    (AccessRule::Readers, &["GetObject", "HeadObject"]),
    (AccessRule::AnyKey, &["ListBuckets"]),
    (AccessRule::EachInside, &["DeleteObjects"]),
    (
        AccessRule::Needs(Action::Read),
        &[
            "GetBucketAccelerateConfiguration",
            "GetBucketAcl",
            "GetBucketAnalyticsConfiguration",
            "GetBucketCors",
            "GetBucketEncryption",
            "GetBucketIntelligentTieringConfiguration",
            "GetBucketInventoryConfiguration",
            "GetBucketLifecycleConfiguration",
            "GetBucketLocation",
            "GetBucketLogging",
            "GetBucketMetadataTableConfiguration",
            "GetBucketMetricsConfiguration",
            "GetBucketNotificationConfiguration",
            "GetBucketOwnershipControls",
            "GetBucketPolicy",
            "GetBucketPolicyStatus",
            "GetBucketReplication",
            "GetBucketRequestPayment",
            "GetBucketTagging",
            "GetBucketVersioning",
            "GetBucketWebsite",
            "GetObjectAcl",
            "GetObjectAttributes",
            "GetObjectLegalHold",
            "GetObjectLockConfiguration",
            "GetObjectRetention",
            "GetObjectTagging",
            "GetObjectTorrent",
            "GetPublicAccessBlock",
            "HeadBucket",
            "ListBucketAnalyticsConfigurations",
            "ListBucketIntelligentTieringConfigurations",
            "ListBucketInventoryConfigurations",
            "ListBucketMetricsConfigurations",
            "ListParts",
            "SelectObjectContent",
        ],
    ),
    (
        AccessRule::Needs(Action::List),
        &["ListMultipartUploads", "ListObjectVersions", "ListObjects", "ListObjectsV2"],
    ),
    (
        AccessRule::Needs(Action::Write),
        &[
            "AbortMultipartUpload",
            "CompleteMultipartUpload",
            "CopyObject",
            "CreateBucket",
            "CreateMultipartUpload",
            "DeleteBucket",
            "DeleteObject",
            "DeleteObjectTagging",
            "PutObject",
            "PutObjectAcl",
            "PutObjectLegalHold",
            "PutObjectRetention",
            "PutObjectTagging",
            "RestoreObject",
            "UploadPart",
            "UploadPartCopy",
        ],
    ),
    (
        AccessRule::Needs(Action::Admin),
        &[
            "CreateBucketMetadataTableConfiguration",
            "DeleteBucketAnalyticsConfiguration",
            "DeleteBucketCors",
            "DeleteBucketEncryption",
            "DeleteBucketIntelligentTieringConfiguration",
            "DeleteBucketInventoryConfiguration",
            "DeleteBucketLifecycle",
            "DeleteBucketMetadataTableConfiguration",
            "DeleteBucketMetricsConfiguration",
            "DeleteBucketOwnershipControls",
            "DeleteBucketPolicy",
            "DeleteBucketReplication",
            "DeleteBucketTagging",
            "DeleteBucketWebsite",
            "DeletePublicAccessBlock",
            "PutBucketAccelerateConfiguration",
            "PutBucketAcl",
            "PutBucketAnalyticsConfiguration",
            "PutBucketCors",
            "PutBucketEncryption",
            "PutBucketIntelligentTieringConfiguration",
            "PutBucketInventoryConfiguration",
            "PutBucketLifecycleConfiguration",
            "PutBucketLogging",
            "PutBucketMetricsConfiguration",
            "PutBucketNotificationConfiguration",
            "PutBucketOwnershipControls",
            "PutBucketPolicy",
            "PutBucketReplication",
            "PutBucketRequestPayment",
            "PutBucketTagging",
            "PutBucketVersioning",
            "PutBucketWebsite",
            "PutObjectLockConfiguration",
            "PutPublicAccessBlock",
        ],
    ),
    (AccessRule::Nobody, &["CreateSession", "ListDirectoryBuckets", "PostObject", "WriteGetObjectResponse"]),
];

/// Returns the name of an operation as a static string.
pub fn name(operation: &str) -> Option<&'static str> {
    RULES.iter().flat_map(|(_, names)| *names).find(|name| **name == operation).copied()
}

/// Returns the rule of an operation; none if it is unknown.
pub fn rule(operation: &str) -> Option<AccessRule> {
    RULES.iter().find(|(_, names)| names.contains(&operation)).map(|(rule, _)| *rule)
}

/// Parameters of a read that change response headers: not for anonymous callers.
pub const NOT_FOR_ANYBODY: [&str; 6] = [
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];

/// Parameters that select the operation: at most one, or the request would be ambiguous.
pub const SELECTING: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

#[cfg(test)]
mod tests {
    use crate::s3::request::permissions::*;

    /// All operations that the library knows: `fn name()` of its `ops/generated.rs`, version 0.14.1.
    const OF_THE_LIBRARY: &str = include_str!("permissions/of_the_library.txt");
    const OURS: &str = include_str!("../dispatch.rs");

    #[test]
    fn every_operation_of_the_library_has_a_rule() {
        let names: Vec<_> = OF_THE_LIBRARY.split_whitespace().collect();
        assert_eq!(names.len(), 99);
        for name in &names {
            assert!(rule(name).is_some(), "{name}");
        }
        assert_eq!(RULES.iter().map(|(_, names)| names.len()).sum::<usize>(), names.len(), "each once");
        for unknown in ["", "GetSecrets", "getObject", "GetObjec", "GetObject2", "PutAnything"] {
            assert_eq!(rule(unknown), None, "{unknown}");
        }
        let anybody: Vec<_> = names.iter().filter(|n| rule(n) == Some(AccessRule::Readers)).collect();
        assert_eq!(anybody, [&"GetObject", &"HeadObject"]);
        assert_eq!(rule("PostObject"), Some(AccessRule::Nobody));
    }

    /// The table that is tested with all callers, over the wire.
    const WALKED: &str = include_str!("../../../../tests/s3/permissions.py");
    /// Operations without a row in that table, and why.
    const NOT_WALKED: [(&str, &str); 2] = [
        ("PostObject", "a form says for itself who signed it: `FORMS` in the same file"),
        ("WriteGetObjectResponse", "not implemented: refused before the key is looked at"),
    ];

    #[test]
    fn every_operation_is_walked_with_all_callers() {
        let walked = |name: &str| WALKED.contains(&format!("\n    \"{name}\": ("));
        for name in OF_THE_LIBRARY.split_whitespace() {
            let excused = NOT_WALKED.iter().any(|(excused, _)| *excused == name);
            assert!(walked(name) != excused, "{name} needs a row in tests/s3/permissions.py, or a reason");
        }
    }

    #[test]
    fn what_selects_an_operation_is_listed() {
        let beside = ["-", "id", "partNumber", "select-type", "x-id"];
        let lines = include_str!("permissions/requests.txt").lines();
        let queries = lines.filter_map(|line| line.split(' ').nth(3)).flat_map(|queries| queries.split('&'));
        let names: std::collections::BTreeSet<_> =
            queries.filter_map(|query| query.split('=').next()).collect();
        let selecting = names.into_iter().filter(|name| !beside.contains(name));
        assert!(selecting.eq(SELECTING));
    }

    #[test]
    fn every_operation_that_is_answered_here_may_be_done_by_somebody() {
        let lines = OURS.lines().filter(|line| line.contains("Input)"));
        let names: Vec<String> =
            lines.map(|l| camel(l.trim_start().split('(').next().unwrap_or_default())).collect();
        assert!(names.len() > 40);
        for name in names {
            assert!(rule(&name).is_some_and(|r| r != AccessRule::Nobody), "{name}");
        }
    }

    fn camel(function: &str) -> String {
        let words = function.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
        words.collect()
    }
}
