//! What somebody may do: rights, each on a pattern of subjects.

use std::fmt;
use std::str::FromStr;

use qmq_message::SubjectName;

use super::Pattern;

/// What is allowed where rights are written.
pub const RIGHTS_ALLOWED: &str = "rights with semicolons between them, each RIGHT:SUBJECT with produce, consume or administer as the \
     right and * for any characters of the subject, such as produce:order.*;consume:*";

/// Most rights in one list, so that a check stays short.
const RIGHTS_MAX: usize = 1000;

/// Something to do with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Send messages to it.
    Produce,
    /// Pull, ack and refuse its messages.
    Consume,
    /// Look after it: create, delete, reset groups, see who consumes.
    Administer,
}

impl Right {
    /// The word that stands for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Administer => "administer",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::Produce, Self::Consume, Self::Administer]
            .into_iter()
            .find(|right| right.word() == word)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why rights cannot be read. Says nothing of what was written, which may be a misplaced secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RightsError {
    /// A part is not `RIGHT:SUBJECT`.
    #[error("part {part} is not RIGHT:SUBJECT; allowed are {RIGHTS_ALLOWED}")]
    Shape {
        /// Which part, from 1.
        part: usize,
    },
    /// The word in front of the colon is no right.
    #[error("part {part} begins with another word than a right; allowed are {RIGHTS_ALLOWED}")]
    Word {
        /// Which part, from 1.
        part: usize,
    },
    /// The pattern could match no subject.
    #[error(
        "part {part} has a pattern that no subject fits: names have 1 to 255 bytes, and no slash, backslash, control character or white space"
    )]
    Pattern {
        /// Which part, from 1.
        part: usize,
    },
    /// There are too many.
    #[error("more than {RIGHTS_MAX} rights; use patterns with *")]
    TooMany,
}

/// A list of rights, each on a pattern of subjects. The empty list allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<(Right, Pattern)>);

impl Rights {
    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of a program that uses the installation: produce and consume everything.
    #[must_use]
    pub fn of_clients() -> Self {
        Self(vec![
            (Right::Produce, Pattern::new("*")),
            (Right::Consume, Pattern::new("*")),
        ])
    }

    /// Those of a node: everything.
    #[must_use]
    pub fn everything() -> Self {
        let mut all = Self::of_clients();
        all.0.push((Right::Administer, Pattern::new("*")));
        all
    }

    /// The rights, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = (Right, &Pattern)> {
        self.0.iter().map(|(right, pattern)| (*right, pattern))
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `right` on `subject` is among them.
    ///
    /// A retry or dead-letter subject belongs to the subject that was consumed: whoever may consume that one may
    /// produce to it, since QMQ's clients send their failed messages there themselves, and may consume it. By its own name it is
    /// matched only where the pattern is `*` alone or spells out the prefix (`%RETRY%...`). Else `produce:*.audit` would reach the
    /// retries of every subject, through groups whose name ends so.
    #[must_use]
    pub fn allows(&self, right: Right, subject: &str) -> bool {
        let base = match qmq_message::parse(subject) {
            SubjectName::Plain(_) => return self.matches(right, subject, false),
            SubjectName::Retry { subject, .. } | SubjectName::DeadLetter { subject, .. } => subject,
        };
        let by_base = match right {
            Right::Produce | Right::Consume => Right::Consume,
            Right::Administer => Right::Administer,
        };
        self.matches(right, subject, true) || self.allows(by_base, base)
    }

    fn matches(&self, right: Right, subject: &str, derived: bool) -> bool {
        self.0.iter().any(|(held, pattern)| {
            let text = pattern.as_str();
            let spelled_out =
                || text == "*" || text.starts_with("%RETRY%") || text.starts_with("%DEAD_RETRY%");
            *held == right && (!derived || spelled_out()) && pattern.matches(subject)
        })
    }
}

impl FromStr for Rights {
    type Err = RightsError;

