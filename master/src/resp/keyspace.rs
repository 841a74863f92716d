//! Commands about keys: DEL, EXISTS, TYPE, STRLEN, SCAN, KEYS, DBSIZE.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use shared::condition::WriteCondition;
use shared::key::Key;
use shared::limits::{RESP_KEYS_MAX, RESP_KEYS_SEEN_MAX, RESP_SCAN_BYTES, RESP_SCAN_COUNT_MAX};
use shared::wire::error::ErrorReply;
use shared::work::blocking;

use super::glob::{Budget, Pattern, literal_prefix};
use super::reply::Reply;
use super::values::integer;
use super::{Operations, refusal};
use crate::auth::resource::split;
use crate::auth::{Action, Caller};
use crate::change::unexpected;
use crate::list::{Found, ListQuery, find};
use crate::state::command::{Command, Outcome};
use crate::tables::object::{self, Object};
use crate::tables::{TableError, meta};

/// Keys that one call of SCAN looks at, without COUNT.
const SCAN_COUNT: usize = 10;

/// Keys of one DEL that are deleted at the same time: each waits for a commit and for its volumes.
const DELETES_AT_ONCE: usize = 32;

/// Checks that the caller may do this to a key.
///
/// # Errors
/// The reply to give.
pub fn may(ops: &Operations, caller: &Caller, action: Action, key: &Key) -> Result<(), Reply> {
    let (bucket, rest) = split(key.as_str());
    let permitted = ops.keys().permits(caller, action, bucket, rest).map_err(of_tables)?;
    if permitted { Ok(()) } else { Err(refusal::not_permitted(*caller == Caller::Anonymous)) }
}

fn of_tables(e: TableError) -> Reply {
    refusal::of(&ErrorReply::from(e))
}

/// Deletes a key. Returns whether it had a value that met the condition.
///
/// # Errors
/// The reply, when that is unknown or could not be done.
pub async fn delete(ops: &Operations, key: &Key, condition: WriteCondition) -> Result<bool, Reply> {
    match ops.changes.submit(Command::Delete { key: key.clone(), condition }).await {
        Ok(Outcome::Deleted(_)) => Ok(true),
        Ok(Outcome::NotFound | Outcome::ConditionFailed) => Ok(false),
        Ok(other) => Err(refusal::of(&unexpected(&other))),
        Err(e) => Err(refusal::of(&e.into())),
    }
}

/// Answers DEL and UNLINK, which are the same here: space is given back in the background in any case.
pub async fn del(ops: &Operations, caller: &Caller, arguments: &[Bytes]) -> Reply {
    let mut keys = Vec::new();
    for argument in arguments {
        let key = refusal::key(argument).and_then(|key| may(ops, caller, Action::Write, &key).map(|()| key));
        match key {
            Ok(key) => keys.push(key),
            Err(refused) => return refused,
        }
    }
    let mut count = 0;
    for some in keys.chunks(DELETES_AT_ONCE) {
        let deletes: Vec<_> = some.iter().map(|key| delete(ops, key, WriteCondition::None)).collect();
        for deleted in join_all(deletes).await {
            match deleted {
                Ok(deleted) => count += usize::from(deleted),
                Err(refused) => return refused,
            }
        }
    }
    Reply::count(count)
}

fn look(ops: &Operations, caller: &Caller, argument: &Bytes) -> Result<Option<Object>, Reply> {
    let key = refusal::key(argument)?;
    may(ops, caller, Action::Read, &key)?;
    object::read(&ops.metadata.database.tree(), &key).map_err(of_tables)
}

/// Answers EXISTS: a key that is named twice counts twice.
pub fn exists(ops: &Operations, caller: &Caller, arguments: &[Bytes]) -> Reply {
    let found: Result<Vec<_>, _> = arguments.iter().map(|argument| look(ops, caller, argument)).collect();
    found.map_or_else(|refused| refused, |found| Reply::count(found.into_iter().flatten().count()))
}

/// Answers a command about one key by its object.
pub fn about(
    ops: &Operations,
    caller: &Caller,
    argument: &Bytes,
    answer: impl FnOnce(Option<Object>) -> Reply,
) -> Reply {
    look(ops, caller, argument).map_or_else(|refused| refused, answer)
}

/// Answers DBSIZE.
pub fn size(ops: &Operations, caller: &Caller) -> Reply {
    if !caller.may(Action::List, None, None) {
        return refusal::not_permitted(*caller == Caller::Anonymous);
    }
    let objects = meta::counters(&ops.metadata.database.tree()).map(|counters| counters.objects);
    objects.map_or_else(of_tables, |n| Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX)))
}

/// Checks that the caller may list the keys that begin with `prefix`.
fn may_list(caller: &Caller, prefix: &str) -> Result<(), Reply> {
    let (bucket, rest) = match prefix.split_once('/') {
        Some((bucket, rest)) => (Some(bucket), Some(rest)),
        None => (None, None),
    };
    let permitted = caller.may(Action::List, bucket, rest);
    if permitted { Ok(()) } else { Err(refusal::not_permitted(*caller == Caller::Anonymous)) }
}

/// The longest literal beginning of a pattern that is UTF-8.
fn prefix_of(pattern: &[u8]) -> String {
    let literal = literal_prefix(pattern);
    let valid = std::str::from_utf8(literal).map_or_else(|e| e.valid_up_to(), str::len);
    String::from_utf8_lossy(&literal[..valid]).into_owned()
}

