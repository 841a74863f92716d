//! What servers remember of each other's calls.

use std::time::Duration;

/// A server takes calls under one name for this long, and under the one before for as long again: so long it remembers each.
pub const RECIPIENT_LIFETIME: Duration = Duration::from_secs(120);
/// Calls that are remembered for one name; after as many a server takes a new one earlier. About 2 MiB.
pub const CALLS_REMEMBERED: usize = 1 << 16;
/// Peers whose names are remembered.
pub const RECIPIENTS_MAX: usize = 4096;
/// Refused calls are logged at most this often, with how many there were.
pub const REFUSED_CALLS_LOGGED: Duration = Duration::from_secs(10);
