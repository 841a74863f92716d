//! The access key of a native request, `Authorization: Bearer ID:SECRET` or Basic, and the refusals.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use shared::wire::error::{ErrorCode, ErrorReply};

const HOW: &str = "send Authorization: Bearer ID:SECRET, or Basic as curl -u ID:SECRET does; `barge key create` creates a key";

/// An access key as it was sent, valid or not.
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) secret: String,
    /// Sent as Basic: a browser that knows it adds it to every request, whichever page makes it.
    pub(super) remembered: bool,
}

/// Parses the credentials; `None` without an `Authorization` header.
pub(super) fn credentials(headers: &HeaderMap) -> Option<Result<Shown, ErrorReply>> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let only = sent.next()?;
    let shown = only.to_str().ok().filter(|_| sent.next().is_none()).and_then(shown);
    Some(shown.ok_or_else(wrong))
}

fn shown(text: &str) -> Option<Shown> {
    let (scheme, rest) = text.trim().split_once(' ')?;
    let rest = rest.trim_start();
    let remembered = scheme.eq_ignore_ascii_case("basic");
    let text = if remembered {
        String::from_utf8(STANDARD.decode(rest).ok()?).ok()?
    } else if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else {
        return None;
    };
    let (id, secret) = text.split_once(':')?;
    Some(Shown { id: id.to_owned(), secret: secret.to_owned(), remembered })
}

pub(super) fn missing() -> ErrorReply {
    unauthorized("this request needs an access key")
}

/// Does not reveal whether the id or the secret is wrong.
pub(super) fn wrong() -> ErrorReply {
    unauthorized("there is no access key with this id and this secret")
}

fn unauthorized(what: &str) -> ErrorReply {
    let challenge = HeaderValue::from_static("Basic realm=\"barge\"");
    ErrorReply::new(ErrorCode::Unauthorized, what, HOW).with_header(WWW_AUTHENTICATE, challenge)
}

/// The key is valid, but does not permit this.
pub(super) fn forbidden() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Forbidden,
        "this access key does not permit this request",
        "use a key with the permission and a scope for it: `barge key list` shows them",
    )
}

/// The cluster has no access key yet, so no request can have one.
pub(super) fn closed() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Forbidden,
        "this master accepts connections from other machines, but has no access key yet",
        "create one with `barge key create`; or start the master with --insecure-no-auth to permit everything",
    )
}
