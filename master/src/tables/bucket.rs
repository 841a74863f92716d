//! Buckets, by name, with their settings. The first segment of a key is its bucket. A bucket exists if it was
//! created, or if it has values; the latter has no record.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::key::Key;
use shared::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX};

use super::object::Object;
use super::{Kind, Read, TableError, Tables, scan};

/// Maximum length of a key after its bucket and slash: the limit of S3.
const REST_BYTES_MAX: usize = KEY_BYTES_MAX - BUCKET_BYTES_MAX - 1;

/// Settings of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub created: Timestamp,
    /// Whether its values can be read without an access key.
    pub public_read: bool,
    pub cors: Vec<CorsRule>,
    /// Tags: names and values.
    pub tags: Vec<(String, String)>,
    /// When unfinished multipart uploads expire; where no rule applies, after the cluster's `--upload-expiry`.
    pub abort_uploads: Vec<AbortRule>,
}

/// One rule of a bucket's CORS configuration (S3: `CORSRule`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    /// Its name, where it was given one.
    pub id: Option<String>,
    /// Origins, each with at most one `*`.
    pub origins: Vec<String>,
    pub methods: Vec<String>,
    /// Request headers, each with at most one `*`.
    pub headers: Vec<String>,
    /// Response headers that the page may read.
    pub exposed: Vec<String>,
    /// How long a browser may cache the preflight response.
    pub max_age_secs: Option<i32>,
}

/// When unfinished multipart uploads expire (S3: a lifecycle rule with only `AbortIncompleteMultipartUpload`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRule {
    /// Its name, where it was given one.
    pub id: Option<String>,
    pub enabled: bool,
    /// Applies to keys that begin with this after the bucket.
    pub prefix: String,
    /// Days from the creation of an upload to its expiry.
    pub days: u32,
}

impl Bucket {
    /// Returns a bucket with default settings.
    pub fn new(created: Timestamp) -> Self {
        Self { created, public_read: false, cors: vec![], tags: vec![], abort_uploads: vec![] }
    }
}

/// Returns the bucket of a key: the part before its first slash; `None` for a key without a slash.
pub fn of(key: &Key) -> Option<&str> {
    key.as_str().split_once('/').map(|(bucket, _)| bucket)
}

/// Whether `name` is a valid S3 bucket name; the same rule for both APIs.
pub fn is_name(name: &str) -> bool {
    s3s::path::check_bucket_name(name)
}

/// Why S3 clients cannot name a key in a bucket.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum Unspoken {
    /// Nothing follows the slash.
    #[error("the key has nothing after its bucket: to S3 clients such a key is the bucket itself")]
    Empty,
    /// Longer than S3 allows.
    #[error("the key has {0} bytes after its bucket: S3 clients can name at most {REST_BYTES_MAX}")]
    TooLong(usize),
}

/// Checks that S3 clients can name a key, if its first segment is a valid bucket name; they do not see other keys.
///
/// # Errors
/// When they cannot name it.
pub fn check(key: &Key) -> Result<(), Unspoken> {
    match key.as_str().split_once('/') {
        Some((bucket, "")) if is_name(bucket) => Err(Unspoken::Empty),
        Some((bucket, rest)) if rest.len() > REST_BYTES_MAX && is_name(bucket) => {
            Err(Unspoken::TooLong(rest.len()))
        }
        _ => Ok(()),
    }
}

/// Returns the prefix of all keys of a bucket.
fn prefix(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"/"].concat()
}

/// Reads the record of a bucket.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn record(records: &impl Read, name: &str) -> Result<Option<Bucket>, TableError> {
    let key = name.as_bytes();
    records.get(Kind::Bucket, key)
}

/// Reads a bucket that was created or has values.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn read(tree: &sled::Tree, name: &str) -> Result<Option<Bucket>, TableError> {
    if let Some(bucket) = record(tree, name)? {
        return Ok(Some(bucket));
    }
    let first = scan::<Object>(tree, Kind::Object, &prefix(name), None).next().transpose()?;
    Ok(first.map(|(_, object)| Bucket::new(object.generation.created())))
}

/// Returns all buckets that were created or have values, ordered by name.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn all(tree: &sled::Tree) -> Result<Vec<(String, Bucket)>, TableError> {
    let mut all: std::collections::BTreeMap<String, Bucket> = scan::<Bucket>(tree, Kind::Bucket, b"", None)
        .map(|r| r.map(|(name, bucket)| (String::from_utf8_lossy(&name).into_owned(), bucket)))
        .collect::<Result<_, _>>()?;
    let mut after: Option<Vec<u8>> = None;
    while let Some(next) = scan::<Object>(tree, Kind::Object, b"", after.as_deref()).next() {
        let (key, object) = next?;
        let segment = key.split(|b| *b == b'/').next().unwrap_or_default().to_vec();
        if segment.len() < key.len() {
            let name = String::from_utf8_lossy(&segment).into_owned();
            all.entry(name).or_insert_with(|| Bucket::new(object.generation.created()));
            // Continue after the last key of this bucket.
            after = Some([&segment[..], b"/\xff"].concat());
        } else {
            after = Some(key);
        }
    }
    Ok(all.into_iter().collect())
}

/// Whether a bucket was created or has values.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn exists(records: &impl Read, name: &str) -> Result<bool, TableError> {
    Ok(record(records, name)?.is_some() || has_values(records, name)?)
}

/// Whether any key of this bucket has a value.
///
/// # Errors
/// When sled fails.
pub fn has_values(records: &impl Read, name: &str) -> Result<bool, TableError> {
    records.any(Kind::Object, &prefix(name))
}

impl Tables<'_> {
    pub fn put_bucket(&mut self, name: &str, bucket: &Bucket) {
        self.put(Kind::Bucket, name.as_bytes(), bucket);
    }

    /// Removes the record of a bucket; the bucket still exists while it has values.
    pub fn remove_bucket(&mut self, name: &str) {
        self.remove(Kind::Bucket, name.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_s3_clients_can_say() {
        let long = "r".repeat(REST_BYTES_MAX);
        let check = |text: &str| check(&Key::new(text).unwrap());
        for good in ["box/k", "box//", "box", "no/", "Box/", "-ox/", "/", "a.b/k"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check("box/"), Err(Unspoken::Empty));
        assert_eq!(check(&format!("box/{long}")), Ok(()));
        assert_eq!(check(&format!("box/{long}r")), Err(Unspoken::TooLong(REST_BYTES_MAX + 1)));
        assert_eq!(check(&format!("Box/{long}r")), Ok(()), "in no bucket");
        assert_eq!(REST_BYTES_MAX, 1024);
    }
}
