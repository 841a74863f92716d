//! A volume's answers to a master: locations, digests, inventories of ranges, and its examination.

use shared::ids::BlobId;
use shared::inventory::digests;
use shared::limits::{DIGEST_BOUNDS_MAX, EXAMINE_URLS_MAX, INVENTORY_PAGE};
use shared::wire::error::ErrorCode;
use shared::wire::replicas::{DigestsRequest, DigestsResponse, Examination, ExamineRequest, LocateRequest};
use shared::wire::routes::{DIGESTS, EXAMINE, INVENTORY, LOCATE};
use shared::wire::volume::{InventoryPage, InventoryRequest};

use super::site::{Site, Volume, blob, value};

async fn filled(site: &Site, count: usize) -> (Volume, Vec<BlobId>) {
    let volume = site.volume().await;
    let mut blobs = Vec::new();
    for n in 0..count {
        blobs.push(blob());
        site.put(&volume, blobs[n], &value(n * 10_000, n as u64)).await;
    }
    (volume, blobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_and_inventories_speak_of_the_same_blobs() {
    let site = Site::new().await;
    let (volume, blobs) = filled(&site, 20).await;
    let ask = async |from, until, bounds: Vec<BlobId>| {
        let question = DigestsRequest { cluster: site.cluster, volume: volume.id, from, until, bounds };
        site.call::<_, DigestsResponse>(&volume, DIGESTS, &question).await.map(|answer| answer.ranges)
    };
    let list = async |after, until, limit| {
        let question = InventoryRequest { cluster: site.cluster, volume: volume.id, after, until, limit };
        let page: InventoryPage = site.call(&volume, INVENTORY, &question).await.unwrap();
        page.entries.into_iter().map(|e| e.blob).collect::<Vec<_>>()
    };
    let bounds = vec![blobs[5], blobs[6], blobs[15]];
    assert_eq!(ask(None, None, bounds.clone()).await.unwrap(), digests(blobs.clone(), &bounds));
    assert_eq!(list(Some(blobs[5]), Some(blobs[15]), 100).await, blobs[6..15]);
    assert_eq!(list(None, Some(blobs[15]), 3).await, blobs[..3]);
    assert_eq!(list(None, None, usize::MAX).await, blobs);
    let part = ask(Some(blobs[6]), Some(blobs[15]), Vec::new()).await.unwrap();
    assert_eq!(part, digests(blobs[6..15].to_vec(), &[]));
    assert_eq!(ask(Some(blobs[7]), Some(blobs[3]), Vec::new()).await.unwrap()[0].count, 0);

    assert_eq!(ask(None, None, vec![blobs[1], blobs[1]]).await, Err(ErrorCode::BadBody));
    assert_eq!(ask(None, None, vec![blobs[2], blobs[1]]).await, Err(ErrorCode::BadBody));
    let many: Vec<_> = (0..=DIGEST_BOUNDS_MAX).map(|_| blob()).collect();
    assert_eq!(ask(None, None, many[1..].to_vec()).await.unwrap().len(), DIGEST_BOUNDS_MAX + 1);
    assert_eq!(ask(None, None, many).await, Err(ErrorCode::BadBody));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_says_where_blobs_are() {
    let site = Site::new().await;
    let (volume, blobs) = filled(&site, 3).await;
    let asked = [blobs[2], blob(), blobs[0], blobs[1]];
    let places = site.look(&volume, &asked).await;
    assert!(places[1].is_none());
    let at = |n: usize| places[n].unwrap();
    assert_eq!([at(2).length, at(3).length, at(0).length], [0, 10_000, 20_000]);
    assert!(at(2).offset < at(3).offset && at(3).offset < at(0).offset);
    assert!(places.iter().flatten().all(|p| p.segment == 0 && !p.bad && p.verified.unix_ms() > 0));
    let blobs = (0..=INVENTORY_PAGE).map(|_| blobs[0]).collect();
    let question = LocateRequest { cluster: site.cluster, volume: volume.id, blobs };
    let refused = site.call::<_, serde_json::Value>(&volume, LOCATE, &question).await;
    assert_eq!(refused, Err(ErrorCode::BadBody));
    let question = LocateRequest { blobs: question.blobs[1..].to_vec(), ..question };
    assert!(site.call::<_, serde_json::Value>(&volume, LOCATE, &question).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_examination_tells_of_the_disk_and_of_the_way_to_others() {
    let site = Site::new().await;
    let (volume, other) = (site.volume().await, site.volume().await);
    let urls = vec![other.address.clone(), "http://127.0.0.1:1".into(), volume.address.clone()];
    let question = ExamineRequest { cluster: site.cluster, urls };
    let (one, two) = tokio::join!(
        site.call::<_, Examination>(&volume, EXAMINE, &question),
        site.call::<_, Examination>(&volume, EXAMINE, &question),
    );
    for found in [one.unwrap(), two.unwrap()] {
        let wrong: Vec<_> = found.reached.iter().map(|(_, wrong)| wrong.is_some()).collect();
        assert_eq!(wrong, [false, true, false], "{:?}", found.reached);
        let disk = found.disk.unwrap();
        assert!(disk.sync_micros > 0 && disk.free_bytes > 0 && disk.capacity_bytes > disk.free_bytes);
        assert!(disk.device > 0 && found.files_max > 100 && found.now.unix_ms() > 0);
        assert_eq!(disk.directory, volume.folder.path().display().to_string());
        assert!(!found.version.is_empty());
    }
    assert_eq!(std::fs::read_dir(volume.folder.path().join("segments")).unwrap().count(), 0);

    let many = ExamineRequest { urls: vec![String::new(); EXAMINE_URLS_MAX + 1], ..question.clone() };
    assert_eq!(site.call::<_, Examination>(&volume, EXAMINE, &many).await, Err(ErrorCode::BadBody));
    let stranger = ExamineRequest { cluster: shared::ids::ClusterId::random(), ..question };
    assert_eq!(site.call::<_, Examination>(&volume, EXAMINE, &stranger).await, Err(ErrorCode::WrongCluster));
}
