//! Names of subjects, groups and consumers: what is allowed, and how retry and dead-letter subjects are called.
//!
//! A name is UTF-8 text of at least one byte and at most the limit of its kind. It has no `/` and no `\`, no control
//! character and no white space, and is neither `.` nor `..`. Such a name can stand in a file name, in a line of a
//! log and in a shell command without being taken for something else.
//!
//! `%` is allowed, since retry subjects are subjects too: `%RETRY%order.changed%billing` passes [`check_subject`].
//! Derived names count against the same [`SUBJECT_BYTES_MAX`]: a subject has a retry and a dead-letter subject only
//! if both fit.

use std::fmt;

use thiserror::Error;

/// Most bytes of a subject's name, retry and dead-letter subjects included.
pub const SUBJECT_BYTES_MAX: usize = 255;

/// Most bytes of a consumer group's name.
pub const GROUP_BYTES_MAX: usize = 100;

/// Most bytes of a consumer's name.
pub const CONSUMER_BYTES_MAX: usize = 255;

const RETRY_PREFIX: &str = "%RETRY%";
const DEAD_LETTER_PREFIX: &str = "%DEAD_RETRY%";

/// What a refused name was meant to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameKind {
    /// A subject.
    Subject,
    /// A consumer group.
    Group,
    /// A consumer of a group.
    Consumer,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subject => "subject",
            Self::Group => "group",
            Self::Consumer => "consumer",
        })
    }
}

/// Why a name was refused. Positions are in bytes from the start of the name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no bytes.
    #[error("the {what} name is empty; give it at least one character")]
    Empty {
        /// What the name was meant for.
        what: NameKind,
    },
    /// The name is longer than its kind allows.
    #[error("the {what} name has {bytes} bytes, and at most {max} are allowed; use a shorter name")]
    TooLong {
        /// What the name was meant for.
        what: NameKind,
        /// Its length in bytes.
        bytes: usize,
        /// The longest length that is allowed, in bytes.
        max: usize,
    },
    /// The name has a slash, a backslash, a control character or white space.
    #[error(
        "the {what} name has {character:?} at byte {position}; slashes, backslashes, control characters and \
         white space are not allowed, use '.', '-' or '_' to separate words"
    )]
    Forbidden {
        /// What the name was meant for.
        what: NameKind,
        /// The first character that is not allowed.
        character: char,
        /// The byte at which it starts.
        position: usize,
    },
    /// The name is `.` or `..`.
    #[error("the {what} name is only dots, which name folders; add another character")]
    Dots {
        /// What the name was meant for.
        what: NameKind,
    },
    /// The name is not UTF-8.
    #[error("the {what} name is not UTF-8 from byte {position} on; encode names as UTF-8")]
    NotUtf8 {
        /// What the name was meant for.
        what: NameKind,
        /// The first byte that does not continue valid text.
        position: usize,
    },
}

/// Checks a subject's name: 1 to [`SUBJECT_BYTES_MAX`] bytes and the rules of this module.
pub fn check_subject(name: &str) -> Result<(), NameError> {
    check(NameKind::Subject, name, SUBJECT_BYTES_MAX)
}

/// Checks a group's name: 1 to [`GROUP_BYTES_MAX`] bytes and the rules of this module.
pub fn check_group(name: &str) -> Result<(), NameError> {
    check(NameKind::Group, name, GROUP_BYTES_MAX)
}

/// Checks a consumer's name: 1 to [`CONSUMER_BYTES_MAX`] bytes and the rules of this module.
pub fn check_consumer(name: &str) -> Result<(), NameError> {
    check(NameKind::Consumer, name, CONSUMER_BYTES_MAX)
}

/// Takes bytes from outside as a subject's name. Refuses what is not UTF-8 and whatever [`check_subject`] refuses.
pub fn subject_from_bytes(bytes: &[u8]) -> Result<&str, NameError> {
    let what = NameKind::Subject;
    // The length comes first, so that a huge field costs no scan.
    check_length(what, bytes.len(), SUBJECT_BYTES_MAX)?;
    let name = std::str::from_utf8(bytes).map_err(|error| NameError::NotUtf8 {
        what,
        position: error.valid_up_to(),
    })?;
    check_subject(name)?;
    Ok(name)
}

fn check_length(what: NameKind, bytes: usize, max: usize) -> Result<(), NameError> {
    match bytes {
        0 => Err(NameError::Empty { what }),
        bytes if bytes > max => Err(NameError::TooLong { what, bytes, max }),
        _ => Ok(()),
    }
}

