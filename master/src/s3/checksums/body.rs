//! The checksums of a body: those that the client declares, in headers or in the trailer, and those that are computed
//! while the body streams to the volumes, without delaying it. A body that does not match fails before its end, and
//! nothing of it is stored.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use http::{HeaderMap, HeaderValue};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};
use shared::attributes::{Algorithm, Checksum};
use shared::limits::HASH_BATCH_BYTES;
use shared::md5::{Pool, Stream};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::work::blocking;
use tokio::task::JoinHandle;

use crate::s3::checksums::algorithms::{ALGORITHMS, Hasher, decoded, is_slow, named, sum_bytes};
use crate::s3::error::custom;
use crate::s3::request::body::refused_by_library;

/// What a client declares about a body, and what to compute.
#[derive(Debug)]
pub struct DeclaredChecksums {
    /// Whether to compute MD5, and the declared value.
    pub md5: Option<Option<[u8; 16]>>,
    /// The checksum to compute, and the value that the headers declare.
    pub checksum: Option<(Algorithm, Option<Vec<u8>>)>,
    pub trailer: Option<TrailingHeaders>,
    /// Whether the trailer declares the checksum.
    pub trailed: bool,
    /// The declared length in bytes.
    pub length: Option<u64>,
    /// The error to report when the source fails and `BodyFault` has no reason.
    pub refused: fn() -> S3Error,
}

impl DeclaredChecksums {
    /// Reads the headers of an upload. `tagged`: MD5 is needed for the entity tag.
    ///
    /// # Errors
    /// When two checksums are declared, or an invalid one.
    pub fn from_headers(
        headers: &HeaderMap,
        trailer: Option<TrailingHeaders>,
        tagged: bool,
    ) -> S3Result<Self> {
        let md5 = headers.get("content-md5").map(|v| decoded(v.as_bytes(), 16));
        let md5 = match md5 {
            None => None,
            Some(Some(sum)) => Some(sum.try_into().unwrap_or_default()),
            Some(None) => {
                return Err(s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid."));
            }
        };
        let mut checksum: Option<(Algorithm, Option<Vec<u8>>)> = None;
        for (algorithm, header, _) in ALGORITHMS {
            let Some(value) = headers.get(header) else { continue };
            let sum = decoded(value.as_bytes(), sum_bytes(algorithm))
                .ok_or_else(|| s3_error!(InvalidRequest, "Value for {} header is invalid.", header))?;
            if checksum.replace((algorithm, Some(sum))).is_some() {
                return Err(s3_error!(
                    InvalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
                ));
            }
        }
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().trim();
        let announced = text("x-amz-trailer").to_ascii_lowercase();
        let trailed =
            ALGORITHMS.iter().find(|(_, header, _)| announced.split(',').any(|t| t.trim() == *header));
        if let Some((algorithm, ..)) = trailed {
            if checksum.is_some() {
                return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header."));
            }
            checksum = Some((*algorithm, None));
        }
        let wanted = text("x-amz-sdk-checksum-algorithm");
        if !wanted.is_empty() {
            let wanted = named(wanted)
                .ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))?;
            match &checksum {
                Some((given, _)) if *given != wanted => {
                    return Err(s3_error!(
                        InvalidRequest,
                        "Value for x-amz-sdk-checksum-algorithm header is invalid."
                    ));
                }
                Some(_) => {}
                None => {
                    return Err(s3_error!(
                        InvalidRequest,
                        "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
                    ));
                }
            }
        }
        let tagged = (tagged || md5.is_some()).then_some(md5);
        Ok(Self {
            md5: tagged,
            checksum,
            trailer,
            trailed: trailed.is_some(),
            length: None,
            refused: refused_by_library(headers),
        })
    }

    /// Returns what to compute for a body without headers.
    pub fn plain(algorithm: Option<Algorithm>, tagged: bool) -> Self {
        let checksum = algorithm.map(|a| (a, None));
        Self {
            md5: tagged.then_some(None),
            checksum,
            trailer: None,
            trailed: false,
            length: None,
            refused: source_broke,
        }
    }

    /// Returns the checksum in the trailer of a body that has ended.
    fn trailing(&self) -> Option<HeaderValue> {
        let (algorithm, _) = self.checksum.as_ref()?;
        let (_, header, _) = ALGORITHMS.iter().find(|(a, ..)| a == algorithm)?;
        self.trailer.as_ref()?.read(|headers| headers.get(*header).cloned()).flatten()
    }

    /// Compares the checksums of a body with the declared ones; `trailing` is the checksum in the trailer.
    fn check(&self, sums: &BodyChecksums, trailing: Option<&HeaderValue>) -> S3Result<()> {
        if let Some(Some(wanted)) = &self.md5
            && sums.md5 != Some(*wanted)
        {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        let Some((algorithm, declared)) = &self.checksum else { return Ok(()) };
        let (_, header, name) =
            ALGORITHMS.iter().find(|(a, ..)| a == algorithm).ok_or(S3ErrorCode::InternalError)?;
        let mut declared = declared.clone();
        if self.trailed {
            let value = trailing.ok_or_else(|| malformed_trailer(header))?;
            let sum = decoded(value.as_bytes(), sum_bytes(*algorithm));
            declared = Some(sum.ok_or_else(|| {
                s3_error!(InvalidRequest, "Value for {} trailing header is invalid.", header)
            })?);
        }
        let found = sums.checksum.as_ref().map(|c| &c.sum);
        if declared.as_ref().is_some_and(|declared| Some(declared) != found) {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                name
            ));
        }
        Ok(())
    }
}

