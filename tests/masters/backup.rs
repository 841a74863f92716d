//! A back-up of the metadata made under load, and a cluster that is restored from it.

use std::ffi::OsStr;
use std::time::Instant;

use tests::folder::binary;
use tests::tool::{must, run};
use tests::{Cluster, Options, say};

use super::writers::{Writers, all_there};

const WRITERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn crash_masters_begin_again_with_a_backup() {
    let options = Options { masters: 3, volumes: 2, ..Options::default() };
    let mut cluster = Cluster::start("masters_backup", options).await;
    let barge = binary("barge").to_string_lossy().into_owned();
    let writers = Writers::start(WRITERS, &cluster);
    writers.more(300).await;
    let urls: Vec<&str> = cluster.masters().map(tests::Server::url).collect();
    let (file, secret) = (cluster.folder().join("backup"), cluster.folder().join("secret"));
    let words = |words: [&'static str; 2]| words.map(OsStr::new);
    let began = Instant::now();
    let before: Vec<_> = writers.acks().into_iter().filter(|a| a.ended < began).collect();
    let url = urls.join(",");
    let args = [OsStr::new("--url"), OsStr::new(&url)].into_iter().chain(words(["cluster", "backup"]));
    must(&barge, args.chain([file.as_os_str(), OsStr::new("--secret-file"), secret.as_os_str()])).await;
    let took = began.elapsed();
    writers.more(100).await;
    let acks = writers.stop().await;
    all_there(&cluster.client(), &acks).await;

    // A truncated or altered back-up is refused.
    let whole = std::fs::read(&file).expect("the back-up");
    for (name, bytes) in [
        ("half", whole[..whole.len() / 2].to_vec()),
        ("almost", whole[..whole.len() - 1].to_vec()),
        ("nothing", Vec::new()),
        ("altered", {
            let mut altered = whole.clone();
            let middle = altered.len() / 2;
            altered[middle] ^= 1;
            altered
        }),
    ] {
        let (cut, directory) =
            (cluster.folder().file(name, &bytes), cluster.folder().join(format!("{name}-dir")));
        let args = words(["cluster", "restore"]).into_iter();
        let ran = run(&barge, args.chain([cut.as_os_str(), directory.as_os_str()])).await;
        assert_ne!(ran.code, 0, "{name}: a back-up of {} of {} bytes was accepted", bytes.len(), whole.len());
    }

    // All masters are lost; one starts from the back-up, at the address of the first.
    for n in 0..3 {
        cluster.master_mut(n).kill().await;
    }
    let directory = cluster.folder().join("restored");
    let args = words(["cluster", "restore"]).into_iter();
    must(&barge, args.chain([file.as_os_str(), directory.as_os_str()])).await;
    cluster.master.spec_mut().args[0] = directory.into();
    cluster.master.restart().await.expect("the master starts from the back-up");
    cluster.settled_at(2).await;
    all_there(&cluster.client(), &before).await;
    let put = cluster.client().put("after", b"the restoration".to_vec()).await.expect("an answer");
    assert_eq!(put.status, 201, "{}", put.text());
    say(format_args!(
        "{} of {} values were acknowledged before the back-up, made in {took:?}",
        before.len(),
        acks.len()
    ));
}
