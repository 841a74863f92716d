//! Access keys as words: the id, the secret, what a key permits, and where.
//!
//! A secret is shown once, to whoever made the key: nothing here prints or serialises it, and it is stored and sent
//! sealed (`AccessSecret::seal`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{
    ACCESS_ID_CHARS_MAX, ACCESS_SECRET_CHARS_CHOSEN_MIN, ACCESS_SECRET_CHARS_MAX, KEY_BYTES_MAX,
};
use crate::secret::{ClusterSecret, UnsealError, random_bytes};

/// Letters and digits of an id that is made here ...
const ID_LETTERS: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// ... which begins like this ...
const ID_BEGINS: &str = "BK";
/// ... and has so many characters.
const ID_CHARS: usize = 20;
/// Characters of a secret that is made here: 64 of them, so that each is six bits ...
const SECRET_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// ... and so many of them.
const SECRET_CHARS: usize = 40;
/// Shorter ids are typing errors.
const ID_CHARS_MIN: usize = 3;
/// Shorter secrets are typing errors. Keys that were made when so many characters were enough go on.
const SECRET_CHARS_MIN: usize = 8;

/// The name of an access key: letters, digits, `-` and `_`. It is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccessKeyId(String);

/// The text cannot be an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an access key's id has {ID_CHARS_MIN} to {ACCESS_ID_CHARS_MAX} letters, digits, - and _")]
pub struct AccessKeyIdError;

impl AccessKeyId {
    /// A new one: `BK` and 18 upper-case letters and digits.
    pub fn random() -> Self {
        // Each byte below 252 is one of 36 with the same chance.
        let fair = random_bytes::<256>().into_iter().filter(|b| *b < 252);
        let letters = fair.map(|b| char::from(ID_LETTERS[usize::from(b % 36)]));
        Self(ID_BEGINS.chars().chain(letters).take(ID_CHARS).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccessKeyId {
    type Err = AccessKeyIdError;

    fn from_str(text: &str) -> Result<Self, AccessKeyIdError> {
        let fits = (ID_CHARS_MIN..=ACCESS_ID_CHARS_MAX).contains(&text.len());
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if fits && text.bytes().all(letter) { Ok(Self(text.to_owned())) } else { Err(AccessKeyIdError) }
    }
}

impl TryFrom<String> for AccessKeyId {
    type Error = AccessKeyIdError;

    fn try_from(text: String) -> Result<Self, AccessKeyIdError> {
        text.parse()
    }
}

impl From<AccessKeyId> for String {
    fn from(id: AccessKeyId) -> Self {
        id.0
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What only the holder of an access key and its cluster know.
#[derive(Clone)]
pub struct AccessSecret(String);

/// The text cannot be a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "an access key's secret has {SECRET_CHARS_MIN} to {ACCESS_SECRET_CHARS_MAX} printable ASCII characters and no spaces"
)]
pub struct AccessSecretError;

/// The secret is too short to be made one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a secret that you choose has at least {ACCESS_SECRET_CHARS_CHOSEN_MIN} characters: shorter ones are guessed"
)]
pub struct ShortSecretError;

impl AccessSecret {
    /// As parsed, for a key that is to be made: with the length that such a secret has to have.
    ///
    /// # Errors
    /// When it is shorter.
    pub fn chosen(self) -> Result<Self, ShortSecretError> {
        if self.0.len() >= ACCESS_SECRET_CHARS_CHOSEN_MIN { Ok(self) } else { Err(ShortSecretError) }
    }

    /// A new one: 40 characters, 240 bits.
    pub fn random() -> Self {
        let letters = random_bytes::<SECRET_CHARS>().map(|b| char::from(SECRET_LETTERS[usize::from(b & 63)]));
        Self(letters.into_iter().collect())
    }

    /// As text, for a signature or for the one time that it is shown.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is it; how long that takes says nothing of where they differ.
    pub fn is(&self, given: &str) -> bool {
        // `blake3::Hash` compares in constant time.
        blake3::hash(self.0.as_bytes()) == blake3::hash(given.as_bytes())
    }

    /// As it is stored and sent: of use to this cluster only, and for this id only.
    pub fn seal(&self, secret: &ClusterSecret, id: &AccessKeyId) -> Sealed {
        Sealed(secret.seal_bytes(id.as_str().as_bytes(), self.0.as_bytes()))
    }
}

impl FromStr for AccessSecret {
    type Err = AccessSecretError;

    fn from_str(text: &str) -> Result<Self, AccessSecretError> {
        let fits = (SECRET_CHARS_MIN..=ACCESS_SECRET_CHARS_MAX).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AccessSecretError)
        }
    }
}

impl fmt::Debug for AccessSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessSecret(..)")
    }
}

