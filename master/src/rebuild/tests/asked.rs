//! A rebuild reads all pages of records and tombstones: a key whose tombstone is on the last page stays deleted.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::clock::Clock;
use shared::http::body::{self, Body};
use shared::http::client::PeerClient;
use shared::http::serve::{Context, Service, run};
use shared::http::signed_calls::{CallVerifier, read_signed};
use shared::secret::ClusterSecret;
use shared::telemetry::{HttpMetrics, Metrics};
use shared::tombstone::KeyHash;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::routes::{RECORDS, TOMBSTONES};
use shared::wire::volume::{
    RecordsPage, RecordsRequest, TombstonesCursor, TombstonesPage, TombstonesRequest,
};
use shared::work::Shutdown;
use tokio::net::TcpListener;

use super::*;
use crate::rebuild::ask::all;
use crate::tables::object;

/// The only key that is not deleted; the keys before it are.
const KEPT: u8 = 3;

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(b"the secret of this test")
}

/// A volume whose pages have one item each.
struct Miser {
    calls: Arc<CallVerifier>,
}

impl Service for Miser {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        context: Context,
    ) -> Result<Response<Body>, ErrorReply> {
        self.calls.serve(request, context, answer).await
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
    match request.uri().path() {
        RECORDS => {
            let question: RecordsRequest = read_signed(request).await?;
            let n = (0..=KEPT).find(|n| question.after.is_none_or(|after| blob(*n) > after)).unwrap();
            let records = vec![RecordEntry { blob: blob(n), length: 1, value: Some(value(n)) }];
            let next = (n < KEPT).then(|| blob(n));
            Ok(body::json(StatusCode::OK, &RecordsPage { report: report(volume(1)), records, next }))
        }
        TOMBSTONES => {
            let question: TombstonesRequest = read_signed(request).await?;
            let n = question.after.map_or(0, |after| u8::try_from(after.count).unwrap());
            let tombstones = vec![Tombstone::Deleted { key: KeyHash::of(&key(n)), generation: blob(n) }];
            let place = TombstonesCursor { edition: 1, count: u64::from(n) + 1 };
            let next = (n + 1 < KEPT).then_some(place);
            Ok(body::json(StatusCode::OK, &TombstonesPage { tombstones, next }))
        }
        _ => Err(ErrorReply::new(ErrorCode::NoSuchRoute, "not here", "")),
    }
}

#[tokio::test]
async fn what_is_deleted_on_the_last_page_does_not_come_back() {
    let calls = CallVerifier::new(secret(), Clock::System, &Metrics::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (trigger, shutdown) = Shutdown::new();
    let metrics = HttpMetrics::new(&Metrics::default());
    let miser = tokio::spawn(run(listener, None, Arc::new(Miser { calls }), metrics, shutdown));

    let folder = tempfile::tempdir().unwrap();
    let collected = Arc::new(Collected::open(&folder.path().join("collected")).unwrap());
    let volumes =
        Volumes { cluster: ClusterId::from_bytes([5; 16]), all: vec![(address, report(volume(1)))] };
    let (peers, progress) = (PeerClient::new(secret(), Clock::System), Arc::new(RebuildProgress::default()));
    all(&peers, &volumes, &collected, &progress).await.unwrap();
    trigger.fire();
    miser.await.unwrap();

    let (path, now) = (folder.path().join("new"), Timestamp::from_unix_ms(1 << 41));
    let report = write(&path, &volumes, &collected, 1, now, &progress).unwrap();
    assert_eq!((report.objects, report.deleted), (1, u64::from(KEPT)));
    let new = Database::open(&path).unwrap();
    assert!(object::read(&new.tree(), &key(KEPT)).unwrap().is_some());
}
