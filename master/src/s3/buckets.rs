//! Bucket operations: create, head, list, delete, and the settings for tags, CORS and lifecycle.

pub(super) mod listing;
pub(super) mod unsupported;
mod upload_page;

use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use shared::limits::SETTING_BYTES_MAX;
use shared::wire::error::ErrorCode;

use super::S3Operations;
use super::convert::{Tagged, owner, tag_set, tags_of_set, time};
use super::error::{custom, from_propose, from_reply, from_tables, not_implemented};
use crate::auth::Action;
use crate::change::unexpected;
use crate::s3::request::auth::caller;
use crate::state::command::{BucketSetting, Command, Outcome};
use crate::tables::bucket::{self, AbortRule, Bucket, CorsRule};
use crate::tables::meta;

/// Most rules in a CORS configuration (S3's limit) or lifecycle configuration (S3 permits 1,000).
const RULES_MAX: usize = 100;

/// Reserved prefixes of bucket names (S3 user guide, "Bucket naming rules").
const RESERVED_BEGINS: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
/// Reserved suffixes of bucket names.
const RESERVED_ENDS: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Attempts at a settings change when other changes come first: more than clients make at once.
const SETTING_TRIES: usize = 16;

impl S3Operations {
    pub(super) async fn create(
        &self,
        req: S3Request<dto::CreateBucketInput>,
    ) -> S3Result<S3Response<dto::CreateBucketOutput>> {
        let input = req.input;
        self.is_here(input.create_bucket_configuration)?;
        let reserved = RESERVED_BEGINS.iter().any(|b| input.bucket.starts_with(b))
            || RESERVED_ENDS.iter().any(|e| input.bucket.ends_with(e));
        if reserved {
            return Err(S3ErrorCode::InvalidBucketName.into());
        }
        let created = Bucket::new(self.config.clock.now());
        let command = Command::CreateBucket { name: input.bucket.clone(), bucket: created };
        match self.changes.submit(command).await.map_err(from_propose)? {
            Outcome::Done => {}
            // In us-east-1 this is no error, and clients of all kinds rely on it.
            Outcome::BucketExists if self.region_is_default() => {}
            Outcome::BucketExists => return Err(S3ErrorCode::BucketAlreadyOwnedByYou.into()),
            other => return Err(from_reply(unexpected(&other))),
        }
        let location = Some(format!("/{}", input.bucket));
        Ok(S3Response::new(dto::CreateBucketOutput { location }))
    }

    /// Refuses a location other than the configured region. Without one, any region is accepted, as in signatures.
    fn is_here(&self, configuration: Option<dto::CreateBucketConfiguration>) -> S3Result<()> {
        let Some(wanted) = configuration else { return Ok(()) };
        if wanted.bucket.is_some() || wanted.location.is_some() {
            return Err(not_implemented(
                "CreateBucketConfiguration: Bucket and Location are for directory buckets, which are not supported",
            ));
        }
        let region = wanted.location_constraint.as_ref().map(dto::BucketLocationConstraint::as_str);
        if let Some(ours) = &self.config.s3.region
            && region.is_some_and(|region| region != ours)
        {
            return Err(custom(
                "IllegalLocationConstraintException",
                http::StatusCode::BAD_REQUEST,
                format!("The location constraint must be {ours} on this endpoint, or left out"),
            ));
        }
        Ok(())
    }

