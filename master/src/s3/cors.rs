//! Pages of other origins: what a bucket's CORS configuration lets them see (S3 user guide, "Using cross-origin resource
//! sharing"). Preflights are answered here; other answers are marked on their way out.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use s3s::{S3Error, S3Result};
use shared::http::body::{self, Body};

use super::error::{custom, from_tables};
use super::finish::About;
use super::hoisted;
use crate::cors::{names, permission, permission_of, rule, text, varies};
use crate::master::Master;
use crate::tables::bucket::{self, CorsRule};

/// What a request is, to a browser.
pub enum Asked {
    /// A question, and its answer.
    Preflight(Box<Response<Body>>),
    Request(Origin),
}

/// What an answer is marked with.
#[derive(Default)]
pub struct Origin {
    headers: HeaderMap,
    permitted: bool,
}

/// What the SDK for JavaScript puts into the query of every link.
const HARMLESS: [&str; 2] = ["x-amz-checksum-mode", "x-amz-content-sha256"];

fn bad(message: &'static str) -> S3Error {
    custom("BadRequest", StatusCode::BAD_REQUEST, message)
}

impl Origin {
    /// What a bucket permits the page that a request comes from.
    pub fn of<B>(master: &Master, request: &Request<B>, about: &About) -> S3Result<Asked> {
        let headers = request.headers();
        let origin = text(headers, &ORIGIN);
        if origin.is_none() && *request.method() == Method::OPTIONS {
            return Err(bad("Insufficient information. Origin request header needed."));
        }
        let rules = match &about.bucket {
            Some(name) => bucket::record(&master.database.tree(), name).map_err(from_tables)?,
            None => None,
        };
        let rules = rules.map(|b| b.cors).unwrap_or_default();
        let Some(origin) = origin else { return Ok(Asked::Request(Self::unmarked(&rules))) };
        if *request.method() != Method::OPTIONS {
            let method = request.method().as_str();
            let Some(found) = rule(&rules, origin, method, &[]) else {
                return Ok(Asked::Request(Self::unmarked(&rules)));
            };
            // Headers in the query need the rule as others do: while there are no keys, a page can sign as anybody can.
            let hoisted = hoisted::of(request).into_iter().map(|(name, _)| name);
            let hoisted: Vec<_> = hoisted.filter(|name| !HARMLESS.contains(&name.as_str())).collect();
            let permitted = rule(&rules, origin, method, &hoisted).is_some();
            return Ok(Asked::Request(Self { headers: permission(found, origin), permitted }));
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
        Ok(Asked::Preflight(Box::new(answer)))
    }

    /// No page is let in, and others might be.
    fn unmarked(rules: &[CorsRule]) -> Self {
        Self { headers: varies(rules), permitted: false }
    }

    /// Whether a rule of the bucket lets that page in.
    pub fn is_permitted(&self) -> bool {
        self.permitted
    }

    /// Tells the browser.
    pub fn mark(self, headers: &mut HeaderMap) {
        headers.extend(self.headers);
    }
}
