//! A server that is killed, or whose disk fails, at every system call that changes or reads a file: writes, syncs,
//! renames, truncates, preallocation and holes, removals, creations; while it serves and while it opens what the last
//! fault left. One volume and one replica, so that nothing heals a loss.
//!
//! Each cycle injects two faults, one under a fixed workload and one at the start after it; then the server starts
//! without faults, and everything is audited. The long run covers all positions; otherwise
//! `BARGE_ROUNDS` of them, spread over all, `BARGE_SEED` choosing the first.

mod names;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::io::Errno;
use shared::limits::RUNTIME_STUCK;
use tests::client::{Answer, Broken};
use tests::cluster::SETTLED;
use tests::load::{audit_after_restart, is_refusal};
use tests::oracle::Intent;
use tests::raw::Raw;
use tests::tamper::{Action, Call, Fault, Library, Tamper};
use tests::wait::moment;
use tests::{Change, Cluster, Dice, Folder, Options, Oracle, Server, amount, eventually, say, space, value};

/// Small: a large value seals its segment.
const SEGMENT_BYTES: u64 = 1 << 20;
const GRACE: Duration = Duration::from_secs(4);
/// Records verified within this time are not verified again: the scrub works all the time.
const SCRUB_EVERY: Duration = Duration::from_millis(100);
/// Scrub and compaction start with the volume and repeat: enough time for both to do something.
const UPKEEP: Duration = Duration::from_millis(300);
/// Deletes are waited for, but not forever: the volume's disk may have failed.
const UPKEEP_AT_LAST: Duration = Duration::from_millis(1500);
/// A start after a fault has more to do than a normal one.
const MORE_TO_DO: u64 = 4;
/// The metadata is never so small that loading it takes fewer reads.
const READS_OF_MASTER: u64 = 3;

/// Which server's disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Master,
    Volume,
    /// On a file system without holes: it compacts.
    VolumeWithoutHoles,
}

/// A cluster of one volume, and a server behind a disk with faults.
struct Site {
    cluster: Cluster,
    victim: Victim,
    tamper: Tamper,
    oracle: Oracle,
    dice: Dice,
    /// Unacknowledged changes of the last workload.
    failed: u64,
    /// By call and action: faults that happened, and those whose position was not reached.
    faults: BTreeMap<String, (u64, u64)>,
    /// Bytes that compactions moved.
    moved_bytes: u64,
    // Last: the library is in it.
    _folder: Folder,
}

impl Site {
    async fn new(test: &str, victim: Victim, dice: Dice) -> Option<Self> {
        let folder = Folder::new(test);
        let library = Library::new(&folder, test).await?;
        let tamper = library.control(&folder.join("control"));
        let mut env = tamper.env();
        if victim == Victim::VolumeWithoutHoles {
            env.extend(library.without_holes());
        }
        let (master_env, volume_env) =
            if victim == Victim::Master { (env, Vec::new()) } else { (Vec::new(), vec![env]) };
        let options = Options {
            volumes: 1,
            replicas: 1,
            min_replicas: 1,
            segment_bytes: SEGMENT_BYTES,
            orphan_grace: GRACE,
            scrub_every: Some(SCRUB_EVERY),
            master_env,
            volume_env,
            ..Options::default()
        };
        let cluster = Cluster::start(test, options).await;
        let oracle = Oracle::with_journal(&cluster.folder().join("journal"));
        let (faults, moved_bytes) = (BTreeMap::new(), 0);
        Some(Self { cluster, victim, tamper, oracle, dice, failed: 0, faults, moved_bytes, _folder: folder })
    }

