//! Object operations: PUT, GET, HEAD and DELETE. A value is never held in memory: it streams to the first volume, and
//! from a volume to the client.

pub(super) mod attributes;
pub(super) mod copy;
pub(super) mod delete_many;
pub(super) mod post_form;
pub(super) mod response_plan;

use crate::write::placement::UploadSpec;
use http::Method;
use http::header::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES,
};
use s3s::dto::{self, StreamingBlob};
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use shared::attributes::{Algorithm, Attributes, Etag};
use shared::condition::WriteCondition;
use shared::http::metadata::Described;
use shared::key::Key;
use shared::limits::HOPS_MAX;
use shared::wire::master::CommitOutcome;

use super::S3Operations;
use super::convert::{self, checksum, condition_of, described, key_of, tags_of_header};
use super::error::{from_interrupted, from_propose, from_reply, from_tables};
use crate::change::unexpected;
use crate::read::ReadError;
use crate::s3::checksums::algorithms::{only_in_headers, show};
use crate::s3::checksums::body::{BodyChecksums, DeclaredChecksums, verify_body};
use crate::s3::objects::response_plan::{
    PlannedResponse, ResponseOptions, date, overridden, overridden_by, range_of,
};
use crate::s3::request::unreadable_headers::{original_headers, trailers};
use crate::state::command::{Command, Outcome, S3Commit};
use crate::tables::bucket;
use crate::tables::object::{self, Object, condition_holds};
use crate::write::durable::DurableBlob;
use crate::write::pipeline::{Frames, Source};

/// Largest body of a PutObject or UploadPart, in bytes (S3's limit).
pub const PUT_BYTES_MAX: u64 = 5 << 30;

impl S3Operations {
    /// Returns the bucket, or `NoSuchBucket`.
    pub async fn in_bucket(&self, name: &str) -> S3Result<bucket::Bucket> {
        self.current().await?;
        let found = bucket::read(&self.metadata.database.tree(), name).map_err(from_tables)?;
        found.ok_or_else(|| S3ErrorCode::NoSuchBucket.into())
    }

    /// Gives the bucket of a key a record before a write, so that the bucket stays: one that only native writes use
    /// disappears with its last value. Does nothing if the bucket does not exist.
    pub async fn keep_bucket(&self, key: &Key) -> S3Result<()> {
        let (tree, name) = (self.metadata.database.tree(), bucket::of(key).unwrap_or_default());
        if bucket::record(&tree, name).map_err(from_tables)?.is_none()
            && let Some(bucket) = bucket::read(&tree, name).map_err(from_tables)?
        {
            let command = Command::CreateBucket { name: name.to_owned(), bucket };
            self.changes.submit(command).await.map_err(from_propose)?;
        }
        Ok(())
    }

    /// Reads the current object of a key (a linearizable read).
    pub async fn object(&self, bucket: &str, key: &Key) -> S3Result<Object> {
        self.current().await?;
        let tree = self.metadata.database.tree();
        if let Some(object) = object::read(&tree, key).map_err(from_tables)? {
            return Ok(object);
        }
        let there = bucket::read(&tree, bucket).map_err(from_tables)?.is_some();
        Err(if there { S3ErrorCode::NoSuchKey } else { S3ErrorCode::NoSuchBucket }.into())
    }

    /// Refuses version ids other than `null`: objects have one version.
    pub fn version(&self, version: Option<&str>) -> S3Result<()> {
        match version {
            None | Some("" | convert::NULL_VERSION) => Ok(()),
            Some(_) => Err(s3_error!(NoSuchVersion, "Objects have only the version \"null\"")),
        }
    }

    /// Checks the condition of a write against the current object, to refuse it before the body is read.
    /// The commit decides.
    pub async fn may_write(&self, bucket: &str, key: &Key, condition: &WriteCondition) -> S3Result<()> {
        self.in_bucket(bucket).await?;
        if *condition == WriteCondition::None {
            return Ok(());
        }
        let current = object::read(&self.metadata.database.tree(), key).map_err(from_tables)?;
        if condition_holds(condition, current.as_ref()) {
            return Ok(());
        }
        Err(condition_error(condition, current.is_some()))
    }

    /// Streams a body to the volumes, verifies its checksums, and returns when its replicas are durable.
    pub async fn durable(
        &self,
        wanted: &UploadSpec,
        described: &Described,
        body: Option<StreamingBlob>,
        declared: DeclaredChecksums,
    ) -> S3Result<(DurableBlob, BodyChecksums)> {
        let body = body.unwrap_or_else(|| StreamingBlob::from(Body::empty()));
        let declared = DeclaredChecksums { length: wanted.length, ..declared };
        let refused = declared.refused;
        let frames = futures_util::StreamExt::map(body, move |frame| frame.map_err(|_| refused()));
        let (frames, verdict) = verify_body(frames, declared, &self.md5s);
        let stored = self.writer.write_replicas(wanted, described, Source::new(Frames::Stream(frames))).await;
        match stored {
            Ok(durable) => Ok((durable, verdict.sums())),
            Err(refusal) => Err(verdict.fault().unwrap_or_else(|| from_reply(refusal))),
        }
    }

