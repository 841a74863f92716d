//! Signatures of calls between servers and of their answers. A call is valid once, for one recipient, for a short
//! time; an answer is valid for one call. Pure: `http::signed_calls`, which receives calls, remembers earlier ones.
//!
//! ```text
//! Barge-Signature:  time ms . nonce . recipient . BLAKE3 of the body . MAC(method, target, all before)
//! Barge-Answer:     recipient . MAC(MAC of the call, recipient, status, BLAKE3 of the answer's body)
//! ```
//!
//! Nonce and recipient are 32 hex digits. Each server draws its recipient name at random when it starts and again
//! every few minutes, so a call must be remembered only for that long, whatever happens to clocks. The answer names
//! the one to use next.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::limits::CALL_LIFETIME;
use crate::secret::{ClusterSecret, KeyPurpose};

/// The random name under which a server takes calls for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recipient(Uuid);

impl Recipient {
    /// Any server. Valid for one question only: what is your recipient name?
    pub const ANY: Self = Self(Uuid::nil());

    /// A new random name.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for Recipient {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        Uuid::try_parse(text).map(Self).map_err(|_| SignatureError::Invalid)
    }
}

/// Why a signed call was refused.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq, Hash)]
pub enum SignatureError {
    /// No signature, or a malformed or forged one.
    #[error("the call carries no valid signature of this cluster")]
    Invalid,
    /// Too old, or from the future.
    #[error("the call's signature has expired or the clocks of the two servers differ too much")]
    Expired,
    /// The call was received before.
    #[error("the call was received before: each is valid once")]
    Replayed,
}

/// The signature of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSignature {
    /// When it was signed, by the caller's clock.
    pub signed: Timestamp,
    /// Random, never the same twice.
    pub nonce: Uuid,
    /// The server that may take the call.
    pub recipient: Recipient,
    /// BLAKE3 of the body.
    pub body: blake3::Hash,
    mac: blake3::Hash,
}

impl CallSignature {
    /// Signs a call.
    pub fn new(
        secret: &ClusterSecret,
        recipient: Recipient,
        method: &str,
        target: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Self {
        let mut call = Self {
            signed: now,
            nonce: Uuid::new_v4(),
            recipient,
            body: blake3::hash(body),
            mac: blake3::Hash::from_bytes([0; 32]),
        };
        call.mac = call.mac_of(secret, method, target);
        call
    }

    /// Parses a `Barge-Signature` and verifies it, before a byte of the body is read. The receiving server decides
    /// whether it is in time, for this recipient, and new.
    ///
    /// # Errors
    /// If it is missing, altered, or made with another secret.
    pub fn check(
        secret: &ClusterSecret,
        text: Option<&str>,
        method: &str,
        target: &str,
    ) -> Result<Self, SignatureError> {
        let call: Self = text.ok_or(SignatureError::Invalid)?.parse()?;
        // `blake3::Hash` compares in constant time.
        if call.mac_of(secret, method, target) == call.mac { Ok(call) } else { Err(SignatureError::Invalid) }
    }

    /// Checks that the call is neither too old nor from the future.
    ///
    /// # Errors
    /// If it is.
    pub fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let late = now.since(self.signed) > CALL_LIFETIME || self.signed.since(now) > CALL_LIFETIME;
        if late { Err(SignatureError::Expired) } else { Ok(()) }
    }

    fn mac_of(&self, secret: &ClusterSecret, method: &str, target: &str) -> blake3::Hash {
        let parts: [&[u8]; 6] = [
            method.as_bytes(),
            target.as_bytes(),
            self.body.as_bytes(),
            &self.signed.unix_ms().to_le_bytes(),
            self.nonce.as_bytes(),
            self.recipient.0.as_bytes(),
        ];
        secret.mac(KeyPurpose::Call, &parts)
    }

    /// The value of `Barge-Answer` for an answer to this call. `next`: the recipient name for the next call.
    pub fn answer(
        &self,
        secret: &ClusterSecret,
        next: Recipient,
        status: StatusCode,
        body: &blake3::Hash,
    ) -> String {
        format!("{next}.{}", self.answer_mac(secret, next, status, body).to_hex())
    }

    /// Verifies a `Barge-Answer`; returns the recipient name for the next call.
    ///
    /// # Errors
    /// If it is missing, altered, or the answer to another call.
    pub fn check_answer(
        &self,
        secret: &ClusterSecret,
        text: Option<&str>,
        status: StatusCode,
        body: &blake3::Hash,
    ) -> Result<Recipient, SignatureError> {
        let (next, mac) = text.and_then(|t| t.split_once('.')).ok_or(SignatureError::Invalid)?;
        let next: Recipient = next.parse()?;
        let mac = blake3::Hash::from_hex(mac).map_err(|_| SignatureError::Invalid)?;
        let ours = self.answer_mac(secret, next, status, body);
        if ours == mac { Ok(next) } else { Err(SignatureError::Invalid) }
    }

    fn answer_mac(
        &self,
        secret: &ClusterSecret,
        next: Recipient,
        status: StatusCode,
        body: &blake3::Hash,
    ) -> blake3::Hash {
        let status = status.as_u16().to_le_bytes();
        secret.mac(KeyPurpose::Answer, &[self.mac.as_bytes(), next.0.as_bytes(), &status, body.as_bytes()])
    }
}

