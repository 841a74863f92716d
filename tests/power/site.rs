//! A cluster on disks whose power can be cut.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tests::disk::{Disk, FileSystem, cutter};
use tests::tool::must;
use tests::wait::moment;
use tests::{Cluster, Dice, Folder, Options};

const DISK_MIB: u64 = 512;

/// How to set up a site.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file system of all disks.
    pub file_system: FileSystem,
    pub masters: usize,
    /// Number of volumes, and replicas of each value.
    pub volumes: usize,
    /// Whether the masters' power can be cut as well.
    pub master_disk: bool,
    pub log_entries_kept: Option<u64>,
    /// Whether the master's log is on another disk, which is spared: then only the tables' own syncs make them
    /// durable. On the same disk a sync of the log commits the file system's journal for both.
    pub log_elsewhere: bool,
    pub orphan_grace: Duration,
    pub master_env: Vec<(String, OsString)>,
    pub volume_env: Vec<Vec<(String, OsString)>>,
}

impl Plan {
    /// One master and two volumes, each with a disk.
    pub fn usual(file_system: FileSystem) -> Self {
        Self {
            file_system,
            masters: 1,
            volumes: 2,
            master_disk: true,
            // Short, so that sometimes the tables are needed and the log is not enough.
            log_entries_kept: Some(16),
            log_elsewhere: false,
            orphan_grace: Duration::from_secs(4),
            master_env: Vec::new(),
            volume_env: Vec::new(),
        }
    }

    /// One volume without healing, and a master that is spared.
    pub fn alone(file_system: FileSystem) -> Self {
        // A deleted value that comes back is not removed before it is seen.
        let orphan_grace = Duration::from_secs(600);
        Self { volumes: 1, master_disk: false, orphan_grace, ..Self::usual(file_system) }
    }
}

pub struct Site {
    pub cluster: Cluster,
    /// The disks, the masters' first, in the order of the servers.
    disks: Vec<Option<Disk>>,
    cutter: PathBuf,
    // Last: the disks are in it.
    _folder: Folder,
}

impl Site {
    pub async fn new(name: &str, plan: Plan) -> Self {
        let folder = Folder::new(name);
        let cutter = cutter(&folder).await;
        let disk = async |name: &str| Disk::with(plan.file_system, &folder, name, DISK_MIB).await;
        let mut disks = Vec::new();
        for n in 1..=plan.masters {
            disks.push(if plan.master_disk { Some(disk(&format!("disk-master{n}")).await) } else { None });
        }
        for n in 1..=plan.volumes {
            disks.push(Some(disk(&format!("disk-volume{n}")).await));
        }
        let data = |disk: &Option<Disk>| disk.as_ref().map(|d| d.path().join("data"));
        if let Some(data) = data(&disks[0]).filter(|_| plan.log_elsewhere) {
            let log = folder.join("raft");
            for folder in [&data, &log] {
                std::fs::create_dir(folder).expect("a new folder");
            }
            std::os::unix::fs::symlink(&log, data.join("raft")).expect("a link");
        }
        let options = Options {
            masters: plan.masters,
            volumes: plan.volumes,
            replicas: plan.volumes,
            min_replicas: plan.volumes,
            // Small and without pauses, so that seals, compactions and scrubs are hit as well.
            segment_bytes: 4 << 20,
            scrub_every: Some(Duration::from_millis(200)),
            log_entries_kept: plan.log_entries_kept,
            orphan_grace: plan.orphan_grace,
            down_after: Duration::from_secs(2),
            master_folder: data(&disks[0]),
            more_master_folders: disks[1..plan.masters].iter().filter_map(data).collect(),
            volume_folders: disks[plan.masters..].iter().filter_map(data).collect(),
            master_env: plan.master_env,
            volume_env: plan.volume_env,
            ..Options::default()
        };
        let cluster = Cluster::start(name, options).await;
        Self { cluster, disks, cutter, _folder: folder }
    }

    /// Cuts the power of these servers, as simultaneously as possible.
    pub async fn cut(&mut self, victims: &[usize]) {
        for victim in victims {
            self.cluster.servers_mut()[*victim].freeze();
        }
        for victim in victims {
            self.disks[*victim].as_ref().expect("a disk of its own").cut(&self.cutter).await;
        }
        for victim in victims {
            self.cluster.servers_mut().remove(*victim).kill().await;
        }
    }

    /// Writes back the page cache of a server's disk, as the kernel does after a while.
    pub async fn write_back(&self, server: usize) {
        let path = self.disks[server].as_ref().expect("a disk of its own").path();
        must("sync", ["-f".as_ref(), path.as_os_str()]).await;
    }

    /// Restores the power, cuts it this many times while the servers open, and then lets them start.
    pub async fn restore(&mut self, victims: &[usize], cuts: u64, dice: &mut Dice) -> Result<(), String> {
        for _ in 0..cuts {
            self.power_on(victims).await;
            // Most are hit before they listen, some when they have just started to work.
            let scale = 1 << dice.below(9);
            moment(Duration::from_millis(dice.below(scale))).await;
            self.cut(victims).await;
        }
        self.power_on(victims).await;
        for victim in victims {
            self.cluster.servers_mut().remove(*victim).listens().await?;
        }
        Ok(())
    }

    /// Mounts the disks, which replays their journals, and begins to start the servers.
    async fn power_on(&mut self, victims: &[usize]) {
        for victim in victims {
            let disk = self.disks[*victim].as_mut().expect("a disk of its own");
            disk.unmount().await;
            disk.mount().await;
            self.cluster.servers_mut().remove(*victim).begin();
        }
    }
}
