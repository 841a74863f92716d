//! The cost of metadata: bytes of records from the master's own encoders, and the disk, memory and repair scan time
//! of a real metadata directory.
//!
//! The records are computed. Disk, memory and time are measured and differ from run to run; the report says so.

use std::collections::HashSet;

use anyhow::Context as _;
use master::internals::{
    Availability, Blob, BlobRef, Kind, Object, RepairTask, ReplicationMode, ScanInput, Tables, Topology,
    encode, read_object, read_replica, scan_repairs,
};
use master::offline::Database;
use shared::attributes::{Attributes, Etag};
use shared::digest::Digest;
use shared::limits::{
    COMMIT_BATCH, MISMATCHES_REMEMBERED, RAFT_LOG_CACHE_BYTES, REPAIR_PLAN, SLED_CACHE_BYTES, VIRTUAL_NODES,
};

use crate::chance::whole;
use crate::site::{Set, Site, blob, key, mean_length};

/// Bytes of the records of one object, with their keys in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records {
    pub object: usize,
    /// One record for each replica.
    pub replica: usize,
    pub copies: usize,
}

/// The cost of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub objects: u64,
    /// Bytes on disk.
    pub disk: u64,
    /// Resident memory of this process, in bytes.
    pub resident: u64,
}

/// Bytes of memory that do not grow with the objects.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub sled: u64,
    /// The cached entries of the Raft log.
    pub log: u64,
    /// A full repair plan.
    pub plan: u64,
    /// The ring and the state of its volumes.
    pub ring: u64,
    /// Mismatches remembered between two reconciliations.
    pub unreferenced: u64,
}

/// The nth object as an S3 client leaves it: content type, one metadata header, MD5.
fn object(n: u64, site: &Site, set: &[u16]) -> Object {
    let id = blob(n);
    let length = whole(mean_length()) + n % 1000;
    let replicas = set.iter().map(|v| site.volumes[usize::from(*v)].id).collect();
    let mut md5 = [0; 16];
    md5.copy_from_slice(&::tests::value(n, 16));
    Object {
        generation: id,
        size: length,
        digest: Digest::of(&n.to_le_bytes()),
        content_type: Some("application/octet-stream".into()),
        metadata: vec![("x-amz-meta-mtime".into(), "1700000000.123456789".into())],
        wanted: u8::try_from(set.len()).unwrap_or(u8::MAX),
        blobs: vec![Blob { id, length, replicas }],
        attributes: Attributes { etag: Some(Etag::Md5(md5)), ..Attributes::default() },
        parts: None,
        expiry: Default::default(),
    }
}

/// The records of the nth object.
pub fn records(n: u64, site: &Site, set: &[u16]) -> Records {
    let key = key(n);
    let path = key.as_str().as_bytes();
    let object = 1 + path.len() + encode(Kind::Object, path, &object(n, site, set)).len();
    let place = [0; 32];
    let replica = 1 + place.len() + encode(Kind::Replica, &place, &key).len();
    Records { object, replica, copies: set.len() }
}

impl Records {
    pub fn all(&self) -> usize {
        self.object + self.copies * self.replica
    }
}

pub fn bounds(volumes: usize) -> Bounds {
    let blob_ref = BlobRef::object(&key(0));
    // The key of an action twice (name and place), its replicas, and the action itself.
    let action = size_of::<RepairTask>() + 2 * blob_ref.key.as_str().len() + 3 * 16;
    let per_volume = VIRTUAL_NODES as usize * 16 + 512;
    Bounds {
        sled: SLED_CACHE_BYTES,
        log: RAFT_LOG_CACHE_BYTES as u64,
        plan: (REPAIR_PLAN * action) as u64,
        ring: (volumes * per_volume) as u64,
        unreferenced: (MISMATCHES_REMEMBERED * 48) as u64,
    }
}

