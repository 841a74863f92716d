//! The sending half of a put: streams a file or a pipe in pieces and hashes them on the way.
//!
//! A file is stored with the length it has when the upload begins: bytes appended later are not read, and
//! a file that shrinks aborts the upload. It is never stored as a shorter value.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, stream};
use shared::digest::Digest;
use shared::limits::{COMMIT_TIMEOUT, IDLE_TIMEOUT, RECEIPT_TIMEOUT};
use shared::work::blocking;
use tokio::sync::{mpsc, oneshot};

use crate::exit::Failure;

/// Size of one read. Hashing is fastest in pieces of this size, and eight of them bound the memory.
const PIECE_BYTES: usize = 256 * 1024;
const PIECES: usize = 8;

/// The input of an upload.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file that can be read again, and its length.
    File(PathBuf, u64),
    /// An input that can be read only once.
    Pipe(Pipe),
}

/// An input that can be read only once, and whether it has been.
#[derive(Debug)]
pub(crate) struct Pipe {
    input: Option<File>,
    begun: Arc<AtomicBool>,
}

/// Size and digest of the bytes sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Length in bytes.
    pub(crate) size: u64,
    /// BLAKE3 of the bytes.
    pub(crate) blake3: Digest,
}

/// An upload in progress.
#[derive(Debug)]
pub(crate) struct UploadBody {
    /// The request body; reading begins with the first poll.
    pub(crate) body: reqwest::Body,
    /// Resolves when all bytes have been sent.
    pub(crate) sent: oneshot::Receiver<io::Result<Sent>>,
    /// Progress of the upload.
    pub(crate) gauge: Arc<Gauge>,
}

/// Progress of an upload.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Bytes sent so far.
    moved: AtomicU64,
    /// Whether the upload is waiting for its input, not for the server.
    reading: AtomicBool,
}

impl Source {
    /// Opens the file at `path`, or standard input for `-`. Anything but a regular file is read as a pipe.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let pipe = |input| Ok(Self::Pipe(Pipe { input: Some(input), begun: Arc::default() }));
        if path == Path::new("-") {
            use std::os::fd::AsFd;
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            return pipe(stdin.map_err(|e| Failure::local("cannot read standard input", &e))?.into());
        }
        let failed = |e| Failure::local(format!("cannot read {}", path.display()), &e);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if metadata.is_file() { Ok(Self::File(path.to_owned(), metadata.len())) } else { pipe(file) }
    }

    /// Its length, if known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::File(_, length) => Some(*length),
            Self::Pipe(_) => None,
        }
    }

    /// Whether all of it can (still) be read.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::File(..) => true,
            Self::Pipe(pipe) => !pipe.begun.load(Ordering::Acquire),
        }
    }

    /// Begins to read the input.
    pub(crate) fn upload(&mut self) -> Result<UploadBody, Failure> {
        let (input, length, begun) = match self {
            Self::File(path, length) => {
                let opened = File::open(&*path);
                let file =
                    opened.map_err(|e| Failure::local(format!("cannot read {}", path.display()), &e))?;
                (file, Some(*length), Arc::default())
            }
            Self::Pipe(Pipe { input, begun }) => {
                let copy = input.as_ref().map_or(Err(io::ErrorKind::UnexpectedEof.into()), File::try_clone);
                (copy.map_err(|e| Failure::local("cannot read the input", &e))?, None, Arc::clone(begun))
            }
        };
        let gauge = Arc::new(Gauge::default());
        let (done, sent) = oneshot::channel();
        let reading = Reading { input, length, begun, gauge: Arc::clone(&gauge), done };
        Ok(UploadBody { body: reqwest::Body::wrap_stream(pieces(reading)), sent, gauge })
    }
}

struct Reading {
    input: File,
    length: Option<u64>,
    begun: Arc<AtomicBool>,
    gauge: Arc<Gauge>,
    done: oneshot::Sender<io::Result<Sent>>,
}

