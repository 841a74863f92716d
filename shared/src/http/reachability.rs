//! Whether our servers answer at their addresses: fetches each one's health and describes failures for an operator.
//! Does not follow redirects, and ignores what the health says: the server was reached.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use serde::Deserialize;

use crate::http::body;
use crate::http::client::HttpClient;
use crate::wire::routes::HEALTH;

/// Addresses fetched concurrently.
const AT_ONCE: usize = 16;
/// Time limit for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// More bytes than the health of any of our servers has.
const HEALTH_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize)]
struct Health {
    server: String,
}

/// Fetches the health at each of these base URLs; returns them in order, each with what is wrong, if anything.
pub async fn check_urls(http: &HttpClient, urls: Vec<String>) -> Vec<(String, Option<String>)> {
    let answers = iter(urls).map(|url| async move {
        let answer = tokio::time::timeout(PATIENCE, fetch(http, &url)).await;
        let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
        (url, answer.unwrap_or_else(|_| late()).err())
    });
    answers.buffered(AT_ONCE).collect().await
}

async fn fetch(http: &HttpClient, url: &str) -> Result<(), String> {
    let health = format!("{}{HEALTH}", url.trim_end_matches('/'));
    let answer = http.get(&health, PATIENCE).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!("it answered {status}: something else is in front of the server"));
    }
    let text = body::collect(answer.into_body(), HEALTH_BYTES_MAX).await.map_err(|e| e.to_string())?;
    match serde_json::from_slice::<Health>(&text) {
        Ok(health) if health.server.starts_with("barge") => Ok(()),
        _ => Err(format!("the answer (status {status}) is not that of a Barge server")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives this answer to everyone.
    async fn saying(status: &'static str, text: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap() > 0 {}
                let length = text.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nlocation: /x\r\nconnection: close\r\n\r\n"
                );
                socket.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
            }
        });
        url
    }

    #[tokio::test]
    async fn each_address_is_reached_or_has_a_reason() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = format!("http://{}", nobody.local_addr().unwrap());
        drop(nobody);
        let good = saying("200 OK", r#"{"server":"barge-volume","read_only":null}"#).await;
        let waiting = saying("503 Service Unavailable", r#"{"server":"barge-master","ready":false}"#).await;
        let stranger = saying("200 OK", "<html>hello</html>").await;
        let elsewhere = saying("307 Temporary Redirect", "").await;
        let mut urls: Vec<_> = (0..40).map(|_| good.clone()).collect();
        urls.extend([format!("{good}/"), waiting, stranger, elsewhere, closed, "no url".to_owned()]);
        let reached = check_urls(&HttpClient::default(), urls.clone()).await;
        assert_eq!(reached.iter().map(|(url, _)| url).collect::<Vec<_>>(), urls.iter().collect::<Vec<_>>());
        let wrong: Vec<_> = reached.iter().skip(40).map(|(_, wrong)| wrong.as_deref()).collect();
        assert!(reached.iter().take(40).all(|(_, wrong)| wrong.is_none()));
        assert_eq!(wrong[..2], [None, None]);
        assert!(wrong[2].unwrap().contains("not that of a Barge server"), "{wrong:?}");
        assert!(wrong[3].unwrap().contains("307"), "{wrong:?}");
        assert!(wrong[4].is_some() && wrong[5].is_some(), "{wrong:?}");
    }
}
