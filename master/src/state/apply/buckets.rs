//! Buckets: created, set up, removed when nothing is in them.

use shared::clock::Timestamp;

use crate::state::command::{Outcome, Setting};
use crate::tables::bucket::Bucket;
use crate::tables::{TableError, Tables, bucket};

pub(super) fn apply_create(
    tables: &mut Tables<'_>,
    name: &str,
    bucket: &Bucket,
) -> Result<Outcome, TableError> {
    if bucket::record(tables, name)?.is_some() {
        return Ok(Outcome::BucketExists);
    }
    // One that only has values becomes one that stays without them.
    let existed = bucket::has_values(tables, name)?;
    tables.put_bucket(name, bucket);
    Ok(if existed { Outcome::BucketExists } else { Outcome::Done })
}

pub(super) fn apply_set(
    tables: &mut Tables<'_>,
    name: &str,
    setting: &Setting,
) -> Result<Outcome, TableError> {
    let bucket = match bucket::record(tables, name)? {
        Some(bucket) => Some(bucket),
        None => bucket::has_values(tables, name)?.then(|| Bucket::new(Timestamp::from_unix_ms(0))),
    };
    let Some(mut bucket) = bucket else { return Ok(Outcome::NoBucket) };
    match setting.clone() {
        Setting::PublicRead(public) => bucket.public_read = public,
        Setting::Cors(rules) => bucket.cors = rules,
        Setting::Tags(tags) => bucket.tags = tags,
        Setting::AbortUploads(rules) => bucket.abort_uploads = rules,
    }
    tables.put_bucket(name, &bucket);
    Ok(Outcome::Done)
}

pub(super) fn apply_delete(tables: &mut Tables<'_>, name: &str) -> Result<Outcome, TableError> {
    if bucket::has_values(tables, name)? {
        return Ok(Outcome::BucketNotEmpty);
    }
    if bucket::record(tables, name)?.is_none() {
        return Ok(Outcome::NoBucket);
    }
    tables.remove_bucket(name);
    Ok(Outcome::Done)
}
