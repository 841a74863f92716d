//! Calls between servers: how long each may take, how long it is good, and what is remembered of it.

use std::time::Duration;

/// A server takes calls under one name for this long, and under the one before for as long again: so long it remembers each.
pub const RECIPIENT_LIFETIME: Duration = Duration::from_secs(120);
/// Calls that are remembered for one name; after as many a server takes a new one earlier. About 2 MiB.
pub const CALLS_REMEMBERED: usize = 1 << 16;
/// Peers whose names are remembered.
pub const RECIPIENTS_MAX: usize = 4096;
/// Refused calls are logged at most this often, with how many there were.
pub const REFUSED_CALLS_LOGGED: Duration = Duration::from_secs(10);
/// A signed internal call is good for this long, either way.
pub const CALL_LIFETIME: Duration = Duration::from_secs(120);
/// Connecting to a peer. Peers are on a local network; a dead one must not hold a request.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An internal call that carries no value.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections to peers are closed by us before the peer's own idle limit closes them.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// A body that is an internal message, not a value.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
