//! Reads requests of the Redis protocol (RESP2, "Sending commands to a Redis server"): arrays of bulk strings, and
//! inline commands. The value of a SET is not gathered: its bytes are taken piece by piece.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use shared::limits::{
    IDLE_TIMEOUT, RESP_ARGUMENT_BYTES, RESP_ARGUMENTS_BYTES, RESP_ARGUMENTS_MAX, RESP_INLINE_BYTES,
    RESP_PIECE_BYTES, RESP_UNKNOWN_ARGUMENT_BYTES, RESP_UNKNOWN_ARGUMENTS_BYTES, RESP_UNKNOWN_ARGUMENTS_MAX,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::command_table::value_at;
use super::inline::split;

/// Longest line of a length: `*` or `$`, digits, CR and LF.
const LENGTH_LINE_BYTES: usize = 32;
/// Room for the first bytes of a request: an idle connection holds no more.
const FIRST_BYTES: usize = 512;

/// Why no request can be read.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The client has to be told, and cannot be understood from here on.
    #[error("Protocol error: {0}")]
    Protocol(&'static str),
    /// Like `Protocol`, where an argument is no bulk string.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NotBulk(u8),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client sent part of a request, and then nothing for `IDLE_TIMEOUT`.
    #[error("the client is silent in the middle of a request")]
    Silent,
}

/// How much a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    arguments: usize,
    argument_bytes: usize,
    all_bytes: usize,
}

impl RequestError {
    /// Whether the client has to be told.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::NotBulk(_))
    }
}

impl Bounds {
    /// Before a client has shown an access key.
    pub const UNKNOWN: Self = Self {
        arguments: RESP_UNKNOWN_ARGUMENTS_MAX,
        argument_bytes: RESP_UNKNOWN_ARGUMENT_BYTES,
        all_bytes: RESP_UNKNOWN_ARGUMENTS_BYTES,
    };
    pub const KNOWN: Self = Self {
        arguments: RESP_ARGUMENTS_MAX,
        argument_bytes: RESP_ARGUMENT_BYTES,
        all_bytes: RESP_ARGUMENTS_BYTES,
    };
}

/// A request, up to its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its arguments, the name of the command first.
    pub arguments: Vec<Bytes>,
    /// The length in bytes of the value that comes next, if there is one.
    pub value: Option<u64>,
    /// How many arguments follow the value.
    pub rest: usize,
    /// Sent as a line of words.
    pub inline: bool,
}

