//! A client that follows redirects by hand and accepts only complete responses.

use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap, LOCATION};
use reqwest::{Method, Request, Url};
use serde::de::DeserializeOwned;
use shared::digest::Digest;
use shared::http::trust::Trust;
use shared::wire::error::{ErrorBody, ErrorCode};

/// No test operation may take longer; the product's slowest path takes less.
pub const OPERATION: Duration = Duration::from_secs(120);
/// Maximum number of redirects; the product gives up earlier.
const HOPS: usize = 20;

/// A client for one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Redirects followed on the way.
    pub hops: usize,
}

/// No complete response arrived: what the server did is unknown.
#[derive(Debug)]
pub enum Broken {
    /// A transport error: refused, reset, cut or timed out.
    Transport(reqwest::Error),
    /// The body ended cleanly but not at its announced length. Never allowed.
    Short { announced: u64, came: u64 },
    /// Too many redirects.
    TooManyHops,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(e) => write!(f, "{e:?}"),
            Self::Short { announced, came } => write!(f, "{came} of {announced} bytes, then a clean end"),
            Self::TooManyHops => write!(f, "more than {HOPS} redirects"),
        }
    }
}

impl Client {
    /// Returns a client for the server at `base`. Each request uses its own connection, so that no request fails
    /// because the server of an older one died.
    ///
    /// # Panics
    /// If the client cannot be created.
    pub fn new(base: &str) -> Self {
        Self::trusting(base, &Trust::default())
    }

    /// As `new`, with the authorities of `trust`.
    ///
    /// # Panics
    /// If the client cannot be created.
    pub fn trusting(base: &str, trust: &Trust) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured((*trust.config()).clone())
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .connect_timeout(Duration::from_secs(5))
            .timeout(OPERATION)
            .build()
            .expect("a client");
        Self { http, base: base.to_owned() }
    }

    /// Returns the inner client, for other kinds of requests.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns `HOST:PORT` of the server.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Returns the URL of a key or path, which may carry a query.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{}", self.base, path.trim_start_matches('/'))
    }

    /// Sends one request and follows no redirect.
    ///
    /// # Errors
    /// If no complete response arrives.
    ///
    /// # Panics
    /// If the URL is invalid.
    pub async fn once(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Broken> {
        let url: Url = url.parse().expect("a URL");
        let mut request = Request::new(method.clone(), url);
        for (name, value) in headers {
            let name: reqwest::header::HeaderName = name.parse().expect("a header name");
            request.headers_mut().append(name, value.parse().expect("a header value"));
        }
        if body.as_ref().is_some_and(Vec::is_empty) {
            // reqwest omits the length of an empty body, but it must be declared.
            request.headers_mut().insert(CONTENT_LENGTH, 0.into());
        }
        *request.body_mut() = body.map(reqwest::Body::from);
        let answer = self.http.execute(request).await.map_err(Broken::Transport)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await.map_err(Broken::Transport)?.to_vec();
        let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if let Some(announced) = announced.filter(|_| method != Method::HEAD && status != 304)
            && announced != body.len() as u64
        {
            return Err(Broken::Short { announced, came: body.len() as u64 });
        }
        Ok(Answer { status, headers, body, hops: 0 })
    }

    /// Sends a request to `path` and follows redirects.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Broken> {
        let mut url = self.url(path);
        for hops in 0..HOPS {
            let mut answer = self.once(method.clone(), &url, headers, body.clone()).await?;
            answer.hops = hops;
            match answer.header(LOCATION.as_str()) {
                Some(next) if answer.status == 307 => url = next,
                _ => return Ok(answer),
            }
        }
        Err(Broken::TooManyHops)
    }

    /// Stores a value.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn put(&self, key: &str, value: Vec<u8>) -> Result<Answer, Broken> {
        self.send(Method::PUT, key, &[], Some(value)).await
    }

    /// Fetches a value.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn get(&self, key: &str) -> Result<Answer, Broken> {
        self.send(Method::GET, key, &[], None).await
    }

    /// Fetches a value through the master.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn get_streamed(&self, key: &str) -> Result<Answer, Broken> {
        self.send(Method::GET, &format!("{key}?stream"), &[], None).await
    }

    /// Deletes a value.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn delete(&self, key: &str) -> Result<Answer, Broken> {
        self.send(Method::DELETE, key, &[], None).await
    }

    /// Returns the JSON at `path`, or `None` if it is not available now.
    pub async fn json<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        serde_json::from_str(&self.get_text(path).await?).ok()
    }

    /// Returns the text at `path`, or `None` if it is not available now.
    pub async fn get_text(&self, path: &str) -> Option<String> {
        let answer = tokio::time::timeout(Duration::from_secs(5), self.get(path)).await.ok()?.ok()?;
        (answer.status == 200).then(|| String::from_utf8_lossy(&answer.body).into_owned())
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(self.headers.get(name)?.as_bytes()).into_owned())
    }

    /// Returns the error code, if any.
    pub fn code(&self) -> Option<ErrorCode> {
        serde_json::from_slice::<ErrorBody>(&self.body).ok().map(|b| b.error.code)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the BLAKE3 digest of the body.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }

    /// Reports whether the status is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Returns the number on the first line with that name in Prometheus text.
pub fn metric(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.split([' ', '{']).next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}
