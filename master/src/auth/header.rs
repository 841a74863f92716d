//! How a native request shows its access key, `Authorization: Bearer ID:SECRET` or Basic, and how it is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use shared::wire::error::{ErrorCode, ErrorReply};

const HOW: &str =
    "send Authorization: Bearer ID:SECRET, or Basic as curl -u ID:SECRET does; `barge key create` makes keys";

/// Id and secret as they were sent; none when there is no such header.
pub(super) fn credentials(headers: &HeaderMap) -> Option<Result<(String, String), ErrorReply>> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let only = sent.next()?;
    let pair = only.to_str().ok().filter(|_| sent.next().is_none()).and_then(pair);
    Some(pair.ok_or_else(wrong))
}

fn pair(text: &str) -> Option<(String, String)> {
    let (scheme, rest) = text.trim().split_once(' ')?;
    let rest = rest.trim_start();
    let text = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        String::from_utf8(STANDARD.decode(rest).ok()?).ok()?
    } else {
        return None;
    };
    text.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
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
