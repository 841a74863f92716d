//! Real volumes, a scripted master, and sources with scripted faults.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::clock::{Clock, Timestamp};
use shared::digest::Digest;
use shared::http::body::{self, Body};
use shared::http::client::{CallError, PeerClient};
use shared::http::serve::{Context, Service, run};
use shared::http::signed_calls::{CallVerifier, read_signed};
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::secret::ClusterSecret;
use shared::telemetry::{HttpMetrics, Metrics};
use shared::ticket::{ChainLink, Operation, Receipt, Ticket, WriteGrant};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{HeartbeatResponse, ReplicaSourcesRequest, ReplicaSourcesResponse};
use shared::wire::replicas::{
    AddReplicaRequest, AddReplicaResponse, BlobLocation, LocateRequest, LocateResponse,
};
use shared::wire::routes::{ADD_REPLICA, CHAIN_HEADER, DELETE, HEARTBEAT, LOCATE, REPLICA_SOURCES, TICKET};
use shared::wire::volume::{DeleteRequest, DeleteResponse, VolumeReport};
use shared::work::{Shutdown, ShutdownTrigger};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use volume::Config;

pub const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(b"the secret of this test")
}

pub fn key() -> Key {
    Key::new("bucket/some/key").unwrap()
}

pub fn blob() -> BlobId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let ms = Clock::System.now().unix_ms() + LAST.fetch_add(1, Ordering::Relaxed);
    BlobId::next(None, Timestamp::from_unix_ms(ms), [9; 10])
}

pub fn value(length: usize, seed: u64) -> Bytes {
    let mut out = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out.into()
}

/// A point at which a task waits until the test opens it.
#[derive(Debug)]
pub struct Gate {
    came: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { came: Semaphore::new(0), open: Semaphore::new(0) })
    }
    pub async fn pass(&self) {
        self.came.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }
    pub async fn reached(&self) {
        within(self.came.acquire()).await.unwrap().forget();
    }
    pub fn let_go(&self) {
        self.open.add_permits(1);
    }
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub async fn serve(service: Arc<impl Service>) -> (String, ShutdownTrigger) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (trigger, shutdown) = Shutdown::new();
    tokio::spawn(run(listener, None, service, HttpMetrics::new(&Metrics::default()), shutdown));
    (address, trigger)
}

/// The master's answer about a blob.
#[derive(Clone, Debug)]
pub struct Known {
    pub length: u64,
    pub digest: Digest,
    pub sources: Vec<String>,
    /// From this question on, counted from 0, the blob is no longer expected.
    pub forgotten_from: usize,
    /// This question waits at the gate.
    pub held: Option<(usize, Arc<Gate>)>,
    /// Questions so far.
    pub asked: usize,
}

impl Known {
    pub fn new(value: &[u8], sources: Vec<String>) -> Self {
        let (length, digest) = (value.len() as u64, Digest::of(value));
        Self { length, digest, sources, forgotten_from: usize::MAX, held: None, asked: 0 }
    }
}

struct Master {
    calls: Arc<CallVerifier>,
    cluster: ClusterId,
    known: Mutex<BTreeMap<BlobId, Known>>,
    joined: watch::Sender<BTreeMap<String, VolumeId>>,
}

impl Service for Master {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        self.calls.serve(request, context, |request| self.answer(request)).await
    }
}

impl Master {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
        match request.uri().path() {
            HEARTBEAT => {
                let report: VolumeReport = read_signed(request).await?;
                if report.cluster.is_some() {
                    self.joined.send_modify(|all| {
                        all.insert(report.address, report.volume);
                    });
                }
                let answer = HeartbeatResponse { cluster: self.cluster, masters: Vec::new() };
                Ok(body::json(StatusCode::OK, &answer))
            }
            REPLICA_SOURCES => {
                let question: ReplicaSourcesRequest = read_signed(request).await?;
                let known = self.known.lock().unwrap().get_mut(&question.blob).map(|known| {
                    known.asked += 1;
                    (known.asked - 1, known.clone())
                });
                if let Some((number, Known { held: Some((at, gate)), .. })) = &known
                    && number == at
                {
                    gate.pass().await;
                }
                let known = known.filter(|(number, known)| *number < known.forgotten_from);
                let refused = || ErrorReply::new(ErrorCode::NotFound, "no value refers to it", "");
                let (_, known) = known.ok_or_else(refused)?;
                let answer = ReplicaSourcesResponse {
                    key: key(),
                    length: known.length,
                    blake3: known.digest,
                    content_type: Some("text/plain".into()),
                    metadata: Vec::new(),
                    sources: known.sources,
                };
                Ok(body::json(StatusCode::OK, &answer))
            }
            _ => Err(ErrorReply::new(ErrorCode::NoSuchRoute, "not here", "")),
        }
    }
}

pub struct Volume {
    pub folder: TempDir,
    pub address: String,
    pub id: VolumeId,
    _trigger: ShutdownTrigger,
}

/// A master and its volumes.
pub struct Site {
    pub cluster: ClusterId,
    pub peers: PeerClient,
    master: Arc<Master>,
    address: String,
    _trigger: ShutdownTrigger,
}

impl Site {
    pub async fn new() -> Self {
        let cluster = ClusterId::random();
        let master = Arc::new(Master {
            calls: CallVerifier::new(secret(), Clock::System, &Metrics::default()),
            cluster,
            known: Mutex::default(),
            joined: watch::Sender::new(BTreeMap::new()),
        });
        let (address, trigger) = serve(Arc::clone(&master)).await;
        let peers = PeerClient::new(secret(), Clock::System);
        Self { cluster, peers, master, address, _trigger: trigger }
    }

