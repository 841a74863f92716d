//! Converts keys, times, entity tags, checksums, tags and owners between our types and those of S3. Makes
//! no other decisions.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};
use s3s::dto::{self, ETag};
use s3s::{S3ErrorCode, S3Result, s3_error};
use shared::attributes::{Algorithm, Checksum};
use shared::clock::Timestamp;
use shared::condition::{ConditionError, WriteCondition};
use shared::http::metadata::{Described, MetadataError};
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::{
    BUCKET_BYTES_MAX, BUCKET_TAGS_MAX, KEY_BYTES_MAX, TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX,
};

use super::error::{custom, from_key, invalid, not_implemented};
use crate::s3::checksums::algorithms::{encoded, name};
use crate::tables::object::Object;

pub const STANDARD: &str = "STANDARD";
/// The version id of every object, since there is no versioning.
pub const NULL_VERSION: &str = "null";

pub fn key_of(bucket: &str, key: &str) -> S3Result<Key> {
    if key.len() > KEY_BYTES_MAX - BUCKET_BYTES_MAX - 1 {
        return Err(S3ErrorCode::KeyTooLongError.into());
    }
    Key::new(&format!("{bucket}/{key}")).map_err(from_key)
}

/// Returns the part of a key after its bucket.
pub fn in_bucket(key: &Key) -> &str {
    key.as_str().split_once('/').map_or("", |(_, rest)| rest)
}

pub fn time(at: Timestamp) -> dto::Timestamp {
    (UNIX_EPOCH + Duration::from_millis(at.unix_ms())).into()
}

/// Returns when an object was stored, to the second, as in `Last-Modified`.
pub fn modified(id: BlobId) -> dto::Timestamp {
    (UNIX_EPOCH + Duration::from_secs(id.created().unix_ms() / 1000)).into()
}

pub fn etag(object: &Object) -> ETag {
    ETag::Strong(object.tag())
}

/// Returns the owner of everything: the cluster.
pub fn owner(cluster: &str) -> dto::Owner {
    dto::Owner { display_name: Some("barge".to_owned()), id: Some(cluster.to_owned()) }
}

pub fn checksum(checksum: Option<&Checksum>) -> dto::Checksum {
    let mut shown = dto::Checksum::default();
    let Some(found) = checksum else { return shown };
    let sum = encoded(&found.sum);
    let text = Some(match found.composite {
        Some(parts) => format!("{sum}-{parts}"),
        None => sum,
    });
    match found.algorithm {
        Algorithm::Crc32 => shown.checksum_crc32 = text,
        Algorithm::Crc32c => shown.checksum_crc32c = text,
        Algorithm::Crc64Nvme => shown.checksum_crc64nvme = text,
        Algorithm::Sha1 => shown.checksum_sha1 = text,
        Algorithm::Sha256 => shown.checksum_sha256 = text,
        // The library has no fields for the others: they go into headers.
        _ => {}
    }
    shown.checksum_type = Some(checksum_type(found.composite.is_some()));
    shown
}

/// Returns `COMPOSITE` (computed over the checksums of the parts) or `FULL_OBJECT`.
pub fn checksum_type(composite: bool) -> dto::ChecksumType {
    let kind = if composite { dto::ChecksumType::COMPOSITE } else { dto::ChecksumType::FULL_OBJECT };
    dto::ChecksumType::from_static(kind)
}

pub fn algorithm(algorithm: Algorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(name(algorithm))
}

/// Parses the condition of a write from its headers.
pub fn condition_of(headers: &HeaderMap) -> S3Result<WriteCondition> {
    match WriteCondition::tagged_from_headers(headers) {
        Err(e @ (ConditionError::NoneMatchTags | ConditionError::Both)) => {
            Err(not_implemented(e.to_string()))
        }
        Err(e) => Err(invalid(e.to_string())),
        Ok(condition) => Ok(condition),
    }
}

