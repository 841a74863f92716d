//! The receiving half of get and cat: resumes where the last attempt stopped, hashes bytes as they arrive,
//! and compares them with the value's BLAKE3 at the end.
//!
//! Bytes of two versions never mix: every request after the first names the version it resumes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use http::{Method, StatusCode};
use reqwest::Response;
use shared::digest::Digest;
use shared::file_permissions;
use shared::key::Key;
use shared::work::blocking;
use tokio::sync::mpsc;

use crate::client::{Client, authority, header, key_url, patiently, piece};
use crate::exit::{Exit, Failure, Retry};
use crate::progress::Meter;

/// Pieces waiting for the disk.
const PIECES: usize = 16;

/// The version being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// BLAKE3 of the value.
    pub(crate) blake3: Digest,
    /// Length in bytes.
    pub(crate) size: u64,
}

/// The output file, and the hash and length of what was written to it.
#[derive(Debug)]
pub(crate) struct Sink {
    out: File,
    hash: blake3::Hasher,
    at: u64,
}

impl Sink {
    /// A sink for an empty output.
    pub(crate) fn new(out: File) -> Self {
        Self { out, hash: blake3::Hasher::new(), at: 0 }
    }

    /// Opens the part file at `path` and hashes what an earlier run left in it: bytes on a disk are verified like
    /// bytes from a socket. Fails if another process holds the file, or if it is a symbolic link.
    pub(crate) fn part(path: &Path, target: Target) -> io::Result<Self> {
        let mut out = file_permissions::own_file(path)?;
        out.try_lock().map_err(|e| match e {
            std::fs::TryLockError::WouldBlock => io::ErrorKind::ResourceBusy.into(),
            std::fs::TryLockError::Error(e) => e,
        })?;
        if out.metadata()?.len() > target.size {
            out.set_len(0)?;
        }
        let mut hash = blake3::Hasher::new();
        let mut piece = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            match out.read(&mut piece)? {
                0 => return Ok(Self { out, hash, at }),
                read => {
                    hash.update(&piece[..read]);
                    at += read as u64;
                }
            }
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Truncates it to nothing; only for files.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        use std::io::Seek;
        self.out.set_len(0)?;
        self.out.rewind()?;
        self.hash.reset();
        self.at = 0;
        Ok(())
    }

    /// Whether it holds the whole target and nothing else.
    pub(crate) fn verified(&self, target: Target) -> bool {
        self.at == target.size && Digest::from(self.hash.finalize()) == target.blake3
    }

    pub(crate) fn into_file(self) -> File {
        self.out
    }

    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hash.update(piece);
        self.out.write_all(piece)?;
        self.at += piece.len() as u64;
        Ok(())
    }
}

/// Asks the master for the current version of the value.
pub(crate) async fn target(client: &Client, key: &Key) -> Result<Target, Failure> {
    let answer = patiently(async || client.ask(Method::HEAD, key_url(client, key)?, &HeaderMap::new()).await);
    let answer = answer.await.map_err(|f| f.for_key(key))?;
    let blake3 = header(&answer, ETAG.as_str()).and_then(|e| e.trim_matches('"').parse().ok());
    let size = header(&answer, "content-length").and_then(|l| l.parse().ok());
    match (blake3, size) {
        (Some(blake3), Some(size)) => Ok(Target { blake3, size }),
        _ => Err(Failure::strange(&authority(answer.url()), "sent no valid ETag or Content-Length")),
    }
}

/// The outcome of one attempt. The sink is returned in any case, unless writing to it failed.
pub(crate) enum Attempt {
    /// All bytes have arrived; they are not verified yet.
    Complete,
    /// The key has another value now.
    Changed,
    Broken(Failure),
}

