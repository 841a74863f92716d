//! The configuration of a master. Arguments become a `Config` once, in `main` or in the all-in-one server; nothing
//! below that reads an argument or an environment variable.

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
use crate::tables::replication_mode::ReplicationMode;

/// All settings of a master.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    /// Base URLs of volumes to poll; volumes that register themselves need not be listed.
    pub volumes: Vec<String>,
    pub replication: Replication,
    /// Base URL at which volumes reach this master; by default its listening address.
    pub advertise: Option<String>,
    /// Base URL at which clients reach it; by default `advertise`.
    pub public_url: Option<String>,
    /// Silence after which a volume is down and not used.
    pub down_after: Duration,
    /// Silence after which a volume is lost: its replicas are re-created on others.
    pub repair_after: Duration,
    /// Bytes per second that each volume receives for repair and rebalancing; 0 means no limit.
    pub repair_rate: u64,
    /// Replication mode of buckets without a mode of their own.
    pub mode: ReplicationMode,
    /// Interval at which the missing replicas of `async` uploads are added.
    pub async_every: Duration,
    /// Age at which a record that no object references is deleted as an orphan.
    pub orphan_grace: Duration,
    /// Masters to join. If empty, a master with a new directory creates a cluster of its own, unless `wait`.
    pub join: Vec<String>,
    /// Whether a master with a new directory waits until it is added to a cluster.
    pub wait: bool,
    /// Log entries kept for masters that fall behind.
    pub entries_kept: u64,
    /// Whether every request is allowed while no access key exists; otherwise none is.
    pub open: bool,
    /// With `open`: whether for any `Host`. Otherwise only for this machine's and this master's own names, as a
    /// defence against DNS rebinding in a browser.
    pub any_host: bool,
    /// Whether all values are streamed through this master, for clients that cannot follow a redirect.
    pub no_redirect: bool,
    pub audit: Option<Audit>,
    /// Certificate and key, if this master speaks TLS.
    pub tls: Option<Tls>,
    /// Authorities whose certificates it accepts from other servers.
    pub trust: Trust,
    /// Key with which the cluster's servers sign calls, tickets and receipts.
    pub secret: ClusterSecret,
    pub s3: S3Settings,
    /// Age at which an unfinished multipart upload expires.
    pub upload_expiry: Duration,
    pub clock: Clock,
}

/// Settings of the S3 API.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// The only region that signatures may name; `None` accepts any.
    pub region: Option<String>,
    /// Domain for virtual-host addressing: `BUCKET.DOMAIN`.
    pub domain: Option<String>,
    /// Whether entity tags are BLAKE3, which is computed anyway, instead of MD5.
    pub blake3_etags: bool,
    /// Whether requests for server-side encryption or another storage class are accepted without effect.
    pub noop: bool,
}

/// Replication factor, and the minimum of replicas that an upload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    wanted: u8,
    min: u8,
}

/// The two numbers of a `Replication` are out of range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("--replicas must be between 1 and {REPLICAS_MAX}, and --min-replicas between 1 and --replicas")]
pub struct ReplicationError;

impl Replication {
    /// `min` defaults to the majority of `wanted`.
    ///
    /// # Errors
    /// Unless 1 ≤ `min` ≤ `wanted` ≤ `REPLICAS_MAX`.
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

    /// Durable replicas without which an upload fails (write quorum).
    pub fn min(self) -> usize {
        usize::from(self.min)
    }

    /// Returns the replicas written before an upload is acknowledged, and the minimum of them (write quorum). The
    /// repair queue holds the rest.
    #[must_use]
    pub fn at_once(self, mode: ReplicationMode) -> Self {
        match mode {
            ReplicationMode::Sync => self,
            ReplicationMode::Quorum => {
                let majority = self.wanted / 2 + 1;
                Self { wanted: majority, min: majority }
            }
            ReplicationMode::Async => Self { wanted: 1, min: 1 },
        }
    }
}

impl Config {
    /// Returns the default settings for a metadata directory.
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
            mode: ReplicationMode::default(),
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

    /// How long a receipt is valid for a commit: always less than the orphan grace, so that no commit can name a
    /// record that is about to be deleted as an orphan.
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
            [ReplicationMode::Sync, ReplicationMode::Quorum, ReplicationMode::Async].map(|m| now(m).unwrap()),
            [(5, 4), (3, 3), (1, 1)]
        );
        for (w, m) in [(0, None), (2, Some(3)), (2, Some(0)), (9, None)] {
            assert_eq!(min(w, m), Err(ReplicationError));
        }
    }
}
