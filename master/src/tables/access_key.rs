//! Access keys, by id: permission, scope, and the secret, encrypted with the cluster's secret. Nothing
//! here decrypts one.

use serde::{Deserialize, Serialize};
use shared::access::{AccessKeyId, EncryptedSecret, Permission, Scope};
use shared::clock::Timestamp;

use super::{Kind, Read, TableError, Tables, scan};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub secret: EncryptedSecret,
    pub permission: Permission,
    /// Bucket and prefix to which it is limited; `None` for no limit.
    pub scope: Option<Scope>,
    /// Free text of its creator.
    pub note: String,
    /// Creation time, by the clock of the master that took the request.
    pub created: Timestamp,
}

impl AccessKey {
    /// Returns about how many variable bytes it takes in the log.
    pub fn weight(&self) -> usize {
        self.note.len() + self.scope.as_ref().map_or(0, |s| s.bucket().len() + s.prefix().len())
    }
}

/// Reads an access key.
///
/// # Errors
/// When sled fails or the record is corrupt.
pub fn read(records: &impl Read, id: &str) -> Result<Option<AccessKey>, TableError> {
    let key = id.as_bytes();
    records.get(Kind::AccessKey, key)
}

/// Whether any access key exists, corrupt ones included.
///
/// # Errors
/// When sled fails.
pub fn any(tree: &sled::Tree) -> Result<bool, TableError> {
    Ok(tree.scan_prefix([Kind::AccessKey as u8]).next().transpose()?.is_some())
}

/// Returns at most `limit` access keys after `after`, ordered by id.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn page(
    tree: &sled::Tree,
    after: Option<&AccessKeyId>,
    limit: usize,
) -> Result<Vec<(AccessKeyId, AccessKey)>, TableError> {
    let after = after.map(|id| id.as_str().as_bytes());
    scan(tree, Kind::AccessKey, b"", after).take(limit).map(|r| r.and_then(named)).collect()
}

fn named((key, record): (Vec<u8>, AccessKey)) -> Result<(AccessKeyId, AccessKey), TableError> {
    let id = std::str::from_utf8(&key).ok().and_then(|id| id.parse().ok());
    let id = id.ok_or(TableError::Corrupt { kind: Kind::AccessKey, bytes: key.len() })?;
    Ok((id, record))
}

impl Tables<'_> {
    pub fn put_access_key(&mut self, id: &AccessKeyId, key: &AccessKey) {
        self.put(Kind::AccessKey, id.as_str().as_bytes(), key);
    }

    pub fn remove_access_key(&mut self, id: &AccessKeyId) {
        self.remove(Kind::AccessKey, id.as_str().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::access::AccessSecret;
    use shared::secret::ClusterSecret;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn what_is_put_is_read_page_by_page(ids in prop::collection::btree_set("[A-Za-z0-9_-]{3,8}", 1..12), size in 1usize..5) {
            let db = sled::Config::new().temporary(true).open().unwrap();
            prop_assert!(!super::any(&db).unwrap());
            let cluster = ClusterSecret::from_bytes(b"0123456789abcdef");
            let mut tables = Tables::new(&db);
            let mut all = Vec::new();
            for (n, id) in ids.iter().enumerate() {
                let id: AccessKeyId = id.parse().unwrap();
                let key = AccessKey {
                    secret: AccessSecret::random().encrypt(&cluster, &id),
                    permission: Permission::Write,
                    scope: n.is_multiple_of(2).then(|| "bucket/prefix".parse().unwrap()),
                    note: id.to_string(),
                    created: Timestamp::from_unix_ms(7),
                };
                tables.put_access_key(&id, &key);
                all.push((id, key));
            }
            db.apply_batch(tables.into_batch().unwrap()).unwrap();
            prop_assert!(super::any(&db).unwrap());
            for (id, key) in &all {
                prop_assert_eq!(read(&db, id.as_str()).unwrap(), Some(key.clone()));
            }
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let next = page(&db, after.as_ref(), size).unwrap();
                prop_assert!(next.len() <= size);
                let Some((last, _)) = next.last() else { break };
                after = Some(last.clone());
                seen.extend(next);
            }
            prop_assert_eq!(seen, all);
        }
    }
}
