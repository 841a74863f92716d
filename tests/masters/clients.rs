//! Clients that put, swap, fetch and delete the same few keys through any master, and record the outcome.
//!
//! A third of the operations are commands of Redis.
//!
//! A write is *done* or *refused* if the answer says so. It did not happen if no connection was made or the answer
//! says that nothing was done. Everything else is unknown. Failed reads say nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::wire::error::ErrorCode;
use shared::wire::routes::GENERATION_HEADER;
use tests::client::{Answer, Broken};
use tests::history::{Call, NEVER, Operation, Outcome};
use tests::redis::{Command, Redis};
use tests::wait::moment;
use tests::{Client, Dice};

use super::book::{Book, Page, bytes_of, etag_of};

/// Timeout of a read.
const READ: Duration = Duration::from_secs(5);
/// Timeout of a write: longer than the longest time that the product itself tries.
const WRITE_MS: u64 = 16_000;
/// Maximum pause between two operations of a client.
const PAUSE_MS: u64 = 25;

/// Which servers to ask, and how.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Clients for the masters.
    pub masters: Vec<Client>,
    /// Where they answer Redis clients; empty if they do not.
    pub redis: Vec<String>,
    /// Whether reads accept stale data: to see that the judges find it.
    pub stale: bool,
}

/// What an answer says about a write.
enum Told {
    Outcome(Outcome),
    NothingDone,
    Unknown,
}

pub struct Worker {
    pub number: usize,
    pub book: Arc<Book>,
    pub ways: Ways,
    pub dice: Dice,
    /// The master that answered last.
    pub master: usize,
    /// A connection for commands of Redis, and its master.
    pub redis: Option<(usize, Redis)>,
}

/// Starts clients, which run until `stop` is set.
pub fn start(
    count: usize,
    book: &Arc<Book>,
    ways: &Ways,
    dice: &mut Dice,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let start = |number| {
        let (book, ways, stop) = (Arc::clone(book), ways.clone(), Arc::clone(stop));
        let mut worker = Worker { number, book, ways, dice: dice.split(), master: number % 3, redis: None };
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                worker.work().await;
            }
        })
    };
    (0..count).map(start).collect()
}

impl Worker {
    async fn work(&mut self) {
        moment(Duration::from_millis(self.dice.below(PAUSE_MS))).await;
        if self.dice.once_in(8) {
            self.master = self.dice.index(self.ways.masters.len());
        }
        let page = self.book.page(&mut self.dice);
        if !self.ways.redis.is_empty() && self.dice.once_in(3) {
            let command = self.choose(&page);
            return self.command(&page, command).await;
        }
        let well = match self.dice.below(20) {
            0..10 => self.read(&page).await,
            10 | 11 => self.delete(&page).await,
            _ => self.put(&page).await,
        };
        if !well {
            self.master = (self.master + 1 + self.dice.index(2)) % self.ways.masters.len();
        }
    }

    /// Reads in one of three ways. Returns whether it succeeded.
    pub async fn read(&mut self, page: &Page) -> bool {
        let way = self.dice.below(5);
        let (method, query, name) = match way {
            0 => (Method::HEAD, "?", "HEAD"),
            1 | 2 => (Method::GET, "?", "GET"),
            _ => (Method::GET, "?stream&", "GET streamed"),
        };
        let path = format!("{}{query}{}", page.key, if self.ways.stale { "stale" } else { "" });
        let invoked = self.book.now();
        let asked = self.ways.masters[self.master].send(method.clone(), &path, &[], None);
        let answer = tokio::time::timeout(READ, asked).await;
        let returned = self.book.now();
        let Ok(Ok(answer)) = answer else {
            if let Ok(Err(short @ Broken::Short { .. })) = answer {
                panic!("{}: {short}", page.key);
            }
            self.book.count("read failed");
            return false;
        };
        let etag = answer.header("etag").unwrap_or_default();
        let outcome = match answer.status {
            200 => {
                if method == Method::GET {
                    assert_eq!(
                        Digest::of(&answer.body).etag(),
                        etag,
                        "{}: the bytes do not match the ETag",
                        page.key
                    );
                }
                let value = page.value_with(&etag);
                assert!(value.is_some(), "{}: a value that was never sent to this key: {answer:?}", page.key);
                Outcome::Saw(value)
            }
            // A HEAD answer has no body and no error code.
            404 if method == Method::HEAD || answer.code() == Some(ErrorCode::NotFound) => Outcome::Saw(None),
            status => {
                if status == 500 {
                    // The injected faults cause no internal errors.
                    panic!("{} through master {}: {}", page.key, self.master + 1, answer.text());
                }
                self.book.count(format!("read failed ({status})"));
                return false;
            }
        };
        let generation = answer.header(GENERATION_HEADER).and_then(|g| g.parse().ok());
        self.book.count("read");
        page.add(self.operation(Call::Read, outcome, invoked, returned, generation, name));
        true
    }

    async fn delete(&mut self, page: &Page) -> bool {
        self.write(page, Call::Delete, Method::DELETE, Vec::new(), None, page.key.clone()).await
    }

    async fn put(&mut self, page: &Page) -> bool {
        let value = self.book.new_value(page);
        let latest = page.latest();
        let (call, method, header) = match (self.dice.below(8), latest) {
            (0, _) => (Call::PutIfAbsent(value), Method::POST, None),
            (1 | 2, _) => (Call::PutIfAbsent(value), Method::PUT, Some(("if-none-match", "*".to_owned()))),
            (3..6, Some(expected)) => {
                let header = Some(("if-match", etag_of(expected)));
                (Call::PutIfMatch { expected, value }, Method::PUT, header)
            }
            _ => (Call::Put(value), Method::PUT, None),
        };
        let query = ["", "", "?redirect"][self.dice.index(3)];
        let headers: Vec<(&str, String)> = header.into_iter().collect();
        self.write(page, call, method, headers, Some(bytes_of(value)), format!("{}{query}", page.key)).await
    }

