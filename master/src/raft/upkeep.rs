//! What a master does for its part in the group from time to time: the log is kept short in bytes, a change of the masters
//! that was interrupted is finished, and a disk that hangs is noticed.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::limits::{METADATA_STUCK, RAFT_CHECKPOINT_BYTES, RAFT_LOG_HELD_BYTES, RAFT_LOG_KEPT_BYTES};

use super::Peer;
use super::group::Group;
use crate::db::other_masters::OtherMasters;

/// A disk that hangs is looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Group {
    /// One look, once a second or so.
    pub async fn tend(&self) {
        self.machine().drop_unused();
        self.write_other_masters();
        self.shorten_log().await;
        if let Err(error) = self.finish_change().await {
            tracing::debug!(%error, "an interrupted change of the masters is not finished yet");
        }
    }

    /// Writes the other masters down when they have changed.
    fn write_other_masters(&self) {
        let database = self.machine().database();
        let Ok(Some(identity)) = database.identity() else { return };
        let masters = self.masters().into_iter().filter(|m| m.master != self.id());
        let masters = masters.map(|m| Peer { address: m.address, public_url: m.public_url }).collect();
        let now = OtherMasters { cluster: identity.cluster, masters };
        let mut noted = self.other_masters.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.as_ref() == Some(&now) {
            return;
        }
        match now.write(database.path()) {
            Ok(()) => *noted = Some(now),
            Err(error) => tracing::warn!(%error, "the other masters could not be noted beside the metadata"),
        }
    }

    /// openraft counts entries; one of them may have as many bytes as ten thousand others.
    async fn shorten_log(&self) {
        let (log, machine) = (self.log(), self.machine());
        let bytes = log.disk_bytes();
        machine.too_long.store(bytes > RAFT_LOG_HELD_BYTES, Ordering::Relaxed);
        let due = log.bytes_after(machine.covered()) > RAFT_CHECKPOINT_BYTES;
        machine.due.store(due, Ordering::Relaxed);
        if due {
            let _ = self.raft().trigger().snapshot().await;
        }
        // Alone there is nobody who could need them.
        let alone = self.metrics().membership_config.membership().nodes().count() < 2;
        let kept = if alone { RAFT_CHECKPOINT_BYTES } else { RAFT_LOG_KEPT_BYTES };
        if bytes > kept
            && let Some(last) = log.last_beyond(kept)
        {
            // No more than a checkpoint covers: openraft sees to that.
            let _ = self.raft().trigger().purge_log(last).await;
        }
    }

    /// Returns when this master cannot go on: the consensus has stopped, or the disk of its log hangs.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.watch();
        let ended = async {
            match metrics.wait_for(|m| m.running_state.is_err()).await {
                Ok(m) => m.running_state.as_ref().err().map_or_else(String::new, ToString::to_string),
                Err(_) => "its task ended".into(),
            }
        };
        let hangs = async {
            while self.log().busy_for() < METADATA_STUCK {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            format!("the disk of the log has not answered for {METADATA_STUCK:?}")
        };
        tokio::select! { why = ended => why, why = hangs => why }
    }
}
