"""Who may do what: one table; `test_permissions` checks every cell.

Each row is a request that succeeds if permitted, whatever was done before. Callers that are not named are
refused. Keys scoped to a bucket or to the prefix `in/` belong to the tested bucket; they may write.
"""

CALLERS = ["nobody", "wrong", "read", "write", "admin", "elsewhere", "bucket", "prefix"]

# Readers and writers of what is below the prefix, of the rest of the bucket, and of the bucket itself.
READ_IN = "read write admin bucket prefix"
READ_OUT = "read write admin bucket"
WRITE_IN = "write admin bucket prefix"
WRITE_OUT = "write admin bucket"
# A key to a part of a bucket may know that the bucket exists.
SEES = "read write admin bucket prefix"
ADMIN = "admin"
KEYS = "read write admin elsewhere bucket prefix"
# An object in a public bucket.
ANYBODY = "nobody read write admin elsewhere bucket prefix"
# Any caller.
EVERYBODY = " ".join(CALLERS)

TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
CORS = (
    b"<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule>"
    b"</CORSConfiguration>"
)
LIFECYCLE = (
    b"<LifecycleConfiguration><Rule><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>"
    b"<AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
    b"</Rule></LifecycleConfiguration>"
)
OWNED = b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"
OLD_DATE = "Sunday, 06-Nov-94 08:49:37 GMT"
DELETE = b"<Delete><Object><Key>in/gone</Key></Object></Delete>"
PART = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;x&quot;</ETag></Part></CompleteMultipartUpload>"

