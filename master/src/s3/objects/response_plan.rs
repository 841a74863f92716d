//! Plans the response to a GET or HEAD of an object: conditions, ranges, part numbers, and headers that
//! the client overrides.

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, EXPIRES, HeaderMap, HeaderName, HeaderValue, RANGE,
};
use http::{Method, StatusCode};
use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use shared::attributes::Checksum;
use shared::http::entity::{Entity, Piece, Plan};
use shared::range::ByteRange;

use crate::read;
use crate::s3::S3Operations;
use crate::s3::error::{custom, from_reply, from_tables, invalid};
use crate::tables::object::Object;
use crate::tables::upload;

impl S3Operations {
    /// Returns the status, the headers and the pieces of the body.
    pub fn plan_response(
        &self,
        object: &Object,
        method: &Method,
        request: &HeaderMap,
        wanted: &ResponseOptions,
    ) -> S3Result<PlannedResponse> {
        let tag = format!("\"{}\"", object.tag());
        let entity = Entity { etag: tag, ..read::entity(object) };
        let mut request = request.clone();
        // S3 supports one range, and ignores several (S3 API reference, GetObject).
        if request.get(RANGE).is_some_and(|range| range.as_bytes().contains(&b',')) {
            request.remove(RANGE);
        }
        if wanted.part.is_some() {
            if request.contains_key(RANGE) {
                return Err(s3_error!(
                    InvalidRequest,
                    "Cannot specify both Range header and partNumber query parameter"
                ));
            }
            request.remove(RANGE);
        }
        let mut plan = entity.answer(method, &request).map_err(from_reply)?;
        if plan.head.status() == StatusCode::NOT_MODIFIED {
            let mut unchanged = S3Error::new(S3ErrorCode::NotModified);
            unchanged.set_headers(std::mem::take(plan.head.headers_mut()));
            return Err(unchanged);
        }
        let part = match wanted.part {
            Some(part) => self.one_part(object, part, &mut plan)?,
            None => None,
        };
        let mut headers = std::mem::take(plan.head.headers_mut());
        if object.content_type.is_none() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("binary/octet-stream"));
        }
        if let Some(sum) = object.attributes.checksum.as_ref().filter(|_| wanted.sums) {
            if wanted.part.is_some() && object.parts.is_some() {
                // A part has a checksum of its own, of the same algorithm as that of the object.
                let part = part.filter(|part| part.algorithm == sum.algorithm);
                part.iter()
                    .for_each(|part| crate::s3::checksums::algorithms::show_part(part, sum, &mut headers));
            } else if wanted.part.is_some() || plan.head.status() == StatusCode::OK {
                crate::s3::checksums::algorithms::show(sum, &mut headers);
            }
        }
        if !object.attributes.tags.is_empty() {
            headers.insert("x-amz-tagging-count", object.attributes.tags.len().into());
        }
        Ok(PlannedResponse { plan, headers })
    }

    /// Narrows the plan to one part of the object (`partNumber`), and returns the checksum of the part.
    fn one_part(&self, object: &Object, number: i32, plan: &mut Plan) -> S3Result<Option<Checksum>> {
        let missing = || {
            custom(
                "InvalidPartNumber",
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The requested partnumber is not satisfiable",
            )
        };
        let wanted = u16::try_from(number).ok().filter(|n| *n > 0);
        let wanted = wanted.ok_or_else(|| {
            s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
        })?;
        let headers = plan.head.headers_mut();
        let Some(parts) = &object.parts else {
            if wanted != 1 {
                return Err(missing());
            }
            // An object that is not multipart is its own only part.
            if let Some(range) = ByteRange::whole(object.size) {
                let text = HeaderValue::from_str(&range.content_range(object.size));
                headers.insert(CONTENT_RANGE, text.map_err(|_| S3ErrorCode::InternalError)?);
                *plan.head.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            return Ok(None);
        };
        let (mut start, mut found) = (0, None);
        for (n, record) in (1..).zip(upload::parts(&self.metadata.database.tree(), parts.upload, 0)) {
            let record = record.map_err(from_tables)?;
            if n == wanted {
                found = Some(record);
                break;
            }
            start += record.part.length;
        }
        let record = found.ok_or_else(missing)?;
        let range = ByteRange::new(start, (start + record.part.length).saturating_sub(1), object.size);
        headers.insert(CONTENT_LENGTH, record.part.length.into());
        headers.insert("x-amz-mp-parts-count", parts.count.into());
        if let Some(range) = range {
            let text = HeaderValue::from_str(&range.content_range(object.size));
            headers.insert(CONTENT_RANGE, text.map_err(|_| S3ErrorCode::InternalError)?);
        }
        plan.pieces = range.map(Piece::Range).into_iter().collect();
        *plan.head.status_mut() = StatusCode::PARTIAL_CONTENT;
        Ok(record.part.checksum)
    }
}

pub fn range_of(headers: &HeaderMap) -> Option<String> {
    headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// Applies the `response-*` parameters of a GET to the headers.
pub fn overridden(input: &dto::GetObjectInput, headers: &mut HeaderMap) -> S3Result<()> {
    let texts = [
        (CONTENT_TYPE, &input.response_content_type),
        (CONTENT_LANGUAGE, &input.response_content_language),
        (CACHE_CONTROL, &input.response_cache_control),
        (CONTENT_DISPOSITION, &input.response_content_disposition),
        (CONTENT_ENCODING, &input.response_content_encoding),
    ];
    overridden_by(texts, headers)?;
    if input.response_expires.is_some() {
        // The library adds it.
        headers.remove(EXPIRES);
    }
    Ok(())
}

/// Replaces headers by the values that the client sent.
pub fn overridden_by(texts: [(HeaderName, &Option<String>); 5], headers: &mut HeaderMap) -> S3Result<()> {
    for (name, text) in texts {
        let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { continue };
        let value =
            HeaderValue::from_str(text).map_err(|_| invalid("A response-* parameter is not valid"))?;
        headers.insert(name, value);
    }
    Ok(())
}

/// Formats a time as an HTTP date.
pub fn date(at: &dto::Timestamp) -> S3Result<HeaderValue> {
    let mut text = Vec::new();
    at.format(dto::TimestampFormat::HttpDate, &mut text).map_err(|_| S3ErrorCode::InternalError)?;
    HeaderValue::from_bytes(&text).map_err(|_| S3ErrorCode::InternalError.into())
}

/// What the client asks for besides the value.
pub struct ResponseOptions {
    pub part: Option<i32>,
    pub sums: bool,
}

/// A response without its body.
pub struct PlannedResponse {
    /// The status, and the pieces of the body.
    pub plan: Plan,
    pub headers: HeaderMap,
}
