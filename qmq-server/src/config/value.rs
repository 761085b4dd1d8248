//! A value of a key, read and within its range.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::url::masked;

/// A value of the kind that its key has.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Of [`Kind::Bool`](super::Kind::Bool).
    Bool(bool),
    /// Of [`Kind::Integer`](super::Kind::Integer) and [`Kind::Bytes`](super::Kind::Bytes).
    Number(u64),
    /// Of [`Kind::Duration`](super::Kind::Duration).
    Duration(Duration),
    /// Of [`Kind::Path`](super::Kind::Path).
    Path(PathBuf),
    /// Of [`Kind::Text`](super::Kind::Text), [`Kind::Word`](super::Kind::Word), [`Kind::Host`](super::Kind::Host), [`Kind::HostPorts`](super::Kind::HostPorts),
    /// [`Kind::Urls`](super::Kind::Urls) and [`Kind::Rights`](super::Kind::Rights).
    Text(String),
    /// Of [`Kind::JdbcUrl`](super::Kind::JdbcUrl), with the passwords that it may have.
    Url(String),
    /// Of [`Kind::Address`](super::Kind::Address).
    Address(IpAddr),
    /// Of [`Kind::Secret`](super::Kind::Secret).
    Secret(String),
    /// Nothing is set, and the default is none.
    None,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Duration(value) if value.subsec_millis() == 0 => {
                write!(f, "{} s", value.as_secs())
            }
            Self::Duration(value) => write!(f, "{} ms", value.as_millis()),
            Self::Path(value) => write!(f, "{}", value.display()),
            Self::Text(value) => f.write_str(value),
            Self::Url(value) => f.write_str(&masked(value)),
            Self::Address(value) => write!(f, "{value}"),
            Self::Secret(_) => f.write_str("(secret)"),
            Self::None => f.write_str("(none)"),
        }
    }
}
