//! Orphans beside uploads in progress: exactly the orphans are deleted, and only after the grace period.

use std::time::Duration;

use reqwest::Method;
use shared::wire::routes::CHAIN_HEADER;
use tests::forge::Forge;
use tests::{Client, Cluster, amount, eventually, value};

use super::{PAID, settled, store, zones};

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_orphans_go() {
    let (kept, planted) = (amount("BARGE_ORPHAN_VALUES", 200, 2000), amount("BARGE_ORPHANS", 60, 240));
    // All are planted within it: 8 s usually, 32 s in the long run. An upload may pause for less than a minute.
    let grace = Duration::from_secs(planted * 2 / 15);
    let cluster = Cluster::start("orphans", tests::Options { orphan_grace: grace, ..zones(3, 2) }).await;
    store(&cluster, kept).await;
    let mut forge = Forge::new(&cluster).await;
    // The state of a volume whose master died between the receipts and the commit.
    for n in 0..planted {
        let place = usize::try_from(n % 3).unwrap();
        let ticket = forge.write(&[place], Some(20_000));
        let volume = Client::new(cluster.volumes[place].url());
        let url = volume.url(&forge.target(&ticket, &format!("orphan/{n}")));
        let put = volume.once(Method::PUT, &url, &[(CHAIN_HEADER, "1")], Some(value(n, 20_000))).await;
        assert_eq!(put.unwrap().status, 201);
    }
    // The same, but committed a little later: these must not be taken for orphans.
    let under_way =
        slow_uploads(&cluster, amount("BARGE_UPLOADS", 30, 30), grace + Duration::from_secs(4)).await;
    let found = cluster.orphans().await;
    assert!(found.orphans >= planted && found.young == found.orphans, "{found:?}");
    eventually(grace + PAID, "the orphans are deleted", async || {
        let left = cluster.orphans().await;
        let blobs = cluster.blobs().await.iter().sum::<u64>();
        (left.orphans == 0 && blobs <= (kept + under_way.len() as u64) * 2).then_some(())
    })
    .await;
    for (n, upload) in under_way.into_iter().enumerate() {
        assert!(upload.await.unwrap(), "upload {n} was taken for an orphan");
    }
    let client = cluster.client();
    for n in 0..amount("BARGE_UPLOADS", 30, 30) {
        assert!(client.get(&format!("slow/{n}")).await.unwrap().body == value(n, 40_000));
        assert!(client.delete(&format!("slow/{n}")).await.unwrap().is_success());
    }
    settled(cluster, kept, 2).await;
}

/// Uploads whose last bytes arrive after `pause`, when the orphans have been deleted.
async fn slow_uploads(cluster: &Cluster, count: u64, pause: Duration) -> Vec<tokio::task::JoinHandle<bool>> {
    let mut tasks = Vec::new();
    for n in 0..count {
        let client = cluster.client();
        tasks.push(tokio::spawn(async move {
            let bytes = value(n, 40_000);
            let (first, rest) = bytes.split_at(30_000);
            let (first, rest) = (first.to_vec(), rest.to_vec());
            let body = futures_util::stream::unfold(0, move |at| {
                let (first, rest) = (first.clone(), rest.clone());
                async move {
                    match at {
                        0 => Some((Ok::<_, std::io::Error>(first), 1)),
                        1 => {
                            tests::wait::moment(pause).await;
                            Some((Ok(rest), 2))
                        }
                        _ => None,
                    }
                }
            });
            let put = client
                .http()
                .put(client.url(&format!("slow/{n}?stream")))
                .header("content-length", 40_000)
                .body(reqwest::Body::wrap_stream(body));
            put.send().await.is_ok_and(|answer| answer.status().is_success())
        }));
    }
    tasks
}
