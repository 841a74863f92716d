//! CORS on the native API: applies a bucket's rules, as set by S3's `PutBucketCors`, to web pages of other origins.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, ORIGIN,
};
use http::{Method, Request, Response, StatusCode};
use shared::http::body::{self, Body};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::auth::resource::{asked, split};
use crate::cors::{names, permission, permission_of, rule, text, varies};
use crate::metadata::Metadata;
use crate::tables::bucket;

/// The CORS decision about a request.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// CORS headers of the answer.
    marks: HeaderMap,
    /// A rule permits the page's request.
    permitted: bool,
    /// The request is a preflight.
    question: bool,
}

impl Page {
    /// Applies the rules of the request's bucket to the page that it comes from.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub(super) fn of<B>(metadata: &Metadata, request: &Request<B>) -> Result<Self, ErrorReply> {
        let (_, of) = asked(request);
        let Some(bucket) = of.as_deref().and_then(|of| split(of).0) else { return Ok(Self::default()) };
        let rules = bucket::record(&metadata.database.tree(), bucket)?.map(|b| b.cors).unwrap_or_default();
        if rules.is_empty() {
            return Ok(Self::default());
        }
        let mut page = Self { marks: varies(&rules), permitted: false, question: false };
        let headers = request.headers();
        let Some(origin) = text(headers, &ORIGIN) else { return Ok(page) };
        let asks = text(headers, &ACCESS_CONTROL_REQUEST_METHOD);
        page.question = *request.method() == Method::OPTIONS && asks.is_some();
        let permits = if page.question {
            let asked = names(text(headers, &ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default());
            let found = rule(&rules, origin, asks.unwrap_or_default(), &asked);
            found.map(|rule| permission_of(rule, origin, &asked))
        } else {
            rule(&rules, origin, request.method().as_str(), &[]).map(|rule| permission(rule, origin))
        };
        if let Some(mut permits) = permits {
            // A page has to send its own access key. It must not use one that the browser remembers for its visitor.
            permits.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
            (page.marks, page.permitted) = (permits, true);
        }
        Ok(page)
    }

    /// Whether a rule of the bucket permits the page's request. The master then answers it itself unless a redirect
    /// is asked for: a volume knows no CORS rules, and the browser would hide its answer from the page.
    pub(super) fn is_permitted(&self) -> bool {
        self.permitted
    }

    /// Whether the request is a preflight. Browsers send no access key with it.
    pub(super) fn is_question(&self) -> bool {
        self.question
    }

    /// The answer to a preflight.
    ///
    /// # Errors
    /// When no rule permits it.
    pub(super) fn answer(&self) -> Result<Response<Body>, ErrorReply> {
        if !self.permitted {
            return Err(ErrorReply::new(
                ErrorCode::Forbidden,
                "no CORS rule of the bucket permits this request from the page's origin",
                "set the bucket's CORS rules with S3 (PutBucketCors): origin, method and headers",
            ));
        }
        let mut answer = Response::new(body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Ok(answer)
    }

    /// Adds the CORS headers to an answer or a refusal.
    pub(super) fn mark(self, answer: &mut Result<Response<Body>, ErrorReply>) {
        match answer {
            Ok(answer) => answer.headers_mut().extend(self.marks),
            Err(refusal) => refusal.headers.extend(self.marks),
        }
    }
}
