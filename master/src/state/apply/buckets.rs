//! Creates, configures and deletes buckets.

use shared::clock::Timestamp;

use crate::state::command::{BucketSetting, Outcome};
use crate::tables::bucket::Bucket;
use crate::tables::replication_mode::ReplicationMode;
use crate::tables::{TableError, Tables, bucket};

pub(super) fn create(tables: &mut Tables<'_>, name: &str, bucket: &Bucket) -> Result<Outcome, TableError> {
    if bucket::record(tables, name)?.is_some() {
        return Ok(Outcome::BucketExists);
    }
    // A bucket that only has values now also exists without them.
    let existed = bucket::has_values(tables, name)?;
    tables.put_bucket(name, bucket);
    Ok(if existed { Outcome::BucketExists } else { Outcome::Done })
}

pub(super) fn set(
    tables: &mut Tables<'_>,
    name: &str,
    setting: &BucketSetting,
) -> Result<Outcome, TableError> {
    let bucket = match bucket::record(tables, name)? {
        Some(bucket) => Some(bucket),
        None => bucket::has_values(tables, name)?.then(|| Bucket::new(Timestamp::from_unix_ms(0))),
    };
    let Some(mut bucket) = bucket else { return Ok(Outcome::NoBucket) };
    match setting.clone() {
        BucketSetting::PublicRead(public) => bucket.public_read = public,
        BucketSetting::Cors(rules) => bucket.cors = rules,
        BucketSetting::Tags(tags) => bucket.tags = tags,
        BucketSetting::AbortUploads(rules) => bucket.abort_uploads = rules,
    }
    tables.put_bucket(name, &bucket);
    Ok(Outcome::Done)
}

pub(super) fn delete(tables: &mut Tables<'_>, name: &str) -> Result<Outcome, TableError> {
    if bucket::has_values(tables, name)? {
        return Ok(Outcome::BucketNotEmpty);
    }
    if bucket::record(tables, name)?.is_none() {
        return Ok(Outcome::NoBucket);
    }
    tables.remove_bucket(name);
    Ok(Outcome::Done)
}

pub(super) fn set_mode(tables: &mut Tables<'_>, bucket: &str, mode: Option<ReplicationMode>) -> Outcome {
    tables.put_mode(bucket, mode);
    Outcome::Done
}
