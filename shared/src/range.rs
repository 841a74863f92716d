//! Byte ranges of a value (RFC 9110 §14): parses the `Range` header, and formats the answers.
//!
//! Pure. A header that is malformed, in another unit, or greedy is ignored, as the RFC allows, and the whole value
//! is returned; it is never an error and never reaches beyond the value.

use std::fmt::Write;

use crate::limits::RANGES_MAX;

/// Bytes `start..=end` of a value: at least one byte, and within the value it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

#[expect(clippy::len_without_is_empty, reason = "a range holds at least one byte")]
impl ByteRange {
    /// Bytes `start..=end` of a value of `len` bytes; an `end` beyond the value is cut to it. `None` if that
    /// is no byte.
    pub fn new(start: u64, end: u64, len: u64) -> Option<Self> {
        let end = end.min(len.checked_sub(1)?);
        (start <= end).then_some(Self { start, end })
    }

    /// The whole value; `None` if it is empty.
    pub fn whole(len: u64) -> Option<Self> {
        Self::new(0, u64::MAX, len)
    }

    /// Offset of the first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// Offset of the last byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Number of bytes.
    pub fn len(self) -> u64 {
        self.end - self.start + 1
    }

    /// The `Content-Range` of a 206, for a value of `len` bytes.
    pub fn content_range(self, len: u64) -> String {
        format!("bytes {}-{}/{len}", self.start, self.end)
    }
}

/// The `Content-Range` of a 416.
pub fn unsatisfied_content_range(len: u64) -> String {
    format!("bytes */{len}")
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// 200: no `Range`, or one that is ignored.
    Whole,
    /// 206 with this range.
    Single(ByteRange),
    /// 206 `multipart/byteranges`: two or more, in ascending order, none touching the next.
    Multi(Vec<ByteRange>),
    /// 416: well formed, and not one byte of it is in the value.
    Unsatisfiable,
}

/// One range as written in the header.
enum Spec {
    From(u64, u64),
    Suffix(u64),
}

impl Ranges {
    /// Parses a `Range` header for a value of `len` bytes. Several ranges are sorted, and those that overlap or touch
    /// are merged, so no byte is sent twice.
    pub fn parse(header: Option<&str>, len: u64) -> Self {
        let Some(specs) = header.and_then(specs) else { return Self::Whole };
        if len == 0 && specs.iter().any(|s| matches!(s, Spec::Suffix(1..))) {
            // A suffix of an empty value satisfies nothing, which no Content-Range can express.
            return Self::Whole;
        }
        let resolve = |spec: &Spec| match *spec {
            Spec::From(start, end) => ByteRange::new(start, end, len),
            Spec::Suffix(0) => None,
            Spec::Suffix(n) => ByteRange::new(len.saturating_sub(n), u64::MAX, len),
        };
        let mut ranges = coalesce(specs.iter().filter_map(resolve).collect());
        match ranges.len() {
            0 => Self::Unsatisfiable,
            1 => Self::Single(ranges.remove(0)),
            _ => Self::Multi(ranges),
        }
    }
}

/// `None` if the header is malformed, in another unit, or has too many ranges.
fn specs(header: &str) -> Option<Vec<Spec>> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Empty list elements are legal and mean nothing (RFC 9110 §5.6.1.2).
    let written = set.split(',').map(|s| s.trim_matches([' ', '\t'])).filter(|s| !s.is_empty());
    let specs: Vec<Spec> = written.take(RANGES_MAX + 1).map(spec).collect::<Option<_>>()?;
    (1..=RANGES_MAX).contains(&specs.len()).then_some(specs)
}

fn spec(text: &str) -> Option<Spec> {
    match text.split_once('-')? {
        ("", n) => number(n).map(Spec::Suffix),
        (start, "") => number(start).map(|s| Spec::From(s, u64::MAX)),
        (start, end) => {
            let (start, end) = (number(start)?, number(end)?);
            (start <= end).then_some(Spec::From(start, end))
        }
    }
}

