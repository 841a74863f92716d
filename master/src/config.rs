//! What a master is told before it starts. Arguments become a `Config` once, in `main` or in the
//! all-in-one server; nothing below reads an argument or an environment variable.

use std::path::PathBuf;
use std::time::Duration;

use shared::clock::Clock;
use shared::http::tls::Tls;
use shared::http::trust::Trust;
use shared::limits::{
    ASYNC_EVERY, CLOCK_SKEW_MAX, COMMIT_TIMEOUT, DOWN_AFTER, ORPHAN_GRACE, RAFT_ENTRIES_KEPT, REPAIR_AFTER,
    REPAIR_RATE, REPLICAS_MAX, UPLOAD_EXPIRY,
};
use shared::secret::ClusterSecret;

use crate::audit::Audit;
use crate::tables::mode::Mode;

/// Everything a master needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    /// Volumes to ask who they are, as base URLs; those that register themselves need not be named.
    pub volumes: Vec<String>,
    /// Copies wanted of each value, and without which an upload fails.
    pub replication: Replication,
    /// Where volumes reach this master, as a base URL; its own listening address when none is given.
    pub advertise: Option<String>,
    /// Where clients reach it, as a base URL; as `advertise` when none is given.
    pub public_url: Option<String>,
    /// A volume that has been silent for so long is not used.
    pub down_after: Duration,
    /// The copies of a volume that has been silent for so long are made anew on others.
    pub repair_after: Duration,
    /// Bytes a second of copies that each volume takes in; 0 is no limit.
    pub repair_rate: u64,
    /// When an upload is acknowledged, where its bucket does not say it.
    pub mode: Mode,
    /// What is owed of asynchronous uploads is paid so often.
    pub async_every: Duration,
    /// A record that no object names is collected when it is this old.
    pub orphan_grace: Duration,
    /// Masters to join; a new directory begins a cluster of its own when there are none.
    pub join: Vec<String>,
    /// Whether a new directory waits to be taken into a cluster.
    pub wait: bool,
    /// Entries of the log that are kept for masters that were away.
    pub entries_kept: u64,
    /// Whether anybody may do anything as long as there is no access key; else nobody may.
    pub open: bool,
    /// Whether they may for any `Host` then; else for this machine and this master's own names, so that a browser cannot be
    /// made to ask in their place.
    pub any_host: bool,
    /// Whether values go through this master, for clients that cannot follow a redirect.
    pub no_redirect: bool,
    /// Where requests are noted, if they are.
    pub audit: Option<Audit>,
    /// What it shows to clients, where it speaks TLS.
    pub tls: Option<Tls>,
    /// Whom it believes where others do.
    pub trust: Trust,
    /// What servers of the cluster sign with.
    pub secret: ClusterSecret,
    /// How the S3 face is set up.
    pub s3: S3Settings,
    /// An upload in parts that was not completed goes when it is this old.
    pub upload_expiry: Duration,
    pub clock: Clock,
}

/// How the S3 API is set up.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// The only region that signatures may name; none: any.
    pub region: Option<String>,
    /// Buckets may stand in front of this domain.
    pub domain: Option<String>,
    /// Entity tags are made of BLAKE3, which is computed anyway, and not of MD5.
    pub blake3_etags: bool,
    /// Encryption by the server and other classes of storage may be asked for, and nothing is done.
    pub noop: bool,
}

/// How many copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    wanted: u8,
    min: u8,
}

/// The two numbers do not go together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("replicas must be between 1 and {REPLICAS_MAX}, and min-replicas between 1 and replicas")]
pub struct ReplicationError;

impl Replication {
    /// `min` is the majority of `wanted` when none is given.
    ///
    /// # Errors
    /// Unless 1 ≤ min ≤ wanted ≤ `REPLICAS_MAX`.
    pub fn new(wanted: usize, min: Option<usize>) -> Result<Self, ReplicationError> {
        let min = min.unwrap_or(wanted / 2 + 1);
        if min < 1 || min > wanted || wanted > REPLICAS_MAX {
            return Err(ReplicationError);
        }
        let small = |n: usize| u8::try_from(n).map_err(|_| ReplicationError);
        Ok(Self { wanted: small(wanted)?, min: small(min)? })
    }

    pub fn wanted(self) -> usize {
        usize::from(self.wanted)
    }

    /// Copies without which an upload fails.
    pub fn min(self) -> usize {
        usize::from(self.min)
    }

    /// How many copies are made before an upload is acknowledged, and without which it fails. The others are owed.
    #[must_use]
    pub fn at_once(self, mode: Mode) -> Self {
        match mode {
            Mode::Sync => self,
            Mode::Quorum => {
                let majority = self.wanted / 2 + 1;
                Self { wanted: majority, min: majority }
            }
            Mode::Async => Self { wanted: 1, min: 1 },
        }
    }
}

impl Config {
    /// The usual settings for a metadata directory.
    pub fn new(data: PathBuf, secret: ClusterSecret, replication: Replication) -> Self {
        Self {
            data,
            volumes: Vec::new(),
            replication,
            advertise: None,
            public_url: None,
            join: Vec::new(),
            wait: false,
            entries_kept: RAFT_ENTRIES_KEPT,
            down_after: DOWN_AFTER,
            repair_after: REPAIR_AFTER,
            repair_rate: REPAIR_RATE,
            mode: Mode::default(),
            async_every: ASYNC_EVERY,
            orphan_grace: ORPHAN_GRACE,
            open: true,
            any_host: false,
            no_redirect: false,
            audit: None,
            tls: None,
            trust: Trust::default(),
            secret,
            s3: S3Settings::default(),
            upload_expiry: UPLOAD_EXPIRY,
            clock: Clock::System,
        }
    }

    /// A receipt is good for a commit this long: never as long as it takes until its record may be
    /// collected as an orphan, so that no commit can name a record that is on its way out.
    pub fn receipt_lifetime(&self) -> Duration {
        (self.orphan_grace / 2).min(2 * (COMMIT_TIMEOUT + CLOCK_SKEW_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_copies() {
        let min = |w, m| Replication::new(w, m).map(Replication::min);
        assert_eq!([1, 2, 3, 5].map(|w| min(w, None).unwrap()), [1, 2, 2, 3]);
        assert_eq!(min(3, Some(1)), Ok(1));
        let now = |mode| Replication::new(5, Some(4)).map(|r| r.at_once(mode)).map(|r| (r.wanted(), r.min()));
        assert_eq!(
            [Mode::Sync, Mode::Quorum, Mode::Async].map(|m| now(m).unwrap()),
            [(5, 4), (3, 3), (1, 1)]
        );
        for (w, m) in [(0, None), (2, Some(3)), (2, Some(0)), (9, None)] {
            assert_eq!(min(w, m), Err(ReplicationError));
        }
    }
}
