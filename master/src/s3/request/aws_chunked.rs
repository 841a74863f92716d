//! Splits the chunks of `aws-chunked` bodies (S3 API reference, "Signature calculations: transferring payload in
//! multiple chunks") before the library, which holds each chunk in memory. Some SDKs send a value of any size as one
//! chunk. Large unsigned chunks are split as they stream; signed chunks must be small.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt, unfold};

/// Size of the pieces of a split chunk.
const CHUNK_BYTES: u64 = 1 << 20;
/// Largest signed chunk: far more than any SDK sends.
const SIGNED_BYTES_MAX: u64 = 16 << 20;
/// Longest line of a chunk, in bytes.
const LINE_BYTES_MAX: usize = 1024;
const CHUNK_END: &[u8] = b"\r\n";
/// Hexadecimal digits of a size that the library reads.
const SIZE_DIGITS_MAX: usize = 8;

/// Why a body in chunks is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChunks {
    /// The framing is wrong, or a signed chunk is larger than `SIGNED_BYTES_MAX`.
    Malformed,
    /// It ends before its last chunk.
    Incomplete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a chunk's line.
    Line,
    /// In a chunk's bytes: how many are left of the chunk, and of the announced piece.
    Data { chunk: u64, piece: u64 },
    /// After the bytes of a chunk.
    End,
    /// After the last chunk: trailers, passed on unchanged.
    Rest,
}

/// Splits chunks that are too large.
#[derive(Debug)]
pub struct Cutter {
    signed: bool,
    at: At,
    line: BytesMut,
}

impl Cutter {
    pub fn new(signed: bool) -> Self {
        Self { signed, at: At::Line, line: BytesMut::new() }
    }

    /// Returns the same bytes in small chunks.
    ///
    /// # Errors
    /// When the framing is wrong, or a signed chunk is too large.
    pub fn pass(&mut self, mut bytes: Bytes) -> Result<Vec<Bytes>, BadChunks> {
        let mut out = Vec::new();
        while bytes.has_remaining() {
            match self.at {
                At::Rest => out.push(std::mem::take(&mut bytes)),
                At::Line | At::End => self.take_line(&mut bytes, &mut out)?,
                At::Data { chunk, piece } => {
                    let now = usize::try_from(piece).unwrap_or(usize::MAX).min(bytes.len());
                    out.push(bytes.split_to(now));
                    let (chunk, piece) = (chunk - now as u64, piece - now as u64);
                    self.at = At::Data { chunk, piece };
                    if chunk == 0 {
                        self.at = At::End;
                    } else if piece == 0 {
                        let next = chunk.min(CHUNK_BYTES);
                        out.push(format!("\r\n{next:x}\r\n").into());
                        self.at = At::Data { chunk, piece: next };
                    }
                }
            }
        }
        Ok(out)
    }

    /// Consumes a line, or as much of it as has arrived.
    fn take_line(&mut self, bytes: &mut Bytes, out: &mut Vec<Bytes>) -> Result<(), BadChunks> {
        let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
        self.line.extend_from_slice(&bytes.split_to(end));
        let is_end = self.at == At::End;
        if self.line.len() > LINE_BYTES_MAX || (is_end && !CHUNK_END.starts_with(&self.line)) {
            return Err(BadChunks::Malformed);
        }
        if !self.line.ends_with(b"\n") {
            return Ok(());
        }
        let line = self.line.split().freeze();
        if is_end {
            self.at = At::Line;
            out.push(line);
            return Ok(());
        }
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits]).ok().and_then(|t| u64::from_str_radix(t, 16).ok());
        let size = size.filter(|_| digits <= SIZE_DIGITS_MAX).ok_or(BadChunks::Malformed)?;
        let signed = line[digits..].strip_prefix(b";chunk-signature=").is_some_and(is_signature);
        if !signed && (self.signed || &line[digits..] != CHUNK_END) {
            return Err(BadChunks::Malformed);
        }
        if size == 0 {
            self.at = At::Rest;
            out.push(line);
        } else if self.signed {
            if size > SIGNED_BYTES_MAX {
                return Err(BadChunks::Malformed);
            }
            self.at = At::Data { chunk: size, piece: size };
            out.push(line);
        } else {
            let piece = size.min(CHUNK_BYTES);
            self.at = At::Data { chunk: size, piece };
            out.push(if piece == size { line } else { format!("{piece:x}\r\n").into() });
        }
        Ok(())
    }
}

