//! Values that expire on several masters: at their time although one clock is wrong, and for good although the leader
//! dies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use shared::clock::Clock;
use shared::wire::error::ErrorCode;
use tests::clock::ShiftedClock;
use tests::cluster::SETTLED;
use tests::history::{Call, NEVER, Operation, Outcome};
use tests::linear::{Verdict, judge};
use tests::redis::{Redis, Reply, answer_redis};
use tests::wait::moment;
use tests::{Client, Cluster, Folder, Options, eventually, say};

const HOUR: Duration = Duration::from_secs(3600);
const DAY_MS: i64 = 24 * 3_600_000;
/// A clock that is this far ahead is trusted by the other masters: its master can lead.
const STEP_MS: i64 = 20_000;
const BRIEF: Duration = Duration::from_secs(2);
/// How early or late a value may be gone.
const SLACK: Duration = Duration::from_secs(1);
/// Timeout of one look at a value.
const LOOK: Duration = Duration::from_secs(2);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(15);

/// A master, as its clients see it.
#[derive(Clone, Debug)]
struct Place {
    http: Client,
    redis: String,
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
enum Way {
    Http,
    Redis,
}

async fn start(name: &str, clocks: &[ShiftedClock]) -> (Cluster, Vec<Place>) {
    let options = Options {
        masters: 3,
        volumes: 2,
        master_env: clocks[0].env(),
        more_master_env: clocks[1..].iter().map(ShiftedClock::env).collect(),
        ..Options::default()
    };
    let mut cluster = Cluster::start(name, options).await;
    let redis = answer_redis(&mut cluster).await;
    let place = |(server, redis): (&tests::Server, String)| Place { http: Client::new(server.url()), redis };
    let places = cluster.masters().zip(redis).map(place).collect();
    (cluster, places)
}

impl Place {
    /// Whether the key has a value; none if there is no answer to that.
    async fn sees(&self, key: &str, way: Way) -> Option<bool> {
        let look = async {
            match way {
                Way::Http => {
                    let answer = self.http.get(key).await.ok()?;
                    let gone = answer.code() == Some(ErrorCode::NotFound);
                    (answer.status == 200 || gone).then_some(!gone)
                }
                Way::Redis => match self.say(&format!("GET {key}")).await? {
                    Reply::Value(value) => Some(value.is_some()),
                    _ => None,
                },
            }
        };
        tokio::time::timeout(LOOK, look).await.ok()?
    }