/// Reads one page of keys and returns those that match, on the blocking pool: the time that it takes is the client's choice.
async fn page(ops: &Operations, query: ListQuery, pattern: Arc<Pattern>) -> Result<Page, Reply> {
    let _place = ops.scans.acquire().await;
    let database = Arc::clone(&ops.metadata.database);
    blocking(move || {
        let (mut page, mut budget) = (Page::default(), Budget::default());
        let Found { objects, next, .. } = find(&database.tree(), &query)?;
        page.next = next;
        page.seen = objects.len();
        let mut last = query.start;
        for (key, _) in objects {
            let matched = pattern.matches(key.as_str().as_bytes(), &mut budget);
            if matched.is_err() || page.bytes > RESP_SCAN_BYTES {
                page.costly = matched.is_err() && page.keys.is_empty();
                page.next = last;
                break;
            }
            last = Some(key.as_str().to_owned());
            if matched == Ok(true) {
                page.bytes += key.as_str().len();
                page.keys.push(key);
            }
        }
        Ok(page)
    })
    .await
    .map_err(of_tables)
}

/// Keys that match.
#[derive(Default)]
struct Page {
    keys: Vec<Key>,
    bytes: usize,
    /// Keys that were looked at.
    seen: usize,
    /// Where to continue.
    next: Option<String>,
    /// The pattern took too long before anything matched.
    costly: bool,
}

fn compiled(pattern: &[u8]) -> Result<Arc<Pattern>, Reply> {
    Pattern::new(pattern).map(Arc::new).ok_or_else(|| Reply::error("the pattern is longer than any key"))
}

fn too_costly() -> Reply {
    Reply::error("the pattern takes too long to match: use fewer '*', and begin it with a prefix")
}

/// Answers `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]`. A key that has a value from the first call to the last
/// is returned: pages follow the order of the keys.
pub async fn scan(ops: &Operations, caller: &Caller, owner: &str, arguments: &[Bytes]) -> Reply {
    match scanned(ops, caller, owner, arguments).await {
        Ok((cursor, keys)) => {
            let keys = keys.into_iter().map(|key| Reply::text(key.as_str())).collect();
            Reply::Array(vec![Reply::text(cursor.to_string()), Reply::Array(keys)])
        }
        Err(refused) => refused,
    }
}

async fn scanned(
    ops: &Operations,
    caller: &Caller,
    owner: &str,
    arguments: &[Bytes],
) -> Result<(u64, Vec<Key>), Reply> {
    let (mut pattern, mut count, mut strings) = (Bytes::from_static(b"*"), SCAN_COUNT, true);
    let [cursor, options @ ..] = arguments else { return Err(refusal::wrong_arity("scan")) };
    for option in options.chunks(2) {
        match (option[0].to_ascii_uppercase().as_slice(), option.get(1)) {
            (b"MATCH", Some(given)) => pattern = given.clone(),
            (b"COUNT", Some(given)) => {
                let given = integer(given).ok_or_else(refusal::not_an_integer)?;
                count = usize::try_from(given).ok().filter(|n| *n > 0).ok_or_else(refusal::syntax)?;
            }
            (b"TYPE", Some(given)) => strings = given.eq_ignore_ascii_case(b"string"),
            _ => return Err(refusal::syntax()),
        }
    }
    let prefix = prefix_of(&pattern);
    may_list(caller, &prefix)?;
    let cursor: u64 = std::str::from_utf8(cursor)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Reply::error("invalid cursor"))?;
    let start = match cursor {
        0 => None,
        number => Some(ops.cursors.get(number).ok_or_else(|| {
            Reply::error("this cursor is not known here any longer: begin the scan again with cursor 0")
        })?),
    };
    let query = ListQuery { prefix, start, limit: count.min(RESP_SCAN_COUNT_MAX), delimiter: None };
    let page = page(ops, query, compiled(&pattern)?).await?;
    if page.costly {
        return Err(too_costly());
    }
    let cursor = page.next.map_or(0, |next| ops.cursors.put(owner, next));
    Ok((cursor, if strings { page.keys } else { Vec::new() }))
}

/// Answers `KEYS pattern`, for at most `RESP_KEYS_MAX` keys among `RESP_KEYS_SEEN_MAX`.
pub async fn keys(ops: &Operations, caller: &Caller, pattern: &Bytes) -> Reply {
    let prefix = prefix_of(pattern);
    if let Err(refused) = may_list(caller, &prefix) {
        return refused;
    }
    let pattern = match compiled(pattern) {
        Ok(pattern) => pattern,
        Err(refused) => return refused,
    };
    let (mut found, mut bytes, mut seen, mut start) = (Vec::new(), 0, 0, None);
    loop {
        let query = ListQuery { prefix: prefix.clone(), start, limit: RESP_SCAN_COUNT_MAX, delimiter: None };
        let page = match page(ops, query, Arc::clone(&pattern)).await {
            Ok(page) if page.costly => return too_costly(),
            Ok(page) => page,
            Err(refused) => return refused,
        };
        bytes += page.bytes;
        seen += page.seen;
        found.extend(page.keys);
        if found.len() > RESP_KEYS_MAX || bytes > 4 * RESP_SCAN_BYTES || seen > RESP_KEYS_SEEN_MAX {
            return Reply::error("too many keys for KEYS: use SCAN");
        }
        start = page.next;
        if start.is_none() {
            return Reply::Array(found.into_iter().map(|key| Reply::text(key.as_str())).collect());
        }
    }
}
