//! Replies of the Redis protocol, in version 2 and 3 (RESP2, RESP3 specification).

use bytes::{BufMut, Bytes, BytesMut};

/// The version of the protocol that a client has chosen by `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// A reply that fits into memory; the value of a key never is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(&'static str),
    /// Begins with its kind in capitals, as clients expect: `ERR`, `NOAUTH`, …
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    Null,
    Array(Vec<Reply>),
    /// An array of names and values in version 2.
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    pub const OK: Self = Self::Simple("OK");

    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(format!("ERR {}", text.into()))
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    pub fn count(n: usize) -> Self {
        Self::Integer(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// Appends the reply to `out`.
    pub fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        match self {
            Self::Simple(text) => out.put(format!("+{text}\r\n").as_bytes()),
            // A line ends the reply.
            Self::Error(text) => out.put(format!("-{}\r\n", text.replace(['\r', '\n'], " ")).as_bytes()),
            Self::Integer(n) => out.put(format!(":{n}\r\n").as_bytes()),
            Self::Bulk(bytes) => {
                out.put(format!("${}\r\n", bytes.len()).as_bytes());
                out.put(&bytes[..]);
                out.put(&b"\r\n"[..]);
            }
            Self::Null if protocol == Protocol::Resp3 => out.put(&b"_\r\n"[..]),
            Self::Null => out.put(&b"$-1\r\n"[..]),
            Self::Array(items) => {
                out.put(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| item.encode(protocol, out));
            }
            Self::Map(pairs) => {
                let (sign, count) = match protocol {
                    Protocol::Resp2 => ('*', pairs.len() * 2),
                    Protocol::Resp3 => ('%', pairs.len()),
                };
                out.put(format!("{sign}{count}\r\n").as_bytes());
                for (name, value) in pairs {
                    name.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_both_versions() {
        let map = Reply::Map(vec![(Reply::text("a"), Reply::Integer(-1))]);
        for (reply, two, three) in [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::error("a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (map, "*2\r\n$1\r\na\r\n:-1\r\n", "%1\r\n$1\r\na\r\n:-1\r\n"),
            (Reply::Array(vec![Reply::Null]), "*1\r\n$-1\r\n", "*1\r\n_\r\n"),
            (Reply::text(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        ] {
            for (protocol, wanted) in [(Protocol::Resp2, two), (Protocol::Resp3, three)] {
                let mut out = BytesMut::new();
                reply.encode(protocol, &mut out);
                assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
            }
        }
    }
}
