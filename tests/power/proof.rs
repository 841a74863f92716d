//! Proves that the power cuts can find what they look for: take one sync out, and a loss is found.
//!
//! A server whose syncs of some files do nothing stands in for one that forgets them. The same rounds with an
//! honest server find nothing.

use std::collections::HashSet;

use shared::clock::Clock;
use shared::http::client::PeerClient;
use shared::tombstone::{KeyHash, Tombstone};
use shared::wire::master::VolumeState;
use shared::wire::routes::TOMBSTONES;
use shared::wire::volume::{TombstonesPage, TombstonesRequest};
use tests::cluster::SETTLED;
use tests::disk::{FileSystem, available};
use tests::load::audit_after_restart;
use tests::tamper::Library;
use tests::{Change, Client, Dice, Folder, Oracle, eventually, say, value};

use super::site::{Plan, Site};

const HONEST_ROUNDS: u64 = 2;
/// The file system's journal may write unsynced data by chance.
const LYING_ROUNDS: u64 = 8;
const VALUES: u64 = 8;
const VALUE: usize = 60_000;

/// Where a sync is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Segments,
    Indexes,
    Log,
    Tables,
    Tombstones,
}

impl Of {
    fn ending(self) -> &'static str {
        match self {
            Self::Segments => ".seg",
            Self::Indexes => ".idx",
            Self::Log => ".log",
            Self::Tables => "/sled/db",
            Self::Tombstones => "/tombstones",
        }
    }

    fn is_masters(self) -> bool {
        matches!(self, Self::Log | Self::Tables)
    }

    /// Returns which server loses power: the master or the volume.
    fn victim(self) -> usize {
        usize::from(!self.is_masters())
    }
}

/// Stores the values of a round; returns their keys.
async fn store(client: &Client, oracle: &Oracle, n: u64) -> Vec<String> {
    let keys: Vec<String> = (0..VALUES).map(|k| format!("round{n}/{k}")).collect();
    for (k, key) in (0..).zip(&keys) {
        let bytes = value(n << 32 | k, VALUE);
        let intent = oracle.intend(key, Change::put(&bytes));
        assert_eq!(client.put(key, bytes).await.expect("an answer").status, 201);
        intent.ok();
    }
    keys
}

/// Values are stored, half of them are deleted, and once everything is acknowledged the power fails.
async fn round(site: &mut Site, oracle: &Oracle, n: u64, of: Of) -> Result<(), String> {
    if of == Of::Tombstones {
        return round_of_tombstones(site, oracle, n).await;
    }
    let client = site.cluster.client();
    let kept = site.cluster.footprint().await.blobs[0];
    let keys = store(&client, oracle, n).await;
    let mut expected = kept + VALUES;
    if of == Of::Indexes {
        // The index lists the puts, as it does after a while; so only its deletions can be missing, and recovery does
        // not read the segment, whose header pages are marked as well.
        site.write_back(1).await;
        for key in keys.iter().step_by(2) {
            let intent = oracle.intend(key, Change::Delete);
            assert_eq!(client.delete(key).await.expect("an answer").status, 200);
            intent.ok();
            expected -= 1;
        }
        // The volume has reported the deletes.
        eventually(SETTLED, "the volume has deleted", async || {
            let pending = site.cluster.status().await?.reclaim_pending;
            (pending == 0 && site.cluster.footprint().await.blobs[0] == expected).then_some(())
        })
        .await;
    }
    site.cut(&[of.victim()]).await;
    site.restore(&[of.victim()], 0, &mut Dice::new(0)).await.expect("the server starts without help");
    works(site, of.victim()).await?;
    let blobs = site.cluster.footprint().await.blobs[0];
    audit_after_restart(&site.cluster.client(), oracle).await?;
    if blobs == expected { Ok(()) } else { Err(format!("{blobs} blobs after the cut, {expected} before")) }
}

/// Values are deleted while one of their two volumes is down, and once that is acknowledged the other one loses
/// power: from then on only its tombstones keep a rebuild from restoring what the first one holds.
async fn round_of_tombstones(site: &mut Site, oracle: &Oracle, n: u64) -> Result<(), String> {
    let client = site.cluster.client();
    let keys = store(&client, oracle, n).await;
    let victim = Of::Tombstones.victim();
    site.cluster.servers_mut().remove(victim + 1).kill().await;
    site.cluster.settled_at(1).await;
    for key in &keys {
        let intent = oracle.intend(key, Change::Delete);
        assert_eq!(client.delete(key).await.expect("an answer").status, 200);
        intent.ok();
    }
    site.cut(&[victim]).await;
    site.restore(&[victim], 0, &mut Dice::new(0)).await?;
    site.cluster.settled_at(1).await;
    let known = tombstones(site).await;
    site.cluster.servers_mut().remove(victim + 1).restart().await?;
    works(site, victim).await?;
    audit_after_restart(&site.cluster.client(), oracle).await?;
    let lost = keys.iter().filter(|key| !known.contains(&KeyHash::of(&key.parse().expect("a key")))).count();
    if lost == 0 { Ok(()) } else { Err(format!("a tombstone is lost, {lost} of {VALUES}")) }
}

