//! What a cluster's volumes hold: as they report it, on their disks, and whether every byte verifies.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::client::{Client, metric};
use crate::cluster::Cluster;
use crate::folder::binary;
use crate::tool::must;

/// What the volumes hold and their current activity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Blobs on each volume.
    pub blobs: Vec<u64>,
    /// Bytes of their records.
    pub live_bytes: Vec<u64>,
    /// Append lanes in use, in total.
    pub lanes_busy: u64,
    /// Uploads in progress, in total.
    pub uploads: u64,
    /// Bytes reserved for uploads, in total.
    pub reserved_bytes: u64,
}

impl Cluster {
    /// Returns what the volumes hold now.
    ///
    /// # Panics
    /// If a volume does not answer.
    pub async fn footprint(&self) -> Footprint {
        let mut sum = Footprint::default();
        for server in &self.volumes {
            let text = Client::new(server.url()).get_text("/_/metrics").await.expect("the volume is up");
            let read = |name| metric(&text, name).unwrap_or_else(|| panic!("no {name} in the metrics"));
            sum.blobs.push(read("barge_blobs"));
            sum.live_bytes.push(read("barge_live_bytes"));
            sum.lanes_busy += read("barge_lanes_busy");
            sum.uploads += read("barge_uploads_in_flight");
            sum.reserved_bytes += read("barge_reserved_bytes");
        }
        sum
    }

    /// Waits until the volumes hold exactly what they held at `before`.
    ///
    /// # Panics
    /// If they hold more or less.
    pub async fn back_to(&self, before: &Footprint, after_what: &str) {
        let mut last = None;
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.footprint().await;
            if now == *before {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "after {after_what} the volumes hold {last:?}, before it {before:?}"
            );
            last = Some(now);
            crate::wait::moment(Duration::from_millis(20)).await;
        }
    }

    /// Returns the bytes allocated for a volume's segment files, and the number of files.
    pub fn segment_bytes(&self, n: usize) -> (u64, u64) {
        let files =
            std::fs::read_dir(self.volume_folders[n].join("segments")).into_iter().flatten().flatten();
        let mut sum = (0, 0);
        for file in files.filter(|f| f.path().extension().is_some_and(|e| e == "seg")) {
            let blocks = file.metadata().map_or(0, |m| m.blocks());
            sum = (sum.0 + blocks * 512, sum.1 + 1);
        }
        sum
    }

    /// Kills the volumes and checks every byte and index entry on their disks with `barge volume check`.
    ///
    /// # Panics
    /// If it finds an error.
    pub async fn check_offline(&mut self) {
        let barge = binary("barge").to_string_lossy().into_owned();
        for n in 0..self.volumes.len() {
            self.volumes[n].kill().await;
            let folder = self.volume_folders[n].to_string_lossy();
            must(&barge, ["volume", "check", "--json", &folder]).await;
        }
    }
}
