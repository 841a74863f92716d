//! What a request is about, and what the library leaves out of XML responses: an error names its bucket, key and
//! request, as SDKs expect, and the entity tag in GetObjectAttributes has no quotes (S3 API reference).

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE, TRANSFER_ENCODING,
};
use std::net::IpAddr;
use std::sync::OnceLock;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use shared::http::body::{self, Body};
use shared::limits::MESSAGE_BYTES_MAX;
use shared::wire::routes::query_value;

use crate::s3::documents::xml;
use crate::s3::request::virtual_host::bucket_before;

#[derive(Debug)]
pub struct RequestContext {
    pub bucket: Option<String>,
    /// The key without its bucket, if any.
    pub key: Option<String>,
    pub peer: IpAddr,
    claimed_key_id: OnceLock<String>,
    operation: OnceLock<&'static str>,
    path: String,
    pub request_id: String,
    range: Option<String>,
    attributes: bool,
    /// The method is HEAD: the response has no body.
    head: bool,
}

impl RequestContext {
    pub fn of<B>(request: &Request<B>, domain: Option<&str>, peer: IpAddr, request_id: String) -> Self {
        let text = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let host = text(http::header::HOST).unwrap_or_default();
        let before = domain.and_then(|domain| bucket_before(domain, host));
        let path =
            percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
        let rest = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = match before {
            Some(bucket) => (bucket, rest),
            None => rest.split_once('/').unwrap_or((rest, "")),
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            bucket: some(bucket),
            key: some(key),
            peer,
            claimed_key_id: claimed(request).map(OnceLock::from).unwrap_or_default(),
            operation: OnceLock::new(),
            range: text(RANGE).map(str::to_owned),
            attributes: !key.is_empty()
                && *request.method() == http::Method::GET
                && query_value(request.uri().query(), "attributes").is_some(),
            head: *request.method() == http::Method::HEAD,
            path,
            request_id,
        }
    }

    /// Returns the operation; none if the request was refused before it was known.
    pub fn operation(&self) -> Option<&'static str> {
        self.operation.get().copied()
    }

    pub fn set_operation(&self, operation: &'static str) {
        let _ = self.operation.set(operation);
    }

    /// Returns the access key id that the request claims; the signature may be wrong.
    pub fn claimed_key_id(&self) -> Option<&str> {
        self.claimed_key_id.get().map(String::as_str)
    }

    /// Sets the claimed access key id of a form, which has it in its body.
    pub fn set_claimed_key_id(&self, id: &str) {
        let _ = self.claimed_key_id.set(id.to_owned());
    }

    pub async fn finish_response(&self, answer: Response<Body>) -> Response<Body> {
        let error = answer.status().is_client_error() || answer.status().is_server_error();
        if self.head || answer.status() == StatusCode::NOT_MODIFIED {
            let (mut head, body) = answer.into_parts();
            let empty = error || head.status == StatusCode::NOT_MODIFIED;
            if empty {
                head.headers.remove(CONTENT_LENGTH);
                head.headers.remove(TRANSFER_ENCODING);
            }
            // The library sets 206 for GET only.
            if head.status == StatusCode::OK && head.headers.contains_key(CONTENT_RANGE) {
                head.status = StatusCode::PARTIAL_CONTENT;
            }
            return Response::from_parts(head, if empty { body::empty() } else { body });
        }
        if !error && !self.attributes {
            return answer;
        }
        let (mut head, body) = answer.into_parts();
        let Some(bytes) = collected(body).await else {
            // The document is larger than any of ours.
            head.headers.remove(CONTENT_LENGTH);
            head.headers.remove(TRANSFER_ENCODING);
            head.status = StatusCode::INTERNAL_SERVER_ERROR;
            return Response::from_parts(head, body::empty());
        };
        let finished = if error {
            self.error(&bytes, &head.headers)
        } else {
            bare_tag(&String::from_utf8_lossy(&bytes)).map(Bytes::from)
        };
        let bytes = finished.unwrap_or_else(|| Bytes::from(bytes));
        if error {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        head.headers.insert(CONTENT_LENGTH, bytes.len().into());
        Response::from_parts(head, body::full(bytes))
    }

    /// Completes the document of an error; none if this is not one.
    fn error(&self, document: &[u8], headers: &http::HeaderMap) -> Option<Bytes> {
        let mut elements = xml::elements(document, "Error")?;
        let code = code_in(&elements).unwrap_or_default();
        let has = |name| elements.iter().any(|(known, _)| known == name);
        let (messaged, named) = (has("Message"), has("RequestId"));
        let mut put = |name: &str, text: &str| elements.push((name.to_owned(), text.to_owned()));
        if !messaged {
            put("Message", message(&code));
        }
        if let Some(bucket) = &self.bucket {
            put("BucketName", bucket);
        }
        if let Some(key) = &self.key {
            put("Key", key);
        }
        if code == "InvalidRange" {
            let size = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok()?.rsplit_once('/'));
            if let (Some((_, size)), Some(range)) = (size, &self.range) {
                put("ActualObjectSize", size);
                put("RangeRequested", range);
            }
        }
        put("Resource", &self.path);
        if !named {
            put("RequestId", &self.request_id);
        }
        put("HostId", "barge");
        Some(xml::document("Error", &elements))
    }
}

