//! The texts of the oldest pickles, which are written as Python source has them.

/// A string literal with its quotes, `'a\x00b'`: the bytes that it stands for.
pub(super) fn string_literal(line: &[u8]) -> Option<Vec<u8>> {
    let (&quote, rest) = line.trim_ascii().split_first()?;
    let body = rest.strip_suffix(&[quote])?;
    if quote != b'\'' && quote != b'"' {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'\n' => {}
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'v' => bytes.push(11),
            b'f' => bytes.push(12),
            b'x' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            first @ b'0'..=b'7' => {
                let mut value = u32::from(first - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = rest.clone().next() else {
                        break;
                    };
                    rest.next();
                    value = value * 8 + u32::from(digit - b'0');
                }
                bytes.push((value & 0xff) as u8);
            }
            other @ (b'\\' | b'\'' | b'"') => bytes.push(other),
            other => bytes.extend([b'\\', other]),
        }
    }
    Some(bytes)
}

/// Latin-1 with `\uXXXX` and `\UXXXXXXXX` (Python's raw-unicode-escape).
pub(super) fn raw_unicode(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        let digits = match line[at..] {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => {
                text.push(char::from(line[at]));
                at += 1;
                continue;
            }
        };
        let digits = std::str::from_utf8(line.get(at + 2..at + 2 + digits)?).ok()?;
        text.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        at += 2 + digits.len();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_python_reads_them() {
        assert_eq!(string_literal(br"'a\x00\'\12\n\q'").unwrap(), b"a\x00'\x0a\n\\q");
        assert_eq!(string_literal(b"\"it's\"").unwrap(), b"it's");
        for bad in [&b""[..], b"'", b"'a", b"a'", br"'\x0'", br"'\'"] {
            assert!(string_literal(bad).is_none(), "{bad:?}");
        }
        assert_eq!(raw_unicode(b"a\\u00e9\xe9\\U0001f600\\").unwrap(), "aéé😀\\");
        assert!(raw_unicode(br"\ud800").is_none() && raw_unicode(br"\u00").is_none());
    }
}
