//! What a connection remembers: who the client is, which version it speaks, its name. And the commands that change
//! or show that.

use std::net::SocketAddr;

use bytes::Bytes;
use shared::limits::{BLOB_BYTES_MAX, RESP_CLIENT_NAME_BYTES};
use shared::wire::error::{ErrorCode, ErrorReply};

use super::glob::{Budget, Pattern};
use super::reply::{Protocol, Reply};
use super::{Operations, refusal};
use crate::auth::{Action, Caller};
use crate::tables::{Kind, content, meta};

/// The version of Redis whose commands are followed.
const REDIS_VERSION: &str = "7.0.0";

#[derive(Debug)]
pub struct Session {
    pub peer: SocketAddr,
    id: u64,
    pub protocol: Protocol,
    /// The access key that the client has shown: its id and secret. Verified again for each command, since it
    /// may be revoked.
    shown: Option<(String, String)>,
    name: Bytes,
}

impl Session {
    pub fn new(peer: SocketAddr, id: u64) -> Self {
        Self { peer, id, protocol: Protocol::default(), shown: None, name: Bytes::new() }
    }

    /// Whether the client has shown an access key that was valid then.
    pub fn is_known(&self) -> bool {
        self.shown.is_some()
    }

    /// The id of the access key, for the audit log.
    pub fn access_key(&self) -> Option<&str> {
        self.shown.as_ref().map(|(id, _)| id.as_str())
    }

    /// Returns who the client is, by metadata that is current.
    ///
    /// # Errors
    /// The reply, when the metadata cannot be read.
    pub async fn caller(&mut self, ops: &Operations) -> Result<Caller, Reply> {
        ops.metadata.ensure_linearizable().await.map_err(|e| refusal::of(&e.into()))?;
        let keys = ops.keys();
        let of_tables = |e: crate::tables::TableError| refusal::of(&e.into());
        let Some((id, secret)) = &self.shown else { return keys.nobody().map_err(of_tables) };
        match keys.prove(id, secret).map_err(of_tables)? {
            Ok(caller) => Ok(caller),
            Err(_) => {
                // Revoked since.
                self.shown = None;
                Ok(Caller::Anonymous)
            }
        }
    }

    /// Answers `AUTH`: `AUTH id secret`, or `AUTH id:secret`.
    pub async fn auth(&mut self, ops: &Operations, arguments: &[Bytes]) -> Reply {
        let text = |argument: &Bytes| String::from_utf8(argument.to_vec()).ok();
        let pair = match arguments {
            [id, secret] => text(id).zip(text(secret)),
            [both] => text(both)
                .and_then(|both| both.split_once(':').map(|(id, secret)| (id.into(), secret.into()))),
            _ => return refusal::syntax(),
        };
        let Some((id, secret)) = pair else {
            return match ops.keys().nobody() {
                Ok(Caller::Open) => without_keys(),
                Ok(_) => wrong_pass(),
                Err(e) => refusal::of(&e.into()),
            };
        };
        match self.prove(ops, &id, &secret).await {
            Ok(()) => {
                self.shown = Some((id, secret));
                Reply::OK
            }
            Err(refused) => refused,
        }
    }

    async fn prove(&self, ops: &Operations, id: &str, secret: &str) -> Result<(), Reply> {
        let refused = |e: ErrorReply| refusal::of(&e);
        ops.keys().throttle(id, self.peer.ip()).await.map_err(refused)?;
        ops.metadata.ensure_linearizable().await.map_err(|e| refused(e.into()))?;
        let keys = ops.keys();
        let proved = keys.prove(id, secret).map_err(|e| refused(e.into()))?;
        let Err(wrong) = proved else { return Ok(()) };
        if keys.nobody().map_err(|e| refused(e.into()))? == Caller::Open {
            return Err(without_keys());
        }
        keys.wrong(id, self.peer.ip(), wrong);
        Err(wrong_pass())
    }

    /// Answers `HELLO [version [AUTH id secret] [SETNAME name]]`.
    pub async fn hello(&mut self, ops: &Operations, arguments: &[Bytes]) -> Reply {
        let before = self.shown.clone();
        let reply = self.greet(ops, arguments).await;
        if matches!(reply, Reply::Error(_)) {
            self.shown = before;
        }
        reply
    }

    async fn greet(&mut self, ops: &Operations, arguments: &[Bytes]) -> Reply {
        let mut protocol = self.protocol;
        let mut rest = arguments;
        if let [version, after @ ..] = rest {
            protocol = match &version[..] {
                b"2" => Protocol::Resp2,
                b"3" => Protocol::Resp3,
                _ => return Reply::Error("NOPROTO unsupported protocol version".into()),
            };
            rest = after;
        }
        let mut name = None;
        while let [option, after @ ..] = rest {
            rest = match (option.to_ascii_uppercase().as_slice(), after) {
                (b"AUTH", [id, secret, after @ ..]) => {
                    let reply = self.auth(ops, &[id.clone(), secret.clone()]).await;
                    if reply != Reply::OK {
                        return reply;
                    }
                    after
                }
                (b"SETNAME", [new, after @ ..]) => {
                    name = Some(new.clone());
                    after
                }
                _ => {
                    return Reply::error(format!("syntax error in HELLO option '{}'", option.escape_ascii()));
                }
            };
        }
        match self.caller(ops).await {
            Ok(Caller::Anonymous) => {
                return Reply::Error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time".into());
            }
            Ok(_) => {}
            Err(refused) => return refused,
        }
        if let Some(new) = name
            && let Err(refused) = self.rename(&new)
        {
            return refused;
        }
        self.protocol = protocol;
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        let text = |name: &str, value: &str| (Reply::text(name), Reply::text(value));
        Reply::Map(vec![
            text("server", "redis"),
            text("version", REDIS_VERSION),
            (Reply::text("proto"), Reply::Integer(version)),
            (Reply::text("id"), self.shown_id()),
            text("mode", "standalone"),
            text("role", "master"),
            (Reply::text("modules"), Reply::Array(Vec::new())),
        ])
    }