/// Reads content type and metadata from the headers of an upload.
pub fn described(headers: &HeaderMap) -> S3Result<Described> {
    let too_large =
        || s3_error!(MetadataTooLarge, "Your metadata headers exceed the maximum allowed metadata size");
    let mut described = Described::from_headers(headers).map_err(|e| match e {
        MetadataError::TooLarge => too_large(),
        _ => invalid(e.to_string()),
    })?;
    let own = |(name, value): &(String, String)| {
        name.strip_prefix("x-amz-meta-").map_or(0, |name| name.len() + value.len())
    };
    if described.metadata.iter().map(own).sum::<usize>() > METADATA_BYTES_MAX {
        return Err(too_large());
    }
    // `aws-chunked` is an encoding of the transfer, not of the object.
    let of_transfer = |coding: &str| coding.trim().eq_ignore_ascii_case("aws-chunked");
    for (_, value) in described.metadata.iter_mut().filter(|(name, _)| name == "content-encoding") {
        if value.split(',').any(of_transfer) {
            let kept = value.split(',').filter(|coding| !of_transfer(coding)).map(str::trim);
            *value = kept.filter(|coding| !coding.is_empty()).collect::<Vec<_>>().join(", ");
        }
    }
    described.metadata.retain(|(name, value)| name != "content-encoding" || !value.is_empty());
    Ok(described)
}

/// Most bytes of user metadata per object, without the `x-amz-meta-` prefixes (S3's limit).
const METADATA_BYTES_MAX: usize = 2 << 10;

/// Parses tags from `x-amz-tagging`: a query string.
pub fn tags_of_header(text: Option<&str>) -> S3Result<Vec<(String, String)>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(Vec::new()) };
    let decode = |part: &str| {
        let part = part.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&part).decode_utf8().map(|t| t.into_owned());
        decoded.map_err(|_| invalid("The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded"))
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    };
    let tags = text.split('&').map(pair).collect::<S3Result<Vec<_>>>()?;
    check_tags(&tags, Tagged::Object)?;
    Ok(tags)
}

pub fn tags_of_set(set: dto::TagSet, of: Tagged) -> S3Result<Vec<(String, String)>> {
    let pair = |tag: dto::Tag| match (tag.key, tag.value) {
        (Some(key), value) => Ok((key, value.unwrap_or_default())),
        (None, _) => Err(S3ErrorCode::MalformedXML.into()),
    };
    let tags = set.into_iter().map(pair).collect::<S3Result<Vec<_>>>()?;
    check_tags(&tags, of)?;
    Ok(tags)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagged {
    /// An object: at most `TAGS_MAX` tags.
    Object,
    /// A bucket: at most `BUCKET_TAGS_MAX` tags.
    Bucket,
}

fn check_tags(tags: &[(String, String)], of: Tagged) -> S3Result<()> {
    let (limit, whose) = match of {
        Tagged::Object => (TAGS_MAX, "Object tags"),
        Tagged::Bucket => (BUCKET_TAGS_MAX, "Bucket tag count"),
    };
    if tags.len() > limit {
        let message = format!("{whose} cannot be greater than {limit}");
        return Err(custom("BadRequest", StatusCode::BAD_REQUEST, message));
    }
    let mut names = std::collections::BTreeSet::new();
    for (name, value) in tags {
        if name.is_empty() || name.chars().count() > TAG_KEY_CHARS_MAX {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > TAG_VALUE_CHARS_MAX {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        let letters = |text: &str| {
            let fits = |c: char| c.is_alphanumeric() || c.is_whitespace() && !c.is_control();
            text.chars().all(|c| fits(c) || "+-=._:/@".contains(c))
        };
        if name.starts_with("aws:") || !letters(name) || !letters(value) {
            return Err(s3_error!(InvalidTag, "A tag has invalid characters or the reserved prefix aws:"));
        }
        if !names.insert(name) {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

pub fn tag_set(tags: &[(String, String)]) -> dto::TagSet {
    tags.iter().map(|(key, value)| dto::Tag { key: Some(key.clone()), value: Some(value.clone()) }).collect()
}
