//! Delayed messages that wait for their time: by what they are known, and what can be done about them.

mod admin;

use std::fmt;
use std::str::FromStr;

pub use admin::{DeadLetters, DelayAdmin, DelayPage};

/// By what a delayed message is known: the group of its delay server, and the id that this gave it. As text `group/32 hex digits`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delayed {
    /// The group of the delay server; its address if it has no group.
    pub group: String,
    /// The id, of which only that server makes sense.
    pub id: [u8; 16],
}

impl fmt::Display for Delayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.group)?;
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no [`Delayed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no delayed message; write group/ and its 32 hex digits, as the report of the producer has it"
)]
pub struct NotDelayed {
    /// The text.
    pub text: String,
}

impl FromStr for Delayed {
    type Err = NotDelayed;

    fn from_str(text: &str) -> Result<Self, NotDelayed> {
        let wrong = || NotDelayed {
            text: text.to_owned(),
        };
        let (group, digits) = text.rsplit_once('/').ok_or_else(wrong)?;
        let hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if group.is_empty() || !hex {
            return Err(wrong());
        }
        let id = u128::from_str_radix(digits, 16).map_err(|_| wrong())?;
        Ok(Self {
            group: group.to_owned(),
            id: id.to_be_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delayed_message_is_known_by_a_text() {
        let delayed = Delayed {
            group: "delay-1".to_owned(),
            id: std::array::from_fn(|n| n as u8 * 17),
        };
        let text = delayed.to_string();
        assert_eq!(text, "delay-1/00112233445566778899aabbccddeeff");
        assert_eq!(text.parse(), Ok(delayed));
        for wrong in [
            "",
            "delay-1",
            "/00112233445566778899aabbccddeeff",
            "a/0011",
            "a/+0112233445566778899aabbccddeeff",
        ] {
            let told = wrong.parse::<Delayed>().unwrap_err().to_string();
            assert!(told.contains("32 hex digits"), "{told}");
        }
    }
}
