//! Uploads: a volume writes the bytes to its disk and passes them down the replica chain (write pipeline) at the same
//! time, as fast as the slowest of them. Receipts come back from the end of the chain; the first volume sends them to
//! the master for the commit, and answers the client with the outcome.
//!
//! A failure before the trailer is durable leaves nothing behind.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use http::header::{EXPECT, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body, DeclaredLength, Pace};
use shared::http::committed::committed;
use shared::http::metadata::Described;
use shared::key::Key;
use shared::ticket::{Operation, Ticket, WriteGrant};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{CommitRequest, CommitResponse};
use shared::wire::routes::{CHAIN_HEADER, COMMIT, TICKET};
use shared::wire::volume::ChainResponse;

use super::chain::Downstream;
use super::commit::commit;
use super::digests::DeclaredDigests;
use crate::server::Volume;
use crate::store::{NewRecord, RecordWriter, WriteError};

/// An upload whose ticket was verified.
struct AuthorizedUpload {
    volume: Arc<Volume>,
    key: Key,
    ticket_text: String,
    ticket: Ticket,
    grant: WriteGrant,
    /// This volume's place in the chain.
    position: usize,
    method: Method,
    headers: HeaderMap,
    described: Described,
}

/// Answers a PUT or POST with a write ticket.
pub(super) async fn receive(
    volume: &Arc<Volume>,
    key: Key,
    ticket_text: String,
    ticket: Ticket,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let (head, mut incoming) = request.into_parts();
    let waits = head.headers.contains_key(EXPECT);
    let accepted = accept(volume, key.clone(), ticket_text, ticket, head.method, head.headers).await;
    let outcome = match accepted {
        Ok((incomer, declared, upload)) => incomer.run(declared, upload, &mut incoming).await,
        Err(refusal) => {
            if !waits {
                body::drain_later(incoming);
            }
            return Err(refusal.for_key(&key));
        }
    };
    if outcome.is_err() {
        body::drain_later(incoming);
    }
    outcome.map_err(|e| e.for_key(&key))
}

/// Checks everything that can be refused before a byte of the body is requested.
async fn accept(
    volume: &Arc<Volume>,
    key: Key,
    ticket_text: String,
    ticket: Ticket,
    method: Method,
    headers: HeaderMap,
) -> Result<(AuthorizedUpload, DeclaredDigests, RecordWriter), ErrorReply> {
    let Operation::Write(grant) = ticket.operation.clone() else {
        return Err(ErrorReply::new(
            ErrorCode::BadTicket,
            "the ticket permits no write",
            "ask the master for a write ticket",
        ));
    };
    let us = volume.identity.volume();
    let place = grant.chain.iter().position(|link| link.volume == us).ok_or_else(|| {
        ErrorReply::new(
            ErrorCode::BadTicket,
            "the ticket is for other volumes",
            "ask the master, and follow its redirect",
        )
    })?;
    let length = agreed_length(body::declared_length(&headers), grant.length)?;
    let mut declared = DeclaredDigests::from_headers(&headers)?;
    declared.blake3 = declared.blake3.or(grant.digest);
    // A master that commits itself may send internal metadata; the volumes of the chain pass it on.
    let peer = grant.internal_metadata && headers.contains_key(CHAIN_HEADER);
    let taken = if peer { Described::from_peer(&headers) } else { Described::from_headers(&headers) };
    let described = taken
        .map_err(|e| ErrorReply::new(ErrorCode::BadHeader, e.to_string(), "fix the header and retry"))?;
    if volume.used_tickets.contains(ticket.blob) {
        return Err(WriteError::Exists { blob: ticket.blob }.into());
    }
    let record = NewRecord {
        blob: ticket.blob,
        key: key.clone(),
        content_type: described.content_type.clone(),
        metadata: described.metadata.clone(),
        length,
    };
    let upload = volume.store.begin(record).await?;
    let volume = Arc::clone(volume);
    Ok((
        AuthorizedUpload {
            volume,
            key,
            ticket_text,
            ticket,
            grant,
            position: place,
            method,
            headers,
            described,
        },
        declared,
        upload,
    ))
}

