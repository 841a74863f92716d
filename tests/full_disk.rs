//! Full disks: 507 with the numbers, deletes that work, space that is free again at once, and writes that go to
//! other volumes. The tests are named `power_` because they need private disks, one test at a time.

use std::time::{Duration, Instant};

use shared::wire::error::ErrorCode;
use shared::wire::master::{StoredObject, VolumeState};
use tests::cluster::SETTLED;
use tests::disk::{Disk, available};
use tests::{Answer, Client, Cluster, Folder, Options, eventually, say, value};

const DISK_MIB: u64 = 600;
const RESERVE: u64 = 32 << 20;
const VALUE: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn power_full_disk_refuses_deletes_and_recovers() {
    if !available("power_full_disk_refuses_deletes_and_recovers") {
        return;
    }
    let folder = Folder::new("full");
    let disk = Disk::new(&folder, "disk", DISK_MIB).await;
    let options = Options {
        volumes: 1,
        replicas: 1,
        min_replicas: 1,
        reserve_bytes: RESERVE,
        segment_bytes: 128 << 20,
        volume_folders: vec![disk.path().join("data")],
        ..Options::default()
    };
    let cluster = Cluster::start("full", options).await;
    let client = cluster.client();
    let empty = disk.free_bytes();
    for round in 0..3u64 {
        let (stored, refused) = fill(&client).await;
        assert_eq!((refused.status, refused.code()), (507, Some(ErrorCode::NoSpace)), "{}", refused.text());
        let digits = refused.text().chars().filter(char::is_ascii_digit).count();
        assert!(digits > 8, "the answer has no numbers: {}", refused.text());
        assert!(
            disk.free_bytes() >= RESERVE,
            "the reserve was touched: {} bytes are free",
            disk.free_bytes()
        );
        assert_eq!(
            client.get(&format!("k{stored}")).await.unwrap().status,
            404,
            "a refused value leaves nothing"
        );
        say(format_args!("round {round}: full with {stored} values; {}", refused.text().trim()));
        for n in 0..stored {
            assert!(
                client.get(&format!("k{n}")).await.unwrap().body == value(n, VALUE),
                "k{n} on a full disk"
            );
        }
        let (before, started) = (disk.free_bytes(), Instant::now());
        for n in 0..stored {
            assert_eq!(client.delete(&format!("k{n}")).await.unwrap().status, 200, "a delete on a full disk");
        }
        let deleted = started.elapsed();
        // All but the header page of each record, and the file system's own maps.
        let all = before + stored * (VALUE as u64) * 99 / 100;
        let free =
            eventually(Duration::from_secs(30), "the space of the deleted values is free", async || {
                Some(disk.free_bytes()).filter(|free| *free >= all)
            })
            .await;
        say(format_args!(
            "round {round}: {stored} deletes in {deleted:?}, all space free after {:?}: {before} bytes free before, {free} after, {empty} at the start",
            started.elapsed()
        ));
        eventually(SETTLED, "writes continue", async || {
            client.put("again", value(1, VALUE)).await.ok().filter(tests::Answer::is_success)
        })
        .await;
        assert!(client.get("again").await.unwrap().body == value(1, VALUE));
        assert_eq!(client.delete("again").await.unwrap().status, 200);
        eventually(Duration::from_secs(30), "the volume is empty", async || {
            (cluster.footprint().await.blobs == [0]).then_some(())
        })
        .await;
    }
}

/// Puts values until one is refused; returns how many were stored, and the refusal.
async fn fill(client: &Client) -> (u64, Answer) {
    let mut stored = 0;
    loop {
        let put = client.put(&format!("k{stored}"), value(stored, VALUE)).await.expect("an answer");
        if put.status != 201 {
            return (stored, put);
        }
        stored += 1;
        assert!(stored * (VALUE as u64) < DISK_MIB << 20, "more is stored than the disk can hold");
    }
}

/// Other files take every byte, the reserve included: freeing space must need none.
#[tokio::test(flavor = "multi_thread")]
async fn power_full_disk_deletes_without_a_free_byte() {
    if !available("power_full_disk_deletes_without_a_free_byte") {
        return;
    }
    let folder = Folder::new("no-byte");
    let disk = Disk::new(&folder, "disk", 200).await;
    let options = Options {
        volumes: 1,
        replicas: 1,
        min_replicas: 1,
        volume_folders: vec![disk.path().join("data")],
        ..Options::default()
    };
    let cluster = Cluster::start("no-byte", options).await;
    let client = cluster.client();
    for n in 0..4 {
        assert_eq!(client.put(&format!("k{n}"), value(n, 8 << 20)).await.unwrap().status, 201);
    }
    let filler = std::fs::File::create(disk.path().join("filler")).unwrap();
    let mut length = 0;
    for step in [1 << 20, 1 << 16, 1 << 12] {
        while rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), length, step).is_ok() {
            length += step;
        }
    }
    assert_eq!(disk.free_bytes(), 0);
    for n in 0..4 {
        assert_eq!(client.delete(&format!("k{n}")).await.unwrap().status, 200);
    }
    eventually(SETTLED, "the volume has deleted all of them", async || {
        (cluster.footprint().await.blobs == [0]).then_some(())
    })
    .await;
    eventually(SETTLED, "their space is free", async || (disk.free_bytes() >= 31 << 20).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_full_disk_of_one_volume_stops_nobody() {
    if !available("power_full_disk_of_one_volume_stops_nobody") {
        return;
    }
    let folder = Folder::new("one-full");
    let mut disks = Vec::new();
    for (n, mib) in [200, DISK_MIB, DISK_MIB].into_iter().enumerate() {
        disks.push(Disk::new(&folder, &format!("disk{n}"), mib).await);
    }
    let options = Options {
        volumes: 3,
        replicas: 2,
        min_replicas: 2,
        reserve_bytes: RESERVE,
        segment_bytes: 128 << 20,
        volume_folders: disks.iter().map(|d| d.path().join("data")).collect(),
        ..Options::default()
    };
    let cluster = Cluster::start("one-full", options).await;
    let client = cluster.client();
    // Fills the small disk from outside, as other programs' files do.
    let free = disks[0].free_bytes();
    let filler = std::fs::File::create(disks[0].path().join("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, free - RESERVE - (1 << 20))
        .unwrap();
    eventually(SETTLED, "the master knows that the volume has little room", async || {
        let status = cluster.status().await?;
        let small = status.volumes.iter().find(|v| v.volume == cluster.ids[0])?;
        (small.available_bytes <= 2 << 20).then_some(())
    })
    .await;
    for n in 0..12 {
        let put = client.put(&format!("k{n}"), value(n, 8 << 20)).await.unwrap();
        assert_eq!(put.status, 201, "{}", put.text());
        let stored: StoredObject = serde_json::from_slice(&put.body).unwrap();
        assert_eq!((stored.replicas, stored.wanted), (2, 2), "k{n}");
    }
    assert_eq!(cluster.footprint().await.blobs, [0, 12, 12], "the full volume was skipped");
    for n in 0..12 {
        assert!(client.get(&format!("k{n}")).await.unwrap().body == value(n, 8 << 20), "k{n}");
    }
    drop(filler);
    std::fs::remove_file(disks[0].path().join("filler")).unwrap();
    eventually(SETTLED, "the volume takes writes again", async || {
        let status = cluster.status().await?;
        let small = status.volumes.iter().find(|v| v.volume == cluster.ids[0])?;
        (small.state == VolumeState::Up && small.available_bytes > 64 << 20).then_some(())
    })
    .await;
}
