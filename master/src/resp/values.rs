//! Commands that carry values: SET, GET, GETRANGE, MGET, GETDEL. Values stream, with backpressure, between the client
//! and the volumes.

use bytes::Bytes;
use futures_util::stream::{StreamExt, unfold};
use http_body_util::BodyExt;
use shared::condition::WriteCondition;
use shared::http::body::Body;
use shared::http::entity::Piece;
use shared::http::metadata::Described;
use shared::key::Key;
use shared::limits::{BLOB_BYTES_MAX, HOPS_MAX, RESP_PIECES_AHEAD};
use shared::range::ByteRange;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::CommitOutcome;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::Operations;
use super::connection::{Broken, Connection};
use super::keyspace::{delete, may};
use super::refusal;
use super::reply::Reply;
use super::request::{Bounds, Request, RequestError, RequestReader};
use crate::auth::{Action, Caller};
use crate::change::unexpected;
use crate::read::ReadError;
use crate::state::command::{Command, Outcome};
use crate::tables::{bucket, object};
use crate::write::durable::DurableBlob;
use crate::write::pipeline::{Frames, Source};
use crate::write::placement::UploadSpec;

/// What a client sends of a value, on its way to the volumes.
type Pieces = mpsc::Sender<Result<Bytes, ErrorReply>>;

/// How the bytes of a SET ended.
struct Fed {
    /// Bytes of the value that were not taken, because no volume wants them.
    left: u64,
    /// The condition that the options state, if they were read.
    condition: Option<Result<WriteCondition, Reply>>,
}

/// Answers `SET key value [NX | XX] [KEEPTTL]`.
///
/// # Errors
/// When the connection is of no further use.
pub async fn set<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    ops: &Operations,
    caller: &Caller,
    request: &Request,
    length: u64,
) -> Result<Reply, Broken> {
    let admitted = refusal::key(&request.arguments[1]).and_then(|key| {
        may(ops, caller, Action::Write, &key)?;
        bucket::check(&key).map_err(|e| Reply::error(e.to_string()))?;
        Ok(key)
    });
    let key = match admitted {
        Ok(key) => key,
        Err(refused) => return connection.skip(length, request.rest, refused).await,
    };
    if length > BLOB_BYTES_MAX {
        return Err(
            connection.end_with(&Reply::error(format!("the value is larger than {BLOB_BYTES_MAX} bytes")))
        );
    }
    let spec = UploadSpec {
        key,
        length: Some(length),
        digest: None,
        condition: WriteCondition::None,
        prefer: Vec::new(),
        hops: 0,
    };
    let (pieces, arriving) = mpsc::channel(RESP_PIECES_AHEAD);
    let stream = unfold(arriving, |mut arriving| async { Some((arriving.recv().await?, arriving)) }).boxed();
    let described = Described::default();
    let writing = ops.writer.write_replicas(&spec, &described, Source::new(Frames::Stream(stream)));
    let bounds = connection.bounds();
    let (fed, written) =
        tokio::join!(feed(&mut connection.reader, pieces, length, request.rest, bounds), writing);
    let Fed { left, condition } = fed?;
    connection.received(length - left);
    let condition = match (condition, written) {
        (Some(Err(refused)), _) => return Ok(refused),
        (Some(Ok(condition)), Ok(durable)) => return Ok(commit(ops, spec, condition, &durable).await),
        (condition, Err(refused)) => condition.map(|_| refusal::of(&refused)).ok_or(refused),
        (None, Ok(_)) => {
            Err(ErrorReply::new(ErrorCode::Internal, "a value was stored before it had ended", ""))
        }
    };
    match condition {
        Ok(refused) => Ok(refused),
        // The options have not been read yet.
        Err(refused) => connection.skip(left, request.rest, refusal::of(&refused)).await,
    }
}

