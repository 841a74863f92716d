//! Bucket settings that this store does not support. Reading returns what is true of every bucket, or the error of S3
//! for "not configured". Setting succeeds only if it changes nothing, and is refused otherwise: success never means
//! that a setting was ignored.

use s3s::dto::{self, ObjectOwnership, Payer};
use s3s::{S3Error, S3ErrorCode, S3Response, S3Result, s3_error};

use crate::s3::S3Operations;
use crate::s3::convert::{key_of, owner};
use crate::s3::error::{custom, not_implemented};
use crate::s3::request::supported::missing_feature;

/// Returns the error of an unsupported operation, which names the missing feature.
fn refused(operation: &str) -> S3Error {
    not_implemented(message(operation, missing_feature(operation).unwrap_or("such feature")))
}

/// Returns the error text for an operation that needs a missing feature.
pub fn message(operation: &str, needs: &str) -> String {
    format!("{operation} is not supported: this store has no {needs}")
}

impl S3Operations {
    /// Returns the error of S3 for "not configured"; the library lacks some codes, or gives them another status.
    pub(in crate::s3) async fn not_configured<T>(
        &self,
        bucket: &str,
        code: &'static str,
    ) -> S3Result<S3Response<T>> {
        self.in_bucket(bucket).await?;
        Err(custom(code, http::StatusCode::NOT_FOUND, "The bucket has no such configuration"))
    }

    /// Succeeds if the bucket exists: there is nothing to delete.
    pub(in crate::s3) async fn nothing_to_delete(&self, bucket: &str) -> S3Result<()> {
        self.in_bucket(bucket).await.map(drop)
    }

    pub(in crate::s3) async fn no_locks<T>(&self, bucket: &str, key: &str) -> S3Result<S3Response<T>> {
        self.object(bucket, &key_of(bucket, key)?).await?;
        Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"))
    }

    pub(in crate::s3) async fn location_of(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
        self.in_bucket(bucket).await?;
        // The location of us-east-1 is empty (S3 API reference, GetBucketLocation).
        let region = (!self.region_is_default()).then(|| self.region.clone());
        let location_constraint = Some(dto::BucketLocationConstraint::from(region.unwrap_or_default()));
        Ok(S3Response::new(dto::GetBucketLocationOutput { location_constraint }))
    }

    pub(in crate::s3) async fn bucket_acl(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetBucketAclOutput>> {
        self.in_bucket(bucket).await?;
        let (grants, owner) = (Some(self.grants()), Some(owner(&self.owner)));
        Ok(S3Response::new(dto::GetBucketAclOutput { grants, owner }))
    }

    pub(in crate::s3) async fn set_bucket_acl(&self, input: dto::PutBucketAclInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        self.refuse_acl_of(input.acl.is_some(), input.access_control_policy)
    }

    pub(in crate::s3) async fn object_acl(
        &self,
        input: dto::GetObjectAclInput,
    ) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
        self.version(input.version_id.as_deref())?;
        self.object(&input.bucket, &key_of(&input.bucket, &input.key)?).await?;
        let (grants, owner) = (Some(self.grants()), Some(owner(&self.owner)));
        Ok(S3Response::new(dto::GetObjectAclOutput { grants, owner, request_charged: None }))
    }

    pub(in crate::s3) async fn set_object_acl(&self, input: dto::PutObjectAclInput) -> S3Result<()> {
        self.object(&input.bucket, &key_of(&input.bucket, &input.key)?).await?;
        self.refuse_acl_of(input.acl.is_some(), input.access_control_policy)
    }

    /// Accepts `Suspended` only: objects have one version each, as in a bucket that never had versioning.
    pub(in crate::s3) async fn set_versioning(&self, input: dto::PutBucketVersioningInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let wanted = input.versioning_configuration;
        let deletes = wanted.mfa_delete.is_some_and(|mfa| mfa.as_str() != dto::MFADelete::DISABLED);
        match wanted.status.as_ref().map(dto::BucketVersioningStatus::as_str) {
            Some(dto::BucketVersioningStatus::SUSPENDED) if !deletes => Ok(()),
            Some(dto::BucketVersioningStatus::SUSPENDED | dto::BucketVersioningStatus::ENABLED) => {
                Err(refused("PutBucketVersioning"))
            }
            _ => Err(s3_error!(
                IllegalVersioningConfigurationException,
                "The Versioning element must be specified"
            )),
        }
    }

