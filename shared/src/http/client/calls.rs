//! Outgoing calls: signed for one recipient; an answer is accepted only if a server of the cluster signed it.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{CallError, HttpError, PeerClient};
use crate::call::{CallSignature, Recipient};
use crate::http::body;
use crate::limits::{MESSAGE_BYTES_MAX, RECIPIENTS_MAX};
use crate::wire::error::{ErrorBody, ErrorCode};
use crate::wire::routes::{ANSWER_HEADER, RECIPIENT, SIGNATURE_HEADER};

impl PeerClient {
    /// Sends `body` to `path`, signed, and reads an answer of at most `max` bytes, both of any content. Rejects an
    /// answer that no server of the cluster signed.
    ///
    /// # Errors
    /// The errors of `call`.
    pub async fn exchange(
        &self,
        address: &str,
        path: &str,
        body: Vec<u8>,
        within: Duration,
        max: usize,
    ) -> Result<(StatusCode, Vec<u8>), CallError> {
        let body = Bytes::from(body);
        let exchange = async {
            let first = self.attempt(address, path, body.clone(), max).await;
            match first {
                // The peer has restarted since, or has not been called for long: it has done nothing.
                Err(CallError::Refused { detail, .. }) if detail.code == ErrorCode::WrongRecipient => {
                    self.attempt(address, path, body, max).await
                }
                outcome => outcome,
            }
        };
        tokio::time::timeout(within, exchange)
            .await
            .map_err(|_| CallError::new(address, HttpError::Timeout(within)))?
    }

    async fn attempt(
        &self,
        address: &str,
        path: &str,
        body: Bytes,
        max: usize,
    ) -> Result<(StatusCode, Vec<u8>), CallError> {
        let recipient = self.recipient(address).await?;
        self.send(address, path, recipient, body, max).await
    }

    /// The recipient name of the server at `address`; asks the server if it is unknown.
    pub(super) async fn recipient(&self, address: &str) -> Result<Recipient, CallError> {
        let known = || self.recipients.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied();
        if let Some(known) = known() {
            return Ok(known);
        }
        let asked = self.send(address, RECIPIENT, Recipient::ANY, Bytes::new(), MESSAGE_BYTES_MAX).await;
        match asked {
            Ok((status, _)) => known().ok_or(CallError::Forged { address: address.to_owned(), status }),
            // This question changes nothing.
            Err(CallError::Unknown { address, source }) => Err(CallError::Unreachable { address, source }),
            Err(error) => Err(error),
        }
    }

    fn learn(&self, address: &str, recipient: Recipient) {
        let mut known = self.recipients.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(address) == Some(&recipient) {
            return;
        }
        if known.len() >= RECIPIENTS_MAX {
            known.clear();
        }
        known.insert(address.to_owned(), recipient);
    }

    /// Sends a call, reads the whole answer and verifies it.
    async fn send(
        &self,
        address: &str,
        path: &str,
        recipient: Recipient,
        body: Bytes,
        max: usize,
    ) -> Result<(StatusCode, Vec<u8>), CallError> {
        let (call, answer) = self.open(address, path, recipient, body).await?;
        let (head, body) = answer.into_parts();
        let bytes = body::collect(body, max).await;
        let bytes = bytes.map_err(|source| CallError::Broken { address: address.to_owned(), source })?;
        self.verify_answer(address, &call, &head, &blake3::hash(&bytes))?;
        parse_answer(address, head.status, bytes)
    }

    /// Verifies that a server of the cluster sent this answer to `call`.
    pub(super) fn verify_answer(
        &self,
        address: &str,
        call: &CallSignature,
        head: &http::response::Parts,
        digest: &blake3::Hash,
    ) -> Result<(), CallError> {
        let text = head.headers.get(ANSWER_HEADER).and_then(|v| v.to_str().ok());
        let next = call.check_answer(&self.secret, text, head.status, digest).map_err(|_| {
            tracing::warn!(address, status = %head.status, "rejected an answer that no server of this cluster signed");
            CallError::Forged { address: address.to_owned(), status: head.status }
        })?;
        self.learn(address, next);
        Ok(())
    }

    /// Sends `body` to `path`, signed, and waits for the head of the answer.
    pub(super) async fn open(
        &self,
        address: &str,
        path: &str,
        recipient: Recipient,
        body: Bytes,
    ) -> Result<(CallSignature, Response<Incoming>), CallError> {
        let call = CallSignature::new(&self.secret, recipient, "POST", path, &body, self.clock.now());
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{address}{path}"))
            .header(SIGNATURE_HEADER, call.to_string())
            .body(body::full(body))
            .map_err(|e| CallError::new(address, e.into()))?;
        let answer = self.http.send(request).await.map_err(|e| CallError::new(address, e))?;
        Ok((call, answer))
    }
}

/// Parses the verified answer of a peer.
pub(super) fn parse_answer(
    address: &str,
    status: StatusCode,
    bytes: Vec<u8>,
) -> Result<(StatusCode, Vec<u8>), CallError> {
    if status.is_success() {
        return Ok((status, bytes));
    }
    let strange = || CallError::Strange { address: address.to_owned(), status };
    let refused: ErrorBody = serde_json::from_slice(&bytes).map_err(|_| strange())?;
    Err(CallError::Refused { address: address.to_owned(), status, detail: Box::new(refused.error) })
}

#[cfg(test)]
mod tests;
