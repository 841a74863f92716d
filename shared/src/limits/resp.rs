//! Limits of the Redis protocol: what one connection may hold in memory.

/// Arguments of one command.
pub const RESP_ARGUMENTS_MAX: usize = 4096;
/// Bytes of all arguments of one command, without the value of a SET: a thousand keys of the longest kind.
pub const RESP_ARGUMENTS_BYTES: usize = 1 << 20;
/// Bytes of one argument that is not the value of a SET.
pub const RESP_ARGUMENT_BYTES: usize = 64 << 10;
/// Arguments of one command before the client has shown an access key, as in Redis.
pub const RESP_UNKNOWN_ARGUMENTS_MAX: usize = 10;
/// Bytes of all arguments of one command before the client has shown an access key.
pub const RESP_UNKNOWN_ARGUMENTS_BYTES: usize = 20 << 10;
/// Bytes of one argument before the client has shown an access key, as in Redis.
pub const RESP_UNKNOWN_ARGUMENT_BYTES: usize = 16 << 10;
/// Longest inline command, as in Redis.
pub const RESP_INLINE_BYTES: usize = 64 << 10;
/// Bytes of a value that are read at once.
pub const RESP_PIECE_BYTES: usize = 64 << 10;
/// Pieces of a value that wait for the volumes.
pub const RESP_PIECES_AHEAD: usize = 2;
/// Replies that wait while more commands are there already.
pub const RESP_REPLIES_BYTES: usize = 64 << 10;
/// Bytes of a refused value that are read and dropped, so that the connection can go on: a tenth of a second.
pub const RESP_SKIPPED_BYTES: u64 = 16 << 20;
/// Longest name of a client.
pub const RESP_CLIENT_NAME_BYTES: usize = 256;
/// Cursors of SCAN that a master remembers: at 1 KiB each 16 MiB.
pub const RESP_CURSORS_MAX: usize = 16 << 10;
/// Cursors of one access key: as many scans at once.
pub const RESP_CURSORS_EACH: usize = 1024;
/// Bytes of keys in one reply to SCAN: what an unread reply may hold, as on the other APIs.
pub const RESP_SCAN_BYTES: usize = 64 << 10;
/// Keys that one call of SCAN looks at, at most.
pub const RESP_SCAN_COUNT_MAX: usize = 1000;
/// Keys in one reply to KEYS.
pub const RESP_KEYS_MAX: usize = 1000;
/// Keys that one KEYS looks at.
pub const RESP_KEYS_SEEN_MAX: usize = 100_000;
/// Steps of matching in one call of SCAN or KEYS: a tenth of a second.
pub const RESP_MATCH_STEPS: u64 = 20_000_000;
/// Calls of SCAN and KEYS at once; the others wait.
pub const RESP_SCANS_AT_ONCE: usize = 8;
/// Commands that a client may have refused for lack of an access key before its connection ends.
pub const RESP_REFUSED_MAX: u32 = 10;

const _: () = assert!(RESP_UNKNOWN_ARGUMENT_BYTES <= RESP_ARGUMENT_BYTES);
const _: () = assert!(RESP_UNKNOWN_ARGUMENTS_MAX <= RESP_ARGUMENTS_MAX);
