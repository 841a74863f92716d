//! Secrets that somebody guesses. Each wrong one is counted, and the log has a line for many. A peer that has shown many wrong
//! secrets of one access key waits before the next one is looked at, right or wrong: what waits after that would tell
//! by its silence that a guess was wrong. Others who show that key do not wait.
//!
//! Nothing here sees a secret. What is remembered and what waits are bounded.

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

/// Letters of an unknown id that the log shows: a secret that was put where the id belongs is not to be read there.
const UNKNOWN_LETTERS: usize = 4;

/// What is wrong with an access key that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// There is none of that id.
    Id,
    /// The secret, or what was signed with it.
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
pub struct Guesses {
    table: Mutex<Table>,
    waiting: Semaphore,
    refused: Family<Refused, Counter>,
    delayed: Counter,
}

impl Guesses {
    /// An empty table, with its counters registered in `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let new = Self {
            table: Mutex::default(),
            waiting: Semaphore::new(GUESSES_WAITING),
            refused: Family::default(),
            delayed: Counter::default(),
        };
        metrics.register(|r| {
            r.register("barge_access_refused", "Access keys shown that are not good", new.refused.clone());
            r.register("barge_access_delayed", "Requests held up after many of them", new.delayed.clone());
        });
        new
    }

    /// Returns when what `peer` shows for the key `id` may be looked at. Its wait is over when its client goes.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn pace(&self, id: &str, peer: IpAddr) -> Result<(), ErrorReply> {
        let Some(places) = self.lock().suspected(&pair(id, peer), Instant::now()) else { return Ok(()) };
        self.delayed.inc();
        let (Ok(_one), Ok(_all)) = (places.try_acquire(), self.waiting.try_acquire()) else {
            return Err(ErrorReply::new(
                ErrorCode::TooBusy,
                "too many wrong secrets of this access key came from this address",
                "check the secret; then try again in a moment, with fewer requests at once",
            ));
        };
        tokio::time::sleep(GUESS_DELAY).await;
        Ok(())
    }

    /// `peer` has shown a key that is not good.
    pub fn wrong(&self, id: &str, peer: IpAddr, wrong: Wrong) {
        self.refused.get_or_create(&Refused { reason: wrong.name() }).inc();
        // Ids that nobody has are one to us: who makes them up must not fill the table, or the log, with them.
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

/// An id as logs may have it: all of it where there is such a key, its first letters where there is none.
pub fn shown(id: &str, known: bool) -> String {
    if known && id.parse::<AccessKeyId>().is_ok() {
        return id.to_owned();
    }
    let letters = id.chars().take(UNKNOWN_LETTERS).filter(char::is_ascii_alphanumeric);
    letters.chain(['…']).collect()
}

/// An id and a peer. Ids are what clients say: of any length, so only their hash is kept.
type Pair = (blake3::Hash, IpAddr);

fn pair(id: &str, peer: IpAddr) -> Pair {
    (blake3::hash(id.as_bytes()), network(peer))
}

/// A machine has a whole /64 of IPv6 to itself.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// What is remembered of a pair.
#[derive(Debug)]
struct Record {
    /// Wrong ones that are not forgotten yet, when there was one last.
    count: f64,
    last: Instant,
    /// For those of this pair who wait.
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

/// What a line of the log says.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Wrong ones of this pair since its last line.
    times: u64,
    /// Those of pairs that had no line of their own, since the last line of all.
    others: u64,
}

#[derive(Debug, Default)]
struct Table {
    records: HashMap<Pair, Record>,
    /// Since when so many lines were written.
    lines: Option<(Instant, u32)>,
    others: u64,
}

impl Table {
    /// Where to wait, if this pair has to.
    fn suspected(&self, pair: &Pair, now: Instant) -> Option<Arc<Semaphore>> {
        let record = self.records.get(pair)?;
        (record.count(now) >= f64::from(GUESSES_FREE)).then(|| Arc::clone(&record.places))
    }

    /// One more; and the line that is due.
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
        // Bounded: a peer that has stopped is forgotten soon, however many there were.
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

/// Compile-time relations of these limits.
const _: () = {
    assert!(GUESSES_WAITING_EACH < GUESSES_WAITING, "one guesser leaves room for others");
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
            "not for ever"
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
        let (guesses, peer) = (Guesses::new(&Metrics::default()), IpAddr::V4(1.into()));
        guesses.pace("BK", peer).await.unwrap();
        for _ in 0..2 * GUESSES_FREE {
            guesses.wrong("BK", peer, Wrong::Secret);
        }
        let asked = Instant::now();
        assert_eq!(guesses.delayed.get(), 0, "none has waited yet");
        let waiting = (0..=GUESSES_WAITING_EACH).map(|_| guesses.pace("BK", peer));
        let ended = futures_util::future::join_all(waiting).await;
        let refused: Vec<_> = ended.into_iter().filter_map(Result::err).map(|e| e.code).collect();
        assert_eq!(refused, [ErrorCode::TooBusy], "the one for whom there is no place");
        assert!(asked.elapsed() >= GUESS_DELAY);
        let delayed = guesses.delayed.get();
        guesses.pace("BK", IpAddr::V4(2.into())).await.unwrap();
        assert_eq!(guesses.delayed.get(), delayed, "another peer does not wait");
    }
}