fn check(what: NameKind, name: &str, max: usize) -> Result<(), NameError> {
    check_length(what, name.len(), max)?;
    let forbidden = |c: char| matches!(c, '/' | '\\') || c.is_control() || c.is_whitespace();
    if let Some((position, character)) = name.char_indices().find(|&(_, c)| forbidden(c)) {
        return Err(NameError::Forbidden {
            what,
            character,
            position,
        });
    }
    if matches!(name, "." | "..") {
        return Err(NameError::Dots { what });
    }
    Ok(())
}

/// A subject's name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectName<'a> {
    /// A subject that producers send to.
    Plain(&'a str),
    /// Where a group's failed deliveries of `subject` wait for another try.
    Retry {
        /// The subject that was consumed.
        subject: &'a str,
        /// The group whose delivery failed.
        group: &'a str,
    },
    /// Where a group's deliveries of `subject` end that failed too often.
    DeadLetter {
        /// The subject that was consumed.
        subject: &'a str,
        /// The group whose delivery failed.
        group: &'a str,
    },
}

/// The name of the subject of `group`'s retries of `subject`: `%RETRY%<subject>%<group>`.
///
/// The result may be longer than [`SUBJECT_BYTES_MAX`]; [`check_subject`] tells.
#[must_use]
pub fn retry_subject(subject: &str, group: &str) -> String {
    format!("{RETRY_PREFIX}{subject}%{group}")
}

/// The name of the subject of `group`'s dead letters of `subject`: `%DEAD_RETRY%<subject>%<group>`.
///
/// The result may be longer than [`SUBJECT_BYTES_MAX`]; [`check_subject`] tells.
#[must_use]
pub fn dead_letter_subject(subject: &str, group: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}{subject}%{group}")
}

