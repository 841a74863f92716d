//! The command line of `volume`, converted into a `Config`. Environment variables are read only here, by clap.

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
///   PORT=3002 volume ./volume2/                          waits for a master that lists this address
///   volume --master http://localhost:3000 ./volume2/     registers with a master
#[derive(Clone, Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub struct Args {
    /// The volume's data directory; run one volume per disk.
    data: PathBuf,
    /// Masters to register with, as http://HOST:PORT separated by commas; any one that is up tells the others.
    #[arg(long, value_delimiter = ',')]
    master: Vec<String>,
    /// Port to listen on, at 127.0.0.1.
    #[arg(long, env = "PORT", default_value_t = 3001)]
    port: u16,
    /// Address to listen on instead of 127.0.0.1:PORT.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// URL at which masters and other volumes reach this volume, as http://HOST:PORT.
    #[arg(long)]
    advertise: Option<String>,
    /// URL at which clients reach this volume, as http://HOST:PORT.
    #[arg(long)]
    public_url: Option<String>,
    /// Failure domain, such as a rack: replicas are spread over different zones first.
    #[arg(long)]
    zone: Option<Zone>,
    /// Size at which a segment is sealed.
    #[arg(long, value_name = "BYTES", default_value_t = SEGMENT_BYTES, value_parser = segment_bytes)]
    segment_size: u64,
    /// Age at which a segment is sealed.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1d")]
    segment_age: Duration,
    /// Free bytes kept back from clients, so that deletes and repair work on a full disk.
    #[arg(long, value_name = "BYTES", default_value_t = RESERVE_BYTES, value_parser = size::bytes)]
    reserve: u64,
    /// Most bytes of the disk that this volume may use; all of it by default.
    #[arg(long, value_name = "BYTES", default_value_t = 0, hide_default_value = true, value_parser = size::bytes)]
    capacity: u64,
    /// Verify every block before it is sent, or send bytes from the page cache unverified: a little faster, but only
    /// the scrub finds corruption.
    #[arg(long, value_enum, default_value_t = Reads::Verified)]
    reads: Reads,
    /// Bytes per second that the scrub reads to verify stored values; 0 turns it off.
    #[arg(long, value_name = "BYTES", default_value_t = SCRUB_RATE, value_parser = size::bytes)]
    scrub_rate: u64,
    /// How long a verified segment counts as verified; the scrub skips it until then.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "7d")]
    scrub_every: Duration,
    /// File with the cluster's secret; by default one in your configuration directory, created at the first start.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// No effect: a volume always requires a ticket of its masters, wherever it listens.
    #[arg(long, hide = true)]
    insecure_no_auth: bool,
    /// Accept TLS only, with the certificate chain in this PEM file; the file is reloaded when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust in other servers; by default the system's.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Log format: text or json.
    #[arg(long, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<String>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("--reads zero-copy has no effect with TLS, which copies every byte: leave out one of them")]
    ZeroCopy,
}

/// Parses a segment size, at most `SEGMENT_BYTES_MAX`.
fn segment_bytes(text: &str) -> Result<u64, String> {
    match size::bytes(text) {
        Ok(bytes) if bytes > SEGMENT_BYTES_MAX => Err(format!("at most {}", ByteSize(SEGMENT_BYTES_MAX))),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

impl Args {
    /// Returns the configuration and the address to listen on.
    ///
    /// # Errors
    /// When the arguments conflict, or the secret or a certificate cannot be read.
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
