//! Bit rot under running servers (read repair): corrupt blocks come from another replica within the same answer and
//! are rewritten; with no valid replica left, no client gets anything that could pass for the value.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use shared::digest::Digest;
use shared::wire::error::ErrorCode;
use shared::wire::volume::VolumeStatus;
use tests::{Answer, Client, Cluster, Options, amount, eventually, rot, say, value};

const HEALED: Duration = Duration::from_secs(60);

/// Two volumes that hold everything, and one value on both.
async fn two(name: &str) -> (Cluster, Vec<u8>) {
    let options = Options { volumes: 2, replicas: 2, min_replicas: 2, ..Options::default() };
    let cluster = Cluster::start(name, options).await;
    let mib = usize::try_from(amount("BARGE_VALUE_MIB", 24, 240)).unwrap();
    // Not a multiple of the block size.
    let bytes = value(7, (mib << 20) - 12_345);
    assert_eq!(cluster.client().put("data/value", bytes.clone()).await.unwrap().status, 201);
    (cluster, bytes)
}

/// Flips a bit of a volume's replica, `offset` bytes from the start of its body.
fn flip(folder: &Path, value: &[u8], offset: i64) {
    assert!(rot::flip(folder, value, offset), "the value is not in {}", folder.display());
}

/// Reads a value from this volume's replica only: asks the master until it redirects there.
async fn get_from(
    cluster: &Cluster,
    place: usize,
    headers: &[(&str, &str)],
) -> Result<Answer, tests::client::Broken> {
    let client = cluster.client();
    for _ in 0..64 {
        let sent = client.once(Method::GET, &client.url("data/value"), headers, None).await?;
        assert_eq!(sent.status, 307);
        let location = sent.header("location").unwrap();
        if location.starts_with(cluster.volumes[place].url()) {
            return client.once(Method::GET, &location, headers, None).await;
        }
    }
    panic!("the master never redirects to volume {place}");
}

async fn status(cluster: &Cluster, place: usize) -> VolumeStatus {
    cluster.volume_status(place).await.expect("the volume is up")
}

async fn healed(cluster: &Cluster, place: usize) -> VolumeStatus {
    eventually(HEALED, "the record is healed", async || {
        let status = cluster.volume_status(place).await?;
        (status.healed_records > 0 && status.corrupt_records == 0).then_some(status)
    })
    .await
}

/// Checks that this volume's replica is valid: it is served with the other one down.
async fn is_good_alone(cluster: &mut Cluster, place: usize, bytes: &[u8]) {
    cluster.volumes[1 - place].kill().await;
    let before = status(cluster, place).await.corrupt_blocks;
    let answer = get_from(cluster, place, &[]).await.unwrap();
    assert_eq!((answer.status, answer.digest()), (200, Digest::of(bytes)));
    assert_eq!(status(cluster, place).await.corrupt_blocks, before, "no corrupt block was found");
}

#[tokio::test]
async fn one_bit_in_a_body_costs_nobody_anything() {
    let (mut cluster, bytes) = two("healing-bit").await;
    let at = bytes.len() * 2 / 3;
    flip(cluster.volume_folder(0), &bytes, i64::try_from(at).unwrap());
    let range = format!("bytes={}-{}", at - 100, at + 100);
    let answer = get_from(&cluster, 0, &[("range", range.as_str())]).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (206, &bytes[at - 100..=at + 100]));
    let answer = get_from(&cluster, 0, &[]).await.unwrap();
    assert_eq!((answer.status, answer.digest()), (200, Digest::of(&bytes)));
    let after = healed(&cluster, 0).await;
    assert!(after.corrupt_blocks >= 1 && after.read_repaired_blocks >= 1, "{after:?}");
    assert_eq!((after.healed_records, after.read_repaired_records, after.lost_records), (1, 0, 0));
    say(format_args!(
        "{} corrupt blocks met, {} served from the other replica, {} record healed",
        after.corrupt_blocks, after.read_repaired_blocks, after.healed_records
    ));
    let text = Client::new(cluster.volumes[0].url()).get_text("/_/metrics").await.unwrap();
    assert_eq!(tests::client::metric(&text, "barge_records_healed"), Some(1));
    let log = cluster.volumes[0].log();
    assert_eq!(log.matches("a corrupt record was met").count(), 1, "the log has one line");
    cluster.volumes[0].kill().await;
    cluster.volumes[0].restart().await.unwrap();
    cluster.settled().await;
    is_good_alone(&mut cluster, 0, &bytes).await;
}