/// Whether this is the rest of a line with something as long as the signature of a chunk. The library verifies it.
fn is_signature(rest: &[u8]) -> bool {
    rest.strip_suffix(CHUNK_END).is_some_and(|signature| signature.len() == 64)
}

/// Returns the same body in small chunks; `refuse` turns what is wrong with its framing into its error.
pub fn small<E: Send + 'static>(
    body: BoxStream<'static, Result<Bytes, E>>,
    signed: bool,
    refuse: impl Fn(BadChunks) -> E + Send + 'static,
) -> BoxStream<'static, Result<Bytes, E>> {
    let state = Some((body, Cutter::new(signed), Vec::new().into_iter(), refuse));
    let stream = unfold(state, |state| async move {
        let (mut body, mut cutter, mut ready, refuse) = state?;
        loop {
            if let Some(bytes) = Iterator::next(&mut ready) {
                return Some((Ok(bytes), Some((body, cutter, ready, refuse))));
            }
            match Pin::new(&mut body).next().await {
                Some(Ok(bytes)) => match cutter.pass(bytes) {
                    Ok(pieces) => ready = pieces.into_iter(),
                    Err(bad) => return Some((Err(refuse(bad)), None)),
                },
                Some(Err(e)) => return Some((Err(e), None)),
                None if cutter.at == At::Rest => return None,
                None => return Some((Err(refuse(BadChunks::Incomplete)), None)),
            }
        }
    });
    stream.boxed()
}

#[cfg(test)]
mod tests {
    use crate::s3::request::aws_chunked::*;
    use proptest::prelude::*;

    fn passed(signed: bool, frames: &[&[u8]]) -> Result<Vec<u8>, BadChunks> {
        let mut cutter = Cutter::new(signed);
        let mut out = Vec::new();
        for frame in frames {
            for piece in cutter.pass(Bytes::copy_from_slice(frame))? {
                out.extend_from_slice(&piece);
            }
        }
        Ok(out)
    }

    /// Decodes chunks; returns their bytes and the size of the largest.
    fn decoded(mut bytes: &[u8]) -> (Vec<u8>, u64) {
        let (mut out, mut largest) = (Vec::new(), 0);
        loop {
            let end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
            let line = std::str::from_utf8(&bytes[..end]).unwrap();
            let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
            bytes = &bytes[end + 2..];
            if size == 0 {
                return (out, largest);
            }
            largest = largest.max(size as u64);
            out.extend_from_slice(&bytes[..size]);
            assert_eq!(&bytes[size..size + 2], b"\r\n");
            bytes = &bytes[size + 2..];
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_same_bytes_in_small_chunks(
            sizes in prop::collection::vec(1usize..3_000_000, 1..4),
            cut in 1usize..400_000,
        ) {
            let (mut body, mut signed, mut value) = (Vec::new(), Vec::new(), Vec::new());
            let signature = "0123456789abcdef".repeat(4);
            for (n, size) in sizes.iter().enumerate() {
                let bytes = vec![u8::try_from(n).unwrap() + b'\n'; *size];
                body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                signed.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
                for body in [&mut body, &mut signed] {
                    body.extend_from_slice(&bytes);
                    body.extend_from_slice(b"\r\n");
                }
                value.extend_from_slice(&bytes);
            }
            body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
            let frames: Vec<_> = body.chunks(cut).collect();
            let out = passed(false, &frames).unwrap();
            let (found, largest) = decoded(&out);
            prop_assert!(found == value && largest <= CHUNK_BYTES);
            prop_assert!(out.ends_with(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"));
            signed.extend_from_slice(format!("0;chunk-signature={signature}\r\n\r\n").as_bytes());
            let frames: Vec<_> = signed.chunks(cut).collect();
            prop_assert_eq!(passed(true, &frames).unwrap(), signed);
        }
    }

    #[test]
    fn what_is_no_chunk() {
        let long = b"000000003\r\nabc\r\n";
        for bad in [&b"zz\r\n"[..], b"3\r\nabcd", b"3\r\nabc\rx\n", &[b'1'; 2000], b"3;x=y\r\nabc\r\n", long]
        {
            assert_eq!(passed(false, &[bad]), Err(BadChunks::Malformed));
        }
        for bad in [&b"3\r\nabc\r\n"[..], b"3;chunk-signature=00\r\nabc\r\n"] {
            assert_eq!(passed(true, &[bad]), Err(BadChunks::Malformed));
        }
        assert_eq!(passed(true, &[b"2000000;chunk-signature=0\r\n"]), Err(BadChunks::Malformed));
    }
}