    /// Answers `RESET`.
    pub fn reset(&mut self) -> Reply {
        *self = Self::new(self.peer, self.id);
        Reply::Simple("RESET")
    }

    fn shown_id(&self) -> Reply {
        Reply::Integer(i64::try_from(self.id).unwrap_or(i64::MAX))
    }

    fn rename(&mut self, name: &Bytes) -> Result<(), Reply> {
        if name.len() > RESP_CLIENT_NAME_BYTES || !name.iter().all(u8::is_ascii_graphic) {
            return Err(Reply::error("Client names cannot contain spaces, newlines or special characters."));
        }
        self.name = name.clone();
        Ok(())
    }

    /// Answers `CLIENT`.
    pub fn client(&mut self, arguments: &[Bytes]) -> Reply {
        let what = arguments.first().map(|what| what.to_ascii_uppercase()).unwrap_or_default();
        match (what.as_slice(), &arguments[1..]) {
            (b"ID", []) => self.shown_id(),
            (b"GETNAME", []) if self.name.is_empty() => Reply::Null,
            (b"GETNAME", []) => Reply::Bulk(self.name.clone()),
            (b"SETNAME", [name]) => self.rename(name).map_or_else(|refused| refused, |()| Reply::OK),
            (b"SETINFO", [_, _]) | (b"NO-EVICT" | b"NO-TOUCH", [_]) => Reply::OK,
            (b"INFO" | b"LIST", _) => Reply::text(format!(
                "id={} addr={} name={} db=0 resp={} user={}\n",
                self.id,
                self.peer,
                self.name.escape_ascii(),
                if self.protocol == Protocol::Resp3 { 3 } else { 2 },
                self.access_key().unwrap_or("default"),
            )),
            _ => Reply::error(format!("'CLIENT {}' is not supported", what.escape_ascii())),
        }
    }
}

/// Returns the id of an access key that AUTH or HELLO shows.
pub fn claimed(arguments: &[Bytes]) -> Option<String> {
    let at = |name: &[u8]| arguments.iter().position(|argument| argument.eq_ignore_ascii_case(name));
    let shown = match at(b"AUTH") {
        Some(0) => arguments.get(1),
        Some(n) if at(b"HELLO") == Some(0) => arguments.get(n + 1),
        _ => None,
    };
    let id = shown?.split(|byte| *byte == b':').next().unwrap_or_default();
    Some(String::from_utf8_lossy(id).into_owned())
}

fn without_keys() -> Reply {
    Reply::error(
        "AUTH called without any password configured: there is no access key yet; leave AUTH out, or create one with \
         `barge key create`",
    )
}

fn wrong_pass() -> Reply {
    Reply::Error("WRONGPASS invalid username-password pair or user is disabled.".into())
}

/// Answers `CONFIG`.
pub fn config(arguments: &[Bytes]) -> Reply {
    let [what, patterns @ ..] = arguments else { return refusal::wrong_arity("config") };
    if !what.eq_ignore_ascii_case(b"GET") {
        return Reply::error("only CONFIG GET is supported: servers are configured by their command lines");
    }
    let longest = BLOB_BYTES_MAX.to_string();
    let all = [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("databases", "1"),
        ("maxmemory", "0"),
        ("proto-max-bulk-len", longest.as_str()),
        ("save", ""),
        ("timeout", "0"),
    ];
    let patterns: Vec<_> = patterns.iter().filter_map(|p| Pattern::new(&p.to_ascii_lowercase())).collect();
    let asked =
        |name: &str| patterns.iter().any(|p| p.matches(name.as_bytes(), &mut Budget::default()) == Ok(true));
    let found = all.into_iter().filter(|(name, _)| asked(name));
    Reply::Map(found.map(|(name, value)| (Reply::text(name), Reply::text(value))).collect())
}

/// Answers `INFO`; `caller` may see how many keys there are if it may list them all.
pub fn info(ops: &Operations, caller: &Caller, connections: i64) -> Reply {
    let mut text = format!(
        "# Server\r\nredis_version:{REDIS_VERSION}\r\nbarge_version:{}\r\nredis_mode:standalone\r\n\r\n# Clients\r\n\
         connected_clients:{connections}\r\n\r\n# Persistence\r\nloading:0\r\naof_enabled:1\r\n\r\n# Replication\r\n\
         role:master\r\nconnected_slaves:0\r\n\r\n# Keyspace\r\n",
        env!("CARGO_PKG_VERSION"),
    );
    if caller.may(Action::List, None, None) {
        let tree = ops.metadata.database.tree();
        let expiring = content::read(&tree).map(|content| content.map_or(0, |c| c.records(Kind::Expiry)));
        match meta::counters(&tree).and_then(|counters| Ok((counters.objects, expiring?))) {
            Ok((keys, expires)) => {
                text.push_str(&format!("db0:keys={keys},expires={expires},avg_ttl=0\r\n"));
            }
            Err(e) => return refusal::of(&e.into()),
        }
    }
    Reply::text(text)
}

/// The reply while this master does not belong to a cluster.
pub fn not_joined() -> Reply {
    refusal::of(&ErrorReply::new(
        ErrorCode::NotJoined,
        "this master does not belong to a cluster yet",
        "try again in a moment",
    ))
}
