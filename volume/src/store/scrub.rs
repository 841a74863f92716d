//! Scrub (patrol read): reads every record past the page cache and verifies all of it, the segment with the oldest
//! verification first, record by record at a given rate. Its position survives a restart.
//!
//! A corrupt record is reported to the caller, who has other replicas. The scrub itself repairs only the first page
//! of a segment, which is still in memory. A record is pinned for one stretch at a time, so that the space of a
//! deleted record is freed soon.
//!
//! ```text
//! file scrub.state   0 "BARGESCR" 8 │ 8 version u32 │ 12 segments u32 │ 16 {number u64, verified ms u64} …
//!                    then the pass under way {number u64 or MAX, began ms u64, next offset u64} │ CRC32C of it all
//! ```
//! The file is replaced by rename and not synced: if it is lost, segments are verified earlier than necessary.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::crc32c::crc32c;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::limits::{PAGE_BYTES, READ_BUFFER_BYTES};
use shared::work::blocking;

use super::buffer::Aligned;
use super::disk::{Access, Disk};
use super::error::{Corruption, ReadError};
use super::format::{SegmentHeader, index, u32_at, u64_at};
use super::segment::{Extent, Segment, SegmentNumber};
use super::throttle::Throttle;
use super::write::DurableRecord;
use super::{Inner, Store, lock};

pub(super) const FILE: &str = "scrub.state";
pub(super) const TEMPORARY: &str = "scrub.state.tmp";
const MAGIC: &[u8; 8] = b"BARGESCR";
const VERSION: u32 = 1;
/// Bytes to read before a record is unpinned and pinned again.
const STRETCH_BYTES: u64 = 8 << 20;
/// Interval between writes of the state during a pass.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// A record that was verified.
#[derive(Debug)]
pub struct Scrubbed {
    pub blob: BlobId,
    /// Bytes of its body that were read.
    pub bytes: u64,
    /// What is wrong with it, if anything.
    pub bad: Option<ReadError>,
}

/// The state of the scrub.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scrub {
    /// When the last complete pass over each segment began.
    verified: BTreeMap<SegmentNumber, Timestamp>,
    /// Segments with corrupt records in that pass.
    spoilt: BTreeSet<SegmentNumber>,
    pass: Option<Pass>,
    saved: Option<Timestamp>,
}

/// A segment being verified.
#[derive(Debug, PartialEq, Eq)]
struct Pass {
    segment: SegmentNumber,
    began: Timestamp,
    /// Offset of the next record.
    next: u64,
    /// Live records when the pass began or continued after a restart; `None` until they are listed.
    left: Option<VecDeque<(u64, BlobId)>>,
    /// A record is corrupt: a restart forgets which one, so the segment is verified again then.
    bad: bool,
}

impl Store {
    /// Verifies the next record of the segment with the oldest verification; `None` if all were
    /// verified within `every`.
    ///
    /// If the future is dropped half way, the record is not verified in this pass.
    pub async fn scrub(&self, every: Duration, throttle: &Throttle) -> Option<Scrubbed> {
        loop {
            let inner = Arc::clone(&self.0);
            let blob = blocking(move || inner.next_to_scrub(every)).await?;
            match self.verify_once(blob, throttle).await {
                Ok(DurableRecord { length: bytes, .. }) => {
                    self.0.counters.verified.fetch_add(bytes, Ordering::Relaxed);
                    return Some(Scrubbed { blob, bytes, bad: None });
                }
                // Deleted or rewritten meanwhile.
                Err(ReadError::NotFound { .. }) => {}
                Err(bad) => {
                    lock(&self.0.scrub).pass.iter_mut().for_each(|pass| pass.bad = true);
                    return Some(Scrubbed { blob, bytes: 0, bad: Some(bad) });
                }
            }
        }
    }