    /// Reads `produce:order.*;consume:*`. White space around parts and an empty last part do not count.
    fn from_str(text: &str) -> Result<Self, RightsError> {
        let mut rights = Vec::new();
        for (index, piece) in text.split(';').enumerate() {
            let part = index + 1;
            let piece = piece.trim();
            if piece.is_empty() {
                continue;
            }
            let (word, pattern) = piece.split_once(':').ok_or(RightsError::Shape { part })?;
            let right = Right::of_word(word.trim()).ok_or(RightsError::Word { part })?;
            let pattern = pattern.trim();
            if qmq_message::check_subject(pattern).is_err() {
                return Err(RightsError::Pattern { part });
            }
            if rights.len() == RIGHTS_MAX {
                return Err(RightsError::TooMany);
            }
            rights.push((right, Pattern::new(pattern)));
        }
        Ok(Self(rights))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (right, pattern)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{right}:{pattern}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(text: &str) -> Rights {
        text.parse().unwrap()
    }

    #[test]
    fn a_right_holds_for_the_subjects_of_its_pattern_only() {
        let held = rights("produce:order.*; consume:pay ;");
        assert!(held.allows(Right::Produce, "order.paid"));
        assert!(held.allows(Right::Consume, "pay"));
        assert!(!held.allows(Right::Consume, "order.paid"));
        assert!(!held.allows(Right::Produce, "pay"));
        assert!(!held.allows(Right::Administer, "order.paid"));
        assert!(!Rights::none().allows(Right::Produce, "order.paid"));
    }

    #[test]
    fn who_consumes_a_subject_handles_its_retries_and_dead_letters() {
        let consumer = rights("consume:order");
        let producer = rights("produce:order");
        for derived in [
            "%RETRY%order%g",
            "%DEAD_RETRY%order%g",
            "%DEAD_RETRY%%RETRY%order%g%h",
        ] {
            assert!(consumer.allows(Right::Produce, derived), "{derived}");
            assert!(consumer.allows(Right::Consume, derived), "{derived}");
            assert!(!producer.allows(Right::Produce, derived), "{derived}");
            assert!(!producer.allows(Right::Consume, derived), "{derived}");
        }
        assert!(!consumer.allows(Right::Produce, "%RETRY%pay%g"));
        assert!(!consumer.allows(Right::Administer, "%RETRY%order%g"));
        assert!(rights("administer:order").allows(Right::Administer, "%RETRY%order%g"));
    }

    #[test]
    fn a_retry_subject_by_its_own_name_needs_a_pattern_that_means_it() {
        assert!(rights("produce:%RETRY%order%g").allows(Right::Produce, "%RETRY%order%g"));
        assert!(rights("produce:%RETRY%*").allows(Right::Produce, "%RETRY%order%g"));
        assert!(rights("produce:*").allows(Right::Produce, "%RETRY%order%g"));
        assert!(rights("consume:%DEAD_RETRY%*").allows(Right::Consume, "%DEAD_RETRY%order%g"));
        for held in ["produce:*.audit", "consume:*.audit", "produce:%*"] {
            let held = rights(held);
            assert!(!held.allows(Right::Produce, "%RETRY%pay%x.audit"), "{held}");
            assert!(!held.allows(Right::Consume, "%RETRY%pay%x.audit"), "{held}");
        }
    }

    #[test]
    fn bad_rights_are_refused_with_their_part_and_what_is_allowed() {
        let table = [
            ("produce", RightsError::Shape { part: 1 }),
            ("produce:*;consume", RightsError::Shape { part: 2 }),
            ("write:*", RightsError::Word { part: 1 }),
            ("Produce:*", RightsError::Word { part: 1 }),
            ("produce:", RightsError::Pattern { part: 1 }),
            ("produce:*;;consume:a/b", RightsError::Pattern { part: 3 }),
            ("produce:a b", RightsError::Pattern { part: 1 }),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Rights>(), Err(expected), "{text}");
        }
        let many = "produce:*;".repeat(RIGHTS_MAX + 1);
        assert_eq!(many.parse::<Rights>(), Err(RightsError::TooMany));
        let text = RightsError::Word { part: 1 }.to_string();
        assert!(text.contains("produce, consume or administer"), "{text}");
    }

    #[test]
    fn rights_come_back_from_their_written_form() {
        for text in ["", "produce:order.*;consume:*", "administer:a"] {
            assert_eq!(rights(text).to_string(), text);
        }
        assert!(Rights::everything().allows(Right::Administer, "any"));
        assert!(!Rights::of_clients().allows(Right::Administer, "any"));
        assert_eq!(Rights::none().iter().count(), 0);
    }
}
