"""Versions, policies, encryption, locks and ACLs, which the store does not support: its answers to requests for them.

A read says that nothing is configured, as S3 does; a write gets NotImplemented. Nothing unsupported ever succeeds,
and a request for it stores nothing.
"""

import base64
import hashlib

import pytest

import wire
from expect import absent, body, nothing_in, refused

MISSING = (501, "NotImplemented")

# Sub-resource: what S3 answers where nothing is configured.
NOT_CONFIGURED = {
    "policy": (404, "NoSuchBucketPolicy"),
    "policyStatus": (404, "NoSuchBucketPolicy"),
    "lifecycle": (404, "NoSuchLifecycleConfiguration"),
    "website": (404, "NoSuchWebsiteConfiguration"),
    "replication": (404, "ReplicationConfigurationNotFoundError"),
    "encryption": (404, "ServerSideEncryptionConfigurationNotFoundError"),
    "object-lock": (404, "ObjectLockConfigurationNotFoundError"),
}


@pytest.mark.parametrize("name", NOT_CONFIGURED)
def test_not_configured(bucket, name):
    answer = wire.signed("GET", f"/{bucket}", query=[(name, "")])
    assert answer.verdict in [NOT_CONFIGURED[name], MISSING], answer


@pytest.mark.parametrize("name", ["policy", "website", "replication", "encryption", "lifecycle"])
def test_not_configured_in_the_words_of_s3(bucket, name):
    assert wire.signed("GET", f"/{bucket}", query=[(name, "")]).verdict == NOT_CONFIGURED[name]


@pytest.mark.parametrize("name", NOT_CONFIGURED)
def test_not_configured_where_there_is_no_bucket(bucket, name):
    answer = wire.signed("GET", f"/{bucket}-none", query=[(name, "")])
    assert answer.verdict in [(404, "NoSuchBucket"), MISSING], answer


def test_versioning_is_off(s3, bucket):
    answer = s3.get_bucket_versioning(Bucket=bucket)
    assert "Status" not in answer and "MFADelete" not in answer


