"""What the S3 API reference (November 2026) names, and how the store treats it.

DONE: supported, or true of everything here. BY_NAME: refused, and the message names it. Otherwise: how it is
denied. Nothing is ignored.
"""

DONE, BY_NAME = "done", "by name"

# Bucket sub-resources: the methods that S3 has for them.
OF_BUCKETS = {
    "abac": "",
    "accelerate": "GET PUT",
    "acl": "GET PUT",
    "analytics": "GET PUT DELETE",
    "cors": "GET PUT DELETE",
    "delete": "POST",
    "encryption": "GET PUT DELETE",
    "intelligent-tiering": "GET PUT DELETE",
    "inventory": "GET PUT DELETE",
    "lifecycle": "GET PUT DELETE",
    "list-type": "GET",
    "location": "GET",
    "logging": "GET PUT",
    "metadataConfiguration": "",
    "metadataInventoryTable": "",
    "metadataJournalTable": "",
    "metadataTable": "GET POST DELETE",
    "metrics": "GET PUT DELETE",
    "notification": "GET PUT",
    "object-lock": "GET PUT",
    "ownershipControls": "GET PUT DELETE",
    "policy": "GET PUT DELETE",
    "policyStatus": "GET",
    "publicAccessBlock": "GET PUT DELETE",
    "replication": "GET PUT DELETE",
    "requestPayment": "GET PUT",
    "session": "GET",
    "tagging": "GET PUT DELETE",
    "uploads": "GET",
    "versioning": "GET PUT",
    "versions": "GET",
    "website": "GET PUT DELETE",
}
# Object sub-resources.
OF_OBJECTS = {
    "acl": "GET PUT",
    "attributes": "GET",
    "legal-hold": "GET PUT",
    "renameObject": "",
    "restore": "POST",
    "retention": "GET PUT",
    "select": "POST",
    "tagging": "GET PUT DELETE",
    "torrent": "GET",
    "uploadId": "GET PUT POST DELETE",
    "uploads": "POST",
}

# Upload headers and form fields: name, value, and how they are treated.
OF_UPLOADS = [
    ("x-amz-acl", "private", DONE),
    ("x-amz-acl", "public-read", BY_NAME),
    ("x-amz-checksum-blake3", "AAAA", BY_NAME),
    ("x-amz-expected-bucket-owner", "somebody-else", (403, "AccessDenied")),
    ("x-amz-grant-full-control", 'id="x"', BY_NAME),
    ("x-amz-grant-read", 'id="x"', BY_NAME),
    ("x-amz-grant-read-acp", 'id="x"', BY_NAME),
    ("x-amz-grant-write-acp", 'id="x"', BY_NAME),
    ("x-amz-meta-a", "1", DONE),
    ("x-amz-object-lock-legal-hold", "ON", BY_NAME),
    ("x-amz-object-lock-mode", "GOVERNANCE", BY_NAME),
    ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z", BY_NAME),
    ("x-amz-request-payer", "requester", DONE),
    ("x-amz-security-token", "token", (400, "InvalidToken")),
    ("x-amz-server-side-encryption", "AES256", BY_NAME),
    ("x-amz-server-side-encryption", "aws:kms", BY_NAME),
    ("x-amz-server-side-encryption-aws-kms-key-id", "k", BY_NAME),
    ("x-amz-server-side-encryption-bucket-key-enabled", "true", BY_NAME),
    ("x-amz-server-side-encryption-context", "e30=", BY_NAME),
    ("x-amz-server-side-encryption-customer-algorithm", "AES256", BY_NAME),
    ("x-amz-server-side-encryption-customer-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", BY_NAME),
    ("x-amz-server-side-encryption-customer-key-md5", "ofw0sGBhUdkD8Ay20YA1Lg==", BY_NAME),
    ("x-amz-storage-class", "STANDARD", DONE),
    ("x-amz-storage-class", "GLACIER", BY_NAME),
    ("x-amz-tagging", "a=b", DONE),
    ("x-amz-website-redirect-location", "/other", BY_NAME),
    ("x-amz-write-offset-bytes", "3", BY_NAME),
    ("x-amz-of-tomorrow", "1", BY_NAME),
]
