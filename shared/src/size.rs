//! Byte sizes as people write and read them, and the size of a record on disk.

use std::fmt;
use std::str::FromStr;

use crate::limits::BLOCK_BYTES;

/// A number of bytes; `16MiB` is 2^24, `16MB` is 16 million, `16M` is 2^24 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// The text is not a size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a size is a number, optionally followed by one of B, k, kB, KiB, M, MB, MiB, G, GB, GiB, T, TB, TiB"
)]
pub struct ByteSizeError;

/// Parses a size for the arguments of servers.
///
/// # Errors
/// If the text is not a size.
pub fn bytes(text: &str) -> Result<u64, ByteSizeError> {
    text.parse().map(|size: ByteSize| size.0)
}

/// Upper bound of the bytes that a record takes on a volume for a value of `length` bytes: with header, padding,
/// checksums and trailer. Placement asks for this much; the volume reserves what its format says, which is less.
pub fn record_bytes_max(length: u64) -> u64 {
    /// Header, padding and trailer.
    const FIXED: u64 = 1 << 20;
    /// A block has a checksum of 4 bytes, and some pages of checksums are not full.
    const SUM: u64 = 8;
    length + length / BLOCK_BYTES as u64 * SUM + FIXED
}

const BINARY: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

impl FromStr for ByteSize {
    type Err = ByteSizeError;
    fn from_str(s: &str) -> Result<Self, ByteSizeError> {
        let unit_at = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let (number, unit) = s.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_| ByteSizeError)?;
        let unit = unit.trim().to_ascii_lowercase();
        let decimal = unit.len() == 2 && unit.ends_with('b');
        let power = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" if unit.len() <= 1 => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            _ => return Err(ByteSizeError),
        };
        let factor = if decimal { 1000u64.pow(power) } else { 1024u64.pow(power) };
        number.checked_mul(factor).map(Self).ok_or(ByteSizeError)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = (1..BINARY.len()).rev().find(|p| self.0 >> (10 * p) > 0).unwrap_or(0);
        let text = if power == 0 {
            format!("{} B", self.0)
        } else {
            format!("{:.1} {}", self.0 as f64 / (1u64 << (10 * power)) as f64, BINARY[power])
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            ("0", 0),
            ("7B", 7),
            ("16MiB", 16 << 20),
            ("16M", 16 << 20),
            ("16 MB", 16_000_000),
            ("1g", 1 << 30),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "MiB", "1X", "1ib", "-1", "1.5M", "99999999T", "1bb"] {
            assert_eq!(bad.parse::<ByteSize>(), Err(ByteSizeError), "{bad}");
        }
        assert_eq!(ByteSize(1023).to_string(), "1023 B");
        assert_eq!(ByteSize(1 << 20).to_string(), "1.0 MiB");
        assert_eq!(ByteSize(3 << 39).to_string(), "1.5 TiB");
    }
}
