//! Scans the bytes of a segment for good frames, and tells a torn tail from corruption. Pure: it reads no file and
//! decides nothing about files.
//!
//! A batch is written only after the previous one was synced. So a bad frame that is followed by a good frame
//! of a later batch was durable once: it is corrupt. Without such a frame it may be what a power cut left of
//! the last batch.

use std::ops::Range;

use super::format::{FRAME_HEADER_BYTES, Frame, Salt};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) frame: Frame,
    pub(super) offset: u64,
    /// The range of the body in the scanned bytes.
    pub(super) body: Range<usize>,
}

/// How the sequence of good frames ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// At the end of the segment.
    Clean,
    /// At a bad frame without a later batch after it.
    Torn,
    /// At a bad frame that was durable.
    Rotten,
}

/// The result of a scan.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) frames: Vec<Found>,
    /// The end of the good frames.
    pub(super) end: u64,
    pub(super) tail: Tail,
}

/// Scans a whole segment, whose frames begin at `start`.
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

/// Whether there is a good frame of a batch that began after `bad`.
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
