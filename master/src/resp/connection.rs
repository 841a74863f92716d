//! One connection: reads a command, carries it out, replies, and so on.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use shared::http::serve::Context;
use shared::ids::RequestId;
use shared::limits::{
    HEADER_TIMEOUT, RESP_REFUSED_MAX, RESP_REPLIES_BYTES, RESP_SKIPPED_BYTES, RESP_UNKNOWN_ARGUMENT_BYTES,
};
use shared::work::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::command_table::{self, CommandInfo};
use super::metrics::{Labels, kind, status};
use super::reply::Reply;
use super::request::{Bounds, Request, RequestError, RequestReader, within};
use super::session::{self, Session};
use super::{Operations, RespApi, expiry, keyspace, refusal, store, values};
use crate::audit::line::Line;
use crate::auth::Caller;
use crate::auth::resource::split;

/// How long a client that was told the end may go on sending.
const LINGER: Duration = Duration::from_secs(2);

/// Why a connection ends in the middle of a command.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// After its length was announced.
    #[error("a value could not be read to its end")]
    Value,
    /// The reply says why; this is its kind.
    #[error("the client was told: {0}")]
    Told(&'static str),
}

/// What commands of one connection share.
pub struct Connection<'a, S> {
    api: &'a RespApi,
    pub session: Session,
    pub reader: RequestReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    /// Replies that were not sent yet.
    out: BytesMut,
    sent: u64,
    /// Since when the client has been without an access key while one is needed.
    unknown_since: Option<Instant>,
    /// Commands refused one after the other because of that.
    refused: u32,
    /// Whether it has sent a command that exists.
    greeted: bool,
    /// Whether the last command has stored its value, if it had one.
    pub stored: Option<bool>,
}

