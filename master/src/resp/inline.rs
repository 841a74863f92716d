//! Splits inline commands into arguments, as `redis-cli` and Redis do: by spaces, with quotes.

use bytes::Bytes;

/// Returns the arguments of a line; none if a quote is not closed, or not followed by a space.
pub fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut arguments = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(arguments);
        }
        let mut argument = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            rest = match byte {
                _ if byte.is_ascii_whitespace() => break,
                b'"' | b'\'' => quoted(byte, after, &mut argument)?,
                _ => {
                    argument.push(byte);
                    after
                }
            };
        }
        arguments.push(argument.into());
    }
}

/// Reads up to the closing quote; returns what follows it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = match (byte, after) {
            _ if byte == quote => {
                return after.first().is_none_or(u8::is_ascii_whitespace).then_some(after);
            }
            (b'\\', [b'\'', after @ ..]) if quote == b'\'' => {
                argument.push(b'\'');
                after
            }
            (b'\\', [b'x', high, low, after @ ..])
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                argument.push(digit(high)? << 4 | digit(low)?);
                after
            }
            (b'\\', [escaped, after @ ..]) if quote == b'"' => {
                argument.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            _ => {
                argument.push(byte);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_redis_does() {
        let split = |line: &str| {
            let arguments = split(line.as_bytes())?;
            Some(arguments.iter().map(|a| a.escape_ascii().to_string()).collect::<Vec<_>>())
        };
        for (line, wanted) in [
            ("", Some(&[][..])),
            ("  PING  ", Some(&["PING"])),
            ("get  a\tb", Some(&["get", "a", "b"])),
            (r#"set "a b" '\'' "\x0a\t\q""#, Some(&["set", "a b", "\\'", "\\n\\tq"])),
            (r#"set "" ''"#, Some(&["set", "", ""])),
            (r#"a"b"c"#, None),
            (r#"a"b""#, Some(&["ab"])),
            (r#""a"#, None),
            (r#"'a\'"#, None),
            (r#""a\"#, None),
        ] {
            let wanted = wanted.map(|list: &[&str]| list.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
            assert_eq!(split(line), wanted, "{line}");
        }
    }
}
