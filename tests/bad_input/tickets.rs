//! Tickets: altered, truncated, for other keys, methods, volumes, clusters and times; replayed.

use std::time::Duration;

use reqwest::Method;
use shared::condition::WriteCondition;
use shared::ids::{ClusterId, VolumeId};
use shared::limits::{CLOCK_SKEW_MAX, TICKET_LIFETIME};
use shared::secret::ClusterSecret;
use shared::ticket::{Operation, Ticket};
use shared::wire::error::ErrorCode;
use shared::wire::master::StoredObject;
use tests::forge::Forge;
use tests::raw::{Raw, RawAnswer};

use super::Victim;

fn send(address: &str, method: &str, target: &str, body: &[u8]) -> RawAnswer {
    let mut raw = Raw::connect(address);
    raw.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    raw.send(body);
    raw.answer()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_no_service() {
    let victim = Victim::new().await;
    let volume = victim.cluster.volumes[0].address();
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"] {
        for target in ["/kept", "/kept?ticket=", "/kept?ticket=AAAA", "/kept?ticket=%00%ff", "/new"] {
            let mut raw = Raw::connect(volume);
            raw.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"));
            if method == "HEAD" {
                raw.close_writing();
                continue;
            }
            let answer = raw.answer();
            assert_eq!(
                (answer.status, answer.code()),
                (403, Some(ErrorCode::BadTicket)),
                "{method} {target}"
            );
        }
    }
    victim.unharmed("requests without a ticket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ticket_demands() {
    let victim = Victim::new().await;
    let client = victim.cluster.client();
    let (url, headers) = (client.url("k?redirect&length=3"), [("if-none-match", "*")]);
    let answer = client.once(Method::PUT, &url, &headers, Some(Vec::new())).await.unwrap();
    let forge = Forge::new(&victim.cluster).await;
    let ticket = forge.read_ticket(&answer.header("location").expect("a redirect"), "k");
    let Operation::Write(grant) = ticket.operation else { panic!("{ticket:?}") };
    assert_eq!((grant.wanted, grant.min_replicas, grant.chain.len()), (2, 2, 2));
    assert_eq!((grant.length, grant.condition), (Some(3), WriteCondition::Absent));
    assert!(!grant.internal_metadata, "it is for a client");
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_and_cut_tickets() {
    let victim = Victim::new().await;
    let mut forge = Forge::new(&victim.cluster).await;
    let volume = victim.cluster.volumes[0].address();
    let ticket = forge.write(&[0], Some(3));
    let good = forge.target(&ticket, "k");
    let (path, text) = good.split_once("?ticket=").unwrap();
    let mut bad = Vec::new();
    for at in (0..text.len()).step_by(text.len() / 24) {
        let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        bad.push(format!("{}{other}{}", &text[..at], &text[at + 1..]));
        bad.push(text[..at].to_owned());
    }
    bad.push(format!("{text}A"));
    bad.push(text.repeat(20));
    bad.push("A".repeat(5000));
    for ticket in bad {
        let answer = send(volume, "PUT", &format!("{path}?ticket={ticket}"), b"abc");
        assert_eq!(
            (answer.status, answer.code()),
            (403, Some(ErrorCode::BadTicket)),
            "{} characters",
            ticket.len()
        );
    }
    victim.unharmed("altered tickets").await;
    // The original is valid: only the alteration was refused.
    let answer = send(volume, "PUT", &good, b"abc");
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_for_something_else() {
    let victim = Victim::new().await;
    let mut forge = Forge::new(&victim.cluster).await;
    let volume = victim.cluster.volumes[0].address();
    let write = forge.write(&[0], Some(3));
    let read = forge.read(0, write.blob);
    let past = Forge::now().unix_ms() - u64::try_from((CLOCK_SKEW_MAX * 2).as_millis()).unwrap();
    let expired = Ticket { expires: shared::clock::Timestamp::from_unix_ms(past), ..write.clone() };
    let strange_cluster = Ticket { cluster: ClusterId::random(), ..write.clone() };
    let strange_volume = Ticket { operation: Operation::Read(VolumeId::random()), ..read.clone() };
    let other_place = forge.write(&[1], Some(3));
    let mut stranger = forge.clone();
    stranger.secret = ClusterSecret::from_bytes(b"another cluster's secret");
    let of_other_key = forge.target(&write, "other").replace("/other?", "/k?");
    let cases = [
        ("another key", "PUT", of_other_key, ErrorCode::BadTicket),
        ("reading with a write ticket", "GET", forge.target(&write, "k"), ErrorCode::BadTicket),
        ("writing with a read ticket", "PUT", forge.target(&read, "k"), ErrorCode::BadTicket),
        ("creating with a read ticket", "POST", forge.target(&read, "k"), ErrorCode::BadTicket),
        ("deleting with a write ticket", "DELETE", forge.target(&write, "k"), ErrorCode::MethodNotAllowed),
        ("expired", "PUT", forge.target(&expired, "k"), ErrorCode::TicketExpired),
        ("another cluster", "PUT", forge.target(&strange_cluster, "k"), ErrorCode::WrongCluster),
        ("another volume's chain", "PUT", forge.target(&other_place, "k"), ErrorCode::BadTicket),
        ("another volume's read", "GET", forge.target(&strange_volume, "k"), ErrorCode::BadTicket),
        ("another secret", "PUT", stranger.target(&write, "k"), ErrorCode::BadTicket),
    ];
    for (what, method, target, code) in cases {
        let answer = send(volume, method, &target, b"abc");
        assert_eq!(answer.code(), Some(code), "{what}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.status, code.status().as_u16(), "{what}");
        victim.unharmed(what).await;
    }
    assert!(TICKET_LIFETIME > CLOCK_SKEW_MAX + Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_length_than_the_tickets() {
    let victim = Victim::new().await;
    let mut forge = Forge::new(&victim.cluster).await;
    let volume = victim.cluster.volumes[0].address();
    for body in [&b""[..], b"abcd", b"ab"] {
        let ticket = forge.write(&[0, 1], Some(3));
        let answer = send(volume, "PUT", &forge.target(&ticket, "k"), body);
        assert_eq!((answer.status, answer.code()), (400, Some(ErrorCode::WrongLength)), "{body:?}");
        let ticket = forge.write(&[0, 1], Some(3));
        let mut raw = Raw::connect(volume);
        let target = forge.target(&ticket, "k");
        raw.send(format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
        let chunk = if body.is_empty() {
            String::new()
        } else {
            format!("{:x}\r\n{}\r\n", body.len(), String::from_utf8_lossy(body))
        };
        raw.send(format!("{chunk}0\r\n\r\n"));
        let answer = raw.answer();
        let code = answer.code();
        let said = String::from_utf8_lossy(&answer.body);
        assert!(
            matches!(code, Some(ErrorCode::WrongLength | ErrorCode::TooLarge)),
            "chunked {body:?}: {said}"
        );
        victim.unharmed("another length than the ticket's").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_used_once() {
    let victim = Victim::new().await;
    let mut forge = Forge::new(&victim.cluster).await;
    let client = victim.cluster.client();
    let volume = victim.cluster.volumes[0].address();
    let ticket = forge.write(&[0, 1], Some(3));
    let target = forge.target(&ticket, "k");
    let first = send(volume, "PUT", &target, b"abc");
    assert_eq!(first.status, 201, "{}", String::from_utf8_lossy(&first.body));
    let stored: StoredObject = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(stored.generation, ticket.blob);
    let held = victim.cluster.footprint().await;
    let refused = |when: &str| {
        for body in [b"abc", b"xyz"] {
            let again = send(volume, "PUT", &target, body);
            assert_eq!((again.status, again.code()), (409, Some(ErrorCode::TicketUsed)), "{when}");
        }
    };
    refused("after success");
    victim.cluster.back_to(&held, "a ticket used again").await;
    assert_eq!(client.get("k").await.unwrap().body, b"abc");
    assert_eq!(client.delete("k").await.unwrap().status, 200);
    victim.unharmed("deleting").await;
    refused("after the value was deleted");
    victim.unharmed("a ticket used again after its value was deleted").await;
    assert_eq!(client.get("k").await.unwrap().status, 404, "a deleted value does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_stays_used_after_a_restart() {
    let mut victim = Victim::new().await;
    let mut forge = Forge::new(&victim.cluster).await;
    let ticket = forge.write(&[0, 1], Some(3));
    let target = forge.target(&ticket, "k");
    assert_eq!(send(victim.cluster.volumes[0].address(), "PUT", &target, b"abc").status, 201);
    assert_eq!(victim.cluster.client().delete("k").await.unwrap().status, 200);
    victim.unharmed("deleting").await;
    for volume in &mut victim.cluster.volumes {
        volume.kill().await;
        volume.restart().await.unwrap();
    }
    victim.cluster.settled().await;
    let again = send(victim.cluster.volumes[0].address(), "PUT", &target, b"abc");
    let said = String::from_utf8_lossy(&again.body).into_owned();
    assert_eq!((again.status, again.code()), (409, Some(ErrorCode::TicketUsed)), "{said}");
    assert_eq!(
        victim.cluster.client().get("k").await.unwrap().status,
        404,
        "a deleted value does not come back"
    );
}
