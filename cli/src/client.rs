//! HTTP client of the verbs: follows Barge's redirects by hand (the ticket is in the URL), classifies failures,
//! and retries where that is safe.
//!
//! A request that may have been carried out is retried only if it is idempotent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, StatusCode};
use reqwest::{Body, Response, Url};
use shared::http::trust::Trust;
use shared::key::Key;
use shared::limits::{CALL_TIMEOUT, CONNECT_TIMEOUT, HOPS_MAX, IDLE_TIMEOUT, POOL_IDLE_TIMEOUT};
use shared::wire::routes::{TICKET, query_value};

use crate::args::keys::ShownKey;
use crate::exit::{Exit, Failure, Retry};

/// Attempts without progress before giving up.
const ATTEMPTS: u32 = 6;
/// The pause after the first failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The longest pause, whatever the server's Retry-After says.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long to wait for an answer. A master answers within a second; a volume may sync first.
const ANSWER_TIMEOUT: Duration = CALL_TIMEOUT.saturating_mul(3);

/// A client of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// The masters' base URLs, without a trailing slash.
    bases: Arc<[String]>,
    /// Index of the master in use, modulo their number.
    turn: Arc<AtomicUsize>,
    /// The access key sent to masters.
    shown: Option<HeaderValue>,
    trust: Trust,
}

impl Client {
    /// A client that trusts the system's authorities.
    #[cfg(test)]
    pub(crate) fn new(url: &str) -> Result<Self, Failure> {
        Self::trusting(url, Trust::default())
    }

    /// Creates a client of the masters at `url`, a comma-separated list, that trusts the authorities of `trust`.
    pub(crate) fn trusting(url: &str, trust: Trust) -> Result<Self, Failure> {
        let bases: Arc<[String]> = url.split(',').map(base).collect::<Result<_, _>>()?;
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_backend_preconfigured((*trust.config()).clone())
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .build()
            .map_err(|e| Failure::new(Exit::Failure, e.to_string()))?;
        Ok(Self { http, bases, turn: Arc::default(), shown: None, trust })
    }

    /// The authorities it trusts.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Sends `key` to the masters from now on. Volumes never get it: they get tickets.
    pub(crate) fn showing(mut self, key: Option<&ShownKey>) -> Self {
        self.shown = key.map(ShownKey::header);
        self
    }

    /// The Authorization header for masters.
    pub(crate) fn shown(&self) -> Option<&HeaderValue> {
        self.shown.as_ref()
    }

    pub(crate) fn bases(&self) -> &[String] {
        &self.bases
    }

    /// The base URL of the master in use.
    pub(crate) fn base(&self) -> &str {
        &self.bases[self.turn.load(Ordering::Relaxed) % self.bases.len()]
    }

    /// Rewrites a URL on any of the masters to the master in use.
    fn on_turn(&self, url: &Url) -> Url {
        let ours = |rest: &str| Url::parse(&format!("{}{rest}", self.base())).ok();
        let turned = match self.bases.iter().find_map(|base| below(base, url)) {
            Some(rest) => ours(rest),
            // A volume redirected to a master under a name not in our list: use ours, which gets the key.
            None if self.shown.is_some() && !has_ticket(url) => {
                let query = url.query().map_or(String::new(), |q| format!("?{q}"));
                ours(&format!("{}{query}", url.path()))
            }
            None => None,
        };
        turned.unwrap_or_else(|| url.clone())
    }

    /// The headers for `url`, with the access key if `url` is on a master.
    fn headers_for(&self, url: &Url, headers: &HeaderMap) -> HeaderMap {
        let mut headers = headers.clone();
        if let Some(shown) = &self.shown
            && !has_ticket(url)
            && self.bases.iter().any(|base| below(base, url).is_some())
        {
            headers.insert(AUTHORIZATION, shown.clone());
        }
        headers
    }

