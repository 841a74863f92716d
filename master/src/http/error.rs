//! Which status an error gets: every error of the master as what a client is told.

use shared::wire::error::{ErrorCode, ErrorReply};

use crate::cluster::NoPlace;
use crate::raft::error::{AnswerError, NoLeader, WriteError};
use crate::raft::members::MemberError;
use crate::sequencer::ProposeError;
use crate::tables::TableError;
use crate::work::leave::LeaveError;

impl From<TableError> for ErrorReply {
    fn from(e: TableError) -> Self {
        Self::new(
            ErrorCode::Internal,
            e.to_string(),
            "see the master's log; the values on the volumes are not affected",
        )
    }
}

impl From<NoLeader> for ErrorReply {
    fn from(e: NoLeader) -> Self {
        Self::new(
            ErrorCode::Unavailable,
            e.to_string(),
            "try again in a moment; see `barge cluster masters` for those that are down",
        )
    }
}

impl From<ProposeError> for ErrorReply {
    fn from(e: ProposeError) -> Self {
        match e {
            ProposeError::NoLeader(e) => e.into(),
            ProposeError::OutcomeUnknown => Self::new(
                ErrorCode::OutcomeUnknown,
                e.to_string(),
                "try again: a plain PUT does no harm twice; if the first try has done it, one with a condition is told 412 then, and a DELETE 404",
            ),
        }
    }
}

impl From<LeaveError> for ErrorReply {
    fn from(e: LeaveError) -> Self {
        match e {
            LeaveError::Propose(e) => e.into(),
            LeaveError::Tables(e) => e.into(),
        }
    }
}

impl From<WriteError> for ErrorReply {
    fn from(e: WriteError) -> Self {
        match e {
            WriteError::NotLeader => Self::new(ErrorCode::NotLeader, e.to_string(), "ask another master"),
            WriteError::Unknown => ProposeError::OutcomeUnknown.into(),
        }
    }
}

impl From<AnswerError> for ErrorReply {
    fn from(e: AnswerError) -> Self {
        let code = match &e {
            AnswerError::Misdirected(_) => ErrorCode::WrongMaster,
            AnswerError::NotWhole => ErrorCode::BadBody,
            AnswerError::Stopped(_) | AnswerError::Io(_) | AnswerError::Unusable(_) => ErrorCode::Internal,
        };
        Self::new(code, e.to_string(), "see the log of this master")
    }
}

impl From<MemberError> for ErrorReply {
    fn from(e: MemberError) -> Self {
        let (code, hint) = match &e {
            MemberError::NoLeader(_) => (ErrorCode::NotLeader, "ask another master"),
            MemberError::TooMany | MemberError::Last => {
                (ErrorCode::BadRequest, "see `barge cluster masters`")
            }
            MemberError::Unknown(_) => (ErrorCode::NotFound, "see `barge cluster masters`"),
            MemberError::Unconfirmed => {
                (ErrorCode::OutcomeUnknown, "see `barge cluster masters`, and ask again: that is harmless")
            }
            MemberError::Underway => (ErrorCode::Unavailable, "try again in a moment"),
            MemberError::NotNew => (ErrorCode::WrongCluster, "start it with an empty directory and --wait"),
            MemberError::Refused(_) => (ErrorCode::Unavailable, "try again in a moment"),
        };
        Self::new(code, e.to_string(), hint)
    }
}

impl From<NoPlace> for ErrorReply {
    fn from(e: NoPlace) -> Self {
        match &e {
            NoPlace::TooFewVolumes { .. } => Self::new(
                ErrorCode::Unavailable,
                e.to_string(),
                "see `barge cluster status`; bring volumes back, or lower --min-replicas",
            ),
            NoPlace::NoSpace { .. } => Self::new(
                ErrorCode::NoSpace,
                e.to_string(),
                "delete values (space comes back at once) or add a volume",
            ),
        }
    }
}
