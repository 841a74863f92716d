//! Whatever comes together, and however it is cut: each value has its own MD5.

use std::sync::Arc;

use bytes::Bytes;
use fearless_simd::Level;
use md5::{Digest as _, Md5};
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::message::{Lane, Message};
use super::{Job, LANES, Pool};

fn value(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((seed * 131 + at * 7 + at / 251) % 256).unwrap()).collect()
}

/// Bytes in pieces of these lengths, in turn.
fn cut(bytes: &[u8], lengths: &[usize]) -> Vec<Bytes> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

/// What processors of each kind would do.
fn pools() -> Vec<Pool> {
    let level = Level::new();
    let mut pools = vec![Pool::at(level)];
    #[cfg(target_arch = "x86_64")]
    {
        let narrower = [level.as_avx2().map(Level::Avx2), level.as_sse4_2().map(Level::Sse4_2)];
        pools.extend(narrower.into_iter().flatten().map(Pool::at));
    }
    pools
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn each_value_has_its_own(
        lengths in prop::collection::vec(0usize..5000, 1..=LANES),
        pieces in prop::collection::vec(1usize..700, 1..5),
        at in 0usize..5000,
    ) {
        for pool in pools() {
            let mut messages = vec![Message::default(); lengths.len()];
            for second in [false, true] {
                let mut answers = Vec::new();
                let mut jobs = Vec::new();
                for (n, message) in messages.drain(..).enumerate() {
                    let bytes = value(n, lengths[n]);
                    let (first, rest) = bytes.split_at(at.min(bytes.len()));
                    let (done, answer) = oneshot::channel();
                    let lane = Lane::new(message, cut(if second { rest } else { first }, &pieces));
                    jobs.push(Job { lane, done });
                    answers.push(answer);
                }
                pool.hash(jobs);
                messages.extend(answers.into_iter().map(|mut answer| answer.try_recv().unwrap()));
            }
            for (n, message) in messages.into_iter().enumerate() {
                prop_assert_eq!(&message.finish()[..], &Md5::digest(value(n, lengths[n]))[..]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_all_lengths_at_once() {
    let pool = Arc::new(Pool::default());
    let streams = (0..40).map(|n| {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move {
            let mut stream = pool.stream();
            let bytes = value(n, n * 3777);
            for batch in cut(&bytes, &[1 + n * 991]) {
                stream.update(vec![batch]).await.expect("a pool");
            }
            assert_eq!(stream.finish().await.expect("a pool")[..], Md5::digest(&bytes)[..], "value {n}");
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        stream.await.expect("no panic");
    }
    assert_eq!(pool.lock().streams, 0);
}

#[tokio::test]
async fn an_upload_that_is_given_up_holds_nobody() {
    let pool = Arc::new(Pool::default());
    let mut gone = pool.stream();
    gone.update(vec![Bytes::from_static(b"half")]).await.expect("a pool");
    let mut other = pool.stream();
    drop(gone);
    other.update(vec![Bytes::from_static(b"whole")]).await.expect("a pool");
    assert_eq!(other.finish().await.expect("a pool")[..], Md5::digest(b"whole")[..]);
}
