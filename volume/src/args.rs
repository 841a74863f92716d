//! The command line of `volume`, and how it becomes a `Config`. The one place of this crate where an
//! environment variable is read, by clap.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use shared::http::client::base_url_by;
use shared::http::tls::{Tls, TlsError, scheme};
use shared::http::trust::Trust;
use shared::limits::{RESERVE_BYTES, SCRUB_RATE, SEGMENT_BYTES, SEGMENT_BYTES_MAX};
use shared::ring::Zone;
use shared::secret::{ClusterSecret, SecretError};
use shared::size::{self, ByteSize};
use shared::telemetry::LogFormat;

use crate::config::{Config, Reads};

/// Barge's volume server: values on one disk.
///
///   PORT=3002 volume ./volume2/                          a master that lists it asks it
///   volume --master http://localhost:3000 ./volume2/     it registers itself
#[derive(Clone, Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub struct Args {
    /// The volume's directory; one volume per disk.
    data: PathBuf,
    /// Masters to register with, as http://HOST:PORT separated by commas; each tells of the others.
    #[arg(long, value_delimiter = ',')]
    master: Vec<String>,
    /// Port on 127.0.0.1.
    #[arg(long, env = "PORT", default_value_t = 3001)]
    port: u16,
    /// Address to listen on instead of 127.0.0.1:PORT.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where peers and masters reach this volume, as http://HOST:PORT.
    #[arg(long)]
    advertise: Option<String>,
    /// Where clients reach this volume, as http://HOST:PORT.
    #[arg(long)]
    public_url: Option<String>,
    /// What it shares its fate with: replicas go to different zones first.
    #[arg(long)]
    zone: Option<Zone>,
    /// Segments are sealed when they pass this many bytes.
    #[arg(long, value_name = "BYTES", default_value_t = SEGMENT_BYTES, value_parser = segment_bytes)]
    segment_size: u64,
    /// Segments are sealed when they pass this age.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1d")]
    segment_age: Duration,
    /// Free bytes that are never given to values.
    #[arg(long, value_name = "BYTES", default_value_t = RESERVE_BYTES, value_parser = size::bytes)]
    reserve: u64,
    /// Bytes of its disk that this volume may use; all of it by default.
    #[arg(long, value_name = "BYTES", default_value_t = 0, hide_default_value = true, value_parser = size::bytes)]
    capacity: u64,
    /// Whether every block is checked before it leaves, or bytes go from the page cache to the socket as they are: a
    /// little faster, and only as good as the last scrub.
    #[arg(long, value_enum, default_value_t = Reads::Verified)]
    reads: Reads,
    /// Bytes a second that are read to verify what is stored; 0 turns it off.
    #[arg(long, value_name = "BYTES", default_value_t = SCRUB_RATE, value_parser = size::bytes)]
    scrub_rate: u64,
    /// What was verified within this time is not verified again.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "7d")]
    scrub_every: Duration,
    /// The cluster's secret; by default one in your configuration folder, made at the first start.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// Of no effect: a volume does nothing without a ticket of its masters, wherever it listens.
    #[arg(long, hide = true)]
    insecure_no_auth: bool,
    /// Speak TLS only, with the certificate chain in this PEM file; it is read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Trust other servers whose certificates are signed by one in this PEM file; by default the system's authorities.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// text or json.
    #[arg(long, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<String>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<String>,
}

/// The arguments do not go together.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing goes from the page cache to the socket as it is.
    #[error("--reads zero-copy is of no use with TLS, which copies every byte: leave one of them out")]
    ZeroCopy,
}

/// What a segment may have at most.
fn segment_bytes(text: &str) -> Result<u64, String> {
    match size::bytes(text) {
        Ok(bytes) if bytes > SEGMENT_BYTES_MAX => Err(format!("at most {}", ByteSize(SEGMENT_BYTES_MAX))),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

impl Args {
    /// Checks them. The second part is where to listen.
    ///
    /// # Errors
    /// When they do not go together, or the secret cannot be read.
    pub fn into_config(self) -> Result<(Config, SocketAddr), ArgsError> {
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], self.port)));
        let secret = ClusterSecret::find(
            self.secret_file.as_deref(),
            self.xdg_config_home.as_deref(),
            self.home.as_deref(),
        )?;
        let tls = Tls::from_options(self.tls_cert.as_deref(), self.tls_key.as_deref())?;
        if tls.is_some() && self.reads == Reads::ZeroCopy {
            return Err(ArgsError::ZeroCopy);
        }
        let base_url = |text: &str| base_url_by(scheme(tls.as_ref()), text);
        let mut config = Config::new(self.data, secret);
        config.masters = self.master.iter().map(|m| base_url(m)).collect();
        config.advertise = self.advertise.as_deref().map(base_url);
        config.public_url = self.public_url.as_deref().map(base_url);
        config.trust = Trust::from_option(self.tls_ca.as_deref())?;
        config.tls = tls;
        config.zone = self.zone;
        config.segment_bytes = self.segment_size;
        config.segment_age = self.segment_age;
        config.reserve_bytes = self.reserve;
        config.capacity_bytes = Some(self.capacity).filter(|bytes| *bytes > 0);
        config.reads = self.reads;
        config.scrub_rate = self.scrub_rate;
        config.scrub_every = self.scrub_every;
        Ok((config, listen))
    }
}
