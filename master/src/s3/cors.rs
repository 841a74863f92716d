//! Pages of other origins: what a bucket's CORS configuration lets them see (S3 user guide, "Using cross-origin resource
//! sharing"). Preflights are answered here; other answers are marked on their way out.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use http::{Method, Request, Response, StatusCode};
use s3s::{S3Error, S3Result};
use shared::http::body::{self, Body};

use super::error::{custom, from_tables};
use super::finish::About;
use super::hoisted;
use crate::master::Master;
use crate::tables::bucket::{self, CorsRule};

/// What an answer depends on where a bucket has rules.
const VARIES: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// What a request is, to a browser.
pub enum Asked {
    /// A question, and its answer.
    Preflight(Box<Response<Body>>),
    /// A request.
    Request(Origin),
}

/// What an answer is marked with.
#[derive(Default)]
pub struct Origin {
    headers: HeaderMap,
    permitted: bool,
}

/// A text with at most one `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => {
            text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end)
        }
    }
}

/// The first rule that permits it.
fn rule<'r>(rules: &'r [CorsRule], origin: &str, method: &str, headers: &[String]) -> Option<&'r CorsRule> {
    rules.iter().find(|rule| {
        rule.origins.iter().any(|p| fits(p, origin))
            && rule.methods.iter().any(|m| m == method)
            && headers.iter().all(|h| rule.headers.iter().any(|p| fits(&p.to_ascii_lowercase(), h)))
    })
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn bad(message: &'static str) -> S3Error {
    custom("BadRequest", StatusCode::BAD_REQUEST, message)
}

/// The headers that permit it.
fn permission(rule: &CorsRule, origin: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    if rule.origins.iter().any(|o| o == "*") {
        put(ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned());
    } else {
        put(ACCESS_CONTROL_ALLOW_ORIGIN, origin.to_owned());
        put(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned());
    }
    put(ACCESS_CONTROL_ALLOW_METHODS, rule.methods.join(", "));
    if !rule.exposed.is_empty() {
        put(ACCESS_CONTROL_EXPOSE_HEADERS, rule.exposed.join(", "));
    }
    if let Some(secs) = rule.max_age_secs {
        put(ACCESS_CONTROL_MAX_AGE, secs.to_string());
    }
    put(VARY, VARIES.to_owned());
    headers
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
            let found = rule(&rules, origin, request.method().as_str(), &[]);
            let Some(rule) = found else { return Ok(Asked::Request(Self::unmarked(&rules))) };
            // Headers in the query need the rule as others do: while there are no keys, a page can sign as anybody can.
            let hoisted: Vec<_> = hoisted::of(request).into_iter().map(|(name, _)| name).collect();
            let permitted = self::rule(&rules, origin, request.method().as_str(), &hoisted).is_some();
            return Ok(Asked::Request(Self { headers: permission(rule, origin), permitted }));
        }
        let method = text(headers, &ACCESS_CONTROL_REQUEST_METHOD)
            .ok_or_else(|| bad("Invalid Access-Control-Request-Method: null"))?;
        let asked: Vec<_> = text(headers, &ACCESS_CONTROL_REQUEST_HEADERS)
            .unwrap_or_default()
            .split(',')
            .map(|h| h.trim().to_ascii_lowercase())
            .filter(|h| !h.is_empty())
            .collect();
        let found = rule(&rules, origin, method, &asked).ok_or_else(|| {
            custom(
                "AccessForbidden",
                StatusCode::FORBIDDEN,
                "CORSResponse: This CORS request is not allowed.",
            )
        })?;
        let mut answer = Response::new(body::empty());
        *answer.headers_mut() = permission(found, origin);
        if !asked.is_empty()
            && let Ok(value) = HeaderValue::from_str(&asked.join(", "))
        {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
        }
        Ok(Asked::Preflight(Box::new(answer)))
    }

    /// No page is let in, and others might be: a cache must not give one the answer of another.
    fn unmarked(rules: &[CorsRule]) -> Self {
        let varies = (VARY, HeaderValue::from_static(VARIES));
        Self { headers: (!rules.is_empty()).then_some(varies).into_iter().collect(), permitted: false }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_wildcards() {
        let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let rules = [
            CorsRule {
                origins: list(&["http://*.example.org"]),
                methods: list(&["PUT"]),
                headers: list(&["X-Amz-*", "content-type"]),
                ..CorsRule::default()
            },
            CorsRule { origins: list(&["*"]), methods: list(&["GET"]), ..CorsRule::default() },
        ];
        let found = |origin, method, headers: &[&str]| {
            rule(&rules, origin, method, &list(headers)).map(|r| r.methods[0].clone())
        };
        assert_eq!(
            found("http://a.example.org", "PUT", &["x-amz-date", "content-type"]).as_deref(),
            Some("PUT")
        );
        assert_eq!(found("http://a.example.org", "PUT", &["authorization"]), None);
        assert_eq!(found("https://a.example.org", "PUT", &[]), None);
        assert_eq!(found("null", "GET", &[]).as_deref(), Some("GET"));
        assert!(!fits("ab*ba", "aba") && fits("ab*ba", "abba"));
    }
}
