//! MD5 (RFC 1321) of eight messages at once, one in each lane of a vector. The steps of a single message depend on
//! each other; with wide vectors, eight messages take little longer than one.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u8x32, u32x8};

/// Messages hashed at once.
pub const LANES: usize = 8;
/// Bytes hashed in one round (RFC 1321, 3.4).
pub const BLOCK_BYTES: usize = 64;

/// The words A, B, C and D of each message.
pub type States = [[u32; LANES]; 4];

/// The sines of RFC 1321, 3.4: `floor(2³² · |sin(n + 1)|)`.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// Hashes as many whole blocks of each message as the shortest one has; returns how many bytes of each that was.
pub fn compress(level: Level, states: &mut States, messages: [&[u8]; LANES]) -> usize {
    dispatch!(level, simd => compress_with(simd, states, messages))
}

/// One step of all lanes: `b + ((a + f + word + sine) <<< by)`. Terms that do not depend on the previous step
/// are added first.
macro_rules! step {
    ($f:expr, $a:ident, $b:ident, $word:expr, $sine:expr, $by:expr) => {
        let sum = ($word + $sine + $a) + $f;
        $a = $b + ((sum << $by) | (sum >> (32 - $by)));
    };
}

/// Everything here is inlined into one function per kind of processor, and its loops are unrolled: a call would leave
/// the vectors, and a rotation by a variable takes three instructions.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "what is not inlined does not use the vectors of the processor it runs on"
)]
fn compress_with<S: Simd>(simd: S, states: &mut States, messages: [&[u8]; LANES]) -> usize {
    let mut a = u32x8::simd_from(simd, states[0]);
    let mut b = u32x8::simd_from(simd, states[1]);
    let mut c = u32x8::simd_from(simd, states[2]);
    let mut d = u32x8::simd_from(simd, states[3]);
    let ones = u32x8::splat(simd, u32::MAX);
    let mut bytes = usize::MAX;
    for message in messages {
        bytes = bytes.min(message.len() / BLOCK_BYTES * BLOCK_BYTES);
    }
    for at in (0..bytes).step_by(BLOCK_BYTES) {
        let m = words(simd, &messages, at);
        let (a0, b0, c0, d0) = (a, b, c, d);
        macro_rules! f {
            ($a:ident, $b:ident, $c:ident, $d:ident, $word:expr, $n:expr, $by:expr) => {
                step!($d ^ ($b & ($c ^ $d)), $a, $b, m[$word], SINES[$n], $by);
            };
        }
        macro_rules! g {
            ($a:ident, $b:ident, $c:ident, $d:ident, $word:expr, $n:expr, $by:expr) => {
                step!($c ^ ($d & ($b ^ $c)), $a, $b, m[$word], SINES[$n], $by);
            };
        }
        macro_rules! h {
            ($a:ident, $b:ident, $c:ident, $d:ident, $word:expr, $n:expr, $by:expr) => {
                step!($b ^ $c ^ $d, $a, $b, m[$word], SINES[$n], $by);
            };
        }
        macro_rules! i {
            ($a:ident, $b:ident, $c:ident, $d:ident, $word:expr, $n:expr, $by:expr) => {
                step!($c ^ ($b | ($d ^ ones)), $a, $b, m[$word], SINES[$n], $by);
            };
        }
        // Four steps, with the words `first`, `first + by`, … modulo 16.
        macro_rules! four {
            ($kind:ident, $n:expr, $first:expr, $by:expr, $r:expr) => {
                $kind!(a, b, c, d, $first % 16, $n, $r[0]);
                $kind!(d, a, b, c, ($first + $by) % 16, $n + 1, $r[1]);
                $kind!(c, d, a, b, ($first + 2 * $by) % 16, $n + 2, $r[2]);
                $kind!(b, c, d, a, ($first + 3 * $by) % 16, $n + 3, $r[3]);
            };
        }
        macro_rules! round {
            ($kind:ident, $n:expr, $first:expr, $by:expr, $r:expr) => {
                four!($kind, $n, $first, $by, $r);
                four!($kind, $n + 4, $first + 4 * $by, $by, $r);
                four!($kind, $n + 8, $first + 8 * $by, $by, $r);
                four!($kind, $n + 12, $first + 12 * $by, $by, $r);
            };
        }
        const F: [u32; 4] = [7, 12, 17, 22];
        const G: [u32; 4] = [5, 9, 14, 20];
        const H: [u32; 4] = [4, 11, 16, 23];
        const I: [u32; 4] = [6, 10, 15, 21];
        round!(f, 0, 0, 1, F);
        round!(g, 16, 1, 5, G);
        round!(h, 32, 5, 3, H);
        round!(i, 48, 0, 7, I);
        a += a0;
        b += b0;
        c += c0;
        d += d0;
    }
    *states = [a.into(), b.into(), c.into(), d.into()];
    bytes
}

/// The sixteen words of the block at `at` of each message: word `n` of all messages in vector `n`.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "what is not inlined does not use the vectors of the processor it runs on"
)]
fn words<S: Simd>(simd: S, messages: &[&[u8]; LANES], at: usize) -> [u32x8<S>; 16] {
    let mut words = [u32x8::splat(simd, 0); 16];
    for half in 0..2 {
        let mut rows = [u32x8::splat(simd, 0); LANES];
        for lane in 0..LANES {
            let from = at + half * 32;
            rows[lane] = u32x8::from_bytes(u8x32::from_slice(simd, &messages[lane][from..from + 32]));
        }
        // Three shuffles of the rows, like those of a pack of cards, transpose the matrix.
        macro_rules! shuffle {
            ($r:ident) => {
                [
                    $r[0].zip_low($r[4]),
                    $r[0].zip_high($r[4]),
                    $r[1].zip_low($r[5]),
                    $r[1].zip_high($r[5]),
                    $r[2].zip_low($r[6]),
                    $r[2].zip_high($r[6]),
                    $r[3].zip_low($r[7]),
                    $r[3].zip_high($r[7]),
                ]
            };
        }
        let rows = shuffle!(rows);
        let rows = shuffle!(rows);
        let rows = shuffle!(rows);
        for word in 0..LANES {
            words[half * LANES + word] = rows[word];
        }
    }
    words
}
