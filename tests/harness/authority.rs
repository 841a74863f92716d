//! A private certificate authority for servers that speak TLS.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Signs server certificates for clients that trust this authority.
pub struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Writes the authority's certificate to `file`.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn new(file: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority for a test");
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(file, certificate.pem()).expect("a file");
        Self(Issuer::new(params, key))
    }

    /// Returns a certificate for this machine and its key as PEM, and the certificate as DER.
    ///
    /// # Panics
    /// If the certificate cannot be created.
    pub fn issue(&self) -> (String, String, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost", "127.0.0.1"].map(String::from);
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "a server of a test");
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem(), certificate.der().to_vec())
    }
}
