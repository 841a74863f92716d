//! Failover under load: how long until writes continue, and what happens to uploads in progress.

use std::time::{Duration, Instant};

use futures_util::stream;
use shared::digest::Digest;
use shared::wire::error::ErrorCode;
use tests::cluster::SETTLED;
use tests::wait::moment;
use tests::{Client, Cluster, Options, eventually, say, value};

use super::writers::{Writers, all_there};

const ROUNDS: usize = 5;
const RESTARTS: u64 = 5;
const WRITERS: usize = 8;
/// The promised time; printed beside the figures, because a timed test must not be flaky.
const BAR: Duration = Duration::from_secs(3);
/// The limit on any machine.
const LIMIT: Duration = SETTLED;
/// A slow upload, in pieces.
const PIECES: u64 = 20;
const PIECE_BYTES: usize = 20_000;
const PIECE_EVERY: Duration = Duration::from_millis(100);

async fn three_masters(name: &str) -> Cluster {
    Cluster::start(name, Options { masters: 3, volumes: 2, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_writes_go_on_when_the_leader_dies() {
    let mut cluster = three_masters("masters_failover").await;
    let writers = Writers::start(WRITERS, &cluster);
    writers.more(100).await;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let leader = cluster.leader().await.expect("a leader");
        let before = writers.troubles();
        let killed = Instant::now();
        cluster.master_mut(leader).kill().await;
        let first = writers.first_after(killed, LIMIT).await;
        took.push(first.ended - killed);
        // Writes in progress when the leader died have ended by now or end soon.
        writers.more(50).await;
        let after = writers.troubles();
        say(format_args!(
            "round {round}: {:?} until the next acknowledged write; {} writes failed, {} unknown",
            first.ended - killed,
            after.0 - before.0,
            after.1 - before.1
        ));
        cluster.master_mut(leader).restart().await.expect("the master restarts");
        cluster.settled().await;
    }
    took.sort();
    say(format_args!("median {:?}, maximum {:?}; the bar is {BAR:?}", took[ROUNDS / 2], took[ROUNDS - 1]));
    let acks = writers.stop().await;
    all_there(&cluster.client(), &acks).await;
    cluster.assert_no_secrets_in_logs();
}

/// A leader that restarts before it is missed knows less than before: its tables as of the last checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_a_leader_that_is_back_at_once_reads_nothing_old() {
    let mut cluster = three_masters("masters_back_at_once").await;
    for round in 0..RESTARTS {
        let leader = cluster.leader().await.expect("a leader");
        let client = Client::new(cluster.masters().nth(leader).expect("three").url());
        for n in 0..20 {
            let put = client.put("k", value(round * 100 + n, 1000)).await.expect("an answer");
            assert!(put.is_success(), "{}", put.text());
        }
        cluster.master_mut(leader).kill().await;
        cluster.master_mut(leader).restart().await.expect("the master restarts");
        let head = eventually(LIMIT, "an answer", async || {
            let head = client.send(reqwest::Method::HEAD, "k", &[], None).await.ok()?;
            (head.status != 503).then_some(head)
        })
        .await;
        let newest = Digest::of(&value(round * 100 + 19, 1000)).etag();
        assert_eq!(head.header("etag"), Some(newest), "round {round}: an older value, or none: {head:?}");
        cluster.settled().await;
    }
}

/// A body that is sent slowly.
fn slowly(bytes: &[u8]) -> reqwest::Body {
    let pieces: Vec<Vec<u8>> = bytes.chunks(PIECE_BYTES).map(<[u8]>::to_vec).collect();
    reqwest::Body::wrap_stream(stream::unfold(pieces.into_iter(), |mut pieces| async {
        moment(PIECE_EVERY).await;
        let piece = pieces.next()?;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    }))
}

/// Sends `bytes` slowly to `url`. Returns status and code, or `None` if the connection broke.
async fn upload(client: &Client, url: String, bytes: Vec<u8>) -> Option<(u16, Option<ErrorCode>)> {
    let length = bytes.len();
    let put = client.http().put(url).header("content-length", length).body(slowly(&bytes));
    let answer = put.send().await.ok()?;
    let status = answer.status().as_u16();
    let text = answer.bytes().await.ok()?;
    let code = serde_json::from_slice::<shared::wire::error::ErrorBody>(&text).ok().map(|b| b.error.code);
    Some((status, code))
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_uploads_outlive_the_leader() {
    let mut cluster = three_masters("masters_uploads").await;
    for round in 0..3 {
        let leader = cluster.leader().await.expect("a leader");
        let masters: Vec<Client> = cluster.masters().map(|s| Client::new(s.url())).collect();
        let (led, follower) = (masters[leader].clone(), masters[(leader + 1) % 3].clone());
        let bytes = |way: u64| value(round * 10 + way, usize::try_from(PIECES).expect("small") * PIECE_BYTES);
        let asked = led
            .once(reqwest::Method::PUT, &led.url("redirected?redirect&length=400000"), &[], Some(vec![]))
            .await;
        let location = asked.expect("an answer").header("location").expect("a redirect to a volume");
        let uploads = async {
            tokio::join!(
                upload(&led, location, bytes(1)),
                upload(&follower, follower.url("streamed"), bytes(2)),
                upload(&led, led.url("through-the-leader"), bytes(3)),
            )
        };
        let kill = async {
            moment(PIECE_EVERY * u32::try_from(PIECES / 2).expect("small")).await;
            cluster.master_mut(leader).kill().await;
        };
        let ((redirected, streamed, through), ()) = tokio::join!(uploads, kill);
        say(format_args!(
            "round {round}: redirected {redirected:?}, streamed by a follower {streamed:?}, by the leader {through:?}"
        ));
        for (name, outcome) in [("redirected", redirected), ("streamed", streamed)] {
            let right = matches!(outcome, Some((200 | 201, _) | (503, Some(ErrorCode::OutcomeUnknown))));
            assert!(right, "{name}: {outcome:?}");
        }
        assert!(through.is_none(), "the leader was killed in the middle of it: {through:?}");
        for (way, name) in (1..).zip(["redirected", "streamed", "through-the-leader"]) {
            let again = follower.put(name, bytes(way)).await.expect("an answer");
            assert!(again.is_success(), "a retry is harmless: {}", again.text());
            let got = follower.get(name).await.expect("an answer");
            assert!(got.body == bytes(way), "{name}: other bytes");
        }
        cluster.master_mut(leader).restart().await.expect("the master restarts");
        cluster.settled().await;
    }
}
