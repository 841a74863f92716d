//! What the library would let through and we do not: the old signature, links that are good for longer than S3 permits, and
//! signatures for another region.

use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use shared::wire::routes::query_value;

use super::Settings;
use super::error::custom;

/// S3's limit: seven days.
const EXPIRES_SECS_MAX: u64 = 7 * 24 * 3600;

/// Looks at how a request is signed.
pub fn check<B>(settings: &Settings, request: &Request<B>) -> S3Result<()> {
    let (query, headers) = (request.uri().query(), request.headers());
    let authorization = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let old = query_value(query, "AWSAccessKeyId").is_some() || authorization.starts_with("AWS ");
    if old {
        return Err(s3_error!(
            InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        ));
    }
    if headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return Err(s3_error!(InvalidArgument, "Only one auth mechanism allowed"));
    }
    let presigned = query_value(query, "X-Amz-Signature").is_some();
    if presigned && !authorization.is_empty() {
        return Err(s3_error!(
            InvalidArgument,
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"
        ));
    }
    if presigned {
        expires(query_value(query, "X-Amz-Expires").as_deref())?;
    }
    let credential = query_value(query, "X-Amz-Credential").or_else(|| {
        let parts = authorization.strip_prefix("AWS4-HMAC-SHA256")?.split(',');
        parts.map(str::trim).find_map(|part| part.strip_prefix("Credential=")).map(str::to_owned)
    });
    region(settings, credential.as_deref())
}

fn parameters(message: &'static str) -> S3Error {
    custom("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST, message)
}

fn expires(text: Option<&str>) -> S3Result<()> {
    let Some(text) = text else { return Ok(()) };
    if text.starts_with('-') {
        return Err(parameters("X-Amz-Expires must be non-negative"));
    }
    match text.parse::<u64>() {
        Ok(secs) if secs <= EXPIRES_SECS_MAX => Ok(()),
        Ok(_) => Err(parameters(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        )),
        Err(_) => Err(parameters("X-Amz-Expires should be a number")),
    }
}

/// `ID/DATE/REGION/s3/aws4_request`.
fn region(settings: &Settings, credential: Option<&str>) -> S3Result<()> {
    let (Some(ours), Some(credential)) = (&settings.region, credential) else { return Ok(()) };
    match credential.split('/').nth(2) {
        Some(theirs) if theirs != ours => Err(S3Error::with_message(
            S3ErrorCode::AuthorizationHeaderMalformed,
            format!(
                "The authorization header is malformed; the region '{theirs}' is wrong; expecting '{ours}'"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(settings: &Settings, target: &str, authorization: Option<&str>) -> Option<String> {
        let mut request = Request::get(target);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let refused = check(settings, &request.body(()).unwrap()).err();
        refused.map(|e| e.code().as_str().to_owned())
    }

    #[test]
    fn what_the_library_does_not_look_at() {
        let any = Settings::default();
        let one = Settings { region: Some("eu-1".into()), ..Settings::default() };
        let v4 = |region: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=BK/20260101/{region}/s3/aws4_request, SignedHeaders=host, Signature=0"
            )
        };
        let link = |secs: &str| {
            format!(
                "/b/k?X-Amz-Signature=0&X-Amz-Expires={secs}&X-Amz-Credential=BK%2F20260101%2Feu-1%2Fs3%2Faws4_request"
            )
        };
        assert_eq!(code(&any, "/b/k", None), None);
        assert_eq!(code(&any, "/b/k", Some("AWS BK:0")).as_deref(), Some("InvalidRequest"));
        assert_eq!(
            code(&any, "/b/k?AWSAccessKeyId=BK&Signature=0&Expires=1", None).as_deref(),
            Some("InvalidRequest")
        );
        assert_eq!(code(&any, &link("604800"), None), None);
        for secs in ["604801", "-1", "soon"] {
            assert_eq!(
                code(&any, &link(secs), None).as_deref(),
                Some("AuthorizationQueryParametersError"),
                "{secs}"
            );
        }
        assert_eq!(code(&any, &link("60"), Some(&v4("eu-1"))).as_deref(), Some("InvalidArgument"));
        assert_eq!(code(&one, &link("60"), None), None);
        assert_eq!(code(&one, "/b/k", Some(&v4("eu-1"))), None);
        assert_eq!(code(&any, "/b/k", Some(&v4("us-1"))), None);
        assert_eq!(code(&one, "/b/k", Some(&v4("us-1"))).as_deref(), Some("AuthorizationHeaderMalformed"));
    }
}
