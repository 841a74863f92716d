//! Maintenance steps: compaction, scrub, healing.

use std::time::Duration;

use shared::digest::Digest;

use super::Violation;
use super::expected::Fate;
use super::operations::pick;
use super::world::{ModelState, violated};
use crate::store::{CompactError, ReadError, Scrubbed, Store, Throttle, WriteError, lock};

impl ModelState {
    pub(super) async fn compact(&mut self, store: &Store, records: usize) -> Result<(), Violation> {
        for _ in 0..records {
            let moved = Box::pin(store.compact(&Throttle::new(0))).await;
            self.say(|| format!("  compacted: {moved:?}"));
            match moved {
                Ok(None) => break,
                Ok(Some(moved)) => {
                    self.meet("records moved", 1);
                    if let Some(n) = self.blobs.iter().position(|k| k.id == moved.blob) {
                        self.moved(store, n);
                    }
                }
                Err(CompactError::Read { blob, source, .. }) => {
                    let hurt = self.blobs.iter().any(|k| k.id == blob && k.hurt);
                    if !(hurt || self.stopped() || self.is_sick()) {
                        return violated(format!("{blob} could not be read to be moved: {source:?}"));
                    }
                }
                Err(CompactError::Write { source, .. }) => self.failed_rewrite(&source)?,
            }
        }
        self.doubt_moves();
        Ok(())
    }

    pub(super) async fn scrub(&mut self, store: &Store, records: usize) -> Result<(), Violation> {
        for _ in 0..records {
            let scrubbed = store.scrub(Duration::from_secs(1), &Throttle::new(0)).await;
            let Some(Scrubbed { blob, bad, .. }) = scrubbed else { break };
            let hurt = self.blobs.iter().any(|k| k.id == blob && k.hurt);
            let excused = match &bad {
                None => true,
                Some(ReadError::Corrupt { .. }) if hurt => true,
                Some(_) => self.stopped() || self.is_sick(),
            };
            if !excused {
                return violated(format!("the scrub found {blob} to be bad: {bad:?}"));
            }
        }
        Ok(())
    }

    pub(super) async fn heal(&mut self, store: &Store, blob: usize) -> Result<(), Violation> {
        let Some(blob) = pick(&self.blobs, blob).filter(|n| store.has(self.blobs[*n].id)) else {
            return Ok(());
        };
        let (mut record, body) = (self.blobs[blob].record(), self.blobs[blob].body());
        record.length = Some(body.len() as u64);
        let healed = async {
            let mut upload = store.begin_rewrite(record, Digest::of(body)).await?;
            upload.write(body).await?;
            Box::pin(upload.finish()).await
        };
        let healed = Box::pin(healed).await;
        self.say(|| format!("  b{blob} is rewritten: {healed:?}"));
        match healed {
            Ok(_) => self.moved(store, blob),
            Err(e) => self.failed_rewrite(&e)?,
        }
        self.doubt_moves();
        Ok(())
    }

    /// Records that a blob points to a new record, which was not hit yet.
    fn moved(&mut self, store: &Store, blob: usize) {
        let place = lock(&store.0.catalog).get(self.blobs[blob].id);
        let beheaded = place.is_some_and(|e| self.beheaded.contains(&e.segment));
        let known = &mut self.blobs[blob];
        known.stands_at(place);
        known.scarred |= known.hurt;
        known.hurt = beheaded;
        if known.fate == Fate::Either(false) {
            known.fate = Fate::Present;
        }
    }

    fn failed_rewrite(&self, error: &WriteError) -> Result<(), Violation> {
        let full = self.is_cramped() || self.disk.is_full();
        let excused = match error {
            WriteError::NoSpace { .. } if full => true,
            // A dropped rewrite is aborted in the background.
            WriteError::Gone { .. } if self.store.as_ref().is_some_and(|s| *s.0.jobs.borrow() > 0) => true,
            _ => self.stopped() || self.is_sick(),
        };
        if excused { Ok(()) } else { violated(format!("a rewrite failed without a reason: {error:?}")) }
    }

    /// An interrupted rewrite may leave a duplicate, and a failing disk may hide one of the records.
    fn doubt_moves(&mut self) {
        let (stopped, failed) = (self.stopped(), self.is_cramped());
        for known in self.blobs.iter_mut().filter(|k| k.fate != Fate::Absent) {
            known.adrift |= stopped;
            known.twice |= failed;
        }
    }
}