enum BodyState {
    Waiting(Reading),
    Running(mpsc::Receiver<io::Result<Bytes>>),
}

/// Reads and hashes pieces on the blocking pool, ahead of the socket.
fn pieces(reading: Reading) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(BodyState::Waiting(reading), |state| async {
        let mut pieces = match state {
            BodyState::Running(pieces) => pieces,
            BodyState::Waiting(reading) => {
                let (tx, pieces) = mpsc::channel(PIECES);
                tokio::spawn(blocking(move || run(reading, &tx)));
                pieces
            }
        };
        pieces.recv().await.map(|piece| (piece, BodyState::Running(pieces)))
    })
}

fn run(mut reading: Reading, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    reading.begun.store(true, Ordering::Release);
    let result = pump(&mut reading, pieces);
    if let Err(e) = &result {
        // End the body with an error: a clean end would store a shorter value.
        let _ = pieces.blocking_send(Err(io::Error::new(e.kind(), e.to_string())));
    }
    let _ = reading.done.send(result);
}

fn pump(reading: &mut Reading, pieces: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<Sent> {
    let mut hash = blake3::Hasher::new();
    let mut size = 0u64;
    while reading.length != Some(size) {
        let left = reading.length.map_or(u64::MAX, |length| length - size);
        let mut piece = vec![0; usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES))];
        reading.gauge.reading.store(true, Ordering::Release);
        let read = reading.input.read(&mut piece);
        reading.gauge.reading.store(false, Ordering::Release);
        let read = match read {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 && reading.length.is_none() {
            break;
        }
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was read"));
        }
        size += read as u64;
        piece.truncate(read);
        hash.update(&piece);
        if pieces.blocking_send(Ok(piece.into())).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        reading.gauge.moved.store(size, Ordering::Release);
    }
    Ok(Sent { size, blake3: hash.finalize().into() })
}

/// Returns when the server has taken no byte, or not answered after the last one, for too long.
/// Calls `show` with the bytes sent so far.
pub(crate) async fn stalled(gauge: &Gauge, show: impl Fn(u64)) {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < IDLE_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = gauge.moved.load(Ordering::Acquire);
        show(now);
        // A pipe may be slow for its own reasons; the server limits that by its own timeout.
        if now != last || gauge.reading.load(Ordering::Acquire) {
            (last, since) = (now, Instant::now());
        }
    }
}

// After the last byte come the slowest receipt and the slowest commit.
const _: () = assert!(IDLE_TIMEOUT.as_secs() >= RECEIPT_TIMEOUT.as_secs() + COMMIT_TIMEOUT.as_secs());

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn reading(bytes: &[u8], length: u64) -> (Reading, oneshot::Receiver<io::Result<Sent>>) {
        let path = std::env::temp_dir().join(format!("barge-upload-{}-{length}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let input = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (done, sent) = oneshot::channel();
        (Reading { input, length: Some(length), begun: Arc::default(), gauge: Arc::default(), done }, sent)
    }

    #[tokio::test]
    async fn what_is_sent_is_hashed() {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let (reading, sent) = reading(&bytes, 1_000_000);
        let pieces: Vec<Bytes> = pieces(reading).map(Result::unwrap).collect().await;
        assert_eq!(pieces.concat(), bytes);
        assert_eq!(sent.await.unwrap().unwrap(), Sent { size: 1_000_000, blake3: Digest::of(&bytes) });
    }

    #[tokio::test]
    async fn a_file_that_got_shorter_ends_in_an_error_and_a_longer_one_at_its_old_length() {
        let (short, sent) = reading(&[7; 1000], 1001);
        assert!(pieces(short).collect::<Vec<_>>().await.last().unwrap().is_err());
        assert!(sent.await.unwrap().is_err());
        let (long, sent) = reading(&[7; 1000], 999);
        assert_eq!(pieces(long).map(Result::unwrap).collect::<Vec<_>>().await.concat(), [7; 999]);
        assert_eq!(sent.await.unwrap().unwrap().size, 999);
    }
}