    /// Both faults, and the audit.
    async fn cycle(&mut self, serving: Option<Fault>, opening: Option<Fault>) -> Result<(), String> {
        self.arm(serving);
        self.workload().await;
        self.upkeep().await;
        if self.failed > 0 && serving.is_some_and(|fault| fault.action.is_harmless()) {
            return Err(format!("{} changes failed", self.failed));
        }
        self.disarm(serving);
        self.server().kill().await;
        self.arm(opening);
        match self.server().restart().await {
            Ok(()) => self.upkeep().await,
            // A disk that fails during the open is a reason not to start.
            Err(_) if self.tamper.happened() && !opening.is_some_and(|f| f.action.is_harmless()) => {}
            Err(why) => return Err(why),
        }
        self.disarm(opening);
        self.server().kill().await;
        self.server().restart().await?;
        // It may exit after it has started to listen.
        self.upkeep().await;
        if !self.server().runs() {
            return Err(format!("it does not keep running without faults:\n{}", self.server().log()));
        }
        self.cluster.settled().await;
        audit_after_restart(&self.cluster.client(), &self.oracle).await?;
        self.nothing_is_corrupt().await
    }

    fn server(&mut self) -> &mut Server {
        if self.victim == Victim::Master { &mut self.cluster.master } else { &mut self.cluster.volumes[0] }
    }

    fn arm(&self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            self.tamper.arm(fault);
        }
    }

    fn disarm(&mut self, fault: Option<Fault>) {
        let Some(fault) = fault else { return };
        let happened = self.tamper.happened();
        self.tamper.disarm();
        let counts = self.faults.entry(format!("{:?} {:?}", fault.call, fault.action)).or_default();
        if happened { counts.0 += 1 } else { counts.1 += 1 }
    }

    /// Neither a crash nor a failed call corrupts live data.
    async fn nothing_is_corrupt(&self) -> Result<(), String> {
        let status = self.cluster.volume_status(0).await.ok_or("no status")?;
        let bad = [status.quarantined, status.corrupt_records, status.lost_records, status.corrupt_blocks];
        if bad == [0; 4] { Ok(()) } else { Err(format!("corrupt records: {status:?}")) }
    }

    /// The same changes each time: values of several sizes, one of them larger than a segment, overwrites, deletes,
    /// an aborted upload. It ends early if the server does.
    async fn workload(&mut self) {
        self.failed = 0;
        let puts = [0, 5_000, 9_000, 12_000, 16_000, 70_000, 300_000, 2_500_000];
        for (n, bytes) in puts.into_iter().enumerate() {
            self.put(n, bytes).await;
        }
        for (n, bytes) in [(1, 7_000), (6, 200_000), (1, 6_000)] {
            self.put(n, bytes).await;
        }
        for n in [2, 3, 7, 4] {
            self.delete(n).await;
        }
        self.break_off().await;
        self.put(9, 40_000).await;
    }

    async fn put(&mut self, n: usize, bytes: usize) {
        if !self.server().runs() {
            return;
        }
        let bytes = value(self.dice.roll(), bytes);
        let intent = self.oracle.intend(&format!("k{n}"), Change::put(&bytes));
        let outcome = self.cluster.client().put(&format!("k{n}"), bytes).await;
        self.failed += u64::from(!settle(intent, outcome));
    }

    async fn delete(&mut self, n: usize) {
        if !self.server().runs() {
            return;
        }
        let intent = self.oracle.intend(&format!("k{n}"), Change::Delete);
        let outcome = self.cluster.client().send(Method::DELETE, &format!("k{n}"), &[], None).await;
        match outcome {
            // It was never put, or the put failed: the audit judges.
            Ok(answer) if answer.status == 404 => intent.refused(),
            outcome => self.failed += u64::from(!settle(intent, outcome)),
        }
    }

    async fn break_off(&mut self) {
        let (address, body) = (self.cluster.master.address().to_owned(), value(1, 1_500_000));
        shared::work::blocking(move || {
            if let Some(mut raw) = Raw::try_connect(&address) {
                raw.send("PUT /broken HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n");
                raw.send(body);
            }
        })
        .await;
    }

    /// Gives the server time for its background work, or until it exits.
    async fn upkeep(&mut self) {
        let started = Instant::now();
        while self.server().runs() && started.elapsed() < UPKEEP_AT_LAST {
            if started.elapsed() >= UPKEEP && !self.pending().await {
                break;
            }
            moment(Duration::from_millis(10)).await;
        }
        let status = self.cluster.volume_status(0).await;
        self.moved_bytes += status.map_or(0, |s| s.moved_bytes);
    }

    /// Reports whether the master still has blobs to reclaim.
    async fn pending(&self) -> bool {
        self.cluster.status().await.is_some_and(|s| s.reclaim_pending > 0)
    }

    /// Counts the calls of a workload and those of the start after it.
    async fn reach(&mut self) -> Result<[[u64; Call::ALL.len()]; 2], String> {
        let before = self.tamper.all();
        self.workload().await;
        self.upkeep().await;
        let between = self.tamper.all();
        self.server().kill().await;
        self.server().restart().await?;
        self.upkeep().await;
        let after = self.tamper.all();
        self.cluster.settled().await;
        let less =
            |a: [u64; Call::ALL.len()], b: [u64; Call::ALL.len()]| std::array::from_fn(|n| a[n] - b[n]);
        Ok([less(between, before), less(after, between)])
    }

    async fn end(&mut self) {
        moment(GRACE).await;
        space::is_back(&self.cluster, &self.oracle, 1, GRACE, &[self.victim != Victim::VolumeWithoutHoles])
            .await;
        self.cluster.check_offline().await;
        for (fault, (happened, beyond)) in &self.faults {
            say(format_args!("{fault}: {happened} times, {beyond} not reached"));
        }
        say(format_args!("{} bytes were moved by compactions", self.moved_bytes));
    }
}

