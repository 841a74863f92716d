//! CompleteMultipartUpload: the listed parts become one object. No bytes of them move; only their list, the
//! manifest, is written.

use crate::write::placement::UploadSpec;
use futures_util::StreamExt;
use http::header::{HOST, HeaderMap};
use md5::{Digest as _, Md5};
use s3s::dto;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use shared::attributes::{Algorithm, Attributes, Checksum, Etag};
use shared::condition::WriteCondition;
use shared::http::metadata::Described;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::{OBJECT_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX};
use shared::manifest::{Manifest, Part};
use shared::wire::error::ErrorReply;

use crate::s3::S3Operations;
use crate::s3::checksums::algorithms::{Hasher, decoded, joined, sum_bytes};
use crate::s3::convert;
use crate::s3::convert::{checksum, condition_of, key_of};
use crate::s3::error::{from_propose, from_reply, from_tables};
use crate::s3::multipart::{parse_id, unconditional};
use crate::s3::objects::check_outcome;
use crate::s3::request::unreadable_headers::original_headers;
use crate::state::command::{Command, Outcome, S3Commit};
use crate::tables::object::{self, Expiry, Object, Parts};
use crate::tables::upload::{self, PartRecord, UploadRecord, manifest_note};
use crate::write::pipeline::{Frames, Source};

/// Attempts at a completion when parts are replaced meanwhile.
const COMPLETE_ATTEMPTS: usize = 3;

