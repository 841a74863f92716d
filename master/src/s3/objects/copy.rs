//! CopyObject and UploadPartCopy. The bytes stream from a volume through this master to the volumes of the new blob:
//! never through the client, and never more than a few frames in memory.

use crate::write::placement::UploadSpec;
use http::header::{HeaderMap, HeaderName};
use s3s::dto::{self, CopySource, StreamingBlob};
use s3s::{Body, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use shared::attributes::Algorithm;
use shared::condition::{ReadConditions, ReadVerdict};
use shared::http::entity::Piece;
use shared::http::metadata::Described;
use shared::key::Key;
use shared::limits::HOPS_MAX;
use shared::range::ByteRange;

use crate::auth::Action;
use crate::read::ReadError;
use crate::s3::S3Operations;
use crate::s3::checksums::algorithms::named;
use crate::s3::checksums::body::DeclaredChecksums;
use crate::s3::convert;
use crate::s3::convert::{checksum, condition_of, described, key_of, tags_of_header};
use crate::s3::error::{from_interrupted, invalid, not_implemented};
use crate::s3::multipart::PartLocation;
use crate::s3::objects::{PUT_BYTES_MAX, tag_of};
use crate::s3::request::unreadable_headers::original_headers;
use crate::tables::object::Object;

/// Headers with conditions on the source, in the order of `ReadConditions::from_named`.
static SOURCE_CONDITIONS: [HeaderName; 4] = [
    HeaderName::from_static("x-amz-copy-source-if-match"),
    HeaderName::from_static("x-amz-copy-source-if-none-match"),
    HeaderName::from_static("x-amz-copy-source-if-modified-since"),
    HeaderName::from_static("x-amz-copy-source-if-unmodified-since"),
];

fn source_conditions(headers: &HeaderMap) -> S3Result<ReadConditions> {
    let names = SOURCE_CONDITIONS.each_ref();
    ReadConditions::check_tags(headers, [names[0], names[1]]).map_err(|e| invalid(e.to_string()))?;
    Ok(ReadConditions::from_named(headers, names))
}

/// Checks the conditions on the source (S3: `x-amz-copy-source-if-*`).
fn check(conditions: &ReadConditions, object: &Object) -> S3Result<()> {
    let tag = format!("\"{}\"", object.tag());
    match conditions.evaluate(&tag, object.generation.created()) {
        ReadVerdict::Proceed => Ok(()),
        ReadVerdict::NotModified | ReadVerdict::Failed => Err(s3_error!(
            PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold"
        )),
    }
}

struct Opened {
    object: Object,
    body: StreamingBlob,
    length: u64,
}

impl S3Operations {
    /// Returns the source's bucket and key if the caller may read it.
    fn source<'s, T>(&self, req: &S3Request<T>, source: &'s CopySource) -> S3Result<(&'s str, Key)> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(not_implemented("Access points are not supported; name the source as bucket/key"));
        };
        self.version(version_id.as_deref())?;
        crate::s3::request::auth::may(req, Action::Read, bucket, Some(key))?;
        Ok((bucket, key_of(bucket, key)?))
    }

    async fn open(
        &self,
        (bucket, key): (&str, &Key),
        conditions: &ReadConditions,
        range: Option<&str>,
    ) -> S3Result<Opened> {
        for _ in 0..HOPS_MAX {
            let object = self.object(bucket, key).await?;
            check(conditions, &object)?;
            let range = match range {
                Some(text) => Some(exact(text, object.size)?),
                None => ByteRange::whole(object.size),
            };
            let length = range.map_or(0, |r| r.len());
            if length > PUT_BYTES_MAX {
                return Err(s3_error!(
                    InvalidRequest,
                    "The specified copy source is larger than the maximum allowable size for a copy source: {}",
                    PUT_BYTES_MAX
                ));
            }
            let pieces = range.map(Piece::Range).into_iter().collect();
            match self.reader.open(key, object.clone(), pieces).await {
                Ok(body) => {
                    let body = Body::http_body_unsync(crate::s3::request::body::Outgoing(body));
                    return Ok(Opened { object, body: StreamingBlob::from(body), length });
                }
                Err(ReadError::Gone) => {}
                Err(e) => return Err(from_interrupted(&e)),
            }
        }
        Err(s3_error!(
            ServiceUnavailable,
            "The source was replaced repeatedly while it was being opened; try again"
        ))
    }

    pub(in crate::s3) async fn copy(
        &self,
        req: S3Request<dto::CopyObjectInput>,
    ) -> S3Result<S3Response<dto::CopyObjectOutput>> {
        let input = &req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let (bucket, source) = self.source(&req, &input.copy_source)?;
        let replace = directive(input.metadata_directive.as_ref().map(dto::MetadataDirective::as_str))?;
        let retag = directive(input.tagging_directive.as_ref().map(dto::TaggingDirective::as_str))?;
        if source == key && !replace {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let condition = condition_of(original_headers(&req))?;
        self.may_write(&input.bucket, &key, &condition).await?;
        let conditions = source_conditions(original_headers(&req))?;
        let Opened { object, body, length } = self.open((bucket, &source), &conditions, None).await?;
        let described = if replace { described(original_headers(&req))? } else { kept(&object) };
        let tags =
            if retag { tags_of_header(input.tagging.as_deref())? } else { object.attributes.tags.clone() };
        let same = object.attributes.checksum.as_ref().map_or(Algorithm::Crc64Nvme, |c| c.algorithm);
        let algorithm = match &input.checksum_algorithm {
            Some(name) => named(name.as_str()).ok_or(S3ErrorCode::InvalidRequest)?,
            None => same,
        };
        let wanted = UploadSpec {
            key,
            length: Some(length),
            digest: None,
            condition,
            prefer: Vec::new(),
            hops: 0,
            expires: None,
        };
        let declared = DeclaredChecksums::plain(Some(algorithm), self.md5);
        let (durable, sums) = self.durable(&wanted, &described, Some(body), declared).await?;
        let attributes = self.commit_object(&durable, (&wanted, &described), &sums, tags).await?;
        let sum = checksum(attributes.checksum.as_ref());
        let result = dto::CopyObjectResult {
            e_tag: Some(dto::ETag::Strong(tag_of(&attributes, &durable))),
            last_modified: Some(convert::modified(durable.blob)),
            checksum_crc32: sum.checksum_crc32,
            checksum_crc32c: sum.checksum_crc32c,
            checksum_crc64nvme: sum.checksum_crc64nvme,
            checksum_sha1: sum.checksum_sha1,
            checksum_sha256: sum.checksum_sha256,
            checksum_type: sum.checksum_type,
        };
        Ok(S3Response::new(dto::CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }

    pub(in crate::s3) async fn copy_part(
        &self,
        req: S3Request<dto::UploadPartCopyInput>,
    ) -> S3Result<S3Response<dto::UploadPartCopyOutput>> {
        let input = &req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let (bucket, source) = self.source(&req, &input.copy_source)?;
        let (id, upload) = self.upload(&key, &input.upload_id).await?;
        let place = PartLocation::new(key, id, input.part_number)?;
        let conditions = source_conditions(original_headers(&req))?;
        let range = input.copy_source_range.as_deref();
        let Opened { body, length, .. } = self.open((bucket, &source), &conditions, range).await?;
        let algorithm = upload.checksum.map_or(Algorithm::Crc64Nvme, |(a, _)| a);
        let declared = DeclaredChecksums::plain(Some(algorithm), self.md5);
        let part = self.store_part(&place, &upload, Some(length), Some(body), declared).await?;
        let sum = checksum(part.checksum.as_ref());
        let result = dto::CopyPartResult {
            e_tag: Some(dto::ETag::Strong(part.tag())),
            last_modified: Some(convert::modified(part.blob)),
            checksum_crc32: sum.checksum_crc32,
            checksum_crc32c: sum.checksum_crc32c,
            checksum_crc64nvme: sum.checksum_crc64nvme,
            checksum_sha1: sum.checksum_sha1,
            checksum_sha256: sum.checksum_sha256,
        };
        Ok(S3Response::new(dto::UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..Default::default()
        }))
    }
}

/// Returns whether a directive is `REPLACE`.
fn directive(text: Option<&str>) -> S3Result<bool> {
    match text {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "A directive must be COPY or REPLACE")),
    }
}

/// Parses the range of a part copy: `bytes=first-last`, within the source.
fn exact(text: &str, size: u64) -> S3Result<ByteRange> {
    let invalid = || {
        s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy"
        )
    };
    let (first, last) = text.strip_prefix("bytes=").and_then(|r| r.split_once('-')).ok_or_else(invalid)?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten().ok_or_else(invalid)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last || last >= size {
        return Err(s3_error!(
            InvalidRange,
            "Range specified is not valid for source object of size: {}",
            size
        ));
    }
    ByteRange::new(first, last, size).ok_or_else(invalid)
}

/// Returns content type and metadata that a copy keeps from its source.
fn kept(object: &Object) -> Described {
    Described { content_type: object.content_type.clone(), metadata: object.metadata.clone() }
}