    pub(in crate::s3) async fn ownership(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetBucketOwnershipControlsOutput>> {
        self.in_bucket(bucket).await?;
        let enforced = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
        let rules = vec![dto::OwnershipControlsRule { object_ownership: enforced }];
        let ownership_controls = Some(dto::OwnershipControls { rules });
        Ok(S3Response::new(dto::GetBucketOwnershipControlsOutput { ownership_controls }))
    }

    pub(in crate::s3) async fn set_ownership(
        &self,
        input: dto::PutBucketOwnershipControlsInput,
    ) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        match &input.ownership_controls.rules[..] {
            [rule] if rule.object_ownership.as_str() == ObjectOwnership::BUCKET_OWNER_ENFORCED => Ok(()),
            [_] => Err(not_implemented(
                "PutBucketOwnershipControls: ACLs are not supported, so the owner of a bucket owns all its \
                 objects: use BucketOwnerEnforced",
            )),
            _ => Err(S3ErrorCode::MalformedXML.into()),
        }
    }

    /// Only `barge key anonymous` makes a bucket public: there are no ACLs and no bucket policies.
    pub(in crate::s3) async fn access_block(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetPublicAccessBlockOutput>> {
        let public = self.in_bucket(bucket).await?.public_read;
        let configuration = dto::PublicAccessBlockConfiguration {
            block_public_acls: Some(true),
            ignore_public_acls: Some(true),
            block_public_policy: Some(true),
            restrict_public_buckets: Some(!public),
        };
        let output =
            dto::GetPublicAccessBlockOutput { public_access_block_configuration: Some(configuration) };
        Ok(S3Response::new(output))
    }

    pub(in crate::s3) async fn set_access_block(
        &self,
        input: dto::PutPublicAccessBlockInput,
    ) -> S3Result<()> {
        let public = self.in_bucket(&input.bucket).await?.public_read;
        let wanted = input.public_access_block_configuration;
        let others = [wanted.block_public_acls, wanted.ignore_public_acls, wanted.block_public_policy];
        if others != [Some(true); 3] {
            return Err(not_implemented(
                "PutPublicAccessBlock: there are no ACLs and no bucket policies, so BlockPublicAcls, \
                 IgnorePublicAcls and BlockPublicPolicy must be true",
            ));
        }
        if wanted.restrict_public_buckets.unwrap_or(false) == public {
            return Err(not_implemented(
                "PutPublicAccessBlock: RestrictPublicBuckets is false while anyone may read the bucket; use \
                 `barge key anonymous` to change that",
            ));
        }
        Ok(())
    }

    pub(in crate::s3) async fn set_logging(&self, input: dto::PutBucketLoggingInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let asked = input.bucket_logging_status.logging_enabled.is_some();
        if asked { Err(refused("PutBucketLogging")) } else { Ok(()) }
    }

    pub(in crate::s3) async fn set_notification(
        &self,
        input: dto::PutBucketNotificationConfigurationInput,
    ) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let empty = input.notification_configuration == dto::NotificationConfiguration::default();
        if empty { Ok(()) } else { Err(refused("PutBucketNotificationConfiguration")) }
    }

    pub(in crate::s3) async fn payer(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetBucketRequestPaymentOutput>> {
        self.in_bucket(bucket).await?;
        let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
        Ok(S3Response::new(dto::GetBucketRequestPaymentOutput { payer }))
    }

    pub(in crate::s3) async fn set_payer(&self, input: dto::PutBucketRequestPaymentInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let owner = input.request_payment_configuration.payer.as_str() == Payer::BUCKET_OWNER;
        if owner { Ok(()) } else { Err(refused("PutBucketRequestPayment")) }
    }

    pub(in crate::s3) async fn set_acceleration(
        &self,
        input: dto::PutBucketAccelerateConfigurationInput,
    ) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let status = input.accelerate_configuration.status;
        let on = status.is_none_or(|s| s.as_str() != dto::BucketAccelerateStatus::SUSPENDED);
        if on { Err(refused("PutBucketAccelerateConfiguration")) } else { Ok(()) }
    }
}
