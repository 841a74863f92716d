//! Where a body ends, and whether two servers could ever disagree about it (request smuggling).

use shared::wire::error::ErrorCode;
use tests::forge::Forge;
use tests::raw::{Raw, RawAnswer};

use super::Victim;

fn ask(address: &str, request: &str) -> RawAnswer {
    let mut raw = Raw::connect(address);
    raw.send(request);
    raw.answer()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_a_length() {
    let victim = Victim::new().await;
    for method in ["PUT", "POST"] {
        let answer =
            ask(victim.cluster.master.address(), &format!("{method} /k HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!((answer.status, answer.code()), (411, Some(ErrorCode::LengthRequired)));
    }
    let mut forge = Forge::new(&victim.cluster).await;
    let ticket = forge.write(&[0], None);
    let request = format!("PUT {} HTTP/1.1\r\nHost: localhost\r\n\r\n", forge.target(&ticket, "k"));
    let answer = ask(victim.cluster.volumes[0].address(), &request);
    assert_eq!((answer.status, answer.code()), (411, Some(ErrorCode::LengthRequired)));
    victim.unharmed("uploads without a length").await;
}

/// A request cut short by closing the sending side or the whole connection, at the master and at a volume.
async fn cut(head: &str, body: &[u8], what: &str) {
    let victim = Victim::new().await;
    let mut forge = Forge::new(&victim.cluster).await;
    for place in ["master", "volume"] {
        for half in [true, false] {
            let (address, target) = if place == "master" {
                (victim.cluster.master.address(), "/k".to_owned())
            } else {
                let ticket = forge.write(&[0, 1], None);
                (victim.cluster.volumes[0].address(), forge.target(&ticket, "k"))
            };
            let mut raw = Raw::connect(address);
            raw.send(format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n"));
            raw.send(body);
            if half {
                raw.close_writing();
                let answer = raw.answer();
                assert!([400, 0].contains(&answer.status), "{what} at the {place}: {}", answer.status);
                let code = answer.code();
                assert!(code.is_none_or(|c| c == ErrorCode::WrongLength), "{what} at the {place}: {code:?}");
            }
            drop(raw);
            let what = format!("{what} at the {place}, {}", if half { "half closed" } else { "closed" });
            victim.unharmed(&what).await;
            let left = victim.cluster.client().get("k").await.expect("the server is alive");
            assert_eq!(left.status, 404, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_shorter_than_its_content_length() {
    cut("Content-Length: 3000000", &vec![7; 2_500_000], "a short body").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_at_all_where_one_was_announced() {
    cut("Content-Length: 1", b"", "a missing body").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_without_its_last_chunk() {
    let chunk = format!("{:x}\r\n{}\r\n", 2_000_000, "c".repeat(2_000_000));
    cut("Transfer-Encoding: chunked", chunk.as_bytes(), "a chunked body without its end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_cut_inside_a_chunk() {
    let chunk = format!("{:x}\r\n{}", 2_000_000, "c".repeat(1_000_000));
    cut("Transfer-Encoding: chunked", chunk.as_bytes(), "a chunk cut off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_not_as_long_as_it_says() {
    cut("Transfer-Encoding: chunked", b"5\r\nabcdefgh\r\n0\r\n\r\n", "a chunk of another length").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_size_that_is_no_number() {
    cut("Transfer-Encoding: chunked", b"xyz\r\nabc\r\n0\r\n\r\n", "a chunk size that is not a number").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_size_beyond_all_numbers() {
    cut("Transfer-Encoding: chunked", b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "a chunk size too large")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lengths_and_other_smuggling() {
    let victim = Victim::new().await;
    let hidden = "GET /_/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let n = hidden.len();
    let heads = [
        format!("Content-Length: 0\r\nContent-Length: {n}\r\n\r\n{hidden}"),
        format!("Content-Length: 0, {n}\r\n\r\n{hidden}"),
        format!("Content-Length: +{n}\r\n\r\n{hidden}"),
        format!("Content-Length: -1\r\n\r\n{hidden}"),
        format!("Content-Length: 0x10\r\n\r\n{hidden}"),
        format!("Content-Length: 99999999999999999999\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: gzip\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("X: y\r\n Content-Length: {n}\r\n\r\n{hidden}"),
    ];
    for head in heads {
        for (name, address) in
            [("master", victim.cluster.master.address()), ("volume", victim.cluster.volumes[0].address())]
        {
            let mut raw = Raw::connect(address);
            raw.send(format!("PUT /k HTTP/1.1\r\nHost: localhost\r\n{head}"));
            raw.close_writing();
            let first = raw.answer();
            assert!([0, 400, 403, 411, 501].contains(&first.status), "{name}, {head}: {}", first.status);
            let second = raw.answer();
            assert_ne!(second.status, 200, "{name} took a hidden request for one of its own: {head}");
        }
        victim.unharmed(&head).await;
        assert_eq!(victim.cluster.client().get("k").await.unwrap().status, 404, "{head}");
    }
}

/// RFC 9112 §6.3 lets a server decode the chunks if it closes the connection afterwards. hyper removes the
/// length before our code sees it and does that.
#[tokio::test(flavor = "multi_thread")]
async fn both_framings_at_once_never_let_a_second_request_through() {
    let victim = Victim::new().await;
    let hidden = "GET /_/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (name, address) in
        [("master", victim.cluster.master.address()), ("volume", victim.cluster.volumes[0].address())]
    {
        for framing in [
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked", hidden.len() + 5),
            format!("Transfer-Encoding: chunked\r\nContent-Length: {}", hidden.len() + 5),
        ] {
            let mut raw = Raw::connect(address);
            raw.send(format!("PUT /k HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n0\r\n\r\n{hidden}"));
            raw.close_writing();
            let (first, second) = (raw.answer(), raw.answer());
            assert_eq!(
                second.status, 0,
                "{name}: after {} to {framing} a second request was answered",
                first.status
            );
            if first.status == 201 {
                assert_eq!(victim.cluster.client().delete("k").await.unwrap().status, 200);
            } else {
                assert!([400, 403].contains(&first.status), "{name}: {} to {framing}", first.status);
            }
        }
    }
    victim.unharmed("both framings at once").await;
}

/// hyper decodes chunks and nothing else: any other coding would be stored as sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_another_transfer_coding_is_refused() {
    let victim = Victim::new().await;
    let mut forge = Forge::new(&victim.cluster).await;
    let ticket = forge.write(&[0], None);
    let target = forge.target(&ticket, "k");
    let (master, volume) = (victim.cluster.master.address(), victim.cluster.volumes[0].address());
    for (address, target) in [(master, "/k"), (volume, target.as_str())] {
        for codings in [
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: identity, CHUNKED",
        ] {
            let mut raw = Raw::connect(address);
            raw.send(format!(
                "PUT {target} HTTP/1.1\r\nHost: localhost\r\n{codings}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ));
            let answer = raw.answer();
            assert_eq!((answer.status, answer.header("connection")), (501, Some("close")), "{codings}");
            assert_eq!(answer.code(), Some(ErrorCode::NotImplemented), "{codings}");
        }
    }
    let plain = "PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(ask(master, &plain.replace("Host: x", "Host: localhost")).status, 201);
    assert_eq!(victim.cluster.client().delete("k").await.unwrap().status, 200);
    victim.unharmed("other transfer codings").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_asterisk_is_no_key() {
    let victim = Victim::new().await;
    let master = victim.cluster.master.address();
    for method in ["PUT", "POST", "GET", "DELETE"] {
        let request = format!("{method} * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
        let answer = ask(master, &request);
        assert_eq!((answer.status, answer.code()), (400, Some(ErrorCode::BadRequest)), "{method}");
    }
    // As a key it is sent with a leading slash, like all others.
    let client = victim.cluster.client();
    assert_eq!(client.put("*", b"star".to_vec()).await.unwrap().status, 201);
    assert_eq!(client.delete("*").await.unwrap().status, 200);
    victim.unharmed("asterisks").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_lengths_twice_are_one() {
    let victim = Victim::new().await;
    let request = "PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc";
    let answer = ask(victim.cluster.master.address(), request);
    // RFC 9110 §8.6: accepted as one length, or refused; nothing else.
    assert!([201, 400].contains(&answer.status), "{}", answer.status);
    let got = victim.cluster.client().get("k").await.unwrap();
    assert_eq!((got.status == 200 && got.body == b"abc"), answer.status == 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_versions_and_pipelines() {
    let victim = Victim::new().await;
    for address in [victim.cluster.master.address(), victim.cluster.volumes[0].address()] {
        let hosts = [
            ("", 400),
            ("Host: a\r\nHost: localhost\r\n", 400),
            ("Host: a\r\nHost: a\r\n", 400),
            ("Host: a\r\n", 200),
        ];
        for (host, status) in hosts {
            let answer = ask(address, &format!("GET /_/health HTTP/1.1\r\n{host}\r\n"));
            assert_eq!(answer.status, status, "{host}");
            assert!(status == 200 || answer.code() == Some(ErrorCode::BadHeader), "{host}");
        }
        assert_eq!(ask(address, "GET /_/health HTTP/1.0\r\n\r\n").status, 200);
        let nonsense = ask(address, "GET /_/health HTTP/9.9\r\nHost: localhost\r\n\r\n");
        assert!([0, 400, 505].contains(&nonsense.status), "{}", nonsense.status);
    }
    let mut raw = Raw::connect(victim.cluster.master.address());
    let put = "PUT /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\none";
    let get = "GET /p?stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let delete = "DELETE /p HTTP/1.1\r\nHost: localhost\r\n\r\n";
    raw.send([put, get, delete, get].concat());
    let statuses: Vec<u16> = (0..4).map(|_| raw.answer().status).collect();
    assert_eq!(statuses, [201, 200, 200, 404], "answers in the order of the requests");
    let old = "PUT /old HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(ask(victim.cluster.master.address(), old).status, 201);
    assert_eq!(victim.cluster.client().get("old").await.unwrap().body, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_block_too_large() {
    let victim = Victim::new().await;
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let large = format!("X: {}\r\n", "y".repeat(400_000));
    for (name, extra) in [("too many headers", &many), ("a header too long", &large)] {
        for address in [victim.cluster.master.address(), victim.cluster.volumes[0].address()] {
            let request = format!("PUT /k HTTP/1.1\r\nHost: localhost\r\n{extra}Content-Length: 1\r\n\r\nx");
            let answer = ask(address, &request);
            assert!([0, 400, 431].contains(&answer.status), "{name}: {}", answer.status);
        }
        victim.unharmed(name).await;
    }
    let metadata = format!("Barge-Meta-A: {}\r\n", "m".repeat(9000));
    let request = format!("PUT /k HTTP/1.1\r\nHost: localhost\r\n{metadata}Content-Length: 1\r\n\r\nx");
    let answer = ask(victim.cluster.master.address(), &request);
    assert_eq!((answer.status, answer.code()), (400, Some(ErrorCode::BadHeader)));
    victim.unharmed("metadata too large").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_harm_nobody_else() {
    others_work_beside(200, "GET /k HTT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_uploads_harm_nobody_else() {
    // More than a volume has write buffers, fewer than it has append lanes.
    let idle = shared::limits::WRITE_BUFFERS * 4;
    assert!(idle < shared::limits::LANES_MAX);
    let begun =
        format!("PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n{}", "x".repeat(40_000));
    others_work_beside(idle, &begun).await;
}

/// Others are served at their usual speed while this many connections have sent no more than `begun`.
async fn others_work_beside(connections: usize, begun: &str) {
    let victim = Victim::new().await;
    let mut slow = Vec::new();
    for _ in 0..connections {
        let mut raw = Raw::connect(victim.cluster.master.address());
        raw.send(begun);
        slow.push(raw);
    }
    let client = victim.cluster.client();
    let started = std::time::Instant::now();
    for n in 0..10 {
        let put = client.put(&format!("fast{n}"), tests::value(n, 200_000)).await.expect("an answer");
        assert_eq!(put.status, 201, "{}", put.text());
        assert!(client.get(&format!("fast{n}")).await.expect("an answer").body == tests::value(n, 200_000));
        assert_eq!(client.delete(&format!("fast{n}")).await.expect("an answer").status, 200);
    }
    assert!(started.elapsed().as_secs() < 20, "other clients were delayed: {:?}", started.elapsed());
    drop(slow);
    victim.unharmed("slow clients").await;
}

/// An unsigned message is refused by its head alone, however large its body would be.
#[tokio::test(flavor = "multi_thread")]
async fn unsigned_messages_are_refused_before_their_bodies() {
    let victim = Victim::new().await;
    let forge = Forge::new(&victim.cluster).await;
    let signature = forge.sign(victim.cluster.master.address(), "/_/raft/append", b"another body");
    for signature in ["", &format!("Barge-Signature: {signature}\r\n")] {
        let mut raw = Raw::connect(victim.cluster.master.address());
        raw.send(format!(
            "POST /_/raft/append HTTP/1.1\r\nHost: localhost\r\n{signature}Content-Length: 1000000\r\n\r\n"
        ));
        raw.send(vec![7; if signature.is_empty() { 1000 } else { 1_000_000 }]);
        let answer = raw.answer();
        assert_eq!((answer.status, answer.code()), (403, Some(ErrorCode::NotSigned)));
    }
    victim.unharmed("unsigned messages").await;
}
