//! Commands that store a value: SET, SETEX, PSETEX, SETNX, GETSET. Values stream, with backpressure, from the client to
//! the volumes.

use bytes::Bytes;
use futures_util::stream::{StreamExt, unfold};
use shared::condition::WriteCondition;
use shared::http::metadata::Described;
use shared::key::Key;
use shared::limits::{BLOB_BYTES_MAX, RESP_PIECES_AHEAD};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::CommitOutcome;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::command_table::value_at;
use super::connection::{Broken, Connection};
use super::keyspace::may;
use super::reply::Reply;
use super::request::{Bounds, Request, RequestError, RequestReader};
use super::values::{Opened, open_whole, send};
use super::{Operations, expiry, refusal};
use crate::auth::{Action, Caller};
use crate::change::unexpected;
use crate::state::command::Outcome;
use crate::tables::bucket;
use crate::write::commit::TimeToLive;
use crate::write::durable::DurableBlob;
use crate::write::pipeline::{Frames, Source};
use crate::write::placement::UploadSpec;

/// What a client sends of a value, on its way to the volumes.
type Pieces = mpsc::Sender<Result<Bytes, ErrorReply>>;

/// How a value is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct StoreOptions {
    condition: WriteCondition,
    time_to_live: Option<TimeToLive>,
    /// Whether the reply is the value that was replaced.
    get: bool,
}

/// How the bytes of a value ended.
struct Fed {
    /// Bytes of the value that were not taken, because no volume wants them.
    left: u64,
    /// The options, if they were read.
    options: Option<Result<StoreOptions, Reply>>,
}

/// Where the value is.
enum Value {
    /// So many bytes come, and then so many options.
    Coming { length: u64, rest: usize },
    /// Here, and its options have been read: that of an inline command, and an empty one, which would be complete on
    /// the volumes before its options are read.
    Here(Bytes, StoreOptions),
}

impl Value {
    fn length(&self) -> u64 {
        match self {
            Self::Coming { length, .. } => *length,
            Self::Here(value, _) => value.len() as u64,
        }
    }
}

/// Answers a command that stores a value.
///
/// # Errors
/// When the connection is of no further use.
pub async fn store<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    ops: &Operations,
    caller: &Caller,
    name: &'static str,
    request: &Request,
) -> Result<Option<Reply>, Broken> {
    let (key, stated) = match admitted(ops, caller, name, request) {
        Ok(admitted) => admitted,
        Err(refused) => return connection.refuse(request, refused).await,
    };
    if request.value.is_some_and(|length| length > BLOB_BYTES_MAX) {
        return Err(
            connection.end_with(&Reply::error(format!("the value is larger than {BLOB_BYTES_MAX} bytes")))
        );
    }
    let read = |after: &[Bytes]| {
        let options = stated.clone().map_or_else(|| options_after(after), Ok)?;
        if options.get {
            may(ops, caller, Action::Read, &key)?;
        }
        Ok(options)
    };
    let here = match request.value {
        Some(0) => Some((Bytes::new(), connection.reader.rest(request.rest, connection.bounds()).await?)),
        Some(_) => None,
        None => value_at(name.as_bytes()).and_then(|at| {
            let after = request.arguments.get(at + 1..).unwrap_or_default();
            Some((request.arguments.get(at)?.clone(), after.to_vec()))
        }),
    };
    let value = match here.map(|(value, after)| read(&after).map(|options| Value::Here(value, options))) {
        Some(Ok(value)) => value,
        Some(Err(refused)) => return Ok(Some(refused)),
        None => Value::Coming { length: request.value.unwrap_or_default(), rest: request.rest },
    };
    let spec = spec_of(key.clone(), value.length());
    let (Fed { left, options }, written) = write(connection, ops, &spec, value, read).await?;
    match (options, written) {
        (Some(Err(refused)), _) => Ok(Some(refused)),
        (Some(Ok(options)), Ok(durable)) => {
            let (reply, found, stored) = committed(ops, name, spec, options, &durable).await;
            connection.stored = Some(stored);
            match found {
                Some(opened) => send(connection, Some(opened)).await.map(|()| None),
                None => Ok(Some(reply)),
            }
        }
        (Some(Ok(_)), Err(refused)) => Ok(Some(refusal::of(&refused))),
        // The options have not been read yet.
        (None, Err(refused)) => connection.skip(left, request.rest, refusal::of(&refused)).await.map(Some),
        (None, Ok(_)) => Ok(Some(Reply::error("a value was stored before it had ended"))),
    }
}

