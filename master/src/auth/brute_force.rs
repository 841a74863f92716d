//! Slows down brute-force guessing of secrets (rate limiting). Every wrong secret is counted; log lines are limited. A
//! peer that sent many wrong secrets for one access key waits before the next one is checked, right or wrong: a delay
//! after the check would reveal by the silence that a guess was wrong. Other peers that use that key do not wait.
//!
//! Nothing here sees a secret. The table and the number of waiting requests are bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use shared::access::AccessKeyId;
use shared::limits::{
    GUESS_DELAY, GUESS_FORGOTTEN, GUESSERS_MAX, GUESSES_FREE, GUESSES_LINES, GUESSES_LOGGED, GUESSES_WAITING,
    GUESSES_WAITING_EACH,
};
use shared::telemetry::Metrics;
use shared::wire::error::{ErrorCode, ErrorReply};
use tokio::sync::Semaphore;

/// Letters of an unknown id that the log shows: a secret sent in place of the id must not be readable there.
const UNKNOWN_LETTERS: usize = 4;

/// Why an access key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// No access key has this id.
    Id,
    /// The secret, or the signature made with it, is wrong.
    Secret,
}

impl Wrong {
    fn name(self) -> &'static str {
        match self {
            Self::Id => "unknown_key",
            Self::Secret => "wrong_secret",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Debug)]
pub struct BruteForceGuard {
    table: Mutex<Table>,
    waiting: Semaphore,
    refused: Family<Refused, Counter>,
    delayed: Counter,
}

