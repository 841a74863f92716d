//! `Key`: the name of an object, parsed once, where it enters.
//!
//! A key is stored exactly as sent, or refused with the rule it broke. Nothing is normalised: no `..` is resolved, no
//! `//` folded, no Unicode form changed, so two different requests never mean the same key by accident.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::limits::KEY_BYTES_MAX;

/// A key: 1..=1088 bytes of UTF-8 without NUL, not beginning with `_/`, no `.` or `..` segment.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// The rule a key broke.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum KeyError {
    /// The key has no bytes.
    #[error("the key is empty: a key has 1 to {KEY_BYTES_MAX} bytes")]
    Empty,
    /// More than `KEY_BYTES_MAX` bytes after decoding.
    #[error("the key is {0} bytes long: a key has at most {KEY_BYTES_MAX} bytes of UTF-8")]
    TooLong(usize),
    /// A NUL byte.
    #[error("the key contains a NUL byte (%00), which is not allowed")]
    Nul,
    /// Not UTF-8 after decoding.
    #[error("the key is not valid UTF-8 after percent-decoding")]
    NotUtf8,
    /// A `%` that is not followed by two hex digits.
    #[error("a % in the path is not followed by two hex digits; write %25 for a percent sign")]
    BadEscape,
    /// Reserved for the servers' own paths.
    #[error("keys that begin with _/ are reserved for Barge")]
    Reserved,
    /// `.` or `..` as a path segment: most clients and proxies resolve it before we see it, so such a key could be
    /// stored under a name by which it cannot be fetched.
    #[error("a key must not contain . or .. as a path segment: clients and proxies rewrite such paths")]
    DotSegment,
}

/// The characters not escaped in a URL's path: RFC 3986's unreserved ones and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Key {
    /// Checks the rules.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong(text.len()));
        }
        if text.contains('\0') {
            return Err(KeyError::Nul);
        }
        if text == "_" || text.starts_with("_/") {
            return Err(KeyError::Reserved);
        }
        if text.split('/').any(|s| s == "." || s == "..") {
            return Err(KeyError::DotSegment);
        }
        Ok(Self(text.to_owned()))
    }

    /// Parses the path of a request target, with its leading slash; decodes percent-encoding once.
    pub fn from_path(path: &str) -> Result<Self, KeyError> {
        Self::new(&decode(path.strip_prefix('/').unwrap_or(path))?)
    }

    /// The key as a URL path with a leading slash; the inverse of `from_path`.
    pub fn to_path(&self) -> String {
        format!("/{}", percent_encode(self.0.as_bytes(), PATH))
    }

    /// Returns the key without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Percent-decodes strictly: a stray `%` and bytes that are not UTF-8 are refused.
pub fn decode(text: &str) -> Result<String, KeyError> {
    let bytes = text.as_bytes();
    let escapes_ok = bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'%')
        .all(|(i, _)| bytes.get(i + 1..i + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)));
    if !escapes_ok {
        return Err(KeyError::BadEscape);
    }
    let decoded = percent_encoding::percent_decode(bytes).decode_utf8().map_err(|_| KeyError::NotUtf8)?;
    Ok(decoded.into_owned())
}

/// Percent-encodes a text for a query value.
pub fn encode_query(text: &str) -> String {
    percent_encode(text.as_bytes(), PATH).to_string()
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.0)
    }
}

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(s: &str) -> Result<Self, KeyError> {
        Self::new(s)
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;
    fn try_from(s: String) -> Result<Self, KeyError> {
        Self::new(&s)
    }
}

impl From<Key> for String {
    fn from(k: Key) -> Self {
        k.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rules() {
        let long = "k".repeat(KEY_BYTES_MAX);
        for good in ["a", "a/b", "a//b", "a/", "%", "ü", "e\u{301}", "a?b#c", long.as_str(), "..a", "a b"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        assert_eq!(Key::new("_"), Err(KeyError::Reserved));
        assert_eq!(Key::from_path("/"), Err(KeyError::Empty));
        assert_eq!(Key::from_path(&format!("/{long}k")), Err(KeyError::TooLong(KEY_BYTES_MAX + 1)));
        assert_eq!(Key::from_path("/a%00b"), Err(KeyError::Nul));
        assert_eq!(Key::from_path("/a%ffb"), Err(KeyError::NotUtf8));
        assert_eq!(Key::from_path("/a%zz"), Err(KeyError::BadEscape));
        assert_eq!(Key::from_path("/a%2"), Err(KeyError::BadEscape));
        assert_eq!(Key::from_path("/_/health"), Err(KeyError::Reserved));
        assert_eq!(Key::from_path("/a/../b"), Err(KeyError::DotSegment));
        assert_eq!(Key::from_path("/a/%2e%2e/b"), Err(KeyError::DotSegment));
        assert_eq!(Key::from_path("/a%2Fb").map(String::from), Ok("a/b".into()));
    }

    proptest! {
        #[test]
        fn paths_round_trip(text in "\\PC{1,80}") {
            if let Ok(key) = Key::new(&text) {
                let path = key.to_path();
                prop_assert!(path.is_ascii());
                prop_assert_eq!(Key::from_path(&path), Ok(key));
            }
        }
    }
}
