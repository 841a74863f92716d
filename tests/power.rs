//! Power cuts: each server on a disk of its own, and what was not synced is gone. kill -9 alone finds no
//! missing fsync: the page cache survives it.
//!
//! `BARGE_POWER_ROUNDS` says how often. `BARGE_PROVE=1` runs the proof that this test can fail as well.

#[path = "power/order.rs"]
mod order;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tests::disk::{Disk, available, cutter};
use tests::load::{Load, Shape, audit};
use tests::tool::compile;
use tests::wait::moment;
use tests::{Cluster, Dice, Folder, Options, Oracle, eventually, say, setting, told};

const SHAPE: Shape =
    Shape { writers: 4, hot_keys: 1, readers: 1, keys: 12, bytes_min: 16 << 10, bytes_max: 1 << 20 };
const DISK_MIB: u64 = 512;

/// An fsync that does nothing for sled's file, and says so once to standard error when it is used.
const LYING_FSYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int of_sled(int fd) {
    char link[64], path[512] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    return n > 8 && strcmp(path + n - 8, "/sled/db") == 0;
}
static int lied;
static int lie(void) { if (!lied++) fputs("this fsync lies\n", stderr); return 0; }
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return of_sled(fd) ? lie() : real(fd);
}
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return of_sled(fd) ? lie() : real(fd);
}
"#;

/// A cluster on disks whose power can be cut: the master's first, then those of the volumes.
struct Site {
    cluster: Cluster,
    disks: Vec<Disk>,
    cutter: PathBuf,
    // Last: the disks are in it.
    _folder: Folder,
}

impl Site {
    async fn new(name: &str, master_env: Vec<(String, OsString)>) -> Self {
        let folder = Folder::new(name);
        let cutter = cutter(&folder).await;
        let mut disks = Vec::new();
        for server in ["disk-master", "disk-volume1", "disk-volume2"] {
            disks.push(Disk::new(&folder, server, DISK_MIB).await);
        }
        let data = |n: usize| disks[n].path().join("data");
        let options = Options {
            volumes: 2,
            replicas: 2,
            min_replicas: 2,
            segment_bytes: 24 << 20,
            orphan_grace: Duration::from_secs(4),
            down_after: Duration::from_secs(2),
            master_folder: Some(data(0)),
            volume_folders: vec![data(1), data(2)],
            master_env,
            ..Options::default()
        };
        let cluster = Cluster::start(name, options).await;
        Self { cluster, disks, cutter, _folder: folder }
    }

    /// Cuts the power of these servers, all at the same moment as nearly as can be.
    async fn cut(&mut self, victims: &[usize]) {
        for victim in victims {
            self.cluster.servers_mut()[*victim].freeze();
        }
        for victim in victims {
            self.disks[*victim].cut(&self.cutter).await;
        }
        for victim in victims {
            self.cluster.servers_mut().remove(*victim).kill().await;
        }
    }

    /// Gives them power again: the file system replays its log, the servers start.
    async fn restore(&mut self, victims: &[usize]) -> Result<(), String> {
        for victim in victims {
            self.disks[*victim].unmount().await;
            self.disks[*victim].mount().await;
        }
        for victim in victims {
            self.cluster.servers_mut().remove(*victim).restart().await?;
        }
        Ok(())
    }
}

fn victims(dice: &mut Dice) -> Vec<usize> {
    match dice.below(5) {
        0 => vec![0],
        1 => vec![1],
        2 => vec![2],
        _ => vec![0, 1, 2],
    }
}

