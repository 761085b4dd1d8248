//! Patterns of subjects.

use std::fmt;

/// A subject's name in which each `*` stands for any characters, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name fits. Linear in the pattern times the name at worst, without recursion.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on when the text behind the last star does not fit: the star takes one byte more.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(byte) if *byte == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((after, taken)) = retry else {
                        return false;
                    };
                    retry = Some((after, taken + 1));
                    p = after;
                    n = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let table = [
            ("order", "order", true),
            ("order", "orders", false),
            ("order", "Order", false),
            ("order.*", "order.", true),
            ("order.*", "order.paid", true),
            ("order.*", "order", false),
            ("*.paid", "order.paid", true),
            ("*.paid", "order.paid.eu", false),
            ("a*b*c", "aXbXbYc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("*", "bestellung.geändert", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(
                Pattern::new(pattern).matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = Pattern::new("*a".repeat(100) + "b");
        assert!(!pattern.matches(&"a".repeat(255)));
    }

    /// The obvious definition, slow.
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|taken| fits(rest, &name[taken..])),
            Some((byte, rest)) => name
                .split_first()
                .is_some_and(|(n, tail)| n == byte && fits(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(Pattern::new(&*pattern).matches(&name), fits(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
