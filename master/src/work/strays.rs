//! Looks for strays on one volume and deals with them. What nothing refers to goes only when it was seen so twice, at two times; the
//! tables have the last word. What should be there and is not is asked for by name before it is crossed out.

use std::collections::HashSet;
use std::sync::Arc;

use shared::ids::{BlobId, VolumeId};
use shared::limits::{INVENTORY_PAGE, STRAYS_REMEMBERED};
use shared::wire::cluster::{OrphansReport, StrayBlob};
use shared::wire::replicas::{LookRequest, LookResponse};
use shared::wire::routes::LOOK;
use shared::wire::volume::InventoryEntry;
use shared::work::blocking;

use super::compare::{CompareError, Comparison};
use crate::cluster::Reachable;
use crate::master::Master;
use crate::plan::orphans::{Strays, choose};
use crate::plan::survey::{Finder, held};
use crate::state::command::Command;
use crate::tables::unsettled::Spot;
use crate::tables::{TableError, replica};

/// Strays that a report names; the rest is counted.
const STRAYS_SHOWN: usize = 100;

/// Orphans that were seen: those of the last look at all volumes, and those since.
#[derive(Debug, Default)]
pub struct Seen {
    before: HashSet<(VolumeId, BlobId)>,
    now: HashSet<(VolumeId, BlobId)>,
}

impl Seen {
    /// A look at all volumes begins, some time after the last one.
    pub fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Notes an orphan. Whether the last look saw it, too.
    fn again(&mut self, volume: VolumeId, blob: BlobId) -> bool {
        if self.now.len() < STRAYS_REMEMBERED {
            self.now.insert((volume, blob));
        }
        self.before.contains(&(volume, blob))
    }
}

/// Compares one volume with the tables. `seen`: what is to be dealt with; none when it is only to be looked.
///
/// # Errors
/// When it cannot be found out to its end.
pub async fn look(
    master: &Arc<Master>,
    volume: &Reachable,
    mut seen: Option<&mut Seen>,
    report: &mut OrphansReport,
) -> Result<(), CompareError> {
    let blobs = master.cluster.blobs_of(volume.volume);
    let mut comparison = Comparison::new(master, volume.clone());
    let ranges = comparison.differing(blobs).await;
    for range in ranges.iter().flatten() {
        let mut after = None;
        loop {
            let (difference, next) = comparison.list(*range, after).await?;
            let strays = judge(master, volume.volume, difference.extra).await?;
            let missing = missing(master, volume, &difference.missing).await?;
            count(report, volume.volume, &strays, &missing);
            if let Some(seen) = seen.as_deref_mut() {
                settle(master, volume, seen, strays, missing).await;
            }
            after = next;
            if next.is_none() {
                break;
            }
        }
    }
    report.exchanged_bytes += comparison.exchanged_bytes;
    master.metrics.compared_bytes.inc_by(comparison.exchanged_bytes);
    ranges.map(|_| ())
}

async fn judge(
    master: &Arc<Master>,
    volume: VolumeId,
    extra: Vec<InventoryEntry>,
) -> Result<Strays, TableError> {
    let (grace, now) = (master.config.orphan_grace, master.config.clock.now());
    let (database, topology) = (Arc::clone(&master.database), master.cluster.topology());
    blocking(move || choose(&database.tree(), volume, &topology, &extra, (grace, now))).await
}

/// Those of `blobs` that objects refer to on the volume and that it says it does not have, and of which another volume that is up is
/// named: of the others this may be the last one that has any chance.
async fn missing(
    master: &Arc<Master>,
    volume: &Reachable,
    blobs: &[BlobId],
) -> Result<Vec<(BlobId, Spot)>, CompareError> {
    let mut missing = Vec::new();
    for page in blobs.chunks(INVENTORY_PAGE) {
        let (cluster, volume_id) = (master.cluster.id(), volume.volume);
        let question = LookRequest { cluster, volume: volume_id, blobs: page.to_vec() };
        let answer: LookResponse = master.peers.call(&volume.address, LOOK, &question).await?;
        let absent = page.iter().zip(&answer.places).filter(|(_, place)| place.is_none());
        let absent: Vec<_> = absent.map(|(blob, _)| *blob).collect();
        let database = Arc::clone(&master.database);
        let topology = master.cluster.topology();
        let named = blocking(move || {
            let (tree, mut finder, mut named) = (database.tree(), Finder::default(), Vec::new());
            for blob in absent {
                let other = |v: &VolumeId| *v != volume_id && topology.gives(*v);
                if let Some(key) = replica::read(&tree, volume_id, blob)?
                    && let Some(spot) = finder.spot(&tree, &key, blob)?
                    && held(&tree, blob, &spot)?.is_some_and(|held| held.replicas.iter().any(other))
                {
                    named.push((blob, spot));
                }
            }
            Ok::<_, TableError>(named)
        });
        missing.extend(named.await?);
    }
    Ok(missing)
}

fn count(report: &mut OrphansReport, volume: VolumeId, strays: &Strays, missing: &[(BlobId, Spot)]) {
    let all = strays.orphans.iter().chain(&strays.young);
    report.orphans += all.clone().count() as u64;
    report.orphan_bytes += all.clone().map(|e| e.length).sum::<u64>();
    report.young += strays.young.len() as u64;
    report.missing += missing.len() as u64;
    let present = |e: &InventoryEntry| StrayBlob {
        volume,
        blob: e.blob,
        length: Some(e.length),
        age_ms: Some(e.age_ms),
    };
    let absent = |(blob, _): &(BlobId, Spot)| StrayBlob { volume, blob: *blob, length: None, age_ms: None };
    let left = STRAYS_SHOWN.saturating_sub(report.shown.len());
    report.shown.extend(all.map(present).chain(missing.iter().map(absent)).take(left));
}

async fn settle(
    master: &Arc<Master>,
    volume: &Reachable,
    seen: &mut Seen,
    strays: Strays,
    missing: Vec<(BlobId, Spot)>,
) {
    let (id, address) = (volume.volume, &volume.address);
    let twice = strays.orphans.iter().filter(|e| seen.again(id, e.blob)).map(|e| (e.blob, e.length));
    let orphans: Vec<_> = twice.collect();
    let mut commands = Vec::new();
    if !orphans.is_empty() {
        tracing::info!(
            volume = address,
            count = orphans.len(),
            "records that nothing refers to are collected"
        );
        master.metrics.orphans.inc_by(orphans.len() as u64);
        commands.push(Command::Orphaned { volume: id, blobs: orphans });
    }
    if !strays.needed.is_empty() {
        let count = strays.needed.len();
        tracing::info!(volume = address, count, "copies that are needed were found; they are verified");
        commands.push(Command::Expect { volume: id, blobs: strays.needed });
    }
    if !missing.is_empty() {
        tracing::warn!(volume = address, count = missing.len(), "copies are missing; others are made");
        master.metrics.copies_missing.inc_by(missing.len() as u64);
        commands.push(Command::Missing { volume: id, blobs: missing });
    }
    for command in commands {
        if let Err(error) = master.sequencer.propose(command).await {
            tracing::debug!(%error, "strays are dealt with later");
        }
    }
    master.reclaim.notify_one();
    master.care.repair.notify_one();
}
