//! Listing: a range scan over the objects, grouped by a delimiter. The cursor is a key, so the page after `next`
//! begins exactly where this one ended, whatever was written in between.

use shared::key::Key;
use shared::limits::{LIST_LIMIT, LIST_LIMIT_MAX};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{ListPage, ListedKey};
use shared::wire::routes::query_value;

use crate::tables::object::Object;
use crate::tables::{Kind, TableError, meta, scan};

/// Above every byte of UTF-8: every key with a prefix sorts before that prefix followed by this byte.
const AFTER_ALL: u8 = 0xff;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// List only keys that begin with this.
    pub prefix: String,
    /// List only keys after this one.
    pub start: Option<String>,
    /// Maximum of keys and prefixes on one page.
    pub limit: usize,
    /// Keys with the same text between the prefix and the delimiter form one entry.
    pub delimiter: Option<String>,
}

impl ListQuery {
    /// Parses the query of a request.
    ///
    /// # Errors
    /// When the limit is not a number.
    pub fn parse(prefix: String, query: Option<&str>) -> Result<Self, ErrorReply> {
        let limit = match query_value(query, "limit").filter(|l| !l.is_empty()) {
            None => LIST_LIMIT,
            Some(text) => text.parse::<usize>().map_err(|_| {
                ErrorReply::new(
                    ErrorCode::BadRequest,
                    "limit= is not a number",
                    "use for example limit=1000; at most 10000",
                )
            })?,
        };
        let given = |name| query_value(query, name).filter(|v| !v.is_empty());
        let limit = limit.clamp(1, LIST_LIMIT_MAX);
        Ok(Self { prefix, start: given("start"), limit, delimiter: given("delimiter") })
    }
}

/// One page of a listing.
#[derive(Debug, Default)]
pub struct Found {
    /// Keys in byte order, and their objects.
    pub objects: Vec<(Key, Object)>,
    /// Common prefixes, if there is a delimiter, in byte order.
    pub prefixes: Vec<String>,
    /// `start` of the next page; `None` at the end.
    pub next: Option<String>,
}

/// Returns one page in the format of the native API.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn page(tree: &sled::Tree, query: &ListQuery) -> Result<ListPage, TableError> {
    let Found { objects, prefixes, next } = find(tree, query)?;
    Ok(ListPage { keys: objects.into_iter().map(listed).collect(), prefixes, next })
}

/// Returns one page.
///
/// # Errors
/// When sled fails or a record is corrupt.
pub fn find(tree: &sled::Tree, query: &ListQuery) -> Result<Found, TableError> {
    let mut page = Found::default();
    let (now, mut passed) = (meta::time(tree)?, 0);
    let mut last: Option<String> = None;
    let mut after = query.start.as_ref().map(|start| match query.common_prefix(start) {
        // The cursor is a common prefix: skip all keys that it covers.
        Some(common) if common == start => beyond(start),
        _ => start.as_bytes().to_vec(),
    });
    'scan: loop {
        let from = after.take();
        for item in scan::<Object>(tree, Kind::Object, query.prefix.as_bytes(), from.as_deref()) {
            let (key, object) = item?;
            if object.is_expired(now) {
                passed += 1;
                if passed == LIST_LIMIT_MAX {
                    // A page without an end would keep others from reading.
                    page.next = String::from_utf8(key).ok();
                    return Ok(page);
                }
                continue;
            }
            let corrupt = || TableError::Corrupt { kind: Kind::Object, bytes: key.len() };
            let key = String::from_utf8(key.clone()).map_err(|_| corrupt())?;
            if page.objects.len() + page.prefixes.len() == query.limit {
                page.next = last;
                return Ok(page);
            }
            if let Some(common) = query.common_prefix(&key).map(str::to_owned) {
                after = Some(beyond(&common));
                page.prefixes.push(common.clone());
                last = Some(common);
                continue 'scan;
            }
            last = Some(key.clone());
            page.objects.push((key.parse().map_err(|_| corrupt())?, object));
        }
        return Ok(page);
    }
}

