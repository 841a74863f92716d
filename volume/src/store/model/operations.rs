//! Executes a step on a store, and updates the states that its answer leaves possible.

use std::time::Duration;

use super::expected::{ExpectedBlob, Fate};
use super::step::{Fault, Step};
use super::world::{ModelState, OpenUpload, ReadInProgress, violated};
use super::{Profile, Violation};
use crate::store::{ReadError, RecordWriter, Store, WriteError, lock};

impl ModelState {
    pub(super) async fn apply(&mut self, step: Step) -> Result<(), Violation> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        self.say(|| format!("{step:?}"));
        match step {
            Step::Put { size, declared, again } => {
                let blob = self.blob(size, declared, again);
                self.begin(&store, blob).await?;
                Box::pin(self.put_all(blob)).await
            }
            Step::Begin { size, declared } => {
                let blob = self.blob(size, declared, false);
                self.begin(&store, blob).await
            }
            Step::Write { upload, bytes } => self.write(upload, bytes).await,
            Step::Rest { upload } => self.rest(upload).await,
            Step::Finish { upload } => Box::pin(self.finish(upload, None)).await,
            Step::FinishWrongly { upload, short } => Box::pin(self.finish(upload, Some(short))).await,
            Step::Abort { upload, drop } => self.abort(upload, drop).await,
            Step::Delete { first, count } => self.delete(&store, first, count).await,
            Step::OpenReader { blob } => self.open_reader(&store, blob).await,
            Step::ReadOn { reader, bytes } => self.read_on(reader, bytes).await,
            Step::DropReader { reader } => {
                drop(pick(&self.readers, reader).map(|n| self.readers.swap_remove(n)));
                Ok(())
            }
            Step::ReadRange { blob, from, bytes } => self.read_range(&store, blob, from, bytes).await,
            Step::SealAged { minutes } => self.seal_aged(&store, minutes).await,
            Step::Compact { records } => Box::pin(self.compact(&store, records)).await,
            Step::Scrub { records } => Box::pin(self.scrub(&store, records)).await,
            Step::Heal { blob } => Box::pin(self.heal(&store, blob)).await,
            Step::Background { all: true } => {
                store.punched().await;
                Ok(())
            }
            Step::Background { all: false } => {
                tokio::task::yield_now().await;
                Ok(())
            }
            Step::Check => self.check().await,
            Step::Quiet => self.check_rest().await,
            Step::Fault(fault) => {
                self.set_up(fault);
                Ok(())
            }
        }
    }

    // Uploads.

    fn blob(&mut self, size: usize, declared: bool, again: bool) -> usize {
        let idle = |n: usize| self.uploads.iter().all(|u| u.blob != n);
        let unseen = |k: &ExpectedBlob| k.place.is_some_and(|e| self.is_blind(e.segment));
        let here = |k: &ExpectedBlob| self.store.as_ref().is_some_and(|s| s.has(k.id));
        let missing = |k: &ExpectedBlob| {
            k.fate == Fate::Absent || (matches!(k.fate, Fate::Present) && unseen(k) && !here(k))
        };
        let absent = |(n, k): (usize, &ExpectedBlob)| (missing(k) && idle(n)).then_some(n);
        if again && let Some(n) = self.blobs.iter().enumerate().find_map(absent) {
            return n;
        }
        self.blobs.push(ExpectedBlob::new(self.blobs.len(), size, declared));
        self.blobs.len() - 1
    }

    async fn begin(&mut self, store: &Store, blob: usize) -> Result<(), Violation> {
        match store.begin(self.blobs[blob].record()).await {
            Ok(upload) => {
                self.blobs[blob].twice |= self.blobs[blob].fate != Fate::Absent;
                self.uploads.push(OpenUpload { upload, blob, sent: 0 });
                Ok(())
            }
            Err(e) => self.failed_put("begin", blob, &e),
        }
    }

    async fn put_all(&mut self, blob: usize) -> Result<(), Violation> {
        let Some(last) = self.uploads.len().checked_sub(1).filter(|n| self.uploads[*n].blob == blob) else {
            return Ok(());
        };
        self.write(last, usize::MAX).await?;
        if self.uploads.get(last).is_some_and(|u| u.blob == blob) {
            Box::pin(self.finish(last, None)).await?;
        }
        Ok(())
    }

    async fn write(&mut self, upload: usize, bytes: usize) -> Result<(), Violation> {
        let Some(n) = pick(&self.uploads, upload) else { return Ok(()) };
        let uploading = &mut self.uploads[n];
        let rest = &self.blobs[uploading.blob].body()[uploading.sent..];
        let piece = &rest[..bytes.min(rest.len())];
        uploading.sent += piece.len();
        let blob = uploading.blob;
        match uploading.upload.write(piece).await {
            Ok(()) => Ok(()),
            Err(e) => {
                drop(self.uploads.swap_remove(n));
                self.failed_put("write", blob, &e)
            }
        }
    }

    async fn rest(&mut self, upload: usize) -> Result<(), Violation> {
        let Some(n) = pick(&self.uploads, upload) else { return Ok(()) };
        let blob = self.uploads[n].blob;
        match self.uploads[n].upload.release_buffer().await {
            Ok(()) => Ok(()),
            Err(e) => {
                drop(self.uploads.swap_remove(n));
                self.failed_put("rest", blob, &e)
            }
        }
    }

    async fn finish(&mut self, upload: usize, short: Option<bool>) -> Result<(), Violation> {
        let Some(n) = pick(&self.uploads, upload) else { return Ok(()) };
        let OpenUpload { mut upload, blob, sent } = self.uploads.swap_remove(n);
        let known = &self.blobs[blob];
        if short == Some(false) && known.declared {
            return match upload.write(&vec![1; known.length - sent + 1]).await {
                Err(WriteError::TooLong { .. }) => Ok(()),
                Ok(()) => violated(format!("{} took more than was declared", self.name(known))),
                Err(e) => self.failed_put("write", blob, &e),
            };
        }
        if short.is_none() {
            if let Err(e) = upload.write(&known.body()[sent..]).await {
                drop(upload);
                return self.failed_put("write", blob, &e);
            }
        } else if sent == known.length || !known.declared {
            return Ok(());
        }
        Box::pin(self.finished(blob, upload)).await
    }

    async fn finished(&mut self, blob: usize, upload: RecordWriter) -> Result<(), Violation> {
        let whole = upload.length() == self.blobs[blob].length as u64;
        match Box::pin(upload.finish()).await {
            Ok(stored) if whole && stored.length == self.blobs[blob].length as u64 => {
                let place = self.store.as_ref().and_then(|s| lock(&s.0.catalog).get(stored.blob));
                let beheaded = place.is_some_and(|e| self.beheaded.contains(&e.segment));
                let known = &mut self.blobs[blob];
                known.fate = Fate::Present;
                known.stands_at(place);
                known.hurt |= beheaded;
                self.say(|| format!("  b{blob} is stored at {place:?}"));
                Ok(())
            }
            Ok(stored) => violated(format!("b{blob} was stored as {stored:?}")),
            Err(WriteError::ShortBody { .. }) if !whole => Ok(()),
            Err(e) => {
                if self.stopped() || self.is_sick() {
                    self.blobs[blob].fate = Fate::Either(false);
                }
                self.failed_put("finish", blob, &e)
            }
        }
    }

    /// Checks whether the failure of a put is allowed.
    fn failed_put(&mut self, at: &str, blob: usize, error: &WriteError) -> Result<(), Violation> {
        self.say(|| format!("  b{blob} failed at {at}: {error:?}"));
        let full = self.is_cramped() || self.disk.is_full();
        let excused = match error {
            WriteError::NoSpace { .. } if full => true,
            // A dropped upload is aborted in the background.
            WriteError::Exists { .. } => self.upload_count() > self.uploads.len(),
            _ => self.stopped() || self.is_sick(),
        };
        if excused { Ok(()) } else { violated(format!("b{blob} failed at {at} without a reason: {error:?}")) }
    }

    fn upload_count(&self) -> usize {
        self.store.as_ref().map_or(0, |s| lock(&s.0.catalog).upload_count())
    }

    async fn abort(&mut self, upload: usize, dropped: bool) -> Result<(), Violation> {
        let Some(n) = pick(&self.uploads, upload) else { return Ok(()) };
        let OpenUpload { upload, .. } = self.uploads.swap_remove(n);
        if dropped {
            drop(upload);
        } else {
            upload.abort().await;
        }
        Ok(())
    }

    // Deletes.

    async fn delete(&mut self, store: &Store, first: usize, count: usize) -> Result<(), Violation> {
        let Some(first) = pick(&self.blobs, first) else { return Ok(()) };
        let named: Vec<usize> = (first..self.blobs.len()).take(count).collect();
        let here: Vec<usize> = named.iter().copied().filter(|n| holds(store, &self.blobs[*n])).collect();
        let deleted = store.delete(named.iter().map(|n| self.blobs[*n].id).collect()).await;
        self.say(|| format!("  {named:?}, here {here:?} -> {deleted:?}"));
        match deleted {
            Ok(deleted) if deleted.found == here.len() => {
                here.iter().for_each(|n| self.blobs[*n].goes());
                Ok(())
            }
            Ok(deleted) => violated(format!("{} were here, and {deleted:?}", here.len())),
            Err(e) => {
                for n in here {
                    let known = &mut self.blobs[n];
                    if holds(store, known) { known.fate = Fate::Either(true) } else { known.goes() }
                }
                if self.stopped() || self.is_sick() || self.opened_cramped() {
                    return Ok(());
                }
                violated(format!("a delete failed without a reason: {e:?}"))
            }
        }
    }

    // Reads.

    async fn open_reader(&mut self, store: &Store, blob: usize) -> Result<(), Violation> {
        let Some(blob) = pick(&self.blobs, blob) else { return Ok(()) };
        let here = store.has(self.blobs[blob].id);
        match store.reader(self.blobs[blob].id).await {
            Ok(reader) => {
                self.readers.push(ReadInProgress { reader, blob, at: 0 });
                Ok(())
            }
            Err(ReadError::NotFound { .. }) if !here => Ok(()),
            Err(e) => self.failed_read(blob, &e),
        }
    }

    async fn read_on(&mut self, reader: usize, bytes: usize) -> Result<(), Violation> {
        let Some(n) = pick(&self.readers, reader) else { return Ok(()) };
        let ReadInProgress { reader, blob, at } = &mut self.readers[n];
        let (blob, from) = (*blob, *at);
        match reader.read(from as u64, bytes).await {
            Ok(piece) if piece.is_empty() => {
                drop(self.readers.swap_remove(n));
                let whole = from == self.blobs[blob].length;
                if whole { Ok(()) } else { violated(format!("b{blob} ended at {from}")) }
            }
            Ok(piece) => {
                *at += piece.len();
                self.compare(blob, from, &piece)
            }
            Err(e) => {
                drop(self.readers.swap_remove(n));
                self.failed_read(blob, &e)
            }
        }
    }

    async fn read_range(
        &mut self,
        store: &Store,
        blob: usize,
        from: usize,
        bytes: usize,
    ) -> Result<(), Violation> {
        let Some(blob) = pick(&self.blobs, blob).filter(|n| store.has(self.blobs[*n].id)) else {
            return Ok(());
        };
        let from = from % (self.blobs[blob].length + 1);
        let read = async { store.reader(self.blobs[blob].id).await?.read(from as u64, bytes).await };
        match read.await {
            Ok(piece) if piece.is_empty() == (from == self.blobs[blob].length) => {
                self.compare(blob, from, &piece)
            }
            Ok(piece) => violated(format!("b{blob} gave {} bytes at {from}", piece.len())),
            Err(e) => self.failed_read(blob, &e),
        }
    }

    fn compare(&self, blob: usize, from: usize, piece: &[u8]) -> Result<(), Violation> {
        let right = self.blobs[blob].body().get(from..from + piece.len()) == Some(piece);
        if right { Ok(()) } else { violated(format!("b{blob} gave wrong bytes at {from}")) }
    }

    fn failed_read(&self, blob: usize, error: &ReadError) -> Result<(), Violation> {
        // A reader may hold a record that was hit before its blob was rewritten.
        let rot = matches!(self.profile(), Profile::Rot | Profile::Everything);
        let known = &self.blobs[blob];
        if self.stopped() || self.is_sick() || known.hurt || (rot && !known.past.is_empty()) {
            return Ok(());
        }
        violated(format!("b{blob} could not be read: {error:?}"))
    }

    // The rest.

    async fn seal_aged(&mut self, store: &Store, minutes: u64) -> Result<(), Violation> {
        self.options.clock.advance(Duration::from_secs(minutes * 60));
        match store.seal_aged().await {
            Ok(_) => Ok(()),
            Err(_) if self.stopped() || self.is_cramped() || !self.unindexed.is_empty() => Ok(()),
            Err(e) => violated(format!("sealing failed without a reason: {e:?}")),
        }
    }

    fn set_up(&mut self, fault: Fault) {
        match fault {
            Fault::Read { after } => self.disk.faults(|f| f.read = Some(after)),
            Fault::Write { after } => self.disk.faults(|f| f.write = Some(after)),
            Fault::Sync { after } => self.disk.faults(|f| f.sync = Some(after)),
            Fault::Full { pages, hidden } => {
                self.disk.faults(|f| f.hides_full = hidden);
                self.disk.fill_up(Some(pages));
            }
            Fault::Room => self.disk.fill_up(None),
            Fault::Slow { ms } => self.disk.faults(|f| f.slow_ms = ms),
            Fault::Flip { file, place, bit } => self.flip(file, place, bit),
        }
    }
}

/// Whether the store has a record of this blob, if only a duplicate that it could not delete: the blob is not readable
/// then, but its delete fails, and the next opening may bring it back.
fn holds(store: &Store, known: &ExpectedBlob) -> bool {
    lock(&store.0.catalog).records(known.id).next().is_some()
}

/// Picks one item by a random number.
pub(super) fn pick<T>(those: &[T], dice: usize) -> Option<usize> {
    dice.checked_rem(those.len())
}