    /// Commits a durable blob as the object of its key.
    pub async fn commit(&self, store: S3Commit) -> S3Result<CommitOutcome> {
        let condition = store.commit.condition.clone();
        self.keep_bucket(&store.commit.key).await?;
        let outcome = self.changes.submit(Command::CommitS3(Box::new(store))).await.map_err(from_propose)?;
        check_outcome(&outcome, &condition)
    }

    /// Commits a durable blob, with its tags and what was computed of its bytes, as the object of its key.
    pub async fn commit_object(
        &self,
        durable: &DurableBlob,
        (wanted, described): (&UploadSpec, &Described),
        sums: &BodyChecksums,
        tags: Vec<(String, String)>,
    ) -> S3Result<Attributes> {
        let attributes = self.attributes(sums, tags);
        let commit = durable.to_commit(wanted, described);
        self.commit(S3Commit { commit, attributes: attributes.clone() }).await?;
        Ok(attributes)
    }

    pub(super) async fn put(
        &self,
        mut req: S3Request<dto::PutObjectInput>,
    ) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let (trailers, headers) = (trailers(&mut req), original_headers(&req).clone());
        let input = req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let condition = condition_of(&headers)?;
        let described = described(&headers)?;
        let tags = tags_of_header(input.tagging.as_deref())?;
        let length = length(&headers, input.content_length)?;
        let mut declared = DeclaredChecksums::from_headers(&headers, trailers, self.md5)?;
        declared.checksum = declared.checksum.or(Some((Algorithm::Crc64Nvme, None)));
        self.may_write(&input.bucket, &key, &condition).await?;
        let wanted =
            UploadSpec { key, length, digest: None, condition, prefer: Vec::new(), hops: 0, expires: None };
        let (durable, sums) = self.durable(&wanted, &described, input.body, declared).await?;
        let attributes = self.commit_object(&durable, (&wanted, &described), &sums, tags).await?;
        let sum = checksum(attributes.checksum.as_ref());
        let output = dto::PutObjectOutput {
            e_tag: Some(dto::ETag::Strong(tag_of(&attributes, &durable))),
            checksum_crc32: sum.checksum_crc32,
            checksum_crc32c: sum.checksum_crc32c,
            checksum_crc64nvme: sum.checksum_crc64nvme,
            checksum_sha1: sum.checksum_sha1,
            checksum_sha256: sum.checksum_sha256,
            checksum_type: sum.checksum_type,
            ..Default::default()
        };
        let mut answer = S3Response::new(output);
        show_beyond(&attributes, &mut answer.headers);
        Ok(answer)
    }

    /// Returns the attributes of an object whose body has these checksums.
    fn attributes(&self, sums: &BodyChecksums, tags: Vec<(String, String)>) -> Attributes {
        let etag = sums.md5.filter(|_| self.md5).map(Etag::Md5);
        Attributes { etag, checksum: sums.checksum.clone(), tags }
    }

    pub(super) async fn get(
        &self,
        req: S3Request<dto::GetObjectInput>,
    ) -> S3Result<S3Response<dto::GetObjectOutput>> {
        let input = &req.input;
        self.version(input.version_id.as_deref())?;
        let key = key_of(&input.bucket, &input.key)?;
        for _ in 0..HOPS_MAX {
            let object = self.object(&input.bucket, &key).await?;
            let wanted = ResponseOptions { part: input.part_number, sums: input.checksum_mode.is_some() };
            let PlannedResponse { plan, mut headers } =
                self.plan_response(&object, &Method::GET, original_headers(&req), &wanted)?;
            let content_range = range_of(&headers);
            overridden(input, &mut headers)?;
            let opened = self.reader.open(&key, object, plan.pieces.into()).await;
            let body = match opened {
                Ok(body) => body,
                Err(ReadError::Gone) => continue,
                Err(e) => return Err(from_interrupted(&e)),
            };
            self.metrics.reads_streamed.inc();
            let body =
                Some(StreamingBlob::from(Body::http_body_unsync(crate::s3::request::body::Outgoing(body))));
            // With a range, the library sets the status to 206.
            let output = dto::GetObjectOutput { body, content_range, ..Default::default() };
            let mut answer = S3Response::new(output);
            answer.headers = headers;
            return Ok(answer);
        }
        Err(s3_error!(
            ServiceUnavailable,
            "The object was replaced repeatedly while it was being opened; try again"
        ))
    }

    pub(super) async fn head(
        &self,
        req: S3Request<dto::HeadObjectInput>,
    ) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        let input = &req.input;
        self.version(input.version_id.as_deref())?;
        let key = key_of(&input.bucket, &input.key)?;
        let object = self.object(&input.bucket, &key).await?;
        let wanted = ResponseOptions { part: input.part_number, sums: input.checksum_mode.is_some() };
        // Ranges apply to HEAD as well (S3 API reference, HeadObject).
        let PlannedResponse { mut headers, .. } =
            self.plan_response(&object, &Method::GET, original_headers(&req), &wanted)?;
        let content_range = range_of(&headers);
        overridden_by(
            [
                (CONTENT_TYPE, &input.response_content_type),
                (CONTENT_LANGUAGE, &input.response_content_language),
                (CACHE_CONTROL, &input.response_cache_control),
                (CONTENT_DISPOSITION, &input.response_content_disposition),
                (CONTENT_ENCODING, &input.response_content_encoding),
            ],
            &mut headers,
        )?;
        if let Some(expires) = &input.response_expires {
            headers.insert(EXPIRES, date(expires)?);
        }
        let mut answer = S3Response::new(dto::HeadObjectOutput { content_range, ..Default::default() });
        answer.headers = headers;
        Ok(answer)
    }

    pub(super) async fn delete_named(&self, req: S3Request<dto::DeleteObjectInput>) -> S3Result<()> {
        let condition = condition_of(original_headers(&req))?;
        let input = req.input;
        self.version(input.version_id.as_deref())?;
        let key = key_of(&input.bucket, &input.key)?;
        self.in_bucket(&input.bucket).await?;
        self.delete(key, condition).await
    }

    /// Deletes an object. Succeeds if the key has none, unless the condition requires one.
    pub async fn delete(&self, key: Key, condition: WriteCondition) -> S3Result<()> {
        let stated = condition.clone();
        if object::read(&self.metadata.database.tree(), &key).map_err(from_tables)?.is_some() {
            self.keep_bucket(&key).await?;
        }
        match self.changes.submit(Command::Delete { key, condition }).await.map_err(from_propose)? {
            Outcome::Deleted(_) => Ok(()),
            Outcome::NotFound if [WriteCondition::None, WriteCondition::Absent].contains(&stated) => Ok(()),
            Outcome::NotFound => Err(S3ErrorCode::NoSuchKey.into()),
            Outcome::ConditionFailed => Err(condition_error(&stated, true)),
            other => Err(from_reply(unexpected(&other))),
        }
    }
}

