//! Conversion of the store's errors into error codes (which give the status) and hints.

use shared::wire::error::{ErrorCode, ErrorReply};

use crate::replicas::incoming::AddReplicaError;
use crate::store::{DeleteError, ReadError, WriteError};
use crate::tombstones::TombstoneError;

impl From<WriteError> for ErrorReply {
    fn from(e: WriteError) -> Self {
        let (code, hint) = match &e {
            WriteError::Exists { .. } => {
                (ErrorCode::TicketUsed, "send the upload to the master again, for a new ticket")
            }
            WriteError::Busy { .. } => (ErrorCode::TooBusy, "retry in a moment"),
            WriteError::NoSpace { .. } => {
                (ErrorCode::NoSpace, "delete values (their space is freed at once) or add a volume")
            }
            WriteError::ReadOnly(_) => {
                (ErrorCode::ReadOnly, "see the volume's status; send the upload to the master again")
            }
            WriteError::TooLong { .. } | WriteError::ShortBody { .. } => {
                (ErrorCode::WrongLength, "nothing was stored; send exactly as many bytes as declared")
            }
            WriteError::Metadata => (ErrorCode::BadHeader, "send less user metadata"),
            _ => (ErrorCode::Internal, "nothing was stored; see the volume's log and retry"),
        };
        Self::new(code, e.to_string(), hint)
    }
}

impl From<AddReplicaError> for ErrorReply {
    fn from(e: AddReplicaError) -> Self {
        let kept = "nothing was kept; see the volume's log and retry";
        let (code, hint) = match e {
            AddReplicaError::TooMany | AddReplicaError::UnderWay { .. } => {
                (ErrorCode::TooBusy, "retry in a moment, to add the replica")
            }
            AddReplicaError::Gone { .. } => (ErrorCode::NotFound, "nothing was kept; no action is needed"),
            AddReplicaError::NoSources(why) if why.is_unreferenced() => {
                let what = format!("the blob is no longer expected here: {why}");
                return Self::new(ErrorCode::NotFound, what, "nothing was kept; no action is needed");
            }
            AddReplicaError::NoSources(_) | AddReplicaError::Broken { .. } => {
                (ErrorCode::Unavailable, "retry when the masters and the other volumes are up")
            }
            AddReplicaError::OtherBytes { .. } => {
                (ErrorCode::WrongDigest, "nothing was kept; have the volumes with a replica verify it")
            }
            AddReplicaError::Read(ReadError::Corrupt { .. }) => {
                (ErrorCode::Corrupt, "an existing record is being healed, a new one was not kept; retry")
            }
            AddReplicaError::Write(e) => return e.into(),
            AddReplicaError::Read(_) | AddReplicaError::Failed { .. } => (ErrorCode::Internal, kept),
            AddReplicaError::Delete(_) => (
                ErrorCode::Internal,
                "a record that should have been deleted is still here: delete the blob, or retry",
            ),
        };
        Self::new(code, e.to_string(), hint)
    }
}

impl From<DeleteError> for ErrorReply {
    fn from(e: DeleteError) -> Self {
        Self::new(ErrorCode::Internal, e.to_string(), "see the volume's log; deleting again is harmless")
    }
}

impl From<TombstoneError> for ErrorReply {
    fn from(e: TombstoneError) -> Self {
        let (code, hint) = if e.is_full() {
            (
                ErrorCode::NoSpace,
                "free space on that volume's disk; deletes then work again without a restart",
            )
        } else {
            (
                ErrorCode::Internal,
                "repair the disk and restart the volume; until then nothing is deleted there",
            )
        };
        Self::new(code, e.to_string(), hint)
    }
}