    /// Switches to the next master if `url`, which failed, is on the one in use.
    pub(crate) fn pass_turn(&self, url: &Url) {
        if self.bases.len() > 1 && below(self.base(), url).is_some() {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The URL of a path (and query) on the master in use.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Failure> {
        Url::parse(&format!("{}{path}", self.base())).map_err(|e| Failure::new(Exit::Usage, e.to_string()))
    }

    /// Sends a request without a body and follows redirects. An error status becomes a `Failure`.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: Url,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let mut url = url;
        for _ in 0..=HOPS_MAX {
            let answer = self.once(&method, &url, headers).await?;
            match redirect(&url, &answer)? {
                None => return Ok(answer),
                Some(next) => url = next,
            }
        }
        Err(Failure::new(Exit::Unavailable, "too many redirects between servers").next("try again"))
    }

    /// Sends one request without a body and returns redirects as they are.
    pub(crate) async fn once(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let url = &self.on_turn(url);
        let mut request =
            self.http.request(method.clone(), url.clone()).headers(self.headers_for(url, headers));
        if matches!(*method, Method::PUT | Method::POST) {
            request = request.body(Body::from(""));
        }
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await;
        let address = authority(url);
        let sent = sent.map_err(|_| Failure::broken(&address, "no answer came in time"));
        let answer = match sent.and_then(|sent| sent.map_err(|e| transport(&address, e))) {
            Ok(answer) => checked(answer).await,
            Err(failure) => Err(failure),
        };
        if answer.as_ref().is_err_and(|failure| failure.exit == Exit::Unavailable) {
            self.pass_turn(url);
        }
        answer
    }

    /// Sends a body, without a time limit: the caller enforces one.
    pub(crate) async fn send_body(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let url = &self.on_turn(url);
        let sent =
            self.http.put(url.clone()).headers(self.headers_for(url, &headers)).body(body).send().await;
        let answer = match sent.map_err(|e| transport(&authority(url), e)) {
            Ok(answer) => checked(answer).await,
            Err(failure) => Err(failure),
        };
        if answer.as_ref().is_err_and(|failure| failure.exit == Exit::Unavailable) {
            self.pass_turn(url);
        }
        answer
    }
}

/// Normalizes a base URL (default port, upper case in host names), so that it is a prefix of all URLs on it.
fn base(text: &str) -> Result<String, Failure> {
    let url = Url::parse(text).ok();
    let usable = url.filter(|u| u.has_host() && u.query().is_none() && u.fragment().is_none() && is_http(u));
    let url = usable.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{text:?} is not a base URL"))
            .next("write it like http://localhost:3000")
    })?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Whether a URL holds a ticket, and so leads to a volume.
fn has_ticket(url: &Url) -> bool {
    query_value(url.query(), TICKET).is_some()
}

/// The part of `url` after `base`, if `url` is on it.
fn below<'a>(base: &str, url: &'a Url) -> Option<&'a str> {
    url.as_str().strip_prefix(base).filter(|rest| rest.starts_with('/'))
}

/// Counts failures and waits between attempts.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    /// Resets the count after progress.
    pub(crate) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits if a retry makes sense, else returns the failure. `twice_is_once`: whether the operation is idempotent.
    pub(crate) async fn wait(&mut self, failure: Failure, twice_is_once: bool) -> Result<(), Failure> {
        self.failures += 1;
        let told = match failure.retry {
            Retry::After(told) => told,
            Retry::IfIdempotent if twice_is_once => None,
            _ => return Err(failure),
        };
        if self.failures >= ATTEMPTS {
            return Err(failure);
        }
        let grown = PAUSE_FIRST.saturating_mul(1 << (self.failures - 1));
        tokio::time::sleep(told.unwrap_or(grown).max(grown / 2).min(PAUSE_MAX)).await;
        Ok(())
    }
}

/// Runs `attempt` until it succeeds or patience ends. Only for idempotent operations.
pub(crate) async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut patience = Patience::default();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(failure) => patience.wait(failure, true).await?,
        }
    }
}

/// The next piece of an answer's body; `None` at its end.
pub(crate) async fn piece(answer: &mut Response) -> Result<Option<bytes::Bytes>, Failure> {
    let address = authority(answer.url());
    match tokio::time::timeout(IDLE_TIMEOUT, answer.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(e)) => Err(Failure::broken(&address, root(&e))),
        Err(_) => Err(Failure::broken(&address, "no data came in time")),
    }
}

/// Parses the JSON of an answer.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(answer: Response) -> Result<T, Failure> {
    let address = authority(answer.url());
    let bytes = message(answer).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Failure::strange(&address, format!("sent an answer that Barge does not send: {e}")))
}

/// The value of a header, if it is text.
pub(crate) fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|v| v.to_str().ok())
}

/// The target of a redirect; `None` if the answer is not one.
pub(crate) fn redirect(from: &Url, answer: &Response) -> Result<Option<Url>, Failure> {
    if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    let strange = || Failure::strange(&authority(from), "sent a redirect without a valid Location");
    let location = header(answer, LOCATION.as_str()).ok_or_else(strange)?;
    let next = from.join(location).map_err(|_| strange())?;
    if is_http(&next) && next.has_host() { Ok(Some(next)) } else { Err(strange()) }
}

