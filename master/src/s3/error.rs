//! Which S3 error an error of ours is (S3 API reference, "Error responses"). The only place where that is decided.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};
use shared::key::KeyError;
use shared::wire::error::{ErrorCode, ErrorReply};

use crate::read::Interrupted;
use crate::sequencer::ProposeError;
use crate::tables::TableError;

/// An error of ours, as S3 clients understand it.
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
        ErrorCode::Damaged | ErrorCode::Internal => S3ErrorCode::InternalError,
        _ => S3ErrorCode::ServiceUnavailable,
    };
    let status = match reply.code {
        ErrorCode::NoSpace => Some(StatusCode::INSUFFICIENT_STORAGE),
        // Without a status of their own in the library.
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

/// The metadata cannot be read.
pub fn from_tables(e: TableError) -> S3Error {
    tracing::error!(error = %e, "the metadata cannot be read");
    from_reply(e.into())
}

/// A change has no outcome.
pub fn from_propose(e: ProposeError) -> S3Error {
    from_reply(e.into())
}

/// The bytes of a value cannot be had.
pub fn from_interrupted(e: &Interrupted) -> S3Error {
    S3Error::with_message(S3ErrorCode::ServiceUnavailable, e.to_string())
}

/// A key that none may have.
pub fn from_key(e: KeyError) -> S3Error {
    let code = match e {
        KeyError::TooLong(_) => S3ErrorCode::KeyTooLongError,
        _ => S3ErrorCode::InvalidURI,
    };
    S3Error::with_message(code, e.to_string())
}

/// What is not there, and never pretended.
pub fn not_implemented(what: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, what)
}

/// An argument that S3 refuses.
pub fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}

/// A code that the library does not know.
pub fn custom(code: &'static str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message.into());
    error.set_status_code(status);
    error
}
