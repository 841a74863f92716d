//! Metrics: the names and types that dashboards and alerts depend on, and that each value changes when the event
//! that it counts happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use shared::limits::BLOB_BYTES_MAX;
use tests::{Client, Cluster, Options, Server, eventually, rot, value};

const SOON: Duration = Duration::from_secs(60);
const SIZE: usize = 1_000_000;
/// Metrics of a master and of a volume that stay 0 while nothing is wrong.
const TROUBLE: [&[&str]; 2] = [
    &[
        "barge_access_throttled_total",
        "barge_replicas_removed_total",
        "barge_replicas_lost_total",
        "barge_metadata_recovered_total",
        "barge_objects_under_replicated",
        "barge_orphans_found_total",
        "barge_repair_queue_blobs",
        "barge_repair_queue_bytes",
    ],
    &[
        "barge_blocks_corrupt",
        "barge_read_repaired_blocks",
        "barge_read_only",
        "barge_records_corrupt",
        "barge_read_repaired_records",
        "barge_records_healed",
        "barge_records_lost",
        "barge_records_quarantined",
        "barge_uploads_in_flight",
    ],
];

/// A server's metrics at one moment, each sample with its labels.
struct Figures(BTreeMap<String, f64>);

impl Figures {
    async fn of(server: &Server) -> Self {
        let text = Client::new(server.url()).get_text("/_/metrics").await.expect("metrics");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = samples.filter_map(|line| line.rsplit_once(' '));
        Self(pairs.map(|(name, n)| (name.to_owned(), n.parse().expect("a number"))).collect())
    }

    async fn of_volumes(cluster: &Cluster) -> Vec<Self> {
        let mut all = Vec::new();
        for volume in &cluster.volumes {
            all.push(Self::of(volume).await);
        }
        all
    }

    /// Returns a sample, or the sum over its labels; 0 if there is none, as before the first event.
    fn get(&self, name: &str) -> f64 {
        let labelled = format!("{name}{{");
        let of_it = self.0.iter().filter(|(sample, _)| *sample == name || sample.starts_with(&labelled));
        of_it.map(|(_, n)| n).sum()
    }
}

/// A volume with little room, and a master that cannot write its audit log.
async fn start(name: &str) -> Cluster {
    let small = || vec!["--capacity".to_owned(), "1GiB".to_owned()];
    let options = Options {
        volumes: 2,
        replicas: 2,
        min_replicas: 1,
        master_args: ["--audit-log", "/dev/full"].map(String::from).to_vec(),
        volume_args: vec![small(), small()],
        ..Options::default()
    };
    Cluster::start(name, options).await
}

/// Waits until all of these have grown.
async fn grow(server: &Server, before: &Figures, names: &[&str]) {
    for name in names {
        eventually(SOON, &format!("{name} of {} grows", server.name()), async || {
            (Figures::of(server).await.get(name) > before.get(name)).then_some(())
        })
        .await;
    }
}

/// Waits until one of these has this value.
async fn becomes(server: &Server, name: &str, wanted: f64) {
    eventually(SOON, &format!("{name} of {} is {wanted}", server.name()), async || {
        let found = Figures::of(server).await.get(name);
        ((found - wanted).abs() < f64::EPSILON).then_some(())
    })
    .await;
}

/// Sends an unsigned call.
async fn call_as_a_stranger(server: &Server) {
    let client = Client::new(server.url());
    let url = client.url("/_/status");
    let answer = client.once(Method::POST, &url, &[("barge-signature", "x")], Some(Vec::new())).await;
    assert_eq!(answer.expect("an answer").status, 403);
}

/// Uses an access key that does not exist.
async fn guess(cluster: &Cluster) {
    let made = cluster.barge(&["key", "create", "--permission", "read"]).await;
    assert_eq!(made.code, 0, "{}", made.err);
    let wrong = [("authorization", "Bearer BKNOBODY000000000001:a-wrong-secret")];
    let answer = cluster.client().send(Method::GET, "a", &wrong, None).await.expect("an answer");
    assert_eq!(answer.status, 401);
}

/// Names and types in a server's metrics.
async fn kinds(server: &Server) -> BTreeSet<String> {
    let text = Client::new(server.url()).get_text("/_/metrics").await.expect("metrics");
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect()
}