impl S3Operations {
    pub(in crate::s3) async fn complete(
        &self,
        req: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
        let input = &req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let condition = condition_of(original_headers(&req))?;
        let listed = input.multipart_upload.as_ref().and_then(|m| m.parts.clone()).unwrap_or_default();
        if listed.is_empty() || listed.iter().any(|part| part.part_number.is_none()) {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        let location = self.location(&req.headers, &key);
        for _ in 0..COMPLETE_ATTEMPTS {
            let (id, upload) = match self.upload(&key, &input.upload_id).await {
                Ok(found) => found,
                Err(e) => {
                    let done = self.completed_before(&key, &input.upload_id, &listed)?;
                    return done.map(|object| completed(input, &object, location)).ok_or(e);
                }
            };
            self.may_write(&input.bucket, &key, &condition).await?;
            let parts = self.select_parts(id, &upload, &listed)?;
            let attributes = self.combined_attributes(&parts, &upload, input)?;
            let numbers: Vec<_> = parts.iter().map(|p| p.number).collect();
            let manifest = Manifest { upload: id, attributes: attributes.clone(), parts };
            let size = manifest.size();
            if size > OBJECT_BYTES_MAX {
                return Err(S3ErrorCode::EntityTooLarge.into());
            }
            if input.mpu_object_size.is_some_and(|stated| u64::try_from(stated) != Ok(size)) {
                return Err(s3_error!(
                    InvalidRequest,
                    "The provided 'x-amz-mp-object-size' header does not match the sum of the parts"
                ));
            }
            let store = self.write_manifest(&key, &upload, &condition, manifest).await?;
            let made = made(id, &numbers, &store);
            self.keep_bucket(&key).await?;
            let command = Command::CompleteMultipartUpload { upload: id, numbers, store: Box::new(store) };
            match self.changes.submit(command.clone()).await.map_err(from_propose)? {
                Outcome::PartsChanged => continue,
                Outcome::CompletedBefore(object) => return Ok(completed(input, &object, location)),
                outcome => drop(check_outcome(&outcome, &condition)?),
            }
            return Ok(completed(input, &made, location));
        }
        Err(s3_error!(InvalidPart, "Parts were replaced while the upload was completed; try again"))
    }

    /// Returns the object that an earlier completion of this upload created, if it is still current and has
    /// the listed parts.
    fn completed_before(
        &self,
        key: &Key,
        id: &str,
        listed: &[dto::CompletedPart],
    ) -> S3Result<Option<Object>> {
        let id = parse_id(id)?;
        let object = object::read_stored(&self.metadata.database.tree(), key).map_err(from_tables)?;
        let Some(object) = object.filter(|o| o.parts.as_ref().is_some_and(|p| p.upload == id)) else {
            return Ok(None);
        };
        let parts: Vec<PartRecord> = upload::parts(&self.metadata.database.tree(), id, 0)
            .collect::<Result<_, _>>()
            .map_err(from_tables)?;
        let is = |(item, record): (&dto::CompletedPart, &PartRecord)| {
            let tag = item.e_tag.as_ref().is_none_or(|tag| tag.value() == record.part.tag());
            item.part_number == Some(record.part.number.into()) && tag
        };
        let same = parts.len() == listed.len() && listed.iter().zip(&parts).all(is);
        Ok(same.then_some(object))
    }

    /// Returns the current parts that the client lists, in its order.
    fn select_parts(
        &self,
        id: BlobId,
        upload: &UploadRecord,
        listed: &[dto::CompletedPart],
    ) -> S3Result<Vec<Part>> {
        let tree = self.metadata.database.tree();
        let stored: Vec<PartRecord> =
            upload::parts(&tree, id, 0).collect::<Result<_, _>>().map_err(from_tables)?;
        let mut chosen: Vec<Part> = Vec::with_capacity(listed.len());
        for (n, item) in listed.iter().enumerate() {
            let invalid = || s3_error!(InvalidPart, "One or more of the specified parts could not be found.");
            let number = u16::try_from(item.part_number.unwrap_or(0)).map_err(|_| invalid())?;
            if chosen.last().is_some_and(|last| last.number >= number) {
                return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
            }
            let found = stored.binary_search_by_key(&number, |r| r.part.number).map_err(|_| invalid())?;
            let part = stored[found].part.clone();
            if item.e_tag.as_ref().is_some_and(|tag| tag.value() != part.tag()) || !sums_agree(item, &part)? {
                return Err(invalid());
            }
            if n + 1 < listed.len() && part.length < PART_BYTES_MIN {
                return Err(s3_error!(
                    EntityTooSmall,
                    "Your proposed upload is smaller than the minimum allowed size"
                ));
            }
            let composite = upload.checksum.filter(|(_, composite)| *composite);
            if composite.is_some() && !has_sum(item) {
                return Err(s3_error!(
                    InvalidRequest,
                    "The upload was created using a checksum algorithm. The complete request must include the checksum for each part."
                ));
            }
            chosen.push(part);
        }
        Ok(chosen)
    }

    /// Returns the attributes of the object: entity tag, checksum and tags.
    fn combined_attributes(
        &self,
        parts: &[Part],
        upload: &UploadRecord,
        input: &dto::CompleteMultipartUploadInput,
    ) -> S3Result<Attributes> {
        let sums: Option<Vec<[u8; 16]>> = parts
            .iter()
            .map(|p| match p.etag {
                Some(Etag::Md5(sum)) => Some(sum),
                _ => None,
            })
            .collect();
        let count = u16::try_from(parts.len()).unwrap_or(PARTS_MAX);
        let etag = sums.map(|sums| Etag::Parts(Md5::digest(sums.concat()).into(), count));
        let (algorithm, composite) = upload.checksum.unwrap_or((Algorithm::Crc64Nvme, false));
        let checksum = full_object_checksum(parts, algorithm, composite, count);
        let declared = crate::s3::declared_sum(input)?;
        if let (Some((given, text)), Some(found)) = (&declared, &checksum) {
            // With the number of parts appended, as in responses, or without.
            let (bare, parts) = text.split_once('-').map_or((text.as_str(), None), |(sum, n)| (sum, Some(n)));
            let same = *given == found.algorithm
                && parts.is_none_or(|n| found.composite.is_some_and(|parts| n == parts.to_string()))
                && decoded(bare.as_bytes(), sum_bytes(*given)).as_ref() == Some(&found.sum);
            if !same {
                return Err(s3_error!(
                    BadDigest,
                    "The checksum you specified did not match what we received."
                ));
            }
        }
        Ok(Attributes { etag, checksum, tags: upload.tags.clone() })
    }

    /// Makes the manifest durable and returns the commit.
    async fn write_manifest(
        &self,
        key: &Key,
        upload: &UploadRecord,
        condition: &WriteCondition,
        manifest: Manifest,
    ) -> S3Result<S3Commit> {
        let bytes = manifest.encode();
        let described =
            Described { content_type: upload.content_type.clone(), metadata: upload.metadata.clone() };
        let mut noted = described.clone();
        noted.metadata.push(manifest_note());
        let wanted = UploadSpec {
            prefer: upload.volumes.clone(),
            condition: condition.clone(),
            ..unconditional(key.clone(), Some(bytes.len() as u64))
        };
        let frames = futures_util::stream::iter([Ok::<_, ErrorReply>(bytes.into())]).boxed();
        let durable = self.writer.write_replicas(&wanted, &noted, Source::new(Frames::Stream(frames))).await;
        let commit = durable.map_err(from_reply)?.to_commit(&wanted, &described);
        Ok(S3Commit { commit, attributes: manifest.attributes })
    }

    /// Returns the URL of an object, at the host that the client used.
    pub fn location(&self, headers: &HeaderMap, key: &Key) -> String {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        let host = headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let bucket = key.as_str().split('/').next().unwrap_or_default();
        let domain = self.config.s3.domain.as_deref();
        let before =
            domain.is_some_and(|d| crate::s3::request::virtual_host::bucket_before(d, host) == Some(bucket));
        let path = key.to_path();
        let path = if before { path.get(bucket.len() + 1..).unwrap_or_default() } else { &path };
        format!("{scheme}://{host}{path}")
    }
}

/// Returns the completed object, with only the fields that the response shows.
fn made(upload: BlobId, numbers: &[u16], store: &S3Commit) -> Object {
    let commit = &store.commit;
    let count = u16::try_from(numbers.len()).unwrap_or(PARTS_MAX);
    Object {
        generation: commit.blob,
        size: 0,
        digest: commit.digest,
        content_type: None,
        metadata: Vec::new(),
        wanted: commit.wanted,
        blobs: Vec::new(),
        attributes: store.attributes.clone(),
        parts: Some(Parts { upload, count, under_replicated: false, full_replicas: Vec::new() }),
        expiry: Expiry::default(),
    }
}

fn has_sum(item: &dto::CompletedPart) -> bool {
    item.checksum_crc32.is_some()
        || item.checksum_crc32c.is_some()
        || item.checksum_crc64nvme.is_some()
        || item.checksum_sha1.is_some()
        || item.checksum_sha256.is_some()
}

/// Returns whether the listed checksums of a part match the stored one.
fn sums_agree(item: &dto::CompletedPart, part: &Part) -> S3Result<bool> {
    let listed = [
        (Algorithm::Crc32, &item.checksum_crc32),
        (Algorithm::Crc32c, &item.checksum_crc32c),
        (Algorithm::Crc64Nvme, &item.checksum_crc64nvme),
        (Algorithm::Sha1, &item.checksum_sha1),
        (Algorithm::Sha256, &item.checksum_sha256),
    ];
    for (algorithm, text) in listed {
        let Some(text) = text else { continue };
        let sum = decoded(text.as_bytes(), sum_bytes(algorithm));
        let sum = sum.ok_or_else(|| s3_error!(InvalidRequest, "A checksum of a part is malformed"))?;
        match &part.checksum {
            Some(found) if found.algorithm == algorithm => {
                if found.sum != sum {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Returns the checksum of a multipart object; none if a part has no checksum of this algorithm.
fn full_object_checksum(
    parts: &[Part],
    algorithm: Algorithm,
    composite: bool,
    count: u16,
) -> Option<Checksum> {
    let sums: Option<Vec<(&[u8], u64)>> = parts
        .iter()
        .map(|p| {
            p.checksum.as_ref().filter(|c| c.algorithm == algorithm).map(|c| (c.sum.as_slice(), p.length))
        })
        .collect();
    let sums = sums?;
    if composite {
        let mut hasher = Hasher::new(algorithm);
        sums.iter().for_each(|(sum, _)| hasher.update(sum));
        return Some(Checksum { algorithm, composite: Some(count), sum: hasher.finish() });
    }
    Some(Checksum { algorithm, composite: None, sum: joined(algorithm, &sums)? })
}

fn completed(
    input: &dto::CompleteMultipartUploadInput,
    object: &Object,
    location: String,
) -> S3Response<dto::CompleteMultipartUploadOutput> {
    let sum = checksum(object.attributes.checksum.as_ref());
    S3Response::new(dto::CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        location: Some(location),
        e_tag: Some(convert::etag(object)),
        checksum_crc32: sum.checksum_crc32,
        checksum_crc32c: sum.checksum_crc32c,
        checksum_crc64nvme: sum.checksum_crc64nvme,
        checksum_sha1: sum.checksum_sha1,
        checksum_sha256: sum.checksum_sha256,
        checksum_type: sum.checksum_type,
        ..Default::default()
    })
}