/// Checks what is known before the value: the key, what the caller may do, and the options that come first.
fn admitted(
    ops: &Operations,
    caller: &Caller,
    name: &str,
    request: &Request,
) -> Result<(Key, Option<StoreOptions>), Reply> {
    let key = refusal::key(&request.arguments[1])?;
    may(ops, caller, Action::Write, &key)?;
    bucket::check(&key).map_err(|e| Reply::error(e.to_string()))?;
    let stated = options_before(name, &request.arguments)?;
    if stated.as_ref().is_some_and(|options| options.get) {
        may(ops, caller, Action::Read, &key)?;
    }
    Ok((key, stated))
}

fn spec_of(key: Key, length: u64) -> UploadSpec {
    UploadSpec {
        key,
        length: Some(length),
        digest: None,
        condition: WriteCondition::None,
        prefer: Vec::new(),
        hops: 0,
        expires: None,
    }
}

/// Writes a value to the volumes while it arrives.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<'_, S>,
    ops: &Operations,
    spec: &UploadSpec,
    value: Value,
    read: impl Fn(&[Bytes]) -> Result<StoreOptions, Reply>,
) -> Result<(Fed, Result<DurableBlob, ErrorReply>), Broken> {
    let length = value.length();
    let (pieces, arriving) = mpsc::channel(RESP_PIECES_AHEAD);
    let stream = unfold(arriving, |mut arriving| async { Some((arriving.recv().await?, arriving)) }).boxed();
    let described = Described::default();
    let writing = ops.writer.write_replicas(spec, &described, Source::new(Frames::Stream(stream)));
    let bounds = connection.bounds();
    let (fed, written) = tokio::join!(feed(&mut connection.reader, pieces, value, bounds, read), writing);
    let fed = fed?;
    connection.received(length - fed.left);
    Ok((fed, written))
}

/// Hands the value on, and reads the options that follow it. The last piece waits for them: a value whose options are
/// wrong is never complete on a volume.
async fn feed<R: AsyncRead + Unpin>(
    reader: &mut RequestReader<R>,
    pieces: Pieces,
    value: Value,
    bounds: Bounds,
    read: impl Fn(&[Bytes]) -> Result<StoreOptions, Reply>,
) -> Result<Fed, RequestError> {
    let (mut left, rest) = match value {
        Value::Coming { length, rest } => (length, rest),
        Value::Here(value, options) => {
            let options = Ok(options);
            end(&pieces, value, &options).await;
            return Ok(Fed { left: 0, options: Some(options) });
        }
    };
    let mut last = Bytes::new();
    while left > 0 {
        let piece = reader.piece(&mut left).await?;
        shared::http::body::count(piece.len());
        let before = std::mem::replace(&mut last, piece);
        if !before.is_empty() && pieces.send(Ok(before)).await.is_err() {
            return Ok(Fed { left, options: None });
        }
    }
    let options = read(&reader.rest(rest, bounds).await?);
    end(&pieces, last, &options).await;
    Ok(Fed { left: 0, options: Some(options) })
}

/// Hands on the last piece, or breaks the value off. If nobody takes it, the write has failed, and says why.
async fn end(pieces: &Pieces, last: Bytes, options: &Result<StoreOptions, Reply>) {
    let end = match options {
        Ok(_) => Ok(last),
        Err(_) => Err(ErrorReply::new(ErrorCode::BadRequest, "the options of the command are wrong", "")),
    };
    let _ = pieces.send(end).await;
}

/// Returns the options of the commands that state them by their name and before the value; none of SET.
fn options_before(name: &str, arguments: &[Bytes]) -> Result<Option<StoreOptions>, Reply> {
    let lives = |unit: &[u8]| {
        let unit = expiry::unit(unit).ok_or_else(refusal::syntax)?;
        let expires = expiry::of_new(&arguments[2], unit, name)?;
        let time_to_live = Some(TimeToLive::Until(expires));
        Ok(Some(StoreOptions { time_to_live, ..StoreOptions::default() }))
    };
    match name {
        "setex" => lives(b"EX"),
        "psetex" => lives(b"PX"),
        "setnx" => Ok(Some(StoreOptions { condition: WriteCondition::Absent, ..StoreOptions::default() })),
        "getset" => Ok(Some(StoreOptions { get: true, ..StoreOptions::default() })),
        _ => Ok(None),
    }
}

/// Returns the options of `SET key value [NX | XX] [GET] [EX | PX | EXAT | PXAT time | KEEPTTL]`.
fn options_after(arguments: &[Bytes]) -> Result<StoreOptions, Reply> {
    let mut options = StoreOptions::default();
    let mut rest = arguments;
    while let [option, after @ ..] = rest {
        rest = after;
        let option = option.to_ascii_uppercase();
        if option == b"GET" {
            options.get = true;
        } else if let Some(condition) = match option.as_slice() {
            b"NX" => Some(WriteCondition::Absent),
            b"XX" => Some(WriteCondition::AnyPresent),
            _ => None,
        } {
            if ![WriteCondition::None, condition.clone()].contains(&options.condition) {
                return Err(refusal::syntax());
            }
            options.condition = condition;
        } else {
            let lives = match (expiry::unit(&option), rest) {
                (Some(unit), [time, after @ ..]) => {
                    rest = after;
                    TimeToLive::Until(expiry::of_new(time, unit, "set")?)
                }
                (None, _) if option == b"KEEPTTL" => TimeToLive::Keep,
                _ => return Err(refusal::syntax()),
            };
            if options.time_to_live.replace(lives).is_some() {
                return Err(refusal::syntax());
            }
        }
    }
    Ok(options)
}

