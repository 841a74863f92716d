//! A cluster of separate processes: one or more masters, and volumes that register themselves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use shared::clock::Clock;
use shared::http::client::PeerClient;
use shared::ids::VolumeId;
use shared::secret::ClusterSecret;
use shared::wire::master::{ClusterStatus, MasterRole, Masters, VolumeState};
use shared::wire::routes::{MASTERS, STATUS};
use shared::wire::volume::VolumeStatus;

use crate::client::Client;
use crate::folder::Folder;
use crate::network::Network;
use crate::place::Place;
pub use crate::place::free_port;
use crate::process::{Server, Spec};
use crate::wait::eventually;

/// How long a cluster may take to be up after a start or after faults have ended.
pub const SETTLED: Duration = Duration::from_secs(60);

/// How to set up a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    pub masters: usize,
    /// Log entries that a master keeps for followers; the product's default if `None`.
    pub log_entries_kept: Option<u64>,
    pub volumes: usize,
    /// Replicas of each value.
    pub replicas: usize,
    /// Replicas without which an upload fails.
    pub min_replicas: usize,
    /// Size at which segments are sealed, in bytes.
    pub segment_bytes: u64,
    /// The reserve, in bytes.
    pub reserve_bytes: u64,
    /// Age at which an orphan is collected.
    pub orphan_grace: Duration,
    /// Silence after which a volume is not used.
    pub down_after: Duration,
    /// Directories of the master and of the volumes; inside the test's own directory by default.
    pub master_folder: Option<PathBuf>,
    /// Directories of the other masters; see `master_folder`.
    pub more_master_folders: Vec<PathBuf>,
    pub volume_folders: Vec<PathBuf>,
    /// Environment variables of each master; those of the first where there are no others.
    pub master_env: Vec<(String, OsString)>,
    /// Environment variables of the other masters.
    pub more_master_env: Vec<Vec<(String, OsString)>>,
    /// The network: each master at its own site, the volumes beside the test; all on loopback if `None`.
    pub network: Option<Arc<Network>>,
    /// Environment variables of each volume; none by default.
    pub volume_env: Vec<Vec<(String, OsString)>>,
    /// More arguments of the masters.
    pub master_args: Vec<String>,
    /// More arguments of each volume; none by default.
    pub volume_args: Vec<Vec<String>>,
    /// Puts each volume at its own site, after those of the masters.
    pub volume_sites: bool,
    /// Records verified within this time are not verified again; the product's default if `None`. The scrub always
    /// runs as fast as the disk allows.
    pub scrub_every: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            masters: 1,
            log_entries_kept: None,
            volumes: 3,
            replicas: 2,
            min_replicas: 2,
            segment_bytes: shared::limits::SEGMENT_BYTES,
            reserve_bytes: 16 << 20,
            orphan_grace: Duration::from_secs(600),
            down_after: Duration::from_secs(3),
            master_folder: None,
            more_master_folders: Vec::new(),
            volume_folders: Vec::new(),
            master_env: Vec::new(),
            more_master_env: Vec::new(),
            network: None,
            volume_env: Vec::new(),
            master_args: Vec::new(),
            volume_args: Vec::new(),
            volume_sites: false,
            scrub_every: None,
        }
    }
}

#[derive(Debug)]
pub struct Cluster {
    /// The master, or the first of several.
    pub master: Server,
    pub more_masters: Vec<Server>,
    pub volumes: Vec<Server>,
    /// The volumes' ids, in the same order.
    pub ids: Vec<VolumeId>,
    pub(crate) volume_folders: Vec<PathBuf>,
    // Last: the directory and the network are removed after the processes have ended.
    folder: Folder,
    network: Option<Arc<Network>>,
    options: Options,
}

