//! Access keys come and go. A key that is put again under its id takes the place of the old one; nothing else of the
//! tables depends on them.

use shared::access::AccessKeyId;

use crate::state::command::Outcome;
use crate::tables::access_key::AccessKey;
use crate::tables::{TableError, Tables};

pub(super) fn put(tables: &mut Tables<'_>, id: &AccessKeyId, key: &AccessKey) -> Outcome {
    tables.put_access_key(id, key);
    Outcome::Done
}

/// A damaged record can be revoked, too: so nothing of it is read but whether it is there.
pub(super) fn revoke(tables: &mut Tables<'_>, id: &AccessKeyId) -> Result<Outcome, TableError> {
    let there = match tables.access_key(id) {
        Ok(found) => found.is_some(),
        Err(TableError::Damaged { .. }) => true,
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
    use crate::state::apply::apply;
    use crate::state::command::Command;
    use crate::tables::access_key;

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
            secret: AccessSecret::random().seal(&ClusterSecret::from_bytes(b"0123456789abcdef"), &id),
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
        // What cannot be read can be revoked.
        db.insert([&b"k"[..], id.as_str().as_bytes()].concat(), b"rot").unwrap();
        assert!(access_key::read(&db, id.as_str()).is_err());
        assert_eq!(run(&revoke), Outcome::Done);
        assert!(!access_key::any(&db).unwrap());
    }
}
