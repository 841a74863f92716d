//! What a client declares about its value besides the bytes: content type, headers that describe it to browsers and
//! caches, and user metadata; and how these are returned as headers.

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, HeaderMap,
    HeaderName, HeaderValue,
};

use crate::limits::{CONTENT_TYPE_BYTES_MAX, METADATA_BYTES_MAX, METADATA_ENTRIES_MAX};
use crate::wire::routes::{INTERNAL_PREFIX, METADATA_PREFIXES};

/// Headers of an upload that describe its value, besides the content type: stored and returned unchanged.
pub const DESCRIBING: [HeaderName; 5] =
    [CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, EXPIRES];
/// The content encoding of an upload's transfer, not of its value.
const CHUNKED: &[u8] = b"aws-chunked";

/// Content type and user metadata of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The content type as sent, if any.
    pub content_type: Option<String>,
    /// Header names in lower case, and values, in order of arrival.
    pub metadata: Vec<(String, String)>,
}

/// The headers cannot be stored.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetadataError {
    /// Longer than any media type.
    #[error("the content type is longer than {CONTENT_TYPE_BYTES_MAX} bytes")]
    ContentTypeTooLong,
    /// More than a record's header can hold.
    #[error(
        "user metadata is larger than {METADATA_BYTES_MAX} bytes or has more than {METADATA_ENTRIES_MAX} entries"
    )]
    TooLarge,
    /// A value that is not text.
    #[error("the value of header {0} is not visible ASCII or UTF-8")]
    NotText(HeaderName),
}

impl Described {
    /// Takes content type and metadata from the headers of a client's request.
    ///
    /// # Errors
    /// If they are too large or not text.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, MetadataError> {
        Self::taken(headers, |name| METADATA_PREFIXES.iter().any(|p| name.starts_with(p)))
    }

    /// Like `from_headers`, for another server's request: includes internal metadata, which clients cannot set.
    ///
    /// # Errors
    /// If they are too large or not text.
    pub fn from_peer(headers: &HeaderMap) -> Result<Self, MetadataError> {
        let prefixes = METADATA_PREFIXES.into_iter().chain([INTERNAL_PREFIX]);
        Self::taken(headers, |name| prefixes.clone().any(|p| name.starts_with(p)))
    }

    fn taken(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Result<Self, MetadataError> {
        let text = |n: &HeaderName, v: &HeaderValue| {
            String::from_utf8(v.as_bytes().to_vec()).map_err(|_| MetadataError::NotText(n.clone()))
        };
        // An empty content type means none.
        let content_type = headers.get(CONTENT_TYPE).filter(|v| !v.is_empty());
        let content_type = content_type.map(|v| text(&CONTENT_TYPE, v)).transpose()?;
        if content_type.as_ref().is_some_and(|c| c.len() > CONTENT_TYPE_BYTES_MAX) {
            return Err(MetadataError::ContentTypeTooLong);
        }
        let metadata = headers
            .iter()
            .filter(|(n, v)| {
                let describes =
                    DESCRIBING.contains(n) && !v.is_empty() && !v.as_bytes().eq_ignore_ascii_case(CHUNKED);
                describes || wanted(n.as_str())
            })
            .map(|(n, v)| Ok((n.as_str().to_owned(), text(n, v)?)))
            .collect::<Result<Vec<_>, MetadataError>>()?;
        // Internal metadata has its own room in a record.
        let own = metadata.iter().filter(|(n, _)| !n.starts_with(INTERNAL_PREFIX));
        let (bytes, entries) = own.fold((0, 0), |(b, e), (n, v)| (b + n.len() + v.len(), e + 1));
        if bytes > METADATA_BYTES_MAX || entries > METADATA_ENTRIES_MAX {
            return Err(MetadataError::TooLarge);
        }
        Ok(Self { content_type, metadata })
    }

    /// Adds them to the headers of an answer or of a forwarded request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        apply(self.content_type.as_deref(), &self.metadata, headers);
    }
}

/// Adds content type and user metadata to the headers of an answer. Skips internal metadata, and names or values that
/// are no longer valid in a header.
pub fn show(content_type: Option<&str>, metadata: &[(String, String)], headers: &mut HeaderMap) {
    let shown = metadata.iter().filter(|(name, _)| !name.starts_with(INTERNAL_PREFIX));
    apply(content_type, &shown.cloned().collect::<Vec<_>>(), headers);
}

/// Adds content type and all metadata to `headers`.
pub fn apply(content_type: Option<&str>, metadata: &[(String, String)], headers: &mut HeaderMap) {
    if let Some(value) = content_type.and_then(|c| HeaderValue::from_bytes(c.as_bytes()).ok()) {
        headers.insert(CONTENT_TYPE, value);
    }
    for (name, value) in metadata {
        if let (Ok(n), Ok(v)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(n, v);
        }
    }
}
