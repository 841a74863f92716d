//! Writers that store one new key after the other, through whichever master answers, and remember what was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::wire::error::ErrorCode;
use tests::client::Broken;
use tests::{Client, Cluster, eventually, value};

const BYTES: usize = 1000;
/// No write may take longer.
const WRITE: Duration = Duration::from_secs(30);

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// Its key and value.
    pub id: u64,
    /// When it began.
    pub began: Instant,
    /// When the client heard of its success.
    pub ended: Instant,
}

/// What became of all writes.
#[derive(Debug, Default)]
struct Tally {
    acks: Mutex<Vec<Ack>>,
    failed: AtomicU64,
    unknown: AtomicU64,
    next: AtomicU64,
    stop: AtomicBool,
}

/// Writers at work.
pub struct Writers {
    tally: Arc<Tally>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// The key of a write.
pub fn key_of(id: u64) -> String {
    format!("load/{id:07}")
}

impl Writers {
    /// So many of them, on all masters.
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

    /// What was acknowledged so far.
    pub fn acks(&self) -> Vec<Ack> {
        self.tally.acks.lock().expect("nobody panics with it").clone()
    }

    /// Waits for the first acknowledged write that began after `since`.
    pub async fn first_after(&self, since: Instant, within: Duration) -> Ack {
        eventually(within, "a write is acknowledged", async || {
            let acks = self.tally.acks.lock().expect("nobody panics with it");
            acks.iter().rev().filter(|a| a.began > since).min_by_key(|a| a.ended).copied()
        })
        .await
    }

    /// Waits for so many acknowledged writes more.
    pub async fn more(&self, count: usize) {
        let wanted = self.acks().len() + count;
        eventually(Duration::from_secs(120), &format!("{count} more writes"), async || {
            (self.tally.acks.lock().expect("nobody panics with it").len() >= wanted).then_some(())
        })
        .await;
    }

    /// Writes that failed without a trace, and those whose outcome is unknown.
    pub fn troubles(&self) -> (u64, u64) {
        (self.tally.failed.load(Ordering::Relaxed), self.tally.unknown.load(Ordering::Relaxed))
    }

    pub async fn stop(self) -> Vec<Ack> {
        self.tally.stop.store(true, Ordering::Relaxed);
        let acks = self.tally;
        for task in self.tasks {
            task.await.expect("no writer panics");
        }
        acks.acks.lock().expect("nobody panics with it").clone()
    }
}

impl Tally {
    async fn write(&self, master: &Client) -> bool {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let key = key_of(id);
        let put = master.put(&key, value(id, BYTES));
        let answer = tokio::time::timeout(WRITE, put).await.expect("a write that ends");
        let nothing_done = match &answer {
            Ok(answer) if answer.is_success() => {
                let ack = Ack { id, began, ended: Instant::now() };
                self.acks.lock().expect("nobody panics with it").push(ack);
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

/// All of these are there, byte for byte.
pub async fn all_there(client: &Client, acks: &[Ack]) {
    for ack in acks {
        let key = key_of(ack.id);
        let got = client.get(&key).await.unwrap_or_else(|why| panic!("{key}: {why}"));
        assert_eq!(got.status, 200, "{key} was acknowledged: {}", got.text());
        assert_eq!(got.body, value(ack.id, BYTES), "{key}");
    }
}
