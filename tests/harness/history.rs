//! What clients did to one key and what they saw, with the start and end of each operation: the input of
//! `linear` and `versions`.
//!
//! Each value is written at most once, so a value that is read identifies its write.

use std::collections::HashMap;
use std::fmt;

use shared::ids::BlobId;

/// A value, as the number of its write.
pub type ValueId = u64;

/// The end of an operation whose outcome is unknown: it may take effect at any time after its start, or never.
pub const NEVER: u64 = u64::MAX;

/// The requested operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// An unconditional write.
    Put(ValueId),
    /// `If-None-Match: *`, or POST.
    PutIfAbsent(ValueId),
    PutIfMatch {
        /// The expected value.
        expected: ValueId,
        /// The new value.
        value: ValueId,
    },
    Delete,
    /// GET or HEAD.
    Read,
}

impl Call {
    /// Returns the value that the call would write.
    pub fn brings(self) -> Option<ValueId> {
        match self {
            Self::Put(value) | Self::PutIfAbsent(value) | Self::PutIfMatch { value, .. } => Some(value),
            Self::Delete | Self::Read => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An acknowledged write or delete.
    Done,
    /// 412, 409, or 404 of a delete: the precondition failed.
    Refused,
    /// The value that a read found.
    Saw(Option<ValueId>),
    Unknown,
}

/// One operation on the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub call: Call,
    pub outcome: Outcome,
    /// Start, in microseconds of one clock.
    pub invoked: u64,
    /// End; `NEVER` if the outcome is unknown.
    pub returned: u64,
    /// The generation created, seen or deleted, as far as the answer named one.
    pub generation: Option<BlobId>,
    /// Method and server, for people.
    pub via: String,
}

impl Operation {
    /// Reports whether it ended before `other` started.
    pub fn precedes(&self, other: &Self) -> bool {
        self.returned < other.invoked
    }

    /// Reports whether it has no visible effect: reads and refusals.
    pub fn is_harmless(&self) -> bool {
        matches!(self.outcome, Outcome::Refused | Outcome::Saw(_))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: u64| format!("{}.{:03}", micros / 1000, micros % 1000);
        let until = if self.returned == NEVER { "?".into() } else { ms(self.returned) };
        write!(f, "{:>12} .. {until:<12} client {:<2} ", ms(self.invoked), self.client)?;
        match self.call {
            Call::Put(v) => write!(f, "put {v}")?,
            Call::PutIfAbsent(v) => write!(f, "put {v} if absent")?,
            Call::PutIfMatch { expected, value } => write!(f, "put {value} if {expected}")?,
            Call::Delete => write!(f, "delete")?,
            Call::Read => write!(f, "read")?,
        }
        match self.outcome {
            Outcome::Done => write!(f, ": done")?,
            Outcome::Refused => write!(f, ": refused")?,
            Outcome::Saw(None) => write!(f, ": nothing there")?,
            Outcome::Saw(Some(v)) => write!(f, ": {v}")?,
            Outcome::Unknown => write!(f, ": unknown")?,
        }
        if let Some(generation) = self.generation {
            write!(f, ", generation {generation}")?;
        }
        write!(f, "  [{}]", self.via)
    }
}

/// The value of each generation that an answer named.
pub fn values(operations: &[Operation]) -> HashMap<BlobId, ValueId> {
    let value = |o: &Operation| match (o.call, o.outcome) {
        (Call::Read, Outcome::Saw(value)) => value,
        (call, Outcome::Done) => call.brings(),
        _ => None,
    };
    operations.iter().filter_map(|o| Some((o.generation?, value(o)?))).collect()
}
