//! Settings of buckets that S3 has and this store does not: reading says what is so of every bucket here, or that nothing is
//! configured, in the words of S3. Setting is done where it says no more than that, and refused otherwise: never success for
//! what is not done.

use s3s::dto::{self, ObjectOwnership, Payer};
use s3s::{S3Error, S3ErrorCode, S3Response, S3Result, s3_error};

use super::Ops;
use super::convert::{key_of, owner};
use super::error::{custom, not_implemented};
use super::reference::needs;

/// Not this operation: what it would need.
fn refused(operation: &str) -> S3Error {
    not_implemented(message(operation, needs(operation).unwrap_or("what is not there")))
}

/// What is said of an operation that needs what is not there.
pub fn message(operation: &str, needs: &str) -> String {
    format!("{operation} is not done: this store has no {needs}")
}

impl Ops {
    /// S3's code for "not configured"; the library does not know some of them, or gives them another status.
    pub(super) async fn not_configured<T>(
        &self,
        bucket: &str,
        code: &'static str,
    ) -> S3Result<S3Response<T>> {
        self.in_bucket(bucket).await?;
        Err(custom(code, http::StatusCode::NOT_FOUND, "There is no such configuration"))
    }

    /// It is as if it had been deleted.
    pub(super) async fn nothing_to_delete(&self, bucket: &str) -> S3Result<()> {
        self.in_bucket(bucket).await.map(drop)
    }

    pub(super) async fn no_locks<T>(&self, bucket: &str, key: &str) -> S3Result<S3Response<T>> {
        self.object(bucket, &key_of(bucket, key)?).await?;
        Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"))
    }

    pub(super) async fn location_of(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
        self.in_bucket(bucket).await?;
        // S3's first region is none (S3 API reference, GetBucketLocation).
        let region = (!self.region_is_default()).then(|| self.region.clone());
        let location_constraint = Some(dto::BucketLocationConstraint::from(region.unwrap_or_default()));
        Ok(S3Response::new(dto::GetBucketLocationOutput { location_constraint }))
    }

    pub(super) async fn bucket_acl(&self, bucket: &str) -> S3Result<S3Response<dto::GetBucketAclOutput>> {
        self.in_bucket(bucket).await?;
        let (grants, owner) = (Some(self.grants()), Some(owner(&self.owner)));
        Ok(S3Response::new(dto::GetBucketAclOutput { grants, owner }))
    }

    pub(super) async fn set_bucket_acl(&self, input: dto::PutBucketAclInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        self.refuse_acl_of(input.acl.is_some(), input.access_control_policy)
    }

    pub(super) async fn object_acl(
        &self,
        input: dto::GetObjectAclInput,
    ) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
        self.version(input.version_id.as_deref())?;
        self.object(&input.bucket, &key_of(&input.bucket, &input.key)?).await?;
        let (grants, owner) = (Some(self.grants()), Some(owner(&self.owner)));
        Ok(S3Response::new(dto::GetObjectAclOutput { grants, owner, request_charged: None }))
    }

    pub(super) async fn set_object_acl(&self, input: dto::PutObjectAclInput) -> S3Result<()> {
        self.object(&input.bucket, &key_of(&input.bucket, &input.key)?).await?;
        self.refuse_acl_of(input.acl.is_some(), input.access_control_policy)
    }

    /// Objects have one version each, as in a bucket whose versioning is suspended before it was ever enabled.
    pub(super) async fn set_versioning(&self, input: dto::PutBucketVersioningInput) -> S3Result<()> {
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

    pub(super) async fn ownership(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetBucketOwnershipControlsOutput>> {
        self.in_bucket(bucket).await?;
        let enforced = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
        let rules = vec![dto::OwnershipControlsRule { object_ownership: enforced }];
        let ownership_controls = Some(dto::OwnershipControls { rules });
        Ok(S3Response::new(dto::GetBucketOwnershipControlsOutput { ownership_controls }))
    }

    pub(super) async fn set_ownership(&self, input: dto::PutBucketOwnershipControlsInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        match &input.ownership_controls.rules[..] {
            [rule] if rule.object_ownership.as_str() == ObjectOwnership::BUCKET_OWNER_ENFORCED => Ok(()),
            [_] => Err(not_implemented(
                "PutBucketOwnershipControls: there are no access lists, so the owner of a bucket owns all that is in it: \
                 BucketOwnerEnforced is the only ownership there is",
            )),
            _ => Err(S3ErrorCode::MalformedXML.into()),
        }
    }

    /// There are no access lists and no policies that could make something public; `barge key anonymous` alone does.
    pub(super) async fn access_block(
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

    pub(super) async fn set_access_block(&self, input: dto::PutPublicAccessBlockInput) -> S3Result<()> {
        let public = self.in_bucket(&input.bucket).await?.public_read;
        let wanted = input.public_access_block_configuration;
        let others = [wanted.block_public_acls, wanted.ignore_public_acls, wanted.block_public_policy];
        if others != [Some(true); 3] {
            return Err(not_implemented(
                "PutPublicAccessBlock: there are no access lists and no bucket policies that could be public, so \
                 BlockPublicAcls, IgnorePublicAcls and BlockPublicPolicy are always true",
            ));
        }
        if wanted.restrict_public_buckets.unwrap_or(false) == public {
            return Err(not_implemented(
                "PutPublicAccessBlock: RestrictPublicBuckets says whether anybody may read the bucket, and \
                 `barge key anonymous` alone changes that",
            ));
        }
        Ok(())
    }

    pub(super) async fn set_logging(&self, input: dto::PutBucketLoggingInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let asked = input.bucket_logging_status.logging_enabled.is_some();
        if asked { Err(refused("PutBucketLogging")) } else { Ok(()) }
    }

    pub(super) async fn set_notification(
        &self,
        input: dto::PutBucketNotificationConfigurationInput,
    ) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let empty = input.notification_configuration == dto::NotificationConfiguration::default();
        if empty { Ok(()) } else { Err(refused("PutBucketNotificationConfiguration")) }
    }

    pub(super) async fn payer(
        &self,
        bucket: &str,
    ) -> S3Result<S3Response<dto::GetBucketRequestPaymentOutput>> {
        self.in_bucket(bucket).await?;
        let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
        Ok(S3Response::new(dto::GetBucketRequestPaymentOutput { payer }))
    }

    pub(super) async fn set_payer(&self, input: dto::PutBucketRequestPaymentInput) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let owner = input.request_payment_configuration.payer.as_str() == Payer::BUCKET_OWNER;
        if owner { Ok(()) } else { Err(refused("PutBucketRequestPayment")) }
    }

    pub(super) async fn set_acceleration(
        &self,
        input: dto::PutBucketAccelerateConfigurationInput,
    ) -> S3Result<()> {
        self.in_bucket(&input.bucket).await?;
        let status = input.accelerate_configuration.status;
        let on = status.is_none_or(|s| s.as_str() != dto::BucketAccelerateStatus::SUSPENDED);
        if on { Err(refused("PutBucketAccelerateConfiguration")) } else { Ok(()) }
    }
}
