//! Commands that read values: GET, GETRANGE, MGET, GETDEL, GETEX. Values stream, with backpressure, from the volumes to
//! the client.

use bytes::Bytes;
use http_body_util::BodyExt;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::expiry::Expires;
use shared::http::body::Body;
use shared::http::entity::Piece;
use shared::ids::BlobId;
use shared::key::Key;
use shared::limits::HOPS_MAX;
use shared::range::ByteRange;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Broken, Connection};
use super::keyspace::{delete, may};
use super::reply::Reply;
use super::{Operations, expiry, refusal};
use crate::auth::{Action, Caller};
use crate::read::ReadError;
use crate::state::expiry::ExpiryCondition;
use crate::tables::object;

/// A value that is open: its bytes come.
pub struct Opened {
    pub generation: BlobId,
    pub digest: Digest,
    length: u64,
    body: Body,
}

/// Opens the bytes of a value that `range` chooses by its length; none if the key has no value.
async fn open(
    ops: &Operations,
    key: &Key,
    range: impl Fn(u64) -> Option<ByteRange>,
) -> Result<Option<Opened>, Reply> {
    for _ in 0..HOPS_MAX {
        let found = object::read(&ops.metadata.database.tree(), key).map_err(|e| refusal::of(&e.into()))?;
        let Some(object) = found else { return Ok(None) };
        let (chosen, generation, digest) = (range(object.size), object.generation, object.digest);
        let pieces = chosen.map(Piece::Range).into_iter().collect();
        match ops.reader.open(key, object, pieces).await {
            Ok(body) => {
                ops.metrics.reads_streamed.inc();
                return Ok(Some(Opened {
                    generation,
                    digest,
                    length: chosen.map_or(0, ByteRange::len),
                    body,
                }));
            }
            // Replaced meanwhile: look it up again.
            Err(ReadError::Gone) => {
                ops.metadata.ensure_linearizable().await.map_err(|e| refusal::of(&e.into()))?;
            }
            Err(e) => {
                return Err(Reply::Error(format!("TRYAGAIN the value cannot be read now: {e}")));
            }
        }
    }
    Err(replaced())
}

/// Opens a value; none if the key has none.
///
/// # Errors
/// The reply, when it cannot be read.
pub async fn open_whole(ops: &Operations, key: &Key) -> Result<Option<Opened>, Reply> {
    open(ops, key, ByteRange::whole).await
}

/// Sends a value, or null.
///
/// # Errors
/// When the connection is of no further use.
pub async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    opened: Option<Opened>,
) -> Result<(), Broken> {
    let Some(Opened { length, mut body, .. }) = opened else {
        connection.push(&Reply::Null);
        return Ok(());
    };
    connection.push_text(&format!("${length}\r\n"));
    let mut left = length;
    while let Some(frame) = body.frame().await {
        // The length was announced: a value that breaks off can only cut the connection.
        let bytes = frame.map_err(|_| Broken::Value)?.into_data().unwrap_or_default();
        left = left.checked_sub(bytes.len() as u64).ok_or(Broken::Value)?;
        connection.send(bytes).await?;
    }
    if left > 0 {
        return Err(Broken::Value);
    }
    connection.push_text("\r\n");
    Ok(())
}

/// Answers GET and GETRANGE, which send a value.
///
/// # Errors
/// When the connection is of no further use.
pub async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    ops: &Operations,
    caller: &Caller,
    arguments: &[Bytes],
) -> Result<Option<Reply>, Broken> {
    let key = match readable(ops, caller, &arguments[1]) {
        Ok(key) => key,
        Err(refused) => return Ok(Some(refused)),
    };
    let bounds = match arguments {
        [_, _, start, end] => match (integer(start), integer(end)) {
            (Some(start), Some(end)) => Some((start, end)),
            _ => return Ok(Some(refusal::not_an_integer())),
        },
        _ => None,
    };
    let range = |size| bounds.map_or_else(|| ByteRange::whole(size), |bounds| within(bounds, size));
    match open(ops, &key, range).await {
        // GETRANGE of a key without a value is empty.
        Ok(None) if bounds.is_some() => Ok(Some(Reply::text(""))),
        Ok(opened) => send(connection, opened).await.map(|()| None),
        Err(refused) => Ok(Some(refused)),
    }
}

/// Answers `GETBIT key offset`: bits are counted from the greatest one of the first byte.
pub async fn bit(ops: &Operations, caller: &Caller, arguments: &[Bytes]) -> Reply {
    let key = match readable(ops, caller, &arguments[0]) {
        Ok(key) => key,
        Err(refused) => return refused,
    };
    let Some(offset) = integer(&arguments[1]).and_then(|offset| u64::try_from(offset).ok()) else {
        return Reply::error("bit offset is not an integer or out of range");
    };
    let opened = match open(ops, &key, |size| ByteRange::new(offset / 8, offset / 8, size)).await {
        Ok(Some(opened)) if opened.length > 0 => opened,
        Ok(_) => return Reply::Integer(0),
        Err(refused) => return refused,
    };
    let byte = opened.body.collect().await.map(|body| body.to_bytes().first().copied());
    match byte {
        Ok(Some(byte)) => Reply::Integer(i64::from(byte >> (7 - offset % 8) & 1)),
        _ => Reply::Error("TRYAGAIN the value cannot be read now".into()),
    }
}

