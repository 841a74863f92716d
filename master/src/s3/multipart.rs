//! Uploads in parts: begun, filled, listed, completed, given up. Completing moves no byte: it writes the manifest, a list of
//! the parts, and commits that.

use http::StatusCode;
use s3s::dto;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use shared::attributes::{Algorithm, Etag};
use shared::http::metadata::Described;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::PARTS_MAX;
use shared::manifest::Part;

use super::Ops;
use super::algorithms::{named, only_in_headers};
use super::convert::{self, checksum, checksum_type, described, key_of, tags_of_header};
use super::error::{from_propose, from_reply, from_tables, not_implemented};
use super::lenient::{came, trailers};
use super::objects::length;
use super::sums::Declared;
use crate::change::unexpected;
use crate::state::command::{Command, Outcome};
use crate::tables::upload::{self, PartRecord, Upload, part_note};
use crate::write::feed::{Wanted, grant};

/// What S3 calls an upload id.
pub fn upload_id(id: BlobId) -> String {
    id.to_string()
}

/// An upload id that a client sent.
pub fn parse_id(text: &str) -> S3Result<BlobId> {
    text.parse().map_err(|_| S3ErrorCode::NoSuchUpload.into())
}

fn number_of(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|n| (1..=PARTS_MAX).contains(n));
    number.ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and {}, inclusive", PARTS_MAX)
    })
}

/// The checksum of an upload, and whether that of the whole is made of those of the parts.
fn asked(
    algorithm: Option<&dto::ChecksumAlgorithm>,
    kind: Option<&dto::ChecksumType>,
) -> S3Result<Option<(Algorithm, bool)>> {
    let wanted = kind.map(dto::ChecksumType::as_str);
    let Some(algorithm) = algorithm else {
        return match wanted {
            None => Ok(None),
            Some(_) => Err(s3_error!(InvalidRequest, "A checksum type needs a checksum algorithm")),
        };
    };
    let known = named(algorithm.as_str());
    let known =
        known.ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))?;
    if only_in_headers(known) {
        return Err(not_implemented(format!(
            "{} is computed of objects in one piece; of uploads in parts CRC32, CRC32C, CRC64NVME, SHA1 and SHA256 are",
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

impl Ops {
    pub(super) async fn begin(
        &self,
        req: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let described = described(came(&req))?;
        let input = req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let checksum = asked(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let tags = tags_of_header(input.tagging.as_deref())?;
        self.in_bucket(&input.bucket).await?;
        self.keep_bucket(&key).await?;
        // Where the ring would put them now is where they go together.
        let wanted = plain(key.clone(), None);
        let granted = grant(&self.master, &wanted, &[], false).map_err(from_reply)?;
        let copies = u8::try_from(self.master.config.replication.wanted()).unwrap_or(u8::MAX);
        let upload = Upload {
            content_type: described.content_type,
            metadata: described.metadata,
            tags,
            checksum,
            volumes: granted.chain.iter().map(|v| v.volume).collect(),
            wanted: copies,
        };
        let id = granted.ticket.blob;
        match self.master.change(Command::BeginUpload { key, id, upload }).await.map_err(from_propose)? {
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

    /// The upload, as of now.
    pub async fn upload(&self, key: &Key, id: &str) -> S3Result<(BlobId, Upload)> {
        self.current().await?;
        let id = parse_id(id)?;
        let found = upload::read(&self.master.database.tree(), key, id).map_err(from_tables)?;
        found.map(|upload| (id, upload)).ok_or_else(|| S3ErrorCode::NoSuchUpload.into())
    }

    pub(super) async fn put_part(
        &self,
        mut req: S3Request<dto::UploadPartInput>,
    ) -> S3Result<S3Response<dto::UploadPartOutput>> {
        let (trailers, headers) = (trailers(&mut req), came(&req).clone());
        let input = req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let number = number_of(input.part_number)?;
        let length = length(&headers, input.content_length)?;
        let (id, upload) = self.upload(&key, &input.upload_id).await?;
        let mut declared = Declared::from_headers(&headers, trailers, self.md5)?;
        declared.checksum = match (declared.checksum, upload.checksum) {
            (Some((given, _)), Some((wanted, _))) if given != wanted => {
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    super::algorithms::name(wanted).to_lowercase(),
                    super::algorithms::name(given).to_lowercase()
                ));
            }
            (Some(given), _) => Some(given),
            (None, wanted) => Some((wanted.map_or(Algorithm::Crc64Nvme, |(a, _)| a), None)),
        };
        let place = Place { key, id, number };
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

    /// Stores a part where the others are.
    pub async fn store_part(
        &self,
        place: &Place,
        upload: &Upload,
        length: Option<u64>,
        body: Option<dto::StreamingBlob>,
        declared: Declared,
    ) -> S3Result<Part> {
        let wanted = Wanted { prefer: upload.volumes.clone(), length, ..plain(place.key.clone(), None) };
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
        match self.master.change(command).await.map_err(from_propose)? {
            Outcome::Done => Ok(part),
            Outcome::NoUpload => Err(S3ErrorCode::NoSuchUpload.into()),
            Outcome::PartsChanged => Err(s3_error!(ServiceUnavailable, "Too few copies became durable")),
            other => Err(from_reply(unexpected(&other))),
        }
    }

    pub(super) async fn abort(
        &self,
        input: dto::AbortMultipartUploadInput,
    ) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
        let key = key_of(&input.bucket, &input.key)?;
        let (upload, _) = self.upload(&key, &input.upload_id).await?;
        match self.master.change(Command::Abort { key, upload }).await.map_err(from_propose)? {
            Outcome::Done => Ok(S3Response::with_status(Default::default(), StatusCode::NO_CONTENT)),
            Outcome::NoUpload => Err(S3ErrorCode::NoSuchUpload.into()),
            other => Err(from_reply(unexpected(&other))),
        }
    }
}

/// A part of an upload.
pub struct Place {
    /// The key of the object to be.
    pub key: Key,
    pub id: BlobId,
    pub number: u16,
}

impl Place {
    pub fn new(key: Key, id: BlobId, number: i32) -> S3Result<Self> {
        Ok(Self { key, id, number: number_of(number)? })
    }
}

/// A value of that key, without a condition.
pub fn plain(key: Key, length: Option<u64>) -> Wanted {
    Wanted { key, length, digest: None, condition: Default::default(), prefer: Vec::new(), hops: 0 }
}
