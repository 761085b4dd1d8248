//! Parameters of a request: `application/x-www-form-urlencoded`, in UTF-8.

use std::fmt::Write as _;

/// Most parameters of a request.
pub(super) const PARAMETERS_MAX: usize = 64;

/// Why parameters cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// There are too many.
    #[error("more than 64 parameters")]
    TooMany,
    /// A `%` without two hexadecimal digits behind it.
    #[error("a % must have two hexadecimal digits behind it; write a % itself as %25")]
    Percent,
    /// What comes out is no UTF-8.
    #[error("parameters must be UTF-8")]
    Utf8,
}

/// Names and values. Of a name that is there several times the first counts, as with servlets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Adds what `text` has: `a=1&b=two+words`.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn add(&mut self, text: &[u8]) -> Result<(), FormError> {
        for pair in text.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            if self.pairs.len() == PARAMETERS_MAX {
                return Err(FormError::TooMany);
            }
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[pair.len()..]),
            };
            self.pairs.push((decoded(name)?, decoded(value)?));
        }
        Ok(())
    }

    /// A parameter; empty if it is not there, as QMQ asks no more of most.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

fn decoded(text: &[u8]) -> Result<String, FormError> {
    let digit = |byte: Option<&u8>| {
        let digit = byte.and_then(|byte| char::from(*byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(FormError::Percent),
            },
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormError::Utf8)
}

/// Parameters as they are sent.
#[must_use]
pub fn encoded<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

fn encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => {
                text.push(char::from(byte));
            }
            b' ' => text.push('+'),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Form, FormError> {
        let mut form = Form::default();
        form.add(text.as_bytes()).map(|()| form)
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read(pairs in prop::collection::btree_map(".*", ".*", 0..8)) {
            let text = encoded(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            prop_assert!(text.is_ascii());
            let form = read(&text).unwrap();
            for (name, value) in &pairs {
                prop_assert_eq!(form.get(name), value);
            }
        }

        #[test]
        fn no_bytes_are_too_odd_to_be_refused(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::default().add(&text);
        }
    }

    #[test]
    fn the_first_of_a_name_counts_and_what_is_not_there_is_empty() {
        let form = read("a=1&a=2&b&&c=%E4%B8%BB+%3d%26").unwrap();
        assert_eq!(form.get("a"), "1");
        assert_eq!(form.get("b"), "");
        assert_eq!(form.get("c"), "主 =&");
        assert_eq!(form.get("d"), "");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(read("a=%"), Err(FormError::Percent));
        assert_eq!(read("a=%2"), Err(FormError::Percent));
        assert_eq!(read("a=%zz"), Err(FormError::Percent));
        assert_eq!(read("a=%+1"), Err(FormError::Percent));
        // GBK.
        assert_eq!(read("a=%D6%F7"), Err(FormError::Utf8));
        let many = |count: usize| vec!["a=1"; count].join("&");
        assert!(read(&many(PARAMETERS_MAX)).is_ok());
        assert_eq!(read(&many(PARAMETERS_MAX + 1)), Err(FormError::TooMany));
    }
}
