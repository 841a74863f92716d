//! A server without the secret in the place of a real one, on plain HTTP: its answers are not believed, and what it
//! has received is of no use to it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use shared::call::CallSignature;
use shared::secret::ClusterSecret;
use shared::wire::error::ErrorCode;
use shared::wire::master::{ClusterStatus, VolumeState};
use shared::wire::routes::{HEARTBEAT, IDENTIFY, MODES, RECIPIENT, STATUS};
use shared::wire::volume::VolumeStatus;
use tests::cluster::{SETTLED, add, shown};
use tests::forge::Forge;
use tests::place::Place;
use tests::{Client, Folder, Server, Spec, eventually, value};

use super::Victim;
use super::calls::call;

/// Returns status and body of the answer to a request with that method and path.
type Says = dyn Fn(&str, &str) -> (u16, Vec<u8>) + Send + Sync;

struct Rogue {
    says: Box<Says>,
    heard: Mutex<Vec<String>>,
    calls: AtomicUsize,
}

impl Rogue {
    fn listen(
        listener: TcpListener,
        says: impl Fn(&str, &str) -> (u16, Vec<u8>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (heard, calls) = (Mutex::default(), AtomicUsize::new(0));
        let rogue = Arc::new(Self { says: Box::new(says), heard, calls });
        let serving = Arc::clone(&rogue);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let rogue = Arc::clone(&serving);
                std::thread::spawn(move || rogue.serve(stream));
            }
        });
        rogue
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let mut piece = vec![0; 64 << 10];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            bytes.extend_from_slice(&piece[..n]);
            let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if bytes.len() < end + 4 + length.unwrap_or(0) {
                continue;
            }
            bytes.clear();
            let mut words = head.split([' ', '?']);
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            self.heard.lock().expect("nobody panicked").push(format!("{method} {path}"));
            self.calls.fetch_add(1, Ordering::SeqCst);
            let (status, body) = (self.says)(method, path);
            let head = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    }

    /// Returns how often a path was requested.
    fn asked(&self, what: &str) -> usize {
        self.heard.lock().expect("nobody panicked").iter().filter(|line| *line == what).count()
    }
}

/// Binds a port that another server has just left.
async fn port_of(address: &str) -> TcpListener {
    eventually(SETTLED, "the port is free", async || TcpListener::bind(address).ok()).await
}

async fn start(folder: &Folder, mut spec: Spec) -> Server {
    add(&mut spec, "--secret-file", folder.join("secret"));
    Place::default().start(&spec, folder.path()).await
}

fn secret(folder: &Folder) -> ClusterSecret {
    ClusterSecret::read(&folder.join("secret")).expect("the test's own secret")
}

async fn state(master: &Client) -> Option<VolumeState> {
    let status: ClusterStatus = master.json("/_/status").await?;
    status.volumes.first().map(|v| v.state)
}