/// Reports whether the change was acknowledged.
fn settle(intent: Intent, outcome: Result<Answer, Broken>) -> bool {
    match outcome {
        Ok(answer) if answer.is_success() => {
            intent.ok();
            return true;
        }
        Ok(answer) if is_refusal(&answer) => intent.refused(),
        Err(e @ Broken::Short { .. }) => panic!("{e}"),
        Ok(_) | Err(_) => intent.unknown(),
    }
    false
}

/// Every fault at every position. The first reads of a master are its own check that the file is readable; sled reads
/// it again from memory, where no disk can fail.
fn faults_at_start(victim: Victim, reach: [u64; Call::ALL.len()]) -> Vec<Fault> {
    let theirs =
        |fault: &Fault| victim == Victim::Master && fault.call == Call::Read && fault.at > READS_OF_MASTER;
    faults(reach.map(|calls| calls + MORE_TO_DO)).into_iter().filter(|fault| !theirs(fault)).collect()
}

/// Every fault at every position.
fn faults(reach: [u64; Call::ALL.len()]) -> Vec<Fault> {
    let mut all = Vec::new();
    for (call, reach) in Call::ALL.into_iter().zip(reach) {
        let mut actions = vec![Action::Fail(Errno::IO)];
        if call != Call::Read {
            actions.extend([Action::Kill, Action::Fail(Errno::NOSPC)]);
        }
        if call == Call::Write {
            actions.push(Action::Tear);
        }
        if matches!(call, Call::Write | Call::SyncData) {
            actions.push(Action::FailFromThen(Errno::IO));
        }
        let harmless: &[Action] = match call {
            Call::Write | Call::Read => &[Action::Halve, Action::Interrupt],
            // These never block, so no signal interrupts them.
            Call::Rename | Call::Remove => &[],
            _ => &[Action::Interrupt],
        };
        let both = harmless.iter().flat_map(|action| [1, 2].map(|at| Fault { call, at, action: *action }));
        all.extend(both);
        for action in actions {
            all.extend((1..=reach).map(|at| Fault { call, at, action }));
        }
    }
    all
}