#[tokio::test]
async fn a_record_without_its_header_or_trailer_comes_from_the_other_volume() {
    let (mut cluster, bytes) = two("healing-record").await;
    // The header page is before the body, the trailer after it.
    flip(cluster.volume_folder(0), &bytes, -4096 + 70);
    flip(cluster.volume_folder(1), &bytes, i64::try_from(bytes.len().next_multiple_of(4096) + 50).unwrap());
    // Each is healed from the other, whose body is intact; but only one after the other.
    let answer = get_from(&cluster, 0, &[]).await;
    assert!(answer.is_err() || answer.unwrap().status == 500, "the other replica cannot be opened either");
    let listed = eventually(HEALED, "the value is listed as corrupt", async || {
        let status = cluster.status().await?;
        (!status.corrupt.is_empty()).then_some(status.corrupt)
    })
    .await;
    assert_eq!(listed[0].key.as_ref().unwrap().as_str(), "data/value");
    // Flip the other replica's bit back.
    flip(cluster.volume_folder(1), &bytes, i64::try_from(bytes.len().next_multiple_of(4096) + 50).unwrap());
    let answer = get_from(&cluster, 0, &[]).await.unwrap();
    assert_eq!((answer.status, answer.digest()), (200, Digest::of(&bytes)));
    assert_eq!(answer.header("content-length").unwrap(), bytes.len().to_string());
    let after = eventually(HEALED * 2, "the record is healed", async || {
        let status = cluster.volume_status(0).await?;
        (status.healed_records > 0).then_some(status)
    })
    .await;
    assert!(after.read_repaired_records >= 1);
    eventually(HEALED, "nothing is listed", async || {
        cluster.status().await?.corrupt.is_empty().then_some(())
    })
    .await;
    cluster.volumes[0].kill().await;
    cluster.volumes[0].restart().await.unwrap();
    cluster.settled().await;
    is_good_alone(&mut cluster, 0, &bytes).await;
}

#[tokio::test]
async fn a_record_that_recovery_set_aside_is_written_anew() {
    let (mut cluster, bytes) = two("healing-aside").await;
    let later = value(8, 100_000);
    assert_eq!(cluster.client().put("data/later", later).await.unwrap().status, 201);
    cluster.volumes[0].kill().await;
    flip(cluster.volume_folder(0), &bytes, 1000);
    for entry in fs::read_dir(cluster.volume_folder(0).join("segments")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "idx") {
            fs::remove_file(path).unwrap();
        }
    }
    cluster.volumes[0].restart().await.unwrap();
    cluster.settled().await;
    // Reconciliation may have restored it by now; recovery's own count remains.
    assert!(status(&cluster, 0).await.quarantined >= 1, "the range was quarantined");
    let answer = get_from(&cluster, 0, &[]).await.unwrap();
    assert_eq!((answer.status, answer.digest()), (200, Digest::of(&bytes)));
    // By its healer, or by reconciliation if that was faster.
    eventually(HEALED, "the record is re-created, and the master counts it again", async || {
        let status = cluster.volume_status(0).await?;
        let owed = cluster.status().await?.under_replicated;
        (status.report.blobs == 2 && status.corrupt_records == 0 && owed == 0).then_some(())
    })
    .await;
    is_good_alone(&mut cluster, 0, &bytes).await;
}