# Operation: method, path in the bucket, query, headers, body, the answer if permitted, and the permitted callers;
# where a public bucket permits more callers, those.
OPERATIONS = {
    "GetObject": ("GET", "in/k", "", {}, b"", 200, READ_IN, ANYBODY),
    "GetObject outside": ("GET", "out", "", {}, b"", 200, READ_OUT, ANYBODY),
    "GetObject, a range": ("GET", "in/k", "", {"range": "bytes=0-0"}, b"", 206, READ_IN, ANYBODY),
    "GetObject, not there": ("GET", "in/none", "", {}, b"", 404, READ_IN, ANYBODY),
    "GetObject, a part": ("GET", "in/k", "partNumber=1", {}, b"", 206, READ_IN, ANYBODY),
    "GetObject, other headers": ("GET", "in/k", "response-content-type=text/html", {}, b"", 200, READ_IN, KEYS),
    "GetObject, a version": ("GET", "in/k", "versionId=null", {}, b"", 200, READ_IN, KEYS),
    "HeadObject": ("HEAD", "in/k", "", {}, b"", 200, READ_IN, ANYBODY),
    "HeadObject outside": ("HEAD", "out", "", {}, b"", 200, READ_OUT, ANYBODY),
    "GetObjectAttributes": ("GET", "in/k", "attributes", {"x-amz-object-attributes": "ETag"}, b"", 200, READ_IN),
    "GetObjectTagging": ("GET", "in/k", "tagging", {}, b"", 200, READ_IN),
    "GetObjectTagging outside": ("GET", "out", "tagging", {}, b"", 200, READ_OUT),
    "GetObjectAcl": ("GET", "in/k", "acl", {}, b"", 200, READ_IN),
    "GetObjectRetention": ("GET", "in/k", "retention", {}, b"", 400, READ_IN),
    "GetObjectLegalHold": ("GET", "in/k", "legal-hold", {}, b"", 400, READ_IN),
    "ListParts": ("GET", "in/k", "uploadId=none", {}, b"", 404, READ_IN),
    "PutObject": ("PUT", "in/new", "", {}, b"x", 200, WRITE_IN),
    "PutObject outside": ("PUT", "new", "", {}, b"x", 200, WRITE_OUT),
    "PutObjectTagging": ("PUT", "in/k", "tagging", {}, TAGS, 200, WRITE_IN),
    "PutObjectTagging outside": ("PUT", "out", "tagging", {}, TAGS, 200, WRITE_OUT),
    "PutObjectAcl": ("PUT", "in/k", "acl", {"x-amz-acl": "private"}, b"", 200, WRITE_IN),
    "DeleteObjectTagging": ("DELETE", "in/k", "tagging", {}, b"", 204, WRITE_IN),
    "DeleteObject": ("DELETE", "in/gone", "", {}, b"", 204, WRITE_IN),
    "DeleteObject outside": ("DELETE", "gone", "", {}, b"", 204, WRITE_OUT),
    "CreateMultipartUpload": ("POST", "in/k", "uploads", {}, b"", 200, WRITE_IN),
    "CreateMultipartUpload outside": ("POST", "out", "uploads", {}, b"", 200, WRITE_OUT),
    "UploadPart": ("PUT", "in/k", "partNumber=1&uploadId=none", {}, b"x", 404, WRITE_IN),
    "CompleteMultipartUpload": ("POST", "in/k", "uploadId=none", {}, PART, 404, WRITE_IN),
    "AbortMultipartUpload": ("DELETE", "in/k", "uploadId=none", {}, b"", 404, WRITE_IN),
    "CopyObject": ("PUT", "in/copy", "", {"x-amz-copy-source": "{bucket}/in/k"}, b"", 200, WRITE_IN),
    "CopyObject from outside": ("PUT", "in/copy", "", {"x-amz-copy-source": "{bucket}/out"}, b"", 200, WRITE_OUT),
    "CopyObject to outside": ("PUT", "copy", "", {"x-amz-copy-source": "{bucket}/in/k"}, b"", 200, WRITE_OUT),
    "CopyObject from elsewhere": ("PUT", "in/copy", "", {"x-amz-copy-source": "{other}/k"}, b"", 200, "write admin"),
    # That anybody may read an object does not let a key copy it from outside its scope.
    "CopyObject from a public bucket": (
        "PUT",
        "in/copy",
        "",
        {"x-amz-copy-source": "{open}/k"},
        b"",
        200,
        "write admin",
    ),
    "CopyObject, escaped": ("PUT", "in/copy", "", {"x-amz-copy-source": "{bucket}/in%2F..%2Fout"}, b"", 400, WRITE_IN),
    "UploadPartCopy": (
        "PUT",
        "in/k",
        "partNumber=1&uploadId=none",
        {"x-amz-copy-source": "{bucket}/in/k"},
        b"",
        404,
        WRITE_IN,
    ),
    "UploadPartCopy from elsewhere": (
        "PUT",
        "in/k",
        "partNumber=1&uploadId=none",
        {"x-amz-copy-source": "{other}/k"},
        b"",
        404,
        "write admin",
    ),
    "UploadPartCopy from a public bucket": (
        "PUT",
        "in/k",
        "partNumber=1&uploadId=none",
        {"x-amz-copy-source": "{open}/k"},
        b"",
        404,
        "write admin",
    ),
    "ListObjects": ("GET", "", "", {}, b"", 200, READ_OUT),
    "ListObjects below": ("GET", "", "prefix=in/", {}, b"", 200, READ_IN),
    "ListObjects beside": ("GET", "", "prefix=in", {}, b"", 200, READ_OUT),
    "ListObjectsV2": ("GET", "", "list-type=2", {}, b"", 200, READ_OUT),
    "ListObjectsV2 below": ("GET", "", "list-type=2&prefix=in/", {}, b"", 200, READ_IN),
    "ListObjectVersions": ("GET", "", "versions", {}, b"", 200, READ_OUT),
    "ListMultipartUploads": ("GET", "", "uploads", {}, b"", 200, READ_OUT),
    "ListMultipartUploads below": ("GET", "", "uploads&prefix=in/", {}, b"", 200, READ_IN),
    "DeleteObjects": ("POST", "", "delete", {}, DELETE, 200, WRITE_IN),
    "HeadBucket": ("HEAD", "", "", {}, b"", 200, SEES),
    "GetBucketLocation": ("GET", "", "location", {}, b"", 200, SEES),
    "GetBucketAcl": ("GET", "", "acl", {}, b"", 200, SEES),
    "GetBucketCors": ("GET", "", "cors", {}, b"", 404, SEES),
    "GetBucketTagging": ("GET", "", "tagging", {}, b"", 404, SEES),
    "GetBucketVersioning": ("GET", "", "versioning", {}, b"", 200, SEES),
    "GetBucketPolicy": ("GET", "", "policy", {}, b"", 404, SEES),
    "GetBucketPolicyStatus": ("GET", "", "policyStatus", {}, b"", 404, SEES),
    "GetBucketLifecycleConfiguration": ("GET", "", "lifecycle", {}, b"", 404, SEES),
    "GetBucketWebsite": ("GET", "", "website", {}, b"", 404, SEES),
    "GetBucketReplication": ("GET", "", "replication", {}, b"", 404, SEES),
    "GetBucketEncryption": ("GET", "", "encryption", {}, b"", 404, SEES),
    "GetBucketOwnershipControls": ("GET", "", "ownershipControls", {}, b"", 200, SEES),
    "GetPublicAccessBlock": ("GET", "", "publicAccessBlock", {}, b"", 200, SEES),
    "GetObjectLockConfiguration": ("GET", "", "object-lock", {}, b"", 404, SEES),
    "CreateBucket": ("PUT", "", "", {}, b"", 200, WRITE_OUT),
    "DeleteBucket": ("DELETE", "", "", {}, b"", 409, WRITE_OUT),
    "PutBucketTagging": ("PUT", "", "tagging", {}, TAGS, 200, ADMIN),
    "DeleteBucketTagging": ("DELETE", "", "tagging", {}, b"", 204, ADMIN),
    "PutBucketCors": ("PUT", "", "cors", {}, CORS, 200, ADMIN),
    "DeleteBucketCors": ("DELETE", "", "cors", {}, b"", 204, ADMIN),
    "PutBucketLifecycleConfiguration": ("PUT", "", "lifecycle", {}, LIFECYCLE, 200, ADMIN),
    "DeleteBucketLifecycle": ("DELETE", "", "lifecycle", {}, b"", 204, ADMIN),
    "PutBucketAcl": ("PUT", "", "acl", {"x-amz-acl": "private"}, b"", 200, ADMIN),
    "PutBucketPolicy": ("PUT", "", "policy", {}, b"{}", 501, ADMIN),
    "PutBucketVersioning": (
        "PUT",
        "",
        "versioning",
        {},
        b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        501,
        ADMIN,
    ),
    "PutBucketOwnershipControls": ("PUT", "", "ownershipControls", {}, OWNED, 200, ADMIN),
    "PutBucketLogging": ("PUT", "", "logging", {}, b"<BucketLoggingStatus/>", 200, ADMIN),
    "GetBucketLogging": ("GET", "", "logging", {}, b"", 200, SEES),
    "DeleteBucketPolicy": ("DELETE", "", "policy", {}, b"", 204, ADMIN),
    "DeletePublicAccessBlock": ("DELETE", "", "publicAccessBlock", {}, b"", 204, ADMIN),
    # What the library cannot read is asked for once more, by the same caller.
    "GetObject, a date of old": ("GET", "in/k", "", {"if-modified-since": OLD_DATE}, b"", 200, READ_IN, ANYBODY),
    "GetObject outside, another range": ("GET", "out", "", {"range": "lines=1-2"}, b"", 200, READ_OUT, ANYBODY),
    "PutObject, expired": ("PUT", "in/new", "", {"expires": "0"}, b"x", 200, WRITE_IN),
    "PutObject outside, expired": ("PUT", "new", "", {"expires": "0"}, b"x", 200, WRITE_OUT),
}

