//! Uploads in parts: gives up those that were not completed in time, and takes the parts of deleted ones out of the tables,
//! a few at a time, so that commits of others do not wait for thousands.

use std::sync::Arc;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::key::Key;
use shared::work::{Progress, Worker, blocking};

use crate::master::Master;
use crate::state::command::{Command, Outcome};
use crate::tables::{TableError, bucket, meta, upload};

/// Condemned uploads that one command may finish: most have few parts.
const AT_ONCE: usize = 64;
/// Uploads are looked through so often.
const LOOK: Duration = Duration::from_secs(60);

/// The worker.
pub struct Uploads {
    master: Arc<Master>,
    looked: Option<Timestamp>,
}

impl Uploads {
    /// Looks at once.
    pub fn new(master: Arc<Master>) -> Self {
        Self { master, looked: None }
    }

    /// Takes some parts out. True when there may be more.
    async fn scrap(&self) -> Result<bool, TableError> {
        let uploads = upload::condemned(&self.master.database.tree(), AT_ONCE)?;
        if uploads.is_empty() {
            return Ok(false);
        }
        match self.master.change(Command::Scrap { uploads: uploads.clone() }).await {
            Ok(Outcome::Damaged) => {}
            outcome => return Ok(outcome.is_ok()),
        }
        // One of them stands in the others' way.
        for upload in uploads {
            if let Ok(Outcome::Damaged) = self.master.change(Command::Scrap { uploads: vec![upload] }).await {
                tracing::error!(%upload, "the parts of a deleted upload cannot be read; their space is not given back");
            }
        }
        Ok(false)
    }

    async fn expire(&mut self) -> Result<(), TableError> {
        let now = self.master.config.clock.now();
        if self.looked.is_some_and(|last| now.since(last) < LOOK.min(self.master.config.upload_expiry)) {
            return Ok(());
        }
        self.looked = Some(now);
        let (database, expiry) = (Arc::clone(&self.master.database), self.master.config.upload_expiry);
        for (key, upload) in blocking(move || expired(&database.tree(), now, expiry)).await? {
            tracing::info!(%key, %upload, "an upload that was not completed in time is given up");
            if let Err(error) = self.master.change(Command::Abort { key, upload }).await {
                tracing::debug!(%error, "it is given up later");
            }
        }
        Ok(())
    }
}

/// Uploads that are older than their bucket, or the cluster, permits; and those whose bucket is gone.
fn expired(tree: &sled::Tree, now: Timestamp, expiry: Duration) -> Result<Vec<(Key, BlobId)>, TableError> {
    let mut old = Vec::new();
    let gap = meta::gap(tree)?;
    let mut of: Option<(String, Option<bucket::Bucket>)> = None;
    for item in upload::after(tree, "", None) {
        let (key, id, _) = item?;
        // It may have been completed in a time of which nothing is known: its parts are somebody's then.
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

impl Worker for Uploads {
    const NAME: &'static str = "uploads";

    async fn tick(&mut self) -> Progress {
        if !self.master.group.leads() || self.master.group.current().await.is_err() {
            return Progress::Idle;
        }
        if let Err(error) = self.expire().await {
            tracing::error!(%error, "the uploads cannot be read");
        }
        match self.scrap().await {
            Ok(true) => Progress::More,
            Ok(false) => Progress::Idle,
            Err(error) => {
                tracing::error!(%error, "the parts of deleted uploads cannot be read");
                Progress::Idle
            }
        }
    }
}
