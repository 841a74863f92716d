//! Patterns of `SCAN` and `KEYS` (Redis documentation, `KEYS`): `*`, `?`, `[a-c]`, `[^a]`, and `\` before any of these.

use shared::limits::{KEY_BYTES_MAX, RESP_MATCH_STEPS};

/// A pattern that was read once: each of its parts takes one byte of a text, in one step.
#[derive(Debug)]
pub struct Pattern(Vec<Part>);

#[derive(Debug)]
enum Part {
    /// Any number of bytes.
    Many,
    Any,
    Byte(u8),
    /// The bytes of a class.
    Class(Box<[bool; 256]>),
}

/// How many steps a call may still take: patterns with many `*` take as many as the product of both lengths.
#[derive(Debug)]
pub struct Budget(u64);

/// The budget of a call is spent.
#[derive(Debug, PartialEq, Eq)]
pub struct TooCostly;

impl Default for Budget {
    fn default() -> Self {
        Self(RESP_MATCH_STEPS)
    }
}

impl Pattern {
    /// Returns the pattern; none if it is longer than a key.
    pub fn new(text: &[u8]) -> Option<Self> {
        if text.len() > KEY_BYTES_MAX {
            return None;
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((&first, after)) = rest.split_first() {
            let part;
            (part, rest) = match (first, after) {
                (b'*', after) => (Part::Many, after),
                (b'?', after) => (Part::Any, after),
                (b'\\', [escaped, after @ ..]) => (Part::Byte(*escaped), after),
                (b'[', after) => class(after),
                (byte, after) => (Part::Byte(byte), after),
            };
            parts.push(part);
        }
        Some(Self(parts))
    }

    /// Whether the whole of `text` matches.
    ///
    /// # Errors
    /// When the budget is spent.
    pub fn matches(&self, text: &[u8], budget: &mut Budget) -> Result<bool, TooCostly> {
        let (mut p, mut t) = (0, 0);
        // Where the last `*` was, and how much text it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            budget.0 = budget.0.checked_sub(1).ok_or(TooCostly)?;
            let takes = match self.0.get(p) {
                Some(Part::Many) => {
                    star = Some((p, t));
                    p += 1;
                    continue;
                }
                Some(Part::Any) => true,
                Some(Part::Byte(byte)) => *byte == text[t],
                Some(Part::Class(class)) => class[usize::from(text[t])],
                None => false,
            };
            if takes {
                (p, t) = (p + 1, t + 1);
            } else {
                let Some((at, taken)) = star else { return Ok(false) };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
        Ok(self.0[p..].iter().all(|part| matches!(part, Part::Many)))
    }
}

/// Reads a class after its `[`. One that is not closed ends with the pattern.
fn class(text: &[u8]) -> (Part, &[u8]) {
    let (negated, mut rest) = text.strip_prefix(b"^").map_or((false, text), |rest| (true, rest));
    let mut bytes = Box::new([negated; 256]);
    loop {
        let range;
        (range, rest) = match rest {
            [] => return (Part::Class(bytes), rest),
            [b']', after @ ..] => return (Part::Class(bytes), after),
            [b'\\', escaped, after @ ..] => (*escaped..=*escaped, after),
            [low, b'-', high, after @ ..] if *high != b']' => (*low.min(high)..=*low.max(high), after),
            [plain, after @ ..] => (*plain..=*plain, after),
        };
        range.for_each(|byte| bytes[usize::from(byte)] = !negated);
    }
}

/// Returns the text with which every match begins.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|b| b"*?[\\".contains(b)).unwrap_or(pattern.len());
    &pattern[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_redis() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("*", "a/b", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"a\", "a\\", true),
            (r"[\]]", "]", true),
            ("a[bc", "ab", true),
            ("a[]", "ab", false),
            ("a[^]", "ab", true),
            ("", "", true),
            ("", "a", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            let compiled = Pattern::new(pattern.as_bytes()).unwrap();
            let matched = compiled.matches(text.as_bytes(), &mut Budget::default());
            assert_eq!(matched, Ok(wanted), "{pattern} {text}");
        }
        assert_eq!(literal_prefix(b"b/a?c*"), b"b/a");
        assert_eq!(literal_prefix(b"b/a"), b"b/a");
    }

    #[test]
    fn what_takes_long_ends() {
        assert!(Pattern::new(&[b'a'; KEY_BYTES_MAX + 1]).is_none());
        let evil = [b"*".as_slice(), &[b'k'; 500], b"z"].concat();
        let (pattern, mut budget) = (Pattern::new(&evil).unwrap(), Budget::default());
        let text = [b'k'; KEY_BYTES_MAX];
        assert!((0..1_000_000).any(|_| pattern.matches(&text, &mut budget) == Err(TooCostly)));
    }
}