# By a presigned link, which signs no body and no header: the same cells.
LINKS = [name for name, row in OPERATIONS.items() if not row[3]]

# Operations that are not supported, or not with such a document: only permitted callers learn that. By operation:
# method, path in the bucket, query, answer, and callers.
NOT_DONE = {
    "CreateBucketMetadataTableConfiguration": ("POST", "", "metadataTable", 400, ADMIN),
    "CreateSession": ("GET", "", "session", 200, ""),
    "DeleteBucketAnalyticsConfiguration": ("DELETE", "", "analytics", 400, ADMIN),
    "DeleteBucketEncryption": ("DELETE", "", "encryption", 204, ADMIN),
    "DeleteBucketIntelligentTieringConfiguration": ("DELETE", "", "intelligent-tiering", 400, ADMIN),
    "DeleteBucketInventoryConfiguration": ("DELETE", "", "inventory", 400, ADMIN),
    "DeleteBucketMetadataTableConfiguration": ("DELETE", "", "metadataTable", 501, ADMIN),
    "DeleteBucketMetricsConfiguration": ("DELETE", "", "metrics", 400, ADMIN),
    "DeleteBucketOwnershipControls": ("DELETE", "", "ownershipControls", 204, ADMIN),
    "DeleteBucketReplication": ("DELETE", "", "replication", 204, ADMIN),
    "DeleteBucketWebsite": ("DELETE", "", "website", 204, ADMIN),
    "GetBucketAccelerateConfiguration": ("GET", "", "accelerate", 200, SEES),
    "GetBucketAnalyticsConfiguration": ("GET", "", "analytics&id=x", 404, SEES),
    "GetBucketIntelligentTieringConfiguration": ("GET", "", "intelligent-tiering&id=x", 404, SEES),
    "GetBucketInventoryConfiguration": ("GET", "", "inventory&id=x", 404, SEES),
    "GetBucketMetadataTableConfiguration": ("GET", "", "metadataTable", 501, SEES),
    "GetBucketMetricsConfiguration": ("GET", "", "metrics&id=x", 404, SEES),
    "GetBucketNotificationConfiguration": ("GET", "", "notification", 200, SEES),
    "GetBucketRequestPayment": ("GET", "", "requestPayment", 200, SEES),
    "GetObjectTorrent": ("GET", "in/k", "torrent", 501, READ_IN),
    "GetObjectTorrent outside": ("GET", "out", "torrent", 501, READ_OUT),
    "ListBucketAnalyticsConfigurations": ("GET", "", "analytics", 200, SEES),
    "ListBucketIntelligentTieringConfigurations": ("GET", "", "intelligent-tiering", 200, SEES),
    "ListBucketInventoryConfigurations": ("GET", "", "inventory", 200, SEES),
    "ListBucketMetricsConfigurations": ("GET", "", "metrics", 200, SEES),
    "PutBucketAccelerateConfiguration": ("PUT", "", "accelerate", 400, ADMIN),
    "PutBucketAnalyticsConfiguration": ("PUT", "", "analytics&id=x", 400, ADMIN),
    "PutBucketEncryption": ("PUT", "", "encryption", 400, ADMIN),
    "PutBucketIntelligentTieringConfiguration": ("PUT", "", "intelligent-tiering&id=x", 400, ADMIN),
    "PutBucketInventoryConfiguration": ("PUT", "", "inventory&id=x", 400, ADMIN),
    "PutBucketMetricsConfiguration": ("PUT", "", "metrics&id=x", 400, ADMIN),
    "PutBucketNotificationConfiguration": ("PUT", "", "notification", 400, ADMIN),
    "PutBucketReplication": ("PUT", "", "replication", 400, ADMIN),
    "PutBucketRequestPayment": ("PUT", "", "requestPayment", 400, ADMIN),
    "PutBucketWebsite": ("PUT", "", "website", 400, ADMIN),
    "PutObjectLegalHold": ("PUT", "in/k", "legal-hold", 400, WRITE_IN),
    "PutObjectLegalHold outside": ("PUT", "out", "legal-hold", 400, WRITE_OUT),
    "PutObjectLockConfiguration": ("PUT", "", "object-lock", 400, ADMIN),
    "PutObjectRetention": ("PUT", "in/k", "retention", 400, WRITE_IN),
    "PutObjectRetention outside": ("PUT", "out", "retention", 400, WRITE_OUT),
    "PutPublicAccessBlock": ("PUT", "", "publicAccessBlock", 400, ADMIN),
    "RestoreObject": ("POST", "in/k", "restore", 400, WRITE_IN),
    "RestoreObject outside": ("POST", "out", "restore", 400, WRITE_OUT),
    "SelectObjectContent": ("POST", "in/k", "select&select-type=2", 400, READ_IN),
    "SelectObjectContent outside": ("POST", "out", "select&select-type=2", 400, READ_OUT),
}
for name, (method, path, query, status, callers) in NOT_DONE.items():
    document = b"<x/>" if method in ("PUT", "POST") else b""
    OPERATIONS[name] = (method, path, query, {}, document, status, callers)

