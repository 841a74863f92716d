//! Listings of objects (V1 and V2), versions (each object has one), multipart uploads and parts. Every page begins
//! exactly where the last one ended, whatever was written in between.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::LIST_LIMIT;
use shared::work::blocking;

use crate::list::{Found, ListQuery, find};
use crate::s3::S3Operations;
use crate::s3::buckets::upload_page::{UploadPage, UploadQuery};
use crate::s3::convert::{
    NULL_VERSION, STANDARD, algorithm, checksum, checksum_type, etag, in_bucket, key_of, modified, owner,
};
use crate::s3::error::{from_tables, invalid};
use crate::s3::multipart::upload_id;
use crate::tables::object::Object;
use crate::tables::upload::{self, UploadRecord};

/// Characters that are percent-encoded when the client asks for `encoding-type=url`.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'*');

/// Prefix of a continuation token, before base64.
const TOKEN: &str = "after:";

/// How names are shown: percent-encoded or not.
#[derive(Clone, Copy)]
struct Names {
    encoded: bool,
}

impl Names {
    fn of(asked: Option<&dto::EncodingType>) -> S3Result<Self> {
        match asked.map(dto::EncodingType::as_str) {
            None => Ok(Self { encoded: false }),
            Some("url") => Ok(Self { encoded: true }),
            Some(_) => Err(invalid("Invalid Encoding Method specified in Request")),
        }
    }

    fn show(self, name: &str) -> String {
        if self.encoded { utf8_percent_encode(name, ENCODED).to_string() } else { name.to_owned() }
    }

    fn prefixes(self, bucket: &str, prefixes: &[String]) -> Option<Vec<dto::CommonPrefix>> {
        let rest = |prefix: &String| {
            prefix.strip_prefix(bucket).and_then(|p| p.strip_prefix('/')).map(|p| self.show(p))
        };
        let shown: Vec<_> = prefixes.iter().map(|p| dto::CommonPrefix { prefix: rest(p) }).collect();
        (!shown.is_empty()).then_some(shown)
    }
}

/// Parses `max-keys`, `max-parts` or `max-uploads`.
fn limit(asked: Option<i32>) -> S3Result<usize> {
    let asked = usize::try_from(asked.unwrap_or(1000));
    asked
        .map(|n| n.min(LIST_LIMIT))
        .map_err(|_| invalid("Argument maxKeys must be an integer between 0 and 2147483647"))
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

struct Page<'a> {
    bucket: &'a str,
    prefix: Option<&'a str>,
    delimiter: Option<&'a str>,
    /// Start after this key, or after all keys of this common prefix.
    after: Option<&'a str>,
    limit: usize,
}

impl S3Operations {
    async fn page(&self, page: Page<'_>) -> S3Result<Found> {
        self.in_bucket(page.bucket).await?;
        if page.limit == 0 {
            return Ok(Found::default());
        }
        let full = |rest: &str| format!("{}/{rest}", page.bucket);
        let query = ListQuery {
            prefix: full(page.prefix.unwrap_or_default()),
            start: page.after.filter(|a| !a.is_empty()).map(full),
            limit: page.limit,
            delimiter: page.delimiter.filter(|d| !d.is_empty()).map(str::to_owned),
        };
        let database = std::sync::Arc::clone(&self.metadata.database);
        // A scan blocks: it reads from disk what sled has not cached.
        blocking(move || find(&database.tree(), &query)).await.map_err(from_tables)
    }

    fn listed(&self, names: Names, (key, object): &(Key, Object), owned: bool) -> dto::Object {
        let sum = object.attributes.checksum.as_ref();
        dto::Object {
            key: Some(names.show(in_bucket(key))),
            e_tag: Some(etag(object)),
            last_modified: Some(modified(object.generation)),
            size: i64::try_from(object.size).ok(),
            storage_class: Some(dto::ObjectStorageClass::from_static(STANDARD)),
            owner: owned.then(|| owner(&self.owner)),
            checksum_algorithm: sum.map(|c| vec![algorithm(c.algorithm)]),
            checksum_type: sum.map(|c| checksum_type(c.composite.is_some())),
            ..Default::default()
        }
    }

