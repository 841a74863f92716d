//! One worker: performs operations one after the other and measures them.

use std::time::Instant;

use http::header::{ETAG, LOCATION};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use shared::digest::Digest;
use shared::limits::HOPS_MAX;
use shared::wire::routes::{LENGTH, REDIRECT, TICKET, query_value};

use super::connection::Connections;
use super::report::{ErrorKind, Tally};
use super::{Load, Task};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    /// Storing a value.
    Put,
    Get,
}

/// One connection's worth of load.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    load: &'a Load,
    connections: Connections,
    tally: Tally,
}

impl<'a> Worker<'a> {
    /// A worker that has done nothing yet.
    pub(crate) fn new(load: &'a Load) -> Self {
        Self {
            load,
            connections: Connections::new(load.shown.clone(), load.trust.clone()),
            tally: Tally::default(),
        }
    }

    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Performs one operation, within its deadline.
    pub(crate) async fn run(&mut self, task: Task) {
        let (started, limit) = (Instant::now(), self.load.args.op_timeout);
        let result = match task.op {
            Op::Put => tokio::time::timeout(limit, self.put(task.key)).await,
            Op::Get => tokio::time::timeout(limit, self.get(task.key)).await,
        };
        match result.unwrap_or(Err(ErrorKind::Timeout)) {
            Ok(bytes) => self.tally.succeeded(task.op, bytes, started.elapsed()),
            Err(kind) => {
                self.connections.clear();
                self.tally.failed(task.op, kind);
                // A server that refuses immediately must not get a million requests a second.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    /// Stores a value: with a ticket from Barge, directly on other servers.
    async fn put(&mut self, key: u64) -> Result<u64, ErrorKind> {
        let load = self.load;
        let size = load.values.size();
        // Counted before it is done, so that cleanup deletes whatever may exist.
        load.put.fetch_max(key + 1, std::sync::atomic::Ordering::Relaxed);
        let uri = if load.barge {
            let asking = load.uri(key, &format!("?{REDIRECT}&{LENGTH}={size}")).ok_or(ErrorKind::Redirect)?;
            self.ticket(asking).await?
        } else {
            load.uri(key, "").ok_or(ErrorKind::Redirect)?
        };
        let answer = self.connections.exchange(&Method::PUT, &uri, Some(&load.values.body(key))).await?;
        if answer.status().is_success() { Ok(size) } else { Err(ErrorKind::Status(answer.status().as_u16())) }
    }

    /// Asks the master for an upload URL.
    async fn ticket(&mut self, mut uri: Uri) -> Result<Uri, ErrorKind> {
        for _ in 0..=HOPS_MAX {
            let answer = self.connections.exchange(&Method::PUT, &uri, None).await?;
            if answer.status() != StatusCode::TEMPORARY_REDIRECT {
                return Err(ErrorKind::Status(answer.status().as_u16()));
            }
            uri = location(&answer)?;
            if query_value(uri.query(), TICKET).is_some() {
                return Ok(uri);
            }
        }
        Err(ErrorKind::Redirect)
    }

    /// Fetches a value, following redirects, and counts its bytes.
    async fn get(&mut self, key: u64) -> Result<u64, ErrorKind> {
        let mut uri = self.load.uri(key, "").ok_or(ErrorKind::Redirect)?;
        for _ in 0..=HOPS_MAX {
            let answer = self.connections.send(&Method::GET, &uri, None).await?;
            match answer.status() {
                StatusCode::OK => return self.receive(key, answer).await,
                status if status.is_redirection() => {
                    uri = location(&answer)?;
                    drain(answer).await?;
                }
                status => return Err(ErrorKind::Status(status.as_u16())),
            }
        }
        Err(ErrorKind::Redirect)
    }

    async fn receive(&self, key: u64, answer: Response<Incoming>) -> Result<u64, ErrorKind> {
        let etag = answer.headers().get(ETAG).and_then(|e| e.to_str().ok());
        let stated: Option<Digest> = etag.and_then(|e| e.trim_matches('"').parse().ok());
        let mut hash = self.load.args.verify.then(blake3::Hasher::new);
        let (mut body, mut bytes) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ErrorKind::Short)?.into_data() else { continue };
            bytes += data.len() as u64;
            if let Some(hash) = &mut hash {
                hash.update(&data);
            }
        }
        // Keys that another run put may have another size.
        if bytes != self.load.values.size() && !self.load.args.no_fill {
            return Err(ErrorKind::Short);
        }
        let wanted = || stated.unwrap_or_else(|| self.load.values.digest(key));
        match hash {
            Some(hash) if Digest::from(hash.finalize()) != wanted() => Err(ErrorKind::Verify),
            _ => Ok(bytes),
        }
    }
}

fn location<B>(answer: &Response<B>) -> Result<Uri, ErrorKind> {
    let text = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok());
    let uri: Uri = text.and_then(|l| l.parse().ok()).ok_or(ErrorKind::Redirect)?;
    if uri.authority().is_some() { Ok(uri) } else { Err(ErrorKind::Redirect) }
}

/// Reads the short body of a redirect, so that its connection can be reused.
async fn drain(answer: Response<Incoming>) -> Result<(), ErrorKind> {
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|_| ErrorKind::Closed)?;
    }
    Ok(())
}
