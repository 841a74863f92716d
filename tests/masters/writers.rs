//! Writers that store one new key after another through whichever master answers, and record what was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::wire::error::ErrorCode;
use tests::client::Broken;
use tests::{Client, Cluster, eventually, value};

const BYTES: usize = 1000;
/// Timeout of a write.
const WRITE: Duration = Duration::from_secs(30);

/// An acknowledged write.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// Key and value.
    pub id: u64,
    /// Start of the write.
    pub began: Instant,
    /// When the client received the acknowledgement.
    pub ended: Instant,
}

/// The outcome of all writes.
#[derive(Debug, Default)]
struct Tally {
    acks: Mutex<Vec<Ack>>,
    failed: AtomicU64,
    unknown: AtomicU64,
    next: AtomicU64,
    stop: AtomicBool,
}

pub struct Writers {
    tally: Arc<Tally>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// Returns the key of a write.
pub fn key_of(id: u64) -> String {
    format!("load/{id:07}")
}

impl Writers {
    /// Starts this many writers, on all masters.
    pub fn start(count: usize, cluster: &Cluster) -> Self {
        let masters: Vec<Client> = cluster.masters().map(|s| Client::new(s.url())).collect();
        let tally = Arc::new(Tally::default());
        let write = |number: usize| {
            let (tally, masters) = (Arc::clone(&tally), masters.clone());
            tokio::spawn(async move {
                let mut turn = number;
                while !tally.stop.load(Ordering::Relaxed) {
                    if !tally.write(&masters[turn % masters.len()]).await {
                        turn += 1;
                    }
                }
            })
        };
        let tasks = (0..count).map(write).collect();
        Self { tally, tasks }
    }

    /// Returns the writes acknowledged so far.
    pub fn acks(&self) -> Vec<Ack> {
        self.tally.acks.lock().expect("no task panics with the lock").clone()
    }

    /// Waits for the first acknowledged write that started after `since`.
    pub async fn first_after(&self, since: Instant, within: Duration) -> Ack {
        eventually(within, "a write is acknowledged", async || {
            let acks = self.tally.acks.lock().expect("no task panics with the lock");
            acks.iter().rev().filter(|a| a.began > since).min_by_key(|a| a.ended).copied()
        })
        .await
    }

    /// Waits for this many more acknowledged writes.
    pub async fn more(&self, count: usize) {
        let wanted = self.acks().len() + count;
        eventually(Duration::from_secs(120), &format!("{count} more writes"), async || {
            (self.tally.acks.lock().expect("no task panics with the lock").len() >= wanted).then_some(())
        })
        .await;
    }

    /// Returns the counts of failed writes and of those with an unknown outcome.
    pub fn troubles(&self) -> (u64, u64) {
        (self.tally.failed.load(Ordering::Relaxed), self.tally.unknown.load(Ordering::Relaxed))
    }

    pub async fn stop(self) -> Vec<Ack> {
        self.tally.stop.store(true, Ordering::Relaxed);
        let acks = self.tally;
        for task in self.tasks {
            task.await.expect("no writer panics");
        }
        acks.acks.lock().expect("no task panics with the lock").clone()
    }
}

impl Tally {
    async fn write(&self, master: &Client) -> bool {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let key = key_of(id);
        let put = master.put(&key, value(id, BYTES));
        let answer = tokio::time::timeout(WRITE, put).await.expect("the write ends in time");
        let nothing_done = match &answer {
            Ok(answer) if answer.is_success() => {
                let ack = Ack { id, began, ended: Instant::now() };
                self.acks.lock().expect("no task panics with the lock").push(ack);
                return true;
            }
            Ok(answer) => answer.code() != Some(ErrorCode::OutcomeUnknown),
            Err(Broken::Transport(e)) => e.is_connect(),
            Err(other) => panic!("{other}"),
        };
        let counter = if nothing_done { &self.failed } else { &self.unknown };
        counter.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// Checks that all of these are there, byte for byte.
pub async fn all_there(client: &Client, acks: &[Ack]) {
    for ack in acks {
        let key = key_of(ack.id);
        let got = client.get(&key).await.unwrap_or_else(|why| panic!("{key}: {why}"));
        assert_eq!(got.status, 200, "{key} was acknowledged: {}", got.text());
        assert_eq!(got.body, value(ack.id, BYTES), "{key}");
    }
}
