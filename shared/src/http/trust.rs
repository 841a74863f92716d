//! Whom a client trusts: the certificate authorities of a file, or the system's. Certificates and names are always
//! verified; this cannot be turned off.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http::tls::{TlsError, certificates, provider};
use crate::limits::TLS_HANDSHAKE_TIMEOUT;

/// Certificate authorities; by default the system's, which are read once, on first use.
#[derive(Clone, Default)]
pub struct Trust(Option<Arc<ClientConfig>>);

impl Trust {
    /// Trusts those in a PEM file, and no others.
    ///
    /// # Errors
    /// If there are none in it.
    pub fn from_file(path: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(TlsError::Setup)?;
        }
        Ok(Self(Some(configured(roots))))
    }

    /// Like `from_file`; without a path the system's.
    ///
    /// # Errors
    /// The errors of `from_file`.
    pub fn from_option(path: Option<&Path>) -> Result<Self, TlsError> {
        path.map_or_else(|| Ok(Self::default()), Self::from_file)
    }

    /// The TLS configuration for clients.
    pub fn config(&self) -> Arc<ClientConfig> {
        static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let system = || SYSTEM.get_or_init(|| configured(of_the_system()));
        Arc::clone(self.0.as_ref().unwrap_or_else(system))
    }

    /// The client's half of a handshake on a connection to `host`.
    ///
    /// # Errors
    /// If the server does not speak TLS, has no valid certificate for `host`, or is too slow.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connecting = TlsConnector::from(self.config()).connect(name, stream);
        let connected = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, connecting).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust(..)")
    }
}

fn configured(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has the usual versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn of_the_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificate authorities cannot be read; use --tls-ca to name others");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}
