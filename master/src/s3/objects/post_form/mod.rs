//! Uploads by an HTML form (S3 API reference, PostObject): fields, a signed policy, and a file, which is streamed.
//! The library would hold the file in memory.

mod policy;

use crate::write::placement::UploadSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use multer::{Constraints, Field, Multipart, SizeLimit};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use sha2::Sha256;
use shared::attributes::hex;
use shared::condition::WriteCondition;
use shared::http::body::{self, Body};
use shared::key::encode_query;
use shared::limits::BLOB_BYTES_MAX;

use crate::auth::{Action, Caller};
use crate::config::S3Settings;
use crate::s3::S3Operations;
use crate::s3::checksums::body::{DeclaredChecksums, verify_body};
use crate::s3::convert::{Tagged, described, key_of, tags_of_set};
use crate::s3::documents::xml;
use crate::s3::error::{custom, from_reply, from_tables, invalid, not_implemented};
use crate::s3::objects::{show_beyond, tag_of};
use crate::s3::request::body::{BodyFault, incoming};
use crate::s3::request::context::RequestContext;
use crate::s3::request::guard::SIGNING;
use crate::s3::request::guard::known::{field, is_sum};
use crate::s3::request::presigned_headers;
use crate::s3::request::supported::{Support, header};
use crate::write::pipeline::{Frames, Source};
use policy::Policy;

/// Most bytes of all fields before the file (S3's limit).
const FIELDS_BYTES_MAX: usize = 20 << 10;
/// Most bytes before the file, framing included.
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 100;
/// Headers that a form may set by fields.
const HEADERS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];

/// The fields of a form, by lower-case name, and its file.
struct Form {
    fields: BTreeMap<String, String>,
    file: Field<'static>,
}

fn malformed(e: &multer::Error) -> S3Error {
    match e {
        multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => custom(
            "MaxPostPreDataLengthExceeded",
            StatusCode::BAD_REQUEST,
            "Your POST request fields preceding the upload file were too large.",
        ),
        _ => s3_error!(
            MalformedPOSTRequest,
            "The body of your POST request is not well-formed multipart/form-data."
        ),
    }
}

impl Form {
    async fn read(kind: &str, head: &Parts, body: Incoming, fault: &BodyFault) -> S3Result<Self> {
        let boundary = multer::parse_boundary(kind).map_err(|e| malformed(&e))?;
        let found = Arc::new(AtomicBool::new(false));
        let stream = frames_of(incoming(head, body, fault), Arc::clone(&found));
        let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(u64::MAX));
        let mut parts = Multipart::with_constraints(stream, boundary, limits);
        let (mut fields, mut bytes) = (BTreeMap::new(), 0);
        while let Some(mut field) = parts.next_field().await.map_err(|e| malformed(&e))? {
            let name = field.name().unwrap_or_default().to_ascii_lowercase();
            if name == "file" {
                found.store(true, Ordering::Release);
                return Ok(Self { fields, file: field });
            }
            bytes += name.len();
            if fields.len() >= FIELDS_MAX {
                return Err(malformed(&multer::Error::FieldSizeExceeded { limit: 0, field_name: None }));
            }
            let mut value = Vec::new();
            while let Some(chunk) = field.chunk().await.map_err(|e| malformed(&e))? {
                bytes += chunk.len();
                if bytes > FIELDS_BYTES_MAX {
                    return Err(malformed(&multer::Error::FieldSizeExceeded { limit: 0, field_name: None }));
                }
                value.extend_from_slice(&chunk);
            }
            let value = String::from_utf8(value).map_err(|_| invalid("A field of the form is not UTF-8"))?;
            // The policy checks one value per field: it must not be ambiguous which one counts.
            if fields.insert(name, value.clone()).is_some_and(|before| before != value) {
                return Err(invalid("A field of the form appears twice, with different values"));
            }
        }
        Err(invalid("POST requires exactly one file upload per request."))
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Refuses fields that are not supported, by name.
    fn known(&self, settings: &S3Settings) -> S3Result<()> {
        let asking = self.fields.iter().filter(|(name, _)| name.starts_with(presigned_headers::PREFIX));
        let mut asking = asking.filter(|(name, _)| !SIGNING.iter().any(|n| n.eq_ignore_ascii_case(name)));
        asking.try_for_each(|(name, value)| {
            let taken = name.starts_with("x-amz-meta-") || is_sum(name);
            let asks = matches!(header(name, settings.noop), Some(Support::Done | Support::By(_)));
            if asks && !taken {
                return Err(not_implemented(format!(
                    "{name} is not supported as a form field; leave it out"
                )));
            }
            field(settings, name, value)
        })
    }

    fn headers(&self) -> S3Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            let wanted = HEADERS.contains(&name.as_str()) || name.starts_with("x-amz-meta-") || is_sum(name);
            if wanted {
                let header: HeaderName =
                    name.parse().map_err(|_| invalid("A field's name is not a header"))?;
                let value = HeaderValue::from_bytes(value.as_bytes());
                headers.insert(header, value.map_err(|_| invalid("A field's value is not a header value"))?);
            }
        }
        Ok(headers)
    }
}

