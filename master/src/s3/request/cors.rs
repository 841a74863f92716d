//! CORS: what the configuration of a bucket permits pages of other origins (S3 user guide, "Using cross-origin
//! resource sharing"). Preflights are answered here; other responses get their headers on the way out.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use s3s::{S3Error, S3Result};
use shared::http::body::{self, Body};

use crate::cors::{names, permission, permission_of, rule, text, varies};
use crate::metadata::Metadata;
use crate::s3::error::{custom, from_tables};
use crate::s3::request::context::RequestContext;
use crate::s3::request::presigned_headers;
use crate::tables::bucket::{self, CorsRule};

/// A request, as CORS sees it.
pub enum CorsRequest {
    /// A preflight, with its response.
    Preflight(Box<Response<Body>>),
    Request(CorsHeaders),
}

#[derive(Default)]
pub struct CorsHeaders {
    headers: HeaderMap,
    permitted: bool,
}

/// Parameters that the SDK for JavaScript puts into every presigned URL.
const HARMLESS: [&str; 2] = ["x-amz-checksum-mode", "x-amz-content-sha256"];

fn bad(message: &'static str) -> S3Error {
    custom("BadRequest", StatusCode::BAD_REQUEST, message)
}

impl CorsHeaders {
    /// Evaluates the rules of the bucket for the page that a request comes from.
    pub fn of<B>(metadata: &Metadata, request: &Request<B>, about: &RequestContext) -> S3Result<CorsRequest> {
        let headers = request.headers();
        let origin = text(headers, &ORIGIN);
        if origin.is_none() && *request.method() == Method::OPTIONS {
            return Err(bad("Insufficient information. Origin request header needed."));
        }
        let rules = match &about.bucket {
            Some(name) => bucket::record(&metadata.database.tree(), name).map_err(from_tables)?,
            None => None,
        };
        let rules = rules.map(|b| b.cors).unwrap_or_default();
        let Some(origin) = origin else { return Ok(CorsRequest::Request(Self::unmarked(&rules))) };
        if *request.method() != Method::OPTIONS {
            let method = request.method().as_str();
            let Some(found) = rule(&rules, origin, method, &[]) else {
                return Ok(CorsRequest::Request(Self::unmarked(&rules)));
            };
            // Headers in the query need a rule as others do: while there are no keys, any page can sign.
            let hoisted = presigned_headers::of(request).into_iter().map(|(name, _)| name);
            let hoisted: Vec<_> = hoisted.filter(|name| !HARMLESS.contains(&name.as_str())).collect();
            let permitted = rule(&rules, origin, method, &hoisted).is_some();
            return Ok(CorsRequest::Request(Self { headers: permission(found, origin), permitted }));
        }
        let method = text(headers, &ACCESS_CONTROL_REQUEST_METHOD)
            .ok_or_else(|| bad("Invalid Access-Control-Request-Method: null"))?;
        let asked = names(text(headers, &ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default());
        let found = rule(&rules, origin, method, &asked).ok_or_else(|| {
            custom(
                "AccessForbidden",
                StatusCode::FORBIDDEN,
                "CORSResponse: This CORS request is not allowed.",
            )
        })?;
        let mut answer = Response::new(body::empty());
        *answer.headers_mut() = permission_of(found, origin, &asked);
        Ok(CorsRequest::Preflight(Box::new(answer)))
    }

    /// No rule matches; with rules, the response varies by origin.
    fn unmarked(rules: &[CorsRule]) -> Self {
        Self { headers: varies(rules), permitted: false }
    }

    /// Returns whether a rule of the bucket permits the page.
    pub fn is_permitted(&self) -> bool {
        self.permitted
    }

    pub fn mark(self, headers: &mut HeaderMap) {
        headers.extend(self.headers);
    }
}