#[tokio::test]
async fn the_scrub_finds_what_nobody_reads_and_has_it_healed() {
    let (mut cluster, bytes) = two("healing-scrub").await;
    flip(cluster.volume_folder(0), &bytes, 3_000_000);
    let text = Client::new(cluster.volumes[0].url()).get_text("/_/metrics").await.unwrap();
    assert_eq!(
        tests::client::metric(&text, "barge_scrub_verified_bytes"),
        Some(0),
        "too young to be scrubbed"
    );
    cluster.volumes[0].kill().await;
    tests::cluster::add(cluster.volumes[0].spec_mut(), "--scrub-every", "1s");
    tests::cluster::add(cluster.volumes[0].spec_mut(), "--scrub-rate", "1000000000");
    cluster.volumes[0].restart().await.unwrap();
    cluster.settled().await;
    let after = healed(&cluster, 0).await;
    assert_eq!(after.read_repaired_blocks, 1);
    is_good_alone(&mut cluster, 0, &bytes).await;
}

#[tokio::test]
async fn what_clients_get_unverified_is_verified_for_the_healer_and_for_other_volumes() {
    let zero_copy = vec!["--reads".to_owned(), "zero-copy".to_owned()];
    let options = Options {
        volumes: 2,
        replicas: 2,
        min_replicas: 2,
        volume_args: vec![zero_copy.clone(), zero_copy],
        scrub_every: Some(Duration::from_secs(1)),
        ..Options::default()
    };
    let mut cluster = Cluster::start("healing-zero-copy", options).await;
    let bytes = value(11, 12_345_678);
    assert_eq!(cluster.client().put("data/value", bytes.clone()).await.unwrap().status, 201);
    // The same block is corrupt in both replicas.
    flip(cluster.volume_folder(0), &bytes, 3_000_000);
    flip(cluster.volume_folder(1), &bytes, 9_000_000);
    for place in 0..2 {
        let after = healed(&cluster, place).await;
        assert!(after.read_repaired_blocks >= 1 && after.lost_records == 0, "{place}: {after:?}");
    }
    // From here on, nothing but the checks would stop a corrupt block on its way to the client.
    is_good_alone(&mut cluster, 0, &bytes).await;
    cluster.volumes[1].restart().await.unwrap();
    cluster.settled().await;
    is_good_alone(&mut cluster, 1, &bytes).await;
}

#[tokio::test]
async fn without_a_good_copy_the_client_sees_an_error() {
    let options = Options { volumes: 1, replicas: 1, min_replicas: 1, ..Options::default() };
    let cluster = Cluster::start("healing-alone", options).await;
    let bytes = value(9, 5_000_000);
    let client = cluster.client();
    assert_eq!(client.put("data/value", bytes.clone()).await.unwrap().status, 201);
    flip(cluster.volume_folder(0), &bytes, 4_000_000);
    assert!(client.get("data/value").await.is_err(), "cut, never a clean end");
    assert!(client.get_streamed("data/value").await.is_err(), "nor through the master");
    let range = [("range", "bytes=3999000-4001000")];
    let answer = client.send(Method::GET, "data/value", &range, None).await.unwrap();
    assert_eq!((answer.status, answer.code()), (500, Some(ErrorCode::Corrupt)));
    let range = [("range", "bytes=0-100")];
    let answer = client.send(Method::GET, "data/value", &range, None).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (206, &bytes[..=100]), "intact blocks are served");
    let listed = eventually(HEALED, "the value is listed as corrupt", async || {
        let status = cluster.status().await?;
        (!status.corrupt.is_empty()).then_some(status.corrupt)
    })
    .await;
    assert_eq!(listed[0].key.as_ref().unwrap().as_str(), "data/value");
    assert_eq!(status(&cluster, 0).await.lost_records, 1);
    // After an overwrite it is intact and no longer listed.
    assert_eq!(client.put("data/value", bytes.clone()).await.unwrap().status, 200);
    assert_eq!(client.get("data/value").await.unwrap().digest(), Digest::of(&bytes));
    eventually(HEALED, "nothing is listed", async || {
        cluster.status().await?.corrupt.is_empty().then_some(())
    })
    .await;
}
