//! Converts every error of the master to its error reply: code, and so HTTP status, message and hint.

use shared::wire::error::{ErrorCode, ErrorReply};

use crate::cluster::PlacementError;
use crate::raft::error::{AnswerError, NoLeader, WriteError};
use crate::raft::members::MemberError;
use crate::sequencer::ProposeError;
use crate::tables::TableError;
use crate::work::decommission::DecommissionError;

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
            "retry in a moment; `barge cluster masters` shows which masters are down",
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
                "retry: a plain PUT can be repeated; if the first try succeeded, a conditional write gets 412 now and a DELETE 404",
            ),
        }
    }
}

impl From<DecommissionError> for ErrorReply {
    fn from(e: DecommissionError) -> Self {
        match e {
            DecommissionError::Propose(e) => e.into(),
            DecommissionError::Tables(e) => e.into(),
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
            AnswerError::OtherCluster => ErrorCode::WrongCluster,
            AnswerError::Stopped { .. } | AnswerError::Io(_) | AnswerError::Unusable(_) => {
                ErrorCode::Internal
            }
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
            MemberError::Unknown { .. } => (ErrorCode::NotFound, "see `barge cluster masters`"),
            MemberError::Unconfirmed => {
                (ErrorCode::OutcomeUnknown, "see `barge cluster masters`, and retry: that is harmless")
            }
            MemberError::Underway => (ErrorCode::Unavailable, "retry in a moment"),
            MemberError::NotNew => (ErrorCode::WrongCluster, "start it with an empty directory and --wait"),
            MemberError::Refused { .. } => (ErrorCode::Unavailable, "retry in a moment"),
        };
        Self::new(code, e.to_string(), hint)
    }
}

impl From<PlacementError> for ErrorReply {
    fn from(e: PlacementError) -> Self {
        match &e {
            PlacementError::TooFewVolumes { .. } => Self::new(
                ErrorCode::Unavailable,
                e.to_string(),
                "see `barge cluster status`; bring volumes back, or lower --min-replicas",
            ),
            PlacementError::NoSpace { .. } => Self::new(
                ErrorCode::NoSpace,
                e.to_string(),
                "delete values (their space is freed at once) or add a volume",
            ),
        }
    }
}
