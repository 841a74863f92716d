//! Strangers learn nothing about a cluster: neither addresses, ids nor keys. Its users and servers still do, on
//! masters that received their metadata in any way.

use std::time::Duration;

use reqwest::Method;
use shared::wire::error::ErrorCode;
use shared::wire::master::ClusterStatus;
use tests::cluster::add;
use tests::{Client, Cluster, Options, Server, eventually, value};

use super::{Site, ask, text};

const ID: &str = "BKSTRANGERS000000001";
const SECRET: &str = "the-right-secret-0123456789";
const TOLD: [&str; 3] = ["/_/status", "/_/masters", "/_/events"];
/// Log entries that a leader keeps: a master that joins later with an empty directory gets a snapshot.
const KEPT: u64 = 32;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_is_made_of_is_for_its_own() {
    let site = Site::start("strangers", "127.0.0.1", &[]).await;
    let address = site.server.address().to_owned();
    let host = "Host: localhost";
    let status = text(&ask(&address, "GET /_/status", &[host], ""));
    let status: ClusterStatus = serde_json::from_str(&status).expect("an open master shows its status");
    for path in TOLD {
        assert_eq!(ask(&address, &format!("GET {path}"), &[host], "").status, 200, "{path}");
        let page = ask(&address, &format!("GET {path}"), &["Host: evil.example"], "");
        assert_eq!((page.status, page.code()), (403, Some(ErrorCode::Forbidden)), "{path}");
    }
    let volume = status.volumes[0].address.clone();
    let at_volume = volume.trim_start_matches("http://").to_owned();
    let refused = ask(&at_volume, "GET /_/status", &[host], "");
    assert_eq!((refused.status, refused.code()), (403, Some(ErrorCode::NotSigned)));
    assert!(!text(&refused).contains(&status.volumes[0].volume.to_string()));
    for path in ["/_/health", "/_/metrics"] {
        assert_eq!(ask(&at_volume, &format!("GET {path}"), &[host], "").status, 200, "{path}");
    }

    site.signed(&["key", "create", "--permission", "read", "--id", ID, "--secret", SECRET]).await;
    let scoped = ["key", "create", "--scope", "box", "--id", "BKSCOPED", "--secret", SECRET];
    site.signed(&scoped).await;
    let with = |id: &str| format!("Authorization: Bearer {id}:{SECRET}");
    for path in TOLD {
        let get = |shown: &[&str]| ask(&address, &format!("GET {path}"), &[&[host], shown].concat(), "");
        let stranger = get(&[]);
        assert_eq!((stranger.status, stranger.code()), (401, Some(ErrorCode::Unauthorized)), "{path}");
        assert!(text(&stranger).contains("--secret-file"), "{}", text(&stranger));
        assert_eq!(get(&[&with(ID)]).status, 200, "{path}");
        assert_eq!(get(&[&with("BKSCOPED")]).status, 403, "{path}");
        assert_eq!(get(&[&with("BKNONE")]).status, 401, "{path}");
        assert_eq!(ask(&address, &format!("POST {path}"), &[host], "null").status, 403, "not signed");
    }
    for path in ["/_/health", "/_/metrics"] {
        assert_eq!(ask(&address, &format!("GET {path}"), &[host], "").status, 200, "{path}");
    }

    // The commands find the cluster's secret, and work without it where they have a key.
    let commands: [&[&str]; 5] =
        [&["status"], &["masters"], &["events"], &["repair"], &["status", "--server", &volume]];
    for command in commands {
        let ran = site.signed(&[&["cluster"], command].concat()).await;
        assert!(!ran.out.is_empty(), "{command:?}");
    }
    let keyed = site.run(&["cluster", "status"], &[("BARGE_ACCESS_KEY", &format!("{ID}:{SECRET}"))]).await;
    assert_eq!(keyed.code, 0, "{}", keyed.err);
    let stranger = site.run(&["cluster", "status"], &[]).await;
    assert_eq!(stranger.code, 1, "{}{}", stranger.text(), stranger.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_one_that_got_a_snapshot_knows_the_keys() {
    let options = Options {
        masters: 3,
        volumes: 1,
        replicas: 1,
        min_replicas: 1,
        log_entries_kept: Some(KEPT),
        ..Options::default()
    };
    let mut cluster = Cluster::start("snapshot-keys", options).await;
    let leader = cluster.leader().await.expect("a leader");
    let place = if leader == 2 { 1 } else { 2 };
    let folder = cluster.folder().join(format!("master{}", place + 1));
    let leader_url = cluster.masters().nth(leader).expect("three").url().to_owned();
    cluster.master_mut(place).kill().await;
    std::fs::remove_dir_all(&folder).expect("its directory");
    let (id, pair) = ("BKSNAPSHOT0000000001", format!("BKSNAPSHOT0000000001:{SECRET}"));
    let made =
        cluster.barge(&["key", "create", "--permission", "admin", "--id", id, "--secret", SECRET]).await;
    assert_eq!(made.code, 0, "{}", made.err);
    let bearer = format!("Bearer {pair}");
    let shown = [("authorization", bearer.as_str())];
    let client = Client::new(&leader_url);
    for n in 0..4 * KEPT {
        let put = client.send(Method::PUT, &format!("box/{n}?stream"), &shown, Some(value(n, 10))).await;
        assert_eq!(put.expect("an answer").status, 201);
    }
    let server = cluster.master_mut(place);
    add(server.spec_mut(), "--join", &leader_url);
    server.begin();
    server.listens().await.expect("it starts");
    let late = Client::new(server.url());
    eventually(Duration::from_secs(60), "it has caught up", async || {
        let head = late.send(Method::HEAD, "box/1", &shown, None).await.ok()?;
        (head.status == 200).then_some(())
    })
    .await;
    let log = cluster.masters().nth(leader).map(Server::log).expect("three");
    assert!(log.contains("sending a snapshot"), "it received its metadata without a snapshot");
    for path in ["box/1", "box/1?stale", "?list", "_/status", "_/masters"] {
        let answer = late.send(Method::GET, path, &[], None).await.expect("an answer");
        assert_eq!(answer.status, 401, "{path}");
    }
    // Revoked keys are refused.
    let revoked = cluster.barge(&["key", "revoke", id]).await;
    assert_eq!(revoked.code, 0, "{}", revoked.err);
    let open = late.send(Method::HEAD, "box/1", &[], None).await.expect("an answer");
    assert_eq!(open.status, 200, "without any access key it is open again");
}