/// Returns the length of an upload, if known. The request must declare the length that the ticket is for.
fn agreed_length(declared: DeclaredLength, granted: Option<u64>) -> Result<Option<u64>, ErrorReply> {
    match (declared, granted) {
        (DeclaredLength::Missing, _) => Err(ErrorReply::new(
            ErrorCode::LengthRequired,
            "the upload has neither a length nor chunked encoding",
            "send Content-Length (0 for an empty value) or Transfer-Encoding: chunked",
        )),
        // A client that followed the redirect with another body than it announced, most likely an empty one.
        (DeclaredLength::Known(sent), Some(granted)) if sent != granted => Err(ErrorReply::new(
            ErrorCode::WrongLength,
            format!("the ticket is for {granted} bytes, but the request declares {sent}"),
            "nothing was stored; send the value again without following redirects by hand",
        )),
        // The same for a value announced without a length: then only the last chunk shows that the body is complete.
        (DeclaredLength::Known(sent), None) => Err(ErrorReply::new(
            ErrorCode::WrongLength,
            format!("the ticket is for a chunked upload, but the request declares {sent} bytes"),
            "nothing was stored; send the value again without following redirects by hand",
        )),
        (DeclaredLength::Known(sent), Some(_)) => Ok(Some(sent)),
        (DeclaredLength::Unknown, granted) => Ok(granted),
    }
}

impl AuthorizedUpload {
    async fn run(
        self,
        mut declared: DeclaredDigests,
        mut upload: RecordWriter,
        incoming: &mut Incoming,
    ) -> Result<Response<Body>, ErrorReply> {
        let mut down = self.open_downstream(upload_length(&self.headers, &self.grant));
        let mut pace = Pace::default();
        while let Some(frame) = upload.meanwhile(body::next(incoming)).await?? {
            pace.came(frame.len())?;
            self.volume.http_metrics.received(frame.len());
            let handed_on = async { tokio::join!(down.push(frame.clone()), declared.update(&frame)) };
            write_while_forwarding(&mut upload, &frame, handed_on).await?;
            self.check_reach(&down)?;
        }
        // Before the chain gets the last frame: what is refused here must not become durable there.
        declared.check()?;
        if let Some(granted) = self.grant.length.filter(|n| *n != upload.length()) {
            return Err(ErrorReply::new(
                ErrorCode::WrongLength,
                format!("received {} of {granted} bytes", upload.length()),
                "nothing was stored; send the whole value",
            ));
        }
        // From here on the client may disconnect: a durable value is committed all the same.
        let ended = tokio::spawn(async move { Box::pin(self.finish(&declared, upload, down)).await });
        match ended.await {
            Ok(outcome) => outcome,
            Err(_) => Err(ErrorReply::new(
                ErrorCode::OutcomeUnknown,
                "the volume failed while making the value durable",
                "send the value again: a repeated PUT is harmless",
            )),
        }
    }

    /// Fails if too few replicas for the write quorum can still become durable, so that the rest of the body is not
    /// waited for. Only the first volume can tell: it alone knows the whole chain.
    fn check_reach(&self, down: &Downstream) -> Result<(), ErrorReply> {
        let (reach, needed) = (1 + down.reachable_replicas(), usize::from(self.grant.min_replicas));
        if self.position > 0 || reach >= needed {
            return Ok(());
        }
        Err(ErrorReply::new(
            ErrorCode::Unavailable,
            format!(
                "only {reach} replicas can still become durable, but {needed} are needed: other volumes failed"
            ),
            "nothing was stored; send the value again",
        ))
    }