    async fn write(
        &mut self,
        page: &Page,
        call: Call,
        method: Method,
        headers: Vec<(&str, String)>,
        body: Option<Vec<u8>>,
        path: String,
    ) -> bool {
        let name = format!("{method}{}", if path.ends_with("redirect") { " redirected" } else { "" });
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let patience = Duration::from_millis(1000 + self.dice.below(WRITE_MS));
        let invoked = self.book.now();
        let asked = self.ways.masters[self.master].send(method, &path, &headers, body);
        let answer = tokio::time::timeout(patience, asked).await;
        let returned = self.book.now();
        let (told, generation) = match &answer {
            Ok(Ok(answer)) => (told(call, answer), generation(answer)),
            Ok(Err(Broken::Transport(e))) if e.is_connect() => (Told::NothingDone, None),
            _ => (Told::Unknown, None),
        };
        let (outcome, returned, counted) = match told {
            Told::NothingDone => {
                self.book.count("write not started");
                return false;
            }
            Told::Outcome(Outcome::Refused) => (Outcome::Refused, returned, "write refused"),
            Told::Outcome(outcome) => (outcome, returned, "write"),
            Told::Unknown => (Outcome::Unknown, NEVER, "write unknown"),
        };
        self.book.count(counted);
        page.add(self.operation(call, outcome, invoked, returned, generation, &name));
        outcome != Outcome::Unknown
    }

    fn choose(&mut self, page: &Page) -> Command {
        match self.dice.below(20) {
            0..9 => Command::Get,
            9 => Command::Del,
            10 => Command::GetDel,
            _ => Command::Set {
                value: self.book.new_value(page),
                condition: [None, None, Some("NX"), Some("NX"), Some("XX")][self.dice.index(5)],
                get: self.dice.once_in(4),
            },
        }
    }

    /// Returns a connection to a random master: now and then a new one.
    async fn connection(&mut self) -> Option<(usize, Redis)> {
        let kept = self.redis.take().filter(|(_, redis)| redis.is_open() && !self.dice.once_in(8));
        if kept.is_some() {
            return kept;
        }
        let master = self.dice.index(self.ways.redis.len());
        let connected = tokio::time::timeout(READ, Redis::connect(&self.ways.redis[master])).await;
        Some((master, connected.ok()?.ok()?))
    }

    async fn command(&mut self, page: &Page, command: Command) {
        let Some((master, mut redis)) = self.connection().await else {
            return self.book.count("Redis: no connection");
        };
        let words = command.words(&page.key, bytes_of);
        let patience = match command {
            Command::Get => READ,
            _ => Duration::from_millis(1000 + self.dice.below(WRITE_MS)),
        };
        let invoked = self.book.now();
        let asked = redis.ask(&words);
        let reply = tokio::time::timeout(patience, asked).await;
        let returned = self.book.now();
        let told = match &reply {
            Ok(Ok(reply)) if reply.says_nothing_done() => Vec::new(),
            Ok(Ok(reply)) => command.told(reply, |bytes| {
                let value = page.value_with(&Digest::of(bytes).etag());
                value.unwrap_or_else(|| panic!("{}: a value that was never sent to this key", page.key))
            }),
            _ => command.unknown(),
        };
        if let Ok(Ok(_)) = reply {
            self.redis = Some((master, redis));
        }
        let counted = match told.last() {
            None => "Redis: nothing done",
            Some((_, Outcome::Unknown)) => "Redis: unknown",
            Some((_, Outcome::Saw(_))) => "Redis: read",
            Some((_, Outcome::Done)) => "Redis: write",
            Some((_, Outcome::Refused)) => "Redis: refused",
        };
        self.book.count(counted);
        for (call, outcome) in told {
            let returned = if outcome == Outcome::Unknown { NEVER } else { returned };
            let via = format!("{}, master {}", command.name(), master + 1);
            page.add(Operation {
                client: self.number,
                call,
                outcome,
                invoked,
                returned,
                generation: None,
                via,
            });
        }
    }

    fn operation(
        &self,
        call: Call,
        outcome: Outcome,
        invoked: u64,
        returned: u64,
        generation: Option<BlobId>,
        way: &str,
    ) -> Operation {
        let via = format!("{way}, master {}", self.master + 1);
        Operation { client: self.number, call, outcome, invoked, returned, generation, via }
    }
}

/// Returns the generation that an acknowledged write or delete names.
fn generation(answer: &Answer) -> Option<BlobId> {
    let json: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    answer.is_success().then(|| json["generation"].as_str()?.parse().ok())?
}

fn told(call: Call, answer: &Answer) -> Told {
    use ErrorCode::{
        BadTicket, Exists, NoSpace, NotFound, NotJoined, NotLeader, NotSigned, PreconditionFailed, ReadOnly,
        TicketExpired, TooBusy, Unavailable,
    };
    match (answer.status, answer.code()) {
        (200 | 201, _) => Told::Outcome(Outcome::Done),
        (_, Some(Exists | PreconditionFailed)) => Told::Outcome(Outcome::Refused),
        (_, Some(NotFound)) if call == Call::Delete => Told::Outcome(Outcome::Refused),
        // Their messages say that nothing was stored, and the judges rely on it.
        (_, Some(Unavailable | TooBusy | NotLeader | NotJoined | ReadOnly | NoSpace)) => Told::NothingDone,
        (_, Some(BadTicket | TicketExpired | NotSigned)) => Told::NothingDone,
        _ => Told::Unknown,
    }
}
