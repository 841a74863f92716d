//! Expires multipart uploads that were not completed in time, and removes unreferenced parts from the tables, a few
//! at a time, so that other commits do not wait for thousands of them.

use std::sync::Arc;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::key::Key;
use shared::work::{TickResult, Worker, blocking};

use crate::change::Changes;
use crate::config::Config;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::state::command::{Command, Outcome};
use crate::tables::{TableError, bucket, meta, upload};

/// Uploads whose parts one command may remove; most uploads have few parts.
const AT_ONCE: usize = 64;
/// Interval between scans for expired uploads.
const LOOK: Duration = Duration::from_secs(60);

pub struct UploadExpiryWorker {
    metadata: Metadata,
    changes: Arc<Changes>,
    config: Arc<Config>,
    looked: Option<Timestamp>,
}

impl UploadExpiryWorker {
    pub fn new(master: &Master) -> Self {
        let (changes, config) = (Arc::clone(&master.changes), Arc::clone(&master.config));
        Self { metadata: master.metadata.clone(), changes, config, looked: None }
    }

    /// Removes some unreferenced parts. True when there may be more.
    async fn remove_unreferenced_parts(&self) -> Result<bool, TableError> {
        let uploads = upload::unreferenced_parts(&self.metadata.database.tree(), AT_ONCE)?;
        if uploads.is_empty() {
            return Ok(false);
        }
        match self.changes.submit(Command::RemoveUnreferencedParts { uploads: uploads.clone() }).await {
            Ok(Outcome::Corrupt) => {}
            outcome => return Ok(outcome.is_ok()),
        }
        // A corrupt record blocks the whole command: try the uploads one by one.
        for upload in uploads {
            if let Ok(Outcome::Corrupt) =
                self.changes.submit(Command::RemoveUnreferencedParts { uploads: vec![upload] }).await
            {
                tracing::error!(%upload, "the parts of a deleted upload cannot be read; their space is not freed");
            }
        }
        Ok(false)
    }

    async fn expire(&mut self) -> Result<(), TableError> {
        let now = self.config.clock.now();
        if self.looked.is_some_and(|last| now.since(last) < LOOK.min(self.config.upload_expiry)) {
            return Ok(());
        }
        self.looked = Some(now);
        let (database, expiry) = (Arc::clone(&self.metadata.database), self.config.upload_expiry);
        for (key, upload) in blocking(move || expired(&database.tree(), now, expiry)).await? {
            tracing::info!(%key, %upload, "a multipart upload has expired and is aborted");
            if let Err(error) = self.changes.submit(Command::AbortMultipartUpload { key, upload }).await {
                tracing::debug!(%error, "the upload is aborted later");
            }
        }
        Ok(())
    }
}

/// Returns the uploads that are older than their bucket or the cluster permits, and those whose bucket is gone.
fn expired(tree: &sled::Tree, now: Timestamp, expiry: Duration) -> Result<Vec<(Key, BlobId)>, TableError> {
    let mut old = Vec::new();
    let gap = meta::gap(tree)?;
    let mut of: Option<(String, Option<bucket::Bucket>)> = None;
    for item in upload::after(tree, "", None) {
        let (key, id, _) = item?;
        // The upload may have been completed in the gap of a restore: then an object uses its parts.
        if gap.is_some_and(|gap| gap.covers(id)) {
            continue;
        }
        let name = bucket::of(&key).unwrap_or_default();
        if of.as_ref().is_none_or(|(known, _)| known != name) {
            of = Some((name.to_owned(), bucket::read(tree, name)?));
        }
        let found = of.as_ref().and_then(|(_, bucket)| bucket.as_ref());
        let rest = key.as_str().get(name.len() + 1..).unwrap_or_default();
        let rules = found.into_iter().flat_map(|b| &b.abort_uploads);
        let days = rules.filter(|r| r.enabled && rest.starts_with(&r.prefix)).map(|r| r.days).min();
        let allowed = days.map_or(expiry, |days| expiry.min(Duration::from_secs(u64::from(days) * 86_400)));
        if found.is_none() || now.since(id.created()) > allowed {
            old.push((key, id));
        }
    }
    Ok(old)
}

impl Worker for UploadExpiryWorker {
    const NAME: &'static str = "uploads";

