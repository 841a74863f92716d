//! TLS of a server: a certificate chain and its key from PEM files, read again when the files change, so that a
//! certificate is replaced without a restart. New files that are bad are warned of and not used. Whom a client trusts is
//! in `trust`; nothing here writes, makes or shows a key.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::limits::{TLS_HANDSHAKE_TIMEOUT, TLS_RELOAD_INTERVAL};

/// What a server shows to clients, and how it speaks to them.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of them cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is no PEM file with a {what}: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// Why not.
        #[source]
        source: pem::Error,
    },
    /// There is none in it.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// The key cannot be used, or is not the certificate's.
    #[error("{key} does not go with {chain}: {source}")]
    Unfit {
        /// The certificate chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No protocol version is left: never with the provider we are built with.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
    /// One of the two without the other.
    #[error("--tls-cert and --tls-key go together")]
    Half,
}

impl Tls {
    /// With the chain and the key in these files, and with what will be in them later.
    ///
    /// # Errors
    /// When they cannot be used now.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { chain: chain.to_owned(), key: key.to_owned() };
        files.warn_of_readers();
        let seen = files.stamp().ok();
        let current = Arc::new(files.read()?);
        let state = Mutex::new(State { looked: Instant::now(), seen, current });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Reloading { files, state }));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// As `from_files`, for two options that go together; none when neither is given.
    ///
    /// # Errors
    /// As `from_files`, and when one is given without the other.
    pub fn from_options(chain: Option<&Path>, key: Option<&Path>) -> Result<Option<Self>, TlsError> {
        match (chain, key) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => Self::from_files(chain, key).map(Some),
            _ => Err(TlsError::Half),
        }
    }

    /// The server's half of a handshake, which may take `TLS_HANDSHAKE_TIMEOUT`.
    ///
    /// # Errors
    /// When the client does not speak TLS, refuses our certificate, or is too slow.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let accepted = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, self.0.accept(stream)).await;
        accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// How addresses of a server begin, with TLS or without.
pub fn scheme(tls: Option<&Tls>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// The algorithms, of the one library that we are built with.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates in a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found =
        found.map_err(|source| TlsError::Pem { path: path.to_owned(), what: "certificate", source })?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

/// The bits of a file's mode that let group and others read it.
const READ_BY_OTHERS: u32 = 0o044;

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

/// What tells one content of the files from another.
type Stamp = [(Option<SystemTime>, u64, u64); 2];

impl Files {
    fn stamp(&self) -> io::Result<Stamp> {
        let of = |path: &Path| {
            let metadata = fs::metadata(path)?;
            Ok::<_, io::Error>((metadata.modified().ok(), metadata.len(), metadata.ino()))
        };
        Ok([of(&self.chain)?, of(&self.key)?])
    }

    /// A reader of the key can pass for this server.
    fn warn_of_readers(&self) {
        let Ok(metadata) = fs::metadata(&self.key) else { return };
        if metadata.mode() & READ_BY_OTHERS != 0 {
            let (key, mode) = (self.key.display(), format!("{:03o}", metadata.mode() & 0o777));
            tracing::warn!(%key, mode, "others than this server's user can read its TLS key: run chmod 600 {key}");
        }
    }

    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let Self { chain, key } = self;
        let text = fs::read(key).map_err(|source| TlsError::Io { path: key.clone(), source })?;
        let private = PrivateKeyDer::from_pem_slice(&text).map_err(|source| TlsError::Pem {
            path: key.clone(),
            what: "private key",
            source,
        })?;
        // Whether the key is the certificate's is seen here.
        CertifiedKey::from_der(certificates(chain)?, private, &provider()).map_err(|source| TlsError::Unfit {
            chain: chain.clone(),
            key: key.clone(),
            source,
        })
    }
}

/// Gives each handshake the newest good certificate.
#[derive(Debug)]
struct Reloading {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Instant,
    seen: Option<Stamp>,
    current: Arc<CertifiedKey>,
}

impl Reloading {
    /// Reads the files when they have changed. Two small files, at most once in a while: not worth another thread.
    fn look(&self, state: &mut State) {
        state.looked = Instant::now();
        let stamp = self.files.stamp().ok();
        if stamp == state.seen {
            return;
        }
        state.seen = stamp;
        match self.files.read() {
            Ok(key) => {
                state.current = Arc::new(key);
                tracing::info!(chain = %self.files.chain.display(), "the certificate was read again");
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate has changed and cannot be used; the old one goes on");
            }
        }
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= TLS_RELOAD_INTERVAL {
            self.look(&mut state);
        }
        Some(Arc::clone(&state.current))
    }
}

#[cfg(test)]
mod tests;