/// Commits a value that is durable. Returns the reply, or the value that was found instead; and whether it was stored.
async fn committed(
    ops: &Operations,
    name: &str,
    spec: UploadSpec,
    options: StoreOptions,
    durable: &DurableBlob,
) -> (Reply, Option<Opened>, bool) {
    let replaced = if options.get { open_whole(ops, &spec.key).await } else { Ok(None) };
    let (replaced, unreadable) = match replaced {
        Ok(replaced) => (replaced, None),
        Err(refused) => (None, Some(refused)),
    };
    let get = options.get;
    // What was found must still be there at the commit. A write that must not happen is refused there too: its blob is
    // durable, and must not become an orphan.
    let refused = || WriteCondition::Matches(Vec::new());
    let condition = match (&options.condition, &replaced) {
        _ if unreadable.is_some() => refused(),
        (WriteCondition::Absent, Some(_)) if get => refused(),
        (WriteCondition::AnyPresent, None) if get => refused(),
        (_, Some(opened)) => WriteCondition::Matches(vec![opened.digest]),
        (_, None) if get => WriteCondition::Absent,
        (stated, None) => stated.clone(),
    };
    let meant = condition == refused();
    let outcome = commit(ops, UploadSpec { condition, ..spec }, options.time_to_live, durable).await;
    let stored = matches!(outcome, Ok(CommitOutcome::Created | CommitOutcome::Replaced));
    let reply = match outcome {
        _ if unreadable.is_some() => unreadable.unwrap_or(Reply::Null),
        Ok(CommitOutcome::ConditionFailed) if meant => Reply::Null,
        Ok(CommitOutcome::ConditionFailed) if get => {
            Reply::Error("TRYAGAIN the key changed meanwhile; nothing was stored".into())
        }
        Ok(CommitOutcome::Created | CommitOutcome::Replaced) if get => Reply::Null,
        Ok(CommitOutcome::Created | CommitOutcome::Replaced) if name == "setnx" => Reply::Integer(1),
        Ok(CommitOutcome::ConditionFailed) if name == "setnx" => Reply::Integer(0),
        Ok(CommitOutcome::Created | CommitOutcome::Replaced) => Reply::OK,
        Ok(CommitOutcome::ConditionFailed) => Reply::Null,
        Ok(CommitOutcome::Overtaken) => Reply::Error(
            "TRYAGAIN a conditional write of the same key was committed first; nothing was stored".into(),
        ),
        Ok(CommitOutcome::NotEnoughReceipts) => {
            Reply::Error("TRYAGAIN too few replicas became durable; nothing was stored".into())
        }
        Err(refused) => refused,
    };
    let shown = replaced.filter(|_| reply == Reply::Null);
    (reply, shown, stored)
}

async fn commit(
    ops: &Operations,
    spec: UploadSpec,
    time_to_live: Option<TimeToLive>,
    durable: &DurableBlob,
) -> Result<CommitOutcome, Reply> {
    let commit = durable.to_commit(&spec, &Described::default());
    match ops.writer.commit_value(commit, time_to_live).await {
        Ok(Outcome::Commit(outcome, _)) => Ok(outcome),
        Ok(other) => Err(refusal::of(&unexpected(&other))),
        Err(e) => Err(refusal::of(&e.into())),
    }
}

#[cfg(test)]
mod tests {
    use shared::expiry::Expires;

    use super::*;

    #[test]
    fn options_of_set() {
        let of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
            options_after(&words)
        };
        let plain = StoreOptions::default;
        assert_eq!(of(&[]), Ok(plain()));
        assert_eq!(of(&["nx"]), Ok(StoreOptions { condition: WriteCondition::Absent, ..plain() }));
        let (condition, time_to_live) = (WriteCondition::AnyPresent, Some(TimeToLive::Keep));
        assert_eq!(of(&["KEEPTTL", "XX"]), Ok(StoreOptions { condition, time_to_live, get: false }));
        let time_to_live = Some(TimeToLive::Until(Expires::After(10_000)));
        assert_eq!(of(&["get", "ex", "10"]), Ok(StoreOptions { time_to_live, get: true, ..plain() }));
        for wrong in [
            &["NX", "XX"][..],
            &["what"],
            &["EX"],
            &["EX", "0"],
            &["EX", "10", "PX", "10"],
            &["KEEPTTL", "EX", "10"],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
