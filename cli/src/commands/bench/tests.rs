//! The load generator against the fake cluster: every mode once, small.

use super::*;
use crate::fake::{Fake, Faults};

fn load_args(op: BenchOp) -> BenchArgs {
    BenchArgs {
        op,
        size: shared::size::ByteSize(300_000),
        concurrency: 3,
        duration: Duration::from_secs(5),
        count: Some(20),
        keys: None,
        prefix: Key::new("bench/value").unwrap(),
        plain: false,
        keep: false,
        no_fill: false,
        verify: true,
        op_timeout: Duration::from_secs(5),
    }
}

#[tokio::test]
async fn puts_leave_what_is_to_be_kept() {
    let fake = Fake::start(Faults::default()).await;
    let args = BenchArgs { keep: true, ..load_args(BenchOp::Put) };
    assert_eq!(run(&Client::new(fake.url()).unwrap(), args, Output::new(true)).await.unwrap(), Exit::Ok);
    assert_eq!(fake.len(), 20);
    let args = BenchArgs { no_fill: true, keys: Some(20), ..load_args(BenchOp::Get) };
    assert_eq!(run(&Client::new(fake.url()).unwrap(), args, Output::new(true)).await.unwrap(), Exit::Ok);
    assert_eq!(fake.len(), 20);
}

#[tokio::test]
async fn reads_fill_first_and_clear_away() {
    let fake = Fake::start(Faults::default()).await;
    for op in [BenchOp::Get, BenchOp::Mixed] {
        let args = BenchArgs { keys: Some(5), ..load_args(op) };
        assert_eq!(run(&Client::new(fake.url()).unwrap(), args, Output::new(true)).await.unwrap(), Exit::Ok);
        assert_eq!(fake.len(), 0);
    }
}

#[tokio::test]
async fn errors_are_counted_by_kind() {
    let fake = Fake::start(Faults { refuse_uploads: 2, ..Faults::default() }).await;
    assert_eq!(
        run(&Client::new(fake.url()).unwrap(), load_args(BenchOp::Put), Output::new(true)).await.unwrap(),
        Exit::Failure
    );
    let fake = Fake::start(Faults { cut_downloads: vec![1000], ..Faults::default() }).await;
    let args = BenchArgs { keys: Some(3), ..load_args(BenchOp::Get) };
    assert_eq!(
        run(&Client::new(fake.url()).unwrap(), args, Output::new(true)).await.unwrap(),
        Exit::Unverified
    );
}
