//! A client that guesses the secret of an access key is counted, logged and slowed down, in both APIs; the owner of
//! that key, at another address, notices nothing.

use std::time::{Duration, Instant};

use shared::limits::{GUESS_DELAY, GUESSES_FREE, GUESSES_WAITING_EACH};
use shared::wire::error::ErrorCode;
use tests::Client;
use tests::client::metric;
use tests::raw::{Raw, RawAnswer};
use tests::tool::{curl, must};

use super::{Site, ask, text};

const ID: &str = "BKGUESSED00000000001";
const SECRET: &str = "the-right-secret-0123456789";
/// Guesses after which a client is slowed down at the latest: on a slow machine some are forgotten meanwhile.
const GUESSES_MAX: u32 = GUESSES_FREE * 4;

async fn start(name: &str) -> Site {
    let site = Site::start(name, "127.0.0.1", &[]).await;
    let address = site.server.address().to_owned();
    assert_eq!(ask(&address, "PUT /box/k", &["Host: localhost"], "value").status, 201);
    site.signed(&["key", "create", "--permission", "admin", "--id", ID, "--secret", SECRET]).await;
    site
}

impl Site {
    async fn metric(&self, name: &str) -> u64 {
        let text = Client::new(self.server.url()).get_text("/_/metrics").await.expect("metrics");
        metric(&text, name).unwrap_or(0)
    }

    /// Guesses until the first one is delayed.
    async fn guess_until_suspected(&self, guess: impl Fn() -> RawAnswer, status: u16) {
        for n in 0..GUESSES_MAX {
            let asked = Instant::now();
            let answer = guess();
            assert_eq!(answer.status, status, "{}", text(&answer));
            if self.metric("barge_access_throttled_total").await > 0 {
                assert!(asked.elapsed() >= GUESS_DELAY, "it was counted as delayed, but was not");
                assert!(n + 2 >= GUESSES_FREE, "only {n} were wrong");
                return;
            }
        }
        panic!("{GUESSES_MAX} wrong secrets, and none was delayed");
    }

    /// It is checked only after the delay: otherwise a quick answer would reveal a correct guess. On a slow
    /// machine guesses are forgotten meanwhile, so another one is sent first.
    async fn shows_after_a_wait(&self, guess: impl Fn() -> RawAnswer, mut show: impl AsyncFnMut()) {
        for _ in 0..GUESSES_MAX {
            guess();
            let (asked, before) = (Instant::now(), self.metric("barge_access_throttled_total").await);
            show().await;
            if self.metric("barge_access_throttled_total").await > before {
                assert!(asked.elapsed() >= GUESS_DELAY, "it was counted as delayed, but was not");
                return;
            }
        }
        panic!("the guessing peer was not delayed");
    }

    /// Sends more at once than may wait; returns the answers to those that must retry later.
    fn flood(address: &str, head: &str, refused: u16) -> Vec<RawAnswer> {
        let at_once = || {
            let mut all: Vec<_> = (0..GUESSES_WAITING_EACH + 8).map(|_| Raw::connect(address)).collect();
            for raw in &mut all {
                raw.send(format!("{head}Host: localhost\r\nConnection: close\r\n\r\n"));
            }
            all.iter_mut().map(Raw::answer).partition::<Vec<_>, _>(|a| a.status == 503)
        };
        // Each second one wrong secret is forgotten and frees a slot: the first ones take it.
        at_once();
        let (busy, wrong) = at_once();
        assert!(!busy.is_empty() && wrong.iter().all(|a| a.status == refused), "{} busy", busy.len());
        assert!(wrong.len() <= GUESSES_WAITING_EACH, "{} waited at once", wrong.len());
        busy
    }

