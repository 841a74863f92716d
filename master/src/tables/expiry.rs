//! Objects that expire: `time (8, big endian) · generation (16)` → key, so that those whose time has come are first.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::ids::BlobId;
use shared::key::Key;

use super::object::Object;
use super::{Kind, TableError, Tables, scan};

fn place(at: Timestamp, generation: BlobId) -> [u8; 24] {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&at.unix_ms().to_be_bytes());
    place[8..].copy_from_slice(generation.as_bytes());
    place
}

/// An object that expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiring {
    pub at: Timestamp,
    pub key: Key,
    pub generation: BlobId,
}

/// Iterates over the objects that expire later than `after`, the first one first. Skips corrupt records, and logs them.
///
/// # Errors
/// When sled fails.
pub fn after(
    tree: &sled::Tree,
    after: Option<Timestamp>,
) -> impl Iterator<Item = Result<Expiring, TableError>> + use<> {
    let last = after.map(|at| [&at.unix_ms().to_be_bytes()[..], &[0xff; 17]].concat());
    scan::<Key>(tree, Kind::Expiry, b"", last.as_deref()).filter_map(|item| match item.and_then(decoded) {
        Err(error @ TableError::Corrupt { .. }) => {
            tracing::error!(%error, "an object may not expire");
            None
        }
        item => Some(item),
    })
}

fn decoded((place, key): (Vec<u8>, Key)) -> Result<Expiring, TableError> {
    let corrupt = || TableError::Corrupt { kind: Kind::Expiry, bytes: place.len() };
    let (at, generation) = place.split_at_checked(8).ok_or_else(corrupt)?;
    let at = u64::from_be_bytes(at.try_into().map_err(|_| corrupt())?);
    let generation = generation.try_into().ok().and_then(|bytes| BlobId::from_bytes(bytes).ok());
    Ok(Expiring { at: Timestamp::from_unix_ms(at), key, generation: generation.ok_or_else(corrupt)? })
}

impl Tables<'_> {
    /// Records when an object expires, if it does.
    pub fn put_expiry(&mut self, key: &Key, object: &Object) {
        if let Some(at) = object.expiry.at {
            self.put(Kind::Expiry, &place(at, object.generation), key);
        }
    }

    /// Removes a record that matches no object.
    pub fn remove_expiring(&mut self, expiring: &Expiring) {
        self.remove(Kind::Expiry, &place(expiring.at, expiring.generation));
    }

    /// Removes what `put_expiry` recorded.
    pub fn remove_expiry(&mut self, object: &Object) {
        if let Some(at) = object.expiry.at {
            self.remove(Kind::Expiry, &place(at, object.generation));
        }
    }
}
