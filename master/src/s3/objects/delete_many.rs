//! DeleteObjects: deletes up to 1,000 objects, each independently and with a result of its own.

use futures_util::StreamExt;
use http::HeaderMap;
use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use shared::condition::WriteCondition;

use crate::auth::{Action, Caller};
use crate::s3::S3Operations;
use crate::s3::checksums::algorithms::ALGORITHMS;
use crate::s3::convert::key_of;
use crate::s3::error::not_implemented;
use crate::s3::request::auth::caller;

/// Most objects in one request (S3's limit).
const OBJECTS_MAX: usize = 1000;
const AT_ONCE: usize = 32;

impl S3Operations {
    pub(in crate::s3) async fn delete_many(
        &self,
        req: S3Request<dto::DeleteObjectsInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
        has_checksum(&req.headers)?;
        let who = caller(&req);
        let input = req.input;
        let objects = input.delete.objects;
        if objects.is_empty() || objects.len() > OBJECTS_MAX {
            return Err(s3_error!(MalformedXML, "A request must name 1 to {} objects", OBJECTS_MAX));
        }
        self.in_bucket(&input.bucket).await?;
        let bucket = input.bucket.as_str();
        let deletes = objects.into_iter().map(|object| {
            let who = &who;
            async move {
                let outcome = self.delete_one(bucket, &object, who).await;
                (object, outcome)
            }
        });
        let outcomes: Vec<_> = futures_util::stream::iter(deletes).buffered(AT_ONCE).collect().await;
        let quiet = input.delete.quiet == Some(true);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (object, outcome) in outcomes {
            match outcome {
                Ok(()) if quiet => {}
                Ok(()) => deleted.push(dto::DeletedObject {
                    key: Some(object.key),
                    version_id: object.version_id,
                    ..Default::default()
                }),
                Err(error) => errors.push(dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(object.key),
                    version_id: object.version_id,
                }),
            }
        }
        let some = |list: Vec<_>| (!list.is_empty()).then_some(list);
        Ok(S3Response::new(dto::DeleteObjectsOutput {
            deleted: (!deleted.is_empty()).then_some(deleted),
            errors: some(errors),
            request_charged: None,
        }))
    }

    async fn delete_one(
        &self,
        bucket: &str,
        object: &dto::ObjectIdentifier,
        who: &Caller,
    ) -> Result<(), S3Error> {
        if !who.may(Action::Write, Some(bucket), Some(&object.key)) {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        self.version(object.version_id.as_deref())?;
        if object.size.is_some() || object.last_modified_time.is_some() {
            return Err(not_implemented("DeleteObjects supports conditions on ETag only"));
        }
        let key = key_of(bucket, &object.key)?;
        let condition = match &object.e_tag {
            Some(tag) => WriteCondition::Tagged(vec![tag.value().to_owned()]),
            None => WriteCondition::None,
        };
        self.delete(key, condition).await
    }
}

/// S3 requires a checksum, so that a corrupt request deletes nothing. `documents` has verified it.
fn has_checksum(headers: &HeaderMap) -> S3Result<()> {
    let given = headers.contains_key("content-md5")
        || ALGORITHMS.iter().any(|(_, header, _)| headers.contains_key(*header));
    if given {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        "Missing required header for this request: Content-MD5 or x-amz-checksum-*",
    ))
}
