//! Which status an error gets: every error of the master as what a client is told.

use shared::wire::error::{ErrorCode, ErrorReply};

use crate::cluster::NoPlace;
use crate::sequencer::OutcomeUnknown;
use crate::tables::TableError;

impl From<TableError> for ErrorReply {
    fn from(e: TableError) -> Self {
        Self::new(
            ErrorCode::Internal,
            e.to_string(),
            "see the master's log; the values on the volumes are not affected",
        )
    }
}

impl From<OutcomeUnknown> for ErrorReply {
    fn from(e: OutcomeUnknown) -> Self {
        Self::new(
            ErrorCode::OutcomeUnknown,
            e.to_string(),
            "try again: repeating a PUT or DELETE is harmless",
        )
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
