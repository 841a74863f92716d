//! The TLS versions that our servers and clients support, and how long they wait for the other side.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::*;
use crate::http::trust::Trust;

/// More bytes than a handshake sends in either direction.
const PIPE_BYTES: usize = 64 << 10;

/// An authority, and a server with a certificate from it, in files.
struct Site {
    _folder: TempDir,
    ca: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (ca, chain, key) = (path("ca.pem"), path("chain.pem"), path("key.pem"));
        let authority_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority for a test");
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        fs::write(&ca, params.self_signed(&authority_key).unwrap().pem()).unwrap();
        let authority = Issuer::new(params, authority_key);
        let server_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a server of a test");
        fs::write(&chain, params.signed_by(&server_key, &authority).unwrap().pem()).unwrap();
        fs::write(&key, server_key.serialize_pem()).unwrap();
        Self { _folder: folder, ca, chain, key }
    }

    fn server(&self) -> Tls {
        Tls::from_files(&self.chain, &self.key).unwrap()
    }

    /// A server that supports these versions.
    fn server_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Tls {
        let key = PrivateKeyDer::from_pem_slice(&fs::read(&self.key).unwrap()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates(&self.chain).unwrap(), key)
            .unwrap();
        Tls(TlsAcceptor::from(Arc::new(config)))
    }

    fn client(&self) -> Arc<ClientConfig> {
        Trust::from_file(&self.ca).unwrap().config()
    }

    /// A client that supports these versions.
    fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&self.ca).unwrap());
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// The versions of the other side, and the one that is negotiated.
fn sets() -> [(Vec<&'static SupportedProtocolVersion>, ProtocolVersion); 3] {
    [
        (vec![&TLS12], ProtocolVersion::TLSv1_2),
        (vec![&TLS13], ProtocolVersion::TLSv1_3),
        (vec![&TLS12, &TLS13], ProtocolVersion::TLSv1_3),
    ]
}

/// The negotiated version.
async fn agreed(server: &Tls, client: Arc<ClientConfig>) -> io::Result<ProtocolVersion> {
    let (ours, theirs) = duplex(PIPE_BYTES);
    let name = ServerName::try_from("localhost").unwrap();
    let (accepted, connected) =
        tokio::join!(server.0.accept(theirs), TlsConnector::from(client).connect(name, ours));
    let (accepted, connected) = (accepted?, connected?);
    let version = connected.get_ref().1.protocol_version();
    assert_eq!(accepted.get_ref().1.protocol_version(), version);
    Ok(version.unwrap())
}

#[tokio::test]
async fn clients_speak_the_newest_version_they_can_with_our_servers() {
    let site = Site::new();
    let server = site.server();
    for (versions, wanted) in sets() {
        assert_eq!(agreed(&server, site.client_of(&versions)).await.unwrap(), wanted, "{versions:?}");
    }
}

#[tokio::test]
async fn our_clients_speak_the_newest_version_that_a_server_can() {
    let site = Site::new();
    for (versions, wanted) in sets() {
        assert_eq!(agreed(&site.server_of(&versions), site.client()).await.unwrap(), wanted, "{versions:?}");
    }
    assert_eq!(agreed(&site.server(), site.client()).await.unwrap(), ProtocolVersion::TLSv1_3);
}

/// The first message of a client whose highest version has this minor number: 2 is TLS 1.1.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; one cipher suite, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression.
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Extensions: signatures with ECDSA over P-256 and SHA-256, and that curve.
    body.extend([0, 16, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23]);
    let length = |n: usize| u8::try_from(n).unwrap();
    let mut message = vec![1, 0, 0, length(body.len())];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, length(message.len())];
    record.extend(message);
    record
}

#[tokio::test]
async fn older_versions_are_refused_by_their_alert() {
    let site = Site::new();
    let server = site.server();
    for minor in 0..=3 {
        let (mut ours, theirs) = duplex(PIPE_BYTES);
        ours.write_all(&hello(minor)).await.unwrap();
        let heard = async {
            let mut first = [0; 7];
            ours.read_exact(&mut first).await.unwrap();
            drop(ours);
            first
        };
        let (accepted, first) = tokio::join!(server.0.accept(theirs), heard);
        assert!(accepted.is_err());
        if minor == 3 {
            assert_eq!(
                (first[0], first[5]),
                (22, 2),
                "1.2 in the same words is answered by a hello: {first:?}"
            );
        } else {
            // An alert: fatal, protocol_version.
            assert_eq!((first[0], &first[3..]), (21, &[0, 2, 2, 70][..]), "3.{minor}: {first:?}");
        }
    }
}

#[tokio::test]
async fn http_1_1_is_what_is_spoken_inside() {
    let site = Site::new();
    let mut client = (*site.client()).clone();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (ours, theirs) = duplex(PIPE_BYTES);
    let name = ServerName::try_from("localhost").unwrap();
    let server = site.server();
    let connecting = TlsConnector::from(Arc::new(client)).connect(name, ours);
    let (accepted, connected) = tokio::join!(server.0.accept(theirs), connecting);
    accepted.unwrap();
    assert_eq!(connected.unwrap().get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// Real sockets, because both halves accept nothing else; nothing is received on them.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_go_on_is_given_up() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::net::TcpStream::connect(address).unwrap();
    let (served, _) = listener.accept().await.unwrap();
    let began = Instant::now();
    let refused = site.server().accept(served).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= TLS_HANDSHAKE_TIMEOUT && began.elapsed() < 2 * TLS_HANDSHAKE_TIMEOUT);
    drop(client);

    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    let began = Instant::now();
    let refused = Trust::from_file(&site.ca).unwrap().connect("localhost", stream).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= TLS_HANDSHAKE_TIMEOUT && began.elapsed() < 2 * TLS_HANDSHAKE_TIMEOUT);
}