/// A round under load; with what the oracle found.
async fn round(site: &mut Site, oracle: &Oracle, dice: &mut Dice, victims: &[usize]) -> Result<u64, String> {
    let load = Load::start(site.cluster.url(), oracle, SHAPE, dice).await;
    let wanted = 20 + dice.below(40);
    let counts = load.counts();
    eventually(Duration::from_secs(60), "the load works", async || {
        (load.failed() || counts.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
    })
    .await;
    site.cut(victims).await;
    load.stop();
    site.restore(victims).await?;
    site.cluster.settled().await;
    let acknowledged = load.finish().await?;
    moment(Duration::from_secs(1)).await;
    audit(&site.cluster.client(), oracle).await?;
    Ok(acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_that_was_acknowledged() {
    if !available("power_cuts_lose_nothing_that_was_acknowledged") {
        return;
    }
    let rounds = setting("BARGE_POWER_ROUNDS", 6);
    let mut dice = Dice::of_run();
    let mut site = Site::new("power", Vec::new()).await;
    let oracle = Oracle::with_journal(&site.cluster.folder().join("journal"));
    let started = Instant::now();
    for n in 0..rounds {
        // Everything at once in the first round whatever the dice say: that is a real power cut.
        let victims = if n == 0 { vec![0, 1, 2] } else { victims(&mut dice) };
        let found = round(&mut site, &oracle, &mut dice, &victims).await;
        match found {
            Ok(acknowledged) => {
                say(format_args!("round {n}: power of {victims:?} cut after {acknowledged} changes"));
            }
            Err(wrong) => panic!("VIOLATIONS in round {n}, power of {victims:?} cut\n{wrong}"),
        }
    }
    say(format_args!("{rounds} power cuts in {:?}", started.elapsed()));
    site.cluster.assert_no_secrets_in_logs();
}

/// The same with a master whose fsync of sled's file lies: a loss must be found, or this file proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_find_a_missing_fsync() {
    if !told("BARGE_PROVE") {
        say("SKIPPED: power_cuts_find_a_missing_fsync runs with BARGE_PROVE=1 only");
        return;
    }
    if !available("power_cuts_find_a_missing_fsync") {
        return;
    }
    let folder = Folder::new("lying-fsync");
    let shim = compile(&folder, "lying-fsync.so", LYING_FSYNC, &["-shared", "-fPIC"]).await;
    let rounds = setting("BARGE_POWER_ROUNDS", 10);
    let mut dice = Dice::of_run();
    let mut site = Site::new("prove", vec![("LD_PRELOAD".to_owned(), shim.into_os_string())]).await;
    let oracle = Oracle::default();
    let master_log = |site: &Site| site.cluster.master.log();
    assert!(master_log(&site).contains("this fsync lies"), "the shim is not in use");
    for n in 0..rounds {
        if let Err(wrong) = round(&mut site, &oracle, &mut dice, &[0]).await {
            let first = wrong.lines().next().unwrap_or_default();
            // A server that does not start, or a test that is broken, is no proof.
            let lost = first.contains("is gone") || first.contains("a state that is over");
            assert!(lost, "something else than a loss was found: {wrong}");
            say(format_args!("the missing fsync was found in round {n}: {first}"));
            return;
        }
    }
    panic!("{rounds} power cuts did not find an fsync that does nothing: this test proves nothing");
}

/// The cut itself is proved: what was not synced is gone, what was synced is there.
#[tokio::test(flavor = "multi_thread")]
async fn power_is_really_cut() {
    if !available("power_is_really_cut") {
        return;
    }
    let folder = Folder::new("cut");
    let cutter = cutter(&folder).await;
    let mut disk = Disk::new(&folder, "disk", 64).await;
    let write = |path: &Path, sync: bool| {
        use std::io::Write;
        let mut file = std::fs::File::create(path).unwrap();
        file.write_all(b"bytes").unwrap();
        if sync {
            file.sync_all().unwrap();
            std::fs::File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
        }
    };
    write(&disk.path().join("synced"), true);
    write(&disk.path().join("not synced"), false);
    disk.cut(&cutter).await;
    disk.unmount().await;
    disk.mount().await;
    assert_eq!(std::fs::read(disk.path().join("synced")).unwrap(), b"bytes");
    let lost = std::fs::read(disk.path().join("not synced")).map_or(true, |bytes| bytes != b"bytes");
    assert!(lost, "the cut spares what was not synced: it is none");
}
