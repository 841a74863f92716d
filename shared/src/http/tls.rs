//! TLS of a server: a certificate chain and its key from PEM files, reloaded when the files change, so that a
//! certificate is replaced without a restart. Invalid new files cause a warning and are not used. Whom a client
//! trusts is in `trust`; nothing here writes, creates or shows a key.

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

/// A server's certificate and TLS settings.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of them cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error that was returned.
        #[source]
        source: io::Error,
    },
    /// It is not a valid PEM file of that kind.
    #[error("{path} is not a PEM file with a {what}: {source}")]
    Pem {
        /// The path of the file.
        path: PathBuf,
        /// What it should contain.
        what: &'static str,
        /// The parse error.
        #[source]
        source: pem::Error,
    },
    /// It contains no certificate.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// The key cannot be used, or does not match the certificate.
    #[error("{key} does not go with {chain}: {source}")]
    Unfit {
        /// The certificate chain.
        chain: PathBuf,
        /// The file of the private key.
        key: PathBuf,
        /// The error that was returned.
        #[source]
        source: rustls::Error,
    },
    /// No protocol version is enabled: impossible with the built-in provider.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
    /// One option without the other.
    #[error("--tls-cert and --tls-key must be given together")]
    Half,
}

impl Tls {
    /// Uses the chain and the key in these files, and reloads them when they change.
    ///
    /// # Errors
    /// If they cannot be used now.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { chain: chain.to_owned(), key: key.to_owned() };
        files.warn_of_readers();
        let seen = files.stamp().ok();
        let current = Arc::new(files.read()?);
        let state = Mutex::new(ReloadState { looked: Instant::now(), seen, current });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Reloading { files, state }));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Like `from_files`, for two options that must be given together; `None` if neither is given.
    ///
    /// # Errors
    /// As `from_files`, and if only one is given.
    pub fn from_options(chain: Option<&Path>, key: Option<&Path>) -> Result<Option<Self>, TlsError> {
        match (chain, key) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => Self::from_files(chain, key).map(Some),
            _ => Err(TlsError::Half),
        }
    }

    /// The server's half of a handshake, within `TLS_HANDSHAKE_TIMEOUT`.
    ///
    /// # Errors
    /// If the client does not speak TLS, rejects our certificate, or is too slow.
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

/// The scheme of a server's addresses, with TLS or without.
pub fn scheme(tls: Option<&Tls>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// The algorithms of the built-in cryptographic library.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads the certificates in a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found =
        found.map_err(|source| TlsError::Pem { path: path.to_owned(), what: "certificate", source })?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

/// The mode bits that let group and others read a file.
const READ_BY_OTHERS: u32 = 0o044;

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

/// Detects changed files: modification time, length and inode number of each.
type Stamp = [(Option<SystemTime>, u64, u64); 2];

impl Files {
    fn stamp(&self) -> io::Result<Stamp> {
        let of = |path: &Path| {
            let metadata = fs::metadata(path)?;
            Ok::<_, io::Error>((metadata.modified().ok(), metadata.len(), metadata.ino()))
        };
        Ok([of(&self.chain)?, of(&self.key)?])
    }

    /// Warns if others can read the key: they can impersonate this server.
    fn warn_of_readers(&self) {
        let Ok(metadata) = fs::metadata(&self.key) else { return };
        if metadata.mode() & READ_BY_OTHERS != 0 {
            let (key, mode) = (self.key.display(), format!("{:03o}", metadata.mode() & 0o777));
            tracing::warn!(%key, mode, "users other than this server's can read its TLS key: run chmod 600 {key}");
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
        // This checks that the key matches the certificate.
        CertifiedKey::from_der(certificates(chain)?, private, &provider()).map_err(|source| TlsError::Unfit {
            chain: chain.clone(),
            key: key.clone(),
            source,
        })
    }
}

/// Gives each handshake the newest valid certificate.
#[derive(Debug)]
struct Reloading {
    files: Files,
    state: Mutex<ReloadState>,
}

#[derive(Debug)]
struct ReloadState {
    looked: Instant,
    seen: Option<Stamp>,
    current: Arc<CertifiedKey>,
}

impl Reloading {
    /// Reloads the files if they have changed. Two small files, rarely read: not worth another thread.
    fn reload_if_changed(&self, state: &mut ReloadState) {
        state.looked = Instant::now();
        let stamp = self.files.stamp().ok();
        if stamp == state.seen {
            return;
        }
        state.seen = stamp;
        match self.files.read() {
            Ok(key) => {
                state.current = Arc::new(key);
                tracing::info!(chain = %self.files.chain.display(), "the certificate was reloaded");
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate has changed and cannot be used; the old one stays in use");
            }
        }
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= TLS_RELOAD_INTERVAL {
            self.reload_if_changed(&mut state);
        }
        Some(Arc::clone(&state.current))
    }
}

#[cfg(test)]
mod tests;
