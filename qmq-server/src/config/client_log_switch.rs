//! `client_log_switch.properties`: of which subjects every request is logged.

use std::collections::BTreeMap;

use super::key::Kind;
use super::lines::{Lines, Odd};
use super::properties::Entry;
use super::value::Value;

/// The name that stands for all subjects that are not named.
const DEFAULT: &str = "default";

/// Of which subjects every request is logged: `default=false`, and `SUBJECT=true` or `false` for those that are different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientLogSwitch {
    default: bool,
    subjects: BTreeMap<String, bool>,
}

impl ClientLogSwitch {
    /// Whether requests about this subject are logged.
    #[must_use]
    pub fn is_on(&self, subject: &str) -> bool {
        self.subjects.get(subject).copied().unwrap_or(self.default)
    }

    /// Whether requests about subjects that are not named are.
    #[must_use]
    pub fn default(&self) -> bool {
        self.default
    }

    /// The subjects that are named, in the order of their names.
    pub fn subjects(&self) -> impl Iterator<Item = (&str, bool)> {
        self.subjects.iter().map(|(name, on)| (name.as_str(), *on))
    }
}

impl Lines for ClientLogSwitch {
    fn take(&mut self, entry: Entry) -> Result<(), Odd> {
        let Entry { key, value, .. } = entry;
        if key.starts_with('<') {
            let what = "a placeholder of the documentation is no subject; put your own there, SUBJECT=true or SUBJECT=false";
            return Err(Odd::Warning(what.to_owned()));
        }
        if value.trim().is_empty() {
            let default = if key == DEFAULT {
                "false"
            } else {
                "that of default="
            };
            let what = format!("{key:?} has no value; its default counts: {default}");
            return Err(Odd::Warning(what));
        }
        let Some(Value::Bool(on)) = Kind::Bool.read(&value) else {
            let value: String = value.chars().take(200).collect();
            let key: String = key.chars().take(200).collect();
            let what = format!("{key:?} = {value:?} is refused; allowed is true or false");
            return Err(Odd::Problem(what));
        };
        if key == DEFAULT {
            self.default = on;
            return Ok(());
        }
        if let Err(error) = qmq_message::check_subject(&key) {
            return Err(Odd::Warning(format!("no subject has this name: {error}")));
        }
        match self.subjects.insert(key, on) {
            Some(_) => Err(Odd::Warning(
                "the same subject as on a line before; this one counts".to_owned(),
            )),
            None => Ok(()),
        }
    }

    fn changes_since(&self, old: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut changed = |name: &str, old: bool, new: bool| {
            if old != new {
                changes.push(format!("{name} has changed from {old} to {new}"));
            }
        };
        changed(DEFAULT, old.default, self.default);
        let both = old.subjects.keys().chain(self.subjects.keys());
        let both: std::collections::BTreeSet<_> = both.collect();
        for name in both {
            changed(name, old.is_on(name), self.is_on(name));
        }
        changes
    }
}
