//! Patterns of `SCAN` and `KEYS` (Redis documentation, `KEYS`): `*`, `?`, `[a-c]`, `[^a]`, and `\` before any of these.

/// Returns the text with which every match begins.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|b| b"*?[\\".contains(b)).unwrap_or(pattern.len());
    &pattern[..end]
}

/// Whether the whole of `text` matches. Takes time in proportion to the product of both lengths at most.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match one(&pattern[p..], text[t]) {
            _ if pattern.get(p) == Some(&b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(length) => {
                p += length;
                t += 1;
            }
            None => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// How much of the pattern matches this byte; none if it does not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => {
            let (negated, class) = class.strip_prefix(b"^").map_or((false, class), |rest| (true, rest));
            let mut at = 0;
            let mut found = false;
            while let Some(&first) = class.get(at).filter(|b| **b != b']') {
                match class[at..] {
                    [b'\\', escaped, ..] => {
                        found |= escaped == byte;
                        at += 2;
                    }
                    [low, b'-', high, ..] if high != b']' => {
                        found |= (low.min(high)..=low.max(high)).contains(&byte);
                        at += 3;
                    }
                    _ => {
                        found |= first == byte;
                        at += 1;
                    }
                }
            }
            // A class that is not closed ends with the pattern.
            let length = 1 + usize::from(negated) + (at + 1).min(class.len());
            (found != negated).then_some(length)
        }
        [plain, ..] => (*plain == byte).then_some(1),
    }
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
            (r"[\]]", "]", true),
            ("a[bc", "ab", true),
            ("", "", true),
            ("", "a", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
        assert_eq!(literal_prefix(b"b/a?c*"), b"b/a");
        assert_eq!(literal_prefix(b"b/a"), b"b/a");
    }
}
