//! A fake cluster for tests: one process is both master and volume, keeps values in memory, implements the HTTP API
//! and misbehaves on request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, LOCATION, RANGE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::clock::Timestamp;
use shared::condition::{WriteCondition, if_range_holds};
use shared::digest::Digest;
use shared::http::body::{self, Body};
use shared::http::serve::{self, Context, Service};
use shared::ids::BlobId;
use shared::key::Key;
use shared::range::{ByteRange, Ranges};
use shared::telemetry::{HttpMetrics, Metrics};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{DeletedObject, ListPage, ListedKey, StoredObject};
use shared::wire::routes::{HEALTH, LENGTH, LIST, REDIRECT, TICKET, query_value};
use shared::work::{Shutdown, ShutdownTrigger};
use tokio::net::TcpListener;

/// Faults to inject, each until its number is used up.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Downloads that break off after this many bytes of their body.
    pub(crate) cut_downloads: Vec<usize>,
    /// Uploads to a volume that are refused with 503 before a byte is read.
    pub(crate) refuse_uploads: u32,
    /// Uploads that are stored and then answered with nothing.
    pub(crate) silent_uploads: u32,
    /// Downloads with one corrupt byte.
    pub(crate) spoil_downloads: u32,
    /// A download after which the key has this value.
    pub(crate) then_replace: Option<Vec<u8>>,
    /// Uploads that store a different value.
    pub(crate) spoil_uploads: u32,
    /// Delay between an upload's last byte and its answer.
    pub(crate) late: Duration,
}

/// A cluster in one process.
pub(crate) struct Fake {
    values: Mutex<BTreeMap<Key, Bytes>>,
    faults: Mutex<Faults>,
    /// `Range` headers of downloads, in order of arrival.
    ranges: Mutex<Vec<Option<String>>>,
    base: String,
    _end: ShutdownTrigger,
}

const DAY: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

impl Fake {
    /// Starts one that listens.
    pub(crate) async fn start(faults: Faults) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (end, shutdown) = Shutdown::new();
        let new = Self {
            values: Mutex::default(),
            faults: Mutex::new(faults),
            ranges: Mutex::default(),
            base,
            _end: end,
        };
        let new = Arc::new(new);
        let metrics = HttpMetrics::new(&Metrics::default());
        tokio::spawn(serve::run(listener, None, Arc::clone(&new), metrics, shutdown));
        new
    }

    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// Sets the value of a key.
    pub(crate) fn set(&self, key: &Key, value: &[u8]) {
        self.values.lock().unwrap().insert(key.clone(), Bytes::copy_from_slice(value));
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &Key) -> Option<Bytes> {
        self.values.lock().unwrap().get(key).cloned()
    }

    /// How many keys have a value.
    pub(crate) fn len(&self) -> usize {
        self.values.lock().unwrap().len()
    }

    /// `Range` headers of the downloads so far.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.lock().unwrap().clone()
    }

    fn blob() -> BlobId {
        BlobId::next(None, DAY, [7; 10])
    }

    fn redirect(&self, path: &str) -> Response<Body> {
        let mut answer = Response::new(body::empty());
        *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        let location = format!("{}{path}?{TICKET}=t", self.base);
        answer.headers_mut().insert(LOCATION, HeaderValue::try_from(location).unwrap());
        answer
    }

    fn download(&self, key: &Key, value: &Bytes, request: &Request<Incoming>) -> Response<Body> {
        let (etag, len) = (Digest::of(value).etag(), value.len() as u64);
        let asked = request.headers().get(RANGE).map(|r| r.to_str().unwrap().to_owned());
        self.ranges.lock().unwrap().push(asked.clone());
        let asked = asked.filter(|_| if_range_holds(request.headers(), &etag, DAY));
        let (status, range) = match Ranges::parse(asked.as_deref(), len) {
            Ranges::Single(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
            _ => (StatusCode::OK, ByteRange::whole(len)),
        };
        let slice = |r: ByteRange| {
            value.slice(usize::try_from(r.start()).unwrap()..=usize::try_from(r.end()).unwrap())
        };
        let mut bytes = range.map_or(Bytes::new(), slice);
        let mut faults = self.faults.lock().unwrap();
        if faults.spoil_downloads > 0 {
            faults.spoil_downloads -= 1;
            let mut spoiled = bytes.to_vec();
            spoiled[0] ^= 1;
            bytes = spoiled.into();
        }
        let length = bytes.len();
        let payload = match faults.cut_downloads.pop() {
            None => body::full(bytes),
            Some(cut) => {
                let broken = async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err("cut".into())
                };
                body::stream(
                    stream::once(async move { Ok(bytes.slice(..cut.min(length))) })
                        .chain(stream::once(broken)),
                )
            }
        };
        if let Some(next) = faults.then_replace.take() {
            self.set(key, &next);
        }
        let mut answer = Response::new(payload);
        *answer.status_mut() = status;
        answer.headers_mut().insert(ETAG, HeaderValue::try_from(etag).unwrap());
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        if let (StatusCode::PARTIAL_CONTENT, Some(range)) = (status, range) {
            let text = HeaderValue::try_from(range.content_range(len)).unwrap();
            answer.headers_mut().insert(CONTENT_RANGE, text);
        }
        answer
    }

    async fn upload(&self, key: &Key, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
        let (silent, spoil, late) = {
            let mut faults = self.faults.lock().unwrap();
            if faults.refuse_uploads > 0 {
                faults.refuse_uploads -= 1;
                return Err(ErrorReply::new(ErrorCode::TooBusy, "no lane is free", "try again"));
            }
            let (silent, spoil) = (faults.silent_uploads > 0, faults.spoil_uploads > 0);
            faults.silent_uploads = faults.silent_uploads.saturating_sub(1);
            faults.spoil_uploads = faults.spoil_uploads.saturating_sub(1);
            (silent, spoil, faults.late)
        };
        let mut value = Vec::new();
        let mut incoming = request.into_body();
        while let Some(bytes) = body::next(&mut incoming)
            .await
            .map_err(|e| ErrorReply::new(ErrorCode::BadBody, e.to_string(), "send it whole"))?
        {
            value.extend_from_slice(&bytes);
        }
        if spoil {
            value.push(0);
        }
        self.set(key, &value);
        tokio::time::sleep(late).await;
        if silent {
            return Err(ErrorReply::new(ErrorCode::OutcomeUnknown, "no answer of the master", "try again"));
        }
        let stored = StoredObject {
            key: key.clone(),
            size: value.len() as u64,
            blake3: Digest::of(&value),
            generation: Self::blob(),
            replicas: 1,
            wanted: 2,
        };
        Ok(body::json(StatusCode::CREATED, &stored))
    }

    fn list(&self, query: Option<&str>) -> Response<Body> {
        let start = query_value(query, "start");
        let limit: usize = query_value(query, "limit").and_then(|l| l.parse().ok()).unwrap();
        let values = self.values.lock().unwrap();
        let after = |k: &&Key| start.as_deref().is_none_or(|s| k.as_str() > s);
        let listed = |k: &Key| ListedKey {
            key: k.clone(),
            size: values[k].len() as u64,
            blake3: Digest::of(&values[k]),
            generation: Self::blob(),
            content_type: None,
            last_modified: DAY.http_date(),
        };
        let keys: Vec<ListedKey> = values.keys().filter(after).take(limit).map(listed).collect();
        let last = keys.last().map(|k| k.key.as_str().to_owned());
        let next = last.filter(|l| values.keys().any(|k| k.as_str() > l.as_str()));
        body::json(StatusCode::OK, &ListPage { keys, prefixes: vec![], next })
    }
}

