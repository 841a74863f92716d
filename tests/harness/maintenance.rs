//! Repair and rebalancing: volumes added later, the repair queue, and the operator's commands.

use std::time::Duration;

use serde::de::DeserializeOwned;
use shared::wire::cluster::{DrainStatus, OrphansReport, RebalanceStatus};
use shared::wire::master::{ClusterStatus, VolumeState};

use crate::client::Client;
use crate::cluster::{Cluster, SETTLED};
use crate::folder::binary;
use crate::process::Server;
use crate::tool::{Ran, run};
use crate::wait::eventually;

impl Cluster {
    /// Starts one more volume and waits until it is up. Returns its index in `volumes`.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn add_volume(&mut self) -> usize {
        self.begin_volume().await;
        let n = self.volumes.len() - 1;
        let id = self.volume_status(n).await.expect("the volume is up").report.volume;
        self.ids.push(id);
        self.state_is(n, &[VolumeState::Up]).await;
        n
    }

    /// Waits until a volume is in one of these states, as the first master sees it.
    ///
    /// # Panics
    /// If the state is not reached.
    pub async fn state_is(&self, n: usize, states: &[VolumeState]) {
        let id = self.ids[n];
        eventually(SETTLED, &format!("volume{} is one of {states:?}", n + 1), async || {
            let status = self.status().await?;
            let volume = status.volumes.into_iter().find(|v| v.volume == id)?;
            states.contains(&volume.state).then_some(())
        })
        .await;
    }

    /// Waits until the repair queue and the reclaim list are empty; returns the status then.
    ///
    /// # Panics
    /// If it takes longer than `within`.
    pub async fn paid(&self, within: Duration) -> ClusterStatus {
        let mut quiet = 0;
        eventually(within, "the repair queue is empty", async || {
            let status = match self.leader().await {
                Some(leader) => {
                    let leader = self.masters().nth(leader)?;
                    Client::new(leader.url()).json::<ClusterStatus>("/_/status").await?
                }
                None => return None,
            };
            let owed = status.repair.as_ref()?.queued_blobs;
            let still = owed == 0 && status.under_replicated == 0 && status.reclaim_pending == 0;
            // The next pass finds what has just become under-replicated.
            quiet = if still { quiet + 1 } else { 0 };
            (quiet > 20).then_some(status)
        })
        .await
    }

    /// Runs `barge --json` with these arguments and the cluster's secret.
    pub async fn barge(&self, args: &[&str]) -> Ran {
        let masters: Vec<_> = self.masters().map(Server::url).collect();
        let (url, secret) = (masters.join(","), self.folder().join("secret").display().to_string());
        let fixed = ["--json", "--url", &url];
        let all = fixed.iter().chain(args).copied().chain(["--secret-file", &secret]);
        run(&binary("barge").to_string_lossy(), all).await
    }

    /// Returns the JSON output of `barge`.
    ///
    /// # Panics
    /// If the command fails.
    pub async fn told<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        let ran = self.barge(args).await;
        assert_eq!(ran.code, 0, "barge {args:?}: {}{}", ran.text(), ran.err);
        let text = ran.text();
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("barge {args:?}: {e}: {text}"))
    }

    /// Runs `barge cluster drain` for a volume.
    pub async fn drain(&self, n: usize, more: &[&str]) -> DrainStatus {
        let id = self.ids[n].to_string();
        self.told(&[&["cluster", "drain", id.as_str()], more].concat()).await
    }

    /// Runs `barge cluster rebalance`.
    pub async fn rebalance(&self, steer: &str) -> RebalanceStatus {
        self.told(&["cluster", "rebalance", steer]).await
    }

    /// Runs `barge cluster orphans --dry-run`.
    pub async fn orphans(&self) -> OrphansReport {
        self.told(&["cluster", "orphans", "--dry-run"]).await
    }

    /// Waits until the running masters agree on the leader.
    ///
    /// # Panics
    /// If they do not agree in time.
    pub async fn settled_leader(&mut self) {
        let running: Vec<_> = self.servers_mut().into_iter().map(|s| s.runs()).collect();
        eventually(SETTLED, "a running leader", async || {
            let leader = self.leader().await?;
            if !running[leader] {
                return None;
            }
            let leads = self.masters().nth(leader)?;
            let status: ClusterStatus = Client::new(leads.url()).json("/_/status").await?;
            status.repair.is_some().then_some(())
        })
        .await;
    }

    /// Starts all masters that are not running.
    ///
    /// # Panics
    /// If a master does not start.
    pub async fn restart_masters(&mut self) {
        for n in 0..self.masters().count() {
            if !self.master_mut(n).runs() {
                self.master_mut(n).restart().await.expect("the master starts");
            }
        }
        self.masters_settled().await;
    }

    /// Forgets a volume that has left the cluster; its directory is no longer checked.
    pub fn forget_folder(&mut self, n: usize) {
        self.volume_folders.remove(n);
    }

    /// Returns the number of blobs on each volume, as the volumes report it.
    ///
    /// # Panics
    /// If a volume does not answer.
    pub async fn blobs(&self) -> Vec<u64> {
        let mut blobs = Vec::new();
        for n in 0..self.volumes.len() {
            blobs.push(self.volume_status(n).await.expect("the volume is up").report.blobs);
        }
        blobs
    }
}