async fn sweep(test: &str, victim: Victim) {
    let mut dice = Dice::of_run();
    let first = dice.roll();
    let Some(mut site) = Site::new(test, victim, dice).await else { return };
    // Twice: the second run starts from the state that the first has left, as all later ones do.
    site.reach().await.expect("a start without faults");
    let [serving, opening] = site.reach().await.expect("a start without faults");
    say(format_args!("calls under the workload: {serving:?}, at the start: {opening:?}, of {:?}", Call::ALL));
    let (serving, opening) = (faults(serving), faults_at_start(victim, opening));
    let all = serving.len().max(opening.len()) as u64;
    let cycles = amount("BARGE_ROUNDS", 6, all).min(all);
    let started = Instant::now();
    for n in 0..cycles {
        let pick = |faults: &[Fault]| {
            let len = faults.len() as u64;
            // A full sweep takes each position; the shorter list is repeated.
            let place = if cycles == all { n % len } else { (first % len + n * len / cycles) % len };
            faults.get(usize::try_from(place).expect("a place in it")).copied()
        };
        let (under_load, at_start) = (pick(&serving), pick(&opening));
        say(format_args!("cycle {n}: {under_load:?}, at the start {at_start:?}"));
        if let Err(wrong) = site.cycle(under_load, at_start).await {
            panic!("VIOLATIONS in cycle {n}\n{wrong}");
        }
    }
    say(format_args!(
        "{cycles} cycles in {:?}, of {} faults under load and {} at the start",
        started.elapsed(),
        serving.len(),
        opening.len()
    ));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syscalls_fail_under_a_volume() {
    sweep("syscalls_fail_under_a_volume", Victim::Volume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syscalls_fail_under_a_volume_without_holes() {
    sweep("syscalls_fail_under_a_volume_without_holes", Victim::VolumeWithoutHoles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syscalls_fail_under_a_master() {
    sweep("syscalls_fail_under_a_master", Victim::Master).await;
}

/// sled takes a read error for the end of its log and overwrites everything after it: a master must not get that far
/// because of one read error at the start.
#[tokio::test(flavor = "multi_thread")]
async fn syscalls_unreadable_metadata_is_left_alone() {
    let test = "syscalls_unreadable_metadata_is_left_alone";
    let Some(mut site) = Site::new(test, Victim::Master, Dice::new(1)).await else { return };
    site.workload().await;
    for at in 1..=READS_OF_MASTER {
        site.cluster.master.kill().await;
        let fault = Fault { call: Call::Read, at, action: Action::Fail(Errno::IO) };
        site.tamper.arm(fault);
        // It prints its address before it opens anything.
        let _ = site.cluster.master.restart().await;
        eventually(SETTLED, "it refuses to start", async || (!site.cluster.master.runs()).then_some(()))
            .await;
        assert!(site.tamper.happened(), "it does not read through its metadata first");
        site.disarm(Some(fault));
        site.cluster.master.restart().await.expect("it listens");
        site.cluster.settled().await;
        audit_after_restart(&site.cluster.client(), &site.oracle)
            .await
            .unwrap_or_else(|wrong| panic!("VIOLATIONS\n{wrong}"));
    }
}

/// After some errors sled blocks forever: a master whose metadata does not answer reports it and stops, and no client
/// waits longer. The test takes as long as the master waits.
#[tokio::test(flavor = "multi_thread")]
async fn syscalls_a_master_that_hangs_stops() {
    let test = "syscalls_a_master_that_hangs_stops";
    let Some(mut site) = Site::new(test, Victim::Master, Dice::new(1)).await else { return };
    site.workload().await;
    let fault = Fault { call: Call::SyncData, at: 2, action: Action::Stall };
    site.tamper.arm(fault);
    // Until one of them waits for the call that never returns.
    let load = async {
        loop {
            site.workload().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(30), load).await;
    assert!(site.tamper.happened());
    eventually(RUNTIME_STUCK * 2, "it stops", async || (!site.server().runs()).then_some(())).await;
    site.disarm(Some(fault));
    site.server().kill().await;
    site.server().restart().await.expect("it listens");
    site.cluster.settled().await;
    let audited = audit_after_restart(&site.cluster.client(), &site.oracle).await;
    audited.unwrap_or_else(|wrong| panic!("VIOLATIONS\n{wrong}"));
}
