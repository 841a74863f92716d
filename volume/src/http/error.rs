//! Which status an error of the store gets.

use shared::wire::error::{ErrorCode, ErrorReply};

use crate::arrival::ArrivalError;
use crate::store::{DeleteError, ReadError, WriteError};
use crate::tombstones::TombstoneError;

impl From<WriteError> for ErrorReply {
    fn from(e: WriteError) -> Self {
        let (code, hint) = match &e {
            WriteError::Exists { .. } => {
                (ErrorCode::TicketUsed, "ask the master for a new ticket: send the upload there again")
            }
            WriteError::Busy { .. } => (ErrorCode::TooBusy, "try again in a moment"),
            WriteError::NoSpace { .. } => {
                (ErrorCode::NoSpace, "delete values (space comes back at once) or add a volume")
            }
            WriteError::ReadOnly(_) => {
                (ErrorCode::ReadOnly, "see the volume's status; send the upload to the master again")
            }
            WriteError::TooLong { .. } | WriteError::ShortBody { .. } => {
                (ErrorCode::WrongLength, "nothing was stored; send exactly the bytes that were announced")
            }
            WriteError::Metadata => (ErrorCode::BadHeader, "send less user metadata"),
            _ => (ErrorCode::Internal, "nothing was stored; see the volume's log, and send it again"),
        };
        Self::new(code, e.to_string(), hint)
    }
}

impl From<ArrivalError> for ErrorReply {
    fn from(e: ArrivalError) -> Self {
        let kept = "nothing was kept; see the volume's log, and ask for the copy again";
        let (code, hint) = match e {
            ArrivalError::TooMany | ArrivalError::UnderWay { .. } => {
                (ErrorCode::TooBusy, "ask for the copy again in a moment")
            }
            ArrivalError::Gone { .. } => (ErrorCode::NotFound, "nothing was kept; nothing is to be done"),
            ArrivalError::NoCopies(why) if why.is_forgotten() => {
                let what = format!("the blob is no longer expected here: {why}");
                return Self::new(ErrorCode::NotFound, what, "nothing was kept; nothing is to be done");
            }
            ArrivalError::NoCopies(_) | ArrivalError::Broken { .. } => {
                (ErrorCode::Unavailable, "ask for the copy again when masters and other volumes are up")
            }
            ArrivalError::OtherBytes { .. } => {
                (ErrorCode::WrongDigest, "nothing was kept; have the volumes that hold the blob verify it")
            }
            ArrivalError::Read(ReadError::Damaged { .. }) => (
                ErrorCode::Damaged,
                "a record that was here is being healed, a new one was not kept; ask for the copy again",
            ),
            ArrivalError::Write(e) => return e.into(),
            ArrivalError::Read(_) | ArrivalError::Failed { .. } => (ErrorCode::Internal, kept),
            ArrivalError::Delete(_) => (
                ErrorCode::Internal,
                "a record that should not be kept is here: delete the blob, or ask again",
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
            (ErrorCode::NoSpace, "make room on that volume's disk; it goes on by itself then")
        } else {
            (
                ErrorCode::Internal,
                "mend the disk and start the volume again; until then nothing is deleted there",
            )
        };
        Self::new(code, e.to_string(), hint)
    }
}
