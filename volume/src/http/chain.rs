//! The rest of a replica chain (write pipeline), as the volume before it sees it: bytes go to the next volume, which
//! passes them on; receipts come back. A next volume that fails or dies in the middle of an upload while all frames
//! are still kept is skipped for the one after it; later the rest of the chain is given up, and the blob is
//! under-replicated until it is repaired.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use shared::http::body;
use shared::http::client::HttpClient;
use shared::http::pipe::{Pipe, PipeError};
use shared::limits::{CHAIN_STALL_TIMEOUT, DRAIN_TIME_MAX, RECEIPT_TIMEOUT, REPLAY_FRAMES};
use shared::ticket::ChainLink;
use shared::wire::volume::ChainResponse;

/// The connection to the rest of the chain.
pub(super) struct Downstream {
    http: HttpClient,
    /// The volumes that may still get a replica, the next one first.
    links: VecDeque<ChainLink>,
    /// Path and query for each of them. It contains a ticket, so it is never logged.
    target: String,
    headers: HeaderMap,
    length: Option<u64>,
    pipe: Option<Pipe>,
    /// The last frame, held back until this volume has verified the value: a receiver treats a body of the declared
    /// length as complete.
    held: Option<Bytes>,
    /// All frames so far, while there are at most `REPLAY_FRAMES`.
    kept: Option<Vec<Bytes>>,
}

impl Downstream {
    /// Connects to the first of `links`.
    pub(super) fn open(
        http: HttpClient,
        links: &[ChainLink],
        target: String,
        headers: HeaderMap,
        length: Option<u64>,
    ) -> Self {
        let links = links.iter().cloned().collect();
        let kept = Some(Vec::new());
        let mut down = Self { http, links, target, headers, length, pipe: None, held: None, kept };
        down.connect();
        down
    }

    /// Number of volumes that may still get a replica.
    pub(super) fn reachable_replicas(&self) -> usize {
        if self.pipe.is_some() { self.links.len() } else { 0 }
    }

    /// Passes bytes on; waits while the next volume is slower than this one.
    pub(super) async fn push(&mut self, bytes: Bytes) {
        if let Some(bytes) = self.held.replace(bytes) {
            self.send(bytes).await;
        }
    }

    /// Ends the body and returns the receipts of the rest of the chain; `None` if nothing is left of it.
    pub(super) async fn finish(mut self) -> Option<ChainResponse> {
        if let Some(bytes) = self.held.take() {
            self.send(bytes).await;
        }
        loop {
            let pipe = self.pipe.take()?;
            let answer = pipe.finish(RECEIPT_TIMEOUT * self.count()).await;
            if let Some(receipts) = self.receipts(answer).await {
                return Some(receipts);
            }
            self.pass_over().await;
        }
    }

    fn connect(&mut self) {
        self.pipe = self.links.front().map(|link| {
            let url = format!("{}{}", link.address, self.target);
            Pipe::open(&self.http, Method::PUT, &url, self.headers.clone(), self.length)
        });
    }

    /// Number of volumes from the next one to the end: timeouts grow with it.
    fn count(&self) -> u32 {
        u32::try_from(self.links.len()).unwrap_or(1)
    }

    async fn send(&mut self, bytes: Bytes) {
        if self.pipe.is_none() {
            return;
        }
        match &mut self.kept {
            Some(kept) if kept.len() < REPLAY_FRAMES => kept.push(bytes.clone()),
            kept => *kept = None,
        }
        if !self.push_one(bytes).await {
            self.pass_over().await;
        }
    }

    async fn push_one(&mut self, bytes: Bytes) -> bool {
        let limit = CHAIN_STALL_TIMEOUT * self.count();
        let Some(pipe) = &mut self.pipe else { return false };
        match (pipe.push(bytes, limit).await, self.pipe.take()) {
            (Ok(()), pipe) => {
                self.pipe = pipe;
                true
            }
            // It stopped reading: its answer, or why it cannot be reached, is the reason.
            (Err(PipeError::Closed), Some(pipe)) => {
                let answer = pipe.answer(DRAIN_TIME_MAX).await;
                let _ = self.receipts(answer).await;
                false
            }
            (Err(error), _) => {
                self.failed(&error);
                false
            }
        }
    }

    /// After the death or a failure of the next volume (pipeline recovery), connects to the one after it and sends
    /// everything from the first byte on. If those frames are no longer kept, gives up the rest of the chain.
    async fn pass_over(&mut self) {
        self.pipe = None;
        while let Some(kept) = self.kept.clone() {
            self.links.pop_front();
            self.connect();
            let mut whole = self.pipe.is_some();
            for bytes in kept {
                whole = whole && self.push_one(bytes).await;
            }
            if whole || self.links.is_empty() {
                return;
            }
        }
        self.links.clear();
    }

    /// Returns the receipts in an answer; logs why if there are none.
    async fn receipts(&self, answer: Result<Response<Incoming>, PipeError>) -> Option<ChainResponse> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.failed(&error);
                return None;
            }
        };
        let status = answer.status();
        let text = body::collect_answer(answer.into_body()).await.unwrap_or_default();
        if status.is_success() {
            return serde_json::from_slice(&text).ok();
        }
        let reason = String::from_utf8_lossy(&text).into_owned();
        tracing::warn!(next = self.next(), %status, reason, "the next volume of the chain refused the replica");
        None
    }

    fn failed(&self, error: &PipeError) {
        tracing::warn!(next = self.next(), %error, "the next volume of the chain failed; its replica is repaired later");
    }

    fn next(&self) -> &str {
        self.links.front().map_or("", |link| link.address.as_str())
    }
}