impl Cluster {
    /// Starts a cluster and waits until all volumes are up.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(name: &str, options: Options) -> Self {
        let folder = Folder::new(name);
        let secret = folder.join("secret");
        let within =
            |chosen: Option<&PathBuf>, name: String| chosen.cloned().unwrap_or_else(|| folder.join(name));
        let master = within(options.master_folder.as_ref(), "master".into());
        let millis = |d: Duration| format!("{}ms", d.as_millis());
        let mut spec = Spec::new("master", "master", [master.as_os_str()]);
        spec.env.clone_from(&options.master_env);
        add(&mut spec, "--replicas", options.replicas.to_string());
        add(&mut spec, "--min-replicas", options.min_replicas.to_string());
        add(&mut spec, "--orphan-grace", millis(options.orphan_grace));
        add(&mut spec, "--down-after", millis(options.down_after));
        add(&mut spec, "--secret-file", secret.clone());
        spec.args.extend(options.master_args.iter().map(OsString::from));
        if let Some(kept) = options.log_entries_kept {
            add(&mut spec, "--log-entries-kept", kept.to_string());
        }
        let network = options.network.as_ref();
        let master = Place::at(network, Some(0)).start(&spec, folder.path()).await;
        let mut more_masters = Vec::new();
        for n in 2..=options.masters {
            let mut spec = spec.clone();
            spec.name = format!("master{n}");
            spec.args[0] = within(options.more_master_folders.get(n - 2), format!("master{n}")).into();
            add(&mut spec, "--join", master.url());
            if let Some(env) = options.more_master_env.get(n - 2) {
                spec.env.clone_from(env);
            }
            more_masters.push(Place::at(network, Some(n - 1)).start(&spec, folder.path()).await);
        }
        let network = options.network.clone();
        let mut cluster = Self {
            master,
            more_masters,
            volumes: Vec::new(),
            ids: Vec::new(),
            volume_folders: Vec::new(),
            folder,
            network,
            options,
        };
        for _ in 0..cluster.options.volumes {
            cluster.begin_volume().await;
        }
        cluster.settled().await;
        for n in 0..cluster.volumes.len() {
            let id = cluster.volume_status(n).await.expect("the volume is up").report.volume;
            cluster.ids.push(id);
        }
        cluster
    }

    /// Starts one more volume, with the options for its index.
    pub(crate) async fn begin_volume(&mut self) {
        let (options, n) = (&self.options, self.volumes.len());
        let name = format!("volume{}", n + 1);
        let data = options.volume_folders.get(n).cloned().unwrap_or_else(|| self.folder.join(&name));
        let mut spec = Spec::new(&name, "volume", [data.as_os_str()]);
        let masters: Vec<_> = self.masters().map(Server::url).collect();
        add(&mut spec, "--master", masters.join(","));
        add(&mut spec, "--segment-size", options.segment_bytes.to_string());
        add(&mut spec, "--reserve", options.reserve_bytes.to_string());
        add(&mut spec, "--secret-file", self.folder.join("secret"));
        if let Some(every) = options.scrub_every {
            add(&mut spec, "--scrub-every", format!("{}ms", every.as_millis()));
            add(&mut spec, "--scrub-rate", (1u64 << 30).to_string());
        }
        spec.args.extend(options.volume_args.get(n).into_iter().flatten().map(OsString::from));
        spec.env = options.volume_env.get(n).cloned().unwrap_or_default();
        let site = options.volume_sites.then_some(options.masters + n);
        let server = Place::at(self.network.as_ref(), site).start(&spec, self.folder.path()).await;
        self.volumes.push(server);
        self.volume_folders.push(data);
    }

    /// Returns the master's address as a base URL.
    pub fn url(&self) -> &str {
        self.master.url()
    }

    /// Returns the network, if there is one.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_deref()
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns a volume's directory.
    pub fn volume_folder(&self, n: usize) -> &Path {
        &self.volume_folders[n]
    }

    /// Returns a client for the master.
    pub fn client(&self) -> Client {
        Client::new(self.master.url())
    }

    /// Returns the cluster secret.
    ///
    /// # Panics
    /// If the file is missing.
    pub fn secret(&self) -> ClusterSecret {
        ClusterSecret::read(&self.folder.join("secret")).expect("the test's own secret")
    }

    /// Returns the master's status, or `None` while it does not answer.
    pub async fn status(&self) -> Option<ClusterStatus> {
        self.shown(self.master.url(), STATUS).await
    }

    /// Returns a server's own status: without a secret where it is public, else with the cluster's secret.
    pub async fn shown<T: DeserializeOwned>(&self, url: &str, path: &str) -> Option<T> {
        shown(url, path, &self.secret()).await
    }

    /// Returns a volume's own status.
    pub async fn volume_status(&self, n: usize) -> Option<VolumeStatus> {
        self.shown(self.volumes[n].url(), STATUS).await
    }

    /// Waits until every master sees all volumes as writable: one that has just started knows none yet.
    ///
    /// # Panics
    /// If they are not in time.
    pub async fn settled(&self) {
        let wanted = self.volumes.len();
        for server in self.masters() {
            self.volumes_up(server, wanted).await;
        }
        self.masters_settled().await;
    }

    /// Iterates over all masters, the first one first.
    pub fn masters(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.master).chain(&self.more_masters)
    }

    /// Waits until all masters are voters and agree on the leader.
    ///
    /// # Panics
    /// If they do not agree in time.
    pub async fn masters_settled(&self) {
        let wanted = 1 + self.more_masters.len();
        eventually(SETTLED, &format!("{wanted} masters with a vote"), async || {
            let mut leaders = std::collections::HashSet::new();
            for server in self.masters() {
                let known: Masters = self.shown(server.url(), MASTERS).await?;
                let voters = known.masters.iter().filter(|m| m.role != MasterRole::Learner).count();
                leaders.insert(known.leader()?.master);
                if voters != wanted || known.masters.len() != wanted {
                    return None;
                }
            }
            (leaders.len() == 1).then_some(())
        })
        .await;
    }

    /// Returns the leader's index among the masters, as the first that answers reports it.
    pub async fn leader(&self) -> Option<usize> {
        for server in self.masters() {
            let known: Option<Masters> = self.shown(server.url(), MASTERS).await;
            if let Some(leader) = known.as_ref().and_then(Masters::leader) {
                return self.masters().position(|s| s.url() == leader.address);
            }
        }
        None
    }

    /// Returns a master by its index.
    pub fn master_mut(&mut self, n: usize) -> &mut Server {
        if n == 0 { &mut self.master } else { &mut self.more_masters[n - 1] }
    }

    /// Waits until exactly this many volumes take writes.
    ///
    /// # Panics
    /// If they do not in time.
    pub async fn settled_at(&self, wanted: usize) {
        self.volumes_up(&self.master, wanted).await;
    }

    async fn volumes_up(&self, master: &Server, wanted: usize) {
        eventually(SETTLED, &format!("{wanted} volumes up at {}", master.name()), async || {
            let status: ClusterStatus = self.shown(master.url(), STATUS).await?;
            let up = status.volumes.iter().filter(|v| v.state == VolumeState::Up).count();
            (up == wanted).then_some(())
        })
        .await;
    }

    /// Iterates over all servers, the masters first.
    pub fn servers_mut(&mut self) -> Vec<&mut Server> {
        std::iter::once(&mut self.master).chain(&mut self.more_masters).chain(&mut self.volumes).collect()
    }

    /// Returns the index of a volume in `volumes` by its id.
    ///
    /// # Panics
    /// If it is not a volume of this cluster.
    pub fn place_of(&self, id: VolumeId) -> usize {
        self.ids.iter().position(|i| *i == id).expect("a volume of this cluster")
    }

    /// Checks that no log holds a ticket, a signature or the secret.
    ///
    /// # Panics
    /// If one does.
    pub fn assert_no_secrets_in_logs(&self) {
        let secret = std::fs::read_to_string(self.folder.join("secret")).expect("the test's own secret");
        for server in self.masters().chain(&self.volumes) {
            for line in server.log().lines() {
                let leaks = line.contains("ticket=") || line.contains(secret.trim());
                assert!(!leaks, "the log of {} holds a secret: {line}", server.name());
            }
        }
    }
}

/// As `Cluster::shown`, for a server with this secret.
pub async fn shown<T: DeserializeOwned>(url: &str, path: &str, secret: &ClusterSecret) -> Option<T> {
    if let Some(known) = Client::new(url).json(path).await {
        return Some(known);
    }
    let peers = PeerClient::new(secret.clone(), Clock::System);
    peers.call_within(url, path, &(), Duration::from_secs(5)).await.ok()
}

/// Appends an option and its value.
pub fn add(spec: &mut Spec, name: &str, value: impl Into<OsString>) {
    spec.args.extend([OsString::from(name), value.into()]);
}
