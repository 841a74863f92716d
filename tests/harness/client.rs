//! A client that follows redirects by hand and takes every answer whole or not at all.

use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap, LOCATION};
use reqwest::{Method, Request, Url};
use serde::de::DeserializeOwned;
use shared::digest::Digest;
use shared::http::trust::Trust;
use shared::wire::error::{ErrorBody, ErrorCode};

/// No operation of the tests may take longer; the slowest path of the product is below.
pub const OPERATION: Duration = Duration::from_secs(120);
/// Redirects followed; the product gives up before.
const HOPS: usize = 20;

/// A client of one server.
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
    /// Redirects on the way to it.
    pub hops: usize,
}

/// No whole answer came: what the server did is unknown.
#[derive(Debug)]
pub enum Broken {
    /// Of the transport: refused, reset, cut, too slow.
    Transport(reqwest::Error),
    /// The body ended cleanly and is not as long as was announced. Never allowed.
    Short { announced: u64, came: u64 },
    /// Sent round and round.
    TooManyHops,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(e) => write!(f, "{e:?}"),
            Self::Short { announced, came } => write!(f, "{came} bytes of {announced}, and a clean end"),
            Self::TooManyHops => write!(f, "more than {HOPS} redirects"),
        }
    }
}

impl Client {
    /// A client of the server at `base`. Every request has a connection of its own: no request fails
    /// because an older one's server died.
    ///
    /// # Panics
    /// When the machine gives it no sockets.
    pub fn new(base: &str) -> Self {
        Self::trusting(base, &Trust::default())
    }

    /// As `new`, believing those whom `trust` names.
    ///
    /// # Panics
    /// When the machine gives it no sockets.
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

    /// The client inside, for requests of another kind.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// `HOST:PORT` of the server.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// The URL of a key or path, which may bring a query.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{}", self.base, path.trim_start_matches('/'))
    }

    /// Sends one request, and follows no redirect.
    ///
    /// # Errors
    /// When no whole answer comes.
    ///
    /// # Panics
    /// When the URL is none.
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
            // This library leaves it out, and an empty value has to be said to be one.
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
    /// When no whole answer comes.
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
    /// When no whole answer comes.
    pub async fn put(&self, key: &str, value: Vec<u8>) -> Result<Answer, Broken> {
        self.send(Method::PUT, key, &[], Some(value)).await
    }

    /// Fetches a value.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn get(&self, key: &str) -> Result<Answer, Broken> {
        self.send(Method::GET, key, &[], None).await
    }

    /// Fetches a value through the master.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn get_streamed(&self, key: &str) -> Result<Answer, Broken> {
        self.send(Method::GET, &format!("{key}?stream"), &[], None).await
    }

    /// Deletes a value.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn delete(&self, key: &str) -> Result<Answer, Broken> {
        self.send(Method::DELETE, key, &[], None).await
    }

    /// The JSON at `path`; none when there is none now.
    pub async fn json<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        serde_json::from_str(&self.get_text(path).await?).ok()
    }

    /// The text at `path`; none when there is none now.
    pub async fn get_text(&self, path: &str) -> Option<String> {
        let answer = tokio::time::timeout(Duration::from_secs(5), self.get(path)).await.ok()?.ok()?;
        (answer.status == 200).then(|| String::from_utf8_lossy(&answer.body).into_owned())
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(self.headers.get(name)?.as_bytes()).into_owned())
    }

    /// The code of an error.
    pub fn code(&self) -> Option<ErrorCode> {
        serde_json::from_slice::<ErrorBody>(&self.body).ok().map(|b| b.error.code)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// BLAKE3 of the body.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }

    /// Whether it is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A number in Prometheus text, of the first line with that name.
pub fn metric(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.split([' ', '{']).next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}