impl ListQuery {
    /// Returns `key` up to and including the first delimiter after the prefix.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let at = rest.find(delimiter)?;
        Some(&key[..self.prefix.len() + at + delimiter.len()])
    }
}

fn beyond(prefix: &str) -> Vec<u8> {
    [prefix.as_bytes(), &[AFTER_ALL]].concat()
}

fn listed((key, object): (Key, Object)) -> ListedKey {
    ListedKey {
        key,
        size: object.size,
        blake3: object.digest,
        generation: object.generation,
        content_type: object.content_type,
        last_modified: object.generation.created().http_date(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Tables, object::Blob};
    use proptest::prelude::*;
    use shared::clock::Timestamp;
    use shared::digest::Digest;
    use shared::ids::BlobId;
    use std::collections::BTreeSet;

    fn tree_of(keys: &BTreeSet<String>) -> sled::Db {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut tables = Tables::new(&db);
        let id = BlobId::next(None, Timestamp::from_unix_ms(1 << 40), [0; 10]);
        for key in keys {
            let object = Object {
                generation: id,
                size: 1,
                digest: Digest::of(b"x"),
                content_type: None,
                metadata: vec![],
                wanted: 1,
                blobs: vec![Blob { id, length: 1, replicas: vec![] }],
                attributes: Default::default(),
                parts: None,
                expiry: Default::default(),
            };
            tables.put_object(&key.parse().unwrap(), &object);
        }
        db.apply_batch(tables.into_batch().unwrap()).unwrap();
        db
    }

    /// The expected listing, computed from its definition.
    fn expected(keys: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
        let mut out = BTreeSet::new();
        for key in keys.iter().filter(|k| k.starts_with(prefix)) {
            let rest = &key[prefix.len()..];
            let end = delimiter.and_then(|d| rest.find(d).map(|i| i + d.len()));
            out.insert(key[..prefix.len() + end.unwrap_or(rest.len())].to_owned());
        }
        out.into_iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn pages_together_are_the_listing(
            keys in prop::collection::btree_set("[ab/]{1,5}", 0..40),
            prefix in "[ab/]{0,2}",
            delimiter in prop::option::of("[b/]{1,2}"),
            start in prop::option::of("[ab/]{0,5}"),
            limit in 1usize..7,
        ) {
            let db = tree_of(&keys);
            let mut query = ListQuery { prefix: prefix.clone(), start: start.clone(), limit, delimiter: delimiter.clone() };
            let mut seen = Vec::new();
            loop {
                let page = page(&db, &query).unwrap();
                let mut names: Vec<String> = page.keys.iter().map(|k| k.key.to_string()).chain(page.prefixes).collect();
                names.sort();
                prop_assert!(names.len() <= limit);
                prop_assert!(query.start == start || !names.is_empty(), "`next` was set, but the next page is empty");
                seen.extend(names);
                match page.next {
                    None => break,
                    next => query.start = next,
                }
            }
            // A start that is a common prefix covers all its keys; a start within one leaves the keys after it.
            let after = keys.into_iter().filter(|key| start.as_ref().is_none_or(|start| key > start)).collect();
            let mut wanted = expected(&after, &prefix, delimiter.as_deref());
            wanted.retain(|name| Some(name) != start.as_ref());
            prop_assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn a_start_within_what_keys_share_leaves_those_behind_it() {
        let keys = ["a", "b/1", "b/2", "b/3", "c"].map(str::to_owned).into();
        let db = tree_of(&keys);
        for (start, wanted) in [
            ("a", &["c", "b/"][..]),
            ("b", &["c", "b/"]),
            ("b/", &["c"]),
            ("b/2", &["c", "b/"]),
            ("b/3", &["c"]),
            ("b0", &["c"]),
        ] {
            let start = Some(start.to_owned());
            let query = ListQuery { prefix: String::new(), start, limit: 10, delimiter: Some("/".into()) };
            let page = page(&db, &query).unwrap();
            let names: Vec<_> = page.keys.iter().map(|k| k.key.to_string()).chain(page.prefixes).collect();
            assert_eq!(names, wanted, "after {:?}", query.start);
        }
    }
}
