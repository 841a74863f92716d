//! Limits of calls between servers: how long each may take, how long its signature is valid, and what is
//! remembered of it.

use std::time::Duration;

/// How long a server takes calls under one recipient name, and after that under the old one, too; so long
/// it remembers them.
pub const RECIPIENT_LIFETIME: Duration = Duration::from_secs(120);
/// Calls that are remembered for one name, about 2 MiB; a server that gets more takes a new name earlier.
pub const CALLS_REMEMBERED: usize = 1 << 16;
/// Peers whose recipient names are remembered.
pub const RECIPIENTS_MAX: usize = 4096;
/// Shortest interval between log lines about refused calls; each line says how many there were.
pub const REFUSED_CALLS_LOGGED: Duration = Duration::from_secs(10);
/// How long a signed internal call is valid, before and after the receiver's time.
pub const CALL_LIFETIME: Duration = Duration::from_secs(120);
/// Time limit for connecting to a peer. Peers are on a local network; a dead one must not hold a request.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of an internal call that carries no value.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections to peers are closed after this time, before the peer's own idle limit closes them.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest body that is an internal message, not a value.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
