//! Changes of access keys and bucket permissions, in sequence: a change that was decided before another one was
//! applied has no effect, so that a late retry cannot restore a revoked key. A key put again under its id replaces
//! the old one. Nothing else in the tables depends on access keys.

use shared::access::AccessKeyId;

use super::apply;
use crate::state::command::{Command, Outcome};
use crate::tables::access_key::AccessKey;
use crate::tables::{TableError, Tables, access_key, meta};

/// Applies a change if its sequence number is the next one.
pub(super) fn in_sequence(
    tables: &mut Tables<'_>,
    sequence: u64,
    change: &Command,
) -> Result<Outcome, TableError> {
    let in_order = meta::sequence(tables)? == sequence;
    // A nested one would be counted twice.
    if !in_order || matches!(change, Command::InSequence { .. }) {
        let mut progress = meta::counters(tables)?;
        progress.applied += 1;
        tables.put_counters(&progress);
        return Ok(Outcome::Outdated);
    }
    tables.put_sequence(sequence + 1);
    apply(tables, change)
}

pub(super) fn put(tables: &mut Tables<'_>, id: &AccessKeyId, key: &AccessKey) -> Outcome {
    tables.put_access_key(id, key);
    Outcome::Done
}

/// Revokes an access key. A corrupt record can be revoked, too: only its existence is checked.
pub(super) fn revoke(tables: &mut Tables<'_>, id: &AccessKeyId) -> Result<Outcome, TableError> {
    let there = match access_key::read(tables, id.as_str()) {
        Ok(found) => found.is_some(),
        Err(TableError::Corrupt { .. }) => true,
        Err(e) => return Err(e),
    };
    if !there {
        return Ok(Outcome::NotFound);
    }
    tables.remove_access_key(id);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use shared::access::{AccessSecret, Permission};
    use shared::clock::Timestamp;
    use shared::secret::ClusterSecret;

    use super::*;
    use crate::tables::{access_key, meta};

    #[test]
    fn what_comes_out_of_sequence_changes_nothing() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let run = |sequence, change: &Command| {
            let mut tables = Tables::new(&db);
            let change = Box::new(change.clone());
            let outcome = apply(&mut tables, &Command::InSequence { sequence, change }).unwrap();
            db.apply_batch(tables.into_batch().unwrap()).unwrap();
            outcome
        };
        let id = AccessKeyId::random();
        let key = AccessKey {
            secret: AccessSecret::random().encrypt(&ClusterSecret::from_bytes(b"0123456789abcdef"), &id),
            permission: Permission::Admin,
            scope: None,
            note: String::new(),
            created: Timestamp::from_unix_ms(1),
        };
        let put = Command::PutAccessKey { id: id.clone(), key: Box::new(key) };
        let revoke = Command::RevokeAccessKey { id };
        assert_eq!(run(0, &put), Outcome::Done);
        assert_eq!(run(1, &revoke), Outcome::Done);
        for (sequence, change) in [(0, &put), (1, &put), (3, &put), (1, &revoke)] {
            assert_eq!(run(sequence, change), Outcome::Outdated);
            assert!(!access_key::any(&db).unwrap(), "a revoked key was restored");
        }
        let nested = Command::InSequence { sequence: 2, change: Box::new(put.clone()) };
        assert_eq!(run(2, &nested), Outcome::Outdated);
        assert_eq!(meta::sequence(&db).unwrap(), 2);
        // A change without effect counts, too.
        assert_eq!(run(2, &revoke), Outcome::NotFound);
        assert_eq!(run(3, &put), Outcome::Done);
        assert_eq!((meta::sequence(&db).unwrap(), meta::counters(&db).unwrap().applied), (4, 9));
    }

    #[test]
    fn put_replace_revoke() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let run = |command: &Command| {
            let mut tables = Tables::new(&db);
            let outcome = apply(&mut tables, command).unwrap();
            db.apply_batch(tables.into_batch().unwrap()).unwrap();
            outcome
        };
        let id = AccessKeyId::random();
        let key = |permission| AccessKey {
            secret: AccessSecret::random().encrypt(&ClusterSecret::from_bytes(b"0123456789abcdef"), &id),
            permission,
            scope: None,
            note: String::new(),
            created: Timestamp::from_unix_ms(1),
        };
        let revoke = Command::RevokeAccessKey { id: id.clone() };
        assert_eq!(run(&revoke), Outcome::NotFound);
        for permission in [Permission::Read, Permission::Admin] {
            let key = key(permission);
            let put = Command::PutAccessKey { id: id.clone(), key: Box::new(key.clone()) };
            assert_eq!(run(&put), Outcome::Done);
            assert_eq!(access_key::read(&db, id.as_str()).unwrap(), Some(key));
        }
        assert_eq!(run(&revoke), Outcome::Done);
        assert!(!access_key::any(&db).unwrap());
        // A corrupt record can be revoked.
        db.insert([&b"k"[..], id.as_str().as_bytes()].concat(), b"rot").unwrap();
        assert!(access_key::read(&db, id.as_str()).is_err());
        assert_eq!(run(&revoke), Outcome::Done);
        assert!(!access_key::any(&db).unwrap());
    }
}
