//! Evaluates a bucket's CORS rules (S3 user guide, "Using cross-origin resource sharing"), for both APIs. It knows
//! only rules and headers; each API words its own refusals.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap,
    HeaderName, HeaderValue, VARY,
};

use shared::limits::HTTP_HEADERS_MAX;

use crate::tables::bucket::CorsRule;

/// Value of `Vary` for a bucket with rules.
const VARIES: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// Whether `text` matches `pattern`, which has at most one `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => {
            text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end)
        }
    }
}

/// Returns the first rule that permits a request.
pub fn rule<'r>(
    rules: &'r [CorsRule],
    origin: &str,
    method: &str,
    headers: &[String],
) -> Option<&'r CorsRule> {
    if headers.len() > HTTP_HEADERS_MAX {
        return None;
    }
    rules.iter().find(|rule| {
        rule.origins.iter().any(|p| fits(p, origin))
            && rule.methods.iter().any(|m| m == method)
            && headers.iter().all(|h| rule.headers.iter().any(|p| fits(&p.to_ascii_lowercase(), h)))
    })
}

pub fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// Returns the names in a list of headers, in lower case. Stops one past `HTTP_HEADERS_MAX`, which no rule permits.
pub fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.take(HTTP_HEADERS_MAX + 1).map(str::to_ascii_lowercase).collect()
}

/// Returns the response headers by which `rule` permits `origin`.
pub fn permission(rule: &CorsRule, origin: &str) -> HeaderMap {
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

/// Returns `Vary` for a response that permits no origin, if others could be permitted: a cache must not serve
/// it to them.
pub fn varies(rules: &[CorsRule]) -> HeaderMap {
    let varies = (VARY, HeaderValue::from_static(VARIES));
    (!rules.is_empty()).then_some(varies).into_iter().collect()
}

/// Like `permission`, for a preflight request that names the headers `asked`.
pub fn permission_of(rule: &CorsRule, origin: &str, asked: &[String]) -> HeaderMap {
    let mut headers = permission(rule, origin);
    if !asked.is_empty()
        && let Ok(value) = HeaderValue::from_str(&asked.join(", "))
    {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
    }
    headers
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
        let many: Vec<_> = (0..=HTTP_HEADERS_MAX).map(|n| format!("x-amz-{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(found("http://a.example.org", "PUT", &many), None);
        assert_eq!(names(&many.join(",").repeat(9)).len(), HTTP_HEADERS_MAX + 1);
        assert!(!fits("ab*ba", "aba") && fits("ab*ba", "abba"));
    }
}
