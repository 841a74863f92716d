//! Lists blobs with too few or too many copies that the tables do not list: those of an older version did not, and a rebuild writes objects
//! alone. All objects and parts are looked through, once; whoever leads next begins again where that did not come to its end.

use std::sync::Arc;

use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::SURVEY_PAGE;
use shared::work::blocking;

use super::leave::LeaveError;
use crate::master::Master;
use crate::state::command::Command;
use crate::tables::unsettled::Spot;
use crate::tables::{TableError, meta, object, upload};

/// Blobs, and where they are named.
type Named = Vec<(BlobId, Spot)>;

/// Lists them all, unless that was done.
///
/// # Errors
/// When the tables cannot be read or written.
pub async fn list_all(master: &Arc<Master>) -> Result<(), LeaveError> {
    if meta::is_listed(&master.database.tree())? {
        return Ok(());
    }
    let (mut after, mut count) = (None, 0);
    loop {
        let (database, from) = (Arc::clone(&master.database), after.take());
        let (blobs, next) = blocking(move || page(&database.tree(), from.as_ref())).await?;
        count += blobs.len();
        let last = next.is_none();
        if last || !blobs.is_empty() {
            master.sequencer.propose(Command::Owe { blobs, last }).await?;
        }
        if last {
            tracing::info!(count, "blobs with too few or too many copies are listed");
            return Ok(());
        }
        after = next;
    }
}

/// Those of a page of objects, and after which key to go on.
fn page(tree: &sled::Tree, after: Option<&Key>) -> Result<(Named, Option<Key>), TableError> {
    let (mut named, mut seen, mut last) = (Vec::new(), 0, None);
    for item in object::after(tree, after).take(SURVEY_PAGE) {
        let (key, object) = item?;
        seen += 1;
        let wanted = usize::from(object.wanted);
        let unsettled = object.blobs.iter().filter(|b| b.replicas.len() != wanted);
        named.extend(unsettled.map(|b| (b.id, Spot::object(&key))));
        if let Some(parts) = &object.parts {
            for record in upload::parts(tree, parts.upload, 0) {
                let record = record?;
                if record.replicas.len() != wanted {
                    named.push((record.part.blob, Spot::part(&key, parts.upload, record.part.number)));
                }
            }
        }
        last = Some(key);
    }
    Ok((named, last.filter(|_| seen == SURVEY_PAGE)))
}
