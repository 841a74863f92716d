//! Maps our errors to errors of Redis. The only place that does so.

use shared::key::{Key, KeyError};
use shared::wire::error::{ErrorCode, ErrorReply, Retry};

use super::reply::Reply;

pub fn of(refused: &ErrorReply) -> Reply {
    let kind = match refused.code {
        ErrorCode::Unauthorized => "NOAUTH",
        ErrorCode::Forbidden => "NOPERM",
        ErrorCode::NoSpace => "OOM",
        ErrorCode::NotJoined => "LOADING",
        // What clients of a Redis cluster repeat.
        code if code.retry() == Retry::After => "TRYAGAIN",
        _ => "ERR",
    };
    let hint = if refused.hint.is_empty() { String::new() } else { format!("; {}", refused.hint) };
    Reply::Error(format!("{kind} {}{hint}", refused.message))
}

/// Returns the key of an argument.
///
/// # Errors
/// The reply, if it is not a key.
pub fn key(argument: &[u8]) -> Result<Key, Reply> {
    let text = std::str::from_utf8(argument).map_err(|_| KeyError::NotUtf8);
    text.and_then(Key::new).map_err(|e| of(&e.into()))
}

pub fn not_permitted(anonymous: bool) -> Reply {
    Reply::Error(if anonymous {
        "NOAUTH Authentication required.".to_owned()
    } else {
        "NOPERM this access key does not permit this command on this key".to_owned()
    })
}

pub fn wrong_arity(command: &str) -> Reply {
    Reply::error(format!("wrong number of arguments for '{}' command", command.to_ascii_lowercase()))
}

pub fn syntax() -> Reply {
    Reply::error("syntax error")
}

pub fn not_an_integer() -> Reply {
    Reply::error("value is not an integer or out of range")
}
