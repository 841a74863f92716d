//! What clients did to one key and what they saw, with the times at which each operation began and ended: the
//! material of `linear` and `versions`.
//!
//! Every value is written once at most, so that whoever sees a value knows the write it comes from.

use std::collections::HashMap;
use std::fmt;

use shared::ids::BlobId;

/// A value, by the number of the write that brought it.
pub type ValueId = u64;

/// The end of an operation whose outcome is unknown: it may take effect at any time from its beginning on, or never.
pub const NEVER: u64 = u64::MAX;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// An unconditional write.
    Put(ValueId),
    /// `If-None-Match: *`, or POST.
    PutIfAbsent(ValueId),
    PutIfMatch {
        /// The value that must be there.
        expected: ValueId,
        /// The value that takes its place.
        value: ValueId,
    },
    Delete,
    /// GET or HEAD.
    Read,
}

impl Call {
    /// The value it brings.
    pub fn brings(self) -> Option<ValueId> {
        match self {
            Self::Put(value) | Self::PutIfAbsent(value) | Self::PutIfMatch { value, .. } => Some(value),
            Self::Delete | Self::Read => None,
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A write or a delete that was acknowledged.
    Done,
    /// 412, 409; 404 of a delete: the state of the key was not what it must be.
    Refused,
    /// What a read found.
    Saw(Option<ValueId>),
    Unknown,
}

/// One operation on the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub call: Call,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began, in microseconds of one clock.
    pub invoked: u64,
    /// When it ended; `NEVER` when its outcome is unknown.
    pub returned: u64,
    /// The generation that was made, seen or deleted, as far as the answer named one.
    pub generation: Option<BlobId>,
    /// By which way: method and server, for people.
    pub via: String,
}

impl Operation {
    /// Whether it was over before `other` began.
    pub fn precedes(&self, other: &Self) -> bool {
        self.returned < other.invoked
    }

    /// Whether nobody can notice it: reads and refusals.
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