    /// Reads a whole record past the page cache, and verifies header, trailer, blocks and digest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn verify(&self, blob: BlobId, throttle: &Throttle) -> Result<DurableRecord, ReadError> {
        loop {
            match self.verify_once(blob, throttle).await {
                // Moved while it was read.
                Err(ReadError::NotFound { .. }) if self.has(blob) => {}
                verified => return verified,
            }
        }
    }

    /// Like `verify`; also `NotFound` if the record is moved meanwhile.
    async fn verify_once(&self, blob: BlobId, throttle: &Throttle) -> Result<DurableRecord, ReadError> {
        let mut hasher = blake3::Hasher::new();
        let (mut at, mut place): (u64, Option<Extent>) = (0, None);
        loop {
            let mut reader = self.reader_past_cache(blob).await?;
            if *place.get_or_insert(reader.extent()) != reader.extent() {
                return Err(ReadError::NotFound { blob });
            }
            let stretch = reader.length().min(at + STRETCH_BYTES);
            while at < stretch {
                let bytes = reader.read(at, READ_BUFFER_BYTES).await?;
                hasher.update(&bytes);
                at += bytes.len() as u64;
                throttle.spend(bytes.len()).await;
            }
            if at >= reader.length() {
                let digest = Digest::from(hasher.finalize());
                let whole = DurableRecord { blob, length: at, digest };
                return if digest == reader.digest() {
                    Ok(whole)
                } else {
                    Err(reader.corrupt(Corruption::Digest))
                };
            }
        }
    }
}

impl Inner {
    fn next_to_scrub(&self, every: Duration) -> Option<BlobId> {
        let now = self.options.clock.now();
        let mut scrub = lock(&self.scrub);
        loop {
            if scrub.pass.is_none() {
                let segment = self.longest_unverified(&scrub, now, every)?;
                scrub.pass = Some(Pass { segment, began: now, next: 0, left: None, bad: false });
            }
            let pass = scrub.pass.as_mut()?;
            if pass.left.is_none() {
                self.check_first_page(pass.segment);
                pass.left = Some(self.records_from(pass.segment, pass.next));
            }
            let next = pass.left.as_mut().and_then(VecDeque::pop_front);
            if let Some((offset, blob)) = next {
                pass.next = offset;
                self.save_now_and_then(&mut scrub, now);
                return Some(blob);
            }
            let (segment, began, bad) = (pass.segment, pass.began, pass.bad);
            scrub.pass = None;
            scrub.verified.insert(segment, began);
            if bad {
                scrub.spoilt.insert(segment);
            } else {
                scrub.spoilt.remove(&segment);
            }
            self.forget_gone(&mut scrub);
            self.save(&mut scrub, now);
        }
    }

    fn longest_unverified(&self, scrub: &Scrub, now: Timestamp, every: Duration) -> Option<SegmentNumber> {
        let catalog = lock(&self.catalog);
        let ages =
            catalog.slots().filter(|s| s.live > 0).map(|s| (scrub.since(&s.segment), s.segment.number()));
        // With `every` zero, a segment verified in this very millisecond is still not due again.
        let every = every.max(Duration::from_millis(1));
        ages.min().filter(|(since, _)| now.since(*since) >= every).map(|(_, number)| number)
    }

    fn records_from(&self, number: SegmentNumber, offset: u64) -> VecDeque<(u64, BlobId)> {
        let blobs = self.blobs_in(number);
        let catalog = lock(&self.catalog);
        let place = |blob: BlobId| {
            catalog
                .get(blob)
                .filter(|e| e.segment == number && e.offset() >= offset)
                .map(|e| (e.offset(), blob))
        };
        let mut records: Vec<_> = blobs.into_iter().filter_map(place).collect();
        records.sort_unstable();
        records.into()
    }

    /// Verifies and repairs the first page, without which a segment is not served after a restart. Its content is in
    /// memory while the segment is open.
    fn check_first_page(&self, number: SegmentNumber) {
        let Some(segment) = lock(&self.catalog).segment(number) else { return };
        let Err(error) = mend_first_page(&segment, self.disk.as_ref()) else { return };
        self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
        tracing::error!(segment = %number, %error, "the first page of a segment is corrupt and could not be repaired; the segment will not be served after a restart");
    }

    fn forget_gone(&self, scrub: &mut Scrub) {
        let catalog = lock(&self.catalog);
        scrub.verified.retain(|number, _| catalog.segment(*number).is_some());
        scrub.spoilt.retain(|number| catalog.segment(*number).is_some());
    }

    fn save_now_and_then(&self, scrub: &mut Scrub, now: Timestamp) {
        if scrub.saved.is_none_or(|saved| now.since(saved) >= SAVE_INTERVAL) {
            self.save(scrub, now);
        }
    }

