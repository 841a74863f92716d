//! What a volume is told before it starts. Arguments become a `Config` once, in `main` or in the
//! all-in-one server; nothing below reads an argument or an environment variable.

use std::path::PathBuf;
use std::time::Duration;

use shared::clock::Clock;
use shared::http::tls::Tls;
use shared::http::trust::Trust;
use shared::limits::{RESERVE_BYTES, SCRUB_EVERY, SCRUB_RATE, SEGMENT_AGE, SEGMENT_BYTES};
use shared::ring::Zone;
use shared::secret::ClusterSecret;

/// What is checked of the bytes that clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reads {
    /// Every block, against its checksum, before it leaves.
    Verified,
    /// Nothing but header and trailer: bytes go from the page cache to the socket as they are, and what they are
    /// worth is what the last scrub says.
    ZeroCopy,
}

/// Everything a volume needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its directory: one volume per disk.
    pub data: PathBuf,
    /// Masters to register with, as base URLs, at least one that is up; none when the masters ask us.
    pub masters: Vec<String>,
    /// Where peers and masters reach it, as a base URL; its own listening address when none is given.
    pub advertise: Option<String>,
    /// Where clients reach it, as a base URL; as `advertise` when none is given.
    pub public_url: Option<String>,
    /// What it shares its fate with.
    pub zone: Option<Zone>,
    /// Segments are sealed when they pass this size.
    pub segment_bytes: u64,
    /// Segments are sealed when they pass this age.
    pub segment_age: Duration,
    /// Free bytes never given to clients.
    pub reserve_bytes: u64,
    /// Bytes of its disk that it may use; all of it when none are said.
    pub capacity_bytes: Option<u64>,
    /// What is checked of the bytes that clients read.
    pub reads: Reads,
    /// Bytes a second that the scrub reads; 0 turns it off.
    pub scrub_rate: u64,
    /// What was verified within this time is not verified again.
    pub scrub_every: Duration,
    /// What it shows to clients, where it speaks TLS.
    pub tls: Option<Tls>,
    /// Whom it believes where others do.
    pub trust: Trust,
    /// What servers of the cluster sign with.
    pub secret: ClusterSecret,
    /// The clock.
    pub clock: Clock,
}

impl Config {
    /// The usual settings for a directory.
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
