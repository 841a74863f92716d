//! A real master, and fake volumes whose contents and answers the test scripts. The requests that they receive are
//! reported to the test in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use master::{Config, Replication};
use shared::clock::{Clock, Timestamp};
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::http::body::{self, Body};
use shared::http::client::PeerClient;
use shared::http::serve::{Context, Service, run};
use shared::http::signed_calls::{CallVerifier, read_signed};
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::inventory::digests;
use shared::key::Key;
use shared::secret::ClusterSecret;
use shared::telemetry::{HttpMetrics, Metrics};
use shared::ticket::{ChainLink, Operation, Receipt, Ticket, WriteGrant};
use shared::wire::cluster::{DrainStatus, SetAdminState, WantedAdminState};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{CommitOutcome, CommitRequest, CommitResponse, HeartbeatResponse};
use shared::wire::replicas::{
    AddReplicaRequest, AddReplicaResponse, BlobLocation, DigestsRequest, DigestsResponse, LocateRequest,
    LocateResponse,
};
use shared::wire::routes::{ADD_REPLICA, ADMIN_STATE, COMMIT, DELETE, DIGESTS, HEARTBEAT, INVENTORY, LOCATE};
use shared::wire::volume::{
    DeleteRequest, DeleteResponse, InventoryEntry, InventoryPage, InventoryRequest, VolumeReport,
};
use shared::work::{Shutdown, ShutdownTrigger};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(60);
/// Interval between two heartbeats of a volume.
const BEAT: Duration = Duration::from_millis(200);
/// The length of every value, in bytes.
pub const LENGTH: u64 = 5;
const ROOM: u64 = 1 << 40;

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(b"the secret of this test")
}

fn digest() -> Digest {
    Digest::of(b"12345")
}

pub fn blob(created: Timestamp, n: u8) -> BlobId {
    BlobId::next(None, created, [n; 10])
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// The answer of a volume that is asked for a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Good,
    Bad,
    NotHere,
}

/// A request that a volume received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Digests,
    List,
    /// Whether it holds a blob; with its answer.
    Look(Says),
    /// Adding a replica.
    Copy {
        verify: bool,
    },
    Delete(Vec<BlobId>),
}

#[derive(Debug)]
struct State {
    holds: BTreeMap<BlobId, InventoryEntry>,
    /// The answers to the next looks; later ones are `Good`.
    says: VecDeque<Says>,
    /// The contents of the next receipts for added replicas; later ones are correct.
    receipts: VecDeque<(VolumeId, BlobId, u64)>,
}
pub struct Volume {
    pub id: VolumeId,
    pub address: String,
    cluster: OnceLock<ClusterId>,
    calls: Arc<CallVerifier>,
    state: Mutex<State>,
    asked: UnboundedSender<(VolumeId, Asked)>,
}

impl Service for Volume {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        self.calls.serve(request, context, |request| self.answer(request)).await
    }
}