impl CallSignature {
    /// The MAC at the end of a streamed answer to this call. `digest`: BLAKE3 of the stream.
    pub fn stream_mac(&self, secret: &ClusterSecret, digest: &blake3::Hash) -> blake3::Hash {
        secret.mac(KeyPurpose::Answer, &[b"stream", self.mac.as_bytes(), digest.as_bytes()])
    }
}

impl fmt::Display for CallSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signed, nonce, recipient, body, mac } = self;
        write!(f, "{}.{}.{recipient}.{}.{}", signed.unix_ms(), nonce.simple(), body.to_hex(), mac.to_hex())
    }
}

impl FromStr for CallSignature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let invalid = SignatureError::Invalid;
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(invalid);
        let (ms, nonce, recipient, body, mac) = (next()?, next()?, next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(invalid);
        }
        Ok(Self {
            signed: Timestamp::from_unix_ms(ms.parse().map_err(|_| invalid)?),
            nonce: Uuid::try_parse(nonce).map_err(|_| invalid)?,
            recipient: recipient.parse()?,
            body: blake3::Hash::from_hex(body).map_err(|_| invalid)?,
            mac: blake3::Hash::from_hex(mac).map_err(|_| invalid)?,
        })
    }
}

/// The proof sent before the answer to a ticket: its sender holds the cluster's secret and answers this request.
/// `nonce` is the request's own, `target` its path and query.
pub fn ticket_proof(secret: &ClusterSecret, nonce: &str, target: &str, status: StatusCode) -> blake3::Hash {
    let status = status.as_u16().to_le_bytes();
    secret.mac(KeyPurpose::Answer, &[b"ticket", nonce.as_bytes(), target.as_bytes(), &status])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/_/commit";

    fn secret() -> ClusterSecret {
        ClusterSecret::from_bytes(b"0123456789abcdef")
    }

    #[test]
    fn calls_are_bound_to_method_target_body_recipient_and_time() {
        let (secret, now, recipient) =
            (secret(), Timestamp::from_unix_ms(1_000_000_000), Recipient::random());
        let call = CallSignature::new(&secret, recipient, "POST", PATH, b"x", now);
        let text = call.to_string();
        let check = |s: &ClusterSecret, m, t| CallSignature::check(s, Some(&text), m, t);
        assert_eq!(check(&secret, "POST", PATH), Ok(call.clone()));
        assert_eq!(call.body, blake3::hash(b"x"));
        assert_eq!(check(&secret, "PUT", PATH), Err(SignatureError::Invalid));
        assert_eq!(check(&secret, "POST", "/_/commi"), Err(SignatureError::Invalid));
        let other = ClusterSecret::from_bytes(b"0123456789abcdeg");
        assert_eq!(check(&other, "POST", PATH), Err(SignatureError::Invalid));
        assert_eq!(call.check_time(now.after(CALL_LIFETIME)), Ok(()));
        let late = now.after(CALL_LIFETIME * 2);
        assert_eq!(call.check_time(late), Err(SignatureError::Expired));
        let early = CallSignature::new(&secret, recipient, "POST", PATH, b"x", late);
        assert_eq!(early.check_time(now), Err(SignatureError::Expired));
        let changed = [
            CallSignature { nonce: Uuid::new_v4(), ..call.clone() },
            CallSignature { recipient: Recipient::random(), ..call.clone() },
            CallSignature { recipient: Recipient::ANY, ..call.clone() },
            CallSignature { body: blake3::hash(b"y"), ..call.clone() },
            CallSignature { signed: now.after(CALL_LIFETIME / 2), ..call },
        ];
        for changed in changed.map(|c| c.to_string()) {
            let checked = CallSignature::check(&secret, Some(&changed), "POST", PATH);
            assert_eq!(checked, Err(SignatureError::Invalid), "{changed}");
        }
        for bad in [None, Some(""), Some("1"), Some("1."), Some("x.00"), Some(&*format!("{text}.00"))] {
            assert_eq!(CallSignature::check(&secret, bad, "POST", "/"), Err(SignatureError::Invalid));
        }
    }

    #[test]
    fn an_answer_is_bound_to_its_call_status_and_body() {
        let (secret, now) = (secret(), Timestamp::from_unix_ms(1_000_000_000));
        let sign = || CallSignature::new(&secret, Recipient::random(), "POST", PATH, b"x", now);
        let (call, another, next) = (sign(), sign(), Recipient::random());
        let (body, other) = (blake3::hash(b"yes"), blake3::hash(b"no"));
        let text = call.answer(&secret, next, StatusCode::OK, &body);
        let check = |call: &CallSignature, text, status, body| call.check_answer(&secret, text, status, body);
        assert_eq!(check(&call, Some(&*text), StatusCode::OK, &body), Ok(next));
        let invalid = Err(SignatureError::Invalid);
        assert_eq!(check(&another, Some(&*text), StatusCode::OK, &body), invalid, "of another call");
        assert_eq!(check(&call, Some(&*text), StatusCode::CREATED, &body), invalid);
        assert_eq!(check(&call, Some(&*text), StatusCode::OK, &other), invalid);
        let renamed = text.replace(&next.to_string(), &Recipient::random().to_string());
        assert_eq!(check(&call, Some(&*renamed), StatusCode::OK, &body), invalid);
        assert_eq!(check(&call, None, StatusCode::OK, &body), invalid);
    }
}
