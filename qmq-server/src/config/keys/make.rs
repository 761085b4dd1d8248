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
    }
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