/// Serves a connection until its end.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    api: &RespApi,
    stream: S,
    (peer, id): (SocketAddr, u64),
    shutdown: Shutdown,
) {
    api.metrics.connections.inc();
    let (read, write) = tokio::io::split(stream);
    let mut connection = Connection {
        api,
        session: Session::new(peer, id),
        reader: RequestReader::new(read),
        writer: write,
        out: BytesMut::new(),
        sent: 0,
        unknown_since: None,
        refused: 0,
        greeted: false,
        stored: None,
    };
    if let Err(error) = connection.serve(&shutdown).await {
        let told = matches!(&error, Broken::Request(request) if request.is_told());
        if told {
            connection.push(&Reply::error(error.to_string()));
        }
        tracing::debug!(%peer, %error, "connection ended");
        // A value that broke off must not look complete.
        if (told || matches!(error, Broken::Told(_))) && connection.flush().await.is_ok() {
            let _ = connection.writer.shutdown().await;
            // Closed with bytes unread, the connection would be reset, and the reply lost.
            let _ = tokio::time::timeout(LINGER, connection.reader.discard()).await;
        }
    }
    let _ = connection.writer.shutdown().await;
    api.metrics.connections.dec();
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn serve(&mut self, shutdown: &Shutdown) -> Result<(), Broken> {
        loop {
            if !self.reader.has_more() || self.out.len() > RESP_REPLIES_BYTES {
                self.flush().await?;
            }
            let patience = self.patience();
            let begun = tokio::select! {
                begun = within(patience, self.reader.begins()) => begun,
                () = shutdown.wait() => return Ok(()),
            };
            if !begun.unwrap_or(Ok(false))? {
                return Ok(());
            }
            if !self.reader.first().is_some_and(is_of_a_request) {
                return Err(RequestError::Protocol("this is no command").into());
            }
            let Some(request) = within(patience, self.reader.next(self.bounds())).await else {
                return Ok(());
            };
            let request = request?;
            if request.arguments.is_empty() {
                continue;
            }
            let exists = command_table::find(&request.arguments[0]).is_some();
            self.greeted |= exists;
            // Another protocol, in which a browser could hide commands: the first words would be none of ours.
            if is_http(&request) || request.inline && !exists && !self.greeted {
                tracing::warn!(peer = %self.session.peer, "another protocol than that of Redis was spoken to its port; it was refused");
                return Ok(());
            }
            match within(self.patience(), self.command(&request)).await {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return self.flush().await,
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }

    /// How long a client that has shown no access key may still hold this connection.
    fn patience(&mut self) -> Option<Duration> {
        if self.is_trusted() {
            self.unknown_since = None;
            return None;
        }
        let since = *self.unknown_since.get_or_insert_with(Instant::now);
        Some(HEADER_TIMEOUT.saturating_sub(since.elapsed()))
    }

    /// Whether the client may send more than a greeting: it has shown an access key, or there are none.
    fn is_trusted(&self) -> bool {
        let open = |ops: &Operations| matches!(ops.keys().nobody(), Ok(Caller::Open));
        self.session.is_known() || self.api.joined.get().is_some_and(open)
    }

    pub fn bounds(&self) -> Bounds {
        if self.is_trusted() { Bounds::KNOWN } else { Bounds::UNKNOWN }
    }

    /// Carries out a command. Returns whether the connection goes on.
    async fn command(&mut self, request: &Request) -> Result<bool, Broken> {
        let found = command_table::find(&request.arguments[0]);
        let context = Context { request_id: RequestId::random(), peer: self.session.peer };
        let lines = self.lines(found, request, context);
        let before = self.sent;
        self.stored = None;
        let ended = self.answer(found, request).await;
        let result = match &ended {
            Ok(Some(Reply::Error(text))) => kind(text),
            Ok(_) => "ok",
            Err(Broken::Told(kind)) => kind,
            Err(_) => "broken",
        };
        let command = found.map_or("other", |command| command.name);
        self.api.metrics.commands.get_or_create(&Labels { command, result }).inc();
        self.api.metrics.sent_bytes.inc_by(self.sent - before);
        let bytes_in = request.value.filter(|_| self.stored == Some(true)).unwrap_or(0);
        for (n, mut line) in lines.into_iter().enumerate() {
            line.status = match (status(result, matches!(&ended, Ok(Some(Reply::Null)))), self.stored) {
                (200 | 404, Some(stored)) => {
                    if stored {
                        200
                    } else {
                        412
                    }
                }
                (status, _) => status,
            };
            // Those of all keys, with the first.
            (line.bytes_in, line.bytes_out) = if n == 0 { (bytes_in, self.sent - before) } else { (0, 0) };
            line.access_key = line.access_key.or_else(|| self.session.access_key().map(str::to_owned));
            if let Some(audit) = &self.api.audit {
                audit.record(line);
            }
        }
        if let Some(reply) = ended? {
            self.push(&reply);
        }
        let refused = ["NOAUTH", "WRONGPASS"].contains(&result) && !self.session.is_known();
        self.refused = if refused { self.refused + 1 } else { 0 };
        if self.refused >= RESP_REFUSED_MAX {
            return Err(Broken::Told(result));
        }
        Ok(command != "quit")
    }

    async fn answer(
        &mut self,
        found: Option<&'static CommandInfo>,
        request: &Request,
    ) -> Result<Option<Reply>, Broken> {
        let arguments = &request.arguments[1..];
        let Some(command) = found else { return Ok(Some(command_table::unknown(&request.arguments[0]))) };
        let sent = request.arguments.len() + request.value.map_or(0, |_| 1 + request.rest);
        if !command.takes(sent) {
            return self.refuse(request, refusal::wrong_arity(command.name)).await;
        }
        match command.name {
            "quit" => return Ok(Some(Reply::OK)),
            "reset" => return Ok(Some(self.session.reset())),
            _ => {}
        }
        let api = self.api;
        let Some(ops) = api.joined.get() else { return self.refuse(request, session::not_joined()).await };
        match command.name {
            "auth" => return Ok(Some(self.session.auth(ops, arguments).await)),
            "hello" => return Ok(Some(self.session.hello(ops, arguments).await)),
            _ => {}
        }
        let caller = match self.session.caller(ops).await {
            Ok(caller) => caller,
            Err(refused) => return self.refuse(request, refused).await,
        };
        match (command.name, request.value) {
            (name, _) if command_table::value_at(name.as_bytes()).is_some() => {
                store::store(self, ops, &caller, name, request).await
            }
            ("getex", _) => values::get_and_expire(self, ops, &caller, arguments).await,
            ("get" | "getrange" | "substr", _) => values::get(self, ops, &caller, &request.arguments).await,
            ("getbit", _) => Ok(Some(values::bit(ops, &caller, arguments).await)),
            ("mget", _) => values::get_many(self, ops, &caller, arguments).await,
            ("getdel", _) => values::get_and_delete(self, ops, &caller, &arguments[0]).await,
            _ if caller == Caller::Anonymous && command.audited.is_none() => {
                Ok(Some(refusal::not_permitted(true)))
            }
            (name, _) => Ok(Some(self.small(name, ops, &caller, arguments).await)),
        }
    }

    /// Answers a command whose reply fits into memory.
    async fn small(&mut self, name: &str, ops: &Operations, caller: &Caller, arguments: &[Bytes]) -> Reply {
        let existing = |of: fn(u64) -> Reply, none: Reply| {
            keyspace::about(ops, caller, &arguments[0], |found| found.map_or(none, |object| of(object.size)))
        };
        match name {
            "ping" => match arguments {
                [] => Reply::Simple("PONG"),
                [text] => Reply::Bulk(text.clone()),
                _ => refusal::wrong_arity("ping"),
            },
            "echo" => Reply::Bulk(arguments[0].clone()),
            "select" if &arguments[0][..] == b"0" => Reply::OK,
            "select" => Reply::error("DB index is out of range"),
            "client" => self.session.client(arguments),
            "command" => command_table::command(arguments),
            "config" => session::config(arguments),
            "info" => session::info(ops, caller, self.api.metrics.connections.get()),
            "del" | "unlink" => keyspace::del(ops, caller, arguments).await,
            "exists" | "touch" => keyspace::exists(ops, caller, arguments),
            "strlen" => {
                existing(|size| Reply::Integer(i64::try_from(size).unwrap_or(i64::MAX)), Reply::Integer(0))
            }
            "type" => existing(|_| Reply::Simple("string"), Reply::Simple("none")),
            "ttl" | "pttl" | "expiretime" | "pexpiretime" => match expiry::now(ops).await {
                Ok(now) => {
                    keyspace::about(ops, caller, &arguments[0], |found| expiry::left(name, found, now))
                }
                Err(refused) => refused,
            },
            "expire" | "pexpire" | "expireat" | "pexpireat" => {
                expiry::expire(ops, caller, name, arguments).await
            }
            "persist" => expiry::persist(ops, caller, &arguments[0]).await,
            "time" => expiry::time(ops).await,
            "dbsize" => keyspace::size(ops, caller),
            "scan" => {
                let owner = self.session.access_key().unwrap_or_default().to_owned();
                keyspace::scan(ops, caller, &owner, arguments).await
            }
            "keys" => keyspace::keys(ops, caller, &arguments[0]).await,
            other => Reply::error(format!("'{other}' is not supported")),
        }
    }

    /// Refuses a command, with the value that it may have.
    ///
    /// # Errors
    /// When the connection is of no further use.
    pub async fn refuse(&mut self, request: &Request, refused: Reply) -> Result<Option<Reply>, Broken> {
        match request.value {
            Some(length) => self.skip(length, request.rest, refused).await.map(Some),
            None => Ok(Some(refused)),
        }
    }

    /// Reads past the rest of a refused SET. If that is long, the connection ends with the reply instead.
    ///
    /// # Errors
    /// When the connection is of no further use.
    pub async fn skip(&mut self, mut left: u64, rest: usize, refused: Reply) -> Result<Reply, Broken> {
        let most = if self.is_trusted() { RESP_SKIPPED_BYTES } else { RESP_UNKNOWN_ARGUMENT_BYTES as u64 };
        if left > most {
            return Err(self.end_with(&refused));
        }
        while left > 0 {
            self.reader.piece(&mut left).await?;
        }
        self.reader.rest(rest, self.bounds()).await?;
        Ok(refused)
    }

    pub fn push(&mut self, reply: &Reply) {
        reply.encode(self.session.protocol, &mut self.out);
    }

    pub fn push_text(&mut self, text: &str) {
        self.out.put(text.as_bytes());
    }

    /// Replies, and returns the end of the connection.
    pub fn end_with(&mut self, refused: &Reply) -> Broken {
        self.push(refused);
        Broken::Told(if let Reply::Error(text) = refused { kind(text) } else { "ERR" })
    }

    /// Counts value bytes that the client has sent.
    pub fn received(&self, bytes: u64) {
        self.api.metrics.received_bytes.inc_by(bytes);
    }

    /// Sends bytes of a value, after all replies before it.
    ///
    /// # Errors
    /// When the connection breaks, or its client takes nothing for too long.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.flush().await?;
        self.writer.write_all(&bytes).await?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            self.writer.write_all(&out).await?;
        }
        self.writer.flush().await?;
        Ok(())
    }

    /// Begins the audit lines of a command that is about values or access: one a key, or one for the prefix of a list.
    fn lines(&self, found: Option<&'static CommandInfo>, request: &Request, context: Context) -> Vec<Line> {
        let Some((audit, command)) = self.api.audit.as_ref().zip(found) else { return Vec::new() };
        let Some(operation) = command.operation(request.arguments.len()) else { return Vec::new() };
        let mut line = Line::new("resp", operation, context, audit.now());
        if let (Some(id), Some(ops)) = (session::claimed(&request.arguments), self.api.joined.get()) {
            line.access_key = Some(ops.keys().shown(&id));
        }
        let about = command.about(&request.arguments);
        if about.is_empty() {
            return vec![line];
        }
        let of = |argument: &Bytes| {
            let text = String::from_utf8_lossy(argument).into_owned();
            let (bucket, rest) = split(&text);
            line.clone().about(bucket, rest)
        };
        about.iter().map(of).collect()
    }
}

/// Whether a browser was made to send this: a page must not reach a store that trusts this machine. The first line of
/// an HTTP request ends with its version (RFC 9112, section 3).
fn is_http(request: &Request) -> bool {
    let version = request.arguments.last().is_some_and(|last| last.starts_with(b"HTTP/"));
    let header = request.arguments[0].contains(&b':');
    request.inline && (version || header) || request.arguments[0].eq_ignore_ascii_case(b"POST")
}

/// Whether a request can begin with this: an array, or a word. TLS and binary protocols begin with other bytes.
fn is_of_a_request(first: u8) -> bool {
    first == b'*' || first.is_ascii_graphic() || first.is_ascii_whitespace()
}