/// Returns the response unchanged, and the error code in its document.
pub async fn code_of(answer: Response<Body>) -> (Response<Body>, Option<String>) {
    let (mut head, body) = answer.into_parts();
    let Some(bytes) = collected(body).await else {
        head.headers.remove(CONTENT_LENGTH);
        return (Response::from_parts(head, body::empty()), None);
    };
    let code = xml::elements(&bytes, "Error").and_then(|elements| code_in(&elements));
    (Response::from_parts(head, body::full(bytes)), code)
}

fn code_in(elements: &[(String, String)]) -> Option<String> {
    elements.iter().find(|(name, _)| name == "Code").map(|(_, code)| code.clone())
}

/// Returns the access key id that a request claims, in a header or in a presigned URL.
fn claimed<B>(request: &Request<B>) -> Option<String> {
    let header = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let credential = match header {
        Some(text) => text.split_once("Credential=")?.1.to_owned(),
        None => query_value(request.uri().query(), "X-Amz-Credential")?,
    };
    credential.split_once('/').map(|(id, _)| id.to_owned())
}

/// Reads a document of ours; none if it fails or exceeds `MESSAGE_BYTES_MAX`.
async fn collected(mut body: Body) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(&frame.ok()?.into_data().ok()?);
        if bytes.len() > MESSAGE_BYTES_MAX {
            return None;
        }
    }
    Some(bytes)
}

/// Returns the message of S3 for a code that the library has none for.
fn message(code: &str) -> &str {
    match code {
        "NoSuchKey" => "The specified key does not exist.",
        "NoSuchBucket" => "The specified bucket does not exist",
        "NoSuchUpload" => {
            "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
        }
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published schema"
        }
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. Check your key and signing method."
        }
        "InvalidBucketName" => "The specified bucket is not valid.",
        "KeyTooLongError" => "Your key is too long",
        "NotImplemented" => "A header or query you provided implies functionality that is not implemented.",
        code => code,
    }
}

fn bare_tag(text: &str) -> Option<String> {
    let (before, rest) = text.split_once("<ETag>")?;
    let (tag, after) = rest.split_once("</ETag>")?;
    let tag = tag.trim_matches('"').trim_start_matches("&quot;").trim_end_matches("&quot;");
    Some(format!("{before}<ETag>{tag}</ETag>{after}"))
}

#[cfg(test)]
mod tests {
    use crate::s3::request::context::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn errors_say_what_they_are_about() {
        let request = Request::get("/b/k%20%26").body(()).unwrap();
        let about = RequestContext::of(&request, None, PEER, "id".into());
        let refused = b"<Error><Code>NoSuchKey</Code></Error>";
        let text = about.error(refused, &http::HeaderMap::new()).unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains("<Key>k &amp;</Key>") && text.contains("<BucketName>b</BucketName>"), "{text}");
        assert!(text.contains("<RequestId>id</RequestId>") && text.contains("does not exist."), "{text}");
        let request = Request::get("/k").header("host", "b.s3.example.org:9000").body(()).unwrap();
        let about = RequestContext::of(&request, Some("s3.example.org"), PEER, String::new());
        assert_eq!((about.bucket.as_deref(), about.key.as_deref()), (Some("b"), Some("k")));
        assert_eq!(about.claimed_key_id(), None);
        let signed = "AWS4-HMAC-SHA256 Credential=BK1/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";
        let request = Request::get("/b/k").header("authorization", signed).body(()).unwrap();
        assert_eq!(claimed(&request).as_deref(), Some("BK1"));
        let link = "/b/k?X-Amz-Credential=BK2%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=00";
        assert_eq!(claimed(&Request::get(link).body(()).unwrap()).as_deref(), Some("BK2"));
        assert_eq!(bare_tag("<A><ETag>\"x\"</ETag></A>").as_deref(), Some("<A><ETag>x</ETag></A>"));
    }
}
