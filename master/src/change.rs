//! A change of the metadata, carried to its end: decided by the leader, and whoever asked is answered when what it left over
//! is known where it must be. Every face and worker of a master that changes something for a client comes through here.

mod deletes;

use shared::key::Key;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::CommitOutcome;

use crate::master::Master;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Commit, Outcome};
use crate::tables::object::Blob;
use deletes::{acknowledged, acknowledged_again};

/// What a command may leave over.
#[derive(Debug)]
pub struct Left {
    blob: Option<Blob>,
    key: Option<Key>,
}

impl Left {
    /// Of a command that is about to be proposed.
    pub fn of(command: &Command) -> Self {
        let blob_of = |commit: &Commit| {
            let (id, length) = (commit.blob, commit.size);
            Some(Blob { id, length, replicas: commit.replicas.clone() })
        };
        let (blob, key) = match command {
            Command::Commit(commit) => (blob_of(commit), None),
            Command::Store(store) | Command::Complete { store, .. } => (blob_of(&store.commit), None),
            Command::PutPart { part, .. } => {
                let (id, length) = (part.part.blob, part.part.length);
                (Some(Blob { id, length, replicas: part.replicas.clone() }), None)
            }
            Command::Delete { key, .. } => (None, Some(key.clone())),
            _ => (None, None),
        };
        Self { blob, key }
    }

    /// Returns when what is left over is known where it must be; on another master than the leader at once, since the
    /// leader has waited.
    pub async fn settle(self, master: &Master, outcome: &Outcome) {
        let refused = matches!(
            outcome,
            Outcome::Commit(
                CommitOutcome::ConditionFailed | CommitOutcome::NotEnoughReceipts | CommitOutcome::Overtaken,
                _
            ) | Outcome::NoBucket
                | Outcome::NoUpload
                | Outcome::PartsChanged
        );
        // The parts of what was replaced or deleted go, too.
        master.scrap.notify_one();
        match (outcome, self.blob, self.key) {
            (Outcome::Deleted(object), ..) => acknowledged(master, &object.blobs).await,
            (Outcome::NotFound, _, Some(key)) => acknowledged_again(master, &key).await,
            (_, Some(blob), _) if refused => acknowledged(master, &[blob]).await,
            (Outcome::Commit(CommitOutcome::Created, _), ..) => {}
            // Something may be on the reclaim list.
            _ => master.reclaim.notify_one(),
        }
    }
}

impl Master {
    /// Has a change of access keys, or of what buckets permit, carried out if it is the next one after `sequence`.
    ///
    /// # Errors
    /// `Outdated` when another one came before it; when that is not known to have happened.
    pub async fn change_in_sequence(&self, sequence: u64, change: Command) -> Result<Outcome, ErrorReply> {
        let change = Box::new(change);
        match self.change(Command::InSequence { sequence, change }).await? {
            Outcome::Outdated => Err(ErrorReply::new(
                ErrorCode::Outdated,
                "access keys or settings of buckets have changed since they were read; nothing was changed",
                "look at them again, then repeat what is still wanted",
            )),
            outcome => Ok(outcome),
        }
    }

    /// Has a command carried out.
    ///
    /// # Errors
    /// When that is not known to have happened.
    pub async fn change(&self, command: Command) -> Result<Outcome, ProposeError> {
        let left = Left::of(&command);
        let outcome = self.sequencer.propose(command).await?;
        left.settle(self, &outcome).await;
        Ok(outcome)
    }
}

/// The error of a command whose outcome is none of those that its caller has an answer for.
pub fn unexpected(outcome: &Outcome) -> ErrorReply {
    match outcome {
        Outcome::Damaged => ErrorReply::new(
            ErrorCode::Internal,
            "a metadata record of this key is damaged; nothing was changed",
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
        | Outcome::LastCopies
        | Outcome::Outdated => {
            tracing::error!(?outcome, "a command has an outcome that it cannot have");
            ErrorReply::new(
                ErrorCode::Internal,
                "the change has an outcome that it cannot have: this is a bug in the master",
                "check whether the change was made; please report the line of the master's log",
            )
        }
    }
}
