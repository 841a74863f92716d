//! What a segment's bytes say: every good frame, and what the first bad one means. Pure: it reads nothing and
//! decides nothing about files.
//!
//! A batch is written only after the one before it was synced. So a bad frame with a good frame behind it that belongs
//! to a batch which began later was durable once: it is rot. Without such a frame it may be what a power cut left of the
//! last batch.

use std::ops::Range;

use super::format::{FRAME_HEADER_BYTES, Frame, Salt};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) frame: Frame,
    pub(super) offset: u64,
    /// The body, in the bytes that were scanned.
    pub(super) body: Range<usize>,
}

/// How the good frames end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// With the bytes.
    Clean,
    /// With a bad frame and nothing behind it that was written later.
    Torn,
    /// With a bad frame that was durable.
    Rotten,
}

/// All that a segment says.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) frames: Vec<Found>,
    /// Where the good frames end.
    pub(super) end: u64,
    pub(super) tail: Tail,
}

/// Reads the frames of a whole segment, which begin at `start`.
pub(super) fn scan(bytes: &[u8], start: usize, salt: &Salt) -> Scanned {
    let mut frames = Vec::new();
    let mut at = start;
    while let Some((frame, body)) = Frame::decode(&bytes[at..], salt, at as u64) {
        let from = at + FRAME_HEADER_BYTES;
        let end = from + body.len();
        frames.push(Found { frame, offset: at as u64, body: from..end });
        at = end;
    }
    let tail = if at == bytes.len() {
        Tail::Clean
    } else if written_later(bytes, at, salt) {
        Tail::Rotten
    } else {
        Tail::Torn
    };
    Scanned { frames, end: at as u64, tail }
}

/// Whether a batch that began behind `bad` has left a good frame.
fn written_later(bytes: &[u8], bad: usize, salt: &Salt) -> bool {
    let mut at = bad + 1;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        let Some((frame, body)) = Frame::decode(&bytes[at..], salt, at as u64) else {
            at += 1;
            continue;
        };
        if (at as u64).saturating_sub(u64::from(frame.since)) > bad as u64 {
            return true;
        }
        at += FRAME_HEADER_BYTES + body.len();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::format::Kind;
    use super::*;

    const SALT: Salt = [3; 16];

    /// Two batches of two frames with bodies of ten bytes each.
    fn two_batches() -> Vec<u8> {
        let mut out = vec![0; 5];
        for (index, batch, since) in [(0, 0, 0), (1, 0, 42), (2, 1, 0), (3, 1, 42)] {
            let offset = out.len() as u64;
            Frame { kind: Kind::Entry, index, batch, since }.encode(&mut out, &SALT, offset, 10, &[9; 10]);
        }
        out
    }

    #[test]
    fn a_bad_byte_is_rot_before_the_last_batch_and_torn_in_it() {
        let good = two_batches();
        assert_eq!(scan(&good, 5, &SALT).tail, Tail::Clean);
        for at in 5..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            let scanned = scan(&bytes, 5, &SALT);
            let expected = if at < 5 + 84 { Tail::Rotten } else { Tail::Torn };
            assert_eq!((scanned.tail, scanned.frames.len()), (expected, (at - 5) / 42), "at {at}");
        }
    }
}
