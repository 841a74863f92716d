//! Metadata changes for clients, from proposal to follow-up. The leader decides a command; the caller gets the answer
//! once the volumes have acknowledged its deletes. Both APIs and all workers that change something for a client use
//! this.

mod deletes;

use shared::key::Key;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::CommitOutcome;

use crate::master::Master;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Commit, Outcome};
use crate::tables::object::Blob;
use deletes::{wait_for_acks, wait_for_acks_of_key};

/// What remains to be done after a command: deletes that volumes must acknowledge.
#[derive(Debug)]
pub struct FollowUp {
    blob: Option<Blob>,
    key: Option<Key>,
}

impl FollowUp {
    /// Returns the follow-up of a command that is about to be proposed.
    pub fn of(command: &Command) -> Self {
        let blob_of = |commit: &Commit| {
            let (id, length) = (commit.blob, commit.size);
            Some(Blob { id, length, replicas: commit.replicas.clone() })
        };
        let (blob, key) = match command {
            Command::Commit(commit) => (blob_of(commit), None),
            Command::CommitS3(store) | Command::CompleteMultipartUpload { store, .. } => {
                (blob_of(&store.commit), None)
            }
            Command::PutPart { part, .. } => {
                let (id, length) = (part.part.blob, part.part.length);
                (Some(Blob { id, length, replicas: part.replicas.clone() }), None)
            }
            Command::Delete { key, .. } => (None, Some(key.clone())),
            _ => (None, None),
        };
        Self { blob, key }
    }

    /// Returns when the volumes have acknowledged the deletes that `outcome` causes. On a follower it returns at
    /// once, since the leader has waited.
    pub async fn complete(self, master: &Master, outcome: &Outcome) {
        let refused = matches!(
            outcome,
            Outcome::Commit(
                CommitOutcome::ConditionFailed | CommitOutcome::NotEnoughReceipts | CommitOutcome::Overtaken,
                _
            ) | Outcome::NoBucket
                | Outcome::NoUpload
                | Outcome::PartsChanged
                | Outcome::NotEnoughReceipts
        );
        // The parts of a replaced or deleted object are removed, too.
        master.wake_part_removal.notify_one();
        match (outcome, self.blob, self.key) {
            (Outcome::Deleted(object), ..) => wait_for_acks(master, &object.blobs).await,
            (Outcome::NotFound, _, Some(key)) => wait_for_acks_of_key(master, &key).await,
            (_, Some(blob), _) if refused => wait_for_acks(master, &[blob]).await,
            (Outcome::Commit(CommitOutcome::Created, _), ..) => {}
            // There may be a new entry on the reclaim list.
            _ => master.wake_reclaim.notify_one(),
        }
    }
}

impl Master {
    /// Applies a change of access keys or bucket permissions if it is the next one after `sequence`.
    ///
    /// # Errors
    /// `Outdated` if another change came first; otherwise if the outcome is unknown.
    pub async fn change_in_sequence(&self, sequence: u64, change: Command) -> Result<Outcome, ErrorReply> {
        let change = Box::new(change);
        match self.change(Command::InSequence { sequence, change }).await? {
            Outcome::Outdated => Err(ErrorReply::new(
                ErrorCode::Outdated,
                "access keys or bucket settings have changed since they were read; nothing was changed",
                "read them again, then repeat the change if it is still wanted",
            )),
            outcome => Ok(outcome),
        }
    }

    /// Proposes a command and waits for its outcome and its follow-up.
    ///
    /// # Errors
    /// When there is no leader, or the outcome is unknown.
    pub async fn change(&self, command: Command) -> Result<Outcome, ProposeError> {
        let left = FollowUp::of(&command);
        let outcome = self.sequencer.propose(command).await?;
        left.complete(self, &outcome).await;
        Ok(outcome)
    }
}

/// Returns the error for an outcome that the caller of a command does not expect.
pub fn unexpected(outcome: &Outcome) -> ErrorReply {
    match outcome {
        Outcome::Corrupt => ErrorReply::new(
            ErrorCode::Internal,
            "a metadata record of this key is corrupt; nothing was changed",
            "see the master's log; the values on the volumes are not affected",
        ),
        Outcome::Commit(..)
        | Outcome::Deleted(_)
        | Outcome::NotFound
        | Outcome::ConditionFailed
        | Outcome::Done
        | Outcome::NoBucket
        | Outcome::BucketExists
        | Outcome::BucketNotEmpty
        | Outcome::NoUpload
        | Outcome::CompletedBefore(_)
        | Outcome::PartsChanged
        | Outcome::NotEnoughReceipts
        | Outcome::LastReplicas
        | Outcome::Outdated => {
            tracing::error!(?outcome, "unexpected outcome of a command");
            ErrorReply::new(
                ErrorCode::Internal,
                "the change had an unexpected outcome: this is a bug in the master",
                "check whether the change was made; please report the line in the master's log",
            )
        }
    }
}
