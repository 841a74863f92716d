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