impl Volume {
    fn heard(&self, asked: Asked) {
        // A test that has ended does not receive.
        let _ = self.asked.send((self.id, asked));
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
        match request.uri().path() {
            DIGESTS => {
                let DigestsRequest { from, until, bounds, .. } = read_signed(request).await?;
                self.heard(Asked::Digests);
                let all: Vec<_> = self.state.lock().unwrap().holds.keys().copied().collect();
                let inside = |b: &BlobId| from.is_none_or(|f| *b >= f) && until.is_none_or(|u| *b < u);
                let ranges = digests(all.into_iter().filter(inside), &bounds);
                Ok(body::json(StatusCode::OK, &DigestsResponse { ranges }))
            }
            INVENTORY => {
                let InventoryRequest { after, until, limit, .. } = read_signed(request).await?;
                self.heard(Asked::List);
                let all: Vec<_> = self.state.lock().unwrap().holds.values().copied().collect();
                let inside =
                    |e: &InventoryEntry| after.is_none_or(|a| e.blob > a) && until.is_none_or(|u| e.blob < u);
                let entries = all.into_iter().filter(inside).take(limit).collect();
                Ok(body::json(StatusCode::OK, &InventoryPage { entries }))
            }
            LOCATE => {
                let LocateRequest { blobs, .. } = read_signed(request).await?;
                let places = blobs.iter().map(|_| self.look()).collect();
                Ok(body::json(StatusCode::OK, &LocateResponse { locations: places }))
            }
            ADD_REPLICA => {
                let AddReplicaRequest { blob, verify, .. } = read_signed(request).await?;
                self.heard(Asked::Copy { verify });
                self.hold(blob, 0);
                let other = self.state.lock().unwrap().receipts.pop_front();
                let receipt = other.map_or_else(|| self.receipt(blob), |other| self.receipt_for(other));
                Ok(body::json(StatusCode::OK, &AddReplicaResponse { receipt }))
            }
            DELETE => {
                let DeleteRequest { blobs, .. } = read_signed(request).await?;
                let mut state = self.state.lock().unwrap();
                let found = blobs.iter().filter(|blob| state.holds.remove(blob).is_some()).count();
                drop(state);
                self.heard(Asked::Delete(blobs));
                Ok(body::json(StatusCode::OK, &DeleteResponse { found, bytes: 0 }))
            }
            _ => Err(ErrorReply::new(ErrorCode::NoSuchRoute, "not here", "")),
        }
    }

    fn look(&self) -> Option<BlobLocation> {
        let says = self.state.lock().unwrap().says.pop_front().unwrap_or(Says::Good);
        self.heard(Asked::Look(says));
        let verified = Clock::System.now();
        let place =
            BlobLocation { segment: 0, offset: 4096, length: LENGTH, bad: says == Says::Bad, verified };
        (says != Says::NotHere).then_some(place)
    }

    /// Adds a blob of this age.
    pub fn hold(&self, blob: BlobId, age_ms: u64) {
        let entry = InventoryEntry { blob, length: LENGTH, age_ms };
        self.state.lock().unwrap().holds.insert(blob, entry);
    }

    fn cluster(&self) -> ClusterId {
        *self.cluster.get().expect("it joined")
    }

    /// Scripts the answers to the next looks.
    pub fn will_say(&self, says: &[Says]) {
        self.state.lock().unwrap().says.extend(says);
    }

    /// Scripts the next receipts for added replicas.
    pub fn will_give_receipts_for(&self, others: &[(VolumeId, BlobId, u64)]) {
        self.state.lock().unwrap().receipts.extend(others);
    }

    fn receipt(&self, blob: BlobId) -> String {
        self.receipt_for((self.id, blob, LENGTH))
    }

    fn receipt_for(&self, (volume, blob, length): (VolumeId, BlobId, u64)) -> String {
        let (cluster, issued) = (self.cluster(), Clock::System.now());
        Receipt { cluster, volume, blob, length, digest: digest(), issued }.sign(&secret())
    }

    fn report(&self) -> VolumeReport {
        VolumeReport {
            volume: self.id,
            cluster: self.cluster.get().copied(),
            address: self.address.clone(),
            public_url: self.address.clone(),
            zone: None,
            capacity_bytes: ROOM,
            available_bytes: ROOM,
            blobs: self.state.lock().unwrap().holds.len() as u64,
            live_bytes: 0,
            uploads: 0,
            read_only: None,
            corrupt: Vec::new(),
            unhealed: Vec::new(),
            segments_refused: 0,
            ranges_quarantined: 0,
            format_version: 1,
            incarnation: 1,
        }
    }
}

/// A master and its volumes.
pub struct Site {
    peers: PeerClient,
    master: String,
    hears: UnboundedReceiver<(VolumeId, Asked)>,
    asked: UnboundedSender<(VolumeId, Asked)>,
    triggers: Vec<ShutdownTrigger>,
    _folder: TempDir,
}

impl Site {
    /// Starts a master with this replication factor.
    pub async fn new(copies: usize, set: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let replication = Replication::new(copies, None).unwrap();
        let mut config = Config::new(folder.path().join("master"), secret(), replication);
        set(&mut config);
        let (trigger, shutdown) = Shutdown::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let master = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(Box::pin(master::run(config, listener.into(), shutdown)));
        let peers = PeerClient::new(secret(), Clock::System);
        let (asked, hears) = unbounded_channel();
        Self { peers, master, hears, asked, triggers: vec![trigger], _folder: folder }
    }