/// Hands the value on, and reads the options that follow it. The last piece waits for them: a value whose options are
/// wrong is never complete on a volume.
async fn feed<R: AsyncRead + Unpin>(
    reader: &mut RequestReader<R>,
    pieces: Pieces,
    length: u64,
    rest: usize,
    bounds: Bounds,
) -> Result<Fed, RequestError> {
    let mut left = length;
    let mut last = Bytes::new();
    while left > 0 {
        let piece = reader.piece(&mut left).await?;
        shared::http::body::count(piece.len());
        let before = std::mem::replace(&mut last, piece);
        if !before.is_empty() && pieces.send(Ok(before)).await.is_err() {
            return Ok(Fed { left, condition: None });
        }
    }
    let condition = options(&reader.rest(rest, bounds).await?);
    let end = match &condition {
        Ok(_) => Ok(last),
        Err(_) => Err(ErrorReply::new(ErrorCode::BadRequest, "the options of SET are wrong", "")),
    };
    // If nobody takes it, the write has failed, and says why.
    let _ = pieces.send(end).await;
    Ok(Fed { left: 0, condition: Some(condition) })
}

/// Returns the condition that the options of SET state.
fn options(arguments: &[Bytes]) -> Result<WriteCondition, Reply> {
    let mut condition = WriteCondition::None;
    for option in arguments {
        let stated = match option.to_ascii_uppercase().as_slice() {
            b"NX" => WriteCondition::Absent,
            b"XX" => WriteCondition::AnyPresent,
            // Keys do not expire.
            b"KEEPTTL" => continue,
            b"EX" | b"PX" | b"EXAT" | b"PXAT" => {
                return Err(Reply::error("keys do not expire: leave EX, PX, EXAT and PXAT out"));
            }
            b"GET" => return Err(Reply::error("SET does not support GET: send GET before it")),
            _ => return Err(refusal::syntax()),
        };
        if condition != WriteCondition::None && condition != stated {
            return Err(refusal::syntax());
        }
        condition = stated;
    }
    Ok(condition)
}

async fn commit(
    ops: &Operations,
    spec: UploadSpec,
    condition: WriteCondition,
    durable: &DurableBlob,
) -> Reply {
    let spec = UploadSpec { condition, ..spec };
    let commit = durable.to_commit(&spec, &Described::default());
    let outcome = match ops.changes.submit(Command::Commit(commit)).await {
        Ok(Outcome::Commit(outcome, _)) => outcome,
        Ok(other) => return refusal::of(&unexpected(&other)),
        Err(e) => return refusal::of(&e.into()),
    };
    match outcome {
        CommitOutcome::Created | CommitOutcome::Replaced => Reply::OK,
        CommitOutcome::ConditionFailed => Reply::Null,
        CommitOutcome::Overtaken => Reply::Error(
            "TRYAGAIN a conditional write of the same key was committed first; nothing was stored".into(),
        ),
        CommitOutcome::NotEnoughReceipts => {
            Reply::Error("TRYAGAIN too few replicas became durable; nothing was stored".into())
        }
    }
}

/// A value that is open: its bytes come.
struct Opened {
    digest: shared::digest::Digest,
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
        let (chosen, digest) = (range(object.size), object.digest);
        let pieces = chosen.map(Piece::Range).into_iter().collect();
        match ops.reader.open(key, object, pieces).await {
            Ok(body) => {
                ops.metrics.reads_streamed.inc();
                return Ok(Some(Opened { digest, length: chosen.map_or(0, ByteRange::len), body }));
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
    Err(Reply::Error("TRYAGAIN the value was replaced each time it was being opened".into()))
}

/// Sends a value, or null.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
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
    Ok(Some(Reply::Error("TRYAGAIN the value was replaced each time it was being opened".into())))
}

fn readable(ops: &Operations, caller: &Caller, argument: &Bytes) -> Result<Key, Reply> {
    let key = refusal::key(argument)?;
    may(ops, caller, Action::Read, &key)?;
    Ok(key)
}

pub fn integer(argument: &[u8]) -> Option<i64> {
    std::str::from_utf8(argument).ok()?.parse().ok()
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

    #[test]
    fn conditions_of_set() {
        let of = |words: &[&str]| {
            options(&words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Ok(WriteCondition::None));
        assert_eq!(of(&["nx"]), Ok(WriteCondition::Absent));
        assert_eq!(of(&["KEEPTTL", "XX"]), Ok(WriteCondition::AnyPresent));
        for wrong in [&["NX", "XX"][..], &["what"], &["EX", "10"], &["GET"]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
