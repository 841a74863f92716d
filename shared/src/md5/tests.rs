//! Whatever is hashed together, and however it is split: each value has its own MD5.

use std::sync::Arc;
use std::time::Duration;

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

/// Splits bytes into pieces of these lengths, in turn.
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

/// The results of the implementations for each kind of processor.
fn pools() -> Vec<Pool> {
    let level = Level::new();
    let mut pools = vec![Pool::at(level)];
    #[cfg(target_arch = "x86_64")]
    {
        let narrower = [
            level.as_avx2().map(Level::Avx2),
            level.as_sse4_2().map(Level::Sse4_2),
            level.as_sse2().map(Level::Sse2),
        ];
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
                stream.update(vec![batch], false).await.expect("a pool");
            }
            assert_eq!(stream.finish().await.expect("a pool")[..], Md5::digest(&bytes)[..], "value {n}");
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        stream.await.expect("no panic");
    }
    assert!(pool.lock().recent.is_empty() && pool.lock().waiting.is_empty());
}

#[tokio::test]
async fn who_waits_for_whom() {
    let pool = Arc::new(Pool { together_min: 2, gathering: Duration::from_secs(3600), ..Pool::default() });
    let batch = |of: &'static [u8]| vec![Bytes::from_static(of)];
    let waiting = || pool.lock().waiting.len();
    let (mut one, mut other, mut idle) = (pool.stream(), pool.stream(), pool.stream());
    one.update(batch(b"alone "), false).await.expect("a pool");
    assert_eq!(waiting(), 0, "nobody else was about");
    idle.update(batch(b"idle"), false).await.expect("a pool");
    assert_eq!(waiting(), 1, "another was about a moment ago");
    drop(idle);
    // It is aborted: the next one is not hashed with it immediately, and neither waits forever.
    other.update(batch(b"slow "), false).await.expect("a pool");
    assert_eq!(waiting(), 0, "two are as many as were about");
    other.update(batch(b"value"), false).await.expect("a pool");
    assert_eq!(waiting(), 1);
    one.update(batch(b"again"), true).await.expect("a pool");
    assert_eq!(waiting(), 0, "the last batch of a value takes with it what waits");
    assert_eq!(one.finish().await.expect("a pool")[..], Md5::digest(b"alone again")[..]);
    assert_eq!(other.finish().await.expect("a pool")[..], Md5::digest(b"slow value")[..]);
}

#[tokio::test]
async fn a_batch_that_waits_in_vain_is_hashed_alone() {
    let pool = Arc::new(Pool { together_min: 2, gathering: Duration::from_secs(1), ..Pool::default() });
    let (mut one, mut other) = (pool.stream(), pool.stream());
    one.update(vec![Bytes::from_static(b"first")], false).await.expect("a pool");
    other.update(vec![Bytes::from_static(b"second")], false).await.expect("a pool");
    assert_eq!(pool.lock().waiting.len(), 1);
    // The first sends nothing more: only the timer is left.
    assert_eq!(other.finish().await.expect("a pool")[..], Md5::digest(b"second")[..]);
    assert_eq!(one.finish().await.expect("a pool")[..], Md5::digest(b"first")[..]);
}

#[test]
fn the_length_of_a_message_has_64_bits() {
    // Skips hashing: the initial state with the length of 2^29 + 1 blocks.
    let blocks = (1_u64 << 29) + 1;
    let message = Message::claiming(blocks * 64);
    let mut words = message.words;
    let mut end = [0_u8; 64];
    end[0] = 0x80;
    end[56..].copy_from_slice(&(blocks * 512).to_le_bytes());
    md5::block_api::compress(&mut words, &[end]);
    let expected: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(message.finish()[..], expected[..]);
}
