//! Maps each operation of the S3 API to the function that answers it. Operations that are not listed are refused by
//! name: see `supported::missing_feature`.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::S3Operations;
use crate::state::command::BucketSetting;

/// Returns an empty response with status 200.
fn done<T: Default>(_: ()) -> S3Response<T> {
    S3Response::new(T::default())
}

/// Returns an empty response with status 204.
fn gone<T: Default>(_: ()) -> S3Response<T> {
    S3Response::with_status(T::default(), http::StatusCode::NO_CONTENT)
}

/// Error code for analytics, tiering, inventory and metrics configurations, which do not exist here.
const NO_REPORT: &str = "NoSuchConfiguration";

/// Returns an empty list of configurations.
macro_rules! none_listed {
    ($output:ident) => {
        S3Response::new($output { is_truncated: Some(false), ..Default::default() })
    };
}

/// Implements the trait of the library: each operation with its input, its output, and the call that answers it.
macro_rules! operations {
    ($($name:ident($input:ident) -> $output:ident: |$ops:ident, $req:ident| $answer:expr;)*) => {
        #[async_trait::async_trait]
        impl S3 for S3Operations {
            $(async fn $name(&self, $req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                let $ops = self;
                $answer
            })*
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput: |ops, req| ops.buckets(req).await;
    create_bucket(CreateBucketInput) -> CreateBucketOutput: |ops, req| ops.create(req).await;
    head_bucket(HeadBucketInput) -> HeadBucketOutput: |ops, req| ops.head_bucket(&req.input.bucket).await;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput: |ops, req|
        ops.delete_bucket_named(req.input.bucket).await.map(gone);
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput: |ops, req|
        ops.location_of(&req.input.bucket).await;

    put_object(PutObjectInput) -> PutObjectOutput: |ops, req| ops.put(req).await;
    get_object(GetObjectInput) -> GetObjectOutput: |ops, req| ops.get(req).await;
    head_object(HeadObjectInput) -> HeadObjectOutput: |ops, req| ops.head(req).await;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput: |ops, req| ops.delete_named(req).await.map(gone);
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput: |ops, req| ops.delete_many(req).await;
    copy_object(CopyObjectInput) -> CopyObjectOutput: |ops, req| ops.copy(req).await;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput: |ops, req|
        ops.object_attributes(req).await;

    list_objects(ListObjectsInput) -> ListObjectsOutput: |ops, req| ops.list_v1(req).await;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output: |ops, req| ops.list_v2(req).await;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput: |ops, req|
        ops.list_versions(req).await;

    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput: |ops, req|
        ops.begin(req).await;
    upload_part(UploadPartInput) -> UploadPartOutput: |ops, req| ops.put_part(req).await;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput: |ops, req| ops.copy_part(req).await;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput: |ops, req|
        ops.complete(req).await;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput: |ops, req|
        ops.abort(req.input).await;
    list_parts(ListPartsInput) -> ListPartsOutput: |ops, req| ops.list_parts(req).await;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput: |ops, req|
        ops.list_uploads(req).await;

    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput: |ops, req| ops.tags(req.input).await;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput: |ops, req| {
        let input = req.input;
        let place = (input.bucket.as_str(), input.key.as_str());
        ops.tag(place, input.version_id.as_deref(), input.tagging.tag_set).await.map(done)
    };
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput: |ops, req| {
        let input = req.input;
        ops.tag((&input.bucket, &input.key), input.version_id.as_deref(), Vec::new()).await.map(gone)
    };
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput: |ops, req|
        ops.bucket_tags(&req.input.bucket).await;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput: |ops, req|
        ops.tag_bucket(req.input.bucket, req.input.tagging.tag_set).await.map(gone);
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput: |ops, req|
        ops.set(req.input.bucket, BucketSetting::Tags(Vec::new())).await.map(gone);

    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput: |ops, req| ops.cors(&req.input.bucket).await;
    put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput: |ops, req|
        ops.set_cors(req.input.bucket, req.input.cors_configuration).await.map(done);
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput: |ops, req|
        ops.set(req.input.bucket, BucketSetting::Cors(Vec::new())).await.map(gone);
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput)
        -> GetBucketLifecycleConfigurationOutput: |ops, req|
        ops.lifecycle(&req.input.bucket).await;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput)
        -> PutBucketLifecycleConfigurationOutput: |ops, req|
        ops.set_lifecycle(req.input).await.map(done);
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput: |ops, req|
        ops.set(req.input.bucket, BucketSetting::AbortUploads(Vec::new())).await.map(gone);

    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput: |ops, req| ops.bucket_acl(&req.input.bucket).await;
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput: |ops, req| ops.set_bucket_acl(req.input).await.map(done);
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput: |ops, req| ops.object_acl(req.input).await;
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput: |ops, req| ops.set_object_acl(req.input).await.map(done);

    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await.map(|_| done(()));
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput: |ops, req|
        ops.set_versioning(req.input).await.map(done);
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput: |ops, req|
        ops.ownership(&req.input.bucket).await;
    put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput: |ops, req|
        ops.set_ownership(req.input).await.map(done);
    delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput)
        -> DeleteBucketOwnershipControlsOutput: |ops, req|
        ops.nothing_to_delete(&req.input.bucket).await.map(gone);
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput: |ops, req|
        ops.access_block(&req.input.bucket).await;
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput: |ops, req|
        ops.set_access_block(req.input).await.map(done);
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput: |ops, req|
        ops.nothing_to_delete(&req.input.bucket).await.map(gone);
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await.map(|_| done(()));
    put_bucket_logging(PutBucketLoggingInput) -> PutBucketLoggingOutput: |ops, req|
        ops.set_logging(req.input).await.map(done);
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput)
        -> GetBucketNotificationConfigurationOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await.map(|_| done(()));
    put_bucket_notification_configuration(PutBucketNotificationConfigurationInput)
        -> PutBucketNotificationConfigurationOutput: |ops, req|
        ops.set_notification(req.input).await.map(done);
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput: |ops, req|
        ops.payer(&req.input.bucket).await;
    put_bucket_request_payment(PutBucketRequestPaymentInput) -> PutBucketRequestPaymentOutput: |ops, req|
        ops.set_payer(req.input).await.map(done);
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput)
        -> GetBucketAccelerateConfigurationOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await.map(|_| done(()));
    put_bucket_accelerate_configuration(PutBucketAccelerateConfigurationInput)
        -> PutBucketAccelerateConfigurationOutput: |ops, req|
        ops.set_acceleration(req.input).await.map(done);

    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput: |ops, req|
        ops.not_configured(&req.input.bucket, "NoSuchBucketPolicy").await;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput: |ops, req|
        ops.not_configured(&req.input.bucket, "NoSuchBucketPolicy").await;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput: |ops, req|
        ops.nothing_to_delete(&req.input.bucket).await.map(gone);
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput: |ops, req|
        ops.not_configured(&req.input.bucket, "NoSuchWebsiteConfiguration").await;
    delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput: |ops, req|
        ops.nothing_to_delete(&req.input.bucket).await.map(gone);
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, "ReplicationConfigurationNotFoundError").await;
    delete_bucket_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput: |ops, req|
        ops.nothing_to_delete(&req.input.bucket).await.map(gone);
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput: |ops, req|
        ops.not_configured(&req.input.bucket, "ServerSideEncryptionConfigurationNotFoundError").await;
    delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput: |ops, req|
        ops.nothing_to_delete(&req.input.bucket).await.map(gone);
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, "ObjectLockConfigurationNotFoundError").await;
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput: |ops, req|
        ops.no_locks(&req.input.bucket, &req.input.key).await;
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput: |ops, req|
        ops.no_locks(&req.input.bucket, &req.input.key).await;

    list_bucket_analytics_configurations(ListBucketAnalyticsConfigurationsInput)
        -> ListBucketAnalyticsConfigurationsOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await.map(|_| none_listed!(ListBucketAnalyticsConfigurationsOutput));
    get_bucket_analytics_configuration(GetBucketAnalyticsConfigurationInput)
        -> GetBucketAnalyticsConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
    delete_bucket_analytics_configuration(DeleteBucketAnalyticsConfigurationInput)
        -> DeleteBucketAnalyticsConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
    list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput)
        -> ListBucketIntelligentTieringConfigurationsOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await
            .map(|_| none_listed!(ListBucketIntelligentTieringConfigurationsOutput));
    get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput)
        -> GetBucketIntelligentTieringConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
    delete_bucket_intelligent_tiering_configuration(DeleteBucketIntelligentTieringConfigurationInput)
        -> DeleteBucketIntelligentTieringConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
    list_bucket_inventory_configurations(ListBucketInventoryConfigurationsInput)
        -> ListBucketInventoryConfigurationsOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await.map(|_| none_listed!(ListBucketInventoryConfigurationsOutput));
    get_bucket_inventory_configuration(GetBucketInventoryConfigurationInput)
        -> GetBucketInventoryConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
    delete_bucket_inventory_configuration(DeleteBucketInventoryConfigurationInput)
        -> DeleteBucketInventoryConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
    list_bucket_metrics_configurations(ListBucketMetricsConfigurationsInput)
        -> ListBucketMetricsConfigurationsOutput: |ops, req|
        ops.in_bucket(&req.input.bucket).await.map(|_| none_listed!(ListBucketMetricsConfigurationsOutput));
    get_bucket_metrics_configuration(GetBucketMetricsConfigurationInput)
        -> GetBucketMetricsConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
    delete_bucket_metrics_configuration(DeleteBucketMetricsConfigurationInput)
        -> DeleteBucketMetricsConfigurationOutput: |ops, req|
        ops.not_configured(&req.input.bucket, NO_REPORT).await;
}
