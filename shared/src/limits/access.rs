//! Access keys: how long their ids, secrets and notes may be, and how wrong ones are slowed down; and the log of who did what.

use std::time::Duration;

/// Longest id of an access key: S3's limit.
pub const ACCESS_ID_CHARS_MAX: usize = 128;
/// Shortest secret that somebody may choose: shorter ones are guessed.
pub const ACCESS_SECRET_CHARS_CHOSEN_MIN: usize = 16;
/// Longest secret of an access key: three times what we make ourselves.
pub const ACCESS_SECRET_CHARS_MAX: usize = 128;
/// Longest note on an access key, in bytes: a line.
pub const ACCESS_NOTE_BYTES_MAX: usize = 256;
/// Access keys in one page of their list: with the longest scopes and notes less than a message.
pub const ACCESS_KEYS_PAGE: usize = 128;

/// Wrong secrets of one key that a peer may show at once before it has to wait: a client that is set up wrongly and tries
/// again is told at once what is wrong, and to somebody who guesses so few are of no use.
pub const GUESSES_FREE: u32 = 100;
/// One of them is forgotten in this time.
pub const GUESS_FORGOTTEN: Duration = Duration::from_secs(1);
/// So long a suspected peer waits before what it shows is looked at.
pub const GUESS_DELAY: Duration = Duration::from_secs(1);
/// So many of one key and peer wait at once: with the delay, guesses a second.
pub const GUESSES_WAITING_EACH: usize = 16;
/// So many of all wait at once: each is a connection.
pub const GUESSES_WAITING: usize = 256;
/// Pairs of key and peer that are remembered, 200 bytes each; the one that was wrong least recently goes first.
pub const GUESSERS_MAX: usize = 4096;
/// Of one pair the log has a line so often at most ...
pub const GUESSES_LOGGED: Duration = Duration::from_secs(10);
/// ... and of all of them so many in that time.
pub const GUESSES_LINES: u32 = 10;

/// Lines that wait to be written to the audit log: at 2 KiB each at most 8 MiB. Beyond them lines are dropped.
pub const AUDIT_QUEUE: usize = 4096;
/// That the audit log cannot be written is said so often at most.
pub const AUDIT_TROUBLE_LOGGED: Duration = Duration::from_secs(10);