    pub(in crate::s3) async fn list_v1(
        &self,
        req: S3Request<dto::ListObjectsInput>,
    ) -> S3Result<S3Response<dto::ListObjectsOutput>> {
        let input = req.input;
        let (names, limit) = (Names::of(input.encoding_type.as_ref())?, limit(input.max_keys)?);
        let page = Page {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref(),
            delimiter: input.delimiter.as_deref(),
            after: input.marker.as_deref(),
            limit,
        };
        let found = self.page(page).await?;
        let next = found.next.as_deref().and_then(|n| n.strip_prefix(&input.bucket)?.strip_prefix('/'));
        // Without a delimiter, clients continue with the last key (S3 API reference, ListObjects).
        let grouped = input.delimiter.as_ref().is_some_and(|d| !d.is_empty());
        Ok(S3Response::new(dto::ListObjectsOutput {
            is_truncated: Some(next.is_some()),
            next_marker: next.filter(|_| grouped).map(|n| names.show(n)),
            contents: Some(found.objects.iter().map(|o| self.listed(names, o, true)).collect()),
            common_prefixes: names.prefixes(&input.bucket, &found.prefixes),
            name: Some(input.bucket),
            prefix: Some(names.show(input.prefix.as_deref().unwrap_or_default())),
            marker: Some(names.show(input.marker.as_deref().unwrap_or_default())),
            max_keys: Some(count(limit)),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|d| names.show(&d)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(in crate::s3) async fn list_v2(
        &self,
        req: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        let input = req.input;
        let (names, limit) = (Names::of(input.encoding_type.as_ref())?, limit(input.max_keys)?);
        let token = input.continuation_token.as_deref().map(opened).transpose()?;
        let page = Page {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref(),
            delimiter: input.delimiter.as_deref(),
            after: token.as_deref().or(input.start_after.as_deref()),
            limit,
        };
        let found = self.page(page).await?;
        let next = found.next.as_deref().and_then(|n| n.strip_prefix(&input.bucket)?.strip_prefix('/'));
        let owned = input.fetch_owner == Some(true);
        Ok(S3Response::new(dto::ListObjectsV2Output {
            is_truncated: Some(next.is_some()),
            next_continuation_token: next.map(|n| BASE64.encode(format!("{TOKEN}{n}"))),
            key_count: Some(count(found.objects.len() + found.prefixes.len())),
            contents: Some(found.objects.iter().map(|o| self.listed(names, o, owned)).collect()),
            common_prefixes: names.prefixes(&input.bucket, &found.prefixes),
            name: Some(input.bucket),
            prefix: Some(names.show(input.prefix.as_deref().unwrap_or_default())),
            max_keys: Some(count(limit)),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|d| names.show(&d)),
            encoding_type: input.encoding_type,
            continuation_token: input.continuation_token,
            start_after: input.start_after.map(|s| names.show(&s)),
            request_charged: None,
        }))
    }

    pub(in crate::s3) async fn list_versions(
        &self,
        req: S3Request<dto::ListObjectVersionsInput>,
    ) -> S3Result<S3Response<dto::ListObjectVersionsOutput>> {
        let input = req.input;
        let (names, limit) = (Names::of(input.encoding_type.as_ref())?, limit(input.max_keys)?);
        let page = Page {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref(),
            delimiter: input.delimiter.as_deref(),
            after: input.key_marker.as_deref(),
            limit,
        };
        let found = self.page(page).await?;
        let next = found.next.as_deref().and_then(|n| n.strip_prefix(&input.bucket)?.strip_prefix('/'));
        let version = |object: &(Key, Object)| {
            let listed = self.listed(names, object, true);
            dto::ObjectVersion {
                key: listed.key,
                e_tag: listed.e_tag,
                last_modified: listed.last_modified,
                size: listed.size,
                owner: listed.owner,
                storage_class: Some(dto::ObjectVersionStorageClass::from_static(STANDARD)),
                is_latest: Some(true),
                version_id: Some(NULL_VERSION.to_owned()),
                checksum_algorithm: listed.checksum_algorithm,
                checksum_type: listed.checksum_type,
                ..Default::default()
            }
        };
        let versions: Vec<_> = found.objects.iter().map(version).collect();
        Ok(S3Response::new(dto::ListObjectVersionsOutput {
            is_truncated: Some(next.is_some()),
            next_key_marker: next.map(|n| names.show(n)),
            next_version_id_marker: next.map(|_| NULL_VERSION.to_owned()),
            versions: (!versions.is_empty()).then_some(versions),
            common_prefixes: names.prefixes(&input.bucket, &found.prefixes),
            name: Some(input.bucket),
            prefix: Some(names.show(input.prefix.as_deref().unwrap_or_default())),
            key_marker: Some(names.show(input.key_marker.as_deref().unwrap_or_default())),
            version_id_marker: input.version_id_marker,
            max_keys: Some(count(limit)),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|d| names.show(&d)),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    pub(in crate::s3) async fn list_uploads(
        &self,
        req: S3Request<dto::ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<dto::ListMultipartUploadsOutput>> {
        let input = req.input;
        let (names, limit) = (Names::of(input.encoding_type.as_ref())?, limit(input.max_uploads)?);
        self.in_bucket(&input.bucket).await?;
        let prefix = format!("{}/{}", input.bucket, input.prefix.as_deref().unwrap_or_default());
        let marker = input.key_marker.as_deref().filter(|m| !m.is_empty());
        let marker = marker.map(|m| format!("{}/{m}", input.bucket));
        let id =
            input.upload_id_marker.as_deref().filter(|_| marker.is_some()).and_then(|id| id.parse().ok());
        let delimiter = input.delimiter.as_deref().filter(|d| !d.is_empty());
        let wanted = UploadQuery { prefix, marker, id, delimiter: delimiter.map(str::to_owned), limit };
        let tree = self.metadata.database.tree();
        let UploadPage { uploads, prefixes, last, truncated } =
            blocking(move || wanted.page(&tree)).await.map_err(from_tables)?;
        let uploads = uploads.iter().map(|(key, id, upload)| self.begun(names, key, *id, upload)).collect();
        let next = last.filter(|_| truncated);
        let prefixes: Vec<_> = prefixes.into_iter().collect();
        Ok(S3Response::new(dto::ListMultipartUploadsOutput {
            is_truncated: Some(truncated),
            next_key_marker: next.as_ref().map(|(key, _)| names.show(&key[input.bucket.len() + 1..])),
            next_upload_id_marker: next.map(|(_, id)| upload_id(id)),
            uploads: Some(uploads),
            common_prefixes: names.prefixes(&input.bucket, &prefixes),
            bucket: Some(input.bucket),
            prefix: input.prefix.map(|p| names.show(&p)),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|d| names.show(&d)),
            key_marker: Some(names.show(input.key_marker.as_deref().unwrap_or_default())),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            max_uploads: Some(count(limit)),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    fn begun(&self, names: Names, key: &Key, id: BlobId, upload: &UploadRecord) -> dto::MultipartUpload {
        dto::MultipartUpload {
            key: Some(names.show(in_bucket(key))),
            upload_id: Some(upload_id(id)),
            initiated: Some(modified(id)),
            initiator: Some(dto::Initiator {
                display_name: Some("barge".to_owned()),
                id: Some(self.owner.clone()),
            }),
            owner: Some(owner(&self.owner)),
            storage_class: Some(dto::StorageClass::from_static(STANDARD)),
            checksum_algorithm: upload.checksum.map(|(a, _)| algorithm(a)),
            checksum_type: upload.checksum.map(|(_, composite)| checksum_type(composite)),
        }
    }

    pub(in crate::s3) async fn list_parts(
        &self,
        req: S3Request<dto::ListPartsInput>,
    ) -> S3Result<S3Response<dto::ListPartsOutput>> {
        let input = req.input;
        let key = key_of(&input.bucket, &input.key)?;
        let limit = limit(input.max_parts)?;
        let (id, upload) = self.upload(&key, &input.upload_id).await?;
        let marker = input.part_number_marker.unwrap_or(0);
        let after = u16::try_from(marker).map_err(|_| {
            s3_error!(InvalidArgument, "part-number-marker must be an integer between 0 and 2147483647")
        });
        let after = match after {
            Ok(after) => after,
            Err(_) if marker > 0 => u16::MAX,
            Err(e) => return Err(e),
        };
        let tree = self.metadata.database.tree();
        let mut parts = Vec::new();
        let mut truncated = false;
        for record in upload::parts(&tree, id, after) {
            if parts.len() == limit {
                truncated = limit > 0;
                break;
            }
            let part = record.map_err(from_tables)?.part;
            let sum = checksum(
                part.checksum.as_ref().filter(|c| upload.checksum.is_some_and(|(a, _)| a == c.algorithm)),
            );
            parts.push(dto::Part {
                part_number: Some(part.number.into()),
                e_tag: Some(dto::ETag::Strong(part.tag())),
                size: i64::try_from(part.length).ok(),
                last_modified: Some(modified(part.blob)),
                checksum_crc32: sum.checksum_crc32,
                checksum_crc32c: sum.checksum_crc32c,
                checksum_crc64nvme: sum.checksum_crc64nvme,
                checksum_sha1: sum.checksum_sha1,
                checksum_sha256: sum.checksum_sha256,
            });
        }
        let last = parts.last().and_then(|p| p.part_number);
        Ok(S3Response::new(dto::ListPartsOutput {
            next_part_number_marker: last.or(Some(0)),
            is_truncated: Some(truncated),
            parts: Some(parts),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            part_number_marker: Some(marker),
            max_parts: Some(count(limit)),
            storage_class: Some(dto::StorageClass::from_static(STANDARD)),
            owner: Some(owner(&self.owner)),
            initiator: Some(dto::Initiator {
                display_name: Some("barge".to_owned()),
                id: Some(self.owner.clone()),
            }),
            checksum_algorithm: upload.checksum.map(|(a, _)| algorithm(a)),
            checksum_type: upload.checksum.map(|(_, composite)| checksum_type(composite)),
            ..Default::default()
        }))
    }
}

/// Decodes a continuation token.
fn opened(token: &str) -> S3Result<String> {
    let refused = || invalid("The continuation token provided is incorrect");
    let bytes = BASE64.decode(token).map_err(|_| refused())?;
    let text = String::from_utf8(bytes).map_err(|_| refused())?;
    text.strip_prefix(TOKEN).map(str::to_owned).ok_or_else(refused)
}
