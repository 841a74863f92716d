//! Limits of access keys: lengths, and how wrong secrets are slowed down; and of the audit log.

use std::time::Duration;

/// Longest access key id, in characters: S3's limit.
pub const ACCESS_ID_CHARS_MAX: usize = 128;
/// Shortest secret that a user may choose: shorter ones can be guessed.
pub const ACCESS_SECRET_CHARS_CHOSEN_MIN: usize = 16;
/// Longest secret of an access key: three times the generated one.
pub const ACCESS_SECRET_CHARS_MAX: usize = 128;
/// Longest note on an access key, in bytes: one line.
pub const ACCESS_NOTE_BYTES_MAX: usize = 256;
/// Access keys in one page of their list: with the longest scopes and notes less than a message.
pub const ACCESS_KEYS_PAGE: usize = 128;

/// Wrong secrets for one key that a peer may show before it has to wait: a misconfigured client that retries learns
/// at once what is wrong, and to an attacker so few guesses are useless.
pub const GUESSES_FREE: u32 = 100;
/// Interval after which one wrong secret is forgotten.
pub const GUESS_FORGOTTEN: Duration = Duration::from_secs(1);
/// How long a request of a suspected peer waits before its secret is checked.
pub const GUESS_DELAY: Duration = Duration::from_secs(1);
/// Requests of one key and peer that wait at the same time; divided by the delay, guesses per second.
pub const GUESSES_WAITING_EACH: usize = 16;
/// Requests of all keys and peers that wait at the same time: each is a connection.
pub const GUESSES_WAITING: usize = 256;
/// Pairs of key and peer that are remembered, 200 bytes each; the pair whose last wrong secret is oldest
/// is evicted first.
pub const GUESSERS_MAX: usize = 4096;
/// Shortest interval between log lines about one pair.
pub const GUESSES_LOGGED: Duration = Duration::from_secs(10);
/// Log lines about all pairs in `GUESSES_LOGGED`.
pub const GUESSES_LINES: u32 = 10;

/// Lines waiting to be written to the audit log: at 2 KiB each at most 8 MiB. Further ones are dropped.
pub const AUDIT_QUEUE: usize = 4096;
/// Shortest interval between log lines that say the audit log cannot be written.
pub const AUDIT_TROUBLE_LOGGED: Duration = Duration::from_secs(10);