/// Returns the frames of a form's body: one at a time, since the parser gathers all that is ready, and only the first
/// `HEAD_BYTES_MAX` or so until the file is found.
fn frames_of(
    body: s3s::Body,
    found: Arc<AtomicBool>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    use http_body_util::BodyExt;
    let state = (body.into_data_stream(), found, 0usize);
    futures_util::stream::unfold(state, |(mut body, found, before)| async move {
        tokio::task::yield_now().await;
        let frame = body.next().await?;
        let frame = frame.map_err(std::io::Error::other).and_then(|bytes| {
            let lost = before > HEAD_BYTES_MAX && !found.load(Ordering::Acquire);
            if lost {
                Err(std::io::Error::other("the form has too many bytes before its file"))
            } else {
                Ok(bytes)
            }
        });
        let before = before.saturating_add(frame.as_ref().map_or(0, Bytes::len));
        Some((frame, (body, found, before)))
    })
}

pub async fn receive(
    ops: &S3Operations,
    request: Request<Incoming>,
    about: &RequestContext,
) -> S3Result<Response<Body>> {
    let fault = BodyFault::default();
    // The parser of the form does not say why its source failed.
    store(ops, request, about, &fault).await.map_err(|error| fault.take().unwrap_or(error))
}

async fn store(
    ops: &S3Operations,
    request: Request<Incoming>,
    about: &RequestContext,
    fault: &BodyFault,
) -> S3Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let bucket = about.bucket.as_deref().ok_or(S3ErrorCode::MethodNotAllowed)?;
    let mut form = Form::read(kind, &head, body, fault).await?;
    let name = form.file.file_name().map(last_part).unwrap_or_default().to_owned();
    let key = form.field("key").ok_or_else(|| {
        invalid("Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields.")
    })?;
    let key = key.replace("${filename}", &name);
    form.fields.insert("key".into(), key.clone());
    if form.fields.insert("bucket".into(), bucket.to_owned()).is_some_and(|said| said != bucket) {
        return Err(invalid("The bucket field of the form differs from the bucket in the URL"));
    }
    let length = admitted(ops, &form, about, &key).await?;
    crate::s3::refuse_acl(form.field("acl"))?;
    form.known(&ops.config.s3)?;
    let headers = form.headers()?;
    let described = described(&headers)?;
    let tags = form.field("tagging").map(tags_of_xml).transpose()?.unwrap_or_default();
    let mut declared = DeclaredChecksums::from_headers(&headers, None, ops.md5)?;
    declared.checksum = declared.checksum.or(Some((shared::attributes::Algorithm::Crc64Nvme, None)));
    ops.in_bucket(bucket).await?;
    let wanted = UploadSpec {
        key: key_of(bucket, &key)?,
        length: None,
        digest: None,
        condition: WriteCondition::None,
        prefer: Vec::new(),
        hops: 0,
        expires: None,
    };
    let Form { fields, file } = form;
    let (frames, verdict) = verify_body(within(file, length), declared, &ops.md5s);
    let stored = ops.writer.write_replicas(&wanted, &described, Source::new(Frames::Stream(frames))).await;
    let durable = stored.map_err(|refusal| verdict.fault().unwrap_or_else(|| from_reply(refusal)))?;
    let attributes = ops.commit_object(&durable, (&wanted, &described), &verdict.sums(), tags).await?;
    let location = ops.location(&head.headers, &wanted.key);
    let mut answer =
        answer(&fields, bucket, &key, &format!("\"{}\"", tag_of(&attributes, &durable)), &location);
    show_beyond(&attributes, answer.headers_mut());
    Ok(answer)
}

