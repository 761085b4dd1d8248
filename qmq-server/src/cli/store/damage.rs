//! Damaged stretches as lines: of text for people, of JSON for programs.

use qmq_store::Damage;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Prints a line for each; `label` begins those for people.
pub(crate) fn print(
    out: &mut Output,
    damages: &[Damage],
    json: bool,
    label: &str,
) -> Result<(), Failure> {
    for damage in damages {
        if json {
            out.json(&Line::from(damage))?;
        } else {
            out.line(format!("{label}{damage}"))?;
        }
    }
    Ok(())
}

/// A damaged stretch as JSON.
#[derive(Serialize)]
struct Line<'a> {
    damage: String,
    file: &'a str,
    offset: u64,
    len: u64,
    subject: Option<&'a str>,
    sequence: Option<u64>,
}

impl<'a> From<&'a Damage> for Line<'a> {
    fn from(damage: &'a Damage) -> Self {
        let message = damage.message.as_ref();
        Self {
            damage: snake_case(&format!("{:?}", damage.kind)),
            file: &damage.file,
            offset: damage.offset,
            len: damage.len,
            subject: message.map(|(subject, _)| subject.as_str()),
            sequence: message.map(|(_, sequence)| *sequence),
        }
    }
}

/// `MessageBody` as `message_body`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