def test_versioning_cannot_be_turned_on(s3, bucket):
    how = {"Bucket": bucket, "VersioningConfiguration": {"Status": "Enabled"}}
    refused(*MISSING, s3.put_bucket_versioning, **how)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_versioning_is_suspended_as_it_is(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert [v["VersionId"] for v in s3.list_object_versions(Bucket=bucket)["Versions"]] == ["null"]


SETTINGS = {
    "policy": b'{"Version": "2012-10-17", "Statement": []}',
    "website": b"<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>",
    "replication": b"<ReplicationConfiguration><Role>r</Role><Rule><Status>Enabled</Status><Destination>"
    b"<Bucket>arn:aws:s3:::b</Bucket></Destination></Rule></ReplicationConfiguration>",
    "encryption": b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256"
    b"</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>",
    "object-lock": b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>",
    "publicAccessBlock": b"<PublicAccessBlockConfiguration><BlockPublicAcls>false</BlockPublicAcls>"
    b"</PublicAccessBlockConfiguration>",
    "ownershipControls": b"<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>"
    b"</OwnershipControls>",
    "logging": b"<BucketLoggingStatus><LoggingEnabled><TargetBucket>b</TargetBucket><TargetPrefix>p</TargetPrefix>"
    b"</LoggingEnabled></BucketLoggingStatus>",
    "notification": b"<NotificationConfiguration><TopicConfiguration><Topic>arn:aws:sns:us-east-1:1:t</Topic>"
    b"<Event>s3:ObjectCreated:*</Event></TopicConfiguration></NotificationConfiguration>",
    "accelerate": b"<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>",
    "requestPayment": b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_cannot_be_set(bucket, name):
    digest = base64.b64encode(hashlib.md5(SETTINGS[name]).digest()).decode()
    answer = wire.signed(
        "PUT", f"/{bucket}", query=[(name, "")], headers=[("content-md5", digest)], body=SETTINGS[name]
    )
    assert answer.verdict == MISSING, answer


ABORT = {"DaysAfterInitiation": 3}


def rule(**what):
    return {"Rules": [{"ID": "one", "Status": "Enabled", "Filter": {"Prefix": ""}, **what}]}


def test_the_one_rule_of_a_lifecycle_that_is_there(s3, bucket):
    config = rule(AbortIncompleteMultipartUpload=ABORT)
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=config)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == config["Rules"]
    assert s3.delete_bucket_lifecycle(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(404, "NoSuchLifecycleConfiguration", s3.get_bucket_lifecycle_configuration, Bucket=bucket)


RULES = {
    "expiration": {"Expiration": {"Days": 1}},
    "transition": {"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]},
    "versions": {"NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
    "both": {"Expiration": {"Days": 1}, "AbortIncompleteMultipartUpload": ABORT},
}


@pytest.mark.parametrize("name", RULES)
def test_other_rules_of_a_lifecycle(s3, bucket, name):
    config = rule(**RULES[name])
    refused(*MISSING, s3.put_bucket_lifecycle_configuration, Bucket=bucket, LifecycleConfiguration=config)
    refused(404, "NoSuchLifecycleConfiguration", s3.get_bucket_lifecycle_configuration, Bucket=bucket)


KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
HEADERS = {
    "encryption": [("x-amz-server-side-encryption", "AES256")],
    "encryption by kms": [("x-amz-server-side-encryption", "aws:kms")],
    "encryption by the client's key": [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", KEY),
        ("x-amz-server-side-encryption-customer-key-md5", "ofw0sGBhUdkD8Ay20YA1Lg=="),
    ],
    "lock": [("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z")],
    "legal hold": [("x-amz-object-lock-legal-hold", "ON")],
    "website redirect": [("x-amz-website-redirect-location", "/other")],
    "public": [("x-amz-acl", "public-read")],
    "public to write": [("x-amz-acl", "public-read-write")],
    "grant": [("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"')],
    "colder storage": [("x-amz-storage-class", "GLACIER")],
}
REFUSALS = [
    MISSING,
    (400, "InvalidStorageClass"),
    (400, "AccessControlListNotSupported"),
    (400, "InvalidRequest"),
]


@pytest.mark.parametrize("name", HEADERS)
def test_a_put_that_asks_for_it(s3, bucket, name):
    answer = wire.signed("PUT", f"/{bucket}/k", headers=HEADERS[name], body=b"x")
    assert answer.verdict in REFUSALS, answer
    absent(s3, bucket, "k")


@pytest.mark.parametrize("name", HEADERS)
def test_an_upload_of_parts_that_asks_for_it(s3, bucket, name):
    answer = wire.signed("POST", f"/{bucket}/k", query=[("uploads", "")], headers=HEADERS[name])
    assert answer.verdict in REFUSALS, answer
    nothing_in(s3, bucket)


@pytest.mark.parametrize("name", HEADERS)
def test_a_copy_that_asks_for_it(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key="source", Body=b"x")
    headers = [("x-amz-copy-source", f"{bucket}/source"), *HEADERS[name]]
    answer = wire.signed("PUT", f"/{bucket}/k", headers=headers)
    assert answer.verdict in REFUSALS, answer
    absent(s3, bucket, "k")


def test_a_get_by_the_client_s_key(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = wire.signed("GET", f"/{bucket}/k", headers=HEADERS["encryption by the client's key"])
    assert answer.verdict in [MISSING, (400, "InvalidRequest")], answer


def test_a_bucket_with_locks(s3, bucket):
    headers = [("x-amz-bucket-object-lock-enabled", "true")]
    assert wire.signed("PUT", f"/{bucket}-locked", headers=headers).verdict == MISSING
    refused(404, "404", s3.head_bucket, Bucket=f"{bucket}-locked")


def test_a_public_bucket(s3, bucket):
    answer = wire.signed("PUT", f"/{bucket}-public", headers=[("x-amz-acl", "public-read")])
    assert answer.verdict in REFUSALS + [(400, "InvalidBucketAclWithObjectOwnership")], answer
    refused(404, "404", s3.head_bucket, Bucket=f"{bucket}-public")


def only_the_owner(answer):
    """The ACL has one grant, the owner's."""
    (grant,) = answer["Grants"]
    assert grant["Permission"] == "FULL_CONTROL"
    assert grant["Grantee"]["ID"] == answer["Owner"]["ID"] != ""


def test_permissions_of_a_bucket(s3, bucket):
    answer = s3.get_bucket_acl(Bucket=bucket)
    only_the_owner(answer)
    assert answer["Owner"]["ID"] == s3.list_buckets()["Owner"]["ID"]


def test_permissions_of_an_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    only_the_owner(s3.get_object_acl(Bucket=bucket, Key="k"))
    refused(404, "NoSuchKey", s3.get_object_acl, Bucket=bucket, Key="none")


def test_private_is_what_it_is(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="private")
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    only_the_owner(s3.get_object_acl(Bucket=bucket, Key="k"))
    only_the_owner(s3.get_bucket_acl(Bucket=bucket))


def test_what_is_shown_may_be_set(s3, bucket):
    # s3cmd copies the ACL from object to object.
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for path in [f"/{bucket}", f"/{bucket}/k"]:
        shown = wire.signed("GET", path, query=[("acl", "")])
        answer = wire.signed("PUT", path, query=[("acl", "")], body=shown.body)
        assert answer.status == 200, answer
    only_the_owner(s3.get_bucket_acl(Bucket=bucket))
    only_the_owner(s3.get_object_acl(Bucket=bucket, Key="k"))


def test_everything_for_the_owner_of_the_bucket_is_private_too(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="bucket-owner-full-control")
    only_the_owner(s3.get_object_acl(Bucket=bucket, Key="k"))


def test_a_list_for_everybody(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    shown = wire.signed("GET", f"/{bucket}/k", query=[("acl", "")]).body
    grant = (
        b'<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>'
        b"http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>"
    )
    wider = shown.replace(b"</AccessControlList>", grant + b"</AccessControlList>")
    assert wider != shown
    answer = wire.signed("PUT", f"/{bucket}/k", query=[("acl", "")], body=wider)
    assert answer.verdict in REFUSALS, answer
    only_the_owner(s3.get_object_acl(Bucket=bucket, Key="k"))
    assert wire.anonymous("GET", f"/{bucket}/k").verdict == (403, "AccessDenied")


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read"])
def test_other_permissions(s3, bucket, acl):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for path in [f"/{bucket}", f"/{bucket}/k"]:
        answer = wire.signed("PUT", path, query=[("acl", "")], headers=[("x-amz-acl", acl)])
        assert answer.verdict in REFUSALS, answer
    only_the_owner(s3.get_bucket_acl(Bucket=bucket))
    only_the_owner(s3.get_object_acl(Bucket=bucket, Key="k"))
    assert wire.anonymous("GET", f"/{bucket}/k").verdict == (403, "AccessDenied")


LOCKS = [MISSING, (400, "InvalidRequest"), (404, "NoSuchObjectLockConfiguration")]


@pytest.mark.parametrize("name", ["retention", "legal-hold"])
def test_locks_of_an_object(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert wire.signed("GET", f"/{bucket}/k", query=[(name, "")]).verdict in LOCKS
    text = {
        "retention": b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate>"
        b"</Retention>",
        "legal-hold": b"<LegalHold><Status>ON</Status></LegalHold>",
    }[name]
    assert wire.signed("PUT", f"/{bucket}/k", query=[(name, "")], body=text).verdict in LOCKS
    s3.delete_object(Bucket=bucket, Key="k")
    absent(s3, bucket, "k")


ACTIONS = {
    "select": ("POST", [("select", ""), ("select-type", "2")]),
    "restore": ("POST", [("restore", "")]),
    "torrent": ("GET", [("torrent", "")]),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_on_an_object(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key="k", Body=b"content")
    method, query = ACTIONS[name]
    answer = wire.signed(method, f"/{bucket}/k", query=query)
    assert 400 <= answer.status <= 501 and answer.code, answer
    assert answer.code in ("NotImplemented", "MissingRequestBodyError"), answer
    assert body(s3, bucket, "k") == b"content"


@pytest.mark.parametrize("name", ["analytics", "inventory", "metrics", "intelligent-tiering"])
def test_reports(bucket, name):
    for method in ("GET", "DELETE"):
        answer = wire.signed(method, f"/{bucket}", query=[(name, ""), ("id", "one")])
        assert answer.verdict == (404, "NoSuchConfiguration"), answer
    answer = wire.signed("GET", f"/{bucket}", query=[(name, "")])
    assert (answer.status, answer.text("IsTruncated")) == (200, "false"), answer


# The fixed properties of every bucket: sub-resource, the answer to a read, and writes that agree with it.
SO_ANYWAY = {
    "logging": ({}, b"<BucketLoggingStatus/>"),
    "notification": ({}, b"<NotificationConfiguration/>"),
    "accelerate": ({}, b"<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>"),
    "requestPayment": (
        {"Payer": "BucketOwner"},
        b"<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
    ),
    "ownershipControls": (
        {"Rule/ObjectOwnership": "BucketOwnerEnforced"},
        b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
    ),
    "publicAccessBlock": (
        dict.fromkeys(["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], "true"),
        b"<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true"
        b"</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true"
        b"</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
    ),
}


def put(bucket, name, text):
    digest = base64.b64encode(hashlib.md5(text).digest()).decode()
    return wire.signed("PUT", f"/{bucket}", query=[(name, "")], headers=[("content-md5", digest)], body=text)


@pytest.mark.parametrize("name", SO_ANYWAY)
def test_what_describes_every_bucket(bucket, name):
    elements, text = SO_ANYWAY[name]
    for _ in range(2):
        answer = wire.signed("GET", f"/{bucket}", query=[(name, "")])
        assert answer.status == 200, answer
        assert {e: answer.text(e) for e in elements} == elements, answer
        assert elements or len(answer.tree()) == 0, answer
        assert put(bucket, name, text).status == 200
    assert wire.signed("GET", f"/{bucket}-none", query=[(name, "")]).verdict == (404, "NoSuchBucket")
    assert put(f"{bucket}-none", name, text).verdict == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    "name", ["policy", "encryption", "website", "replication", "ownershipControls", "publicAccessBlock"]
)
def test_nothing_to_delete(bucket, name):
    assert wire.signed("DELETE", f"/{bucket}", query=[(name, "")]).status == 204
    assert wire.signed("DELETE", f"/{bucket}-none", query=[(name, "")]).verdict == (404, "NoSuchBucket")
