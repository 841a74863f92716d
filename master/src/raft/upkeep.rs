//! Periodic upkeep of a member of the group: limits the bytes of the log, finishes interrupted membership changes,
//! and detects a disk that hangs.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::limits::{METADATA_STUCK, RAFT_CHECKPOINT_BYTES, RAFT_LOG_HELD_BYTES, RAFT_LOG_KEPT_BYTES};

use super::Peer;
use super::group::Group;
use crate::db::other_masters::OtherMasters;

/// Interval between checks for a disk that hangs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Group {
    /// Runs all upkeep once; called about once a second.
    pub async fn tend(&self) {
        self.machine().drop_unused();
        self.write_other_masters();
        self.shorten_log().await;
        if let Err(error) = self.finish_change().await {
            tracing::debug!(%error, "an interrupted membership change is not finished yet");
        }
    }

    /// Stores the addresses of the other masters beside the metadata when they change.
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
            Err(error) => {
                tracing::warn!(%error, "the addresses of the other masters could not be stored beside the metadata");
            }
        }
    }

    /// Limits the log in bytes. openraft counts entries, and one of them may be as large as ten thousand others.
    async fn shorten_log(&self) {
        let (log, machine) = (self.log(), self.machine());
        let bytes = log.disk_bytes();
        machine.too_long.store(bytes > RAFT_LOG_HELD_BYTES, Ordering::Relaxed);
        let due = log.bytes_after(machine.covered()) > RAFT_CHECKPOINT_BYTES;
        machine.due.store(due, Ordering::Relaxed);
        if due {
            let _ = self.raft().trigger().snapshot().await;
        }
        // A single master has no follower that could need old entries.
        let alone = self.metrics().membership_config.membership().nodes().count() < 2;
        let kept = if alone { RAFT_CHECKPOINT_BYTES } else { RAFT_LOG_KEPT_BYTES };
        if bytes > kept
            && let Some(last) = log.last_beyond(kept)
        {
            // openraft purges no more than the reported checkpoint covers.
            let _ = self.raft().trigger().purge_log(last).await;
        }
    }

    /// Waits until this master cannot continue, and returns why: Raft has stopped, or the disk of its log hangs.
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