    /// The log names the client and the key, in few lines, but not the guessed secret.
    fn check_log(&self, reason: &str) {
        let log = self.server.log();
        let lines: Vec<_> = log.lines().filter(|l| l.contains("an access key was refused")).collect();
        let said = |line: &&str| line.contains(ID) && line.contains("127.0.0.1") && line.contains(reason);
        assert!(lines.iter().any(said), "{lines:?}");
        assert!(lines.len() < 20, "{} lines", lines.len());
        assert!(!log.contains("a-wrong-secret") && !log.contains(SECRET));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn native_secrets_that_are_guessed() {
    let site = start("guesses").await;
    let address = site.server.address().to_owned();
    let wrong = format!("Authorization: Bearer {ID}:a-wrong-secret");
    let right = format!("Authorization: Bearer {ID}:{SECRET}");
    let get = |shown: &str| ask(&address, "GET /box/k?stream", &["Host: localhost", shown], "");
    site.guess_until_suspected(|| get(&wrong), 401).await;
    assert!(site.metric("barge_access_refused_total").await > u64::from(GUESSES_FREE));

    site.shows_after_a_wait(|| get(&wrong), async || assert_eq!(get(&right).status, 200)).await;
    // Another key from the same peer, and the same key from another peer.
    let before = site.metric("barge_access_throttled_total").await;
    let other = format!("Authorization: Bearer BKOTHER:{SECRET}");
    assert_eq!(get(&other).status, 401);
    let url = site.server.url().to_owned() + "/box/k?stream";
    let pair = format!("{ID}:{SECRET}");
    let elsewhere = curl(&site.folder, ["--interface", "127.0.0.2", "-u", &pair, &url]).await;
    assert_eq!((elsewhere.status, elsewhere.body.as_slice()), (200, &b"value"[..]), "{}", elsewhere.err);
    assert_eq!(site.metric("barge_access_throttled_total").await, before, "neither waits");

    let busy = Site::flood(&address, &format!("GET /box/k HTTP/1.1\r\n{wrong}\r\n"), 401);
    assert_eq!((busy[0].code(), busy[0].header("retry-after")), (Some(ErrorCode::TooBusy), Some("1")));
    site.check_log("wrong_secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_are_guessed() {
    let site = start("signatures").await;
    let now = must("date", ["-u", "+%Y%m%dT%H%M%SZ"]).await.text().trim().to_owned();
    let credential = format!("{ID}%2F{}%2Fus-east-1%2Fs3%2Faws4_request", &now[..8]);
    let link = |signature: &str| {
        format!(
            "/box/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={now}&X-Amz-Expires=600\
             &X-Amz-SignedHeaders=host&X-Amz-Signature={}",
            signature.repeat(64)
        )
    };
    for (request, body) in [("GET", true), ("HEAD", false)] {
        let answer = ask(&site.s3, &format!("{request} {}", link("0")), &["Host: localhost"], "");
        assert_eq!(answer.status, 403);
        assert!(!body || text(&answer).contains("SignatureDoesNotMatch"), "{}", text(&answer));
    }
    assert_eq!(
        site.metric("barge_access_refused_total").await,
        2,
        "a HEAD has no error code, but is counted"
    );
    let guess = || ask(&site.s3, &format!("GET {}", link("1")), &["Host: localhost"], "");
    site.guess_until_suspected(guess, 403).await;

    let before = site.metric("barge_access_throttled_total").await;
    let url = format!("http://{}/box/k", site.s3);
    let pair = format!("{ID}:{SECRET}");
    let payload = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
    let signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "-u", &pair, "-H", payload];
    let elsewhere = curl(&site.folder, [&signing[..], &["--interface", "127.0.0.2", &url]].concat()).await;
    assert_eq!((elsewhere.status, elsewhere.body.as_slice()), (200, &b"value"[..]), "{}", elsewhere.text());
    assert_eq!(site.metric("barge_access_throttled_total").await, before, "another peer is not delayed");
    let here = async || {
        let here = curl(&site.folder, [&signing[..], &[url.as_str()]].concat()).await;
        assert_eq!(here.status, 200, "{}", here.text());
    };
    site.shows_after_a_wait(guess, here).await;

    let busy = Site::flood(&site.s3, &format!("GET {} HTTP/1.1\r\n", link("2")), 403);
    assert!(text(&busy[0]).contains("<Code>SlowDown</Code>"), "{}", text(&busy[0]));
    site.check_log("wrong_secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_are_guessed_are_counted() {
    let site = start("forms").await;
    let field = |name: &str, value: &str| {
        format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let mut form = field("key", "f") + &field("policy", "e30=") + &field("x-amz-signature", &"0".repeat(64));
    form += &field("x-amz-credential", &format!("{ID}/20260101/us-east-1/s3/aws4_request"));
    form += &(field("x-amz-algorithm", "AWS4-HMAC-SHA256") + &field("x-amz-date", "20260101T000000Z"));
    form +=
        "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nsent\r\n--edge--\r\n";
    let kind = "Content-Type: multipart/form-data; boundary=edge";
    let answer = ask(&site.s3, "POST /box", &["Host: localhost", kind], &form);
    assert_eq!(answer.status, 403);
    assert!(text(&answer).contains("SignatureDoesNotMatch"), "{}", text(&answer));
    assert_eq!(site.metric("barge_access_refused_total").await, 1);
    site.check_log("wrong_secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_secrets_are_not_made() {
    let site = Site::start("short", "127.0.0.1", &[]).await;
    let ran = site.barge(&["key", "create", "--id", "BKSHORT", "--secret", "fifteen-chars-x"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("at least 16 characters"), "{}", ran.err);
    // The master does not rely on the checks of the command line.
    let secret = shared::secret::ClusterSecret::read(&site.folder.join("secret")).expect("the secret");
    let (id, short) =
        ("BKSHORT".parse().expect("an id"), "fifteen-chars-x".parse::<shared::access::AccessSecret>());
    let change = shared::wire::access::PutAccessKey {
        secret: short.expect("a secret").encrypt(&secret, &id),
        id,
        permission: shared::access::Permission::Read,
        scope: None,
        note: String::new(),
    };
    let message = shared::wire::access::SequencedChange { sequence: 0, change };
    let peers = shared::http::client::PeerClient::new(secret, shared::clock::Clock::System);
    let put =
        peers.call::<_, serde_json::Value>(site.server.url(), shared::wire::routes::KEYS_PUT, &message).await;
    let refused = put.expect_err("the secret is too short").to_string();
    assert!(refused.contains("at least 16 characters"), "{refused}");
    let none = Duration::from_secs(5);
    let open =
        tokio::time::timeout(none, Client::new(site.server.url()).get("box/none")).await.expect("an answer");
    assert_eq!(open.expect("an answer").status, 404, "there is still no key");
}
