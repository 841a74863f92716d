//! How a command ends: the exit codes, and failures that say what happened and what to do next.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use shared::key::Key;
use shared::wire::error::{ErrorBody, ErrorCode, ErrorDetail};

use crate::output::shown;

/// The exit codes; the help text lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    Ok = 0,
    /// Any other failure.
    Failure = 1,
    /// Invalid command line.
    Usage = 2,
    /// There is no such key.
    NotFound = 3,
    /// The key exists, or is not the expected version.
    Conflict = 4,
    /// Unreachable, busy or full.
    Unavailable = 5,
    /// The bytes do not match what was stored.
    Unverified = 6,
}

/// Whether a retry may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It will fail again.
    Never,
    /// Nothing was done: retry, after this time if the server named one.
    After(Option<Duration>),
    /// It may have been done although no answer says so; retry only if it is idempotent.
    Unknown,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// Whether to retry.
    pub(crate) retry: Retry,
    detail: Box<Detail>,
}

#[derive(Debug)]
struct Detail {
    what: String,
    key: Option<String>,
    next: Option<String>,
    code: Option<ErrorCode>,
    request_id: Option<String>,
}

impl Failure {
    /// A failure that a retry does not cure.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        let detail = Detail { what: what.into(), key: None, next: None, code: None, request_id: None };
        Self { exit, retry: Retry::Never, detail: Box::new(detail) }
    }

    /// A server that cannot be reached: it has not seen the request.
    pub(crate) fn unreachable(address: &str, why: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, format!("cannot reach {address}: {why}"))
            .next("check that the server is running, or name another one with --url")
            .retry(Retry::After(None))
    }

    /// A connection that broke, or a server that stopped answering, after the request was sent.
    pub(crate) fn broken(address: &str, why: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, format!("no complete answer from {address}: {why}"))
            .next("try again")
            .retry(Retry::Unknown)
    }

    /// An answer that Barge does not send.
    pub(crate) fn strange(address: &str, what: impl fmt::Display) -> Self {
        Self::new(Exit::Failure, format!("{address} {what}")).next("check that --url names a Barge master")
    }

    /// Bytes that do not match what was stored.
    pub(crate) fn unverified(what: impl Into<String>) -> Self {
        Self::new(Exit::Unverified, what)
    }

    /// An I/O error of a local file.
    pub(crate) fn local(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Exit::Failure, format!("{what}: {error}"))
    }

    /// A failure of the all-in-one server.
    pub(crate) fn from_server(error: &anyhow::Error) -> Self {
        Self::new(Exit::Failure, format!("{error:#}"))
    }

    /// An error status and its body.
    pub(crate) fn from_answer(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Self {
        let said: Option<ErrorDetail> = serde_json::from_slice::<ErrorBody>(body).ok().map(|b| b.error);
        let code = said.as_ref().map(|d| d.code);
        let mut failure = Self::new(exit_of(status, code), format!("the server answered {status}"));
        failure.retry = match (status, code) {
            (_, Some(ErrorCode::OutcomeUnknown)) => Retry::Unknown,
            (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, _) => Retry::After(retry_after),
            (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, _) => Retry::Unknown,
            (_, Some(ErrorCode::BadTicket | ErrorCode::TicketExpired | ErrorCode::TicketUsed)) => {
                Retry::After(None)
            }
            _ => Retry::Never,
        };
        if let Some(said) = said {
            let next = Some(said.hint).filter(|h| !h.is_empty());
            let (what, key, request_id) = (said.message, said.key, said.request_id);
            *failure.detail = Detail { what, key, next, code, request_id };
        } else if status == StatusCode::NOT_FOUND {
            failure.detail.what = "there is no value under this key".into();
            failure.detail.next = Some("list keys with `barge ls`".into());
        }
        failure
    }

    /// Adds the key, unless the failure names one.
    #[must_use]
    pub(crate) fn for_key(mut self, key: &Key) -> Self {
        self.detail.key.get_or_insert_with(|| key.as_str().to_owned());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.detail.next = Some(next.into());
        self
    }

    /// Changes whether to retry.
    #[must_use]
    pub(crate) fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Whether the server requires an access key, another one, or a signature.
    pub(crate) fn is_refusal(&self) -> bool {
        use ErrorCode::{Forbidden, NotSigned, Unauthorized};
        matches!(self.detail.code, Some(Unauthorized | Forbidden | NotSigned))
    }

    /// The error code of the server, if it is a Barge server.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.detail.code
    }

    /// As JSON, in the form of the servers' own errors.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let d = &self.detail;
        json!({"error": {
            "code": d.code, "message": d.what, "key": d.key, "hint": d.next,
            "request_id": d.request_id, "exit": self.exit as u8,
        }})
    }
}

