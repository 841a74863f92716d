//! Nothing is destroyed before its replacement or its deletion is durable on the master.
//!
//! A master whose log syncs are slow shows the order without a power cut: until its client is
//! answered, a power cut may still undo the change, so the bytes that the change removes must still exist.

use std::time::{Duration, Instant};

use tests::tool::compile;
use tests::wait::moment;
use tests::{Cluster, Folder, Options, say, value};

/// Longer than the reclaim interval.
const SLOW_SECONDS: u64 = 4;

/// While the file named by `SLOW_FSYNC` exists, a sync of the master's log waits first.
const SLOW_FSYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    char link[64], path[512] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    const char *flag = getenv("SLOW_FSYNC");
    if (n > 4 && strcmp(path + n - 4, ".log") == 0 && strstr(path, "/raft/") && flag && access(flag, F_OK) == 0) sleep(4);
    return real(fd);
}
"#;

async fn nothing_is_destroyed_early(overwrite: bool) {
    let what = if overwrite { "overwritten" } else { "deleted" };
    let folder = Folder::new("slow-fsync");
    let shim = compile(&folder, "slow-fsync.so", SLOW_FSYNC, &["-shared", "-fPIC"]).await;
    let flag = folder.join("slow");
    let env = [("LD_PRELOAD", shim.into_os_string()), ("SLOW_FSYNC", flag.clone().into_os_string())];
    let master_env = env.map(|(n, v)| (n.to_owned(), v)).to_vec();
    let options = Options { volumes: 2, master_env, ..Options::default() };
    let cluster = Cluster::start("order", options).await;
    let client = cluster.client();
    assert_eq!(client.put("k", value(1, 300_000)).await.expect("an answer").status, 201);
    let old = cluster.volume_status(0).await.expect("a volume").report.blobs;
    assert_eq!(old, 1);
    std::fs::write(&flag, b"").expect("a flag");
    let (started, changing) = (Instant::now(), {
        let client = client.clone();
        tokio::spawn(async move {
            if overwrite { client.put("k", value(2, 300_000)).await } else { client.delete("k").await }
        })
    });
    // The bytes on a volume may grow by the new value, but not shrink: the number of blobs alone would
    // not tell the old bytes from the new ones.
    let (mut most, mut looks, mut destroyed) = (vec![old; 2], 0, None);
    while !changing.is_finished() {
        let held = cluster.footprint().await.blobs;
        // The sync takes at least this long, so anything deleted later may be after it, just before the answer.
        let too_early = started.elapsed() < Duration::from_secs(SLOW_SECONDS);
        if too_early && held.iter().zip(&most).any(|(now, most)| now < most) {
            destroyed.get_or_insert((started.elapsed(), most.clone(), held.clone()));
        }
        most = held.iter().zip(&most).map(|(now, most)| *now.max(most)).collect();
        looks += 1;
        moment(Duration::from_millis(20)).await;
    }
    let took = started.elapsed();
    std::fs::remove_file(&flag).expect("the flag");
    assert!(changing.await.expect("no panic").expect("an answer").is_success());
    assert!(
        took > Duration::from_secs(SLOW_SECONDS) && looks > 50,
        "the sync was not slow: {took:?}, {looks} looks"
    );
    let held_both = most.iter().all(|most| *most == old + u64::from(overwrite));
    assert!(held_both, "the new value was never stored beside the old one: {most:?}");
    say(format_args!("{what} in {took:?}, blobs destroyed before that: {destroyed:?}"));
    assert_eq!(
        destroyed, None,
        "bytes were destroyed while the value was being {what}, before that was durable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn power_nothing_is_destroyed_before_its_delete_is_durable() {
    nothing_is_destroyed_early(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_nothing_is_destroyed_before_its_overwrite_is_durable() {
    nothing_is_destroyed_early(true).await;
}
