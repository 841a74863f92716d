//! MD5 of values that come at the same time, for the entity tags that S3 clients expect. It costs more than anything else that
//! is done with a value, and the blocks of one value must be hashed one after the other; but several values can share the vectors
//! of one processor. What they bring is gathered for a moment and hashed together.

mod lanes;
mod message;
#[cfg(test)]
mod tests;

use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fearless_simd::Level;
use tokio::sync::oneshot;

use crate::limits::MD5_GATHERING;
use crate::work::blocking;
use lanes::{LANES, compress};
use message::{Lane, Message};

/// From so many values on they are hashed together: fewer are faster alone, where a vector has 128 bits, or more.
const TOGETHER_MIN: usize = 4;
const TOGETHER_MIN_WIDE: usize = 2;

/// All MD5s that a server computes.
#[derive(Debug)]
pub struct Pool {
    level: Level,
    together_min: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Values that are under way.
    streams: usize,
    /// Of those, what waits to be hashed: not more than one batch of each.
    waiting: Vec<Job>,
    /// Batches that have been begun: whoever waits for the end of one does nothing when it has.
    begun: u64,
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

impl Pool {
    /// With what a processor can do.
    fn at(level: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        let wide = level.as_avx2().is_some();
        #[cfg(not(target_arch = "x86_64"))]
        let wide = false;
        let together_min = if wide { TOGETHER_MIN_WIDE } else { TOGETHER_MIN };
        Self { level, together_min, state: Mutex::default() }
    }

    /// A value whose MD5 is wanted.
    pub fn stream(self: &Arc<Self>) -> Stream {
        self.lock().streams += 1;
        Stream { pool: Arc::clone(self), idle: Some(Message::default()), busy: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.waiting.push(job);
        if state.waiting.len() >= LANES.min(state.streams) {
            let jobs = state.batch();
            drop(state);
            self.begin(jobs);
        } else if state.waiting.len() == 1 {
            let (pool, begun) = (Arc::clone(self), state.begun);
            drop(state);
            tokio::spawn(async move {
                tokio::time::sleep(MD5_GATHERING).await;
                let jobs = {
                    let mut state = pool.lock();
                    if state.begun == begun { state.batch() } else { Vec::new() }
                };
                pool.begin(jobs);
            });
        }
    }

    fn begin(self: &Arc<Self>, jobs: Vec<Job>) {
        if !jobs.is_empty() {
            let pool = Arc::clone(self);
            tokio::spawn(blocking(move || pool.hash(jobs)));
        }
    }

    /// Hashes what came of at most `LANES` values.
    fn hash(&self, mut jobs: Vec<Job>) {
        loop {
            jobs = finished(jobs);
            if jobs.len() < self.together_min {
                break;
            }
            // A lane of which there is no value does as the first does.
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

impl State {
    fn batch(&mut self) -> Vec<Job> {
        self.begun += 1;
        take(&mut self.waiting)
    }
}

impl Job {
    fn answer(self) {
        // Nobody waits where the upload has been given up.
        drop(self.done.send(self.lane.message));
    }
}

/// Those that go on; the others are answered.
fn finished(jobs: Vec<Job>) -> Vec<Job> {
    let mut left = Vec::with_capacity(jobs.len());
    for mut job in jobs {
        if job.lane.is_ready() { left.push(job) } else { job.answer() }
    }
    left
}

/// One value on its way: one batch of it is hashed while the next is gathered.
#[derive(Debug)]
pub struct Stream {
    pool: Arc<Pool>,
    idle: Option<Message>,
    busy: Option<oneshot::Receiver<Message>>,
}

impl Stream {
    /// Hands bytes over; waits for those before them. None when the server is shutting down.
    pub async fn update(&mut self, bytes: Vec<Bytes>) -> Option<()> {
        let message = self.wait().await?;
        let (done, busy) = oneshot::channel();
        self.busy = Some(busy);
        self.pool.submit(Job { lane: Lane::new(message, bytes), done });
        Some(())
    }

    /// The MD5 of all of it. None when the server is shutting down.
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
        self.pool.lock().streams -= 1;
    }
}
