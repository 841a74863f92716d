//! The S3 API of a master: translates requests of S3 into our operations. The decisions are made in the same code
//! as for the native API; `bucket/key` here is `/bucket/key` there. The library `s3s` implements protocol,
//! signatures and XML.
//!
//! Never redirects, and never holds a value in memory.

pub mod args;
mod buckets;
mod checksums;
mod convert;
mod dispatch;
mod documents;
mod error;
mod multipart;
mod objects;
pub mod request;
pub(crate) mod service;

use std::sync::Arc;

use http::Response;
use s3s::dto;
pub use s3s::host::DomainError;
use s3s::{S3Error, S3Result, s3_error};
use shared::attributes::Algorithm;
use shared::http::body::{self as ours, Body};
use shared::md5::Pool;

use crate::auth::{AuthConfig, Keys};
use crate::change::Changes;
use crate::config::Config;
use crate::master::Master;
use crate::metadata::Metadata;
use crate::metrics::MasterMetrics;
use crate::read::Reader;
use crate::write::Writer;

/// The region that clients are told when none is configured: the first region of S3.
const REGION: &str = "us-east-1";

#[derive(Clone)]
pub(crate) struct S3Operations {
    metadata: Metadata,
    changes: Arc<Changes>,
    reader: Reader,
    writer: Writer,
    metrics: Arc<MasterMetrics>,
    config: Arc<Config>,
    policy: Arc<AuthConfig>,
    /// The owner of everything: the id of the cluster.
    owner: String,
    region: String,
    /// Whether entity tags are MD5.
    md5: bool,
    md5s: Arc<Pool>,
}

impl S3Operations {
    fn new(master: &Master) -> Self {
        let settings = &master.config.s3;
        Self {
            metadata: master.metadata.clone(),
            changes: Arc::clone(&master.changes),
            reader: Reader::new(master),
            writer: Writer::new(master),
            metrics: Arc::clone(&master.metrics),
            config: Arc::clone(&master.config),
            policy: Arc::clone(&master.policy),
            owner: master.cluster_id().to_string(),
            region: settings.region.clone().unwrap_or_else(|| REGION.to_owned()),
            md5: !settings.blake3_etags,
            md5s: Arc::default(),
        }
    }

    /// Waits until this master has applied all that was acknowledged before, so that its reads are linearizable.
    pub(crate) async fn current(&self) -> S3Result<()> {
        self.metadata.ensure_linearizable().await.map_err(|e| error::from_reply(e.into()))
    }

    /// Returns the access keys as of this master's tables.
    fn keys(&self) -> Keys {
        Keys::new(self.metadata.database.tree(), &self.policy)
    }

    fn region_is_default(&self) -> bool {
        self.region == REGION
    }
}

fn outgoing(body: s3s::Body) -> Body {
    use http_body_util::BodyExt;
    body.boxed_unsync()
}

/// Renders an error as XML.
fn refusal(error: S3Error) -> Response<Body> {
    match error.to_http_response() {
        Ok(answer) => answer.map(outgoing),
        Err(error) => {
            tracing::error!(%error, "an S3 error cannot be rendered");
            let mut answer = Response::new(ours::empty());
            *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    }
}

/// Accepts canned ACLs that change nothing. Other ACLs are not supported.
fn refuse_acl(acl: Option<&str>) -> S3Result<()> {
    match acl {
        None | Some("private" | "bucket-owner-full-control") => Ok(()),
        Some(_) => Err(s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs: use the permissions of access keys (`barge key`)"
        )),
    }
}

/// Returns the checksum that the client declares for a multipart object, as text.
fn declared_sum(input: &dto::CompleteMultipartUploadInput) -> S3Result<Option<(Algorithm, String)>> {
    let mut stated = [
        (Algorithm::Crc32, &input.checksum_crc32),
        (Algorithm::Crc32c, &input.checksum_crc32c),
        (Algorithm::Crc64Nvme, &input.checksum_crc64nvme),
        (Algorithm::Sha1, &input.checksum_sha1),
        (Algorithm::Sha256, &input.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(algorithm, text)| text.clone().map(|text| (algorithm, text)));
    let first = stated.next();
    if stated.next().is_some() {
        return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header"));
    }
    Ok(first)
}
