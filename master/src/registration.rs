//! How a volume joins its cluster: by a heartbeat of its own, or when a master asks it. Both register it here.

use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::volume::VolumeReport;

use crate::master::Master;
use crate::state::command::Command;
use crate::tables::standing::Duty;
use crate::tables::{standing, volume};

/// A volume was heard of: takes it into the cluster when it is new, and keeps what is new of it.
///
/// # Errors
/// 409 when it belongs to another cluster.
pub async fn register(master: &Master, report: VolumeReport) -> Result<(), ErrorReply> {
    if standing::read(&master.database.tree(), report.volume)?.is_some_and(|s| s.duty == Duty::Gone) {
        return Err(ErrorReply::new(
            ErrorCode::WrongCluster,
            format!("volume {} was retired: it has left the cluster for good", report.volume),
            "give the disk an empty directory: it joins as a new volume",
        ));
    }
    let heard = master.cluster.heard(report).map_err(|e| {
        ErrorReply::new(
            ErrorCode::WrongCluster,
            e.to_string(),
            "give the volume a directory of its own, or point it at its own master; of two with one id stop one",
        )
    })?;
    if volume::read(&master.database.tree(), heard.volume)?.as_ref() != Some(&heard) {
        tracing::debug!(volume = %heard.volume, address = heard.address, "volume joined");
        master.sequencer.propose(Command::Volume(heard)).await?;
        master.reclaim.notify_one();
    }
    Ok(())
}

/// Where volumes find the masters, this one first.
pub fn addresses(master: &Master) -> Vec<String> {
    let others = master.group.others().into_iter().map(|peer| peer.address);
    std::iter::once(master.address.clone()).chain(others).collect()
}
