//! Digests that a client declares of its value: MD5 (RFC 1864), SHA-256 (RFC 9530), and BLAKE3, which the store
//! computes anyway. A value that does not match them is not kept.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use shared::digest::Digest;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes::BLAKE3_HEADER;
use shared::work::blocking;

const MD5_HEADER: HeaderName = HeaderName::from_static("content-md5");
/// In a request both mean the same: its body is the whole representation.
const SHA256_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("repr-digest")];

/// The declared digests, and the state of those that must be computed.
#[derive(Default)]
pub(super) struct DeclaredDigests {
    pub(super) blake3: Option<Digest>,
    md5: Option<(Vec<u8>, Md5)>,
    sha256: Vec<Vec<u8>>,
    sha256_state: Option<Sha256>,
}

impl DeclaredDigests {
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, ErrorReply> {
        let bad = |name: &HeaderName| {
            ErrorReply::new(
                ErrorCode::BadHeader,
                format!("{name} cannot be read"),
                "fix the header or leave it out",
            )
        };
        let text =
            |name: &HeaderName| headers.get(name).map(|v| v.to_str().map_err(|_| bad(name))).transpose();
        let blake3_header = HeaderName::from_static(BLAKE3_HEADER);
        let blake3 =
            text(&blake3_header)?.map(|t| t.trim().parse().map_err(|_| bad(&blake3_header))).transpose()?;
        let decode = |t: &str, bytes: usize| BASE64.decode(t.trim()).ok().filter(|d| d.len() == bytes);
        let md5 = text(&MD5_HEADER)?
            .map(|t| decode(t, 16).map(|d| (d, Md5::new())).ok_or_else(|| bad(&MD5_HEADER)))
            .transpose()?;
        let mut sha256 = Vec::new();
        for name in &SHA256_HEADERS {
            // A list of `algorithm=:base64:`; unknown algorithms are ignored (RFC 9530 §2).
            for member in text(name)?.unwrap_or("").split(',') {
                if let Some(value) = member.trim().strip_prefix("sha-256=") {
                    let inner = value.strip_prefix(':').and_then(|v| v.strip_suffix(':'));
                    sha256.push(inner.and_then(|v| decode(v, 32)).ok_or_else(|| bad(name))?);
                }
            }
        }
        let sha256_state = (!sha256.is_empty()).then(Sha256::new);
        Ok(Self { blake3, md5, sha256, sha256_state })
    }

    /// Hashes the next bytes, on the blocking pool: these hashes are slower than the disk.
    pub(super) async fn update(&mut self, bytes: &Bytes) {
        if self.md5.is_none() && self.sha256_state.is_none() {
            return;
        }
        let (bytes, md5, sha256) = (bytes.clone(), self.md5.take(), self.sha256_state.take());
        (self.md5, self.sha256_state) = blocking(move || {
            let md5 = md5.map(|(wanted, mut state)| {
                state.update(&bytes);
                (wanted, state)
            });
            let sha256 = sha256.map(|mut state| {
                state.update(&bytes);
                state
            });
            (md5, sha256)
        })
        .await;
    }

    /// Compares MD5 and SHA-256 once the value is complete.
    pub(super) fn check(&mut self) -> Result<(), ErrorReply> {
        if let Some((wanted, state)) = self.md5.take()
            && state.finalize().as_slice() != wanted
        {
            return Err(wrong("Content-MD5"));
        }
        if let Some(state) = self.sha256_state.take() {
            let found = state.finalize();
            if self.sha256.iter().any(|wanted| found.as_slice() != wanted) {
                return Err(wrong("sha-256"));
            }
        }
        Ok(())
    }

    /// Compares BLAKE3 once the store has computed it.
    pub(super) fn check_blake3(&self, found: &Digest) -> Result<(), ErrorReply> {
        if self.blake3.is_some_and(|wanted| wanted != *found) { Err(wrong("BLAKE3")) } else { Ok(()) }
    }
}

/// Copies the declarations for the next volume: each volume of a chain checks them itself, so that none makes durable
/// what another one refuses.
pub(super) fn forward(from: &HeaderMap, to: &mut HeaderMap) {
    for name in SHA256_HEADERS.iter().chain([&MD5_HEADER, &HeaderName::from_static(BLAKE3_HEADER)]) {
        if let Some(value) = from.get(name) {
            to.insert(name.clone(), value.clone());
        }
    }
}

fn wrong(which: &str) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::WrongDigest,
        format!("the body does not match its declared {which} digest"),
        "nothing was stored; check the file and send it again",
    )
}
