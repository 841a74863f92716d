//! Connections of one worker: one per server, kept open, reopened when closed. Nothing here follows a redirect.

use std::collections::HashMap;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shared::http::trust::Trust;
use shared::limits::CONNECT_TIMEOUT;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::report::ErrorKind;
use super::value::ValueBody;

/// hyper's read buffer for one answer: large reads cost the client least.
const READ_BYTES: usize = 512 * 1024;
/// The longest answer that is read to its end so that its connection can be reused.
const DISCARD_BYTES_MAX: usize = 1 << 20;

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: HashMap<String, SendRequest<ValueBody>>,
    /// The Authorization header, and the authority it is sent to.
    shown: Option<(HeaderValue, String)>,
    trust: Trust,
}

impl Connections {
    /// With an access key for one of the servers; trusts the authorities of `trust`.
    pub(crate) fn new(shown: Option<(HeaderValue, String)>, trust: Trust) -> Self {
        Self { open: HashMap::new(), shown, trust }
    }

    /// Sends a request and returns its answer, whose body the caller reads. Replaces, once, a kept connection that
    /// the server has closed meanwhile.
    pub(crate) async fn send(
        &mut self,
        method: &Method,
        uri: &Uri,
        body: Option<&ValueBody>,
    ) -> Result<Response<Incoming>, ErrorKind> {
        let authority = uri.authority().ok_or(ErrorKind::Redirect)?.as_str().to_owned();
        for attempt in 0..2 {
            let (mut sender, kept) = match self.open.remove(&authority) {
                Some(sender) if !sender.is_closed() => (sender, true),
                _ => (connect(uri, &self.trust).await?, false),
            };
            if sender.ready().await.is_err() && kept {
                continue;
            }
            let mut asked = request(method, uri, &authority, body)?;
            if let Some((key, _)) = self.shown.as_ref().filter(|(_, to)| *to == authority) {
                asked.headers_mut().insert(AUTHORIZATION, key.clone());
            }
            match sender.send_request(asked).await {
                Ok(answer) => {
                    self.open.insert(authority, sender);
                    return Ok(answer);
                }
                Err(e) if kept && attempt == 0 && (e.is_canceled() || e.is_closed()) => {}
                Err(_) => return Err(ErrorKind::Closed),
            }
        }
        Err(ErrorKind::Closed)
    }

    /// Like `send`, but reads and discards the answer's body.
    pub(crate) async fn exchange(
        &mut self,
        method: &Method,
        uri: &Uri,
        body: Option<&ValueBody>,
    ) -> Result<Response<()>, ErrorKind> {
        let answer = self.send(method, uri, body).await?;
        let (parts, mut body) = answer.into_parts();
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ErrorKind::Closed)?;
            seen += frame.data_ref().map_or(0, bytes::Bytes::len);
            if seen > DISCARD_BYTES_MAX {
                break;
            }
        }
        Ok(Response::from_parts(parts, ()))
    }

    /// Closes all connections: after a timeout none is in a known state.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}

fn request(
    method: &Method,
    uri: &Uri,
    authority: &str,
    body: Option<&ValueBody>,
) -> Result<Request<ValueBody>, ErrorKind> {
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::builder().method(method).uri(target).header(HOST, authority);
    let mut request =
        request.body(body.cloned().unwrap_or_else(ValueBody::empty)).map_err(|_| ErrorKind::Redirect)?;
    if *method == Method::PUT && body.is_none() {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(request)
}

async fn connect(uri: &Uri, trust: &Trust) -> Result<SendRequest<ValueBody>, ErrorKind> {
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let connecting = TcpStream::connect((host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 })));
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| ErrorKind::Connect)?;
    let stream = stream.map_err(|_| ErrorKind::Connect)?;
    stream.set_nodelay(true).map_err(|_| ErrorKind::Connect)?;
    if secure {
        speak(trust.connect(host, stream).await.map_err(|_| ErrorKind::Connect)?).await
    } else {
        speak(stream).await
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<ValueBody>, ErrorKind> {
    let handshake =
        http1::Builder::new().max_buf_size(READ_BYTES).handshake::<_, ValueBody>(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|_| ErrorKind::Connect)?;
    tokio::spawn(async move {
        // The user of the sender sees the connection's end.
        let _ = connection.await;
    });
    Ok(sender)
}
