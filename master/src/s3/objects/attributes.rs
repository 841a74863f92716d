//! Properties of an object besides its bytes: attributes (`GetObjectAttributes`), tags and ACLs.

use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};
use shared::limits::LIST_LIMIT;

use crate::change::unexpected;
use crate::s3::S3Operations;
use crate::s3::convert::{STANDARD, Tagged, checksum, etag, key_of, modified, owner, tag_set, tags_of_set};
use crate::s3::error::{from_propose, from_reply, from_tables, invalid};
use crate::state::command::{Command, Outcome};
use crate::tables::object::Object;
use crate::tables::upload;

/// Attempts to change the tags of an object that is replaced meanwhile.
const ATTEMPTS: usize = 3;

impl S3Operations {
    pub(in crate::s3) async fn object_attributes(
        &self,
        req: S3Request<dto::GetObjectAttributesInput>,
    ) -> S3Result<S3Response<dto::GetObjectAttributesOutput>> {
        let input = req.input;
        self.version(input.version_id.as_deref())?;
        let key = key_of(&input.bucket, &input.key)?;
        let known = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
        let asked: Vec<_> = input
            .object_attributes
            .iter()
            .flat_map(|a| a.as_str().split(',').map(|t| t.trim().to_owned()))
            .filter(|a| !a.is_empty())
            .collect();
        if asked.is_empty() || asked.iter().any(|a| !known.contains(&a.as_str())) {
            return Err(invalid("Invalid attribute name specified."));
        }
        let object = self.object(&input.bucket, &key).await?;
        let wants = |name: &str| asked.iter().any(|a| a == name);
        let sum = object.attributes.checksum.as_ref().filter(|_| wants("Checksum"));
        let parts = if wants("ObjectParts") { self.parts_of(&object, &input)? } else { None };
        let output = dto::GetObjectAttributesOutput {
            e_tag: wants("ETag").then(|| etag(&object)),
            checksum: sum.map(|c| checksum(Some(c))),
            object_parts: parts,
            object_size: wants("ObjectSize").then(|| i64::try_from(object.size).ok()).flatten(),
            storage_class: wants("StorageClass").then(|| dto::StorageClass::from_static(STANDARD)),
            last_modified: Some(modified(object.generation)),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    fn parts_of(
        &self,
        object: &Object,
        input: &dto::GetObjectAttributesInput,
    ) -> S3Result<Option<dto::GetObjectAttributesParts>> {
        let Some(parts) = &object.parts else { return Ok(None) };
        let limit = usize::try_from(input.max_parts.unwrap_or(1000))
            .map_err(|_| invalid("Argument max-parts must be an integer between 0 and 2147483647"))?;
        let limit = limit.min(LIST_LIMIT);
        let marker = input.part_number_marker.unwrap_or(0);
        let after = u16::try_from(marker).unwrap_or(u16::MAX);
        // S3 lists parts only if they have checksums of their own.
        let composite = object.attributes.checksum.as_ref().filter(|c| c.composite.is_some());
        let (mut listed, mut truncated) = (Vec::new(), false);
        for (n, record) in (1u16..).zip(upload::parts(&self.metadata.database.tree(), parts.upload, 0)) {
            let part = record.map_err(from_tables)?.part;
            if n <= after {
                continue;
            }
            if listed.len() == limit {
                truncated = true;
                break;
            }
            let sum = checksum(part.checksum.as_ref());
            listed.push(dto::ObjectPart {
                part_number: Some(n.into()),
                size: i64::try_from(part.length).ok(),
                checksum_crc32: sum.checksum_crc32,
                checksum_crc32c: sum.checksum_crc32c,
                checksum_crc64nvme: sum.checksum_crc64nvme,
                checksum_sha1: sum.checksum_sha1,
                checksum_sha256: sum.checksum_sha256,
            });
        }
        let last = listed.last().and_then(|p| p.part_number);
        Ok(Some(dto::GetObjectAttributesParts {
            total_parts_count: Some(parts.count.into()),
            max_parts: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            part_number_marker: Some(marker),
            next_part_number_marker: last.or(Some(0)),
            is_truncated: Some(truncated),
            parts: (composite.is_some() && !listed.is_empty()).then_some(listed),
        }))
    }

    pub(in crate::s3) async fn tags(
        &self,
        input: dto::GetObjectTaggingInput,
    ) -> S3Result<S3Response<dto::GetObjectTaggingOutput>> {
        self.version(input.version_id.as_deref())?;
        let key = key_of(&input.bucket, &input.key)?;
        let object = self.object(&input.bucket, &key).await?;
        let tag_set = tag_set(&object.attributes.tags);
        Ok(S3Response::new(dto::GetObjectTaggingOutput { tag_set, version_id: None }))
    }

    pub(in crate::s3) async fn tag(
        &self,
        (bucket, key): (&str, &str),
        version: Option<&str>,
        set: dto::TagSet,
    ) -> S3Result<()> {
        self.version(version)?;
        let tags = tags_of_set(set, Tagged::Object)?;
        let key = key_of(bucket, key)?;
        for _ in 0..ATTEMPTS {
            let generation = self.object(bucket, &key).await?.generation;
            let command = Command::Tag { key: key.clone(), generation, tags: tags.clone() };
            match self.changes.submit(command).await.map_err(from_propose)? {
                Outcome::Done => return Ok(()),
                Outcome::NotFound => {}
                other => return Err(from_reply(unexpected(&other))),
            }
        }
        Err(s3_error!(OperationAborted, "The object was replaced repeatedly meanwhile; try again"))
    }

    /// Returns the only grant: full control for the owner. The actual permissions are those of the access keys.
    pub fn grants(&self) -> Vec<dto::Grant> {
        let owner = owner(&self.owner);
        let grantee = dto::Grantee {
            display_name: owner.display_name,
            id: owner.id,
            email_address: None,
            type_: dto::Type::from_static(dto::Type::CANONICAL_USER),
            uri: None,
        };
        let permission = Some(dto::Permission::from_static(dto::Permission::FULL_CONTROL));
        vec![dto::Grant { grantee: Some(grantee), permission }]
    }

    /// Accepts an ACL that changes nothing: full control for the owner, or a canned ACL that the guard admits.
    pub fn refuse_acl_of(&self, named: bool, policy: Option<dto::AccessControlPolicy>) -> S3Result<()> {
        let ours = |grant: &dto::Grant| {
            let full = grant.permission.as_ref().is_some_and(|p| p.as_str() == dto::Permission::FULL_CONTROL);
            let id = grant.grantee.as_ref().and_then(|g| g.id.as_ref());
            full && id == Some(&self.owner)
        };
        let same = match policy {
            None => named,
            Some(policy) => !named && policy.grants.is_some_and(|g| !g.is_empty() && g.iter().all(ours)),
        };
        crate::s3::refuse_acl((!same).then_some("other"))
    }
}
