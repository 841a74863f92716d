//! A value in: to this disk and down the chain at once, as fast as the slowest of them. Receipts come
//! back from the end; the first volume hands them to the master, and answers the client with the outcome.
//!
//! Whatever goes wrong before the trailer is durable leaves nothing behind.

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
use super::digests::Declared;
use crate::server::Volume;
use crate::store::{NewRecord, Upload, WriteError};

/// An upload whose ticket is good.
struct Incomer {
    volume: Arc<Volume>,
    key: Key,
    sealed: String,
    ticket: Ticket,
    grant: WriteGrant,
    /// This volume's place in the chain.
    place: usize,
    method: Method,
    headers: HeaderMap,
    described: Described,
}

/// Answers a PUT or POST that has a write ticket.
pub(super) async fn receive(
    volume: &Arc<Volume>,
    key: Key,
    sealed: String,
    ticket: Ticket,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let (head, mut incoming) = request.into_parts();
    let waits = head.headers.contains_key(EXPECT);
    let accepted = accept(volume, key.clone(), sealed, ticket, head.method, head.headers).await;
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

/// All that can be refused before a byte of the body is asked for.
async fn accept(
    volume: &Arc<Volume>,
    key: Key,
    sealed: String,
    ticket: Ticket,
    method: Method,
    headers: HeaderMap,
) -> Result<(Incomer, Declared, Upload), ErrorReply> {
    let Operation::Write(grant) = ticket.operation.clone() else {
        return Err(ErrorReply::new(ErrorCode::BadTicket, "the ticket permits no write", "ask the master"));
    };
    let us = volume.identity.volume();
    let place = grant.chain.iter().position(|link| link.volume == us).ok_or_else(|| {
        ErrorReply::new(
            ErrorCode::BadTicket,
            "the ticket is for other volumes",
            "ask the master, and follow its redirect",
        )
    })?;
    let length = match (body::declared_length(&headers), grant.length) {
        (DeclaredLength::Missing, _) => {
            return Err(ErrorReply::new(
                ErrorCode::LengthRequired,
                "the upload says neither how long it is nor that it is chunked",
                "send Content-Length (0 for an empty value) or Transfer-Encoding: chunked",
            ));
        }
        // A client that followed the redirect with another body than it announced: the first guess is an empty one.
        (DeclaredLength::Known(sent), Some(granted)) if sent != granted => {
            return Err(ErrorReply::new(
                ErrorCode::WrongLength,
                format!("the ticket is for {granted} bytes, the request announces {sent}"),
                "nothing was stored; send the value again without following redirects by hand",
            ));
        }
        // The same for a value that was announced without a length: then only its last chunk says that it is whole.
        (DeclaredLength::Known(sent), None) => {
            return Err(ErrorReply::new(
                ErrorCode::WrongLength,
                format!("the ticket is for a chunked upload, the request announces {sent} bytes"),
                "nothing was stored; send the value again without following redirects by hand",
            ));
        }
        (DeclaredLength::Known(sent), Some(_)) => Some(sent),
        (DeclaredLength::Unknown, granted) => granted,
    };
    let mut declared = Declared::from_headers(&headers)?;
    declared.blake3 = declared.blake3.or(grant.digest);
    // A master that commits itself may say more; so may whoever hands on what it said.
    let peer = grant.notes && headers.contains_key(CHAIN_HEADER);
    let taken = if peer { Described::from_peer(&headers) } else { Described::from_headers(&headers) };
    let described = taken.map_err(|e| {
        ErrorReply::new(ErrorCode::BadHeader, e.to_string(), "mend the header and send again")
    })?;
    if volume.spent.contains(ticket.blob) {
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
    Ok((Incomer { volume, key, sealed, ticket, grant, place, method, headers, described }, declared, upload))
}

impl Incomer {
    async fn run(
        self,
        mut declared: Declared,
        mut upload: Upload,
        incoming: &mut Incoming,
    ) -> Result<Response<Body>, ErrorReply> {
        let mut down = self.open_downstream(upload_length(&self.headers, &self.grant));
        let mut pace = Pace::default();
        while let Some(frame) = upload.meanwhile(body::next(incoming)).await?? {
            pace.came(frame.len())?;
            self.volume.http_metrics.received(frame.len());
            let handed_on = async { tokio::join!(down.push(frame.clone()), declared.update(&frame)) };
            write_beside(&mut upload, &frame, handed_on).await?;
            self.check_reach(&down)?;
        }
        // Before the end is told to the chain: what is refused here must not be durable there.
        declared.check()?;
        if let Some(granted) = self.grant.length.filter(|n| *n != upload.length()) {
            return Err(ErrorReply::new(
                ErrorCode::WrongLength,
                format!("{} bytes came, {granted} were announced", upload.length()),
                "nothing was stored; send the whole value",
            ));
        }
        // From here on the client may go: what is durable is brought to its commit.
        let ended = tokio::spawn(async move { Box::pin(self.end(&declared, upload, down)).await });
        match ended.await {
            Ok(outcome) => outcome,
            Err(_) => Err(ErrorReply::new(
                ErrorCode::OutcomeUnknown,
                "the volume failed while it made the value durable",
                "send the value again: a repeated PUT is harmless",
            )),
        }
    }

    /// Whether enough copies can still become durable; if not, the rest of the body is not waited for. Only the
    /// first volume can tell: it alone knows all of the chain.
    fn check_reach(&self, down: &Downstream) -> Result<(), ErrorReply> {
        let (reach, needed) = (1 + down.reach(), usize::from(self.grant.min_replicas));
        if self.place > 0 || reach >= needed {
            return Ok(());
        }
        Err(ErrorReply::new(
            ErrorCode::Unavailable,
            format!(
                "only {reach} copies can still become durable, and {needed} are needed: other volumes failed"
            ),
            "nothing was stored; send the value again",
        ))
    }

    fn open_downstream(&self, length: Option<u64>) -> Downstream {
        let target = format!("{}?{TICKET}={}", self.key.to_path(), self.sealed);
        let mut headers = HeaderMap::new();
        self.described.apply(&mut headers);
        super::digests::forward(&self.headers, &mut headers);
        headers.insert(CHAIN_HEADER, HeaderValue::from_static("1"));
        let rest = &self.grant.chain[self.place + 1..];
        Downstream::open(self.volume.peers.http().clone(), rest, target, headers, length)
    }

    /// Makes the value durable here, gathers the receipts of the chain, and commits.
    async fn end(
        self,
        declared: &Declared,
        upload: Upload,
        down: Downstream,
    ) -> Result<Response<Body>, ErrorReply> {
        let (stored, behind) = tokio::join!(upload.finish(), down.finish());
        let stored = match stored {
            // Another volume has it: should the metadata be rebuilt before that copy is collected, it is a value.
            Err(error) if behind.is_some() => {
                return Err(ErrorReply::new(
                    ErrorCode::OutcomeUnknown,
                    format!(
                        "this volume failed at the end, when another one had made the value durable: {error}"
                    ),
                    "send the value again: a repeated PUT is harmless",
                ));
            }
            stored => stored?,
        };
        if let Err(refusal) = declared.check_blake3(&stored.digest) {
            // Nobody has a receipt for it yet, and nobody will.
            self.volume.store.delete(vec![stored.blob]).await?;
            return Err(refusal);
        }
        let mut receipts = vec![self.volume.receipt(self.ticket.cluster, &stored)];
        if let Some(behind) = behind {
            if behind.blake3 == stored.digest {
                receipts.extend(behind.receipts);
            } else {
                tracing::error!(key = %self.key, "the next volume of the chain wrote other bytes than this one");
            }
        }
        if self.headers.contains_key(CHAIN_HEADER) {
            let answer = ChainResponse { receipts, blake3: stored.digest };
            return Ok(body::json(StatusCode::CREATED, &answer));
        }
        let CommitResponse { outcome, replicas } = self.commit(receipts).await?;
        let told = shared::wire::master::Stored {
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

    /// Hands the receipts to the masters.
    async fn commit(&self, receipts: Vec<String>) -> Result<CommitResponse, ErrorReply> {
        let request = CommitRequest {
            key: self.key.clone(),
            ticket: self.sealed.clone(),
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

/// Writes `bytes` while `other` goes on.
async fn write_beside<T>(
    upload: &mut Upload,
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
