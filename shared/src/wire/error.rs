//! Errors as clients see them: one list of codes and one JSON form.
//!
//! `{"error":{"code","message","key","hint","request_id"}}`: what happened, to which key, and what to do next.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::key::{Key, KeyError};

/// Every way in which a request can fail. The code determines the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it; `status` and the message of each answer say the rest")]
pub enum ErrorCode {
    BadRequest,
    BadKey,
    BadHeader,
    BadBody,
    WrongLength,
    WrongDigest,
    BadTicket,
    TicketExpired,
    TicketUsed,
    NotSigned,
    NotFound,
    NoSuchRoute,
    MethodNotAllowed,
    NotImplemented,
    Timeout,
    Exists,
    WrongCluster,
    WrongVolume,
    WrongMaster,
    WrongRecipient,
    LengthRequired,
    PreconditionFailed,
    TooLarge,
    RangeNotSatisfiable,
    Corrupt,
    Internal,
    TooBusy,
    Unavailable,
    OutcomeUnknown,
    NotLeader,
    NotJoined,
    ReadOnly,
    NoSpace,
    Unauthorized,
    Forbidden,
    Outdated,
}

impl ErrorCode {
    /// Returns the HTTP status of answers with this code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::BadKey | Self::BadHeader | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::WrongLength | Self::WrongDigest => StatusCode::BAD_REQUEST,
            Self::BadTicket | Self::TicketExpired | Self::NotSigned => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Exists
            | Self::WrongCluster
            | Self::WrongVolume
            | Self::WrongMaster
            | Self::TicketUsed
            | Self::Outdated => StatusCode::CONFLICT,
            Self::WrongRecipient => StatusCode::MISDIRECTED_REQUEST,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Corrupt | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooBusy | Self::Unavailable | Self::OutcomeUnknown | Self::ReadOnly => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NotLeader | Self::NotJoined => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
        }
    }

    /// Whether a failed request is retryable. `Retry-After` and the CLI derive from this; S3's codes are
    /// tested against it.
    pub fn retry(self) -> Retry {
        match self {
            Self::TooBusy | Self::Unavailable | Self::NotLeader | Self::NotJoined => Retry::After,
            // The master issues another ticket, or for another volume.
            Self::TicketExpired | Self::ReadOnly => Retry::After,
            Self::Timeout | Self::WrongRecipient => Retry::After,
            // A ticket was used by an upload that may have been committed.
            Self::OutcomeUnknown | Self::TicketUsed => Retry::IfIdempotent,
            Self::BadRequest | Self::BadKey | Self::BadHeader | Self::BadBody => Retry::Never,
            Self::WrongLength | Self::WrongDigest | Self::LengthRequired | Self::TooLarge => Retry::Never,
            Self::NotFound | Self::NoSuchRoute | Self::MethodNotAllowed | Self::NotImplemented => {
                Retry::Never
            }
            // To be read again, and decided again by the client.
            Self::Exists | Self::PreconditionFailed | Self::Outdated => Retry::Never,
            Self::RangeNotSatisfiable | Self::BadTicket => Retry::Never,
            Self::Unauthorized | Self::Forbidden => Retry::Never,
            // Until an operator acts.
            Self::WrongCluster | Self::WrongVolume | Self::WrongMaster | Self::NotSigned => Retry::Never,
            Self::Corrupt | Self::Internal | Self::NoSpace => Retry::Never,
        }
    }

    /// Returns the `Retry-After` in seconds, for errors that are worth a retry.
    pub fn retry_after_secs(self) -> Option<u32> {
        (self.retry() != Retry::Never).then_some(1)
    }
}

/// Whether a failed request is worth repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It fails again until something else changes.
    Never,
    /// Nothing was done: send it again after `Retry-After`, to the master if a volume refused it.
    After,
    /// It may have been done although no answer says so: send it again only if that is harmless.
    IfIdempotent,
}

/// An error answer, before it is rendered as HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// The kind of error.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// The key it happened to, if there is one.
    pub key: Option<Key>,
    /// What to do next.
    pub hint: &'static str,
    /// Headers of the answer, besides the usual ones.
    pub headers: HeaderMap,
}

