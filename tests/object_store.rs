//! The crate `object_store`, which much Rust code uses for S3: its authors' own tests, run against our store.
//!
//! They are the crate's unmodified `integration` module; nothing that concerns S3 is left out, and only the
//! bucket is ours.

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut, S3CopyIfNotExists};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::integration as theirs;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt};
use tests::tool::must;

use super::s3::store::Store;

/// A store and a client for a bucket in it.
async fn bucket(name: &str) -> (Store, AmazonS3) {
    let store = Store::start(&format!("object-store-{name}"), false).await;
    let bucket = "of-object-store";
    make_bucket(&store, bucket).await;
    let client = client(&store, bucket).build().expect("a client");
    (store, client)
}

fn client(store: &Store, bucket: &str) -> AmazonS3Builder {
    // reqwest requires a TLS provider even for plain HTTP; another test may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    AmazonS3Builder::new()
        .with_endpoint(variable(store, "BARGE_S3_ENDPOINT"))
        .with_access_key_id(variable(store, "BARGE_S3_KEY"))
        .with_secret_access_key(variable(store, "BARGE_S3_SECRET"))
        .with_region("us-east-1")
        .with_bucket_name(bucket)
        .with_allow_http(true)
        .with_http_connector(Plain(reqwest::Client::new()))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
}

/// HTTP without TLS.
#[derive(Clone, Debug)]
struct Plain(reqwest::Client);

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Plain {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().expect("a URI is a URL");
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let answer = self.0.execute(request).await.map_err(|e| HttpError::new(HttpErrorKind::Request, e))?;
        let (parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
        let body = body.map_err(|e| HttpError::new(HttpErrorKind::Interrupted, e));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

fn variable<'a>(store: &'a Store, name: &str) -> &'a str {
    let found = store.environment.iter().find(|(n, _)| *n == name);
    found.map_or_else(|| panic!("the variable {name} is missing"), |(_, value)| value)
}

/// The crate cannot create buckets; curl can.
async fn make_bucket(store: &Store, bucket: &str) {
    let user = format!("{}:{}", variable(store, "BARGE_S3_KEY"), variable(store, "BARGE_S3_SECRET"));
    let url = format!("{}/{bucket}", variable(store, "BARGE_S3_ENDPOINT"));
    let sign = ["-q", "-fsS", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", user.as_str()];
    let empty = "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    must("curl", sign.into_iter().chain(["-X", "PUT", "-H", empty, url.as_str()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn put_get_delete_list() {
    let (_store, client) = bucket("put").await;
    theirs::put_get_delete_list(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions() {
    let (_store, client) = bucket("conditions").await;
    theirs::get_opts(&client).await;
    theirs::put_opts(&client, true).await;
    theirs::copy_if_not_exists(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists() {
    let (_store, client) = bucket("lists").await;
    theirs::list_uses_directories_correctly(&client).await;
    theirs::list_with_delimiter(&client).await;
    theirs::list_paginated(&client, &client).await;
    theirs::list_with_offset_exclusivity(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies() {
    let (_store, client) = bucket("copies").await;
    theirs::rename_and_copy(&client).await;
    theirs::copy_rename_nonexistent_object(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_parts() {
    let (_store, client) = bucket("parts").await;
    theirs::stream_get(&client).await;
    theirs::multipart(&client, &client).await;
    theirs::multipart_with_opts(&client, &client).await;
    theirs::multipart_put_part_out_of_order(&client, &client).await;
    theirs::multipart_out_of_order(&client).await;
    theirs::multipart_race_condition(&client, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes() {
    let (_store, client) = bucket("attributes").await;
    theirs::put_get_attributes(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let (store, first) = bucket("missing").await;
    let first = Arc::new(first);
    let missing = theirs::get_nonexistent_object(&*first, Some(Path::from("none"))).await;
    assert!(missing.is_err_and(|e| matches!(e, object_store::Error::NotFound { .. })));
    let nowhere = client(&store, "no-such-bucket").build().expect("a client");
    for place in [Path::from("a"), Path::from("b/c")] {
        let error = nowhere.get(&place).await.expect_err("the bucket does not exist");
        assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
        nowhere.put(&place, "value".into()).await.expect_err("the bucket does not exist");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums() {
    let store = Store::start("object-store-checksums", false).await;
    make_bucket(&store, "of-object-store").await;
    for algorithm in [object_store::aws::Checksum::SHA256, object_store::aws::Checksum::CRC64NVME] {
        let client =
            client(&store, "of-object-store").with_checksum_algorithm(algorithm).build().expect("a client");
        theirs::put_get_delete_list(&client).await;
        theirs::multipart(&client, &client).await;
    }
}