/// A secret that only the cluster can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The secret.
    ///
    /// # Errors
    /// When it was sealed with another cluster's secret, for another id, or is damaged.
    pub fn open(&self, secret: &ClusterSecret, id: &AccessKeyId) -> Result<AccessSecret, UnsealError> {
        let bytes = secret.open_bytes(id.as_str().as_bytes(), &self.0)?;
        String::from_utf8(bytes).map_err(|_| UnsealError)?.parse().map_err(|_| UnsealError)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// How much a key permits; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Reading values and listing keys.
    Read,
    /// Storing and deleting values.
    Write,
    /// Everything, configuration included.
    Admin,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

/// Where a key is good: one bucket, or what in it begins with a prefix. `bucket` or `bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    bucket: String,
    prefix: String,
}

/// The text is no scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a scope is BUCKET or BUCKET/PREFIX, at most {KEY_BYTES_MAX} bytes, without NUL")]
pub struct ScopeError;

impl Scope {
    /// The first segment of the keys it is good for.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// How keys inside the bucket begin; empty for the whole bucket.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether it is for all of `bucket`.
    pub fn is_all_of(&self, bucket: &str) -> bool {
        self.bucket == bucket && self.prefix.is_empty()
    }

    /// Whether it is for all keys of `bucket` that begin with `rest`, `rest` itself included.
    pub fn covers(&self, bucket: &str, rest: &str) -> bool {
        self.bucket == bucket && rest.starts_with(&self.prefix)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        if bucket.is_empty() || text.len() > KEY_BYTES_MAX || text.contains('\0') {
            return Err(ScopeError);
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_made_has_its_form_and_is_never_the_same() {
        let ids: Vec<_> = (0..100).map(|_| AccessKeyId::random()).collect();
        for id in &ids {
            assert!(id.as_str().len() == 20 && id.as_str().starts_with("BK"), "{id}");
            assert!(id.as_str().bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{id}");
            assert_eq!(&id.as_str().parse::<AccessKeyId>().unwrap(), id);
        }
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 100);
        let secret = AccessSecret::random();
        assert_eq!(secret.expose().len(), 40);
        assert!(secret.expose().parse::<AccessSecret>().unwrap().is(secret.expose()));
        assert!(!secret.is(AccessSecret::random().expose()) && !secret.is(""));
    }

    #[test]
    fn nothing_shows_a_secret() {
        let (cluster, id) = (ClusterSecret::from_bytes(b"0123456789abcdef"), AccessKeyId::random());
        let secret: AccessSecret = "open/sesame+1".parse().unwrap();
        let sealed = secret.seal(&cluster, &id);
        assert_eq!(format!("{secret:?} {sealed:?}"), "AccessSecret(..) Sealed(..)");
        assert!(!sealed.0.windows(4).any(|w| w == b"open"));
        assert!(sealed.open(&cluster, &id).unwrap().is("open/sesame+1"));
        assert!(sealed.open(&cluster, &AccessKeyId::random()).is_err(), "bound to its id");
        assert!(sealed.open(&ClusterSecret::from_bytes(b"0123456789abcdeg"), &id).is_err());
    }

    #[test]
    fn forms_are_checked() {
        for bad in ["", "ab", "a:bcd", "a/bcd", "a bcd", "ä-key"] {
            assert_eq!(bad.parse::<AccessKeyId>(), Err(AccessKeyIdError), "{bad}");
        }
        for bad in ["", "1234567", "with space", "line\nfeed", "ümlaut-secret"] {
            assert!(bad.parse::<AccessSecret>().is_err(), "{bad}");
        }
        let old: AccessSecret = "123456789012345".parse().unwrap();
        assert_eq!(old.chosen().unwrap_err(), ShortSecretError, "it opens, and is not made");
        assert!("1234567890123456".parse::<AccessSecret>().unwrap().chosen().is_ok());
        for bad in ["", "/", "/a", "a\0b"] {
            assert_eq!(bad.parse::<Scope>(), Err(ScopeError), "{bad}");
        }
        assert_eq!("a/".parse::<Scope>(), "a".parse::<Scope>());
        assert!(Permission::Read < Permission::Write && Permission::Write < Permission::Admin);
    }

    proptest! {
        #[test]
        fn a_scope_is_for_keys_that_begin_with_it(bucket in "[a-c]{1,2}", prefix in "([a-c/]{0,4})", key in "[a-c/]{1,8}") {
            let text = if prefix.is_empty() { bucket.clone() } else { format!("{bucket}/{prefix}") };
            let scope: Scope = text.parse().unwrap();
            let inside = key.split_once('/').is_some_and(|(b, rest)| scope.covers(b, rest));
            prop_assert_eq!(inside, key.starts_with(&format!("{bucket}/{prefix}")));
            prop_assert_eq!(scope.to_string().parse::<Scope>(), Ok(scope));
        }
    }
}
