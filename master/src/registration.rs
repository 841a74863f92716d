//! Registration of volumes: by their own heartbeat, or when a master polls them.

use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::volume::VolumeReport;

use crate::change::Changes;
use crate::metadata::Metadata;
use crate::raft::group::Group;
use crate::state::command::Command;
use crate::tables::admin_state::AdminState;
use crate::tables::{admin_state, volume};
use crate::volumes::Volumes;

/// Records the heartbeat of a volume; stores its record in the tables if it is new or has changed.
///
/// # Errors
/// 409 if it belongs to another cluster, was decommissioned, or has the id of another live volume.
pub async fn register(
    metadata: &Metadata,
    volumes: &Volumes,
    changes: &Changes,
    report: VolumeReport,
) -> Result<(), ErrorReply> {
    if admin_state::read(&metadata.database.tree(), report.volume)?
        .is_some_and(|s| s.state == AdminState::Decommissioned)
    {
        return Err(ErrorReply::new(
            ErrorCode::WrongCluster,
            format!("volume {} is decommissioned: it has left the cluster for good", report.volume),
            "start it with an empty directory: it joins as a new volume",
        ));
    }
    let heard = volumes.cluster.record_heartbeat(report).map_err(|e| {
        ErrorReply::new(
            ErrorCode::WrongCluster,
            e.to_string(),
            "give the volume a directory of its own, or point it at its own master; of two with one id, stop one",
        )
    })?;
    if volume::read(&metadata.database.tree(), heard.volume)?.as_ref() != Some(&heard) {
        tracing::debug!(volume = %heard.volume, address = heard.address, "volume joined");
        changes.propose(Command::Volume(heard)).await?;
        changes.wake_reclaim.notify_one();
    }
    Ok(())
}

/// Returns the addresses of the masters, this one first.
pub fn master_addresses(group: &Group) -> Vec<String> {
    let others = group.others().into_iter().map(|peer| peer.address);
    std::iter::once(group.me().address.clone()).chain(others).collect()
}