    async fn say(&self, words: &str) -> Option<Reply> {
        Redis::connect(&self.redis).await.ok()?.say(words).await.ok()
    }
}

/// Clients that look at a value again and again, through all masters and in both ways.
struct Watch {
    key: String,
    began: Instant,
    seen: Arc<Mutex<Vec<Operation>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Watch {
    /// Stores a value through any master that takes it, and watches it.
    async fn start(places: &[Place], key: &str, expires: Duration) -> Self {
        let (seen, stop) = (Arc::default(), Arc::default());
        let mut watch = Self { key: key.into(), began: Instant::now(), seen, stop, tasks: Vec::new() };
        let expires = format!("{}ms", expires.as_millis());
        let headers = [("barge-expires", expires.as_str())];
        let invoked = eventually(SETTLED, "a value is stored", async || {
            for place in places {
                let invoked = micros(watch.began);
                let put = place.http.send(Method::PUT, key, &headers, Some(b"value".to_vec())).await;
                if put.is_ok_and(|answer| answer.is_success()) {
                    return Some(invoked);
                }
            }
            None
        })
        .await;
        let returned = micros(watch.began);
        watch.add(0, Call::Put(1), Outcome::Done, (invoked, returned), "PUT".into());
        // From then on it may be gone at any time.
        watch.add(1, Call::Delete, Outcome::Unknown, (returned, NEVER), "expiry".into());
        let ways = places.iter().flat_map(|place| [(place, Way::Http), (place, Way::Redis)]);
        watch.tasks = (2..).zip(ways).map(|(client, (place, way))| watch.look(client, place, way)).collect();
        watch
    }

    fn look(&self, client: usize, place: &Place, way: Way) -> tokio::task::JoinHandle<()> {
        let (place, key, began) = (place.clone(), self.key.clone(), self.began);
        let (seen, stop) = (Arc::clone(&self.seen), Arc::clone(&self.stop));
        let via = format!("{way:?} at {}", place.http.address());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let invoked = micros(began);
                if let Some(there) = place.sees(&key, way).await {
                    let outcome = Outcome::Saw(there.then_some(1));
                    let times = (invoked, micros(began));
                    lock(&seen).push(operation(client, Call::Read, outcome, times, via.clone()));
                }
                moment(PAUSE).await;
            }
        })
    }

    fn add(&self, client: usize, call: Call, outcome: Outcome, times: (u64, u64), via: String) {
        lock(&self.seen).push(operation(client, call, outcome, times, via));
    }

    /// Waits until the value is gone for this many clients.
    async fn gone_for(&self, clients: usize) {
        eventually(SETTLED, &format!("{} is gone for {clients} clients", self.key), async || {
            let seen = lock(&self.seen);
            let gone = seen.iter().filter(|o| o.outcome == Outcome::Saw(None)).map(|o| o.client);
            (gone.collect::<std::collections::HashSet<_>>().len() >= clients).then_some(())
        })
        .await;
    }

    /// Ends it, and checks that nobody saw the value again after somebody had seen that it is gone, nor missed it before
    /// its time. Returns what was seen; the first is the PUT.
    async fn end(self, expires: Duration) -> Vec<Operation> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no client panics");
        }
        let seen = lock(&self.seen).clone();
        if let Verdict::Violation(why) = judge(&seen) {
            let lines: Vec<String> = why.iter().map(ToString::to_string).collect();
            panic!("{} came back:\n{}", self.key, lines.join("\n"));
        }
        let earliest = seen[0].invoked + length(expires - SLACK);
        let early = seen.iter().find(|o| o.outcome == Outcome::Saw(None) && o.returned < earliest);
        assert!(
            early.is_none(),
            "{} was gone before its time:\n{}\n{}",
            self.key,
            seen[0],
            early.unwrap_or(&seen[0])
        );
        let there = seen.iter().filter(|o| o.outcome == Outcome::Saw(Some(1))).count();
        assert!(there > 0, "{} was never seen", self.key);
        say(format_args!("{}: {there} times there of {} looks", self.key, seen.len() - 2));
        seen
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no task panics with the lock")
}

fn length(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("short")
}

fn micros(since: Instant) -> u64 {
    length(since.elapsed())
}

fn operation(
    client: usize,
    call: Call,
    outcome: Outcome,
    (invoked, returned): (u64, u64),
    via: String,
) -> Operation {
    Operation { client, call, outcome, invoked, returned, generation: None, via }
}

/// Checks that the group's time is right through this master, if it answers.
async fn has_the_time(place: &Place, key: &str) {
    let before = Clock::System.now();
    if place.say(&format!("SET {key} x PX {}", HOUR.as_millis())).await != Some(Reply::Status("OK".into())) {
        return;
    }
    let after = Clock::System.now();
    let expires =
        eventually(SETTLED, "an answer", async || match place.say(&format!("PEXPIRETIME {key}")).await? {
            Reply::Integer(ms) => u64::try_from(ms).ok(),
            _ => None,
        })
        .await;
    let (first, last) = (before.after(HOUR - SLACK).unix_ms(), after.after(HOUR + SLACK).unix_ms());
    assert!(
        (first..=last).contains(&expires),
        "through {} the group's time was {} ms off",
        place.http.address(),
        i128::from(expires) - i128::from(before.after(HOUR).unix_ms())
    );
}

/// Everybody sees the value that expires in an hour.
async fn all_see_what_lasts(places: &[Place]) {
    for (place, way) in places.iter().flat_map(|place| [(place, Way::Http), (place, Way::Redis)]) {
        let there = eventually(SETTLED, "an answer", async || place.sees("lasting", way).await).await;
        assert!(there, "an hour has passed for {place:?}");
    }
}

