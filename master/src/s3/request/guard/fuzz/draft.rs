//! Requests for the comparison: one of each operation, as its clients send it, and as bytes on the wire.

use std::fmt;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Chance;

use crate::s3::request::operation_name::{OperationShape, ResourceKind};

/// A form with a file, for the boundary `BB`.
const FORM: &str = "--BB\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--BB\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n--BB--\r\n";
/// The domain of virtual-host addressing.
pub const DOMAIN: &str = "s3.test";

#[derive(Clone)]
pub struct RequestDraft {
    pub method: Method,
    pub host: Vec<u8>,
    /// Its path, with escapes.
    pub path: String,
    /// Its query, pair by pair, with escapes.
    pub query: Vec<String>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: &'static str,
}

impl fmt::Debug for RequestDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        writeln!(f, "{} {} ? {}", self.method, self.path, self.query.join("&"))?;
        writeln!(f, "host: {}", text(&self.host))?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {}", text(value)))?;
        write!(f, "{}", self.body.escape_debug())
    }
}

pub fn one<'t, T>(chance: &mut Chance, of: &'t [T]) -> &'t T {
    &of[chance.random_range(0..of.len())]
}

impl RequestDraft {
    /// Builds a request as a client sends it.
    pub fn valid(how: &OperationShape, chance: &mut Chance) -> Self {
        let bucket = *one(chance, &["bucket", "other-bucket", "a.b.c"]);
        let key = *one(chance, &["k", "dir/k", "a%20b", "%C3%A4", "a+b", "100%25", "dir/"]);
        let before = how.resource != ResourceKind::Root && chance.random_bool(0.4);
        let (host, path) = match (how.resource, before) {
            (ResourceKind::Root, _) => ("s3.test".to_owned(), "/".to_owned()),
            (ResourceKind::Bucket, true) => (format!("{bucket}.{DOMAIN}:9000"), "/".to_owned()),
            (ResourceKind::Object, true) => (format!("{bucket}.{DOMAIN}"), format!("/{key}")),
            (ResourceKind::Bucket, false) => ("127.0.0.1:9000".to_owned(), format!("/{bucket}")),
            (ResourceKind::Object, false) => ("localhost".to_owned(), format!("/{bucket}/{key}")),
        };
        let mut draft = Self {
            method: how.method.clone(),
            host: host.into_bytes(),
            path,
            query: how.queries.iter().map(|(name, value)| pair(name, *value)).collect(),
            headers: how.headers.iter().map(|name| header(name)).collect(),
            body: "",
        };
        draft.besides(how, chance);
        draft
    }

    /// Adds optional parameters and headers.
    fn besides(&mut self, how: &OperationShape, chance: &mut Chance) {
        if ["analytics", "intelligent-tiering", "inventory", "metrics"]
            .iter()
            .any(|q| self.query.contains(&(*q).into()))
            && [Method::PUT, Method::DELETE].contains(&self.method)
        {
            self.query.push("id=x".into());
        }
        if how.name == "GetObjectAttributes" {
            self.add("x-amz-object-attributes", b"ETag");
        }
        if how.name.starts_with("ListObject") || how.name == "ListMultipartUploads" {
            self.query
                .push((*one(chance, &["prefix=a", "prefix=a%2Fb+c", "prefix=", "prefix=%C3%A4"])).into());
        }
        if ["GetObject", "HeadObject"].contains(&how.name) && chance.random_bool(0.3) {
            self.query
                .push((*one(chance, &["versionId=null", "response-content-type=a", "partNumber=1"])).into());
        }
        if ["GetObject", "HeadObject"].contains(&how.name) && chance.random_bool(0.4) {
            let range: &&[u8] = one(chance, &[b"bytes=0-0", b"bytes=0-0,2-2", b"lines=1-2"]);
            self.add("range", range);
        }
        if how.name == "PostObject" {
            self.add("content-type", b"multipart/form-data; boundary=BB");
            self.body = FORM;
        } else if chance.random_bool(0.3) {
            self.add("content-type", b"text/plain");
        }
        if chance.random_bool(0.3) && how.name != "PostObject" {
            self.add("x-amz-meta-a", b"1");
        }
        if [Method::PUT, Method::POST].contains(&self.method) {
            let length = self.body.len().to_string();
            self.add("content-length", length.as_bytes());
        }
    }

    pub fn add(&mut self, name: &str, value: &[u8]) {
        self.headers.push((name.to_owned(), value.to_vec()));
    }

    /// Returns the request; none if no server would receive one.
    pub fn build(&self) -> Option<Request<Bytes>> {
        let query = self.query.join("&");
        let target = if self.query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) };
        let mut request = Request::builder().method(self.method.clone()).uri(target);
        request = request.header(HOST, HeaderValue::from_bytes(&self.host).ok()?);
        for (name, value) in &self.headers {
            request = request.header(name.as_str(), HeaderValue::from_bytes(value).ok()?);
        }
        request.body(Bytes::from_static(self.body.as_bytes())).ok()
    }
}

fn pair(name: &str, value: Option<&str>) -> String {
    match (name, value) {
        (_, Some(value)) => format!("{name}={value}"),
        ("uploadId", None) => "uploadId=u1".into(),
        ("partNumber", None) => "partNumber=1".into(),
        _ => name.into(),
    }
}

fn header(name: &str) -> (String, Vec<u8>) {
    let value: &[u8] = if name == "x-amz-copy-source" { b"/other-bucket/src" } else { b"x" };
    (name.to_owned(), value.to_vec())
}
