//! Multipart uploads: create, upload parts, list, complete, abort. Completing moves no bytes: it writes the manifest,
//! the list of the parts, and commits that.

pub(super) mod complete;

use crate::write::placement::UploadSpec;
use http::StatusCode;
use s3s::dto;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use shared::attributes::{Algorithm, Etag};
use shared::http::metadata::Described;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::PARTS_MAX;
use shared::manifest::Part;

use super::S3Operations;
use super::convert::{self, checksum, checksum_type, described, key_of, tags_of_header};
use super::error::{from_propose, from_reply, from_tables, not_implemented};
use super::objects::length;
use crate::change::unexpected;
use crate::s3::checksums::algorithms::{named, only_in_headers};
use crate::s3::checksums::body::DeclaredChecksums;
use crate::s3::request::unreadable_headers::{original_headers, trailers};
use crate::state::command::{Command, Outcome};
use crate::tables::upload::{self, PartRecord, UploadRecord, part_note};

pub fn upload_id(id: BlobId) -> String {
    id.to_string()
}

pub fn parse_id(text: &str) -> S3Result<BlobId> {
    text.parse().map_err(|_| S3ErrorCode::NoSuchUpload.into())
}

fn number_of(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|n| (1..=PARTS_MAX).contains(n));
    number.ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and {}, inclusive", PARTS_MAX)
    })
}

/// Returns the checksum algorithm of an upload, and whether the checksum is composite: computed over those
/// of the parts.
fn asked(
    algorithm: Option<&dto::ChecksumAlgorithm>,
    kind: Option<&dto::ChecksumType>,
) -> S3Result<Option<(Algorithm, bool)>> {
    let wanted = kind.map(dto::ChecksumType::as_str);
    let Some(algorithm) = algorithm else {
        return match wanted {
            None => Ok(None),
            Some(_) => Err(s3_error!(InvalidRequest, "x-amz-checksum-type needs x-amz-checksum-algorithm")),
        };
    };
    let known = named(algorithm.as_str());
    let known =
        known.ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))?;
    if only_in_headers(known) {
        return Err(not_implemented(format!(
            "{} is not supported in multipart uploads; use CRC32, CRC32C, CRC64NVME, SHA1 or SHA256",
            algorithm.as_str()
        )));
    }
    let composite = match (known, wanted) {
        (Algorithm::Crc64Nvme, Some("COMPOSITE"))
        | (Algorithm::Sha1 | Algorithm::Sha256, Some("FULL_OBJECT")) => {
            return Err(s3_error!(
                InvalidRequest,
                "The {} checksum type cannot be used with the {} checksum algorithm.",
                wanted.unwrap_or_default(),
                algorithm.as_str()
            ));
        }
        (_, Some("FULL_OBJECT")) | (Algorithm::Crc64Nvme, _) => false,
        _ => true,
    };
    Ok(Some((known, composite)))
}