/// Digits only. A number too large for 64 bits counts as the largest: both lie beyond any value.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn coalesce(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_unstable_by_key(|r| r.start);
    ranges.dedup_by(|next, kept| {
        let touch = next.start <= kept.end.saturating_add(1);
        if touch {
            kept.end = kept.end.max(next.end);
        }
        touch
    });
    ranges
}

/// The framing of a `multipart/byteranges` body: for each part `part_header` and the bytes of its range, and after
/// the last one `footer`.
#[derive(Clone, Debug)]
pub struct Multipart<'a> {
    boundary: [u8; 16],
    content_type: &'a str,
    value_len: u64,
    ranges: &'a [ByteRange],
}

impl<'a> Multipart<'a> {
    /// The framing for these ranges of a value. `boundary` must be random: a client that could guess it could store a
    /// value that reads as other parts.
    pub fn new(boundary: [u8; 16], content_type: &'a str, value_len: u64, ranges: &'a [ByteRange]) -> Self {
        Self { boundary, content_type, value_len, ranges }
    }

    /// The `Content-Type` of the response.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary())
    }

    /// The text before the bytes of this part.
    pub fn part_header(&self, part: usize) -> String {
        let line_end = if part == 0 { "" } else { "\r\n" };
        format!(
            "{line_end}--{}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
            self.boundary(),
            self.content_type,
            self.ranges[part].content_range(self.value_len),
        )
    }

    /// The text after the last part.
    pub fn footer(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary())
    }

    /// The `Content-Length` of the response.
    pub fn total_len(&self) -> u64 {
        let parts = self.ranges.iter().enumerate();
        let framed = parts.map(|(i, r)| self.part_header(i).len() as u64 + r.len());
        framed.sum::<u64>() + self.footer().len() as u64
    }

    fn boundary(&self) -> String {
        self.boundary.iter().fold(String::with_capacity(32), |mut s, b| {
            write!(s, "{b:02x}").expect("a String takes whatever is written to it");
            s
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn single(start: u64, end: u64) -> Ranges {
        Ranges::Single(ByteRange { start, end })
    }

    fn multi(ranges: &[(u64, u64)]) -> Ranges {
        Ranges::Multi(ranges.iter().map(|(start, end)| ByteRange { start: *start, end: *end }).collect())
    }

    #[test]
    fn what_a_value_of_a_hundred_bytes_answers() {
        let many = format!(
            "bytes={}",
            (0..=RANGES_MAX * 3).step_by(3).map(|n| format!("{n}-{n},")).collect::<String>()
        );
        let table = [
            ("bytes=0-0", single(0, 0)),
            ("bytes=0-", single(0, 99)),
            ("Bytes=10-19", single(10, 19)),
            ("bytes= 10-19 ", single(10, 19)),
            ("bytes=99-", single(99, 99)),
            ("bytes=90-1000", single(90, 99)),
            ("bytes=0-99999999999999999999999", single(0, 99)),
            ("bytes=-1", single(99, 99)),
            ("bytes=-100", single(0, 99)),
            ("bytes=-1000", single(0, 99)),
            ("bytes=,,5-6,", single(5, 6)),
            ("bytes=0-9,20-29", multi(&[(0, 9), (20, 29)])),
            ("bytes=20-29,\t0-9", multi(&[(0, 9), (20, 29)])),
            ("bytes=0-9,-10", multi(&[(0, 9), (90, 99)])),
            ("bytes=0-9,200-300", single(0, 9)),
            ("bytes=0-9,10-19", single(0, 19)),
            ("bytes=0-50,10-20,40-60", single(0, 60)),
            ("bytes=0-,-5", single(0, 99)),
            ("bytes=100-", Ranges::Unsatisfiable),
            ("bytes=100-200,300-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=99999999999999999999999-", Ranges::Unsatisfiable),
            ("bytes=", Ranges::Whole),
            ("bytes=,", Ranges::Whole),
            ("bytes", Ranges::Whole),
            ("", Ranges::Whole),
            ("bytes=-", Ranges::Whole),
            ("bytes=2-1", Ranges::Whole),
            ("bytes=0-1,2-1", Ranges::Whole),
            ("bytes=a-b", Ranges::Whole),
            ("bytes=+1-2", Ranges::Whole),
            ("bytes=1 - 2", Ranges::Whole),
            ("bytes=1-2-3", Ranges::Whole),
            ("bytes 1-2", Ranges::Whole),
            ("items=0-1", Ranges::Whole),
            (many.as_str(), Ranges::Whole),
        ];
        for (header, wanted) in table {
            assert_eq!(Ranges::parse(Some(header), 100), wanted, "{header}");
        }
        assert_eq!(Ranges::parse(None, 100), Ranges::Whole);
    }

    #[test]
    fn an_empty_value_has_no_ranges() {
        assert_eq!(Ranges::parse(Some("bytes=0-"), 0), Ranges::Unsatisfiable);
        assert_eq!(Ranges::parse(Some("bytes=-0"), 0), Ranges::Unsatisfiable);
        assert_eq!(Ranges::parse(Some("bytes=-5"), 0), Ranges::Whole);
        assert_eq!(ByteRange::whole(0), None);
        assert_eq!(ByteRange::whole(5).map(ByteRange::len), Some(5));
    }

    #[test]
    fn the_text_of_answers() {
        assert_eq!(ByteRange { start: 5, end: 9 }.content_range(100), "bytes 5-9/100");
        assert_eq!(unsatisfied_content_range(100), "bytes */100");
        let ranges = [ByteRange { start: 0, end: 1 }, ByteRange { start: 8, end: 9 }];
        let multi = Multipart::new([0xab; 16], "text/plain", 10, &ranges);
        let body = format!("{}01{}89{}", multi.part_header(0), multi.part_header(1), multi.footer());
        let b = "ab".repeat(16);
        let wanted = format!(
            "--{b}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
             --{b}\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--{b}--\r\n"
        );
        assert_eq!(body, wanted);
        assert_eq!(multi.total_len(), body.len() as u64);
        assert_eq!(multi.content_type(), format!("multipart/byteranges; boundary={b}"));
    }

    proptest! {
        #[test]
        fn no_text_panics_or_reaches_beyond(text in "(bytes=)?[-0-9, a]{0,40}|\\PC{0,30}", len: u64) {
            match Ranges::parse(Some(&text), len) {
                Ranges::Single(r) => prop_assert!(r.start <= r.end && r.end < len),
                Ranges::Multi(rs) => {
                    prop_assert!(rs.len() >= 2 && rs.len() <= RANGES_MAX);
                    prop_assert!(rs.iter().all(|r| r.start <= r.end && r.end < len));
                    prop_assert!(rs.windows(2).all(|w| w[0].end + 1 < w[1].start));
                }
                Ranges::Whole | Ranges::Unsatisfiable => {}
            }
        }

        #[test]
        fn every_byte_asked_for_is_given_and_no_other(asked in prop::collection::vec((0u64..60, 0u64..20), 1..8), len in 1u64..50) {
            let specs: Vec<String> = asked.iter().map(|(s, n)| format!("{s}-{}", s + n)).collect();
            let header = format!("bytes={}", specs.join(","));
            let given = match Ranges::parse(Some(&header), len) {
                Ranges::Single(r) => vec![r],
                Ranges::Multi(rs) => rs,
                Ranges::Whole | Ranges::Unsatisfiable => vec![],
            };
            for byte in 0..len {
                let wanted = asked.iter().any(|(s, n)| (*s..=s + n).contains(&byte));
                prop_assert_eq!(given.iter().any(|r| (r.start..=r.end).contains(&byte)), wanted);
            }
        }
    }
}
