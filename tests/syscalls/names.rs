//! A name is durable when its directory was synced after it came or went. Every directory that a server changes is synced
//! after each step of its life: a power cut then brings nothing back that was removed, and takes nothing away that was made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tests::cluster::{SETTLED, add};
use tests::tamper::Library;
use tests::{Client, Cluster, Folder, Options, eventually, value};

/// Files whose coming and going promises nothing: what a lost name of them costs.
const EXCEPT: [(&str, &str); 4] = [
    ("/lock", "made again"),
    (".idx", "made again from its segment, and removed by the next start where there is none"),
    ("snapshots/", "asked for again"),
    ("/snap.", "sled's own, written beside its log and read only if it is whole"),
];

/// Directories below `root` with names that came or went after their last sync.
fn unsynced(list: &Path, root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let mut open: BTreeMap<PathBuf, String> = BTreeMap::new();
    for line in text.lines() {
        let (what, path) = line.split_once(' ').expect("a call and a path");
        let path = Path::new(path);
        let Ok(inside) = path.strip_prefix(root) else { continue };
        if what == "remove" {
            // What was in a folder has gone with it.
            open.retain(|folder, _| !folder.starts_with(path));
        }
        if what == "sync" {
            open.remove(path);
        } else if !EXCEPT.iter().any(|(name, _)| format!("/{}", inside.display()).contains(name)) {
            open.insert(path.parent().expect("a folder").to_owned(), line.to_owned());
        }
    }
    open.into_values().collect()
}

async fn all_synced(lists: &[(PathBuf, PathBuf)], step: &str) {
    eventually(SETTLED, &format!("every directory is synced after {step}"), async || {
        let left: Vec<_> = lists.iter().flat_map(|(list, root)| unsynced(list, root)).collect();
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_directory_is_synced_after_names_came_or_went() {
    let tools = Folder::new("names-tools");
    let Some(library) = Library::new(&tools, "every_directory_is_synced").await else { return };
    let list = |name: &str| tools.join(name);
    let options = Options {
        masters: 3,
        volumes: 2,
        segment_bytes: 1 << 20,
        log_entries_kept: Some(20),
        master_env: library.names(&list("master")),
        more_master_env: vec![library.names(&list("master2")), library.names(&list("master3"))],
        volume_env: vec![library.names(&list("volume1")), library.names(&list("volume2"))],
        ..Options::default()
    };
    let mut cluster = Cluster::start("names", options).await;
    let lists: Vec<_> = ["master", "master2", "master3", "volume1", "volume2"]
        .map(|name| (list(name), cluster.folder().join(name)))
        .to_vec();
    all_synced(&lists, "the start").await;
    let client = cluster.client();
    for n in 0..30 {
        let put = client.put(&format!("names/{n}"), value(n, 300_000)).await.expect("an answer");
        assert_eq!(put.status, 201);
    }
    all_synced(&lists, "uploads").await;
    for n in 0..30 {
        assert_eq!(client.delete(&format!("names/{n}")).await.expect("an answer").status, 200);
    }
    eventually(SETTLED, "segments are removed", async || {
        let text = std::fs::read_to_string(list("volume1")).ok()?;
        text.lines().any(|l| l.starts_with("remove") && l.ends_with(".seg")).then_some(())
    })
    .await;
    all_synced(&lists, "deletes").await;
    // A master that has nothing gets a snapshot, and makes tables of it.
    let place = (cluster.leader().await.expect("a leader") + 1) % 3;
    let leader = cluster.masters().nth((place + 2) % 3).expect("three").url().to_owned();
    let folder = lists[place].1.clone();
    let server = cluster.master_mut(place);
    server.kill().await;
    std::fs::remove_dir_all(&folder).expect("its directory");
    add(server.spec_mut(), "--join", leader);
    server.restart().await.expect("it joins again");
    cluster.settled().await;
    all_synced(&lists, "a snapshot").await;
    for n in 0..5 {
        cluster.volumes[n % 2].terminate().await;
        cluster.volumes[n % 2].restart().await.expect("it starts");
        all_synced(&lists, "a restart").await;
    }
    cluster.settled().await;
    let client = Client::new(cluster.masters().next().expect("three").url());
    assert!([200, 201].contains(&client.put("names/last", value(1, 100)).await.expect("an answer").status));
}