impl S3Operations {
    pub(super) async fn begin(
        &self,
        req: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let described = described(original_headers(&req))?;
        let input = req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let checksum = asked(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let tags = tags_of_header(input.tagging.as_deref())?;
        self.in_bucket(&input.bucket).await?;
        self.keep_bucket(&key).await?;
        // The parts are kept together, on the volumes that the ring proposes now.
        let wanted = unconditional(key.clone(), None);
        let granted = self.writer.place_and_grant(&wanted, &[], false).map_err(from_reply)?;
        let copies = u8::try_from(self.config.replication.wanted()).unwrap_or(u8::MAX);
        let upload = UploadRecord {
            content_type: described.content_type,
            metadata: described.metadata,
            tags,
            checksum,
            volumes: granted.chain.iter().map(|v| v.volume).collect(),
            wanted: copies,
        };
        let id = granted.ticket.blob;
        match self
            .changes
            .submit(Command::CreateMultipartUpload { key, id, upload })
            .await
            .map_err(from_propose)?
        {
            Outcome::Done => {}
            Outcome::NoBucket => return Err(S3ErrorCode::NoSuchBucket.into()),
            other => return Err(from_reply(unexpected(&other))),
        }
        Ok(S3Response::new(dto::CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id(id)),
            checksum_algorithm: checksum.map(|(a, _)| convert::algorithm(a)),
            checksum_type: checksum.map(|(_, composite)| checksum_type(composite)),
            ..Default::default()
        }))
    }

    /// Reads the current record of an upload (a linearizable read).
    pub async fn upload(&self, key: &Key, id: &str) -> S3Result<(BlobId, UploadRecord)> {
        self.current().await?;
        let id = parse_id(id)?;
        let found = upload::read(&self.metadata.database.tree(), key, id).map_err(from_tables)?;
        found.map(|upload| (id, upload)).ok_or_else(|| S3ErrorCode::NoSuchUpload.into())
    }

    pub(super) async fn put_part(
        &self,
        mut req: S3Request<dto::UploadPartInput>,
    ) -> S3Result<S3Response<dto::UploadPartOutput>> {
        let (trailers, headers) = (trailers(&mut req), original_headers(&req).clone());
        let input = req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let number = number_of(input.part_number)?;
        let length = length(&headers, input.content_length)?;
        let (id, upload) = self.upload(&key, &input.upload_id).await?;
        let mut declared = DeclaredChecksums::from_headers(&headers, trailers, self.md5)?;
        declared.checksum = match (declared.checksum, upload.checksum) {
            (Some((given, _)), Some((wanted, _))) if given != wanted => {
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    crate::s3::checksums::algorithms::name(wanted).to_lowercase(),
                    crate::s3::checksums::algorithms::name(given).to_lowercase()
                ));
            }
            (Some(given), _) => Some(given),
            (None, wanted) => Some((wanted.map_or(Algorithm::Crc64Nvme, |(a, _)| a), None)),
        };
        let place = PartLocation { key, id, number };
        let part = self.store_part(&place, &upload, length, input.body, declared).await?;
        let sum = checksum(part.checksum.as_ref());
        Ok(S3Response::new(dto::UploadPartOutput {
            e_tag: Some(dto::ETag::Strong(part.tag())),
            checksum_crc32: sum.checksum_crc32,
            checksum_crc32c: sum.checksum_crc32c,
            checksum_crc64nvme: sum.checksum_crc64nvme,
            checksum_sha1: sum.checksum_sha1,
            checksum_sha256: sum.checksum_sha256,
            ..Default::default()
        }))
    }

    /// Stores a part, preferably on the volumes of the upload.
    pub async fn store_part(
        &self,
        place: &PartLocation,
        upload: &UploadRecord,
        length: Option<u64>,
        body: Option<dto::StreamingBlob>,
        declared: DeclaredChecksums,
    ) -> S3Result<Part> {
        let wanted =
            UploadSpec { prefer: upload.volumes.clone(), length, ..unconditional(place.key.clone(), None) };
        let note = Described { content_type: None, metadata: vec![part_note(place.id, place.number)] };
        let (durable, sums) = self.durable(&wanted, &note, body, declared).await?;
        let part = Part {
            number: place.number,
            blob: durable.blob,
            length: durable.proof.length,
            digest: durable.proof.digest,
            etag: sums.md5.filter(|_| self.md5).map(Etag::Md5),
            checksum: sums.checksum,
        };
        let command = Command::PutPart {
            key: place.key.clone(),
            upload: place.id,
            part: PartRecord { part: part.clone(), replicas: durable.proof.replicas },
            min_replicas: durable.min_replicas,
        };
        match self.changes.submit(command).await.map_err(from_propose)? {
            Outcome::Done => Ok(part),
            Outcome::NoUpload => Err(S3ErrorCode::NoSuchUpload.into()),
            Outcome::NotEnoughReceipts => Err(s3_error!(ServiceUnavailable, "Too few replicas are durable")),
            other => Err(from_reply(unexpected(&other))),
        }
    }

    pub(super) async fn abort(
        &self,
        input: dto::AbortMultipartUploadInput,
    ) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
        let key = key_of(&input.bucket, &input.key)?;
        let (upload, _) = self.upload(&key, &input.upload_id).await?;
        match self
            .changes
            .submit(Command::AbortMultipartUpload { key, upload })
            .await
            .map_err(from_propose)?
        {
            Outcome::Done => Ok(S3Response::with_status(Default::default(), StatusCode::NO_CONTENT)),
            Outcome::NoUpload => Err(S3ErrorCode::NoSuchUpload.into()),
            other => Err(from_reply(unexpected(&other))),
        }
    }
}

pub struct PartLocation {
    /// The key of the future object.
    pub key: Key,
    pub id: BlobId,
    pub number: u16,
}

impl PartLocation {
    pub fn new(key: Key, id: BlobId, number: i32) -> S3Result<Self> {
        Ok(Self { key, id, number: number_of(number)? })
    }
}

/// Returns the specification of an unconditional upload.
pub fn unconditional(key: Key, length: Option<u64>) -> UploadSpec {
    UploadSpec {
        key,
        length,
        digest: None,
        condition: Default::default(),
        prefer: Vec::new(),
        hops: 0,
        expires: None,
    }
}
