//! Masters join and leave: wiped, away for long, started by hand, removed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use shared::wire::master::{MasterRole, Masters};
use tests::cluster::{SETTLED, add};
use tests::folder::binary;
use tests::place::Place;
use tests::tool::must;
use tests::{Client, Cluster, Folder, Options, Server, Spec, eventually, say, value};

use super::writers::{Writers, all_there};

/// Writes continue within this time after the death of a master.
const LIMIT: Duration = SETTLED;
/// Log entries that a master keeps for followers: few, so that they soon need a snapshot.
const KEPT: u64 = 20;
const WRITERS: usize = 4;

async fn known(client: &Client) -> Masters {
    eventually(SETTLED, "the masters are known", async || client.json("/_/masters").await).await
}

fn snapshots(server: &Server) -> usize {
    server.log().matches("installing a snapshot").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_come_back_wiped_or_late() {
    let options = Options { masters: 3, volumes: 2, log_entries_kept: Some(KEPT), ..Options::default() };
    let mut cluster = Cluster::start("masters_members", options).await;
    let writers = Writers::start(WRITERS, &cluster);
    writers.more(100).await;

    // Down until its entries are gone from the others' logs.
    let leader = cluster.leader().await.expect("a leader");
    let late = (leader + 1) % 3;
    let before = snapshots(cluster.masters().nth(late).expect("three"));
    cluster.master_mut(late).kill().await;
    writers.more(600).await;
    cluster.master_mut(late).restart().await.expect("the master restarts");
    eventually(SETTLED, "the returning master gets a snapshot", async || {
        (snapshots(cluster.masters().nth(late)?) > before).then_some(())
    })
    .await;
    cluster.settled().await;

    // Wiped: a new master at the same address.
    let leader = cluster.leader().await.expect("a leader");
    let wiped = if leader == 2 { 1 } else { 2 };
    let url = cluster.masters().nth(wiped).expect("three").url().to_owned();
    let id = |masters: &Masters| masters.masters.iter().find(|m| m.address == url).map(|m| m.master);
    let old = id(&known(&cluster.client()).await).expect("the master is a member");
    let before = snapshots(cluster.masters().nth(wiped).expect("three"));
    cluster.master_mut(wiped).kill().await;
    let folder = cluster.folder().join(format!("master{}", wiped + 1));
    std::fs::remove_dir_all(&folder).expect("its directory");
    let leader_url = cluster.masters().nth(leader).expect("three").url().to_owned();
    add(cluster.master_mut(wiped).spec_mut(), "--join", leader_url);
    cluster.master_mut(wiped).restart().await.expect("it joins");
    cluster.settled().await;
    let new = id(&known(&cluster.client()).await).expect("the new master is a member");
    assert_ne!(old, new, "a wiped master has a new id");
    let after = snapshots(cluster.masters().nth(wiped).expect("three"));
    assert!(after > before, "the new master needs a snapshot");

    // Its vote counts: another master may die.
    let leader = cluster.leader().await.expect("a leader");
    let victim = if leader == wiped { (wiped + 1) % 3 } else { leader };
    let killed = Instant::now();
    cluster.master_mut(victim).kill().await;
    let first = writers.first_after(killed, LIMIT).await;
    say(format_args!("with a wiped master back, writes continue {:?} after a death", first.ended - killed));
    writers.more(50).await;
    cluster.master_mut(victim).restart().await.expect("the master restarts");
    cluster.settled().await;
    let acks = writers.stop().await;
    for server in cluster.masters() {
        all_there(&Client::new(server.url()), &acks).await;
    }
    cluster.assert_no_secrets_in_logs();
}

/// A group of masters started by hand.
struct ByHand {
    secret: PathBuf,
    masters: Vec<Server>,
    _volumes: Vec<Server>,
    folder: Folder,
}

impl ByHand {
    async fn new() -> Self {
        let folder = Folder::new("masters-by-hand");
        let secret = folder.join("secret");
        let mut masters = Vec::new();
        for n in 1..=4 {
            let mut spec = Spec::new(&format!("master{n}"), "master", [folder.join(format!("master{n}"))]);
            add(&mut spec, "--secret-file", secret.clone());
            spec.args.push("--wait".into());
            masters.push(Place::default().start(&spec, folder.path()).await);
        }
        let addresses: Vec<&str> = masters.iter().map(Server::url).collect();
        let mut volumes = Vec::new();
        for n in 1..=2 {
            let mut spec = Spec::new(&format!("volume{n}"), "volume", [folder.join(format!("volume{n}"))]);
            add(&mut spec, "--secret-file", secret.clone());
            add(&mut spec, "--master", addresses.join(","));
            add(&mut spec, "--reserve", (16 << 20).to_string());
            volumes.push(Place::default().start(&spec, folder.path()).await);
        }
        Self { secret, masters, _volumes: volumes, folder }
    }

    /// Runs `barge cluster …` against one master.
    async fn cluster(&self, through: usize, words: &[&str]) -> String {
        let secret = self.secret.to_string_lossy();
        let url = self.masters[through].url();
        let mut all = vec!["--json", "--url", url, "cluster"];
        all.extend(words);
        if words.len() > 1 {
            all.extend(["--secret-file", &secret]);
        }
        let ran = must(&binary("barge").to_string_lossy(), all).await;
        String::from_utf8_lossy(&ran.out).into_owned()
    }

    fn client(&self, master: usize) -> Client {
        Client::new(self.masters[master].url())
    }

    async fn stores(&self, master: usize, key: &str) {
        eventually(SETTLED, &format!("{key} is stored"), async || {
            let put = self.client(master).put(key, value(1, 500)).await.ok()?;
            put.is_success().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_are_made_a_group_by_hand() {
    let mut group = ByHand::new().await;
    let urls: Vec<String> = group.masters.iter().map(|s| s.url().to_owned()).collect();
    let refused = group.client(0).put("early", value(1, 500)).await.expect("an answer");
    assert_eq!(refused.status, 503, "no cluster yet: {}", refused.text());
    let said = group.cluster(0, &["init", &urls[0], &urls[1], &urls[2]]).await;
    let masters: Masters = serde_json::from_str(&said).expect("the masters as JSON");
    assert_eq!(masters.masters.len(), 3, "{said}");
    assert!(masters.masters.iter().all(|m| m.role != MasterRole::Learner), "{said}");
    group.stores(1, "with-three").await;

    // The fourth joins; then the leader is removed and stopped, and one more dies.
    group.cluster(1, &["masters", "add", &urls[3]]).await;
    group.stores(3, "with-four").await;
    let leader = known(&group.client(3)).await.leader().map(|m| m.address.clone()).expect("a leader");
    let place = urls.iter().position(|u| *u == leader).expect("a master of this group");
    let through = (place + 1) % 4;
    group.cluster(through, &["masters", "remove", &leader]).await;
    group.masters[place].kill().await;
    let left = eventually(SETTLED, "three masters are left", async || {
        let masters: Masters = group.client(through).json("/_/masters").await?;
        (masters.masters.len() == 3 && masters.leader().is_some()).then_some(masters)
    })
    .await;
    assert!(left.masters.iter().all(|m| m.address != leader), "{left:?}");
    group.stores(through, "without-the-first-leader").await;
    let shown = group.cluster(through, &["masters"]).await;
    assert!(!shown.contains(&leader), "{shown}");
    let next = left.leader().map(|m| m.address.clone()).expect("a leader");
    let victim = urls.iter().position(|u| *u == next).expect("a master of this group");
    group.masters[victim].kill().await;
    let last = (0..4).find(|n| *n != place && *n != victim).expect("two are left");
    group.stores(last, "with-two-of-three").await;
    for key in ["with-three", "with-four", "without-the-first-leader", "with-two-of-three"] {
        let got = group.client(last).get(key).await.expect("an answer");
        assert_eq!((got.status, got.body), (200, value(1, 500)), "{key}");
    }
    assert!(group.folder.join("secret").exists());
}
