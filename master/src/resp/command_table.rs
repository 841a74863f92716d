//! The commands, as `COMMAND` shows them to clients, and what is not supported.

use bytes::Bytes;

use super::glob::literal_prefix;
use super::reply::Reply;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandInfo {
    pub name: &'static str,
    /// Number of arguments with the name; at least so many if negative.
    arity: i64,
    flags: &'static [&'static str],
    /// First key, last key and step, as arguments; 0 without keys.
    keys: (i64, i64, i64),
    /// Its name in the audit log; none if it is not about values.
    pub audited: Option<&'static str>,
}

const READS: &[&str] = &["readonly"];
const WRITES: &[&str] = &["write", "denyoom"];
const DELETES: &[&str] = &["write"];
const TIMES: &[&str] = &["write", "fast"];
const CONNECTS: &[&str] = &["fast", "no_auth"];
const TELLS: &[&str] = &["fast"];

const fn info(
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    keys: (i64, i64, i64),
    audited: Option<&'static str>,
) -> CommandInfo {
    CommandInfo { name, arity, flags, keys, audited }
}

const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const NONE: (i64, i64, i64) = (0, 0, 0);

/// In the order of their names.
pub const COMMANDS: [CommandInfo; 42] = [
    info("auth", -2, CONNECTS, NONE, Some("Authenticate")),
    info("client", -2, TELLS, NONE, None),
    info("command", -1, TELLS, NONE, None),
    info("config", -2, TELLS, NONE, None),
    info("dbsize", 1, READS, NONE, Some("CountObjects")),
    info("del", -2, DELETES, ALL, Some("DeleteObject")),
    info("echo", 2, TELLS, NONE, None),
    info("exists", -2, READS, ALL, Some("HeadObject")),
    info("expire", -3, TIMES, ONE, Some("SetExpiry")),
    info("expireat", -3, TIMES, ONE, Some("SetExpiry")),
    info("expiretime", 2, READS, ONE, Some("HeadObject")),
    info("get", 2, READS, ONE, Some("GetObject")),
    info("getbit", 3, READS, ONE, Some("GetObject")),
    info("getdel", 2, DELETES, ONE, Some("DeleteObject")),
    info("getex", -2, TIMES, ONE, Some("GetObject")),
    info("getrange", 4, READS, ONE, Some("GetObject")),
    info("getset", 3, WRITES, ONE, Some("PutObject")),
    info("hello", -1, CONNECTS, NONE, Some("Authenticate")),
    info("info", -1, TELLS, NONE, None),
    info("keys", 2, READS, NONE, Some("ListObjectsV2")),
    info("mget", -2, READS, ALL, Some("GetObject")),
    info("persist", 2, TIMES, ONE, Some("SetExpiry")),
    info("pexpire", -3, TIMES, ONE, Some("SetExpiry")),
    info("pexpireat", -3, TIMES, ONE, Some("SetExpiry")),
    info("pexpiretime", 2, READS, ONE, Some("HeadObject")),
    info("ping", -1, TELLS, NONE, None),
    info("psetex", 4, WRITES, ONE, Some("PutObject")),
    info("pttl", 2, READS, ONE, Some("HeadObject")),
    info("quit", -1, CONNECTS, NONE, None),
    info("reset", 1, CONNECTS, NONE, None),
    info("scan", -2, READS, NONE, Some("ListObjectsV2")),
    info("select", 2, TELLS, NONE, None),
    info("set", -3, WRITES, ONE, Some("PutObject")),
    info("setex", 4, WRITES, ONE, Some("PutObject")),
    info("setnx", 3, WRITES, ONE, Some("PutObject")),
    info("strlen", 2, READS, ONE, Some("HeadObject")),
    info("substr", 4, READS, ONE, Some("GetObject")),
    info("time", 1, TELLS, NONE, None),
    info("touch", -2, READS, ALL, Some("HeadObject")),
    info("ttl", 2, READS, ONE, Some("HeadObject")),
    info("type", 2, READS, ONE, Some("HeadObject")),
    info("unlink", -2, DELETES, ALL, Some("DeleteObject")),
];

