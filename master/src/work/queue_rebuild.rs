//! Rebuilds the repair queue: tables of an older version have none, and a metadata rebuild writes only objects. It
//! scans all objects and parts once; after a failover the new leader starts over if the scan was not finished.

use std::sync::Arc;

use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::SURVEY_PAGE;
use shared::work::blocking;

use super::decommission::DecommissionError;
use crate::change::Changes;
use crate::db::Database;
use crate::state::command::Command;
use crate::tables::repair_queue::BlobRef;
use crate::tables::{TableError, meta, object, upload};

/// Blobs, and the objects or parts that refer to them.
type Named = Vec<(BlobId, BlobRef)>;

/// Queues all under- and over-replicated blobs, unless that was done before.
///
/// # Errors
/// When the tables cannot be read or written.
pub async fn rebuild_repair_queue(
    database: &Arc<Database>,
    changes: &Changes,
) -> Result<(), DecommissionError> {
    if meta::is_repair_queue_complete(&database.tree())? {
        return Ok(());
    }
    let (mut after, mut count) = (None, 0);
    loop {
        let (database, from) = (Arc::clone(database), after.take());
        let (blobs, next) = blocking(move || page(&database.tree(), from.as_ref())).await?;
        count += blobs.len();
        let last = next.is_none();
        if last || !blobs.is_empty() {
            changes.propose(Command::EnqueueRepair { blobs, last }).await?;
        }
        if last {
            tracing::info!(count, "the repair queue was rebuilt");
            return Ok(());
        }
        after = next;
    }
}

/// The blobs to queue from one page of objects, and the key after which to continue.
fn page(tree: &sled::Tree, after: Option<&Key>) -> Result<(Named, Option<Key>), TableError> {
    let (mut named, mut seen, mut last) = (Vec::new(), 0, None);
    for item in object::after(tree, after).take(SURVEY_PAGE) {
        let (key, object) = item?;
        seen += 1;
        let wanted = usize::from(object.wanted);
        let queued = object.blobs.iter().filter(|b| b.replicas.len() != wanted);
        named.extend(queued.map(|b| (b.id, BlobRef::object(&key))));
        if let Some(parts) = &object.parts {
            for record in upload::parts(tree, parts.upload, 0) {
                let record = record?;
                if record.replicas.len() != wanted {
                    named.push((record.part.blob, BlobRef::part(&key, parts.upload, record.part.number)));
                }
            }
        }
        last = Some(key);
    }
    Ok((named, last.filter(|_| seen == SURVEY_PAGE)))
}