    /// Starts a volume with blobs of these ages, and waits until the master knows it.
    pub async fn volume(&mut self, holds: &[(BlobId, u64)]) -> Arc<Volume> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let volume = Arc::new(Volume {
            id: VolumeId::random(),
            address: format!("http://{}", listener.local_addr().unwrap()),
            cluster: OnceLock::new(),
            calls: CallVerifier::new(secret(), Clock::System, &Metrics::default()),
            state: Mutex::new(State {
                holds: BTreeMap::new(),
                says: VecDeque::new(),
                receipts: VecDeque::new(),
            }),
            asked: self.asked.clone(),
        });
        holds.iter().for_each(|(blob, age_ms)| volume.hold(*blob, *age_ms));
        let (trigger, shutdown) = Shutdown::new();
        let metrics = HttpMetrics::new(&Metrics::default());
        tokio::spawn(run(listener, None, Arc::clone(&volume), metrics, shutdown.clone()));
        self.triggers.push(trigger);
        let (joined, joins) = oneshot::channel();
        let beats = beat(Arc::clone(&volume), self.peers.clone(), self.master.clone(), joined);
        tokio::spawn(async move {
            tokio::select! { () = beats => {}, () = shutdown.wait() => {} }
        });
        within(joins).await.unwrap();
        volume
    }

    /// Returns the next request to any volume.
    pub async fn next(&mut self) -> (VolumeId, Asked) {
        within(self.hears.recv()).await.unwrap()
    }

    /// Commits a blob with these volumes as the value of a key.
    pub async fn commit(&self, blob: BlobId, volumes: &[&Volume]) {
        let key = Key::new("bucket/key").unwrap();
        let link = |v: &&Volume| ChainLink { volume: v.id, address: v.address.clone() };
        let copies = u8::try_from(volumes.len()).unwrap();
        let ticket = Ticket {
            cluster: volumes[0].cluster(),
            blob,
            expires: Clock::System.now().after(PATIENCE),
            hops: 0,
            master: self.master.clone(),
            master_public: self.master.clone(),
            operation: Operation::Write(WriteGrant {
                chain: volumes.iter().map(link).collect(),
                length: Some(LENGTH),
                digest: None,
                condition: WriteCondition::None,
                wanted: copies,
                min_replicas: copies,
                internal_metadata: false,
                expires: None,
            }),
        };
        volumes.iter().for_each(|volume| volume.hold(blob, 0));
        let request = CommitRequest {
            ticket: ticket.sign(&secret(), &key),
            key,
            receipts: volumes.iter().map(|volume| volume.receipt(blob)).collect(),
            content_type: None,
            metadata: Vec::new(),
        };
        let answer: CommitResponse = self.peers.call(&self.master, COMMIT, &request).await.unwrap();
        assert_eq!(answer.outcome, CommitOutcome::Created);
    }

    /// Drains a volume.
    pub async fn drain(&self, volume: &Volume) {
        let wish = SetAdminState { volume: volume.id.to_string(), admin_state: WantedAdminState::Drain };
        self.peers.call::<_, DrainStatus>(&self.master, ADMIN_STATE, &wish).await.unwrap();
    }
}

/// Sends heartbeats of a volume, and signals `joined` after the first successful one.
async fn beat(volume: Arc<Volume>, peers: PeerClient, master: String, joined: oneshot::Sender<()>) {
    let (mut joined, mut beats) = (Some(joined), tokio::time::interval(BEAT));
    loop {
        beats.tick().await;
        let answer = peers.call::<_, HeartbeatResponse>(&master, HEARTBEAT, &volume.report()).await;
        if let Ok(HeartbeatResponse { cluster, .. }) = answer {
            volume.cluster.get_or_init(|| cluster);
            joined.take().map(|joined| joined.send(()));
        }
    }
}