/// Fetches the bytes that the sink lacks, through the master, once.
pub(crate) async fn attempt(
    client: &Client,
    key: &Key,
    target: Target,
    sink: Sink,
    meter: &Meter,
) -> Result<(Sink, Attempt), Failure> {
    if sink.at == target.size {
        return Ok((sink, Attempt::Complete));
    }
    let mut headers = HeaderMap::new();
    if sink.at > 0 {
        headers.insert(RANGE, text(&format!("bytes={}-", sink.at)));
        headers.insert(IF_RANGE, text(&target.blake3.etag()));
    }
    let answer = match client.ask(Method::GET, key_url(client, key)?, &headers).await {
        Ok(answer) => answer,
        Err(failure) => return Ok((sink, Attempt::Broken(failure.for_key(key)))),
    };
    if header(&answer, ETAG.as_str()) != Some(target.blake3.etag().as_str()) {
        return Ok((sink, Attempt::Changed));
    }
    let wanted = format!("bytes {}-{}/{}", sink.at, target.size - 1, target.size);
    let skip = match answer.status() {
        StatusCode::OK => sink.at,
        StatusCode::PARTIAL_CONTENT if header(&answer, CONTENT_RANGE.as_str()) == Some(wanted.as_str()) => 0,
        status => {
            let address = authority(answer.url());
            return Err(Failure::strange(
                &address,
                format!("answered {status} with a different range than requested"),
            ));
        }
    };
    receive(answer, skip, target, sink, meter).await
}

/// Moves the body into the sink, which writes and hashes on the blocking pool. The first `skip` bytes are
/// in the sink already.
async fn receive(
    mut answer: Response,
    mut skip: u64,
    target: Target,
    mut sink: Sink,
    meter: &Meter,
) -> Result<(Sink, Attempt), Failure> {
    let mut expected = target.size - sink.at;
    let (mut at, address) = (sink.at, authority(answer.url()));
    let (tx, mut rx) = mpsc::channel::<Bytes>(PIECES);
    let writer = tokio::spawn(blocking(move || {
        while let Some(piece) = rx.blocking_recv() {
            sink.take(&piece)?;
        }
        Ok::<_, io::Error>(sink)
    }));
    let outcome = loop {
        let mut bytes = match piece(&mut answer).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) if expected == 0 => break Attempt::Complete,
            Ok(None) => break Attempt::Broken(Failure::broken(&address, "the connection ended early")),
            Err(failure) => break Attempt::Broken(failure),
        };
        let skipped = skip.min(bytes.len() as u64);
        skip -= skipped;
        let _ = bytes.split_to(usize::try_from(skipped).expect("at most the length of a piece"));
        if bytes.len() as u64 > expected {
            break Attempt::Broken(Failure::strange(&address, "sent more bytes than the value has"));
        }
        expected -= bytes.len() as u64;
        at += bytes.len() as u64;
        if tx.send(bytes).await.is_err() {
            // The writer has failed; its error is reported below.
            break Attempt::Broken(Failure::new(Exit::Failure, "cannot write"));
        }
        meter.at(at);
    };
    drop(tx);
    let written = writer.await.map_err(|e| Failure::new(Exit::Failure, e.to_string()))?;
    let sink = written.map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => std::process::exit(0),
        _ => Failure::local("cannot write what was received", &e),
    })?;
    Ok((sink, outcome))
}

/// The failure for bytes that do not match the value's digest.
pub(crate) fn mismatch(key: &Key, sink: &Sink, target: Target) -> Failure {
    let got = Digest::from(sink.hash.finalize());
    let what = format!("the received bytes have BLAKE3 {got}, but the value has {}", target.blake3);
    Failure::unverified(what).for_key(key).next("retry; if it fails again, see `barge cluster status`")
}

/// The path of the part file beside `path`; its name holds the version.
pub(crate) fn part_of(path: &Path, target: Target) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", &target.blake3.to_string()[..8]));
    name.into()
}

/// The failure for a key that changes again and again.
pub(crate) fn restless(key: &Key) -> Failure {
    Failure::new(Exit::Unavailable, "the value kept changing while it was fetched")
        .for_key(key)
        .next("retry when the key is no longer being written")
        .retry(Retry::Never)
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("digits and hex are a header value")
}
