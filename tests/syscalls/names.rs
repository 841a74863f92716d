//! A name is durable once its directory was synced after the change. Every directory that a server changes is synced
//! after each step of its life: then a power cut restores nothing that was removed and loses nothing that was created.
//!
//! A later sync of the same directory must not hide a missing one: a thread that renames something or creates a
//! directory syncs the parent before it does anything else to files; and a renamed file was synced before.
//!
//! A master's tables get no new name that would show this: their periodic syncs are checked separately.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use shared::clock::{Clock, Timestamp};
use shared::http::client::PeerClient;
use shared::ids::BlobId;
use shared::limits::{RECLAIM_BATCH, TOMBSTONES_BYTES};
use shared::tombstone::Tombstone;
use shared::wire::routes::DELETE;
use shared::wire::volume::{DeleteRequest, DeleteResponse};
use tests::cluster::{SETTLED, add};
use tests::tamper::Library;
use tests::{Client, Cluster, Folder, Options, eventually, value};

/// Files whose names promise nothing, and what a lost name of them costs.
const EXCEPT: [(&str, &str); 5] = [
    ("/lock", "made again"),
    (".idx", "rebuilt from its segment, and removed by the next start if there is none"),
    ("/snapshots/", "transferred again; the directory itself is no exception"),
    ("/snap.", "sled's own, written beside its log and read only if it is whole"),
    ("/scrub.state", "everything is verified again"),
];
/// Directories that sled creates: synced once it is open, before anything else is done with it.
const OF_SLED: &str = "/sled";

/// What a list says about the directories below `root`, and about the parent of `root`.
#[derive(Debug, Default)]
struct Judged {
    /// Directories with names that changed after their last sync.
    open: BTreeMap<PathBuf, String>,
    /// Files that were created and not synced yet.
    unwritten: BTreeSet<PathBuf>,
    /// Threads that must sync a directory before they do anything else, and why.
    owing: BTreeMap<String, (PathBuf, String)>,
    /// Operations that were done too early.
    early: Vec<String>,
}

impl Judged {
    fn of(list: &Path, root: &Path) -> Self {
        let text = std::fs::read_to_string(list).unwrap_or_default();
        let mut judged = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().expect("a call, a thread and a path");
            judged.note(word(), word(), Path::new(word()), root);
        }
        judged
    }

    fn note(&mut self, what: &str, thread: &str, path: &Path, root: &Path) {
        if what == "start" {
            // The previous process has ended: its threads sync nothing.
            self.owing.clear();
            return;
        }
        let inside = match path.strip_prefix(root) {
            Ok(inside) => format!("/{}", inside.display()),
            Err(_) if what == "sync" && Some(path) == root.parent() => String::new(),
            Err(_) => return,
        };
        let (said, folder) = (format!("{what} {}", path.display()), path.parent().expect("a folder"));
        if let Some((owed, before)) = self.owing.remove(thread) {
            if what == "rename" && folder == owed {
                self.owing.insert(thread.to_owned(), (owed, before));
            } else if what != "sync" || path != owed {
                self.early.push(format!("{before}, then {said}"));
            }
        }
        let promised = !EXCEPT.iter().any(|(name, _)| inside.contains(name));
        match what {
            "sync" => {
                self.open.remove(path);
                self.unwritten.remove(path);
                return;
            }
            "data" => {
                self.unwritten.remove(path);
                return;
            }
            "create" => {
                self.unwritten.insert(path.to_owned());
            }
            "remove" => {
                // A removed folder takes its contents with it.
                self.open.retain(|folder, _| !folder.starts_with(path));
                self.unwritten.retain(|file| !file.starts_with(path));
            }
            _ if self.unwritten.remove(path) && promised => {
                self.early.push(format!("{said}, and its bytes were not synced"));
            }
            _ => {}
        }
        if promised {
            self.open.insert(folder.to_owned(), said.clone());
        }
        if promised && (what == "rename" || what == "mkdir" && !inside.starts_with(OF_SLED)) {
            self.owing.entry(thread.to_owned()).or_insert((folder.to_owned(), said));
        }
    }
}