/// Renaming one breaks users' alerts: the lists beside this file are changed by hand.
#[tokio::test(flavor = "multi_thread")]
async fn their_names_and_kinds_are_these() {
    let cluster = start("metrics-names").await;
    // Labelled metrics appear with their first sample.
    call_as_a_stranger(&cluster.master).await;
    call_as_a_stranger(&cluster.volumes[0]).await;
    guess(&cluster).await;
    let lists = [include_str!("metrics_master.txt"), include_str!("metrics_volume.txt")];
    for (server, list) in [&cluster.master, &cluster.volumes[0]].into_iter().zip(lists) {
        let wanted: BTreeSet<_> = list.lines().map(str::to_owned).collect();
        let mut found = BTreeSet::new();
        let whole = async || {
            found = kinds(server).await;
            (found == wanted).then_some(())
        };
        // A volume's state is counted at the next pass.
        let _ = tokio::time::timeout(Duration::from_secs(20), eventually(Duration::from_secs(60), "", whole))
            .await;
        let (missing, new) = (wanted.difference(&found), found.difference(&wanted));
        let (missing, new): (Vec<_>, Vec<_>) = (missing.collect(), new.collect());
        assert!(missing.is_empty() && new.is_empty(), "{}: missing {missing:?}, new {new:?}", server.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_moves_when_what_it_counts_happens() {
    let mut cluster = start("metrics-deeds").await;
    let first = Figures::of(&cluster.master).await;
    values_are_stored(&cluster).await;
    values_are_read_and_deleted(&cluster).await;
    requests_are_refused(&cluster).await;
    grow(&cluster.master, &first, &["barge_audit_dropped_total"]).await;
    a_volume_goes_and_comes_back(&mut cluster).await;
    a_copy_rots(&cluster).await;
    all_copies_rot(&cluster).await;
    let before = Figures::of(&cluster.master).await;
    guess(&cluster).await;
    grow(&cluster.master, &before, &["barge_access_refused_total"]).await;
}

async fn values_are_stored(cluster: &Cluster) {
    let (master, client) = (&cluster.master, cluster.client());
    let (before, volumes) = (Figures::of(master).await, Figures::of_volumes(cluster).await);
    assert_eq!(client.put("a", value(1, SIZE)).await.expect("an answer").status, 201);
    let names = [
        "barge_uploads_streamed_total",
        "barge_objects",
        "barge_object_bytes",
        "barge_log_applied_index",
        "barge_log_batch_commands_count",
        "barge_log_batch_seconds_count",
        "barge_log_batch_seconds_sum",
        "barge_http_requests_total{method=\"PUT\",status=\"201\"}",
        "barge_http_seconds_count",
        "barge_http_sent_bytes_total",
    ];
    grow(master, &before, &names).await;
    let after = Figures::of(master).await;
    let grown = |name: &str| after.get(name) - before.get(name);
    for (name, by) in
        [("barge_objects", 1.0), ("barge_object_bytes", 1e6), ("barge_uploads_streamed_total", 1.0)]
    {
        assert!((grown(name) - by).abs() < f64::EPSILON, "{name} by {}", grown(name));
    }
    for (name, wanted) in [
        ("barge_volumes_writable", 2.0),
        ("barge_volumes{state=\"up\"}", 2.0),
        ("barge_volumes{state=\"down\"}", 0.0),
    ] {
        becomes(master, name, wanted).await;
    }
    for name in ["barge_metadata_disk_bytes", "barge_http_in_flight"] {
        assert!(after.get(name) > 0.0, "{name}");
    }
    volumes_have_taken_it(cluster, &volumes).await;
    nothing_is_wrong(cluster).await;
    let url = client.url("b?redirect&length=10");
    let answer = client.once(Method::PUT, &url, &[], Some(Vec::new())).await.expect("an answer");
    assert_eq!(answer.status, 307);
    grow(master, &before, &["barge_uploads_redirected_total"]).await;
}

async fn volumes_have_taken_it(cluster: &Cluster, before: &[Figures]) {
    for (server, before) in cluster.volumes.iter().zip(before) {
        let names = [
            "barge_fsync_seconds_count",
            "barge_fsync_seconds_sum",
            "barge_blobs",
            "barge_live_bytes",
            "barge_http_received_bytes_total",
            "barge_http_requests_total{method=\"PUT\",status=\"201\"}",
        ];
        grow(server, before, &names).await;
        let after = Figures::of(server).await;
        assert!(
            after.get("barge_http_received_bytes_total") - before.get("barge_http_received_bytes_total")
                >= 1e6
        );
        for name in
            ["barge_free_bytes", "barge_available_bytes", "barge_segments_open", "barge_http_in_flight"]
        {
            assert!(after.get(name) > 0.0, "{name}");
        }
        assert!(after.get("barge_available_bytes") <= f64::from(1 << 30), "no more than its capacity");
    }
}

async fn nothing_is_wrong(cluster: &Cluster) {
    let master = &cluster.master;
    for server in [master, &cluster.volumes[0], &cluster.volumes[1]] {
        for name in TROUBLE[usize::from(server.name() != master.name())] {
            becomes(server, name, 0.0).await;
        }
    }
}

async fn values_are_read_and_deleted(cluster: &Cluster) {
    let (master, client) = (&cluster.master, cluster.client());
    let (before, volumes) = (Figures::of(master).await, Figures::of_volumes(cluster).await);
    assert_eq!(client.get("a").await.expect("an answer").body.len(), SIZE);
    grow(master, &before, &["barge_reads_redirected_total"]).await;
    assert_eq!(client.get_streamed("a").await.expect("an answer").body.len(), SIZE);
    let names = ["barge_reads_streamed_total", "barge_http_requests_total{method=\"GET\",status=\"200\"}"];
    grow(master, &before, &names).await;
    let sent = |all: &[Figures]| all.iter().map(|f| f.get("barge_http_sent_bytes_total")).sum::<f64>();
    let now = Figures::of_volumes(cluster).await;
    assert!(sent(&now) - sent(&volumes) >= 2e6, "{} bytes", sent(&now) - sent(&volumes));

    assert_eq!(client.delete("a").await.expect("an answer").status, 200);
    grow(master, &before, &["barge_reclaimed_blobs_total"]).await;
    for (name, wanted) in
        [("barge_objects", 0.0), ("barge_object_bytes", 0.0), ("barge_reclaim_pending", 0.0)]
    {
        becomes(master, name, wanted).await;
    }
    for (server, before) in cluster.volumes.iter().zip(&volumes) {
        grow(server, before, &["barge_punched_bytes"]).await;
        becomes(server, "barge_blobs", 0.0).await;
    }
}

async fn requests_are_refused(cluster: &Cluster) {
    let (master, client) = (&cluster.master, cluster.client());
    let before = Figures::of(master).await;
    let url = client.url(&format!("big?redirect&length={BLOB_BYTES_MAX}"));
    let full = client.once(Method::PUT, &url, &[], Some(Vec::new())).await.expect("an answer");
    assert_eq!(full.status, 507, "{}", full.text());
    assert_eq!(client.get("none").await.expect("an answer").status, 404);
    let names = [
        "barge_http_requests_total{method=\"PUT\",status=\"507\"}",
        "barge_http_requests_total{method=\"GET\",status=\"404\"}",
    ];
    grow(master, &before, &names).await;
    for server in [master, &cluster.volumes[0]] {
        let before = Figures::of(server).await;
        call_as_a_stranger(server).await;
        grow(server, &before, &["barge_calls_refused_total{reason=\"invalid\"}"]).await;
    }
}

async fn a_volume_goes_and_comes_back(cluster: &mut Cluster) {
    let before = Figures::of(&cluster.master).await;
    cluster.volumes[1].kill().await;
    becomes(&cluster.master, "barge_volumes_writable", 1.0).await;
    becomes(&cluster.master, "barge_volumes{state=\"down\"}", 1.0).await;
    assert_eq!(cluster.client().put("c", value(2, SIZE)).await.expect("an answer").status, 201);
    let names = [
        "barge_objects_under_replicated",
        "barge_repair_queue_blobs",
        "barge_repair_queue_bytes",
        "barge_volume_transitions_total{state=\"down\"}",
    ];
    grow(&cluster.master, &before, &names).await;
    cluster.volumes[1].restart().await.expect("the volume restarts");
    let names = [
        "barge_replicas_added_total",
        "barge_replicas_added_bytes_total",
        "barge_volume_transitions_total{state=\"up\"}",
    ];
    grow(&cluster.master, &before, &names).await;
    // Counters start at 0 with the process.
    becomes(&cluster.volumes[1], "barge_replicas_received", 1.0).await;
    becomes(&cluster.volumes[1], "barge_replicas_received_bytes", 1e6).await;
    for name in ["barge_objects_under_replicated", "barge_repair_queue_blobs", "barge_repair_queue_bytes"] {
        becomes(&cluster.master, name, 0.0).await;
    }
    grow(&cluster.master, &before, &["barge_reconciliation_bytes_total"]).await;
}

/// Requests a value until the master redirects to this volume, and reads it there.
async fn read_from(cluster: &Cluster, key: &str, place: usize) -> Option<Vec<u8>> {
    let client = cluster.client();
    let location = eventually(SOON, "the master redirects to this volume", async || {
        let sent = client.once(Method::GET, &client.url(key), &[], None).await.ok()?;
        sent.header("location").filter(|at| at.starts_with(cluster.volumes[place].url()))
    })
    .await;
    let answer = client.once(Method::GET, &location, &[], None).await.ok()?;
    (answer.status == 200).then_some(answer.body)
}

async fn a_copy_rots(cluster: &Cluster) {
    let (server, bytes) = (&cluster.volumes[0], value(2, SIZE));
    let before = Figures::of(server).await;
    assert!(rot::flip(cluster.volume_folder(0), &bytes, 500_000));
    assert!(read_from(cluster, "c", 0).await.is_some_and(|body| body == bytes));
    grow(server, &before, &["barge_blocks_corrupt", "barge_read_repaired_blocks", "barge_records_healed"])
        .await;
    becomes(server, "barge_records_corrupt", 0.0).await;
}

async fn all_copies_rot(cluster: &Cluster) {
    let server = &cluster.volumes[0];
    let before = Figures::of(server).await;
    let bytes = value(3, SIZE);
    assert_eq!(cluster.client().put("d", bytes.clone()).await.expect("an answer").status, 201);
    for place in 0..2 {
        assert!(rot::flip(cluster.volume_folder(place), &bytes, 500_000));
    }
    assert!(read_from(cluster, "d", 0).await.is_none(), "cut, never a clean end");
    grow(server, &before, &["barge_records_corrupt", "barge_records_lost"]).await;
}
