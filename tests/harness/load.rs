//! A load that keeps the oracle's journal: writers that put, overwrite, delete and abort, and readers of keys that
//! are overwritten all the time and always exist. Connection errors are allowed; wrong answers are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use shared::digest::Digest;
use shared::wire::error::ErrorCode;
use shared::work::blocking;
use tokio::task::JoinHandle;

use crate::client::{Answer, Broken, Client};
use crate::cluster::Cluster;
use crate::oracle::{Change, Oracle};
use crate::raw::Raw;
use crate::value::{Dice, value};
use crate::wait::moment;

/// Sizes and counts of a load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Writers of keys that are created and deleted.
    pub writers: u64,
    /// Keys that always exist, each with its own writer.
    pub hot_keys: u64,
    /// Readers of those keys.
    pub readers: u64,
    /// Keys per writer.
    pub keys: u64,
    /// Smallest value in bytes.
    pub bytes_min: u64,
    /// Largest value in bytes.
    pub bytes_max: u64,
}

/// Counts of a load.
#[derive(Debug, Default)]
pub struct Counts {
    pub acknowledged: AtomicU64,
    /// Changes without a clear outcome.
    pub unknown: AtomicU64,
    pub refused: AtomicU64,
    /// Uploads that the client aborted.
    pub broken_off: AtomicU64,
    /// Reads that were answered and judged.
    pub reads: AtomicU64,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    oracle: Oracle,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Actor {
    masters: Vec<Client>,
    /// The master that answered last.
    master: usize,
    oracle: Oracle,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    dice: Dice,
    shape: Shape,
}

fn hot(n: u64) -> String {
    format!("hot/{n}")
}

impl Load {
    /// Stores the first value of the hot keys and starts all tasks against the masters.
    ///
    /// # Panics
    /// If the first values cannot be stored, before any fault.
    pub async fn start(cluster: &Cluster, oracle: &Oracle, shape: Shape, dice: &mut Dice) -> Self {
        let (counts, over) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
        let masters: Vec<Client> = cluster.masters().map(|s| Client::new(s.url())).collect();
        let mut actor = || Actor {
            masters: masters.clone(),
            master: dice.index(masters.len()),
            oracle: oracle.clone(),
            counts: Arc::clone(&counts),
            over: Arc::clone(&over),
            dice: dice.split(),
            shape,
        };
        let mut tasks = Vec::new();
        for n in 0..shape.hot_keys {
            let mut owner = actor();
            assert_eq!(owner.put(&hot(n)).await, Some(true), "the first value of a key that always exists");
            tasks.push(tokio::spawn(owner.overwrite(hot(n))));
        }
        for n in 0..shape.writers {
            tasks.push(tokio::spawn(actor().come_and_go(n)));
        }
        for _ in 0..shape.readers {
            tasks.push(tokio::spawn(actor().read_hot()));
        }
        Self { oracle: oracle.clone(), counts, over, tasks }
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Reports whether a violation was found: its task has ended early.
    pub fn failed(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Starts no new operation from now on.
    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Stops the load and waits for the operations in progress; returns the number of acknowledged changes.
    ///
    /// # Errors
    /// The violation, if one was found.
    pub async fn finish(self) -> Result<u64, String> {
        self.stop();
        for task in self.tasks {
            if let Err(e) = task.await {
                let panic = e.into_panic();
                return Err(panic
                    .downcast_ref::<String>()
                    .cloned()
                    .unwrap_or_else(|| "a task panicked".into()));
            }
        }
        Ok(self.counts.acknowledged.load(Ordering::Relaxed))
    }

    /// Stops the load and waits for the operations in progress.
    ///
    /// # Panics
    /// If a violation was found.
    pub async fn end(self) -> Arc<Counts> {
        self.stop();
        for task in self.tasks {
            if let Err(e) = task.await {
                std::panic::resume_unwind(e.into_panic());
            }
        }
        drop(self.oracle);
        self.counts
    }
}

impl Actor {
    fn ended(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn overwrite(mut self, key: String) {
        while !self.ended() {
            if self.put(&key).await != Some(true) {
                moment(Duration::from_millis(50)).await;
            }
        }
    }

    async fn come_and_go(mut self, writer: u64) {
        while !self.ended() {
            let key = format!("writer{writer}/{}", self.dice.below(self.shape.keys));
            let done = match self.dice.below(10) {
                0..=5 => self.put(&key).await,
                6..=7 => self.delete(&key).await,
                8 => {
                    self.break_off(&key).await;
                    Some(true)
                }
                _ => self.verify(&key).await,
            };
            if done != Some(true) {
                moment(Duration::from_millis(50)).await;
            }
        }
    }

    async fn read_hot(mut self) {
        while !self.ended() {
            let key = hot(self.dice.below(self.shape.hot_keys));
            if self.verify(&key).await != Some(true) {
                moment(Duration::from_millis(50)).await;
            }
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        // As many small values as large ones.
        let span = self.shape.bytes_max / self.shape.bytes_min;
        let scale = self.shape.bytes_min << self.dice.below(u64::from(span.max(1).ilog2()) + 1);
        let length = scale + self.dice.below(scale);
        value(self.dice.roll(), usize::try_from(length.min(self.shape.bytes_max)).expect("in memory"))
    }

    /// Returns true if acknowledged, `None` if unknown.
    async fn put(&mut self, key: &str) -> Option<bool> {
        let bytes = self.bytes();
        let intent = self.oracle.intend(key, Change::put(&bytes));
        let path = if self.dice.once_in(2) {
            format!("{key}?redirect&length={}", bytes.len())
        } else {
            key.to_owned()
        };
        let outcome = self.client().send(Method::PUT, &path, &[], Some(bytes)).await;
        self.settle(intent, outcome)
    }

    async fn delete(&mut self, key: &str) -> Option<bool> {
        let since = self.oracle.moment();
        let intent = self.oracle.intend(key, Change::Delete);
        let outcome = self.client().delete(key).await;
        if matches!(&outcome, Ok(a) if a.status == 404) {
            // It changed nothing and says that the key is missing: a read, judged like any other. Taken for an
            // unknown delete, it would excuse the loss it reports.
            intent.refused();
            self.oracle.check(key, since, &Change::Delete).unwrap_or_else(|e| panic!("VIOLATION {e}"));
            return Some(true);
        }
        self.settle(intent, outcome)
    }

    fn client(&self) -> &Client {
        &self.masters[self.master]
    }

    /// Uses the next master from now on.
    fn turn(&mut self) {
        self.master = (self.master + 1) % self.masters.len();
    }

    fn settle(&mut self, intent: crate::oracle::Intent, outcome: Result<Answer, Broken>) -> Option<bool> {
        if !matches!(&outcome, Ok(answer) if answer.is_success()) {
            self.turn();
        }
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(answer) if answer.is_success() => {
                intent.ok();
                count(&self.counts.acknowledged);
                Some(true)
            }
            Ok(answer) if is_refusal(&answer) => {
                intent.refused();
                count(&self.counts.refused);
                Some(false)
            }
            Err(e @ Broken::Short { .. }) => panic!("{e}"),
            Ok(_) | Err(_) => {
                intent.unknown();
                count(&self.counts.unknown);
                None
            }
        }
    }

    /// An upload that stops in the middle: it must leave nothing.
    async fn break_off(&mut self, key: &str) {
        let (bytes, address) = (self.bytes(), self.client().address().to_owned());
        let head =
            format!("PUT /{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", bytes.len());
        let sent = usize::try_from(self.dice.below(bytes.len() as u64)).expect("in memory");
        blocking(move || {
            if let Some(mut raw) = Raw::try_connect(&address) {
                raw.send(head);
                raw.send(&bytes[..sent]);
            }
        })
        .await;
        self.counts.broken_off.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads a key and judges the answer; returns `None` if no answer arrived.
    async fn verify(&mut self, key: &str) -> Option<bool> {
        let streamed = self.dice.once_in(2);
        let seen = look(self.client(), &self.oracle, key, streamed).await;
        match seen {
            Ok(Some(())) => {
                self.counts.reads.fetch_add(1, Ordering::Relaxed);
                Some(true)
            }
            Ok(None) => {
                self.turn();
                None
            }
            Err(violation) => panic!("VIOLATION {violation}"),
        }
    }
}

/// Definitely refused: nothing was done, and nothing will be.
pub fn is_refusal(answer: &Answer) -> bool {
    use ErrorCode::{Internal, OutcomeUnknown};
    (400..600).contains(&answer.status) && answer.code().is_some_and(|c| c != OutcomeUnknown && c != Internal)
}

/// Judges one read. Returns `Ok(None)` without a complete response, or on 503.
///
/// # Errors
/// If the store gives an answer that it must not give.
pub async fn look(client: &Client, oracle: &Oracle, key: &str, streamed: bool) -> Result<Option<()>, String> {
    let since = oracle.moment();
    let got = if streamed { client.get_streamed(key).await } else { client.get(key).await };
    let seen = match got {
        Ok(answer) if answer.status == 200 => {
            let etag = Digest::of(&answer.body).etag();
            if answer.header("etag").as_deref() != Some(etag.as_str()) {
                return Err(format!("{key}: the body does not match its ETag"));
            }
            Change::put(&answer.body)
        }
        Ok(answer) if answer.status == 404 => Change::Delete,
        Ok(answer) if answer.status == 503 => return Ok(None),
        Ok(answer) => return Err(format!("{key}: status {}: {}", answer.status, answer.text())),
        Err(e @ Broken::Short { .. }) => return Err(format!("{key}: {e}")),
        Err(_) => return Ok(None),
    };
    oracle.check(key, since, &seen).map(Some).map_err(|violation| violation.to_string())
}

/// A volume that did not answer a call is skipped until its next heartbeat.
const HEARD_OF_AGAIN: Duration = Duration::from_secs(5);
const NO_ANSWER: &str = "no answer, although all servers are up";

/// As `audit`, right after a restart: there may be no answer for a moment.
///
/// # Errors
/// All violations that were found.
pub async fn audit_after_restart(client: &Client, oracle: &Oracle) -> Result<usize, String> {
    let started = std::time::Instant::now();
    loop {
        match audit(client, oracle).await {
            Err(wrong)
                if wrong.lines().all(|l| l.ends_with(NO_ANSWER)) && started.elapsed() < HEARD_OF_AGAIN =>
            {
                moment(Duration::from_millis(100)).await;
            }
            judged => return judged,
        }
    }
}

/// Reads every key that was ever written, both ways, and judges the answers. Everything must answer now.
///
/// # Errors
/// All violations that were found.
pub async fn audit(client: &Client, oracle: &Oracle) -> Result<usize, String> {
    let keys = oracle.keys();
    let mut wrong = Vec::new();
    for key in &keys {
        for streamed in [false, true] {
            match look(client, oracle, key, streamed).await {
                Ok(Some(())) => {}
                Ok(None) => wrong.push(format!("{key}: {NO_ANSWER}")),
                Err(violation) => wrong.push(violation),
            }
        }
    }
    if wrong.is_empty() { Ok(keys.len()) } else { Err(wrong.join("\n")) }
}