/// Answers MGET.
///
/// # Errors
/// When the connection is of no further use.
pub async fn get_many<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    ops: &Operations,
    caller: &Caller,
    arguments: &[Bytes],
) -> Result<Option<Reply>, Broken> {
    let keys: Result<Vec<_>, _> = arguments.iter().map(|argument| readable(ops, caller, argument)).collect();
    let keys = match keys {
        Ok(keys) => keys,
        Err(refused) => return Ok(Some(refused)),
    };
    connection.push_text(&format!("*{}\r\n", keys.len()));
    for key in keys {
        // The array has begun: what cannot be read is an error in its place.
        match open(ops, &key, ByteRange::whole).await {
            Ok(opened) => send(connection, opened).await?,
            Err(refused) => connection.push(&refused),
        }
    }
    Ok(None)
}

/// Answers GETDEL: the value is open before it is deleted, and a volume keeps what is being read.
///
/// # Errors
/// When the connection is of no further use.
pub async fn get_and_delete<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    ops: &Operations,
    caller: &Caller,
    argument: &Bytes,
) -> Result<Option<Reply>, Broken> {
    let key = match readable(ops, caller, argument)
        .and_then(|key| may(ops, caller, Action::Write, &key).map(|()| key))
    {
        Ok(key) => key,
        Err(refused) => return Ok(Some(refused)),
    };
    for _ in 0..HOPS_MAX {
        let opened = match open(ops, &key, ByteRange::whole).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Some(Reply::Null)),
            Err(refused) => return Ok(Some(refused)),
        };
        match delete(ops, &key, WriteCondition::Matches(vec![opened.digest])).await {
            Ok(true) => return send(connection, Some(opened)).await.map(|()| None),
            // Another value came meanwhile.
            Ok(false) => {}
            Err(refused) => return Ok(Some(refused)),
        }
    }
    Ok(Some(replaced()))
}

/// Answers `GETEX key [EX | PX | EXAT | PXAT time | PERSIST]`.
///
/// # Errors
/// When the connection is of no further use.
pub async fn get_and_expire<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    ops: &Operations,
    caller: &Caller,
    arguments: &[Bytes],
) -> Result<Option<Reply>, Broken> {
    let checked = readable(ops, caller, &arguments[0]).and_then(|key| {
        let change = change_of(&arguments[1..])?;
        if change.is_some() {
            may(ops, caller, Action::Write, &key)?;
        }
        Ok((key, change))
    });
    let (key, change) = match checked {
        Ok(checked) => checked,
        Err(refused) => return Ok(Some(refused)),
    };
    for _ in 0..HOPS_MAX {
        let opened = match open_whole(ops, &key).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Some(Reply::Null)),
            Err(refused) => return Ok(Some(refused)),
        };
        let Some(expires) = change else { return send(connection, Some(opened)).await.map(|()| None) };
        let of = (Some(opened.generation), ExpiryCondition::default());
        match expiry::set(ops, &key, expires, of).await {
            Ok(true) => return send(connection, Some(opened)).await.map(|()| None),
            // Another value came meanwhile.
            Ok(false) => {}
            Err(refused) => return Ok(Some(refused)),
        }
    }
    Ok(Some(replaced()))
}

/// Returns the new expiry that the options of GETEX state, if they change it.
fn change_of(options: &[Bytes]) -> Result<Option<Option<Expires>>, Reply> {
    match options {
        [] => Ok(None),
        [option] if option.eq_ignore_ascii_case(b"PERSIST") => Ok(Some(None)),
        [option, time] => {
            let unit = expiry::unit(&option.to_ascii_uppercase()).ok_or_else(refusal::syntax)?;
            expiry::of_new(time, unit, "getex").map(|expires| Some(Some(expires)))
        }
        _ => Err(refusal::syntax()),
    }
}

fn replaced() -> Reply {
    Reply::Error("TRYAGAIN the value was replaced each time it was being opened".into())
}

fn readable(ops: &Operations, caller: &Caller, argument: &Bytes) -> Result<Key, Reply> {
    let key = refusal::key(argument)?;
    may(ops, caller, Action::Read, &key)?;
    Ok(key)
}

pub fn integer(argument: &[u8]) -> Option<i64> {
    // A plus sign is no part of a number, as in Redis.
    std::str::from_utf8(argument).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// The bytes that GETRANGE chooses; negative positions count from the end.
fn within((start, end): (i64, i64), size: u64) -> Option<ByteRange> {
    let at = |position: i64| match u64::try_from(position) {
        Ok(position) => position,
        Err(_) => size.saturating_sub(position.unsigned_abs()),
    };
    // Before the first byte.
    let empty = end < 0 && end.unsigned_abs() > size || start < 0 && end < 0 && start > end;
    let (first, last) = (at(start), at(end).min(size.saturating_sub(1)));
    ByteRange::new(first, last, size).filter(|_| !empty && first <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_redis() {
        let of = |start, end, size| within((start, end), size).map(|range| (range.start(), range.end()));
        for (start, end, size, wanted) in [
            (0, 3, 10, Some((0, 3))),
            (0, -1, 10, Some((0, 9))),
            (-3, -1, 10, Some((7, 9))),
            (10, 100, 10, None),
            (5, 100, 10, Some((5, 9))),
            (5, 3, 10, None),
            (-100, 2, 10, Some((0, 2))),
            (-1, -5, 10, None),
            (0, -11, 10, None),
            (0, 0, 0, None),
            (0, -1, 0, None),
            (i64::MIN, i64::MAX, 3, Some((0, 2))),
        ] {
            assert_eq!(of(start, end, size), wanted, "{start} {end} of {size}");
        }
    }
}