/// Returns the name of a file without the folders that a browser may have sent.
fn last_part(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// Runs `admit` on current metadata, and delays clients that have sent many wrong signatures.
async fn admitted(
    ops: &S3Operations,
    form: &Form,
    about: &RequestContext,
    key: &str,
) -> S3Result<(u64, u64)> {
    let credential = form.field("x-amz-credential").and_then(|text| text.split_once('/'));
    if let Some((id, _)) = credential {
        about.set_claimed_key_id(id);
        ops.keys().throttle(id, about.peer).await.map_err(from_reply)?;
    }
    ops.current().await?;
    admit(ops, form, about.bucket.as_deref().unwrap_or_default(), key)
}

/// Checks that the signer of the form may store this; returns the least and most bytes of its file.
fn admit(ops: &S3Operations, form: &Form, bucket: &str, key: &str) -> S3Result<(u64, u64)> {
    let keys = ops.keys();
    let everything = (0, BLOB_BYTES_MAX);
    let Some(document) = form.field("policy") else {
        return match keys.nobody().map_err(from_tables)? {
            Caller::Open => Ok(everything),
            _ => Err(s3_error!(AccessDenied, "Access Denied")),
        };
    };
    if form.field("awsaccesskeyid").is_some() || form.field("signature").is_some() {
        return Err(s3_error!(
            InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        ));
    }
    let needed = |name: &str| {
        form.field(name).ok_or_else(|| invalid(format!("Bucket POST must contain a field named '{name}'.")))
    };
    let (signature, credential) = (needed("x-amz-signature")?, needed("x-amz-credential")?);
    let (algorithm, _) = (needed("x-amz-algorithm")?, needed("x-amz-date")?);
    if algorithm != "AWS4-HMAC-SHA256" {
        return Err(invalid("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    let mut parts = credential.rsplitn(5, '/');
    let (end, service, region, date) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some("aws4_request"), Some("s3"), Some(region), Some(date), Some(id)) =
        (end, service, region, date, parts.next())
    else {
        return Err(invalid("The credential is malformed"));
    };
    crate::s3::request::guard::region_is_ours(&ops.config.s3, region)
        .map_err(crate::s3::request::guard::malformed)?;
    let (caller, secret) = if keys.nobody().map_err(from_tables)? == Caller::Open {
        (Caller::Open, crate::s3::request::auth::OPEN_SECRET.to_owned())
    } else {
        let found = keys.find(id).map_err(from_tables)?.zip(id.parse().ok());
        let ((known, secret), id) = found.ok_or(S3ErrorCode::InvalidAccessKeyId)?;
        (Caller::of(id, &known), secret.expose().to_owned())
    };
    if !signs(&secret, [date, region], document, signature) {
        return Err(S3ErrorCode::SignatureDoesNotMatch.into());
    }
    let policy = Policy::read(document)?;
    policy.check(&form.fields, ops.config.clock.now())?;
    if !caller.may(Action::Write, Some(bucket), Some(key)) {
        return Err(s3_error!(AccessDenied, "Access Denied"));
    }
    Ok(policy.within(everything))
}

fn mac(key: &[u8], text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac
}

/// Returns whether this is the signature of `document` (S3 API reference, "Calculating a signature" for POST),
/// in constant time.
fn signs(secret: &str, [date, region]: [&str; 2], document: &str, signature: &str) -> bool {
    let mut key = mac(format!("AWS4{secret}").as_bytes(), date.as_bytes()).finalize().into_bytes();
    for part in [region, "s3", "aws4_request"] {
        key = mac(&key, part.as_bytes()).finalize().into_bytes();
    }
    let ours = hex(&mac(&key, document.as_bytes()).finalize().into_bytes());
    blake3::hash(ours.as_bytes()) == blake3::hash(signature.as_bytes())
}

/// Returns the file, which fails when it is larger or smaller than the policy permits.
fn within(
    file: Field<'static>,
    (least, most): (u64, u64),
) -> impl Stream<Item = Result<Bytes, S3Error>> + Send + 'static {
    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    let frames = file.map(move |frame| {
        let bytes = frame.map_err(|e| malformed(&e))?;
        let so_far = counted.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        if so_far > most {
            return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
        }
        Ok(bytes)
    });
    let end = futures_util::stream::once(async move {
        if seen.load(Ordering::Relaxed) < least {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size"
            ));
        }
        Ok(Bytes::new())
    });
    frames.chain(end).filter(|frame| std::future::ready(!matches!(frame, Ok(bytes) if bytes.is_empty())))
}

fn tags_of_xml(text: &str) -> S3Result<Vec<(String, String)>> {
    use s3s::xml::{Deserialize, Deserializer};
    let mut document = Deserializer::new(text.as_bytes());
    let tagging = s3s::dto::Tagging::deserialize(&mut document).map_err(|_| S3ErrorCode::MalformedXML)?;
    tags_of_set(tagging.tag_set, Tagged::Object)
}

/// Returns the response that the form asks for: a redirect, a document, or nothing.
fn answer(
    fields: &BTreeMap<String, String>,
    bucket: &str,
    key: &str,
    etag: &str,
    location: &str,
) -> Response<Body> {
    let field = |name: &str| fields.get(name).filter(|v| !v.is_empty());
    let mut answer = Response::new(body::empty());
    let redirect = field("success_action_redirect").or_else(|| field("redirect"));
    let target = redirect.and_then(|url| {
        let join = if url.contains('?') { '&' } else { '?' };
        let of = |text: &str| encode_query(text).replace('/', "%2F");
        let url = format!("{url}{join}bucket={}&key={}&etag={}", of(bucket), of(key), of(etag));
        HeaderValue::from_str(&url).ok()
    });
    let status = match (field("success_action_status").map(String::as_str), &target) {
        (_, Some(_)) => StatusCode::SEE_OTHER,
        (Some("200"), None) => StatusCode::OK,
        (Some("201"), None) => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    };
    *answer.status_mut() = status;
    if status == StatusCode::CREATED {
        let elements = [("Location", location), ("Bucket", bucket), ("Key", key), ("ETag", etag)];
        let document = xml::document("PostResponse", &elements);
        *answer.body_mut() = body::full(document);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    }
    let headers = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(ETAG, etag);
    }
    if let Some(location) = target.or_else(|| HeaderValue::from_str(location).ok()) {
        headers.insert(LOCATION, location);
    }
    answer
}
