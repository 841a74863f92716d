//! Maps our errors to S3 errors (S3 API reference, "Error responses"). The only place that does so.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};
use shared::key::KeyError;
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::read::ReadError;
use crate::sequencer::ProposeError;
use crate::tables::TableError;

pub fn from_reply(reply: ErrorReply) -> S3Error {
    let code = match reply.code {
        ErrorCode::NotFound => S3ErrorCode::NoSuchKey,
        ErrorCode::PreconditionFailed | ErrorCode::Exists => S3ErrorCode::PreconditionFailed,
        ErrorCode::RangeNotSatisfiable => S3ErrorCode::InvalidRange,
        ErrorCode::WrongLength => S3ErrorCode::IncompleteBody,
        ErrorCode::WrongDigest => S3ErrorCode::BadDigest,
        ErrorCode::TooLarge => S3ErrorCode::EntityTooLarge,
        ErrorCode::LengthRequired => S3ErrorCode::MissingContentLength,
        ErrorCode::Timeout => S3ErrorCode::RequestTimeout,
        ErrorCode::BadKey => S3ErrorCode::InvalidURI,
        ErrorCode::BadHeader | ErrorCode::BadRequest | ErrorCode::BadBody => S3ErrorCode::InvalidArgument,
        ErrorCode::TooBusy => S3ErrorCode::SlowDown,
        ErrorCode::Forbidden => S3ErrorCode::AccessDenied,
        ErrorCode::NoSpace => S3ErrorCode::Custom("InsufficientStorage".into()),
        ErrorCode::NotImplemented => S3ErrorCode::NotImplemented,
        // Also calls between servers of the cluster that failed: nothing that this client said is wrong.
        ErrorCode::TicketExpired
        | ErrorCode::TicketUsed
        | ErrorCode::WrongRecipient
        | ErrorCode::Unavailable
        | ErrorCode::OutcomeUnknown
        | ErrorCode::NotLeader
        | ErrorCode::NotJoined
        | ErrorCode::ReadOnly => S3ErrorCode::ServiceUnavailable,
        ErrorCode::Outdated => S3ErrorCode::OperationAborted,
        ErrorCode::Corrupt
        | ErrorCode::Internal
        | ErrorCode::BadTicket
        | ErrorCode::NotSigned
        | ErrorCode::WrongCluster
        | ErrorCode::WrongVolume
        | ErrorCode::WrongMaster
        | ErrorCode::NoSuchRoute
        | ErrorCode::MethodNotAllowed
        | ErrorCode::Unauthorized => S3ErrorCode::InternalError,
    };
    let status = match reply.code {
        ErrorCode::NoSpace => Some(StatusCode::INSUFFICIENT_STORAGE),
        // The library has no status for this code.
        ErrorCode::RangeNotSatisfiable => Some(StatusCode::RANGE_NOT_SATISFIABLE),
        _ => None,
    };
    let mut error = S3Error::with_message(code, format!("{}; {}", reply.message, reply.hint));
    if let Some(status) = status {
        error.set_status_code(status);
    }
    if !reply.headers.is_empty() {
        error.set_headers(reply.headers);
    }
    error
}

/// Logs and converts a failure to read the metadata.
pub fn from_tables(e: TableError) -> S3Error {
    tracing::error!(error = %e, "the metadata cannot be read");
    from_reply(e.into())
}

pub fn from_propose(e: ProposeError) -> S3Error {
    from_reply(e.into())
}

pub fn from_interrupted(e: &ReadError) -> S3Error {
    S3Error::with_message(S3ErrorCode::ServiceUnavailable, e.to_string())
}

pub fn from_key(e: KeyError) -> S3Error {
    let code = match e {
        KeyError::TooLong(_) => S3ErrorCode::KeyTooLongError,
        KeyError::Empty
        | KeyError::Nul
        | KeyError::NotUtf8
        | KeyError::BadEscape
        | KeyError::Reserved
        | KeyError::DotSegment => S3ErrorCode::InvalidURI,
    };
    S3Error::with_message(code, e.to_string())
}

/// Returns `NotImplemented`, for what is not supported.
pub fn not_implemented(what: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, what)
}

pub fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}

/// Returns an error with a code that the library does not know.
pub fn custom(code: &'static str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message.into());
    error.set_status_code(status);
    error
}

#[cfg(test)]
mod tests {
    use shared::wire::error::Retry;

    use super::*;

    /// S3 clients repeat these codes by themselves (AWS SDKs, "Retry behavior"). They repeat InternalError, too, for
    /// which S3 has no other code.
    #[test]
    fn s3_clients_repeat_what_is_worth_a_retry() {
        // The message lists all codes.
        let all = serde_json::from_str::<ErrorCode>("\"?\"").unwrap_err().to_string();
        let names: Vec<_> = all.split('`').skip(3).step_by(2).collect();
        assert!(names.len() > 30, "{all}");
        for name in names {
            let code: ErrorCode = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            let s3 = from_reply(ErrorReply::new(code, "", "")).code().as_str().to_owned();
            let repeated = ["ServiceUnavailable", "SlowDown", "RequestTimeout"].contains(&s3.as_str());
            assert_eq!(repeated, code.retry() != Retry::Never, "{name} is {s3}");
        }
    }
}
