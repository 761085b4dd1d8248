//! Short ways to write a row of the table.

use super::super::key::{Fallback, Key, Kind, Status, TimeUnit};

pub(super) const BOOL: Kind = Kind::Bool;
pub(super) const PATH: Kind = Kind::Path;
pub(super) const PORT: Kind = Kind::Integer {
    low: 1,
    high: 65_535,
    unit: "a port",
};
pub(super) const MAYBE_PORT: Kind = Kind::Integer {
    low: 0,
    high: 65_535,
    unit: "a port, 0 for none",
};

pub(super) const SECRET: Kind = Kind::Secret { bytes_max: 4096 };

pub(super) const fn integer(low: u64, high: u64, unit: &'static str) -> Kind {
    Kind::Integer { low, high, unit }
}

pub(super) const fn ms(low: u64, high: u64) -> Kind {
    let unit = TimeUnit::Milliseconds;
    Kind::Duration { unit, low, high }
}

pub(super) const fn seconds(low: u64, high: u64) -> Kind {
    let unit = TimeUnit::Seconds;
    Kind::Duration { unit, low, high }
}

pub(super) const fn hours(low: u64, high: u64) -> Kind {
    let unit = TimeUnit::Hours;
    Kind::Duration { unit, low, high }
}

pub(super) const fn bytes(low: u64, high: u64) -> Kind {
    Kind::Bytes { low, high }
}

pub(super) const fn text(bytes_max: usize) -> Kind {
    Kind::Text { bytes_max }
}

pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    status: Status,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default: Fallback::Text(default),
        meaning,
        status,
        differs: None,
    }
}

/// A key whose default depends on others, as `how` says.
pub(super) const fn computed(
    name: &'static str,
    kind: Kind,
    how: &'static str,
    meaning: &'static str,
) -> Key {
    let mut key = works(name, kind, "", meaning);
    key.default = Fallback::Computed(how);
    key
}

/// A key that must be set.
pub(super) const fn required(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    let mut key = works(name, kind, "", meaning);
    key.default = Fallback::Required;
    key
}

/// A key of which documents, QMQ's code and this program do not say the same.
pub(super) const fn differs(mut key: Key, how: &'static str) -> Key {
    key.differs = Some(how);
    key
}

/// How many keys several tables have.
pub(super) const fn length(parts: &[&[Key]]) -> usize {
    let (mut sum, mut part) = (0, 0);
    while part < parts.len() {
        sum += parts[part].len();
        part += 1;
    }
    sum
}

/// One table of several, so that files share the keys that mean the same. `N` is their [`length`].
pub(super) const fn joined<const N: usize>(parts: &[&[Key]]) -> [Key; N] {
    let mut all = [parts[0][0]; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            all[at] = parts[part][index];
            at += 1;
            index += 1;
        }
        part += 1;
    }
    assert!(at == N, "N is the length of the parts");
    all
}

pub(super) const fn works(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    key(name, kind, default, Status::Works, meaning)
}

pub(super) const fn dynamic(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    key(name, kind, default, Status::Dynamic, meaning)
}

/// A key of QMQ's without effect; the meaning is QMQ's.
pub(super) const fn idle(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    why: &'static str,
) -> Key {
    key(name, kind, default, Status::NoEffect(why), meaning)
}
