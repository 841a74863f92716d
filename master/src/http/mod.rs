//! The master's HTTP face: which request goes where. What it means is in `write`, `read` and `list`.

pub mod admin;
pub mod error;
mod objects;

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::serve::{Context, Service};
use shared::telemetry::Metrics;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes;

use crate::master::Master;

/// The routes of a master.
pub struct Face {
    /// Behind them.
    pub master: Arc<Master>,
    /// Shown at `/_/metrics`.
    pub metrics: Metrics,
}

impl Service for Face {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        let path = request.uri().path();
        let listing = routes::query_value(request.uri().query(), routes::LIST).is_some();
        if path == "/" && !listing && request.method() == Method::GET {
            return Ok(greeting());
        }
        if !path.starts_with("/_/") && path != "/_" {
            return objects::handle(&self.master, request).await;
        }
        match (request.method(), path) {
            (&Method::GET, routes::HEALTH) => Ok(admin::health(&self.master)),
            (&Method::GET, routes::STATUS) => admin::status(&self.master),
            (&Method::GET, routes::METRICS) => {
                admin::refresh(&self.master)?;
                Ok(self.metrics.render())
            }
            (&Method::POST, routes::HEARTBEAT) => admin::heartbeat(&self.master, request).await,
            (&Method::POST, routes::COPIES) => admin::copies(&self.master, request).await,
            (&Method::POST, routes::COMMIT) => admin::commit(&self.master, request).await,
            _ => {
                let (head, body) = request.into_parts();
                body::drain_unless_waiting(&head.headers, body);
                Err(ErrorReply::new(
                    ErrorCode::NoSuchRoute,
                    "there is nothing at this path",
                    "paths under /_/ are Barge's own: health, status, metrics",
                ))
            }
        }
    }
}

fn greeting() -> Response<Body> {
    let text = concat!(
        "Barge ",
        env!("CARGO_PKG_VERSION"),
        "\n",
        "  store   curl -L -T FILE  http://HOST/KEY\n",
        "  fetch   curl -L          http://HOST/KEY\n",
        "  delete  curl -L -X DELETE http://HOST/KEY\n",
        "  list    curl             'http://HOST/?list'\n",
        "  health, status, metrics under /_/\n",
    );
    Response::new(body::full(text))
}
