//! Expiry of objects, by the group's time in the tables.

use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::key::Key;

use crate::state::command::Outcome;
use crate::state::expiry::{ExpiryCondition, NewExpiry};
use crate::tables::expiry::Expiring;
use crate::tables::meta::{self, Counters};
use crate::tables::object::{self, Expiry, Object};
use crate::tables::{TableError, Tables};

/// Returns the expiry of a new object that replaces `current`.
pub(super) fn of_new(expiry: NewExpiry, current: Option<&Object>) -> Expiry {
    let at = match expiry {
        NewExpiry::At(at) => Some(at),
        NewExpiry::Keep => current.and_then(|object| object.expiry.at),
    };
    Expiry { at, revision: u32::from(at.is_some()) }
}

pub(super) fn set(
    tables: &mut Tables<'_>,
    key: &Key,
    at: Option<Timestamp>,
    (generation, condition): (Option<BlobId>, ExpiryCondition),
) -> Result<Outcome, TableError> {
    let Some(mut object) = object::read(tables, key)? else { return Ok(Outcome::NotFound) };
    let meant = generation.is_none_or(|generation| generation == object.generation);
    if !meant || !condition.holds(object.expiry.at, at) {
        return Ok(Outcome::ConditionFailed);
    }
    tables.remove_expiry(&object);
    object.expiry = Expiry { at, revision: next_revision(tables, object.expiry.revision)? };
    tables.put_expiry(key, &object);
    tables.put_object(key, &object);
    Ok(Outcome::Done)
}

pub(super) fn advance_time(tables: &mut Tables<'_>, to: Timestamp) -> Result<Outcome, TableError> {
    tables.advance_time(to)?;
    Ok(Outcome::Done)
}

/// Returns a revision greater than `last`, and, because of the time in it, than those that were set after the backup from
/// which these tables were restored.
fn next_revision(tables: &Tables<'_>, last: u32) -> Result<u32, TableError> {
    let seconds = meta::time(tables)?.unix_ms() / 1000;
    Ok(last.saturating_add(1).max(u32::try_from(seconds).unwrap_or(0)))
}

/// Removes those objects that are still the current ones of their keys and have expired, and the records of those that
/// are not.
pub(super) fn remove_expired(
    tables: &mut Tables<'_>,
    progress: &mut Counters,
    objects: &[Expiring],
) -> Result<Outcome, TableError> {
    let now = meta::time(tables)?;
    for expiring in objects {
        let object = object::read_stored(tables, &expiring.key)?;
        let meant = |o: &Object| (o.generation, o.expiry.at) == (expiring.generation, Some(expiring.at));
        match object.filter(meant) {
            Some(object) if object.is_expired(now) => {
                super::remove(tables, progress, &expiring.key, &object)?;
            }
            Some(_) => {}
            None => tables.remove_expiring(expiring),
        }
    }
    Ok(Outcome::Done)
}
