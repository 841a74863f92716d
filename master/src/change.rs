//! Metadata changes, from proposal to follow-up. The leader decides a command; the caller gets the answer once the
//! volumes have acknowledged its deletes. Both APIs and all workers that change something for a client use this.

mod deletes;
mod expiry;

use shared::key::Key;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::CommitOutcome;
use std::sync::Arc;

use shared::ids::BlobId;
use tokio::sync::Notify;

use self::expiry::ExpiryNotes;
use crate::delete_acks::DeleteAcks;
use crate::metadata::Metadata;
use crate::raft::error::WriteError;
use crate::sequencer::{ProposeError, Sequencer};
use crate::state::command::{Command, Commit, Outcome};
use crate::tables::TableError;
use crate::tables::object::Blob;
use crate::volumes::Volumes;

/// Takes all changes of the metadata.
#[derive(Debug)]
pub struct Changes {
    sequencer: Sequencer,
    /// To see what a change has deleted.
    metadata: Metadata,
    /// To know which volumes can acknowledge it.
    volumes: Arc<Volumes>,
    /// Requests that wait for volumes to acknowledge deletes.
    pub delete_acks: DeleteAcks,
    /// Wakes the reclaim worker.
    pub wake_reclaim: Arc<Notify>,
    /// Wakes the worker that removes what has expired.
    pub wake_expiry: Arc<Notify>,
    expiry_notes: Arc<ExpiryNotes>,
    /// Wakes the worker that removes unreferenced parts from the tables.
    pub wake_part_removal: Arc<Notify>,
}

/// What remains to be done after a command: what volumes must acknowledge.
#[derive(Debug, Default)]
struct FollowUp {
    /// Deleted if the command is refused.
    blob: Option<Blob>,
    /// Deleted, perhaps by an earlier command.
    key: Option<Key>,
    /// Has a new expiry.
    expiring: Option<Key>,
}

impl FollowUp {
    /// Returns the follow-up of a command that is about to be proposed.
    fn of(command: &Command) -> Self {
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
            Command::CommitExpiring { commit, .. } => {
                return Self { blob: blob_of(commit), key: None, expiring: Some(commit.key.clone()) };
            }
            Command::SetExpiry { key, .. } => {
                return Self { expiring: Some(key.clone()), ..Self::default() };
            }
            Command::Delete { key, .. } => (None, Some(key.clone())),
            _ => (None, None),
        };
        Self { blob, key, expiring: None }
    }
}

impl Changes {
    pub fn new(sequencer: Sequencer, metadata: Metadata, volumes: Arc<Volumes>) -> Self {
        Self {
            sequencer,
            metadata,
            volumes,
            delete_acks: DeleteAcks::default(),
            wake_reclaim: Arc::default(),
            wake_expiry: Arc::default(),
            expiry_notes: Arc::default(),
            wake_part_removal: Arc::default(),
        }
    }

    /// Proposes a command of a client; waits for its outcome and for the volumes to acknowledge what it deletes.
    ///
    /// # Errors
    /// When there is no leader, or the outcome is unknown.
    pub async fn submit(&self, command: Command) -> Result<Outcome, ProposeError> {
        let left = FollowUp::of(&command);
        let outcome = self.sequencer.propose(command).await?;
        self.complete(left, &outcome).await;
        Ok(outcome)
    }

    /// Applies a change of access keys or bucket permissions if it is the next one after `sequence`.
    ///
    /// # Errors
    /// `Outdated` if another change came first; otherwise if the outcome is unknown.
    pub async fn submit_in_sequence(&self, sequence: u64, change: Command) -> Result<Outcome, ErrorReply> {
        let change = Box::new(change);
        match self.submit(Command::InSequence { sequence, change }).await? {
            Outcome::Outdated => Err(ErrorReply::new(
                ErrorCode::Outdated,
                "access keys or bucket settings have changed since they were read; nothing was changed",
                "read them again, then repeat the change if it is still wanted",
            )),
            outcome => Ok(outcome),
        }
    }

    /// As `submit`, for a command that another master forwards to this leader.
    ///
    /// # Errors
    /// When this master does not lead, or the outcome is unknown.
    pub async fn submit_as_leader(&self, command: Command) -> Result<Outcome, WriteError> {
        let left = FollowUp::of(&command);
        let outcome = self.sequencer.propose_as_leader(command).await?;
        self.complete(left, &outcome).await;
        Ok(outcome)
    }

    /// Proposes a command of a worker, and waits only for its outcome.
    ///
    /// # Errors
    /// When there is no leader, or the outcome is unknown.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        self.sequencer.propose(command).await
    }

    /// Allocates a blob id; the caller has awaited `Metadata::ensure_linearizable`.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn next_blob(&self) -> Result<BlobId, TableError> {
        self.sequencer.next_blob()
    }

    /// Returns when the volumes have acknowledged the deletes that `outcome` causes. On a follower it returns at
    /// once, since the leader has waited.
    async fn complete(&self, left: FollowUp, outcome: &Outcome) {
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
        let set = matches!(
            outcome,
            Outcome::Done | Outcome::Commit(CommitOutcome::Created | CommitOutcome::Replaced, _)
        );
        if let Some(key) = left.expiring.filter(|_| set) {
            self.wake_expiry.notify_one();
            self.tell_expiry(&key).await;
        }
        // The parts of a replaced or deleted object are removed, too.
        self.wake_part_removal.notify_one();
        match (outcome, left.blob, left.key) {
            (Outcome::Deleted(object), ..) => self.wait_for_acks(&object.blobs).await,
            (Outcome::NotFound, _, Some(key)) => self.wait_for_acks_of_key(&key).await,
            (_, Some(blob), _) if refused => self.wait_for_acks(&[blob]).await,
            (Outcome::Commit(CommitOutcome::Created, _), ..) => {}
            // There may be a new entry on the reclaim list.
            _ => self.wake_reclaim.notify_one(),
        }
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