    /// Starts a volume and waits until it belongs to the cluster.
    pub async fn volume(&self) -> Volume {
        self.volume_with(|_| {}).await
    }

    pub async fn volume_with(&self, set: impl FnOnce(&mut Config)) -> Volume {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config = Config::new(folder.path().to_owned(), secret());
        config.masters = vec![self.address.clone()];
        set(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (trigger, shutdown) = Shutdown::new();
        tokio::spawn(Box::pin(volume::run(config, listener, shutdown)));
        let mut joined = self.master.joined.subscribe();
        let id = within(joined.wait_for(|all| all.contains_key(&address))).await.unwrap()[&address];
        Volume { folder, address, id, _trigger: trigger }
    }

    /// Sets the master's answer.
    pub fn tell(&self, blob: BlobId, known: Known) {
        self.master.known.lock().unwrap().insert(blob, known);
    }

    /// Stores a value on one volume, unknown to the master.
    pub async fn put(&self, volume: &Volume, blob: BlobId, value: &Bytes) {
        self.put_saying(volume, blob, value, false, &[]).await;
    }

    /// The same, as from the previous volume of a chain, with more headers. `notes`: the ticket
    /// permits internal metadata.
    pub async fn put_saying(
        &self,
        volume: &Volume,
        blob: BlobId,
        value: &Bytes,
        notes: bool,
        headers: &[(&str, &str)],
    ) {
        let ticket = Ticket {
            cluster: self.cluster,
            blob,
            expires: Clock::System.now().after(PATIENCE),
            hops: 0,
            master: String::new(),
            master_public: String::new(),
            operation: Operation::Write(WriteGrant {
                chain: vec![ChainLink { volume: volume.id, address: volume.address.clone() }],
                length: Some(value.len() as u64),
                digest: None,
                condition: shared::condition::WriteCondition::None,
                wanted: 1,
                min_replicas: 1,
                internal_metadata: notes,
                expires: None,
            }),
        };
        let sealed = ticket.sign(&secret(), &key());
        let request = Request::put(format!("{}{}?{TICKET}={sealed}", volume.address, key().to_path()))
            .header(CHAIN_HEADER, "1")
            .header(CONTENT_LENGTH, value.len());
        let request = headers.iter().fold(request, |request, (name, said)| request.header(*name, *said));
        let request = request.body(body::full(value.clone())).unwrap();
        let answer = self.peers.http().send_within(request, PATIENCE).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }

    /// Returns the URL of a blob on a volume, with a read ticket.
    pub fn source(&self, volume: &Volume, blob: BlobId) -> String {
        format!("{}{}", volume.address, self.peers.raw_read(self.cluster, volume.id, &key(), blob))
    }

    pub async fn get(&self, volume: &Volume, blob: BlobId) -> Vec<u8> {
        let answer = self.peers.http().get(&self.source(volume, blob), PATIENCE).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        body::collect(answer.into_body(), usize::MAX).await.unwrap()
    }

    pub async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        volume: &Volume,
        path: &str,
        question: &Q,
    ) -> Result<A, ErrorCode> {
        match self.peers.call_within(&volume.address, path, question, PATIENCE).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Refused { detail, .. }) => Err(detail.code),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn copy(&self, volume: &Volume, blob: BlobId, verify: bool) -> Result<Receipt, ErrorCode> {
        self.copy_at(volume, blob, verify, 0).await
    }

    pub async fn copy_at(
        &self,
        volume: &Volume,
        blob: BlobId,
        verify: bool,
        bytes_per_second: u64,
    ) -> Result<Receipt, ErrorCode> {
        let request =
            AddReplicaRequest { cluster: self.cluster, volume: volume.id, blob, bytes_per_second, verify };
        let answer: AddReplicaResponse = self.call(volume, ADD_REPLICA, &request).await?;
        let receipt = Receipt::verify(&answer.receipt, &secret(), Clock::System.now(), PATIENCE).unwrap();
        assert_eq!((receipt.cluster, receipt.volume, receipt.blob), (self.cluster, volume.id, blob));
        Ok(receipt)
    }

    pub async fn delete(&self, volume: &Volume, blob: BlobId) -> usize {
        let request = DeleteRequest {
            cluster: self.cluster,
            volume: volume.id,
            blobs: vec![blob],
            tombstones: Vec::new(),
            reclaimed_before: None,
        };
        self.call::<_, DeleteResponse>(volume, DELETE, &request).await.unwrap().found
    }

    pub async fn look(&self, volume: &Volume, blobs: &[BlobId]) -> Vec<Option<BlobLocation>> {
        let question = LocateRequest { cluster: self.cluster, volume: volume.id, blobs: blobs.to_vec() };
        self.call::<_, LocateResponse>(volume, LOCATE, &question).await.unwrap().locations
    }

    /// Checks that no record or part of one is here.
    pub async fn nothing_of(&self, volume: &Volume, blob: BlobId) {
        assert_eq!(self.look(volume, &[blob]).await, [None]);
        let status = self.text(volume, "/_/metrics").await;
        for name in ["barge_uploads_in_flight", "barge_reserved_bytes", "barge_lanes_busy"] {
            assert!(status.contains(&format!("\n{name} 0\n")), "{name}\n{status}");
        }
    }

    pub async fn text(&self, volume: &Volume, path: &str) -> String {
        let answer = self.peers.http().get(&format!("{}{path}", volume.address), PATIENCE).await.unwrap();
        String::from_utf8(body::collect(answer.into_body(), MIB).await.unwrap()).unwrap()
    }
}
