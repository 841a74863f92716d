//! Access keys as types: the id, the secret, what a key permits, and where.
//!
//! A secret is shown once, to the creator of the key: nothing here prints or serialises it, and it is stored and
//! sent encrypted (`AccessSecret::encrypt`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{
    ACCESS_ID_CHARS_MAX, ACCESS_SECRET_CHARS_CHOSEN_MIN, ACCESS_SECRET_CHARS_MAX, KEY_BYTES_MAX,
};
use crate::secret::{ClusterSecret, DecryptError, random_bytes};

/// Letters and digits of a generated id.
const ID_LETTERS: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Prefix of a generated id.
const ID_BEGINS: &str = "BK";
/// Characters of a generated id, with its prefix.
const ID_CHARS: usize = 20;
/// Characters used in a generated secret: 64, so that each carries six bits.
const SECRET_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters of a generated secret.
const SECRET_CHARS: usize = 40;
/// Shorter ids are typing errors.
const ID_CHARS_MIN: usize = 3;
/// Shorter secrets are typing errors. Keys created when this length sufficed for a chosen secret stay valid.
const SECRET_CHARS_MIN: usize = 8;

/// The id of an access key: letters, digits, `-` and `_`. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccessKeyId(String);

/// The text is not a valid id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an access key's id consists of {ID_CHARS_MIN} to {ACCESS_ID_CHARS_MAX} letters, digits, - and _")]
pub struct AccessKeyIdError;

impl AccessKeyId {
    /// A new random id: `BK` and 18 upper-case letters and digits.
    pub fn random() -> Self {
        // All 36 characters are equally likely for a byte below 252.
        let fair = random_bytes::<256>().into_iter().filter(|b| *b < 252);
        let letters = fair.map(|b| char::from(ID_LETTERS[usize::from(b % 36)]));
        Self(ID_BEGINS.chars().chain(letters).take(ID_CHARS).collect())
    }

    /// The id's text.
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

/// The secret shared by the holder of an access key and its cluster.
#[derive(Clone)]
pub struct AccessSecret(String);

/// The text is not a valid secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "an access key's secret consists of {SECRET_CHARS_MIN} to {ACCESS_SECRET_CHARS_MAX} printable ASCII characters and no spaces"
)]
pub struct AccessSecretError;

/// The secret is too short for a new access key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a chosen secret needs at least {ACCESS_SECRET_CHARS_CHOSEN_MIN} characters: shorter ones can be guessed"
)]
pub struct ShortSecretError;

impl AccessSecret {
    /// Checks that the secret is long enough for a new access key.
    ///
    /// # Errors
    /// If it is shorter.
    pub fn chosen(self) -> Result<Self, ShortSecretError> {
        if self.0.len() >= ACCESS_SECRET_CHARS_CHOSEN_MIN { Ok(self) } else { Err(ShortSecretError) }
    }

    /// A new random secret: 40 characters, 240 bits.
    pub fn random() -> Self {
        let letters = random_bytes::<SECRET_CHARS>().map(|b| char::from(SECRET_LETTERS[usize::from(b & 63)]));
        Self(letters.into_iter().collect())
    }

    /// The secret's text, for a signature or to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` equals it; the time this takes does not reveal where they differ.
    pub fn is(&self, given: &str) -> bool {
        // `blake3::Hash` compares in constant time.
        blake3::hash(self.0.as_bytes()) == blake3::hash(given.as_bytes())
    }

    /// Encrypts it for storing and sending: only this cluster can decrypt it, and only for this id.
    pub fn encrypt(&self, secret: &ClusterSecret, id: &AccessKeyId) -> EncryptedSecret {
        EncryptedSecret(secret.encrypt(id.as_str().as_bytes(), self.0.as_bytes()))
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

/// An access secret that only the cluster can decrypt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedSecret(Vec<u8>);

impl EncryptedSecret {
    /// Decrypts the secret.
    ///
    /// # Errors
    /// If it was encrypted with another cluster's secret or for another id, or is corrupt.
    pub fn decrypt(&self, secret: &ClusterSecret, id: &AccessKeyId) -> Result<AccessSecret, DecryptError> {
        let bytes = secret.decrypt(id.as_str().as_bytes(), &self.0)?;
        String::from_utf8(bytes).map_err(|_| DecryptError)?.parse().map_err(|_| DecryptError)
    }
}

impl fmt::Debug for EncryptedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// What a key permits; each level includes those before it.
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

/// Where a key is valid: in one bucket, or for keys in it that begin with a prefix. `bucket` or `bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    bucket: String,
    prefix: String,
}

/// The text is not a valid scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a scope is BUCKET or BUCKET/PREFIX, at most {KEY_BYTES_MAX} bytes, without NUL")]
pub struct ScopeError;

impl Scope {
    /// The bucket of the keys it covers.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The prefix of keys within the bucket; empty for the whole bucket.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether it covers all of `bucket`.
    pub fn is_all_of(&self, bucket: &str) -> bool {
        self.bucket == bucket && self.prefix.is_empty()
    }

    /// Whether it covers all keys of `bucket` that begin with `rest`, and `rest` itself.
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
        let sealed = secret.encrypt(&cluster, &id);
        assert_eq!(format!("{secret:?} {sealed:?}"), "AccessSecret(..) Sealed(..)");
        assert!(!sealed.0.windows(4).any(|w| w == b"open"));
        assert!(sealed.decrypt(&cluster, &id).unwrap().is("open/sesame+1"));
        assert!(sealed.decrypt(&cluster, &AccessKeyId::random()).is_err(), "bound to its id");
        assert!(sealed.decrypt(&ClusterSecret::from_bytes(b"0123456789abcdeg"), &id).is_err());
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
        assert_eq!(old.chosen().unwrap_err(), ShortSecretError, "it still parses, but cannot be created");
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