async fn all_synced(lists: &[(PathBuf, PathBuf)], step: &str) {
    eventually(SETTLED, &format!("every directory is synced after {step}"), async || {
        let mut left = 0;
        for (list, root) in lists {
            let judged = Judged::of(list, root);
            assert!(judged.early.is_empty(), "{step}: {:#?}", judged.early);
            left += judged.open.len() + judged.owing.len();
        }
        (left == 0).then_some(())
    })
    .await;
}

/// Returns how often a master has synced its tables. sled does not: its flush asks the kernel to write, not the disk.
fn checkpoints(list: &Path) -> usize {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    text.lines().filter(|l| l.starts_with("sync ") && l.ends_with("/sled/db")).count()
}

/// Returns how often the parent of a server's directory was synced.
fn syncs_above(list: &Path, root: &Path) -> usize {
    let above = format!(" {}", root.parent().expect("a directory").display());
    let text = std::fs::read_to_string(list).unwrap_or_default();
    text.lines().filter(|l| l.starts_with("sync ") && l.ends_with(&above)).count()
}

/// Gives a volume more tombstones than it keeps, none of them needed, until it rewrites its file.
async fn rewrite_tombstones(cluster: &Cluster, place: usize, list: &Path) {
    let (known, volume) = (cluster.status().await.expect("a leader").cluster, cluster.ids[place]);
    let peers = PeerClient::new(cluster.secret(), Clock::System);
    let blob = |ms| BlobId::next(None, Timestamp::from_unix_ms(ms), [0; 10]);
    let files = || {
        let text = std::fs::read_to_string(list).unwrap_or_default();
        text.lines().filter(|l| l.starts_with("rename") && l.ends_with("/tombstones")).count()
    };
    let (before, mut next) = (files(), 1);
    while files() == before {
        // Each takes more than a byte.
        assert!(next < TOMBSTONES_BYTES, "they are never rewritten");
        let tombstones = (0..RECLAIM_BATCH as u64).map(|n| Tombstone::Refused { blob: blob(next + n) });
        let message = DeleteRequest {
            cluster: known,
            volume,
            blobs: vec![],
            tombstones: tombstones.collect(),
            reclaimed_before: Some(blob(1 << 47)),
        };
        let kept: Result<DeleteResponse, _> =
            peers.call(cluster.volumes[place].url(), DELETE, &message).await;
        assert_eq!(kept.expect("an answer").found, 0);
        next += RECLAIM_BATCH as u64;
    }
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
    let tables: Vec<_> = lists[..3].iter().map(|(list, _)| (list, checkpoints(list))).collect();
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
    // More was applied than the log keeps: without its tables a master could not start.
    eventually(SETTLED, "every master has synced its tables", async || {
        tables.iter().all(|(list, before)| checkpoints(list) > *before).then_some(())
    })
    .await;
    rewrite_tombstones(&cluster, 0, &list("volume1")).await;
    all_synced(&lists, "a rewrite of the tombstones").await;
    // An empty master gets a snapshot and builds its tables from it.
    let place = (cluster.leader().await.expect("a leader") + 1) % 3;
    let leader = cluster.masters().nth((place + 2) % 3).expect("three").url().to_owned();
    let folder = lists[place].1.clone();
    let server = cluster.master_mut(place);
    server.kill().await;
    std::fs::remove_dir_all(&folder).expect("its directory");
    add(server.spec_mut(), "--join", leader);
    server.restart().await.expect("the master joins again");
    cluster.settled().await;
    all_synced(&lists, "a snapshot").await;
    for n in 0..5 {
        let (list, root) = &lists[3 + n % 2];
        let before = syncs_above(list, root);
        cluster.volumes[n % 2].terminate().await;
        cluster.volumes[n % 2].restart().await.expect("it starts");
        all_synced(&lists, "a restart").await;
        // The previous process may have died when it had created it.
        eventually(SETTLED, "the name of the directory is synced", async || {
            (syncs_above(list, root) > before).then_some(())
        })
        .await;
    }
    cluster.settled().await;
    let client = Client::new(cluster.masters().next().expect("three").url());
    assert!([200, 201].contains(&client.put("names/last", value(1, 100)).await.expect("an answer").status));
}
