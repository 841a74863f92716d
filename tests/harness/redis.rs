//! A Redis client by hand, on a connection that may break at any moment.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, add, free_port};
use crate::history::{Call, Outcome, ValueId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    /// A value, or null.
    Value(Option<Vec<u8>>),
}

impl Reply {
    /// Whether it is an error that promises that nothing was done.
    pub fn says_nothing_done(&self) -> bool {
        let promise =
            |text: &str| ["TRYAGAIN ", "LOADING ", "OOM "].iter().any(|kind| text.starts_with(kind));
        matches!(self, Self::Error(text) if promise(text))
    }
}

#[derive(Debug)]
pub struct Redis(BufReader<TcpStream>);

impl Redis {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// If nothing answers there.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Whether the server has not closed it, as far as is known here.
    pub fn is_open(&self) -> bool {
        let read = self.0.get_ref().try_read(&mut [0]);
        read.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a command and reads its reply. A connection on which that failed, or was given up, is of no further use.
    ///
    /// # Errors
    /// If no complete reply arrives: what the server did is unknown.
    pub async fn ask(&mut self, arguments: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments.iter().map(AsRef::as_ref) {
            out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            out.extend_from_slice(argument);
            out.extend_from_slice(b"\r\n");
        }
        self.0.write_all(&out).await?;
        self.reply().await
    }

    /// As `ask`, for the words of a command, separated by spaces.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn say(&mut self, words: &str) -> io::Result<Reply> {
        let arguments: Vec<_> = words.split(' ').collect();
        self.ask(&arguments).await
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let text = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let number = || text[1..].parse::<i64>().map_err(io::Error::other);
        match text.as_bytes().first() {
            Some(b'+') => Ok(Reply::Status(text[1..].to_owned())),
            Some(b'-') => Ok(Reply::Error(text[1..].to_owned())),
            Some(b':') => Ok(Reply::Integer(number()?)),
            Some(b'$') => match usize::try_from(number()?) {
                Ok(length) => self.value(length).await.map(|value| Reply::Value(Some(value))),
                Err(_) => Ok(Reply::Value(None)),
            },
            _ => Err(io::Error::other(format!("no reply begins like this: {text}"))),
        }
    }

    async fn value(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut value = vec![0; length + 2];
        self.0.read_exact(&mut value).await?;
        if !value.ends_with(b"\r\n") {
            return Err(io::Error::other("a value does not end at its announced length"));
        }
        value.truncate(length);
        Ok(value)
    }
}

/// A command about one key, for its history.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Get,
    Del,
    GetDel,
    Set {
        value: ValueId,
        /// `NX` or `XX`.
        condition: Option<&'static str>,
        /// Whether the reply is the value that was there before.
        get: bool,
    },
}

impl Command {
    /// Returns its name and options.
    pub fn name(self) -> String {
        match self {
            Self::Get => "redis GET".into(),
            Self::Del => "DEL".into(),
            Self::GetDel => "GETDEL".into(),
            Self::Set { condition, get, .. } => {
                let options = condition.into_iter().chain(get.then_some("GET"));
                ["SET"].into_iter().chain(options).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Returns its arguments; `bytes` are those of a value.
    pub fn words(self, key: &str, bytes: impl Fn(ValueId) -> Vec<u8>) -> Vec<Vec<u8>> {
        let plain = |name: &str| vec![name.into(), key.into()];
        match self {
            Self::Get => plain("GET"),
            Self::Del => plain("DEL"),
            Self::GetDel => plain("GETDEL"),
            Self::Set { value, condition, get } => {
                let options = condition.into_iter().chain(get.then_some("GET")).map(Vec::from);
                plain("SET").into_iter().chain([bytes(value)]).chain(options).collect()
            }
        }
    }

    /// What happened if the reply was lost.
    pub fn unknown(self) -> Vec<(Call, Outcome)> {
        let call = match self {
            Self::Get => return Vec::new(),
            Self::Del | Self::GetDel => Call::Delete,
            Self::Set { value, condition: Some("NX"), .. } => Call::PutIfAbsent(value),
            Self::Set { value, .. } => Call::Put(value),
        };
        vec![(call, Outcome::Unknown)]
    }

    /// What a reply says; `seen` identifies a value. Two operations are one command: the one and then the other.
    ///
    /// # Panics
    /// If the reply is none to this command, or an error of a read that promises nothing.
    pub fn told(self, reply: &Reply, seen: impl Fn(&[u8]) -> ValueId) -> Vec<(Call, Outcome)> {
        use Outcome::{Done, Refused, Saw};
        let old = match reply {
            Reply::Value(old) => Some(old.as_deref().map(&seen)),
            _ => None,
        };
        match (self, reply, old) {
            (Self::Get, _, Some(old)) => vec![(Call::Read, Saw(old))],
            (Self::Del, Reply::Integer(1), _) => vec![(Call::Delete, Done)],
            (Self::Del, Reply::Integer(0), _) => vec![(Call::Delete, Refused)],
            (Self::GetDel, _, Some(None)) => vec![(Call::Read, Saw(None))],
            (Self::GetDel, _, Some(old)) => vec![(Call::Read, Saw(old)), (Call::Delete, Done)],
            (Self::Set { value, condition, get: false }, Reply::Status(_), _) => match condition {
                None => vec![(Call::Put(value), Done)],
                Some("NX") => vec![(Call::PutIfAbsent(value), Done)],
                // It replaced something: as if that was deleted first.
                Some(_) => vec![(Call::Delete, Done), (Call::PutIfAbsent(value), Done)],
            },
            (Self::Set { value, condition: Some("NX"), get: false }, _, Some(None)) => {
                vec![(Call::PutIfAbsent(value), Refused)]
            }
            (Self::Set { condition: Some("XX"), .. }, _, Some(None)) => vec![(Call::Read, Saw(None))],
            (Self::Set { value, get: true, .. }, _, Some(None)) => vec![(Call::PutIfAbsent(value), Done)],
            (Self::Set { condition: Some("NX"), get: true, .. }, _, Some(old)) => {
                vec![(Call::Read, Saw(old))]
            }
            (Self::Set { value, get: true, .. }, _, Some(Some(expected))) => {
                vec![(Call::PutIfMatch { expected, value }, Done)]
            }
            (Self::Del | Self::GetDel | Self::Set { .. }, Reply::Error(_), _) => self.unknown(),
            _ => panic!("{self:?}: {reply:?}"),
        }
    }
}

/// Restarts all masters with a port for Redis clients. Returns their addresses.
///
/// # Panics
/// If the cluster does not come up again.
pub async fn answer_redis(cluster: &mut Cluster) -> Vec<String> {
    let mut addresses = Vec::new();
    for n in 0..cluster.masters().count() {
        let master = cluster.master_mut(n);
        master.kill().await;
        let host = master.address().rsplit_once(':').expect("a host and a port").0;
        let address = format!("{host}:{}", free_port());
        add(master.spec_mut(), "--resp-listen", &address);
        master.begin();
        addresses.push(address);
    }
    for n in 0..addresses.len() {
        cluster.master_mut(n).listens().await.expect("a master that answers Redis clients");
    }
    cluster.settled().await;
    addresses
}
