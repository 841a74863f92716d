//! The end of a connection over TLS: a client that reads to the end gets a close_notify, so nothing was cut off.

use std::io::{Read, Write};
use std::net::TcpStream;

use tests::Server;

use super::{Site, UP};

/// Sends these bytes and reads to the end of the connection; returns what arrived and whether the end was announced.
fn to_the_end(site: &Site, server: &Server, sent: &[u8], ending: impl FnOnce()) -> (String, bool) {
    let name = "localhost".try_into().expect("a name");
    let tls = rustls::ClientConnection::new(site.trust().config(), name).expect("a client");
    let tcp = TcpStream::connect(server.address()).expect("it listens");
    tcp.set_read_timeout(Some(UP)).expect("a read timeout");
    let mut stream = rustls::StreamOwned::new(tls, tcp);
    stream.write_all(sent).expect("a connection");
    let mut came = Vec::new();
    let mut byte = [0];
    // The head of the first answer, so that the end comes after it.
    while !came.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        came.push(byte[0]);
    }
    ending();
    let clean = stream.read_to_end(&mut came).is_ok();
    (String::from_utf8_lossy(&came).into_owned(), clean)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connection_is_said() {
    let site = Site::new("tls_end");
    let (master, volumes) = site.cluster().await;
    for server in [&master, &volumes[0]] {
        let asked = "GET /_/health HTTP/1.1\r\nHost: localhost\r\n";
        let closed = format!("{asked}Connection: close\r\n\r\n");
        // An invalid request is answered and ends the connection.
        let nonsense = format!("{asked}\r\nnonsense\r\n\r\n");
        for sent in [&closed, &nonsense, "nonsense\r\n\r\n"] {
            let (came, clean) = to_the_end(&site, server, sent.as_bytes(), || ());
            assert!(came.starts_with("HTTP/1.1 ") && clean, "{sent:?}: {came}");
        }
    }
    // Idle connections are closed after a while, and so are those that never send a request.
    let idle = b"GET /_/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let half = b"GET /_/health HTTP/1.1\r\n";
    std::thread::scope(|scope| {
        for sent in [&idle[..], half, b""] {
            let (site, master) = (&site, &master);
            scope.spawn(move || {
                let (came, clean) = to_the_end(site, master, sent, || ());
                assert!(clean, "{:?}: {came}", String::from_utf8_lossy(sent));
            });
        }
    });
    // A connection that is idle when the server ends.
    let (came, clean) = to_the_end(&site, &volumes[0], idle, || volumes[0].ask_to_end());
    assert!(came.starts_with("HTTP/1.1 200") && clean, "{came}");
}