/// Takes a subject's name apart.
///
/// The group is what follows the last `%`: a subject may itself be a retry subject, whose name has several, whereas
/// groups are seldom more than a word. So every pair comes back from its derived name whose group has no `%`. A name
/// that has a prefix but lacks a subject or a group is a plain one.
#[must_use]
pub fn parse(name: &str) -> SubjectName<'_> {
    let pair = |prefix| {
        let (subject, group) = name.strip_prefix(prefix)?.rsplit_once('%')?;
        (!subject.is_empty() && !group.is_empty()).then_some((subject, group))
    };
    if let Some((subject, group)) = pair(RETRY_PREFIX) {
        SubjectName::Retry { subject, group }
    } else if let Some((subject, group)) = pair(DEAD_LETTER_PREFIX) {
        SubjectName::DeadLetter { subject, group }
    } else {
        SubjectName::Plain(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHAT: NameKind = NameKind::Subject;

    #[test]
    fn a_path_out_of_the_folder_is_refused_for_its_slash() {
        let refused = check_subject("../../etc/passwd");
        let expected = NameError::Forbidden {
            what: WHAT,
            character: '/',
            position: 2,
        };
        assert_eq!(refused, Err(expected.clone()));
        assert_eq!(
            subject_from_bytes(b"../../etc/passwd"),
            Err(expected.clone())
        );
        assert!(
            expected
                .to_string()
                .contains("subject name has '/' at byte 2")
        );
    }

    #[test]
    fn an_empty_name_is_refused_as_empty() {
        assert_eq!(check_subject(""), Err(NameError::Empty { what: WHAT }));
        assert_eq!(
            subject_from_bytes(b""),
            Err(NameError::Empty { what: WHAT })
        );
        assert_eq!(
            check_group(""),
            Err(NameError::Empty {
                what: NameKind::Group
            })
        );
        assert_eq!(
            check_consumer(""),
            Err(NameError::Empty {
                what: NameKind::Consumer
            })
        );
    }

    #[test]
    fn a_name_of_70000_bytes_is_refused_with_its_length_and_the_limit() {
        let long = "x".repeat(70_000);
        let expected = NameError::TooLong {
            what: WHAT,
            bytes: 70_000,
            max: SUBJECT_BYTES_MAX,
        };
        assert_eq!(check_subject(&long), Err(expected.clone()));
        assert_eq!(subject_from_bytes(long.as_bytes()), Err(expected.clone()));
        let text = expected.to_string();
        assert!(text.contains("70000") && text.contains("255"), "{text}");
    }

    #[test]
    fn each_kind_takes_its_limit_and_not_one_byte_more() {
        type Check = fn(&str) -> Result<(), NameError>;
        let kinds: [(Check, usize); 3] = [
            (check_subject, SUBJECT_BYTES_MAX),
            (check_group, GROUP_BYTES_MAX),
            (check_consumer, CONSUMER_BYTES_MAX),
        ];
        for (check, max) in kinds {
            assert_eq!(check(&"x".repeat(max)), Ok(()));
            assert!(matches!(
                check(&"x".repeat(max + 1)),
                Err(NameError::TooLong { bytes, max: limit, .. }) if bytes == max + 1 && limit == max
            ));
        }
        // The limit is of bytes, not of characters: 128 times two bytes.
        assert!(matches!(
            check_subject(&"é".repeat(128)),
            Err(NameError::TooLong { bytes: 256, .. })
        ));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_where_they_start() {
        assert_eq!(
            subject_from_bytes(b"order\xff"),
            Err(NameError::NotUtf8 {
                what: WHAT,
                position: 5
            })
        );
        assert_eq!(
            subject_from_bytes("bestellung.geändert".as_bytes()),
            Ok("bestellung.geändert")
        );
    }

    #[test]
    fn every_forbidden_kind_of_character_is_refused_at_its_byte() {
        for character in [
            '/', '\\', '\0', '\n', '\x7f', '\u{85}', ' ', '\t', '\u{a0}', '\u{2028}',
        ] {
            let name = format!("é{character}b");
            assert_eq!(
                check_subject(&name),
                Err(NameError::Forbidden {
                    what: WHAT,
                    character,
                    position: 2
                })
            );
        }
    }

    #[test]
    fn only_one_and_two_dots_alone_are_refused() {
        for name in [".", ".."] {
            assert_eq!(check_subject(name), Err(NameError::Dots { what: WHAT }));
        }
        for name in ["...", ".a", "a..b"] {
            assert_eq!(check_subject(name), Ok(()));
        }
    }

    #[test]
    fn derived_subjects_are_subjects() {
        let retry = retry_subject("order.changed", "billing");
        let dead = dead_letter_subject("order.changed", "billing");
        assert_eq!(retry, "%RETRY%order.changed%billing");
        assert_eq!(dead, "%DEAD_RETRY%order.changed%billing");
        assert_eq!(check_subject(&retry), Ok(()));
        assert_eq!(check_subject(&dead), Ok(()));
    }

    #[test]
    fn the_group_follows_the_last_percent_sign() {
        let nested = retry_subject(&retry_subject("s", "g"), "h");
        assert_eq!(
            parse(&nested),
            SubjectName::Retry {
                subject: "%RETRY%s%g",
                group: "h"
            }
        );
        assert_eq!(
            parse("%DEAD_RETRY%50%off%g"),
            SubjectName::DeadLetter {
                subject: "50%off",
                group: "g"
            }
        );
    }

    #[test]
    fn half_of_a_derived_name_is_a_plain_subject() {
        for name in [
            "",
            "s",
            "RETRY%s%g",
            "%RETRY%",
            "%RETRY%s",
            "%RETRY%s%",
            "%RETRY%%g",
            "%DEAD_RETRY%s",
            "%retry%s%g",
        ] {
            assert_eq!(parse(name), SubjectName::Plain(name));
        }
    }

    proptest! {
        #[test]
        fn a_derived_name_gives_its_pair_back(subject in "[^%]{1,40}", group in "[^%]{1,40}") {
            let retry = retry_subject(&subject, &group);
            prop_assert_eq!(parse(&retry), SubjectName::Retry { subject: &subject, group: &group });
            let dead = dead_letter_subject(&subject, &group);
            prop_assert_eq!(parse(&dead), SubjectName::DeadLetter { subject: &subject, group: &group });
        }

        #[test]
        fn a_name_that_passes_is_safe_as_a_file_name(name in any::<String>()) {
            if check_subject(&name).is_ok() {
                prop_assert!(!name.is_empty() && name.len() <= SUBJECT_BYTES_MAX);
                prop_assert!(!name.contains(['/', '\\', '\0', '\n', ' ']));
                prop_assert!(name != "." && name != "..");
            }
        }

        #[test]
        fn bytes_pass_exactly_if_their_text_does(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let by_text = std::str::from_utf8(&bytes).is_ok_and(|text| check_subject(text).is_ok());
            prop_assert_eq!(subject_from_bytes(&bytes).is_ok(), by_text);
        }
    }
}