# The store itself.
OF_THE_STORE = {
    "ListBuckets": ("GET", "", "", {}, b"", 200, KEYS),
    "ListDirectoryBuckets": ("GET", "", "x-id=ListDirectoryBuckets", {}, b"", 200, ""),
}

# A form for a key of the bucket, signed by the caller: the permitted callers.
FORMS = {"in/form": WRITE_IN, "form": WRITE_OUT}

# The native API: method, path, query, body, the answer if permitted, and the callers; on a public bucket.
NATIVE = {
    "read": ("GET", "{bucket}/in/k", "stream", b"", 200, READ_IN, ANYBODY),
    "read, redirected": ("GET", "{bucket}/in/k", "", b"", 307, READ_IN, ANYBODY),
    "read outside": ("GET", "{bucket}/out", "stream", b"", 200, READ_OUT, ANYBODY),
    "read, stale": ("GET", "{bucket}/in/k", "stale", b"", 307, READ_IN, ANYBODY),
    "look": ("HEAD", "{bucket}/in/k", "", b"", 200, READ_IN, ANYBODY),
    "look outside": ("HEAD", "{bucket}/out", "", b"", 200, READ_OUT, ANYBODY),
    "read, escaped": ("GET", "{bucket}%2Fout", "stream", b"", 200, READ_OUT, ANYBODY),
    "put": ("PUT", "{bucket}/in/native", "", b"x", (200, 201), WRITE_IN),
    "put outside": ("PUT", "{bucket}/native", "", b"x", (200, 201), WRITE_OUT),
    "post": ("POST", "{bucket}/in/native", "", b"x", (201, 409), WRITE_IN),
    "delete": ("DELETE", "{bucket}/in/none", "", b"", 404, WRITE_IN),
    "delete outside": ("DELETE", "{bucket}/none", "", b"", 404, WRITE_OUT),
    "list": ("GET", "{bucket}/", "list", b"", 200, READ_OUT),
    "list below": ("GET", "{bucket}/in/", "list", b"", 200, READ_IN),
    "list beside": ("GET", "{bucket}", "list", b"", 200, "read write admin"),
    "list everything": ("GET", "", "list", b"", 200, "read write admin"),
    "a key in no bucket": ("PUT", "loose-{bucket}", "", b"x", (200, 201), "write admin"),
    # Listings have no HEAD: this asks for a value of that name.
    "look, not a list": ("HEAD", "{bucket}/", "list", b"", 404, READ_OUT, ANYBODY),
    "look, not a list below": ("HEAD", "{bucket}/in/", "list", b"", 404, READ_IN, ANYBODY),
    "read, both ways": ("GET", "{bucket}/in/k", "redirect&stream", b"", 200, READ_IN, ANYBODY),
    "another method": ("PATCH", "{bucket}/in/k", "", b"", 405, WRITE_IN),
    "another method outside": ("PATCH", "{bucket}/out", "", b"", 405, WRITE_OUT),
    "options": ("OPTIONS", "{bucket}/in/k", "", b"", 405, WRITE_IN),
    # Information about the cluster.
    "status": ("GET", "_/status", "", b"", 200, "read write admin"),
    "events": ("GET", "_/events", "", b"", 200, "read write admin"),
    "masters": ("GET", "_/masters", "", b"", 200, "read write admin"),
    "status, the head": ("HEAD", "_/status", "", b"", 200, "read write admin"),
    "health": ("GET", "_/health", "", b"", 200, EVERYBODY),
    "metrics": ("GET", "_/metrics", "", b"", 200, EVERYBODY),
}

# No access key permits what requires the cluster's secret.
SIGNED = """
    backup clock commit replica-sources doctor admin-state events examine explain heartbeat keys keys/anonymous keys/put
    keys/revoke masters masters/add masters/init masters/remove masters/self replication-modes replication-modes/set
    orphans propose raft/append raft/install raft/offer raft/part raft/vote read-index rebalance status tables/compare
    tables/offer tables/part
""".split()
for name in SIGNED:
    NATIVE[f"called: {name}"] = ("POST", f"_/{name}", "", b"{}", 200, "")
