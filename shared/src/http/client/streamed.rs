//! A streamed answer: too long to read before it is verified. It ends with a MAC over all of it, and the bytes must
//! not be used before a reader has reached that end.

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;

use super::calls::parse_answer;
use super::{CallError, PeerClient};
use crate::call::CallSignature;
use crate::http::body::{self, ReadError};
use crate::http::signed_calls::streamed_digest;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::secret::ClusterSecret;
use crate::wire::error::ErrorCode;

/// Length of the MAC after the stream.
const MAC_BYTES: usize = 32;

/// The bytes of a streamed answer.
#[derive(Debug)]
pub struct StreamedAnswer {
    address: String,
    secret: ClusterSecret,
    call: CallSignature,
    body: Incoming,
    hasher: blake3::Hasher,
    /// The last bytes received: they may be the MAC.
    held: BytesMut,
}

impl PeerClient {
    /// Sends `body` to `path`, signed, for a streamed answer.
    ///
    /// # Errors
    /// The errors of `call`.
    pub async fn call_for_stream(
        &self,
        address: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<StreamedAnswer, CallError> {
        let body = Bytes::from(body);
        match self.begin(address, path, body.clone()).await {
            Err(CallError::Refused { detail, .. }) if detail.code == ErrorCode::WrongRecipient => {
                self.begin(address, path, body).await
            }
            outcome => outcome,
        }
    }

    async fn begin(&self, address: &str, path: &str, body: Bytes) -> Result<StreamedAnswer, CallError> {
        let recipient = self.recipient(address).await?;
        let (call, answer) = self.open(address, path, recipient, body).await?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            self.verify_answer(address, &call, &head, &streamed_digest())?;
            let (address, secret) = (address.to_owned(), self.secret.clone());
            let (hasher, held) = (blake3::Hasher::new(), BytesMut::new());
            return Ok(StreamedAnswer { address, secret, call, body, hasher, held });
        }
        let bytes = body::collect(body, MESSAGE_BYTES_MAX).await;
        let bytes = bytes.map_err(|source| CallError::Broken { address: address.to_owned(), source })?;
        self.verify_answer(address, &call, &head, &blake3::hash(&bytes))?;
        parse_answer(address, head.status, bytes)?;
        Err(CallError::Strange { address: address.to_owned(), status: head.status })
    }
}

impl StreamedAnswer {
    /// The next bytes; `None` when all have arrived and the MAC is valid.
    ///
    /// # Errors
    /// If the stream breaks off, or is not what a server of the cluster sent.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let broken = |source: ReadError| CallError::Broken { address: self.address.clone(), source };
            let Some(frame) = body::next(&mut self.body).await.map_err(broken)? else {
                let mac: Option<[u8; MAC_BYTES]> = self.held[..].try_into().ok();
                let ours = self.call.stream_mac(&self.secret, &self.hasher.finalize());
                // `blake3::Hash` compares in constant time.
                if mac.is_some_and(|mac| ours == blake3::Hash::from_bytes(mac)) {
                    return Ok(None);
                }
                let status = http::StatusCode::OK;
                return Err(CallError::Forged { address: self.address.clone(), status });
            };
            self.held.extend_from_slice(&frame);
            let ready = self.held.len().saturating_sub(MAC_BYTES);
            if ready > 0 {
                let bytes = self.held.split_to(ready).freeze();
                self.hasher.update(&bytes);
                return Ok(Some(bytes));
            }
        }
    }
}