    fn open_downstream(&self, length: Option<u64>) -> Downstream {
        let target = format!("{}?{TICKET}={}", self.key.to_path(), self.ticket_text);
        let mut headers = HeaderMap::new();
        self.described.apply(&mut headers);
        super::digests::forward(&self.headers, &mut headers);
        headers.insert(CHAIN_HEADER, HeaderValue::from_static("1"));
        let rest = &self.grant.chain[self.position + 1..];
        Downstream::open(self.volume.peers.http().clone(), rest, target, headers, length)
    }

    /// Makes the value durable here, collects the receipts of the chain, and commits.
    async fn finish(
        self,
        declared: &DeclaredDigests,
        upload: RecordWriter,
        down: Downstream,
    ) -> Result<Response<Body>, ErrorReply> {
        let (stored, behind) = tokio::join!(upload.finish(), down.finish());
        let stored = match stored {
            // Another volume has a replica: if the metadata is rebuilt before that is reclaimed, the value exists.
            Err(error) if behind.is_some() => {
                return Err(ErrorReply::new(
                    ErrorCode::OutcomeUnknown,
                    format!(
                        "this volume failed at the end, after another one had made the value durable: {error}"
                    ),
                    "send the value again: a repeated PUT is harmless",
                ));
            }
            stored => stored?,
        };
        if let Err(refusal) = declared.check_blake3(&stored.digest) {
            // No receipt for it was issued.
            self.volume.store.delete(vec![stored.blob]).await?;
            return Err(refusal);
        }
        let mut receipts = vec![self.volume.receipt(self.ticket.cluster, &stored)];
        if let Some(behind) = behind {
            if behind.blake3 == stored.digest {
                receipts.extend(behind.receipts);
            } else {
                tracing::error!(key = %self.key, "the next volume of the chain wrote different bytes; its replica is not counted");
            }
        }
        if self.headers.contains_key(CHAIN_HEADER) {
            let answer = ChainResponse { receipts, blake3: stored.digest };
            return Ok(body::json(StatusCode::CREATED, &answer));
        }
        let CommitResponse { outcome, replicas } = self.commit(receipts).await?;
        let told = shared::wire::master::StoredObject {
            key: self.key.clone(),
            size: stored.length,
            blake3: stored.digest,
            generation: stored.blob,
            replicas,
            wanted: usize::from(self.grant.wanted),
        };
        let needed = usize::from(self.grant.min_replicas);
        committed(outcome, &told, needed, (&self.method, &self.headers))
    }

    /// Sends the receipts to the masters.
    async fn commit(&self, receipts: Vec<String>) -> Result<CommitResponse, ErrorReply> {
        let request = CommitRequest {
            key: self.key.clone(),
            ticket: self.ticket_text.clone(),
            receipts,
            content_type: self.described.content_type.clone(),
            metadata: self.described.metadata.clone(),
        };
        let masters = self.volume.masters.beginning_with(&self.ticket.master);
        let (peers, request) = (&self.volume.peers, &request);
        commit(
            &masters,
            |master, within| async move { peers.call_within(&master, COMMIT, request, within).await },
        )
        .await
        .map_err(|refusal| refusal.for_key(&self.key))
    }
}

/// Writes `bytes` and drives `other` at the same time.
async fn write_while_forwarding<T>(
    upload: &mut RecordWriter,
    bytes: &[u8],
    other: impl Future<Output = T>,
) -> Result<T, WriteError> {
    tokio::pin!(other);
    let written = upload.write(bytes);
    match select(pin!(written), &mut other).await {
        Either::Left((written, _)) => written?,
        Either::Right((output, writing)) => {
            writing.await?;
            return Ok(output);
        }
    }
    upload.meanwhile(other).await
}

fn upload_length(headers: &HeaderMap, grant: &WriteGrant) -> Option<u64> {
    match body::declared_length(headers) {
        DeclaredLength::Known(n) => Some(n),
        _ => grant.length,
    }
}

#[cfg(test)]
mod tests;
