//! A volume dies, is wiped, or comes back: under-replicated blobs are repaired, and excess replicas are removed.

use std::time::Duration;

use rustix::io::Errno;
use shared::wire::cluster::{Event, Explanation};
use shared::wire::master::VolumeState;
use tests::tamper::{Action, Call, Fault, Library};
use tests::{Cluster, Folder, Options, rot, value};

use super::{PAID, bytes, put, settled, store, whole, zones};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_volume_is_made_good_and_comes_back_to_nothing_it_must_not_have() {
    let mut cluster = Cluster::start("dead-volume", zones(5, 2)).await;
    store(&cluster, 40).await;
    let before = cluster.blobs().await;
    cluster.volumes[0].kill().await;
    cluster.state_is(0, &[VolumeState::Down]).await;
    let held = before[0];
    tests::eventually(PAID, "replicas are re-created", async || {
        cluster.status().await?.repair.filter(|repair| repair.replicas_added == held).map(|_| ())
    })
    .await;
    let repair = cluster.paid(PAID).await.repair.expect("the leader's word");
    assert_eq!((repair.replicas_added, repair.replicas_removed), (held, 0), "{repair:?}");
    whole(&cluster, 40).await;
    // Meanwhile other keys are written.
    let client = cluster.client();
    for n in 0..10 {
        assert!(client.put(&format!("data/{n}"), value(900 + n, 5000)).await.unwrap().is_success());
        assert!(client.delete(&format!("data/{}", n + 10)).await.unwrap().is_success());
    }
    cluster.volumes[0].restart().await.unwrap();
    cluster.state_is(0, &[VolumeState::Up]).await;
    cluster.paid(PAID).await;
    for n in 0..10 {
        assert!(client.get(&format!("data/{n}")).await.unwrap().body == value(900 + n, 5000));
        assert_eq!(client.get(&format!("data/{}", n + 10)).await.unwrap().status, 404);
        put(&client, n, bytes(n)).await;
        put(&client, n + 10, bytes(n + 10)).await;
    }
    let events: Vec<Event> = client.json("/_/events").await.expect("events");
    let id = cluster.ids[0];
    let life: Vec<_> = events.iter().filter(|e| e.volume == id).map(|e| e.to).collect();
    assert!(life.contains(&VolumeState::Down) && life.last() == Some(&VolumeState::Up), "{life:?}");
    assert!(events.iter().all(|e| !e.reason.is_empty()), "{events:?}");
    settled(cluster, 40, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_lost_its_segments_is_filled_again() {
    let mut cluster = Cluster::start("lost-segments", zones(3, 2)).await;
    store(&cluster, 30).await;
    cluster.volumes[1].kill().await;
    std::fs::remove_dir_all(cluster.volume_folder(1).join("segments")).unwrap();
    // Immediately: the volume is never down, and its old replicas still do not count.
    cluster.volumes[1].restart().await.unwrap();
    // Up may be what the master knew before the restart, and the repair queue as empty as then.
    tests::eventually(PAID, "replicas are added to the volume again", async || {
        (cluster.status().await?.repair?.replicas_added > 0).then_some(())
    })
    .await;
    cluster.paid(PAID).await;
    settled(cluster, 30, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_said_and_explained() {
    let mut cluster = Cluster::start("explained", zones(3, 3)).await;
    store(&cluster, 4).await;
    let explain = async |cluster: &Cluster| -> Explanation { cluster.told(&["explain", "data/1"]).await };
    let explained = explain(&cluster).await;
    assert_eq!((explained.wanted, explained.size), (3, bytes(1).len() as u64));
    assert!(explained.next.starts_with("nothing"), "{}", explained.next);
    assert!(explained.blobs[0].replicas.iter().all(|c| c.location.is_some_and(|p| !p.bad)), "{explained:?}");
    cluster.volumes[2].kill().await;
    cluster.state_is(2, &[VolumeState::Down]).await;
    tests::eventually(PAID, "the status says that no volume has room", async || {
        let repair = cluster.status().await?.repair?;
        (repair.without_destination == 4 && repair.queued_by_replicas == [0, 0, 4]).then_some(())
    })
    .await;
    let explained = explain(&cluster).await;
    assert!(explained.next.contains("no other volume"), "{}", explained.next);
    let doctor = cluster.barge(&["cluster", "doctor"]).await;
    assert_eq!(doctor.code, 1, "{}", doctor.err);
    assert!(doctor.text().contains("the volume is down"), "{}", doctor.text());
    cluster.volumes[2].restart().await.unwrap();
    settled(cluster, 4, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_healed_where_it_is_gets_a_copy_elsewhere() {
    let folder = Folder::new("unhealed-tamper");
    let Some(library) = Library::new(&folder, "healing on a disk that takes no writes").await else { return };
    let tamper = library.control(&folder.join("control"));
    let scrubbed = Options {
        scrub_every: Some(Duration::from_millis(500)),
        volume_env: vec![tamper.env()],
        ..zones(3, 2)
    };
    let mut cluster = Cluster::start("unhealed", scrubbed).await;
    store(&cluster, 20).await;
    tamper.arm(Fault { call: Call::Write, at: 1, action: Action::FailFromThen(Errno::IO) });
    let rotten = (0..20)
        .find(|n| rot::flip(cluster.volume_folder(0), &bytes(*n), 50_000))
        .expect("the volume holds a value");
    let id = cluster.ids[0];
    tests::eventually(PAID, "another volume has the value", async || {
        let explained: Explanation = cluster.told(&["explain", &format!("data/{rotten}")]).await;
        let copies = &explained.blobs[0].replicas;
        let good = copies.iter().filter(|c| c.volume != id && c.location.is_some_and(|p| !p.bad)).count();
        (good == 2 && copies.len() == 2).then_some(())
    })
    .await;
    assert!(tamper.happened());
    tests::eventually(PAID, "one replica is added, one removed, and the repair queue is empty", async || {
        let repair = cluster.status().await?.repair?;
        ((repair.replicas_added, repair.replicas_removed, repair.queued_blobs) == (1, 1, 0)).then_some(())
    })
    .await;
    // When the disk takes writes again, the volume deletes what it was told to delete.
    tamper.disarm();
    cluster.volumes[0].kill().await;
    cluster.volumes[0].restart().await.unwrap();
    cluster.settled().await;
    settled(cluster, 20, 2).await;
}
