//! Logs and metrics. Log lines have fields, are text or JSON, and never hold a secret or a ticket. Metrics are one
//! registry per server, served as Prometheus text under `/_/metrics`.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, header::CONTENT_TYPE};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::http::body::{Body, full};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines of text, for people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = LogFormatError;
    fn from_str(s: &str) -> Result<Self, LogFormatError> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogFormatError),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Json { "json" } else { "text" })
    }
}

/// The text is not a log format.
#[derive(Debug, thiserror::Error)]
#[error("a log format is text or json")]
pub struct LogFormatError;

/// Sends logs to standard error, filtered by `RUST_LOG` (default `info`). Takes effect once per process.
pub fn init_logs(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sled=warn,openraft=error"));
    // The S3 library logs every refusal as an error, and shows requests with their signatures.
    let filter = filter.add_directive("s3s=off".parse().expect("a directive"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// One server's metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Adds metrics while the server is built.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All metrics as Prometheus text.
    pub fn render(&self) -> Response<Body> {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        let mut response = Response::new(full(text));
        let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    status: u16,
}

/// Request metrics of every server.
#[derive(Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    in_flight: Gauge,
    sent_bytes: Counter,
    received_bytes: Counter,
}

/// A request in flight; dropping it ends it.
#[derive(Debug)]
pub struct Flight(Gauge);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpMetrics {
    /// Registers them in a server's metrics.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let new = Self {
            requests: Family::default(),
            // From 0.5 ms, doubling, to about 16 s.
            seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            in_flight: Gauge::default(),
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
        };
        metrics.register(|r| {
            r.register("barge_http_requests", "Requests answered", new.requests.clone());
            r.register("barge_http_seconds", "Time to the first byte of the answer", new.seconds.clone());
            r.register("barge_http_in_flight", "Requests under way", new.in_flight.clone());
            r.register("barge_http_sent_bytes", "Body bytes sent", new.sent_bytes.clone());
            r.register("barge_http_received_bytes", "Value bytes received", new.received_bytes.clone());
        });
        Arc::new(new)
    }

    /// Counts a request in flight.
    pub fn enter(&self) -> Flight {
        self.in_flight.inc();
        Flight(self.in_flight.clone())
    }

    /// Counts an answer, and its time to the first byte.
    pub fn answered(&self, method: &Method, status: StatusCode, after: Duration) {
        // Clients may invent methods; they must not create labels.
        let known = [Method::GET, Method::PUT, Method::POST, Method::HEAD, Method::DELETE];
        let method = if known.contains(method) { method.to_string() } else { "other".into() };
        self.requests.get_or_create(&RequestLabels { method, status: status.as_u16() }).inc();
        self.seconds.observe(after.as_secs_f64());
    }

    /// Counts body bytes sent.
    pub fn sent(&self, bytes: usize) {
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// Counts value bytes received.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.inc_by(bytes as u64);
    }
}
