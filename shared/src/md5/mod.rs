//! MD5 of concurrent uploads, for the entity tags that S3 clients expect. It costs more than anything else done with
//! a value, and the blocks of one value must be hashed in sequence; but several values can share one processor's
//! vectors. Their batches are gathered for a moment and hashed together if they arrive fast enough.

mod lanes;
mod message;
#[cfg(test)]
mod tests;

use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fearless_simd::Level;
use tokio::sync::oneshot;

use crate::limits::MD5_GATHERING;
use crate::work::blocking;
use lanes::{LANES, compress};
use message::{Lane, Message};

/// Computes the MD5s of a server's uploads.
#[derive(Debug)]
pub struct Pool {
    level: Level,
    /// The number of values from which hashing together pays. Fewer are faster on a processor each.
    together_min: usize,
    /// How long a batch waits for others.
    gathering: Duration,
    state: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    streams: u64,
    /// When streams last submitted a batch, if recently: others wait for these.
    recent: Vec<(u64, Instant)>,
    /// Batches to hash: at most one of each stream.
    waiting: Vec<Job>,
    /// How often `waiting` was taken: a timer does nothing if that happened before it fired.
    taken: u64,
}

#[derive(Debug)]
struct Job {
    lane: Lane,
    done: oneshot::Sender<Message>,
}

impl Default for Pool {
    fn default() -> Self {
        Self::at(Level::new())
    }
}

/// The number of values from which the lanes hash more per second than two processors with one value each, 0.74 GB/s:
/// all eight lanes hash 3.2 GB/s with AVX-512, 2.6 with AVX2, 1.6 with SSE2 (measured at 2 GHz).
fn together_min(level: Level) -> usize {
    // The lanes are read as little-endian words.
    if cfg!(target_endian = "big") {
        return usize::MAX;
    }
    #[cfg(target_arch = "x86_64")]
    if level.as_avx512().is_some() {
        return 2;
    } else if level.as_avx2().is_some() {
        return 3;
    }
    let _ = level;
    4
}

impl Pool {
    /// A pool for a processor of this level.
    fn at(level: Level) -> Self {
        let (together_min, gathering) = (together_min(level), MD5_GATHERING);
        Self { level, together_min, gathering, state: Mutex::default() }
    }

    /// Starts a value.
    pub fn stream(self: &Arc<Self>) -> Stream {
        let mut state = self.lock();
        state.streams += 1;
        Stream { pool: Arc::clone(self), id: state.streams, idle: Some(Message::default()), busy: None }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes a batch, together with others if there are any; immediately if it is the `last` of its stream.
    fn submit(self: &Arc<Self>, stream: u64, job: Job, last: bool) {
        let mut state = self.lock();
        let wanted = LANES.min(state.recent(stream, Instant::now(), 2 * self.gathering));
        state.waiting.push(job);
        if last || wanted < self.together_min || state.waiting.len() >= wanted {
            let jobs = state.take();
            drop(state);
            self.begin(jobs);
        } else if state.waiting.len() == 1 {
            let (pool, taken) = (Arc::clone(self), state.taken);
            drop(state);
            tokio::spawn(async move {
                tokio::time::sleep(pool.gathering).await;
                let jobs = {
                    let mut state = pool.lock();
                    if state.taken == taken { state.take() } else { Vec::new() }
                };
                pool.begin(jobs);
            });
        }
    }

    fn begin(self: &Arc<Self>, jobs: Vec<Job>) {
        let at_once = if jobs.len() < self.together_min { 1 } else { LANES };
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let (pool, some) = (Arc::clone(self), jobs.by_ref().take(at_once).collect());
            tokio::spawn(blocking(move || pool.hash(some)));
        }
    }

    /// Hashes the batches of at most `LANES` values.
    fn hash(&self, mut jobs: Vec<Job>) {
        loop {
            jobs = finished(jobs);
            if jobs.len() < self.together_min {
                break;
            }
            // A lane without a value repeats the first one.
            let of = |n: usize| jobs.get(n).unwrap_or(&jobs[0]);
            let mut words =
                std::array::from_fn(|word| std::array::from_fn(|n| of(n).lane.message.words[word]));
            let bytes = compress(self.level, &mut words, std::array::from_fn(|n| of(n).lane.next()));
            for (n, job) in jobs.iter_mut().enumerate() {
                job.lane.message.words = std::array::from_fn(|word| words[word][n]);
                job.lane.hashed(bytes);
            }
        }
        for mut job in jobs {
            job.lane.hash();
            job.answer();
        }
    }
}

impl Queue {
    /// Records that a stream submitted a batch; returns how many did so lately.
    fn recent(&mut self, stream: u64, now: Instant, lately: Duration) -> usize {
        self.recent.retain(|(other, at)| *other != stream && now - *at < lately);
        self.recent.push((stream, now));
        self.recent.len()
    }

    fn take(&mut self) -> Vec<Job> {
        self.taken += 1;
        take(&mut self.waiting)
    }
}

impl Job {
    fn answer(self) {
        // Nobody waits if the upload was aborted.
        drop(self.done.send(self.lane.message));
    }
}

/// Answers the jobs that are done; returns the others.
fn finished(jobs: Vec<Job>) -> Vec<Job> {
    let mut left = Vec::with_capacity(jobs.len());
    for mut job in jobs {
        if job.lane.is_ready() { left.push(job) } else { job.answer() }
    }
    left
}

/// The MD5 of one value in progress: one batch is hashed while the next is gathered.
#[derive(Debug)]
pub struct Stream {
    pool: Arc<Pool>,
    id: u64,
    idle: Option<Message>,
    busy: Option<oneshot::Receiver<Message>>,
}

impl Stream {
    /// Submits bytes after waiting for the previous ones. The `last` bytes of a value do not wait for other values.
    /// `None` if the previous bytes cannot be hashed: the server is shutting down, or an earlier `update` or `finish`
    /// was not awaited.
    pub async fn update(&mut self, bytes: Vec<Bytes>, last: bool) -> Option<()> {
        let message = self.wait().await?;
        let (done, busy) = oneshot::channel();
        self.busy = Some(busy);
        self.pool.submit(self.id, Job { lane: Lane::new(message, bytes), done }, last);
        Some(())
    }

    /// The MD5 of the whole value. `None` as for `update`.
    pub async fn finish(&mut self) -> Option<[u8; 16]> {
        Some(self.wait().await?.finish())
    }

    async fn wait(&mut self) -> Option<Message> {
        match self.busy.take() {
            Some(busy) => busy.await.ok(),
            None => self.idle.take(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.recent.retain(|(stream, _)| *stream != self.id);
    }
}