/// Reads requests from a connection.
#[derive(Debug)]
pub struct RequestReader<R> {
    source: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> RequestReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: BytesMut::new() }
    }

    /// The first byte of a request that has begun.
    pub fn first(&self) -> Option<u8> {
        self.buffer.first().copied()
    }

    /// Whether bytes of the next request have arrived.
    pub fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Waits for the first byte of a request; false at the end of the connection.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn begins(&mut self) -> Result<bool, RequestError> {
        if self.buffer.is_empty() {
            // Gives back what a large request needed.
            self.buffer = BytesMut::with_capacity(FIRST_BYTES);
            return Ok(self.source.read_buf(&mut self.buffer).await? > 0);
        }
        Ok(true)
    }

    /// Reads a request that has begun, up to its value. An empty request has no arguments.
    ///
    /// # Errors
    /// When it is malformed or too large, or the connection breaks.
    pub async fn next(&mut self, bounds: Bounds) -> Result<Request, RequestError> {
        if self.buffer.first() != Some(&b'*') {
            let line =
                self.line(RESP_INLINE_BYTES.min(bounds.argument_bytes), "too big inline request").await?;
            let arguments = split(&line).ok_or(RequestError::Protocol("unbalanced quotes in request"))?;
            return Ok(Request { arguments, value: None, rest: 0, inline: true });
        }
        let count = self.length(b'*', "invalid multibulk length").await?;
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if count > bounds.arguments {
            return Err(RequestError::Protocol(if bounds.arguments == RESP_ARGUMENTS_MAX {
                "invalid multibulk length"
            } else {
                "unauthenticated multibulk length"
            }));
        }
        let (mut request, mut bytes) = (Request::default(), 0);
        for n in 0..count {
            let length = self.bulk_length().await?;
            if n > 0 && value_at(&request.arguments[0]) == Some(n) {
                request.value = Some(length);
                request.rest = count - n - 1;
                return Ok(request);
            }
            let argument = self.argument(length, bounds, &mut bytes).await?;
            request.arguments.push(argument);
        }
        Ok(request)
    }

    /// Returns the next piece of a value of which `left` bytes are still to come.
    ///
    /// # Errors
    /// When the connection breaks or is silent.
    pub async fn piece(&mut self, left: &mut u64) -> Result<Bytes, RequestError> {
        if self.buffer.is_empty() {
            self.fill(RESP_PIECE_BYTES).await?;
        }
        let now = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
        *left -= now as u64;
        Ok(self.buffer.split_to(now).freeze())
    }

    /// Reads the end of a value, and the arguments after it.
    ///
    /// # Errors
    /// When they are malformed, or the connection breaks.
    pub async fn rest(&mut self, count: usize, bounds: Bounds) -> Result<Vec<Bytes>, RequestError> {
        self.end_of_bulk().await?;
        let (mut arguments, mut bytes) = (Vec::new(), 0);
        for _ in 0..count {
            let length = self.bulk_length().await?;
            arguments.push(self.argument(length, bounds, &mut bytes).await?);
        }
        Ok(arguments)
    }

    /// Reads and drops what the client still sends.
    pub async fn discard(&mut self) {
        self.buffer.clear();
        while self.source.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {
            self.buffer.clear();
        }
    }

    /// Reads an argument; `before` counts the bytes of all of them.
    async fn argument(
        &mut self,
        length: u64,
        bounds: Bounds,
        before: &mut usize,
    ) -> Result<Bytes, RequestError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > bounds.argument_bytes {
            return Err(RequestError::Protocol(if bounds.argument_bytes == RESP_ARGUMENT_BYTES {
                "invalid bulk length"
            } else {
                "unauthenticated bulk length"
            }));
        }
        *before += length;
        if *before > bounds.all_bytes {
            return Err(RequestError::Protocol("the arguments are too large"));
        }
        while self.buffer.len() < length {
            self.fill(length - self.buffer.len()).await?;
        }
        let argument = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        self.end_of_bulk().await?;
        Ok(argument)
    }

    async fn end_of_bulk(&mut self) -> Result<(), RequestError> {
        while self.buffer.len() < 2 {
            self.fill(2).await?;
        }
        if !self.buffer.starts_with(b"\r\n") {
            return Err(RequestError::Protocol("a bulk string does not end where it says"));
        }
        self.buffer.advance(2);
        Ok(())
    }

    async fn bulk_length(&mut self) -> Result<u64, RequestError> {
        while self.buffer.is_empty() {
            self.fill(FIRST_BYTES).await?;
        }
        if self.buffer[0] != b'$' {
            return Err(RequestError::NotBulk(self.buffer[0]));
        }
        let length = self.length(b'$', "invalid bulk length").await?;
        u64::try_from(length).map_err(|_| RequestError::Protocol("invalid bulk length"))
    }

    async fn length(&mut self, sign: u8, wrong: &'static str) -> Result<i64, RequestError> {
        let line = self.line(LENGTH_LINE_BYTES, wrong).await?;
        let digits = line.strip_prefix(&[sign]).and_then(|digits| std::str::from_utf8(digits).ok());
        let plain = |text: &&str| text.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
        digits.filter(plain).and_then(|text| text.parse().ok()).ok_or(RequestError::Protocol(wrong))
    }

    /// Reads a line, without its end.
    async fn line(&mut self, longest: usize, wrong: &'static str) -> Result<Bytes, RequestError> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(seen + at + 1).freeze();
                let line = line.slice(..line.len() - 1);
                let end = line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len);
                return Ok(line.slice(..end));
            }
            seen = self.buffer.len();
            if seen > longest {
                return Err(RequestError::Protocol(wrong));
            }
            self.fill(FIRST_BYTES).await?;
        }
    }

    /// Waits for more bytes of a request that has begun.
    async fn fill(&mut self, wanted: usize) -> Result<(), RequestError> {
        self.buffer.reserve(wanted.clamp(FIRST_BYTES, RESP_PIECE_BYTES));
        let read = tokio::time::timeout(IDLE_TIMEOUT, self.source.read_buf(&mut self.buffer)).await;
        match read.map_err(|_| RequestError::Silent)?? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

/// Waits for at most `limit`, if there is one.
pub async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis_protocol::resp2::decode::decode;
    use redis_protocol::resp2::types::OwnedFrame;

    use super::*;

    /// Reads all requests, values included, from frames of these sizes.
    async fn read(input: &[u8], cut: usize) -> Vec<Result<Vec<Vec<u8>>, String>> {
        let (mut client, server) = tokio::io::duplex(cut.max(1));
        let input = input.to_vec();
        tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, &input).await;
        });
        let mut reader = RequestReader::new(server);
        let mut all = Vec::new();
        while reader.begins().await.unwrap() {
            let read = whole(&mut reader).await;
            let failed = read.is_err();
            all.push(read);
            if failed {
                break;
            }
        }
        all
    }

    async fn whole<R: AsyncRead + Unpin>(reader: &mut RequestReader<R>) -> Result<Vec<Vec<u8>>, String> {
        let said = |e: RequestError| e.to_string();
        let request = reader.next(Bounds::KNOWN).await.map_err(said)?;
        let mut arguments: Vec<Vec<u8>> = request.arguments.iter().map(|a| a.to_vec()).collect();
        if let Some(mut left) = request.value {
            let mut value = Vec::new();
            while left > 0 {
                value.extend_from_slice(&reader.piece(&mut left).await.map_err(said)?);
            }
            arguments.push(value);
            let rest = reader.rest(request.rest, Bounds::KNOWN).await.map_err(said)?;
            arguments.extend(rest.iter().map(|a| a.to_vec()));
        }
        Ok(arguments)
    }

    fn encoded(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            out.extend_from_slice(argument);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    #[tokio::test]
    async fn requests_are_read_wherever_they_are_cut() {
        let sent = [
            vec![b"SET".to_vec(), b"a/b".to_vec(), vec![0, 13, 10, 255], b"NX".to_vec()],
            vec![b"get".to_vec(), b"a/b".to_vec()],
            vec![b"set".to_vec(), b"k".to_vec(), vec![]],
        ];
        let mut input: Vec<u8> = sent.iter().flat_map(|request| encoded(request)).collect();
        input.extend_from_slice(b"ping 'a b' \"\\x41\\n\"\r\n\r\n*0\r\n*-1\r\n");
        let mut wanted: Vec<_> = sent.iter().cloned().map(Ok).collect();
        wanted.push(Ok(vec![b"ping".to_vec(), b"a b".to_vec(), b"A\n".to_vec()]));
        wanted.extend([Ok(vec![]), Ok(vec![]), Ok(vec![])]);
        for cut in [1, 2, 3, 7, 1000] {
            assert_eq!(read(&input, cut).await, wanted, "{cut}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_or_malformed_is_refused() {
        for (input, error) in [
            (&b"*1\r\n:1\r\n"[..], "expected '$', got ':'"),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*99999\r\n", "invalid multibulk length"),
            (b"*+1\r\n", "invalid multibulk length"),
            (b"*1\r\n$9999999\r\n", "invalid bulk length"),
            (b"*1\r\n$1\r\nabc", "a bulk string does not end where it says"),
            (b"ping 'x\r\n", "unbalanced quotes in request"),
        ] {
            let read = read(input, 100).await;
            assert_eq!(read, [Err(format!("Protocol error: {error}"))], "{}", input.escape_ascii());
        }
        let long = vec![b'a'; RESP_INLINE_BYTES + 1000];
        assert_eq!(read(&long, 5000).await, [Err("Protocol error: too big inline request".to_owned())]);
    }

    #[tokio::test]
    async fn before_an_access_key_a_request_is_small() {
        for input in [&b"*11\r\n"[..], b"*2\r\n$4\r\nAUTH\r\n$20000\r\n"] {
            let (mut client, server) = tokio::io::duplex(1000);
            tokio::io::AsyncWriteExt::write_all(&mut client, input).await.unwrap();
            let mut reader = RequestReader::new(server);
            assert!(reader.begins().await.unwrap());
            let refused = reader.next(Bounds::UNKNOWN).await.unwrap_err().to_string();
            assert!(refused.contains("unauthenticated"), "{refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_within_a_request_is_given_up() {
        let (mut client, server) = tokio::io::duplex(1000);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"*2\r\n$3\r\n").await.unwrap();
        let mut reader = RequestReader::new(server);
        assert!(reader.begins().await.unwrap());
        let began = tokio::time::Instant::now();
        assert!(matches!(reader.next(Bounds::KNOWN).await, Err(RequestError::Silent)));
        assert_eq!(began.elapsed(), IDLE_TIMEOUT);
    }

    /// The arguments of a request as another parser reads them; none if it is incomplete or no request.
    fn by_redis_protocol(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
        let Ok(Some((OwnedFrame::Array(items), used))) = decode(input) else { return None };
        let bulk = |item| match item {
            OwnedFrame::BulkString(bytes) => Some(bytes),
            _ => None,
        };
        Some((items.into_iter().map(bulk).collect::<Option<_>>()?, used))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("BARGE_LONG").is_some() { 100_000 } else { 300 }))]
        /// Requests, most of them with a byte changed: what both parsers read is the same, and what the other one
        /// reads as a request we read too.
        #[test]
        fn fuzz_agrees_with_redis_protocol(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5),
            set in any::<bool>(),
            changed in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cut in 1usize..40,
        ) {
            let mut arguments = arguments;
            if set {
                arguments[0] = b"SET".to_vec();
            }
            let mut input = encoded(&arguments);
            if let Some((at, byte)) = changed {
                let at = at.index(input.len());
                input[at] = byte;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let ours = runtime.block_on(read(&input, cut));
            // The other parser does not look at the ends of lines: what counts is what is written as it should be.
            if let Some((theirs, used)) = by_redis_protocol(&input).filter(|(t, used)| encoded(t) == input[..*used]) {
                prop_assert!(used > 0);
                prop_assert_eq!(ours.first(), Some(&Ok(theirs)), "{}", input.escape_ascii());
            }
            if let Some(Ok(ours)) = ours.first().filter(|_| input.starts_with(b"*"))
                && input.starts_with(&encoded(ours))
                && !ours.is_empty()
            {
                let theirs = by_redis_protocol(&input).map(|(theirs, _)| theirs);
                prop_assert_eq!(Some(ours), theirs.as_ref(), "{}", input.escape_ascii());
            }
        }
    }
}