    pub(super) async fn head_bucket(&self, name: &str) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        self.in_bucket(name).await?;
        let region = self.region.clone();
        Ok(S3Response::new(dto::HeadBucketOutput { bucket_region: Some(region), ..Default::default() }))
    }

    pub(super) async fn delete_bucket_named(&self, name: String) -> S3Result<()> {
        match self.changes.submit(Command::DeleteBucket { name }).await.map_err(from_propose)? {
            Outcome::Done => Ok(()),
            Outcome::BucketNotEmpty => {
                Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"))
            }
            Outcome::NoBucket => Err(S3ErrorCode::NoSuchBucket.into()),
            other => Err(from_reply(unexpected(&other))),
        }
    }

    pub(super) async fn buckets(
        &self,
        req: S3Request<dto::ListBucketsInput>,
    ) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        self.current().await?;
        let who = caller(&req);
        let input = req.input;
        let all = bucket::all(&self.metadata.database.tree()).map_err(from_tables)?;
        let begins = input.prefix.as_deref().unwrap_or_default();
        let after = input.continuation_token.as_deref().unwrap_or_default();
        let most = usize::try_from(input.max_buckets.unwrap_or(10_000)).unwrap_or(0);
        let mut shown: Vec<_> = all
            .into_iter()
            .filter(|(name, _)| bucket::is_name(name))
            .filter(|(name, _)| who.may(Action::Read, Some(name), None))
            .filter(|(name, _)| name.starts_with(begins) && name.as_str() > after)
            .filter(|_| input.bucket_region.as_ref().is_none_or(|wanted| *wanted == self.region))
            .collect();
        let more = shown.len() > most;
        shown.truncate(most);
        let next = more.then(|| shown.last().map(|(name, _)| name.clone())).flatten();
        let region = &self.region;
        let bucket = |(name, bucket): (String, Bucket)| dto::Bucket {
            name: Some(name),
            creation_date: Some(time(bucket.created)),
            bucket_region: Some(region.clone()),
        };
        Ok(S3Response::new(dto::ListBucketsOutput {
            buckets: Some(shown.into_iter().map(bucket).collect()),
            owner: Some(owner(&self.owner)),
            continuation_token: next,
            prefix: input.prefix,
        }))
    }

    /// Changes a setting of a bucket.
    pub async fn set(&self, name: String, setting: BucketSetting) -> S3Result<()> {
        if setting.weight() > SETTING_BYTES_MAX {
            let message =
                format!("A bucket setting is limited to {SETTING_BYTES_MAX} bytes; use fewer rules");
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
        }
        let change = Command::SetBucket { name, setting };
        match self.change(change).await? {
            Outcome::Done => Ok(()),
            Outcome::NoBucket => Err(S3ErrorCode::NoSuchBucket.into()),
            other => Err(from_reply(unexpected(&other))),
        }
    }

    /// Commits a change that follows the latest known one; retries when another change comes first.
    async fn change(&self, change: Command) -> S3Result<Outcome> {
        for _ in 0..SETTING_TRIES {
            let sequence = meta::sequence(&self.metadata.database.tree()).map_err(from_tables)?;
            match self.changes.submit_in_sequence(sequence, change.clone()).await {
                Err(e) if e.code == ErrorCode::Outdated => self.current().await?,
                changed => return changed.map_err(from_reply),
            }
        }
        Err(s3_error!(OperationAborted, "Too many settings changes are in progress. Try again."))
    }

    pub(super) async fn bucket_tags(&self, name: &str) -> S3Result<S3Response<dto::GetBucketTaggingOutput>> {
        let bucket = self.in_bucket(name).await?;
        if bucket.tags.is_empty() {
            return Err(s3_error!(NoSuchTagSet, "The TagSet does not exist"));
        }
        Ok(S3Response::new(dto::GetBucketTaggingOutput { tag_set: tag_set(&bucket.tags) }))
    }

    pub(super) async fn tag_bucket(&self, name: String, tags: dto::TagSet) -> S3Result<()> {
        let tags = tags_of_set(tags, Tagged::Bucket)?;
        self.set(name, BucketSetting::Tags(tags)).await
    }

    pub(super) async fn cors(&self, name: &str) -> S3Result<S3Response<dto::GetBucketCorsOutput>> {
        let bucket = self.in_bucket(name).await?;
        if bucket.cors.is_empty() {
            return Err(s3_error!(NoSuchCORSConfiguration, "The CORS configuration does not exist"));
        }
        let list = |texts: Vec<String>| (!texts.is_empty()).then_some(texts);
        let shown = |rule: CorsRule| dto::CORSRule {
            id: rule.id,
            allowed_origins: rule.origins,
            allowed_methods: rule.methods,
            allowed_headers: list(rule.headers),
            expose_headers: list(rule.exposed),
            max_age_seconds: rule.max_age_secs,
        };
        let rules = bucket.cors.into_iter().map(shown).collect();
        Ok(S3Response::new(dto::GetBucketCorsOutput { cors_rules: Some(rules) }))
    }

    pub(super) async fn set_cors(&self, name: String, configuration: dto::CORSConfiguration) -> S3Result<()> {
        let rules = configuration.cors_rules;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let taken = |rule: dto::CORSRule| {
            let known = ["GET", "PUT", "POST", "DELETE", "HEAD"];
            if let Some(method) = rule.allowed_methods.iter().find(|m| !known.contains(&m.as_str())) {
                return Err(s3_error!(
                    InvalidRequest,
                    "Found unsupported HTTP method in CORS config. Unsupported method is {}",
                    method
                ));
            }
            let headers = rule.allowed_headers.unwrap_or_default();
            if rule.allowed_origins.iter().chain(&headers).any(|text| text.matches('*').count() > 1) {
                return Err(s3_error!(
                    InvalidRequest,
                    "An origin or header can not have more than one wildcard"
                ));
            }
            if rule.allowed_origins.is_empty() || rule.allowed_methods.is_empty() {
                return Err(S3ErrorCode::MalformedXML.into());
            }
            Ok(CorsRule {
                id: rule.id,
                origins: rule.allowed_origins,
                methods: rule.allowed_methods,
                headers,
                exposed: rule.expose_headers.unwrap_or_default(),
                max_age_secs: rule.max_age_seconds,
            })
        };
        let rules = rules.into_iter().map(taken).collect::<S3Result<_>>()?;
        self.set(name, BucketSetting::Cors(rules)).await
    }

    pub(super) async fn lifecycle(
        &self,
        name: &str,
    ) -> S3Result<S3Response<dto::GetBucketLifecycleConfigurationOutput>> {
        let bucket = self.in_bucket(name).await?;
        if bucket.abort_uploads.is_empty() {
            return Err(s3_error!(
                NoSuchLifecycleConfiguration,
                "The lifecycle configuration does not exist"
            ));
        }
        let status = |enabled| if enabled { "Enabled" } else { "Disabled" };
        let shown = |rule: AbortRule| dto::LifecycleRule {
            id: rule.id,
            status: dto::ExpirationStatus::from_static(status(rule.enabled)),
            filter: Some(dto::LifecycleRuleFilter { prefix: Some(rule.prefix), ..Default::default() }),
            abort_incomplete_multipart_upload: Some(dto::AbortIncompleteMultipartUpload {
                days_after_initiation: i32::try_from(rule.days).ok(),
            }),
            expiration: None,
            noncurrent_version_expiration: None,
            noncurrent_version_transitions: None,
            prefix: None,
            transitions: None,
        };
        let rules = Some(bucket.abort_uploads.into_iter().map(shown).collect());
        Ok(S3Response::new(dto::GetBucketLifecycleConfigurationOutput { rules, ..Default::default() }))
    }

    pub(super) async fn set_lifecycle(
        &self,
        input: dto::PutBucketLifecycleConfigurationInput,
    ) -> S3Result<()> {
        let rules = input.lifecycle_configuration.map(|c| c.rules).unwrap_or_default();
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let rules = rules.into_iter().map(abort_rule).collect::<S3Result<_>>()?;
        self.set(input.bucket, BucketSetting::AbortUploads(rules)).await
    }
}

