//! The cluster secret, with which servers of one cluster sign, and by which they recognize each other.
//!
//! It is never logged, shown or sent. Each use has a key of its own, derived with BLAKE3's key derivation mode, so
//! that a signature for one purpose is worthless for another. Other secrets are stored encrypted with it
//! (XChaCha20-Poly1305, whose nonces are long enough to be random).

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

/// The 32 bytes that every server of a cluster holds.
#[derive(Clone)]
pub struct ClusterSecret {
    ticket: [u8; 32],
    receipt: [u8; 32],
    call: [u8; 32],
    answer: [u8; 32],
    seal: [u8; 32],
}

/// Bytes of the nonce before the ciphertext.
const NONCE_BYTES: usize = 24;

/// The purpose of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// The master's permission for one operation on one blob.
    Ticket,
    /// A volume's statement of what it has made durable.
    Receipt,
    /// A call between servers.
    Call,
    /// The answer to a call, or the head of an answer to a ticket.
    Answer,
}

/// Why the secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Reading or creating failed.
    #[error("the cluster secret {path}: {source}")]
    Io {
        /// The path of the secret file.
        path: PathBuf,
        /// The error of the disk.
        #[source]
        source: io::Error,
    },
    /// Too short to be a secret.
    #[error(
        "the cluster secret {0} holds fewer than 16 bytes; make one with: head -c 32 /dev/urandom | base64 > {0}"
    )]
    TooShort(PathBuf),
    /// Others may read it.
    #[error("the cluster secret {0} can be read by others; run: chmod 600 {0}")]
    Exposed(PathBuf),
    /// There is no home directory for the default file.
    #[error("neither HOME nor XDG_CONFIG_HOME is set: use --secret-file FILE")]
    NoHome,
}

/// A ciphertext cannot be decrypted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it is corrupt, or was encrypted for another purpose or with another cluster's secret")]
pub struct DecryptError;

impl ClusterSecret {
    /// Derives the keys from the bytes of the secret.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let derive = |context| blake3::derive_key(context, bytes);
        Self {
            ticket: derive("barge 2026-11 ticket"),
            receipt: derive("barge 2026-11 receipt"),
            call: derive("barge 2026-11 call"),
            answer: derive("barge 2026-11 answer"),
            seal: derive("barge 2026-11 seal"),
        }
    }

    /// Reads the secret from `path`.
    ///
    /// # Errors
    /// If it cannot be read, is shorter than 16 bytes, or is readable by others than its owner.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let io = |source| SecretError::Io { path: path.to_owned(), source };
        let bytes = fs::read(path).map_err(io)?;
        if fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
            return Err(SecretError::Exposed(path.to_owned()));
        }
        let trimmed = bytes.trim_ascii();
        if trimmed.len() < 16 {
            return Err(SecretError::TooShort(path.to_owned()));
        }
        Ok(Self::from_bytes(trimmed))
    }

    /// Reads the secret from `path`, or creates one there with mode 0600. Processes that start at the same time get
    /// the same one.
    ///
    /// # Errors
    /// As `read`, and if it cannot be created.
    pub fn read_or_create(path: &Path) -> Result<Self, SecretError> {
        let io = |source| SecretError::Io { path: path.to_owned(), source };
        if !path.exists() {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(folder).map_err(io)?;
            let draft = folder.join(format!(".secret-{}", uuid::Uuid::new_v4().simple()));
            let mut file =
                File::options().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
            let text: [u8; 32] = random_bytes();
            let written = writeln!(file, "{}", blake3::Hash::from(text).to_hex())
                .and_then(|()| file.sync_all())
                // The first to link wins; the others read what the winner wrote.
                .and_then(|()| match fs::hard_link(&draft, path) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    other => other,
                });
            let _ = fs::remove_file(&draft);
            written.map_err(io)?;
            File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
        }
        Self::read(path)
    }

    /// The secret of a server: from `file` if given, else the user's default one.
    ///
    /// # Errors
    /// As `read_or_create`, and if there is no directory for the default.
    pub fn find(
        file: Option<&Path>,
        xdg_config_home: Option<&str>,
        home: Option<&str>,
    ) -> Result<Self, SecretError> {
        match file {
            Some(path) => Self::read_or_create(path),
            None => Self::read_or_create(&Self::default_path(xdg_config_home, home)?),
        }
    }

    /// The default path of the secret of a user's processes.
    ///
    /// # Errors
    /// If neither directory is known.
    pub fn default_path(xdg_config_home: Option<&str>, home: Option<&str>) -> Result<PathBuf, SecretError> {
        xdg_config_home
            .filter(|s| !s.is_empty())
            .map(PathBuf::from)
            .or_else(|| home.filter(|s| !s.is_empty()).map(|h| Path::new(h).join(".config")))
            .map(|c| c.join("barge").join("secret"))
            .ok_or(SecretError::NoHome)
    }

    fn key(&self, purpose: KeyPurpose) -> &[u8; 32] {
        match purpose {
            KeyPurpose::Ticket => &self.ticket,
            KeyPurpose::Receipt => &self.receipt,
            KeyPurpose::Call => &self.call,
            KeyPurpose::Answer => &self.answer,
        }
    }

    /// The MAC over `parts`, each bound by its length. Compare with `==`: `blake3::Hash` compares
    /// in constant time.
    pub fn mac(&self, purpose: KeyPurpose, parts: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(self.key(purpose));
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }

    /// Encrypts `plain`: only the same secret decrypts it, and only for the same `purpose`.
    pub fn encrypt(&self, purpose: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let sealed = XChaCha20Poly1305::new(&self.seal.into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: purpose })
            .expect("fails for messages of 256 GiB only");
        [&nonce[..], &sealed].concat()
    }

    /// Decrypts what `encrypt` returned.
    ///
    /// # Errors
    /// If it was not encrypted with this secret for this purpose.
    pub fn decrypt(&self, purpose: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(DecryptError)?;
        XChaCha20Poly1305::new(&self.seal.into())
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: purpose })
            .map_err(|_| DecryptError)
    }
}

/// Random bytes, from 488 bits of the operating system's randomness.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut hasher = blake3::Hasher::new_derive_key("barge random bytes");
    for _ in 0..4 {
        hasher.update(uuid::Uuid::new_v4().as_bytes());
    }
    let mut bytes = [0; N];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let secret = ClusterSecret::from_bytes(b"0123456789abcdef");
        let sealed = secret.encrypt(b"for this", b"words");
        assert_ne!(sealed, secret.encrypt(b"for this", b"words"), "never twice the same");
        assert_eq!(secret.decrypt(b"for this", &sealed).unwrap(), b"words");
        assert_eq!(secret.decrypt(b"for that", &sealed), Err(DecryptError));
        assert_eq!(ClusterSecret::from_bytes(b"another").decrypt(b"for this", &sealed), Err(DecryptError));
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(secret.decrypt(b"for this", &bent), Err(DecryptError));
            assert_eq!(secret.decrypt(b"for this", &sealed[..at]), Err(DecryptError));
        }
    }

    #[test]
    fn created_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/secret");
        let a = ClusterSecret::read_or_create(&path).unwrap();
        let b = ClusterSecret::read_or_create(&path).unwrap();
        assert_eq!(a.ticket, b.ticket);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(ClusterSecret::read(&path), Err(SecretError::Exposed(_))));
        assert_eq!(format!("{a:?}"), "ClusterSecret(..)");
    }
}