/// A clock is wrong: of a follower, and of the leader.
#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_one_wrong_clock_expires_nothing() {
    let folder = Folder::new("masters-expiry-clocks");
    let clocks = ShiftedClock::several(&folder, 3).await;
    let (cluster, mut places) = start("masters_expiry", &clocks).await;
    let hour = [("barge-expires", "1h")];
    let put = places[0].http.send(Method::PUT, "lasting", &hour, Some(b"value".to_vec())).await;
    assert!(put.expect("an answer").is_success());
    // A wrong clock that is believed is remembered for some seconds: those two cases are not next to each other.
    let cases = [(true, STEP_MS), (false, DAY_MS), (true, DAY_MS), (false, STEP_MS)];
    for (n, (of_the_leader, ahead)) in cases.into_iter().enumerate() {
        let began = Instant::now();
        let leader = eventually(SETTLED, "a leader", async || cluster.leader().await).await;
        let wrong = if of_the_leader { leader } else { (leader + 1) % 3 };
        let address = cluster.masters().nth(wrong).expect("three").address();
        // Last, so that another one stores the value.
        places.sort_by_key(|place| place.http.address() == address);
        clocks[wrong].set(ahead);
        let key = format!("brief/{n}");
        let watch = Watch::start(&places, &key, BRIEF).await;
        for place in &places {
            has_the_time(place, &format!("hour/{n}")).await;
        }
        // The others do not listen to a master whose clock is a day ahead: it cannot lead, nor answer.
        let answering = if ahead == DAY_MS { 2 } else { 3 };
        watch.gone_for(2 * answering).await;
        clocks[wrong].set(0);
        watch.gone_for(6).await;
        let seen = watch.end(BRIEF).await;
        let latest = seen[0].returned + length(BRIEF + SLACK);
        let late = seen.iter().find(|o| o.outcome == Outcome::Saw(Some(1)) && o.invoked > latest);
        assert!(late.is_none(), "{key} outlived its time:\n{}\n{}", seen[0], late.unwrap_or(&seen[0]));
        all_see_what_lasts(&places).await;
        cluster.masters_settled().await;
        say(format_args!("{:?}: master {wrong} {ahead} ms ahead, leader {leader}", began.elapsed()));
    }
}

/// The leader dies shortly before the time of a value, and says the same as the others when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_what_has_expired_stays_gone() {
    let folder = Folder::new("masters-expiry-failover");
    let clocks = ShiftedClock::several(&folder, 3).await;
    let (mut cluster, places) = start("masters_expiry_failover", &clocks).await;
    let leader = cluster.leader().await.expect("a leader");
    let watch = Watch::start(&places, "key", BRIEF).await;
    eventually(SETTLED, "its time is near", async || {
        match places[(leader + 1) % 3].say("PTTL key").await? {
            Reply::Integer(left) => (left < 400).then_some(()),
            _ => None,
        }
    })
    .await;
    cluster.master_mut(leader).kill().await;
    watch.gone_for(4).await;
    cluster.master_mut(leader).restart().await.expect("the master restarts");
    watch.gone_for(6).await;
    watch.end(BRIEF).await;
    cluster.settled().await;
    an_expired_lock_is_free(&places).await;
}

/// A lock that a client of one master holds is free for those of another when it expires.
async fn an_expired_lock_is_free(places: &[Place]) {
    let [holder, next, third] = places else { panic!("three masters") };
    let (taken, lasts) = (Instant::now(), BRIEF - SLACK / 2);
    let reply = holder.say(&format!("SET lock mine NX PX {}", lasts.as_millis())).await;
    assert_eq!(reply, Some(Reply::Status("OK".into())));
    let known = Instant::now();
    let mut refused = 0;
    let asked = eventually(SETTLED, "the lock is free", async || {
        let asked = Instant::now();
        match next.say("SET lock theirs NX").await? {
            Reply::Status(_) => return Some(asked),
            Reply::Value(None) => refused += 1,
            other => panic!("{other:?}"),
        }
        None
    })
    .await;
    assert!(refused > 0 && taken.elapsed() > lasts - SLACK, "free after {:?}", taken.elapsed());
    assert!(asked < known + lasts + SLACK, "free only after {:?}", asked - known);
    assert_eq!(third.say("GET lock").await, Some(Reply::Value(Some(b"theirs".to_vec()))));
    assert_eq!(holder.say("SET lock mine NX").await, Some(Reply::Value(None)));
}