impl Service for Fake {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query());
        let has = |name| query_value(query, name).is_some();
        if path == HEALTH {
            return Ok(Response::new(body::full("{}")));
        }
        if has(LIST) {
            return Ok(self.list(query));
        }
        let key = Key::from_path(&path)?;
        let value = || {
            let none = || ErrorReply::new(ErrorCode::NotFound, "there is no such key", "look with ls");
            self.get(&key).ok_or_else(|| Box::new(none().for_key(&key)))
        };
        match *request.method() {
            Method::HEAD => {
                let value = value().map_err(|e| *e)?;
                let mut answer = Response::new(body::empty());
                let etag = HeaderValue::try_from(Digest::of(&value).etag()).unwrap();
                answer.headers_mut().insert(ETAG, etag);
                answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(value.len()));
                Ok(answer)
            }
            Method::GET if has(TICKET) => Ok(self.download(&key, &value().map_err(|e| *e)?, &request)),
            Method::GET => value().map(|_| self.redirect(&path)).map_err(|e| *e),
            Method::PUT if has(TICKET) => self.upload(&key, request).await,
            Method::PUT if has(REDIRECT) => {
                let condition = WriteCondition::from_headers(request.headers()).unwrap();
                if condition.holds(self.get(&key).map(|v| Digest::of(&v)).as_ref(), String::new) {
                    let _ = query_value(query, LENGTH);
                    return Ok(self.redirect(&path));
                }
                Err(ErrorReply::new(ErrorCode::PreconditionFailed, "it exists", "choose another")
                    .for_key(&key))
            }
            Method::DELETE => {
                let value = value().map_err(|e| *e)?;
                self.values.lock().unwrap().remove(&key);
                let deleted = DeletedObject { key, size: value.len() as u64, generation: Self::blob() };
                Ok(body::json(StatusCode::OK, &deleted))
            }
            _ => Err(ErrorReply::new(ErrorCode::MethodNotAllowed, "not that", "something else")),
        }
    }
}
