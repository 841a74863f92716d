//! Requests byte by byte: for framing that no client library sends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use shared::wire::error::{ErrorBody, ErrorCode};

/// Time limit for an answer.
const ANSWER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Raw(TcpStream);

/// An answer, as far as its own framing allows to read it.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// The status; 0 if the connection was closed without an answer.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body is as long as its framing says.
    pub whole: bool,
}

impl RawAnswer {
    /// Returns the error code.
    pub fn code(&self) -> Option<ErrorCode> {
        serde_json::from_slice::<ErrorBody>(&self.body).ok().map(|b| b.error.code)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Raw {
    /// Connects to `HOST:PORT`.
    ///
    /// # Panics
    /// If nothing listens there.
    pub fn connect(address: &str) -> Self {
        Self::try_connect(address).unwrap_or_else(|| panic!("nothing listens on {address}"))
    }

    /// Connects to `HOST:PORT`, or returns `None` if nothing listens there.
    ///
    /// # Panics
    /// If no socket can be created.
    pub fn try_connect(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(ANSWER)).expect("a read timeout");
        stream.set_write_timeout(Some(ANSWER)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Some(Self(stream))
    }

    /// Sets how long it waits for an answer from now on.
    ///
    /// # Panics
    /// If the socket is broken.
    pub fn patience(&self, limit: Duration) {
        self.0.set_read_timeout(Some(limit)).expect("a read timeout");
        self.0.set_write_timeout(Some(limit)).expect("a write timeout");
    }

    /// Sends bytes. A connection closed by the server is no failure here: the answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref());
    }

    /// Closes the sending side.
    pub fn close_writing(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Reads one answer and skips `100 Continue`.
    pub fn answer(&mut self) -> RawAnswer {
        loop {
            let answer = self.read_one();
            if answer.status != 100 {
                return answer;
            }
        }
    }

    /// Reads exactly this many bytes, head included, and leaves the rest in the connection.
    ///
    /// # Panics
    /// If fewer arrive.
    pub fn some(&mut self, bytes: usize) -> Vec<u8> {
        let mut got = vec![0; bytes];
        self.0.read_exact(&mut got).expect("the beginning of an answer");
        got
    }

    /// Reads to the end of the connection; returns false if it was reset instead of closed.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut got = Vec::new();
        let clean = self.0.read_to_end(&mut got).is_ok();
        (got, clean)
    }

    fn read_one(&mut self) -> RawAnswer {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return RawAnswer { status: 0, headers: Vec::new(), body: head, whole: false },
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let headers: Vec<(String, String)> = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
            .collect();
        let mut answer = RawAnswer { status, headers, body: Vec::new(), whole: true };
        let bodiless = status < 200 || status == 204 || status == 304;
        let length = answer.header("content-length").and_then(|v| v.parse().ok()).filter(|_| !bodiless);
        match length {
            Some(length) => answer.whole = self.fill(&mut answer.body, length),
            None if answer.header("transfer-encoding").is_some() => {
                answer.whole = self.fill_chunked(&mut answer.body);
            }
            None => {}
        }
        answer
    }

    fn fill(&mut self, body: &mut Vec<u8>, length: u64) -> bool {
        let got = Read::take(&mut self.0, length).read_to_end(body);
        got.is_ok() && body.len() as u64 == length
    }

    fn fill_chunked(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(size) = self.line().and_then(|l| u64::from_str_radix(l.trim(), 16).ok()) else {
                return false;
            };
            let mut chunk = Vec::new();
            let whole = self.fill(&mut chunk, size) && self.line().is_some();
            body.extend(chunk);
            if !whole || size == 0 {
                return whole;
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                _ => return None,
            }
        }
        String::from_utf8(line).ok()
    }
}
