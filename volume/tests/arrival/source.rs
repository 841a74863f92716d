//! Sources of a replica: good, truncated, blocked, or with another value than declared.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, RANGE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::digest::Digest;
use shared::http::body::{self, Body};
use shared::http::serve::{Context, Service};
use shared::wire::error::ErrorReply;
use shared::work::ShutdownTrigger;

use super::site::{Gate, serve};

/// A source of a value, good or not.
pub struct Source {
    pub value: Bytes,
    /// The digest that it declares.
    pub digest: Digest,
    /// Each answer breaks off after that many bytes.
    pub cut_after: usize,
    /// It waits at the gate before this byte.
    pub held: Option<(usize, Arc<Gate>)>,
    /// Offsets at which its answers began.
    pub offsets: Mutex<Vec<usize>>,
}

impl Source {
    pub fn of(value: &Bytes) -> Self {
        let digest = Digest::of(value);
        Self { value: value.clone(), digest, cut_after: usize::MAX, held: None, offsets: Mutex::default() }
    }

    pub async fn serve(self) -> (String, Arc<Self>, ShutdownTrigger) {
        let source = Arc::new(self);
        let (address, trigger) = serve(Arc::clone(&source)).await;
        (format!("{address}/x"), source, trigger)
    }

    /// Returns the next piece; an error at `cut_after` breaks the connection.
    async fn piece(&self, from: usize, at: usize) -> Option<(Result<Bytes, body::BodyFailure>, usize)> {
        if at == self.value.len() {
            return None;
        }
        let mut end = self.value.len().min(at + 50_000);
        if let Some((hold, gate)) = &self.held {
            if at == *hold {
                gate.pass().await;
            } else if at < *hold {
                end = end.min(*hold);
            }
        }
        end = end.min(from.saturating_add(self.cut_after));
        if end == at {
            return Some((Err("cut".into()), at));
        }
        Some((Ok(self.value.slice(at..end)), end))
    }
}

impl Service for Source {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let range = request.headers().get(RANGE).map(|v| v.to_str().unwrap().to_owned());
        let begin = |r: &str| r["bytes=".len()..].split('-').next().unwrap().parse().unwrap();
        let from: usize = range.as_deref().map_or(0, begin);
        self.offsets.lock().unwrap().push(from);
        let (length, etag) = (self.value.len(), self.digest.etag());
        let pieces = unfold(from, move |at| {
            let source = Arc::clone(&self);
            async move { source.piece(from, at).await }
        });
        let mut answer = Response::new(body::stream(pieces));
        let text = |text: String| HeaderValue::from_str(&text).unwrap();
        answer.headers_mut().insert(ETAG, text(etag));
        answer.headers_mut().insert(CONTENT_LENGTH, (length - from).into());
        if range.is_some() {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            answer.headers_mut().insert(CONTENT_RANGE, text(format!("bytes {from}-{}/{length}", length - 1)));
        }
        Ok(answer)
    }
}