    fn save(&self, scrub: &mut Scrub, now: Timestamp) {
        scrub.saved = Some(now);
        let bytes = scrub.encode();
        let write = || {
            self.disk.remove(TEMPORARY)?;
            self.disk.create(TEMPORARY, Access::Cached)?.write_at(&bytes, 0)?;
            self.disk.rename(TEMPORARY, FILE)
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "the state of the scrub could not be written");
        }
    }

    /// Returns the age of the oldest verification of live bytes. Never waits for the scrub.
    pub(super) fn unverified_for(&self) -> Duration {
        let known = &self.counters.unverified_secs;
        if let Ok(scrub) = self.scrub.try_lock() {
            let catalog = lock(&self.catalog);
            let oldest = catalog.slots().filter(|s| s.live > 0).map(|s| scrub.since(&s.segment)).min();
            let age = oldest.map_or(Duration::ZERO, |since| self.options.clock.now().since(since));
            known.store(age.as_secs(), Ordering::Relaxed);
        }
        Duration::from_secs(known.load(Ordering::Relaxed))
    }
}

fn mend_first_page(segment: &Segment, disk: &dyn Disk) -> io::Result<()> {
    let mut page = Aligned::new(PAGE_BYTES);
    let read = segment.file.read_disk_at(page.as_mut_slice(), 0)?;
    let header = SegmentHeader::decode(page.as_slice(), segment.header.volume, segment.number());
    if read == PAGE_BYTES && header.as_ref() == Ok(&segment.header) {
        return Ok(());
    }
    page.as_mut_slice().copy_from_slice(&segment.header.encode());
    let file = disk.open(&segment.number().segment_name(), Access::Direct)?;
    file.write_at(page.as_slice(), 0)?;
    file.sync_data()?;
    tracing::warn!(segment = %segment.number(), "the first page of a segment was corrupt and has been rewritten");
    Ok(())
}

impl Scrub {
    /// Loads the state; starts from the beginning if there is none or it is corrupt.
    pub(super) fn load(disk: &dyn Disk) -> Self {
        let read = || -> io::Result<Option<Self>> {
            let file = disk.open(FILE, Access::Cached)?;
            let mut bytes = vec![0; index(file.length()?)];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            Ok(Self::decode(&bytes))
        };
        read().ok().flatten().unwrap_or_default()
    }

    /// Returns when a segment was last known to be good: by a pass, or when it was created.
    pub(super) fn since(&self, segment: &Segment) -> Timestamp {
        self.verified.get(&segment.number()).copied().unwrap_or(segment.header.created)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        let verified: Vec<_> = self.verified.iter().filter(|(n, _)| !self.spoilt.contains(n)).collect();
        out.extend(u32::try_from(verified.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (number, verified) in verified {
            out.extend(u64::from(number.0).to_le_bytes());
            out.extend(verified.unix_ms().to_le_bytes());
        }
        let pass = self
            .pass
            .as_ref()
            .filter(|p| !p.bad)
            .map(|p| [u64::from(p.segment.0), p.began.unix_ms(), p.next]);
        pass.unwrap_or([u64::MAX, 0, 0]).iter().for_each(|n| out.extend(n.to_le_bytes()));
        let sum = crc32c(&out);
        out.extend(sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let ours = body.len() >= 16 && &body[..8] == MAGIC && u32_at(body, 8) == VERSION;
        let count = if ours { index(u64::from(u32_at(body, 12))) } else { return None };
        if u32_at(sum, 0) != crc32c(body) || body.len() != 16 + 16 * count + 24 {
            return None;
        }
        let number = |n: u64| u32::try_from(n).ok().map(SegmentNumber);
        let entry =
            |at: usize| Some((number(u64_at(body, at))?, Timestamp::from_unix_ms(u64_at(body, at + 8))));
        let verified = (0..count).filter_map(|n| entry(16 + 16 * n)).collect();
        let at = 16 + 16 * count;
        let pass = entry(at).map(|(segment, began)| Pass {
            segment,
            began,
            next: u64_at(body, at + 16),
            left: None,
            bad: false,
        });
        Some(Self { verified, pass, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again_and_nothing_else_is() {
        let at = Timestamp::from_unix_ms;
        let pass = Pass { segment: SegmentNumber(7), began: at(1234), next: 8192, left: None, bad: false };
        let verified = [(SegmentNumber(1), at(10)), (SegmentNumber(9), at(u64::MAX))].into();
        for scrub in [Scrub::default(), Scrub { verified, pass: Some(pass), ..Scrub::default() }] {
            let bytes = scrub.encode();
            assert_eq!(Scrub::decode(&bytes), Some(scrub));
            for cut in 0..bytes.len() {
                assert_eq!(Scrub::decode(&bytes[..cut]), None);
            }
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Scrub::decode(&bytes), None);
            }
        }
    }
}