    async fn tick(&mut self) -> TickResult {
        if !self.metadata.leads().await {
            return TickResult::Idle;
        }
        if let Err(error) = self.expire().await {
            tracing::error!(%error, "the uploads cannot be read");
        }
        match self.remove_unreferenced_parts().await {
            Ok(true) => TickResult::More,
            Ok(false) => TickResult::Idle,
            Err(error) => {
                tracing::error!(%error, "the parts of deleted uploads cannot be read");
                TickResult::Idle
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Tables;
    use crate::tables::bucket::{AbortRule, Bucket};
    use crate::tables::meta::Gap;
    use crate::tables::object::{Blob, Object};
    use crate::tables::upload::UploadRecord;
    use shared::digest::Digest;

    const NOW: Timestamp = Timestamp::from_unix_ms(1 << 40);
    const HOUR: Duration = Duration::from_secs(3600);

    /// The id of an upload that began `hours` ago.
    fn aged(hours: u64) -> BlobId {
        BlobId::next(None, Timestamp::from_unix_ms(NOW.unix_ms() - hours * 3_600_000), [1; 10])
    }

    fn rule(prefix: &str, days: u32) -> AbortRule {
        AbortRule { id: None, enabled: true, prefix: prefix.into(), days }
    }

    fn put_upload(tables: &mut Tables<'_>, key: &str, id: BlobId) {
        let upload = UploadRecord {
            content_type: None,
            metadata: vec![],
            tags: vec![],
            checksum: None,
            volumes: vec![],
            wanted: 1,
        };
        tables.put_upload(&key.parse().unwrap(), id, &upload);
    }

    /// The keys of expired uploads, in the order of the tables, where the cluster permits `days`.
    fn given_up(days: u64, write: impl FnOnce(&mut Tables<'_>)) -> Vec<String> {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut tables = Tables::new(&db);
        write(&mut tables);
        let batch = tables.into_batch().unwrap();
        db.apply_batch(batch).unwrap();
        let found = expired(&db, NOW, 24 * HOUR * u32::try_from(days).unwrap()).unwrap();
        found.into_iter().map(|(key, _)| key.to_string()).collect()
    }

    /// As `given_up`, with rules for bucket `b`. The cluster permits ten days, and all uploads began `hours` ago.
    fn by_rules(rules: &[AbortRule], hours: u64, keys: &[&str]) -> Vec<String> {
        given_up(10, |tables| {
            let bucket = Bucket { abort_uploads: rules.to_vec(), ..Bucket::new(NOW) };
            tables.put_bucket("b", &bucket);
            tables.put_bucket("c", &Bucket::new(NOW));
            keys.iter().for_each(|key| put_upload(tables, key, aged(hours)));
        })
    }

    #[test]
    fn a_rule_counts_for_the_keys_of_its_bucket_that_begin_so() {
        let keys = ["b/in", "b/in/", "b/in/k", "b/inn/k", "b/k/in/k", "b/out", "c/in/k"];
        assert_eq!(by_rules(&[rule("in/", 1)], 48, &keys), ["b/in/", "b/in/k"]);
        assert_eq!(by_rules(&[rule("in", 1)], 48, &keys), ["b/in", "b/in/", "b/in/k", "b/inn/k"]);
        let all = ["b/in", "b/in/", "b/in/k", "b/inn/k", "b/k/in/k", "b/out"];
        assert_eq!(by_rules(&[rule("", 1)], 48, &keys), all);
        assert_eq!(by_rules(&[rule("b/in/", 1)], 48, &keys), [""; 0], "a prefix does not include the bucket");
        assert_eq!(by_rules(&[], 48, &keys), [""; 0]);
    }

    #[test]
    fn a_rule_that_is_switched_off_does_not_count() {
        let off = AbortRule { enabled: false, ..rule("", 1) };
        assert_eq!(by_rules(std::slice::from_ref(&off), 48, &["b/k"]), [""; 0]);
        assert_eq!(by_rules(&[off, rule("", 3)], 48, &["b/k"]), [""; 0]);
    }

    #[test]
    fn the_shortest_of_the_rules_that_count_for_a_key_does() {
        let rules = [rule("a/", 3), rule("", 6), rule("a/long/", 9)];
        let keys = ["b/a/k", "b/a/long/k", "b/k"];
        assert_eq!(by_rules(&rules, 2 * 24, &keys), [""; 0]);
        assert_eq!(by_rules(&rules, 4 * 24, &keys), ["b/a/k", "b/a/long/k"]);
        assert_eq!(by_rules(&rules, 7 * 24, &keys), keys);
    }

    #[test]
    fn a_day_has_passed_when_it_is_over_and_no_rule_gives_more_time_than_the_cluster() {
        assert_eq!(by_rules(&[rule("", 1)], 24, &["b/k"]), [""; 0]);
        assert_eq!(by_rules(&[rule("", 1)], 25, &["b/k"]), ["b/k"]);
        for rules in [vec![], vec![rule("", 20)], vec![rule("other", 1)]] {
            assert_eq!(by_rules(&rules, 10 * 24, &["b/k"]), [""; 0], "{rules:?}");
            assert_eq!(by_rules(&rules, 10 * 24 + 1, &["b/k"]), ["b/k"], "{rules:?}");
        }
    }

    #[test]
    fn uploads_go_with_their_bucket_and_a_bucket_with_values_is_there() {
        let found = given_up(10, |tables| {
            let id = aged(1);
            let object = Object {
                generation: id,
                size: 1,
                digest: Digest::of(b"x"),
                content_type: None,
                metadata: vec![],
                wanted: 1,
                blobs: vec![Blob { id, length: 1, replicas: vec![] }],
                attributes: Default::default(),
                parts: None,
                expiry: Default::default(),
            };
            tables.put_object(&"valued/value".parse().unwrap(), &object);
            tables.put_bucket("made", &Bucket::new(NOW));
            // One bucket's name is a prefix of another's: the record of the one must not count for the other.
            for key in ["gone/a", "gone/b", "made/k", "made-not/k", "valued/k"] {
                put_upload(tables, key, aged(1));
            }
        });
        assert_eq!(found, ["gone/a", "gone/b", "made-not/k"]);
    }

    #[test]
    fn what_a_time_of_which_nothing_is_known_may_have_completed_stays() {
        let found = given_up(1, |tables| {
            tables.put_gap(&Gap { after: Some(aged(100)), until: aged(50).created() });
            tables.put_bucket("b", &Bucket::new(NOW));
            for (key, hours) in [("b/after", 49), ("b/before", 101), ("b/within", 60), ("gone/within", 60)] {
                put_upload(tables, key, aged(hours));
            }
        });
        assert_eq!(found, ["b/after", "b/before"]);
    }
}
