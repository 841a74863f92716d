//! Metrics of the Redis protocol.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use shared::telemetry::Metrics;

/// A command and how it ended, as labels.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Labels {
    /// Lower case; `other` for what is no command of ours.
    pub(super) command: &'static str,
    /// `ok`, or the kind of the error: `ERR`, `NOAUTH`, …
    pub(super) result: &'static str,
}

#[derive(Debug, Default)]
pub(crate) struct RespMetrics {
    pub(super) commands: Family<Labels, Counter>,
    pub(super) connections: Gauge,
    pub(super) sent_bytes: Counter,
    pub(super) received_bytes: Counter,
}

impl RespMetrics {
    /// Creates the metrics and registers them.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let new = Self::default();
        // A family is shown from its first sample on.
        let _ = new.commands.get_or_create(&Labels { command: "ping", result: "ok" });
        metrics.register(|r| {
            r.register("barge_resp_commands", "Commands answered", new.commands.clone());
            r.register("barge_resp_connections", "Open connections", new.connections.clone());
            r.register("barge_resp_sent_bytes", "Value bytes sent", new.sent_bytes.clone());
            r.register("barge_resp_received_bytes", "Value bytes received", new.received_bytes.clone());
        });
        new
    }
}

/// The kind of an error, as a label.
pub fn kind(text: &str) -> &'static str {
    let known = ["NOAUTH", "NOPERM", "WRONGPASS", "TRYAGAIN", "LOADING", "OOM", "NOPROTO"];
    let first = text.split(' ').next().unwrap_or_default();
    known.into_iter().find(|kind| *kind == first).unwrap_or("ERR")
}

/// The status of HTTP that says the same, for the audit log.
pub fn status(result: &str, null: bool) -> u16 {
    match result {
        "ok" if null => 404,
        "ok" => 200,
        "NOAUTH" | "WRONGPASS" => 401,
        "NOPERM" => 403,
        "TRYAGAIN" | "LOADING" => 503,
        "OOM" => 507,
        "broken" => 0,
        _ => 400,
    }
}
