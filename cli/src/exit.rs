//! How a command ends: the exit codes, and failures that say what happened and what to do next.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use shared::key::Key;
use shared::wire::error::{self, ErrorBody, ErrorCode, ErrorDetail};

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
    IfIdempotent,
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
            .retry(Retry::IfIdempotent)
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
        failure.retry = retry_of(status, code, retry_after);
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

/// An answer without a code is from something else: a proxy, or another program.
fn exit_of(status: StatusCode, code: Option<ErrorCode>) -> Exit {
    let Some(code) = code else {
        return match status.as_u16() {
            404 => Exit::NotFound,
            409 | 412 => Exit::Conflict,
            408 | 429 | 502 | 503 | 504 | 507 => Exit::Unavailable,
            _ => Exit::Failure,
        };
    };
    match code {
        ErrorCode::Corrupt | ErrorCode::WrongDigest => Exit::Unverified,
        ErrorCode::NotFound => Exit::NotFound,
        ErrorCode::Exists | ErrorCode::PreconditionFailed | ErrorCode::Outdated => Exit::Conflict,
        ErrorCode::WrongCluster | ErrorCode::WrongVolume | ErrorCode::WrongMaster => Exit::Conflict,
        ErrorCode::NoSpace => Exit::Unavailable,
        _ if code.retry() != error::Retry::Never => Exit::Unavailable,
        _ => Exit::Failure,
    }
}

fn retry_of(status: StatusCode, code: Option<ErrorCode>, after: Option<Duration>) -> Retry {
    match (code.map(ErrorCode::retry), status.as_u16()) {
        (Some(error::Retry::Never), _) => Retry::Never,
        (Some(error::Retry::After), _) | (None, 408 | 429 | 503) => Retry::After(after),
        (Some(error::Retry::IfIdempotent), _) | (None, 502 | 504) => Retry::IfIdempotent,
        (None, _) => Retry::Never,
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
            (408, Exit::Unavailable, Retry::After(None)),
            (429, Exit::Unavailable, Retry::After(None)),
            (500, Exit::Failure, Retry::Never),
            (502, Exit::Unavailable, Retry::IfIdempotent),
            (503, Exit::Unavailable, Retry::After(None)),
            (504, Exit::Unavailable, Retry::IfIdempotent),
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
        assert_eq!(Failure::from_answer(unavailable, unknown, after).retry, Retry::IfIdempotent);
        assert_eq!(Failure::from_answer(StatusCode::INSUFFICIENT_STORAGE, b"", after).retry, Retry::Never);
    }

    /// The code decides, not the status: 403 and 409 of a volume's ticket are not the user's.
    #[test]
    fn the_code_of_an_answer_decides_before_its_status() {
        let of = |code: ErrorCode| {
            let body = json!({"error": {"code": code, "message": "m", "hint": "h"}}).to_string();
            let failure = Failure::from_answer(code.status(), body.as_bytes(), None);
            (failure.exit, failure.retry)
        };
        let again = (Exit::Unavailable, Retry::After(None));
        for (code, wanted) in [
            (ErrorCode::TicketExpired, again),
            (ErrorCode::Timeout, again),
            (ErrorCode::Outdated, (Exit::Conflict, Retry::Never)),
            (ErrorCode::BadTicket, (Exit::Failure, Retry::Never)),
            (ErrorCode::TicketUsed, (Exit::Unavailable, Retry::IfIdempotent)),
            (ErrorCode::NotLeader, again),
            (ErrorCode::OutcomeUnknown, (Exit::Unavailable, Retry::IfIdempotent)),
            (ErrorCode::NoSpace, (Exit::Unavailable, Retry::Never)),
            (ErrorCode::Exists, (Exit::Conflict, Retry::Never)),
            (ErrorCode::WrongCluster, (Exit::Conflict, Retry::Never)),
            (ErrorCode::NoSuchRoute, (Exit::Failure, Retry::Never)),
            (ErrorCode::WrongDigest, (Exit::Unverified, Retry::Never)),
        ] {
            assert_eq!(of(code), wanted, "{code:?}");
        }
    }
}