/// Converts the outcome of a commit for the client.
pub fn check_outcome(outcome: &Outcome, condition: &WriteCondition) -> S3Result<CommitOutcome> {
    match outcome {
        Outcome::Commit(outcome @ (CommitOutcome::Created | CommitOutcome::Replaced), _) => Ok(*outcome),
        Outcome::Commit(CommitOutcome::ConditionFailed, _) => Err(condition_error(condition, true)),
        Outcome::Commit(CommitOutcome::Overtaken, _) => {
            Err(s3_error!(ConditionalRequestConflict, "Another write of this key was committed first; retry"))
        }
        Outcome::Commit(CommitOutcome::NotEnoughReceipts, _) => {
            Err(s3_error!(ServiceUnavailable, "Too few replicas became durable; nothing was stored"))
        }
        Outcome::NoBucket => Err(S3ErrorCode::NoSuchBucket.into()),
        Outcome::NoUpload => Err(S3ErrorCode::NoSuchUpload.into()),
        other => Err(from_reply(unexpected(other))),
    }
}

pub fn condition_error(condition: &WriteCondition, exists: bool) -> S3Error {
    match condition {
        WriteCondition::Tagged(_) | WriteCondition::AnyPresent if !exists => S3ErrorCode::NoSuchKey.into(),
        _ => s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"),
    }
}

pub fn tag_of(attributes: &Attributes, durable: &DurableBlob) -> String {
    attributes.etag.map_or_else(|| durable.proof.digest.to_string(), |etag| etag.to_string())
}

/// Adds a checksum that the library has no field for to the headers.
pub fn show_beyond(attributes: &Attributes, headers: &mut HeaderMap) {
    let sum = attributes.checksum.as_ref().filter(|sum| only_in_headers(sum.algorithm));
    sum.iter().for_each(|sum| show(sum, headers));
}

/// Returns the declared length of a body; refuses more than `PUT_BYTES_MAX`.
pub fn length(headers: &HeaderMap, stated: Option<i64>) -> S3Result<Option<u64>> {
    // The length without chunk framing: Content-Length includes the framing, or is absent.
    let decoded = headers.get("x-amz-decoded-content-length").and_then(|v| v.to_str().ok()?.parse().ok());
    let length =
        decoded.or(stated).map(|n| u64::try_from(n).map_err(|_| S3ErrorCode::InvalidArgument)).transpose()?;
    if length.is_some_and(|n| n > PUT_BYTES_MAX) {
        return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
    }
    Ok(length)
}