/// Host and port, for messages: never the query, which may hold a ticket.
pub(crate) fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(0))
}

/// Turns error statuses into failures.
async fn checked(answer: Response) -> Result<Response, Failure> {
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(answer);
    }
    let after = header(&answer, RETRY_AFTER.as_str()).and_then(|v| v.parse().ok()).map(Duration::from_secs);
    let body = message(answer).await.unwrap_or_default();
    Err(Failure::from_answer(status, &body, after))
}

async fn message(answer: Response) -> Result<Vec<u8>, Failure> {
    let address = authority(answer.url());
    // A listing page is the largest message there is.
    let bytes_max = shared::limits::LIST_LIMIT_MAX * 16 * 1024;
    let mut bytes = Vec::new();
    let mut answer = answer;
    while let Some(piece) = piece(&mut answer).await? {
        if bytes.len() + piece.len() > bytes_max {
            return Err(Failure::strange(&address, "sent an answer that is too long"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn transport(address: &str, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if error.is_connect() {
        Failure::unreachable(address, root(&error))
    } else {
        Failure::broken(address, root(&error))
    }
}

/// The innermost error: the outer ones repeat what the message around it says.
fn root(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The URL of a key on the master in use.
pub(crate) fn key_url(client: &Client, key: &Key) -> Result<Url, Failure> {
    client.url(&key.to_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        for good in
            ["http://localhost:3000", "http://10.0.0.1/", "http://[::1]:3000/under/a/path", "https://h"]
        {
            assert!(Client::new(good).is_ok(), "{good}");
        }
        for bad in ["localhost:3000", "", "ftp://a", "http://a?b"] {
            assert_eq!(Client::new(bad).err().map(|f| f.exit), Some(Exit::Usage), "{bad}");
        }
        let client = Client::new("http://h:1/p/").unwrap();
        let key = Key::new("a b/ü//x").unwrap();
        assert_eq!(key_url(&client, &key).unwrap().as_str(), "http://h:1/p/a%20b/%C3%BC//x");
    }

    #[test]
    fn the_next_master_has_its_turn_however_the_first_was_written() {
        for first in ["http://m1:80", "http://M1", "http://m1/", "http://m1"] {
            let client = Client::new(&format!("{first},http://m2:3000")).unwrap();
            let url = client.url("/k").unwrap();
            assert_eq!(client.on_turn(&url).as_str(), "http://m1/k");
            // Another server on the same host is not a master.
            client.pass_turn(&Url::parse("http://m1:8080/k").unwrap());
            assert_eq!(client.on_turn(&url), url);
            client.pass_turn(&url);
            assert_eq!(client.on_turn(&url).as_str(), "http://m2:3000/k", "{first}");
        }
    }

    #[test]
    fn the_access_key_is_for_masters_alone() {
        let key = "BKA:secretsecret".parse().unwrap();
        let client = Client::new("http://m1:3000,http://m2:3000").unwrap().showing(Some(&key));
        let shown = |url: &str| {
            let url = client.on_turn(&Url::parse(url).unwrap());
            let shown = client.headers_for(&url, &HeaderMap::new()).contains_key(AUTHORIZATION);
            (url.to_string(), shown)
        };
        assert_eq!(shown("http://m2:3000/k?redirect"), ("http://m1:3000/k?redirect".into(), true));
        let volume = "http://v1:3001/k?ticket=t";
        assert_eq!(shown(volume), (volume.into(), false));
        let same_host = "http://m1:3000/k?ticket=t";
        assert_eq!(shown(same_host), (same_host.into(), false));
        assert_eq!(shown("http://m1.example/k?hops=1"), ("http://m1:3000/k?hops=1".into(), true));
        // Without an access key, URLs are not rewritten.
        let client = Client::new("http://m1:3000").unwrap();
        assert_eq!(client.on_turn(&Url::parse("http://x/k?hops=1").unwrap()).as_str(), "http://x/k?hops=1");
    }

    #[tokio::test]
    async fn patience_is_for_what_may_be_done_again() {
        let mut patience = Patience::default();
        assert!(patience.wait(Failure::broken("a", "b"), false).await.is_err());
        assert!(patience.wait(Failure::broken("a", "b"), true).await.is_ok());
        assert!(patience.wait(Failure::new(Exit::Failure, "a"), true).await.is_err());
        patience.failures = ATTEMPTS - 1;
        assert!(patience.wait(Failure::unreachable("a", "b"), true).await.is_err());
    }
}