impl BruteForceGuard {
    /// Creates an empty table and registers its counters in `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let new = Self {
            table: Mutex::default(),
            waiting: Semaphore::new(GUESSES_WAITING),
            refused: Family::default(),
            delayed: Counter::default(),
        };
        metrics.register(|r| {
            r.register("barge_access_refused", "Requests with an invalid access key", new.refused.clone());
            r.register(
                "barge_access_throttled",
                "Requests delayed after many invalid ones",
                new.delayed.clone(),
            );
        });
        new
    }

    /// Delays a peer that sent many wrong secrets for the key `id`. The wait ends early if its client disconnects.
    ///
    /// # Errors
    /// When too many requests already wait.
    pub async fn throttle(&self, id: &str, peer: IpAddr) -> Result<(), ErrorReply> {
        let Some(places) = self.lock().suspected(&pair(id, peer), Instant::now()) else { return Ok(()) };
        self.delayed.inc();
        let (Ok(_one), Ok(_all)) = (places.try_acquire(), self.waiting.try_acquire()) else {
            return Err(ErrorReply::new(
                ErrorCode::TooBusy,
                "too many wrong secrets for this access key came from this address",
                "check the secret, then retry with fewer concurrent requests",
            ));
        };
        tokio::time::sleep(GUESS_DELAY).await;
        Ok(())
    }

    /// Records that `peer` sent an invalid key.
    pub fn wrong(&self, id: &str, peer: IpAddr, wrong: Wrong) {
        self.refused.get_or_create(&Refused { reason: wrong.name() }).inc();
        // All unknown ids count as one, so that invented ids cannot fill the table or the log.
        let known = if wrong == Wrong::Secret { id } else { "" };
        let line = self.lock().wrong(pair(known, peer), Instant::now());
        if let Some(Line { times, others }) = line {
            let (id, reason) = (shown(id, wrong == Wrong::Secret), wrong.name());
            tracing::warn!(access_key = id, %peer, reason, times, others, "an access key was refused");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns an id in the form for logs: complete if the key exists, its first letters otherwise.
pub fn shown(id: &str, known: bool) -> String {
    if known && id.parse::<AccessKeyId>().is_ok() {
        return id.to_owned();
    }
    let letters = id.chars().take(UNKNOWN_LETTERS).filter(char::is_ascii_alphanumeric);
    letters.chain(['…']).collect()
}

/// An id and a peer. Ids come from clients and can have any length, so only their hash is kept.
type Pair = (blake3::Hash, IpAddr);

fn pair(id: &str, peer: IpAddr) -> Pair {
    (blake3::hash(id.as_bytes()), network(peer))
}

/// Reduces an IPv6 address to its /64, which one machine may have to itself.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// The state of a pair.
#[derive(Debug)]
struct Record {
    /// Wrong secrets that were not forgotten yet at the time `last` (leaky bucket).
    count: f64,
    last: Instant,
    /// Places for waiting requests of this pair.
    places: Arc<Semaphore>,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Record {
    fn count(&self, now: Instant) -> f64 {
        let forgotten =
            now.saturating_duration_since(self.last).as_secs_f64() / GUESS_FORGOTTEN.as_secs_f64();
        (self.count - forgotten).max(0.0)
    }
}

/// The numbers in a log line.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Wrong secrets of this pair since its last line.
    times: u64,
    /// Wrong secrets of pairs whose lines were suppressed, since the last line of any pair.
    others: u64,
}

#[derive(Debug, Default)]
struct Table {
    records: HashMap<Pair, Record>,
    /// The number of lines written since the time beside it.
    lines: Option<(Instant, u32)>,
    others: u64,
}

impl Table {
    /// Returns the places to wait in, if this pair must wait.
    fn suspected(&self, pair: &Pair, now: Instant) -> Option<Arc<Semaphore>> {
        let record = self.records.get(pair)?;
        (record.count(now) >= f64::from(GUESSES_FREE)).then(|| Arc::clone(&record.places))
    }

    /// Counts one more wrong secret. Returns the log line that is due, if any.
    fn wrong(&mut self, pair: Pair, now: Instant) -> Option<Line> {
        if self.records.len() >= GUESSERS_MAX && !self.records.contains_key(&pair) {
            let oldest = self.records.iter().min_by_key(|(_, r)| r.last).map(|(pair, _)| *pair);
            oldest.and_then(|pair| self.records.remove(&pair));
        }
        let record = self.records.entry(pair).or_insert_with(|| Record {
            count: 0.0,
            last: now,
            places: Arc::new(Semaphore::new(GUESSES_WAITING_EACH)),
            logged: None,
            unlogged: 0,
        });
        // The count is bounded, so a peer that stops is forgotten soon, however many wrong secrets it sent.
        (record.count, record.last) = ((record.count(now) + 1.0).min(2.0 * f64::from(GUESSES_FREE)), now);
        let due =
            |last: Option<Instant>| last.is_none_or(|l| now.saturating_duration_since(l) >= GUESSES_LOGGED);
        if !due(record.logged) {
            record.unlogged += 1;
            return None;
        }
        let lines = self.lines.filter(|(since, _)| !due(Some(*since))).unwrap_or((now, 0));
        if lines.1 >= GUESSES_LINES {
            self.others += 1;
            return None;
        }
        self.lines = Some((lines.0, lines.1 + 1));
        let times = std::mem::take(&mut record.unlogged) + 1;
        record.logged = Some(now);
        Some(Line { times, others: std::mem::take(&mut self.others) })
    }
}

/// Relations of these limits, checked at compile time.
const _: () = {
    assert!(GUESSES_WAITING_EACH < GUESSES_WAITING, "one peer leaves room for others");
    assert!(
        GUESS_DELAY.as_millis() > 0 && GUESS_FORGOTTEN.as_millis() <= Duration::from_secs(60).as_millis()
    );
};

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u32) -> Pair {
        pair("BK", IpAddr::V4(n.into()))
    }

    #[test]
    fn who_is_wrong_too_often_waits_until_that_is_forgotten() {
        let (mut table, start) = (Table::default(), Instant::now());
        for _ in 0..GUESSES_FREE {
            assert!(table.suspected(&at(1), start).is_none());
            table.wrong(at(1), start);
        }
        assert!(table.suspected(&at(1), start).is_some());
        assert!(table.suspected(&at(2), start).is_none(), "another peer");
        assert!(table.suspected(&pair("BL", IpAddr::V4(1.into())), start).is_none(), "another key");
        assert!(table.suspected(&at(1), start + GUESS_FORGOTTEN * 2).is_none());
        for _ in 0..100 * GUESSES_FREE {
            table.wrong(at(1), start);
        }
        assert!(table.suspected(&at(1), start + GUESS_FORGOTTEN * (GUESSES_FREE - 1)).is_some());
        assert!(
            table.suspected(&at(1), start + GUESS_FORGOTTEN * (GUESSES_FREE + 1)).is_none(),
            "not forever"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let (mut table, start) = (Table::default(), Instant::now());
        let tick = Duration::from_millis(1);
        let most = u32::try_from(GUESSERS_MAX).unwrap();
        for n in 0..most + 10 {
            table.wrong(at(n), start + tick * n);
            assert!(table.records.len() <= GUESSERS_MAX);
        }
        assert!((0..10).all(|n| !table.records.contains_key(&at(n))));
        assert!((10..most + 10).all(|n| table.records.contains_key(&at(n))));
    }

    #[test]
    fn the_log_has_a_line_for_many() {
        let (mut table, start) = (Table::default(), Instant::now());
        assert_eq!(table.wrong(at(1), start), Some(Line { times: 1, others: 0 }));
        assert!((0..99).all(|_| table.wrong(at(1), start).is_none()));
        let lines = (2..1000).filter(|n| table.wrong(at(*n), start).is_some()).count();
        assert_eq!(
            lines,
            usize::try_from(GUESSES_LINES).unwrap() - 1,
            "a thousand pairs are no thousand lines"
        );
        let later = start + GUESSES_LOGGED;
        let others = 998 - u64::from(GUESSES_LINES) + 1;
        assert_eq!(table.wrong(at(1), later), Some(Line { times: 100, others }));
    }

    #[test]
    fn peers_and_ids() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(shown("BKABCDEF", true), "BKABCDEF");
        assert_eq!(shown("of-the-secret-kind", false), "oft…");
        assert_eq!(shown("a\nb", true), "ab…");
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded() {
        let (guesses, peer) = (BruteForceGuard::new(&Metrics::default()), IpAddr::V4(1.into()));
        guesses.throttle("BK", peer).await.unwrap();
        for _ in 0..2 * GUESSES_FREE {
            guesses.wrong("BK", peer, Wrong::Secret);
        }
        let asked = Instant::now();
        assert_eq!(guesses.delayed.get(), 0, "none has waited yet");
        let waiting = (0..=GUESSES_WAITING_EACH).map(|_| guesses.throttle("BK", peer));
        let ended = futures_util::future::join_all(waiting).await;
        let refused: Vec<_> = ended.into_iter().filter_map(Result::err).map(|e| e.code).collect();
        assert_eq!(refused, [ErrorCode::TooBusy], "the one without a place");
        assert!(asked.elapsed() >= GUESS_DELAY);
        let delayed = guesses.delayed.get();
        guesses.throttle("BK", IpAddr::V4(2.into())).await.unwrap();
        assert_eq!(guesses.delayed.get(), delayed, "another peer does not wait");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_bounded_together() {
        let guesses = BruteForceGuard::new(&Metrics::default());
        let most = u32::try_from(GUESSES_WAITING).unwrap();
        let peers = || (0..=most).map(|n| IpAddr::V4(n.into()));
        for peer in peers() {
            (0..2 * GUESSES_FREE).for_each(|_| guesses.wrong("BK", peer, Wrong::Secret));
        }
        let ended = futures_util::future::join_all(peers().map(|peer| guesses.throttle("BK", peer))).await;
        assert_eq!(ended.into_iter().filter(Result::is_err).count(), 1);
    }
}
