//! What commands say of the expiry of an object.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;

/// The expiry of a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewExpiry {
    At(Timestamp),
    /// That of the value it replaces, if there is one.
    Keep,
}

/// Which expiry a key must have for `SetExpiry` (the options of Redis' EXPIRE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryCondition {
    /// `Some(true)`: it has one; `Some(false)`: it has none.
    pub present: Option<bool>,
    /// The new one must be later (`Greater`) or earlier (`Less`); none at all is the latest.
    pub order: Option<ExpiryOrder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpiryOrder {
    Greater,
    Less,
}

impl ExpiryCondition {
    /// Whether the change from the expiry `now` to `new` is permitted; `None` never expires.
    pub fn holds(self, now: Option<Timestamp>, new: Option<Timestamp>) -> bool {
        let end = |at: Option<Timestamp>| at.map_or(u64::MAX, Timestamp::unix_ms);
        let ordered = match self.order {
            None => true,
            Some(ExpiryOrder::Greater) => end(new) > end(now),
            Some(ExpiryOrder::Less) => end(new) < end(now),
        };
        ordered && self.present.is_none_or(|present| present == now.is_some())
    }
}