/// Fills a real directory step by step. Returns its cost after each step, and the scan time in seconds for one blob
/// of a lost volume.
pub fn measure(site: &Site, sets: &[Set], copies: usize, steps: u64) -> anyhow::Result<(Vec<Measured>, f64)> {
    let folder = tempfile::tempdir().context("a folder for the metadata")?;
    let database = Database::open(folder.path())?;
    let tree = database.tree();
    let (mut measured, mut n) = (Vec::new(), 0);
    for step in 1..=steps {
        let until = sets.len() as u64 * step / steps;
        while n < until {
            let mut tables = Tables::new(&tree);
            for set in
                sets.iter().skip(usize::try_from(n)?).take(COMMIT_BATCH.min(usize::try_from(until - n)?))
            {
                let (key, object) = (key(n), object(n, site, &set[..copies]));
                // As a commit does. Reads also make sled free the memory of overwritten values.
                anyhow::ensure!(read_object(&tables, &key)?.is_none(), "every key is new");
                tables.put_object(&key, &object);
                for volume in &object.blobs[0].replicas {
                    anyhow::ensure!(
                        read_replica(&tables, *volume, object.generation)?.is_none(),
                        "so is every blob"
                    );
                    tables.put_replica(*volume, object.generation, &key);
                }
                n += 1;
            }
            database.commit(tables)?;
        }
        database.checkpoint()?;
        measured.push(Measured { objects: n, disk: database.disk_bytes(), resident: resident()? });
    }
    let topology =
        {
            let live = vec![0; site.volumes.len()];
            site.topology(&site.ring(), &live, |n| {
                if n == 0 { Availability::Lost } else { Availability::Writable }
            })
        };
    let seconds = look(&database, topology)?;
    drop(tree);
    database.close().context("the metadata is closed")?;
    Ok((measured, seconds))
}

/// Returns the scan time per blob of a lost volume, the mean of three scans.
fn look(database: &Database, topology: Topology) -> anyhow::Result<f64> {
    let question = ScanInput { topology, mode: ReplicationMode::Sync, async_due: true };
    let (begun, mut blobs) = (busy_seconds(), 0.0);
    for _ in 0..3 {
        blobs +=
            scan_repairs(&database.tree(), &question, &HashSet::new(), &HashSet::new())?.queued_blobs as f64;
    }
    Ok((busy_seconds() - begun) / f64::max(blobs, 1.0))
}

/// The CPU time of this thread in seconds, which excludes other load on this machine. 0 if the system does
/// not report it.
pub fn busy_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

/// The resident memory of this process, in bytes.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    Ok(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_large_as_they_are_in_the_tables() {
        let site = Site::new(20, 5, 1);
        let set = [1, 2, 3];
        let db = tempfile::tempdir().unwrap();
        let database = Database::open(db.path()).unwrap();
        let tree = database.tree();
        let (key, object) = (key(5), object(5, &site, &set));
        let mut tables = Tables::new(&tree);
        tables.put_object(&key, &object);
        object.blobs[0].replicas.iter().for_each(|v| tables.put_replica(*v, object.generation, &key));
        let written: usize = tables
            .into_changes()
            .unwrap()
            .0
            .iter()
            .filter(|c| c.path[0] != b'm')
            .map(|c| c.path.len() + c.after.as_ref().map_or(0, Vec::len))
            .sum();
        assert_eq!(records(5, &site, &set).all(), written);
    }

    #[test]
    fn a_directory_is_filled_and_looked_through() {
        let site = Site::new(20, 5, 1);
        let sets = site.sample(&site.ring(), 2_000);
        let (measured, seconds) = measure(&site, &sets, 3, 2).unwrap();
        assert_eq!(measured.iter().map(|m| m.objects).collect::<Vec<_>>(), [1_000, 2_000]);
        let least = 2_000 * records(0, &site, &sets[0]).all() as u64;
        assert!(measured[1].disk > least / 4 && measured[1].resident > 1 << 20, "{measured:?}");
        assert!((0.0..0.1).contains(&seconds), "{seconds}");
    }
}
