//! The configuration of a volume. Arguments become a `Config` once, in `main` or in the all-in-one server; nothing
//! else reads an argument or an environment variable.

use std::path::PathBuf;
use std::time::Duration;

use shared::clock::Clock;
use shared::http::tls::Tls;
use shared::http::trust::Trust;
use shared::limits::{RESERVE_BYTES, SCRUB_EVERY, SCRUB_RATE, SEGMENT_AGE, SEGMENT_BYTES};
use shared::ring::Zone;
use shared::secret::ClusterSecret;

/// What is verified of the bytes that clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reads {
    /// Every block is verified against its checksum before it is sent.
    Verified,
    /// Only header and trailer are verified: bytes go from the page cache to the socket unverified, and corruption is
    /// found by the scrub only.
    ZeroCopy,
}

/// The configuration of a volume.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directory: one volume per disk.
    pub data: PathBuf,
    /// Masters to register with, as base URLs, at least one of them up; empty if the masters list this volume.
    pub masters: Vec<String>,
    /// Base URL for masters and other volumes; the listening address if `None`.
    pub advertise: Option<String>,
    /// Base URL for clients; `advertise` if `None`.
    pub public_url: Option<String>,
    pub zone: Option<Zone>,
    /// Size at which a segment is sealed.
    pub segment_bytes: u64,
    /// Age at which a segment is sealed.
    pub segment_age: Duration,
    /// Free bytes kept back from clients.
    pub reserve_bytes: u64,
    /// Bytes of the disk that the volume may use; all of it if `None`.
    pub capacity_bytes: Option<u64>,
    /// What is verified of the bytes that clients read.
    pub reads: Reads,
    /// Bytes per second that the scrub reads; 0 turns it off.
    pub scrub_rate: u64,
    /// How long the scrub skips a segment that it has verified.
    pub scrub_every: Duration,
    /// Server certificate and key, for TLS.
    pub tls: Option<Tls>,
    /// The authorities trusted in other servers' certificates.
    pub trust: Trust,
    /// The secret that the servers of the cluster sign with.
    pub secret: ClusterSecret,
    pub clock: Clock,
}

impl Config {
    /// Returns the default settings for a data directory.
    pub fn new(data: PathBuf, secret: ClusterSecret) -> Self {
        Self {
            data,
            masters: Vec::new(),
            advertise: None,
            public_url: None,
            zone: None,
            segment_bytes: SEGMENT_BYTES,
            segment_age: SEGMENT_AGE,
            reserve_bytes: RESERVE_BYTES,
            capacity_bytes: None,
            reads: Reads::Verified,
            scrub_rate: SCRUB_RATE,
            scrub_every: SCRUB_EVERY,
            tls: None,
            trust: Trust::default(),
            secret,
            clock: Clock::System,
        }
    }
}