impl ErrorReply {
    /// Creates an error without a key; `for_key` adds one.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: &'static str) -> Self {
        Self { code, message: message.into(), key: None, hint, headers: HeaderMap::new() }
    }

    /// Creates the error for a failed condition: 409 for a plain POST, which means "create", and 412 when the client
    /// stated a condition.
    pub fn condition_failed(method: &Method, headers: &HeaderMap, key: &Key) -> Self {
        let stated = headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH);
        let refusal = if *method == Method::POST && !stated {
            Self::new(
                ErrorCode::Exists,
                "the key already has a value",
                "PUT replaces it; DELETE it first to POST again",
            )
        } else {
            Self::new(
                ErrorCode::PreconditionFailed,
                "the key's current value does not meet the condition",
                "HEAD the key for its current ETag, then retry with it",
            )
        };
        refusal.for_key(key)
    }

    /// Adds the key that the error concerns.
    #[must_use]
    pub fn for_key(mut self, key: &Key) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl From<KeyError> for ErrorReply {
    fn from(e: KeyError) -> Self {
        Self::new(
            ErrorCode::BadKey,
            e.to_string(),
            "use a key of 1 to 1088 bytes of UTF-8, percent-encoded in the URL",
        )
    }
}

/// The JSON body of an error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Its only field.
    pub error: ErrorDetail,
}

/// The fields of `error` in the JSON body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The kind of error.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// The key it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What to do next.
    pub hint: String,
    /// Id of the request, as in the servers' logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;
    use crate::http::serve::render;
    use crate::ids::RequestId;

    /// Each code as clients read it, its status and its `Retry-After`. Programs depend on all three.
    const CODES: [(&str, u16, Option<&str>); 36] = [
        ("bad_request", 400, None),
        ("bad_key", 400, None),
        ("bad_header", 400, None),
        ("bad_body", 400, None),
        ("wrong_length", 400, None),
        ("wrong_digest", 400, None),
        ("bad_ticket", 403, None),
        ("ticket_expired", 403, Some("1")),
        ("ticket_used", 409, Some("1")),
        ("not_signed", 403, None),
        ("not_found", 404, None),
        ("no_such_route", 404, None),
        ("method_not_allowed", 405, None),
        ("not_implemented", 501, None),
        ("timeout", 408, Some("1")),
        ("exists", 409, None),
        ("wrong_cluster", 409, None),
        ("wrong_volume", 409, None),
        ("wrong_master", 409, None),
        ("wrong_recipient", 421, Some("1")),
        ("length_required", 411, None),
        ("precondition_failed", 412, None),
        ("too_large", 413, None),
        ("range_not_satisfiable", 416, None),
        ("corrupt", 500, None),
        ("internal", 500, None),
        ("too_busy", 503, Some("1")),
        ("unavailable", 503, Some("1")),
        ("outcome_unknown", 503, Some("1")),
        ("not_leader", 503, Some("1")),
        ("not_joined", 503, Some("1")),
        ("read_only", 503, Some("1")),
        ("no_space", 507, None),
        ("unauthorized", 401, None),
        ("forbidden", 403, None),
        ("outdated", 409, None),
    ];

    #[test]
    fn each_code_has_its_name_its_status_and_its_retry_after() {
        for (name, status, retry) in CODES {
            let code: ErrorCode = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            let answer = render(ErrorReply::new(code, "what", "next"), RequestId::random());
            assert_eq!(answer.status().as_u16(), status, "{name}");
            let sent = answer.headers().get(RETRY_AFTER).map(|v| v.to_str().unwrap());
            assert_eq!(sent, retry, "{name}");
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{name}\""));
        }
    }

    /// HTTP clients repeat these statuses by themselves (RFC 9110, section 15; curl --retry).
    #[test]
    fn a_status_that_clients_repeat_is_worth_it() {
        for (name, status, _) in CODES {
            let code: ErrorCode = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            if [408, 429, 502, 503, 504].contains(&status) {
                assert_ne!(code.retry(), Retry::Never, "{name}");
            }
        }
    }

    #[test]
    fn there_are_no_other_codes() {
        // The message lists all known codes.
        let refused = serde_json::from_str::<ErrorCode>("\"?\"").unwrap_err().to_string();
        let known: Vec<_> = refused.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, CODES.map(|(name, ..)| name), "{refused}");
    }
}
