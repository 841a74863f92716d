//! How a native request shows its access key, `Authorization: Bearer ID:SECRET` or Basic, and how it is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use shared::wire::error::{ErrorCode, ErrorReply};

const HOW: &str =
    "send Authorization: Bearer ID:SECRET, or Basic as curl -u ID:SECRET does; `barge key create` makes keys";

/// An access key as it was sent, good or not.
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) secret: String,
    /// By Basic: a browser that was told it once adds it to every request, whichever page makes it.
    pub(super) remembered: bool,
}

/// The key that was sent; none when there is no such header.
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

/// No key was shown.
pub(super) fn missing() -> ErrorReply {
    unauthorized("this needs an access key")
}

/// What was shown is no key. Whether the id or the secret is wrong is nobody's business.
pub(super) fn wrong() -> ErrorReply {
    unauthorized("there is no access key with this id and this secret")
}

fn unauthorized(what: &str) -> ErrorReply {
    let challenge = HeaderValue::from_static("Basic realm=\"barge\"");
    ErrorReply::new(ErrorCode::Unauthorized, what, HOW).with_header(WWW_AUTHENTICATE, challenge)
}

/// The key is good, and not for this.
pub(super) fn forbidden() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Forbidden,
        "this access key does not permit that here",
        "use a key with that permission and scope: `barge key list` shows them",
    )
}

/// No key could be shown: there is none.
pub(super) fn closed() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Forbidden,
        "this master can be reached from other machines, and there is no access key yet",
        "make one with `barge key create`; or start the master with --insecure-no-auth when whoever reaches it may do anything",
    )
}
