//! Figures, not assertions: `cargo nextest run -p volume --release --run-ignored only speed --no-capture`.

use std::time::Instant;

use crate::kit::{Kit, MIB, blob, body, put, record};

#[expect(clippy::print_stdout, reason = "figures for a person")]
fn report(what: &str, bytes: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {:.0} MB/s ({seconds:.2} s)", bytes as f64 / 1e6 / seconds);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes 5 GiB"]
async fn speed() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 1 << 40;
    let (store, _) = kit.open().await;
    let piece = body(256 * 1024, 1);
    for round in 0..3 {
        let id = blob();
        let began = Instant::now();
        let mut upload = store.begin(record(id, Some(1024 * MIB))).await.unwrap();
        for _ in 0..4096 {
            upload.write(&piece).await.unwrap();
        }
        upload.finish().await.unwrap();
        report(&format!("put 1 GiB, round {round}"), 1024 * MIB, began);
        for cache in ["cold", "warm"] {
            let began = Instant::now();
            let mut reader = store.reader(id).await.unwrap();
            let mut at = 0;
            while at < reader.length() {
                at += reader.read(at, usize::MAX).await.unwrap().len() as u64;
            }
            report(&format!("get 1 GiB, {cache}"), 1024 * MIB, began);
        }
        let began = Instant::now();
        store.delete(vec![id]).await.unwrap();
        store.punched().await;
        println!("delete 1 GiB: {:?}", began.elapsed());
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            let value = body(MIB, seed);
            for _ in 0..256 {
                put(&store, &value).await;
            }
        });
    }
    tasks.join_all().await;
    report("put 1024 × 1 MiB, four at once (with the test's own hashing)", 1024 * MIB, began);
    let value = body(4096, 1);
    let began = Instant::now();
    for _ in 0..500 {
        put(&store, &value).await;
    }
    println!("put 4 KiB: {:?} each", began.elapsed() / 500);
}
