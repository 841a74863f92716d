//! How the library reads a request: it is called as the S3 API calls it, and its result is recorded.

use std::sync::{Arc, Mutex};

use http::Request;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Request, S3Result};

use crate::s3::request::guard::fuzz::draft::DOMAIN;
use crate::s3::request::guard::fuzz::signing::{KEY, SECRET};
use crate::s3::request::unreadable_headers::{ProvedSigner, SecondPass};
use crate::s3::request::virtual_host::Domain;

/// The result of the library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The operation; none if the library refused the request before it knew.
    pub operation: Option<String>,
    pub bucket: Option<String>,
    pub key: Option<String>,
    /// Whether a signature was verified.
    pub proved: bool,
    /// Bucket and key of the source of a copy.
    pub source: Option<(String, String)>,
    /// The prefix of a listing.
    pub prefix: Option<String>,
    /// Parameters of a read that it found.
    pub asked: Vec<&'static str>,
}

#[derive(Clone, Default)]
struct Note(Arc<Mutex<Read>>);

/// The library without operations behind it.
pub struct Library(S3Service);

struct Nothing;

#[async_trait::async_trait]
impl S3 for Nothing {}

struct Watch;

#[async_trait::async_trait]
impl S3Auth for Watch {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        if id == KEY { Ok(SecretKey::from(SECRET)) } else { Err(s3s::S3ErrorCode::InvalidAccessKeyId.into()) }
    }
}

fn note<T>(req: &S3Request<T>, write: impl FnOnce(&mut Read)) -> S3Result<()> {
    let note = req.extensions.get::<Note>().expect("the request was given one");
    write(&mut note.0.lock().expect("nothing panics with it"));
    Ok(())
}

fn copied(source: &dto::CopySource) -> Option<(String, String)> {
    match source {
        dto::CopySource::Bucket { bucket, key, .. } => Some((bucket.to_string(), key.to_string())),
        _ => None,
    }
}

/// Lists the parameters that a read has.
macro_rules! asked {
    ($input:expr) => {{
        let mut asked = Vec::new();
        let input = $input;
        let mut put = |there: bool, name| {
            if there {
                asked.push(name)
            }
        };
        put(input.version_id.is_some(), "versionId");
        put(input.part_number.is_some(), "partNumber");
        put(input.response_cache_control.is_some(), "response-cache-control");
        put(input.response_content_disposition.is_some(), "response-content-disposition");
        put(input.response_content_encoding.is_some(), "response-content-encoding");
        put(input.response_content_language.is_some(), "response-content-language");
        put(input.response_content_type.is_some(), "response-content-type");
        put(input.response_expires.is_some(), "response-expires");
        asked
    }};
}

#[async_trait::async_trait]
impl S3Access for Watch {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let before = cx.extensions_mut().get::<ProvedSigner>().is_some_and(|proved| proved.0.is_some());
        let (operation, proved) = (cx.s3_op().name().to_owned(), cx.credentials().is_some() || before);
        let path = cx.s3_path();
        let (bucket, key) =
            (path.get_bucket_name().map(str::to_owned), path.get_object_key().map(str::to_owned));
        let note = cx.extensions_mut().get::<Note>().expect("the request was given one");
        let mut read = note.0.lock().expect("nothing panics with it");
        *read = Read { operation: Some(operation), bucket, key, proved, ..Read::default() };
        Ok(())
    }

    async fn copy_object(&self, req: &mut S3Request<dto::CopyObjectInput>) -> S3Result<()> {
        note(req, |read| read.source = copied(&req.input.copy_source))
    }

    async fn upload_part_copy(&self, req: &mut S3Request<dto::UploadPartCopyInput>) -> S3Result<()> {
        note(req, |read| read.source = copied(&req.input.copy_source))
    }

    async fn list_objects(&self, req: &mut S3Request<dto::ListObjectsInput>) -> S3Result<()> {
        note(req, |read| read.prefix.clone_from(&req.input.prefix))
    }

    async fn list_objects_v2(&self, req: &mut S3Request<dto::ListObjectsV2Input>) -> S3Result<()> {
        note(req, |read| read.prefix.clone_from(&req.input.prefix))
    }

    async fn list_object_versions(&self, req: &mut S3Request<dto::ListObjectVersionsInput>) -> S3Result<()> {
        note(req, |read| read.prefix.clone_from(&req.input.prefix))
    }

    async fn list_multipart_uploads(
        &self,
        req: &mut S3Request<dto::ListMultipartUploadsInput>,
    ) -> S3Result<()> {
        note(req, |read| read.prefix.clone_from(&req.input.prefix))
    }

    async fn get_object(&self, req: &mut S3Request<dto::GetObjectInput>) -> S3Result<()> {
        note(req, |read| read.asked = asked!(&req.input))
    }

    async fn head_object(&self, req: &mut S3Request<dto::HeadObjectInput>) -> S3Result<()> {
        note(req, |read| read.asked = asked!(&req.input))
    }
}

impl Library {
    /// Configures it as the S3 API does; `hosted`: with a domain.
    pub fn new(hosted: bool) -> Self {
        let builder = || {
            let mut builder = S3ServiceBuilder::new(Nothing);
            builder.set_auth(Watch);
            builder.set_access(Watch);
            builder.set_config(crate::s3::service::config());
            if hosted {
                builder.set_host(Domain(DOMAIN.to_owned()));
            }
            builder
        };
        let mut proving = builder();
        proving.set_route(SecondPass { service: builder().build() });
        Self(proving.build())
    }

    /// Returns how the library reads a request.
    pub async fn read<B: Into<s3s::Body>>(&self, mut request: Request<B>) -> Read {
        let note = Note::default();
        request.extensions_mut().insert(note.clone());
        let answer = self.0.call(request.map(Into::into)).await;
        assert!(answer.is_ok(), "the library fails: {:?}", answer.err());
        let read = note.0.lock().expect("nothing panics with it");
        read.clone()
    }
}
