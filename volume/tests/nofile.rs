//! Opening under a limit on file descriptors: one per sealed segment is enough, and too few are a clear error. A test
//! program of its own, since the limit is per process.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

use std::error::Error;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use volume::store::{OpenError, Store};

use super::store::kit::{Kit, get, put};

const SEGMENTS: u64 = 150;
/// Other descriptors of a process: its runtime, its output, the directory.
const OTHERS: u64 = 40;

fn limit(current: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..getrlimit(Resource::Nofile) }).unwrap();
}

#[tokio::test]
async fn one_descriptor_a_sealed_segment_is_enough_and_fewer_are_reported() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 1;
    let (store, _) = kit.open().await;
    let mut last = put(&store, b"first").await;
    for _ in 1..SEGMENTS {
        last = put(&store, b"value").await;
        store.punched().await;
    }
    store.close().await;
    drop(store);
    for threads in [1, 4] {
        kit.options.open_threads = threads;
        limit(SEGMENTS + OTHERS);
        let (store, report) = kit.open().await;
        assert_eq!((report.segments as u64, report.refused.len()), (SEGMENTS, 0));
        assert_eq!(get(&store, last).await, b"value");
        store.close().await;
        drop(store);
        let disk = kit.disk();
        limit(SEGMENTS / 2);
        let error = Store::open(disk, kit.options.clone()).unwrap_err();
        assert!(matches!(&error, OpenError::Segment { step: "opening it", .. }), "{error}");
        assert!(error.source().unwrap().to_string().contains("Too many open files"));
    }
}