fn source_broke() -> S3Error {
    s3_error!(ServiceUnavailable, "The source of the copy cannot be read to its end; try again")
}

fn malformed_trailer(header: &str) -> S3Error {
    let message = format!("The trailing data was not well-formed: {header} was announced but is missing.");
    custom("MalformedTrailerError", http::StatusCode::BAD_REQUEST, message)
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyChecksums {
    pub md5: Option<[u8; 16]>,
    pub checksum: Option<Checksum>,
}

/// Computes checksums on other threads while the next bytes arrive: one batch is hashed, one is gathered.
struct BodyHasher {
    md5: Option<Stream>,
    checksum: Option<(Algorithm, ChecksumTask)>,
    gathered: Vec<Bytes>,
    bytes: usize,
}

enum ChecksumTask {
    /// A CRC, which is computed faster than it could be handed over, or a hasher without a batch.
    Here(Hasher),
    Elsewhere(JoinHandle<Hasher>),
}

impl BodyHasher {
    fn new(declared: &DeclaredChecksums, pool: &Arc<Pool>) -> Self {
        let checksum = declared.checksum.as_ref().map(|(a, _)| (*a, ChecksumTask::Here(Hasher::new(*a))));
        let md5 = declared.md5.map(|_| pool.stream());
        Self { md5, checksum, gathered: Vec::new(), bytes: 0 }
    }

    async fn push(&mut self, bytes: &Bytes) -> S3Result<()> {
        // Only when more bytes follow: the last batch of a value does not wait for those of others.
        if self.bytes >= HASH_BATCH_BYTES {
            self.hand_over(false).await?;
        }
        let mut later = self.md5.is_some();
        match &mut self.checksum {
            Some((algorithm, _)) if is_slow(*algorithm) => later = true,
            Some((_, ChecksumTask::Here(hasher))) => hasher.update(bytes),
            _ => {}
        }
        if later {
            self.bytes += bytes.len();
            self.gathered.push(bytes.clone());
        }
        Ok(())
    }

    /// Starts to hash the gathered batch. `last`: nothing follows it, and a caller waits for the result.
    async fn hand_over(&mut self, last: bool) -> S3Result<()> {
        self.bytes = 0;
        let gathered = std::mem::take(&mut self.gathered);
        let slow = self.checksum.take_if(|(a, _)| is_slow(*a));
        if let Some((algorithm, summing)) = slow {
            let (mut hasher, gathered) = (summing.wait().await?, gathered.clone());
            let elsewhere = tokio::spawn(blocking(move || {
                gathered.iter().for_each(|bytes| hasher.update(bytes));
                hasher
            }));
            self.checksum = Some((algorithm, ChecksumTask::Elsewhere(elsewhere)));
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(gathered, last).await.ok_or(S3ErrorCode::InternalError)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> S3Result<BodyChecksums> {
        if !self.gathered.is_empty() {
            self.hand_over(true).await?;
        }
        let mut sums = BodyChecksums::default();
        if let Some((algorithm, summing)) = self.checksum.take() {
            let sum = summing.wait().await?.finish();
            sums.checksum = Some(Checksum { algorithm, composite: None, sum });
        }
        if let Some(md5) = &mut self.md5 {
            sums.md5 = Some(md5.finish().await.ok_or(S3ErrorCode::InternalError)?);
        }
        Ok(sums)
    }
}

impl ChecksumTask {
    async fn wait(self) -> S3Result<Hasher> {
        match self {
            Self::Here(hasher) => Ok(hasher),
            Self::Elsewhere(busy) => busy.await.map_err(|_| S3ErrorCode::InternalError.into()),
        }
    }
}

/// The result of verifying a body, for the code that passed the body on.
#[derive(Clone, Debug, Default)]
pub struct BodyVerdict {
    inner: Arc<Mutex<(Option<BodyChecksums>, Option<S3Error>)>>,
}

impl BodyVerdict {
    /// Returns the checksums of a complete body.
    pub fn sums(&self) -> BodyChecksums {
        self.lock().0.clone().unwrap_or_default()
    }

    /// Returns why the body failed, if the body itself was the cause.
    pub fn fault(&self) -> Option<S3Error> {
        self.lock().1.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Option<BodyChecksums>, Option<S3Error>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faulty(&self, error: S3Error) -> ErrorReply {
        self.lock().1 = Some(error);
        ErrorReply::new(
            ErrorCode::BadBody,
            "the body does not match its declared length or checksum",
            "nothing was stored; send it again",
        )
    }
}

/// Returns the bytes of `body`, which end with an error if they do not match `declared`, and the verdict.
pub fn verify_body<S>(
    body: S,
    declared: DeclaredChecksums,
    pool: &Arc<Pool>,
) -> (BoxStream<'static, Result<Bytes, ErrorReply>>, BodyVerdict)
where
    S: futures_util::Stream<Item = Result<Bytes, S3Error>> + Send + 'static,
{
    let verdict = BodyVerdict::default();
    let hashing = BodyHasher::new(&declared, pool);
    let state = Some(VerifyingBody {
        body: Box::pin(body),
        declared,
        hashing,
        verdict: verdict.clone(),
        bytes: 0,
        held: None,
        whole: false,
    });
    let stream = unfold(state, |state| async move {
        let mut checking = state?;
        match checking.next().await {
            Ok(bytes) => Some((Ok(bytes?), Some(checking))),
            Err(error) => Some((Err(checking.verdict.faulty(error)), None)),
        }
    });
    (stream.boxed(), verdict)
}

struct VerifyingBody<S> {
    body: std::pin::Pin<Box<S>>,
    declared: DeclaredChecksums,
    hashing: BodyHasher,
    verdict: BodyVerdict,
    bytes: u64,
    /// The latest bytes. A receiver takes a body of the announced length for complete, so these are passed on only
    /// when more bytes follow or all is verified.
    held: Option<Bytes>,
    whole: bool,
}

impl<S: futures_util::Stream<Item = Result<Bytes, S3Error>>> VerifyingBody<S> {
    /// Returns the next bytes; none at the end of a verified body.
    async fn next(&mut self) -> S3Result<Option<Bytes>> {
        loop {
            if self.whole {
                return Ok(None);
            }
            let Some(bytes) = self.body.next().await.transpose()? else {
                self.end().await?;
                return Ok(self.held.take());
            };
            self.bytes += bytes.len() as u64;
            if self.declared.length.is_some_and(|n| n < self.bytes) {
                return Err(incomplete());
            }
            self.hashing.push(&bytes).await?;
            if let Some(before) = self.held.replace(bytes) {
                return Ok(Some(before));
            }
        }
    }

    /// Verifies a body that has ended.
    async fn end(&mut self) -> S3Result<()> {
        if self.declared.length.is_some_and(|n| n != self.bytes) {
            return Err(incomplete());
        }
        let sums = self.hashing.finish().await?;
        let checked = self.declared.check(&sums, self.declared.trailing().as_ref());
        self.verdict.lock().0 = Some(sums);
        self.whole = checked.is_ok();
        checked
    }
}

fn incomplete() -> S3Error {
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
}

#[cfg(test)]
mod tests {
    use crate::s3::checksums::algorithms::encoded;
    use crate::s3::checksums::body::*;

    const BODY: &[u8] = b"the bytes that came";

    /// Returns the checksum of bytes, as in headers.
    fn sum(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        encoded(&hasher.finish())
    }

    /// Returns a header value: none, the checksum of the body, or that of other bytes.
    fn shown(algorithm: Algorithm, right: Option<bool>) -> Option<HeaderValue> {
        let bytes = if right? { BODY } else { b"other bytes, as many" };
        Some(HeaderValue::from_str(&sum(algorithm, bytes)).unwrap())
    }

    /// Verifies the body against these headers; returns the error code of a refusal.
    async fn verdict(
        headers: &HeaderMap,
        trailing: Option<&HeaderValue>,
        tagged: bool,
    ) -> Result<(), String> {
        let code = |error: S3Error| error.code().as_str().to_owned();
        let declared = DeclaredChecksums::from_headers(headers, None, tagged).map_err(code)?;
        let mut hashing = BodyHasher::new(&declared, &Arc::new(Pool::default()));
        for bytes in BODY.chunks(7) {
            hashing.push(&Bytes::from_static(bytes)).await.unwrap();
        }
        declared.check(&hashing.finish().await.unwrap(), trailing).map_err(code)
    }

    #[tokio::test]
    async fn a_body_is_all_that_was_declared_of_it() {
        let some = [None, Some(true), Some(false)];
        let sums = some.iter().flat_map(|md5| some.iter().map(move |checksum| (*md5, *checksum)));
        for (md5, checksum) in sums {
            for (algorithm, header, _) in ALGORITHMS {
                for (trailed, tagged) in [(false, false), (false, true), (true, false), (true, true)] {
                    let mut headers = HeaderMap::new();
                    if let Some(value) = shown(Algorithm::Md5, md5) {
                        headers.insert("content-md5", value);
                    }
                    let value = shown(algorithm, checksum);
                    if trailed {
                        headers.insert("x-amz-trailer", HeaderValue::from_static(header));
                    } else if let Some(value) = &value {
                        headers.insert(header, value.clone());
                    }
                    let expected = match (md5, checksum) {
                        (Some(false), _) | (_, Some(false)) => Err("BadDigest".to_owned()),
                        (_, None) if trailed => Err("MalformedTrailerError".to_owned()),
                        _ => Ok(()),
                    };
                    let trailing = value.as_ref().filter(|_| trailed);
                    let found = verdict(&headers, trailing, tagged).await;
                    assert_eq!(found, expected, "{headers:?}, then {trailing:?}");
                }
            }
        }
    }
}