/// Converts a lifecycle rule. Only `AbortIncompleteMultipartUpload`, with an optional prefix, is supported.
fn abort_rule(rule: dto::LifecycleRule) -> S3Result<AbortRule> {
    let others = rule.expiration.is_some()
        || rule.transitions.is_some()
        || rule.noncurrent_version_expiration.is_some()
        || rule.noncurrent_version_transitions.is_some();
    let filter = rule.filter.unwrap_or_default();
    let narrow = filter.and.is_some()
        || filter.tag.is_some()
        || filter.object_size_greater_than.is_some()
        || filter.object_size_less_than.is_some();
    let Some(abort) = rule.abort_incomplete_multipart_upload.filter(|_| !others && !narrow) else {
        return Err(not_implemented(
            "Lifecycle rules support only AbortIncompleteMultipartUpload, with an optional prefix",
        ));
    };
    let days = abort.days_after_initiation.and_then(|d| u32::try_from(d).ok()).filter(|d| *d > 0);
    let days =
        days.ok_or_else(|| s3_error!(InvalidArgument, "DaysAfterInitiation must be a positive integer"))?;
    let enabled = match rule.status.as_str() {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(S3ErrorCode::MalformedXML.into()),
    };
    Ok(AbortRule { id: rule.id, enabled, prefix: filter.prefix.or(rule.prefix).unwrap_or_default(), days })
}
