//! Computes the CRC of a whole from the CRCs of its pieces. The CRC library takes half a millisecond to combine two,
//! which would be seconds for the parts of a large object; with powers of x (M. Adler, `crc32_combine` of zlib
//! 1.2.12) it is a microsecond.

/// Combines CRCs that have a reflected polynomial, and start and end with all bits inverted, as all of S3 do.
#[derive(Debug)]
pub struct Combiner {
    /// The coefficients below x^width, that of x⁰ in the highest of `width` bits.
    polynomial: u64,
    width: u32,
    powers: [u64; 64],
}

impl Combiner {
    pub fn new(polynomial: u64, width: u32) -> Self {
        let mut combiner = Self { polynomial, width, powers: [0; 64] };
        // x¹.
        combiner.powers[0] = 1 << (width - 2);
        for n in 1..64 {
            combiner.powers[n] = combiner.times(combiner.powers[n - 1], combiner.powers[n - 1]);
        }
        combiner
    }

    /// Returns the CRC of the bytes of `first` followed by the `length` bytes of `second`.
    pub fn combine(&self, first: u64, second: u64, length: u64) -> u64 {
        // Each following byte multiplies by x⁸.
        let mut shifted = first;
        for bit in 0..61 {
            if length >> bit & 1 == 1 {
                shifted = self.times(self.powers[bit + 3], shifted);
            }
        }
        shifted ^ second
    }

    /// Returns the product of two polynomials, modulo this one.
    fn times(&self, a: u64, mut b: u64) -> u64 {
        let mut product = 0;
        for power in (0..self.width).rev() {
            if a >> power & 1 == 1 {
                product ^= b;
            }
            // Times x.
            b = if b & 1 == 1 { b >> 1 ^ self.polynomial } else { b >> 1 };
        }
        product
    }
}

#[cfg(test)]
mod tests {
    use crate::s3::checksums::algorithms::combiner;
    use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
    use proptest::prelude::*;
    use shared::attributes::Algorithm;

    const ALL: [(Algorithm, CrcAlgorithm); 3] = [
        (Algorithm::Crc32, CrcAlgorithm::Crc32IsoHdlc),
        (Algorithm::Crc32c, CrcAlgorithm::Crc32Iscsi),
        (Algorithm::Crc64Nvme, CrcAlgorithm::Crc64Nvme),
    ];

    proptest! {
        #[test]
        fn of_bytes(first in prop::collection::vec(any::<u8>(), 0..300), second in prop::collection::vec(any::<u8>(), 0..300)) {
            for (algorithm, kind) in ALL {
                let whole = checksum(kind, &[&first[..], &second[..]].concat());
                let (one, other) = (checksum(kind, &first), checksum(kind, &second));
                let combiner = combiner(algorithm).unwrap();
                prop_assert_eq!(combiner.combine(one, other, second.len() as u64), whole);
            }
        }

        #[test]
        fn as_the_library_does(first in any::<u64>(), second in any::<u64>(), length in 0..6u64 << 40) {
            for (algorithm, kind) in ALL {
                let mask = if algorithm == Algorithm::Crc64Nvme { u64::MAX } else { u64::from(u32::MAX) };
                let (first, second) = (first & mask, second & mask);
                let expected = checksum_combine(kind, first, second, length);
                prop_assert_eq!(combiner(algorithm).unwrap().combine(first, second, length), expected);
            }
        }
    }
}