fn exit_of(status: StatusCode, code: Option<ErrorCode>) -> Exit {
    match (status, code) {
        (_, Some(ErrorCode::Corrupt | ErrorCode::WrongDigest)) => Exit::Unverified,
        (StatusCode::NOT_FOUND, _) => Exit::NotFound,
        (StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED, _) => Exit::Conflict,
        (StatusCode::INSUFFICIENT_STORAGE | StatusCode::TOO_MANY_REQUESTS, _) => Exit::Unavailable,
        (StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT, _) => {
            Exit::Unavailable
        }
        _ => Exit::Failure,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &self.detail;
        f.write_str(&d.what)?;
        match (&d.key, &d.next) {
            (Some(key), Some(next)) => write!(f, " — {}; {next}", shown(key)),
            (Some(key), None) => write!(f, " — {}", shown(key)),
            (None, Some(next)) => write!(f, " — {next}"),
            (None, None) => Ok(()),
        }?;
        d.request_id.as_ref().map_or(Ok(()), |id| write!(f, " (request {id})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_exit_codes() {
        let of = |status: u16| Failure::from_answer(StatusCode::from_u16(status).unwrap(), b"", None).exit;
        let table = [
            (404, 3),
            (409, 4),
            (412, 4),
            (503, 5),
            (507, 5),
            (502, 5),
            (400, 1),
            (403, 1),
            (500, 1),
            (416, 1),
        ];
        for (status, exit) in table {
            assert_eq!(of(status) as u8, exit, "{status}");
        }
    }

    #[test]
    fn the_servers_words_are_passed_on() {
        let body = br#"{"error":{"code":"corrupt","message":"a block is bad","key":"a/b","hint":"restore it","request_id":"77"}}"#;
        let failure = Failure::from_answer(StatusCode::INTERNAL_SERVER_ERROR, body, None);
        assert_eq!(failure.to_string(), "a block is bad — a/b; restore it (request 77)");
        assert_eq!(failure.exit, Exit::Unverified);
        assert_eq!(failure.to_json()["error"]["code"], "corrupt");
    }

    /// A golden table: a change here breaks users' scripts.
    #[test]
    fn every_status_has_its_exit_code_and_whether_to_try_again() {
        for (status, exit, again) in [
            (400, Exit::Failure, Retry::Never),
            (401, Exit::Failure, Retry::Never),
            (403, Exit::Failure, Retry::Never),
            (404, Exit::NotFound, Retry::Never),
            (409, Exit::Conflict, Retry::Never),
            (412, Exit::Conflict, Retry::Never),
            (413, Exit::Failure, Retry::Never),
            (429, Exit::Unavailable, Retry::After(None)),
            (500, Exit::Failure, Retry::Never),
            (502, Exit::Unavailable, Retry::Unknown),
            (503, Exit::Unavailable, Retry::After(None)),
            (504, Exit::Unavailable, Retry::Unknown),
            (507, Exit::Unavailable, Retry::Never),
        ] {
            let failure = Failure::from_answer(StatusCode::from_u16(status).unwrap(), b"", None);
            assert_eq!((failure.exit, failure.retry), (exit, again), "{status}");
        }
    }

    #[test]
    fn what_may_be_tried_again() {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let after = Some(Duration::from_secs(3));
        assert_eq!(Failure::from_answer(unavailable, b"", after).retry, Retry::After(after));
        let unknown = br#"{"error":{"code":"outcome_unknown","message":"m","hint":"h"}}"#;
        assert_eq!(Failure::from_answer(unavailable, unknown, after).retry, Retry::Unknown);
        assert_eq!(Failure::from_answer(StatusCode::INSUFFICIENT_STORAGE, b"", after).retry, Retry::Never);
    }
}
