//! Java's `.properties` format: lines into keys and values, each with its line number.
//!
//! What `java.util.Properties` reads is read here, with two differences: files are UTF-8 rather than Latin-1, and a
//! broken `\u` escape is an error with its line instead of an exception for the whole file. The key ends at the first `=`, `:` or white
//! space that no backslash protects, so `pulllog.retention.hours` alone on a line is a key with an empty value.

/// A key and its value, as a file has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line on which the key begins, from 1.
    pub line: usize,
    /// The key, escapes resolved.
    pub key: String,
    /// The value, escapes resolved, without white space in front. What stands behind it belongs to it, as in Java.
    pub value: String,
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxError {
    /// The line is not UTF-8.
    #[error("not UTF-8; save the file as UTF-8, or write \\uXXXX for the character")]
    NotUtf8,
    /// A `\u` is not followed by four hexadecimal digits.
    #[error("\\u needs four hexadecimal digits; write \\\\ for a backslash")]
    Escape,
    /// A `\u` escape is half of a surrogate pair.
    #[error("\\u with half of a surrogate pair; write both halves, or the character itself")]
    Surrogate,
}

/// What a file says: its entries in order, and the lines that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Every entry, in the order of the file; a key may come more than once, and the last one counts.
    pub entries: Vec<Entry>,
    /// Line and reason of what could not be read.
    pub errors: Vec<(usize, SyntaxError)>,
}

impl Properties {
    /// Reads the bytes of a file. A byte order mark in front is passed over.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut read = Self::default();
        let mut lines = natural_lines(bytes);
        while let Some((line, first)) = lines.next() {
            let Some(first) = read.text(line, first) else {
                continue;
            };
            let mut logical = first.trim_start_matches(is_blank).to_owned();
            if logical.is_empty() || logical.starts_with(['#', '!']) {
                continue;
            }
            let mut readable = true;
            while ends_in_continuation(&logical) {
                logical.pop();
                let Some((number, next)) = lines.next() else {
                    break;
                };
                match read.text(number, next) {
                    Some(next) => logical.push_str(next.trim_start_matches(is_blank)),
                    None => readable = false,
                }
            }
            if readable {
                read.entry(line, &logical);
            }
        }
        read
    }

    fn text<'a>(&mut self, line: usize, bytes: &'a [u8]) -> Option<&'a str> {
        let text = std::str::from_utf8(bytes).ok();
        if text.is_none() {
            self.errors.push((line, SyntaxError::NotUtf8));
        }
        text
    }

    fn entry(&mut self, line: usize, logical: &str) {
        let (key, value) = split(logical);
        match (unescape(key), unescape(value)) {
            (Ok(key), Ok(value)) => self.entries.push(Entry { line, key, value }),
            (Err(error), _) | (_, Err(error)) => self.errors.push((line, error)),
        }
    }
}

/// Lines with their numbers; `\n`, `\r` and `\r\n` end one.
fn natural_lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(bytes);
    let lines = std::iter::from_fn(move || {
        let bytes = rest?;
        let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(bytes);
        };
        let both = bytes[end] == b'\r' && bytes.get(end + 1) == Some(&b'\n');
        rest = Some(&bytes[end + 1 + usize::from(both)..]);
        Some(&bytes[..end])
    });
    lines.enumerate().map(|(index, line)| (index + 1, line))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// An odd number of backslashes at the end: the last one escapes the end of the line.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn split(logical: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = logical.char_indices().find(|&(_, c)| {
        let ends = !escaped && (is_blank(c) || matches!(c, '=' | ':'));
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else {
        return (logical, "");
    };
    let value = logical[end..].trim_start_matches(is_blank);
    let value = value.strip_prefix(['=', ':']).unwrap_or(value);
    (&logical[..end], value.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> Result<String, SyntaxError> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some('u') => plain.push(character(&mut chars)?),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

/// The character behind `\u`; Java writes those beyond U+FFFF as two escapes.
fn character(chars: &mut std::str::Chars<'_>) -> Result<char, SyntaxError> {
    let first = unit(chars)?;
    let units = match first {
        0xd800..=0xdbff => {
            if chars.next() != Some('\\') || chars.next() != Some('u') {
                return Err(SyntaxError::Surrogate);
            }
            vec![first, unit(chars)?]
        }
        _ => vec![first],
    };
    let mut decoded = char::decode_utf16(units);
    match decoded.next() {
        Some(Ok(character)) => Ok(character),
        _ => Err(SyntaxError::Surrogate),
    }
}

fn unit(chars: &mut std::str::Chars<'_>) -> Result<u16, SyntaxError> {
    let mut value = 0_u16;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        let digit = digit.and_then(|digit| u16::try_from(digit).ok());
        value = value << 4 | digit.ok_or(SyntaxError::Escape)?;
    }
    Ok(value)
}