/// Returns the deleted keys that the first volume would report to a rebuild.
async fn tombstones(site: &Site) -> HashSet<KeyHash> {
    let peers = PeerClient::new(site.cluster.secret(), Clock::System);
    let cluster = site.cluster.status().await.expect("the master answers").cluster;
    let volume = site.cluster.ids[0];
    let (mut known, mut after) = (HashSet::new(), None);
    loop {
        let question = TombstonesRequest { cluster, volume, after };
        let page = peers.call(site.cluster.volumes[0].url(), TOMBSTONES, &question).await;
        let page: TombstonesPage = page.expect("the volume answers");
        known.extend(page.tombstones.iter().filter_map(|tombstone| match tombstone {
            Tombstone::Deleted { key, .. } => Some(*key),
            Tombstone::Refused { .. } | Tombstone::Expires(_) => None,
        }));
        after = page.next;
        if after.is_none() {
            return known;
        }
    }
}

/// Waits until the cluster works again. A master that finds a gap in its metadata reports it and exits.
async fn works(site: &mut Site, victim: usize) -> Result<(), String> {
    eventually(SETTLED, "the cluster works, or the server has ended", async || {
        let server = &mut site.cluster.servers_mut()[victim];
        if !server.runs() {
            let log = server.log();
            let gap = log.lines().find(|line| line.contains("is lost"));
            return Some(Err(gap.unwrap_or(&log).to_owned()));
        }
        let status = site.cluster.status().await?;
        status.volumes.iter().all(|v| v.state == VolumeState::Up).then_some(Ok(()))
    })
    .await
}

async fn a_missing_sync_is_found(test: &str, file_system: FileSystem, of: Of) {
    let folder = Folder::new("unsynced");
    let Some(library) = Library::new(&folder, test).await else { return };
    let control = library.control(&folder.join("control"));
    for lies in [false, true] {
        let mut plan = Plan { master_disk: of.is_masters(), ..Plan::alone(file_system) };
        plan.volumes = if of == Of::Tombstones { 2 } else { 1 };
        // A log that keeps everything makes up for tables that lose applied entries; one that keeps little does not.
        plan.log_entries_kept = (of == Of::Tables).then_some(4);
        plan.log_elsewhere = of == Of::Tables;
        if lies {
            let mut env = control.env();
            env.extend(library.unsynced(of.ending()));
            match of {
                Of::Log | Of::Tables => plan.master_env = env,
                Of::Segments | Of::Indexes | Of::Tombstones => plan.volume_env = vec![env],
            }
        }
        let mut site = Site::new(&format!("{test}-{file_system:?}-{lies}"), plan).await;
        let oracle = Oracle::default();
        let rounds = if lies { LYING_ROUNDS } else { HONEST_ROUNDS };
        let mut found = None;
        for n in 0..rounds {
            if let Err(wrong) = round(&mut site, &oracle, n, of).await {
                let first = wrong.lines().next().unwrap_or_default().to_owned();
                found = Some((n, first));
                break;
            }
        }
        match found {
            Some((n, wrong)) if lies => {
                assert!(control.lies() > 0, "the library dropped no sync");
                // A server that does not answer, or a broken test, proves nothing.
                let lost = ["is corrupt", "is gone", "is lost", "blobs after the cut"]
                    .iter()
                    .any(|w| wrong.contains(w));
                assert!(lost, "something other than a loss was found: {wrong}");
                say(format_args!("{file_system:?}, without syncs of {of:?}: found in round {n}: {wrong}"));
            }
            None if !lies => {}
            Some((n, wrong)) => panic!("VIOLATIONS in round {n} on {file_system:?}: {wrong}"),
            None => panic!("{rounds} power cuts did not find a missing sync of {of:?}: this proves nothing"),
        }
    }
}

async fn on_both(test: &str, of: Of) {
    if !available(test) {
        return;
    }
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        a_missing_sync_is_found(test, file_system, of).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_find_segments_that_are_not_synced() {
    on_both("power_cuts_find_segments_that_are_not_synced", Of::Segments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_find_deletes_that_are_not_synced() {
    on_both("power_cuts_find_deletes_that_are_not_synced", Of::Indexes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_find_tombstones_that_are_not_synced() {
    on_both("power_cuts_find_tombstones_that_are_not_synced", Of::Tombstones).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_find_a_log_that_is_not_synced() {
    on_both("power_cuts_find_a_log_that_is_not_synced", Of::Log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_find_tables_that_are_not_synced() {
    on_both("power_cuts_find_tables_that_are_not_synced", Of::Tables).await;
}
