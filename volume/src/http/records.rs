//! Calls of a metadata rebuild: the volume's records, its tombstones, and its identity. Signed like every call; they
//! change nothing, and the volume joins no cluster.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::limits::{INVENTORY_PAGE, RECORDS_AT_ONCE, RECORDS_PAGE_BYTES};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::volume::{RecordEntry, RecordedValue, RecordsPage, RecordsRequest, TombstonesRequest};
use shared::work::blocking;

use super::admin::check_meant;
use crate::server::Volume;
use crate::store::Record;

/// Returns a page of records, and the volume's report.
pub(super) async fn records(
    volume: &Arc<Volume>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: RecordsRequest = read_signed(request).await?;
    if let Some(cluster) = question.cluster.or(volume.identity.cluster()) {
        check_meant(volume, cluster, question.volume.unwrap_or_else(|| volume.identity.volume()))?;
    }
    let limit = question.limit.clamp(1, INVENTORY_PAGE);
    let mut page = RecordsPage { report: volume.report(), records: Vec::new(), next: None };
    let (mut after, mut bytes) = (question.after, 0);
    while page.records.len() < limit {
        let wanted = RECORDS_AT_ONCE.min(limit - page.records.len());
        let (records, more) = volume.store.records(after, wanted).await;
        for record in records {
            let entry = entry(record);
            bytes += size(&entry)?;
            if bytes > RECORDS_PAGE_BYTES && !page.records.is_empty() {
                page.next = page.records.last().map(|e| e.blob);
                return Ok(body::json(StatusCode::OK, &page));
            }
            page.records.push(entry);
        }
        page.next = more;
        after = more;
        if more.is_none() {
            break;
        }
    }
    Ok(body::json(StatusCode::OK, &page))
}

fn entry(Record { blob, length, header_and_trailer: ends }: Record) -> RecordEntry {
    let value = match ends {
        Ok(ends) => Some(RecordedValue {
            key: ends.key,
            blake3: ends.digest,
            content_type: ends.content_type,
            metadata: ends.metadata,
        }),
        Err(error) => {
            tracing::warn!(%blob, %error, "a record cannot be read for a rebuild; its key and metadata are left out");
            None
        }
    };
    RecordEntry { blob, length, value }
}

/// Returns the bytes that the entry takes in the answer.
fn size(entry: &RecordEntry) -> Result<usize, ErrorReply> {
    let text = serde_json::to_vec(entry);
    text.map(|t| t.len() + 1).map_err(|e| {
        ErrorReply::new(ErrorCode::Internal, e.to_string(), "see the volume's log for the record")
    })
}

/// Returns a page of tombstones.
pub(super) async fn tombstones(
    volume: &Arc<Volume>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: TombstonesRequest = read_signed(request).await?;
    check_meant(volume, question.cluster, question.volume)?;
    let volume = Arc::clone(volume);
    let page = blocking(move || volume.tombstones.page(question.after)).await?;
    Ok(body::json(StatusCode::OK, &page))
}