/// A value as it must be written in a file, so that [`Properties::parse`] gives it back.
#[must_use]
pub fn escape_value(value: &str) -> String {
    let mut written = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        match c {
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            '\x0c' => written.push_str("\\f"),
            ' ' if at == 0 => written.push_str("\\ "),
            c => written.push(c),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        let read = Properties::parse(text.as_bytes());
        assert_eq!(read.errors, []);
        read.entries
            .into_iter()
            .map(|entry| (entry.line, entry.key, entry.value))
            .collect()
    }

    fn pair(text: &str) -> (String, String) {
        let all = pairs(text);
        assert_eq!(all.len(), 1, "{all:?}");
        (all[0].1.clone(), all[0].2.clone())
    }

    #[test]
    fn every_separator_of_java_is_one() {
        for line in [
            "a=b",
            "a:b",
            "a b",
            "a = b",
            "a\t:\tb",
            "  a=b",
            "\x0ca\x0cb",
            "a=\tb",
        ] {
            assert_eq!(pair(line), ("a".into(), "b".into()), "{line:?}");
        }
        assert_eq!(pair("a==b"), ("a".into(), "=b".into()));
        assert_eq!(
            pair("url=http://h:1/p"),
            ("url".into(), "http://h:1/p".into())
        );
        assert_eq!(pair("a\\=b\\:c\\ d=e"), ("a=b:c d".into(), "e".into()));
        assert_eq!(pair("alone"), ("alone".into(), String::new()));
    }

    #[test]
    fn comments_and_blank_lines_count_as_lines_only() {
        let text = "# one\n\n  ! two\r\na=1\rb=2 # not a comment\n#c=\\\nd=3";
        let expected = [(4, "a", "1"), (5, "b", "2 # not a comment"), (7, "d", "3")];
        let expected = expected.map(|(line, key, value)| (line, key.to_owned(), value.to_owned()));
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn a_backslash_at_the_end_goes_on_in_the_next_line() {
        assert_eq!(
            pairs("a=1,\\\n   2,\\\r\n\t3\nb=\\\\\nc=x\\"),
            [
                (1, "a".to_owned(), "1,2,3".to_owned()),
                (4, "b".to_owned(), "\\".to_owned()),
                (5, "c".to_owned(), "x".to_owned()),
            ]
        );
    }

    #[test]
    fn escapes_become_their_characters() {
        assert_eq!(
            pair(r"a=\t\n\r\f\\\q\u4e2d\ud83d\ude00é中").1,
            "\t\n\r\x0c\\q中😀é中"
        );
        assert_eq!(pair("\u{feff}a=b").0, "a");
    }

    #[test]
    fn what_cannot_be_read_is_reported_with_its_line_and_the_rest_is_read() {
        let read =
            Properties::parse(b"a=\\u12\nb=\\ud83d!\nc=\xff\nd=1\ne=\\udc00\nf=\\\n\xfe\ng=2");
        assert_eq!(
            read.errors,
            [
                (1, SyntaxError::Escape),
                (2, SyntaxError::Surrogate),
                (3, SyntaxError::NotUtf8),
                (5, SyntaxError::Surrogate),
                (7, SyntaxError::NotUtf8),
            ]
        );
        let keys: Vec<_> = read.entries.iter().map(|entry| &*entry.key).collect();
        assert_eq!(keys, ["d", "g"]);
    }

    proptest! {
        #[test]
        fn any_value_comes_back_from_its_written_form(value in any::<String>()) {
            let text = format!("key={}\n", escape_value(&value));
            prop_assert_eq!(pair(&text), ("key".to_owned(), value));
        }

        #[test]
        fn no_bytes_stop_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
            let read = Properties::parse(&bytes);
            prop_assert!(read.entries.iter().all(|entry| (1..=lines).contains(&entry.line)));
        }
    }
}