/// Commands of Redis that clients know and this store does not have, with the reason.
const UNSUPPORTED: [(&[&str], &str); 5] = [
    (
        &["append", "setrange", "incr", "decr", "incrby", "decrby", "setbit", "bitop", "mset", "msetnx"],
        "a value is replaced as a whole: SET it again",
    ),
    (&["multi", "exec", "discard", "watch", "unwatch"], "there are no transactions: use SET with NX or XX"),
    (&["eval", "evalsha", "script", "function", "fcall"], "there are no scripts"),
    (&["subscribe", "psubscribe", "ssubscribe", "publish", "monitor"], "there are no messages"),
    (
        &["flushall", "flushdb", "swapdb", "move", "rename", "renamenx", "copy"],
        "keys are deleted by DEL, and copied by GET and SET",
    ),
];

/// Returns the command with this name.
pub fn find(name: &[u8]) -> Option<&'static CommandInfo> {
    COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
}

/// Returns at which argument the value of a command is.
pub fn value_at(name: &[u8]) -> Option<usize> {
    let of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    match () {
        () if of(&["set", "setnx", "getset"]) => Some(2),
        () if of(&["setex", "psetex"]) => Some(3),
        () => None,
    }
}

/// Returns the error for a command that does not exist.
pub fn unknown(name: &[u8]) -> Reply {
    let known = UNSUPPORTED
        .iter()
        .find(|(names, _)| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())));
    let shown = String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned();
    Reply::error(match known {
        Some((_, why)) => format!("'{shown}' is not supported: {why}"),
        None => format!("unknown command '{shown}'"),
    })
}

impl CommandInfo {
    /// Whether so many arguments, the name included, are right.
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }

    /// Returns its name in the audit log, with so many arguments, its own name included.
    pub fn operation(&self, arguments: usize) -> Option<&'static str> {
        if self.name == "getex" && arguments > 2 { Some("SetExpiry") } else { self.audited }
    }

    /// Returns the keys among the arguments of a request; of a list, the prefix.
    pub fn about(&self, arguments: &[Bytes]) -> Vec<Bytes> {
        let prefix = |pattern: &Bytes| vec![pattern.slice(..literal_prefix(pattern).len())];
        match (self.name, self.keys.1) {
            ("keys", _) => arguments.get(1).map(prefix).unwrap_or_default(),
            ("scan", _) => {
                let at = arguments.iter().position(|argument| argument.eq_ignore_ascii_case(b"MATCH"));
                at.and_then(|at| arguments.get(at + 1)).map(prefix).unwrap_or_default()
            }
            (_, 1) => arguments.get(1).cloned().into_iter().collect(),
            (_, -1) => arguments[1..].to_vec(),
            _ => Vec::new(),
        }
    }

    fn shown(&self) -> Reply {
        let (first, last, step) = self.keys;
        let flags = self.flags.iter().map(|flag| Reply::Simple(flag)).collect();
        Reply::Array(vec![
            Reply::text(self.name),
            Reply::Integer(self.arity),
            Reply::Array(flags),
            Reply::Integer(first),
            Reply::Integer(last),
            Reply::Integer(step),
        ])
    }
}

/// Answers `COMMAND`.
pub fn command(arguments: &[Bytes]) -> Reply {
    let names = |from: usize| arguments.get(from..).unwrap_or_default();
    match arguments.first().map(|what| what.to_ascii_lowercase()).as_deref() {
        None => Reply::Array(COMMANDS.iter().map(CommandInfo::shown).collect()),
        Some(b"count") => Reply::count(COMMANDS.len()),
        // What a command does is in the documentation of Redis.
        Some(b"docs") => Reply::Map(Vec::new()),
        Some(b"info") => {
            let shown = |name: &Bytes| find(name).map_or(Reply::Null, CommandInfo::shown);
            Reply::Array(names(1).iter().map(shown).collect())
        }
        Some(_) => Reply::error("unknown subcommand or wrong number of arguments for 'COMMAND'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_arguments() {
        let takes = |name: &str, n| find(name.as_bytes()).unwrap().takes(n);
        assert!(takes("GET", 2) && !takes("get", 1) && !takes("get", 3));
        assert!(takes("SET", 3) && takes("SET", 7) && !takes("SET", 2));
        assert_eq!(find(b"nothing"), None);
    }

    #[test]
    fn what_is_not_supported_says_why() {
        let Reply::Error(text) = unknown(b"APPEND") else { panic!() };
        assert_eq!(text, "ERR 'APPEND' is not supported: a value is replaced as a whole: SET it again");
        assert_eq!(unknown(b"x"), Reply::Error("ERR unknown command 'x'".into()));
    }
}