/// It holds the port of a registered volume, knows its id, and claims that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_volume_is_not_believed() {
    let folder = Folder::new("false-volume");
    let mut volume = start(&folder, Spec::new("volume1", "volume", [folder.join("volume1")])).await;
    let list = [volume.address().to_owned().into(), folder.join("master")];
    let mut spec = Spec::new("master", "master", list);
    add(&mut spec, "--replicas", "1");
    let master = start(&folder, spec).await;
    let client = Client::new(master.url());
    eventually(SETTLED, "the volume is up", async || {
        (state(&client).await? == VolumeState::Up).then_some(())
    })
    .await;
    let bytes = value(1, 100_000);
    assert_eq!(client.put("kept", bytes.clone()).await.expect("an answer").status, 201);
    let stolen: VolumeStatus = shown(volume.url(), STATUS, &secret(&folder)).await.expect("its status");
    let report = serde_json::to_vec(&stolen.report).expect("JSON");
    let address = volume.address().to_owned();
    volume.kill().await;
    let receipts = serde_json::json!({ "receipts": ["AAAA"], "blake3": "00".repeat(32) });
    let stored = receipts.to_string().into_bytes();
    let rogue = Rogue::listen(port_of(&address).await, move |method, path| match (method, path) {
        ("POST", IDENTIFY) => (200, report.clone()),
        ("POST", RECIPIENT) => (200, b"null\n".to_vec()),
        ("PUT" | "POST", _) => (201, stored.clone()),
        _ => (200, vec![b'f'; 100_000]),
    });
    // The master has not noticed yet that the volume is down.
    for n in 0..4 {
        let put = client.put(&format!("lost{n}?stream"), value(n, 50_000)).await.expect("an answer");
        assert!(!put.is_success(), "acknowledged, but stored nowhere: {}", put.text());
        let got = client.get_streamed("kept").await.expect("an answer");
        assert!(!got.is_success() || got.body == bytes, "forged bytes were passed on");
    }
    eventually(SETTLED, "it was asked repeatedly", async || {
        (rogue.asked("POST /_/identify") > 3).then_some(())
    })
    .await;
    eventually(SETTLED, "the volume is down", async || {
        (state(&client).await? != VolumeState::Up).then_some(())
    })
    .await;
    assert!(rogue.asked("GET /kept") > 0, "{:?}", rogue.heard.lock().expect("nobody panicked"));
    assert!(master.log().contains("no server of this cluster signed"), "the log says so");
    drop(rogue);
}

/// It answers where a volume looks for its master, and asks the volume to join its cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_master_is_not_believed() {
    let folder = Folder::new("false-master");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let joined = serde_json::json!({ "cluster": "00000000000000000000000000000001", "masters": [url] });
    let rogue = Rogue::listen(listener, move |_, _| (200, joined.to_string().into_bytes()));
    let mut spec = Spec::new("volume1", "volume", [folder.join("volume1")]);
    add(&mut spec, "--master", &url);
    let volume = start(&folder, spec).await;
    eventually(SETTLED, "the volume has called", async || {
        (rogue.calls.load(Ordering::SeqCst) > 3).then_some(())
    })
    .await;
    let status: VolumeStatus = shown(volume.url(), STATUS, &secret(&folder)).await.expect("its status");
    assert_eq!(status.report.cluster, None, "it joined a cluster that does not know its secret");
    assert_eq!(rogue.asked(&format!("POST {HEARTBEAT}")), 0, "nothing is told to an unverified master");
}

/// It has heard a call, and replays it: to the same server and to others.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_good_once_and_for_its_recipient() {
    let victim = Victim::new().await;
    let forge = Forge::new(&victim.cluster).await;
    let (master, volume) = (victim.cluster.master.address(), victim.cluster.volumes[0].address());
    let heard = forge.sign(master, MODES, b"null");
    assert_eq!(call(master, MODES, Some(&heard), b"null").status, 200);
    for _ in 0..2 {
        let again = call(master, MODES, Some(&heard), b"null");
        assert_eq!((again.status, again.code()), (403, Some(ErrorCode::NotSigned)));
        assert!(String::from_utf8_lossy(&again.body).contains("received before"), "{again:?}");
    }
    let elsewhere = call(volume, MODES, Some(&heard), b"null");
    assert_eq!((elsewhere.status, elsewhere.code()), (421, Some(ErrorCode::WrongRecipient)));
    let of_any =
        CallSignature::new(&forge.secret, shared::call::Recipient::ANY, "POST", MODES, b"null", Forge::now());
    assert_eq!(call(master, MODES, Some(&of_any.to_string()), b"null").status, 421, "a read-only call");
    let metrics = victim.cluster.client().get_text("/_/metrics").await.expect("metrics");
    assert!(metrics.contains("barge_calls_refused_total{reason=\"replayed\"} 2"), "{metrics}");
    victim.unharmed("replayed calls").await;
}
