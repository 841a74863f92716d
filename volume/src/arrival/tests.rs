//! Deletes that meet an arrival: whatever comes first, nothing is left and nobody gets a receipt.

use std::sync::RwLock;

use shared::clock::Timestamp;
use shared::digest::Digest;
use shared::http::client::PeerClient;
use shared::key::Key;
use shared::secret::ClusterSecret;
use shared::telemetry::{HttpMetrics, Metrics};
use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::heal::Healer;
use crate::identity::Identity;
use crate::masters::Masters;
use crate::spent::Spent;
use crate::store::{NewRecord, Options, RealDisk, Store};
use crate::tombstones::Tombstones;

pub(crate) fn blob(n: u64) -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms(n), [7; 10])
}

/// A volume that nobody serves.
pub(crate) fn volume() -> (TempDir, Arc<Volume>) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().to_owned(), ClusterSecret::from_bytes(b"the secret of this test"));
    let identity = Identity::open(&config.data).unwrap();
    let options = Options {
        volume: identity.volume(),
        segment_bytes: config.segment_bytes,
        segment_age: config.segment_age,
        reserve_bytes: 0,
        capacity_bytes: None,
        clock: config.clock.clone(),
        open_threads: 1,
    };
    let (store, _) = Store::open(Arc::new(RealDisk::open(&config.data).unwrap()), options).unwrap();
    let now = config.clock.now();
    let volume = Volume {
        incarnation: 1,
        tombstones: Tombstones::open(&config.data, identity.volume(), now).unwrap(),
        identity,
        store,
        segments_refused: 0,
        address: String::new(),
        listed: RwLock::default(),
        public_url: String::new(),
        peers: PeerClient::new(config.secret.clone(), config.clock.clone()),
        http_metrics: HttpMetrics::new(&Metrics::default()),
        spent: Spent::default(),
        healer: Healer::default(),
        arrivals: Arc::default(),
        masters: Masters::new(Vec::new()),
        config,
    };
    (folder, Arc::new(volume))
}

pub(crate) async fn upload(volume: &Volume, blob: BlobId, value: &[u8]) -> Upload {
    let record = NewRecord {
        blob,
        key: Key::new("a/key").unwrap(),
        content_type: None,
        metadata: Vec::new(),
        length: Some(value.len() as u64),
    };
    let mut upload = volume.store.begin(record).await.unwrap();
    upload.write(value).await.unwrap();
    upload
}

#[test]
fn a_blob_arrives_once_at_a_time_and_a_delete_dooms_only_what_is_under_way() {
    let arrivals = Arc::new(Arrivals::default());
    arrivals.doom(&[blob(1)]);
    let first = arrivals.enter(blob(1), None).unwrap();
    first.check().unwrap();
    assert!(matches!(arrivals.enter(blob(1), None), Err(ArrivalError::UnderWay { .. })));
    let second = arrivals.enter(blob(2), None).unwrap();
    arrivals.doom(&[blob(2), blob(3)]);
    first.check().unwrap();
    assert!(matches!(second.check(), Err(ArrivalError::Gone { blob: b }) if b == blob(2)));
    drop(second);
    arrivals.enter(blob(2), None).unwrap().check().unwrap();
    first.check().unwrap();
}

#[test]
fn places_come_back_with_what_held_them() {
    let arrivals = Arc::new(Arrivals::default());
    let enter = |n| arrivals.place().and_then(|place| arrivals.enter(blob(n), Some(place)));
    let held: Vec<_> = (0..COPIES_IN_MAX as u64).map(|n| enter(n).unwrap()).collect();
    assert!(matches!(enter(100), Err(ArrivalError::TooMany)));
    drop(held);
    assert!(matches!(enter(100).and_then(|_held| enter(100)), Err(ArrivalError::UnderWay { .. })));
    for n in 0..2 * COPIES_IN_MAX as u64 {
        enter(n).unwrap();
    }
}

/// The delete finds nothing in the store, and the record becomes visible after that.
#[tokio::test]
async fn a_record_that_becomes_visible_behind_its_delete_is_taken_back() {
    for verify in [false, true] {
        let (_folder, volume) = volume();
        let arriving = volume.arrivals.enter(blob(1), None).unwrap();
        let upload = upload(&volume, blob(1), b"a value").await;
        arriving.check().unwrap();
        volume.arrivals.doom(&[blob(1)]);
        assert_eq!(volume.store.delete(vec![blob(1)]).await.unwrap().found, 0);
        let stored = upload.finish().await.unwrap();
        assert!(volume.store.has(blob(1)));
        let settled = settle(&volume, &arriving, stored, verify).await;
        assert!(matches!(settled, Err(ArrivalError::Gone { .. })), "{settled:?}");
        assert!(!volume.store.has(blob(1)));
    }
}

/// The record is visible, and the delete comes while it is still being looked at.
#[tokio::test]
async fn a_delete_between_visible_and_settled_leaves_nothing() {
    for verify in [false, true] {
        let (_folder, volume) = volume();
        let arriving = volume.arrivals.enter(blob(1), None).unwrap();
        let stored = upload(&volume, blob(1), b"a value").await.finish().await.unwrap();
        volume.arrivals.doom(&[blob(1)]);
        assert_eq!(volume.store.delete(vec![blob(1)]).await.unwrap().found, 1);
        let settled = settle(&volume, &arriving, stored, verify).await;
        assert!(matches!(settled, Err(ArrivalError::Gone { .. })), "{settled:?}");
        assert!(!volume.store.has(blob(1)));
    }
}

#[tokio::test]
async fn what_nobody_deletes_stays_and_what_does_not_come_back_from_the_disk_does_not() {
    let (folder, volume) = volume();
    for verify in [false, true] {
        let id = blob(u64::from(verify));
        let arriving = volume.arrivals.enter(id, None).unwrap();
        let stored = upload(&volume, id, b"a value").await.finish().await.unwrap();
        assert_eq!(settle(&volume, &arriving, stored, verify).await.unwrap().digest, Digest::of(b"a value"));
    }
    let arriving = volume.arrivals.enter(blob(2), None).unwrap();
    let stored = upload(&volume, blob(2), b"a value").await.finish().await.unwrap();
    let place = volume.store.places(&[blob(2)])[0].unwrap();
    let path = folder.path().join(format!("segments/{}.seg", place.segment));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"another", place.offset + 4096).unwrap();
    let settled = settle(&volume, &arriving, stored, true).await;
    assert!(matches!(settled, Err(ArrivalError::Read(ReadError::Damaged { .. }))), "{settled:?}");
    assert!(!volume.store.has(blob(2)) && volume.store.has(blob(1)));
}
