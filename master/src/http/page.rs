//! Pages of other origins on the native face: what the rules of the bucket of a key let them see. The rules are those that S3's
//! `PutBucketCors` has set.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, ORIGIN,
};
use http::{Method, Request, Response, StatusCode};
use shared::http::body::{self, Body};
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::auth::place::{asked, split};
use crate::cors::{names, permission, permission_of, rule, text, varies};
use crate::master::Master;
use crate::tables::bucket;

/// What a request is, to a browser.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// What every answer is marked with.
    marks: HeaderMap,
    /// A rule lets the page in.
    permitted: bool,
    /// It is a question whether the page may ask, and a rule permits that or not.
    question: bool,
}

impl Page {
    /// What the bucket that a request is about permits to the page that it comes from.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub(super) fn of<B>(master: &Master, request: &Request<B>) -> Result<Self, ErrorReply> {
        let (_, of) = asked(request);
        let Some(bucket) = of.as_deref().and_then(|of| split(of).0) else { return Ok(Self::default()) };
        let rules = bucket::record(&master.database.tree(), bucket)?.map(|b| b.cors).unwrap_or_default();
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
            // A page shows a key by itself. The one that a browser remembers from its visitor is for no page.
            permits.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
            (page.marks, page.permitted) = (permits, true);
        }
        Ok(page)
    }

    /// Whether a rule of the bucket lets the page in. It is answered by the master itself then, unless it asks for a redirect: the volume behind a redirect
    /// knows no rules, and a browser would show its answer to no page.
    pub(super) fn is_permitted(&self) -> bool {
        self.permitted
    }

    /// Whether it only asks whether it may ask. A browser shows no access key with that.
    pub(super) fn is_question(&self) -> bool {
        self.question
    }

    /// The answer to such a question.
    ///
    /// # Errors
    /// When no rule permits it.
    pub(super) fn answer(&self) -> Result<Response<Body>, ErrorReply> {
        if !self.permitted {
            return Err(ErrorReply::new(
                ErrorCode::Forbidden,
                "no CORS rule of the bucket permits this to a page of that origin",
                "set the bucket's rules by S3 (PutBucketCors): origin, method and headers",
            ));
        }
        let mut answer = Response::new(body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Ok(answer)
    }

    /// Tells the browser.
    pub(super) fn mark(self, answer: &mut Result<Response<Body>, ErrorReply>) {
        match answer {
            Ok(answer) => answer.headers_mut().extend(self.marks),
            Err(refusal) => refusal.headers.extend(self.marks),
        }
    }
}
