//! Buckets, by name: what S3 clients created, and how each is set up. A key's first segment is its bucket; one that
//! somebody has stored values in is there without a record, too.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::key::Key;
use shared::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX};

use super::object::Object;
use super::{Kind, Read, TableError, Tables, scan};

/// What stands behind a bucket in a key of S3 has so many bytes at most.
const REST_BYTES_MAX: usize = KEY_BYTES_MAX - BUCKET_BYTES_MAX - 1;

/// What is known of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// When it was created.
    pub created: Timestamp,
    /// Whether anybody may read its values.
    pub public_read: bool,
    /// Which pages of other origins may read answers.
    pub cors: Vec<CorsRule>,
    /// Names and values.
    pub tags: Vec<(String, String)>,
    /// Uploads in parts that are not completed after so many days go; none: after the cluster's time.
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
    /// Response headers that the page may see.
    pub exposed: Vec<String>,
    /// For how long the browser may remember the answer.
    pub max_age_secs: Option<i32>,
}

/// When uploads that were not completed go (S3: a lifecycle rule with `AbortIncompleteMultipartUpload` alone).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRule {
    /// Its name, where it was given one.
    pub id: Option<String>,
    /// Whether it counts.
    pub enabled: bool,
    /// Of keys that begin so, behind the bucket.
    pub prefix: String,
    /// Days after they began.
    pub days: u32,
}

impl Bucket {
    /// One without any settings.
    pub fn new(created: Timestamp) -> Self {
        Self { created, public_read: false, cors: vec![], tags: vec![], abort_uploads: vec![] }
    }
}

/// The bucket of a key: what stands before its first slash; none for a key without one.
pub fn of(key: &Key) -> Option<&str> {
    key.as_str().split_once('/').map(|(bucket, _)| bucket)
}

/// Whether S3 clients can name such a bucket: the one rule of both faces.
pub fn is_name(name: &str) -> bool {
    s3s::path::check_bucket_name(name)
}

/// A key whose first segment is the name of a bucket, and whose rest S3 clients cannot say.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum Unspoken {
    /// Nothing behind the slash: that is the bucket itself.
    #[error("behind the bucket there is nothing: such a key is the bucket itself to S3 clients")]
    Empty,
    /// More than S3 allows.
    #[error("behind the bucket there are {0} bytes: S3 clients can say {REST_BYTES_MAX} at most")]
    TooLong(usize),
}

/// Whether S3 clients can say a key, where its first segment is the name of a bucket; one that is in no such bucket they do
/// not see.
///
/// # Errors
/// Why they cannot.
pub fn check(key: &Key) -> Result<(), Unspoken> {
    match key.as_str().split_once('/') {
        Some((bucket, "")) if is_name(bucket) => Err(Unspoken::Empty),
        Some((bucket, rest)) if rest.len() > REST_BYTES_MAX && is_name(bucket) => {
            Err(Unspoken::TooLong(rest.len()))
        }
        _ => Ok(()),
    }
}

/// What keys of a bucket begin with.
fn prefix(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"/"].concat()
}

/// The record of a bucket, as a reader sees it.
///
/// # Errors
/// When sled fails or the record is damaged.
pub fn record(records: &impl Read, name: &str) -> Result<Option<Bucket>, TableError> {
    let key = name.as_bytes();
    records.get(Kind::Bucket, key)
}

/// A bucket that was created or has values, as a reader sees it.
///
/// # Errors
/// When sled fails or a record is damaged.
pub fn read(tree: &sled::Tree, name: &str) -> Result<Option<Bucket>, TableError> {
    if let Some(bucket) = record(tree, name)? {
        return Ok(Some(bucket));
    }
    let first = scan::<Object>(tree, Kind::Object, &prefix(name), None).next().transpose()?;
    Ok(first.map(|(_, object)| Bucket::new(object.generation.created())))
}

/// All buckets by name: those that were created, and those that have values.
///
/// # Errors
/// When sled fails or a record is damaged.
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
            // On behind the last key of this bucket.
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
/// When sled fails or the record is damaged.
pub fn exists(records: &impl Read, name: &str) -> Result<bool, TableError> {
    Ok(record(records, name)?.is_some() || has_values(records, name)?)
}

/// Whether a value's key begins with this bucket.
///
/// # Errors
/// When sled fails.
pub fn has_values(records: &impl Read, name: &str) -> Result<bool, TableError> {
    records.any(Kind::Object, &prefix(name))
}

impl Tables<'_> {
    /// Writes the record of a bucket.
    pub fn put_bucket(&mut self, name: &str, bucket: &Bucket) {
        self.put(Kind::Bucket, name.as_bytes(), bucket);
    }

    /// Removes the record of a bucket.
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
