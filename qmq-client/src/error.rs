//! Why a client could not be made or does not reach its broker.

use std::time::Duration;

use qmq_wire::{CloseCode, WireError};

/// A setting that does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value is out of its range.
    #[error("{what} is {value}; it must be between {least} and {most}")]
    Range {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// The least allowed.
        least: String,
        /// The most allowed.
        most: String,
    },
    /// An address is no `host:port`.
    #[error("the broker address {address:?} has no port; write host:port or [address]:port")]
    Address {
        /// The address.
        address: String,
    },
    /// Nothing says where brokers are.
    #[error(
        "no broker is set; give the address of one with broker(..), or of a meta server that knows them with meta(..)"
    )]
    NoBrokers,
    /// Both brokers and meta servers are set.
    #[error(
        "both brokers and meta servers are set; give brokers with broker(..), or let meta servers say where they are with meta(..), not both"
    )]
    BrokersAndMeta,
    /// The address of a meta server's HTTP is no such address.
    #[error(
        "the meta address {url:?} does not work: {reason}; write http://host:8080/meta/address"
    )]
    MetaUrl {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// A route cannot be followed.
    #[error("the route cannot be followed: {reason}")]
    NotFollowed {
        /// Why.
        reason: String,
    },
    /// No authorities are set.
    #[error(
        "no authorities are set; give the certificate that brokers' certificates come from with authorities(..)"
    )]
    NoAuthorities,
    /// A certificate or key cannot be used.
    #[error("the {what} cannot be used: {reason}")]
    Certificate {
        /// Which: authorities, certificate or key.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A name breaks its rule.
    #[error(transparent)]
    Name(#[from] qmq_message::NameError),
    /// A filter breaks its rule.
    #[error(transparent)]
    Filter(#[from] qmq_message::MessageError),
    /// There is no runtime.
    #[error("the client needs a tokio runtime with time and I/O; call this from a task of one")]
    NoRuntime,
}

/// Why a broker is not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client is not configured well.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host's name leads nowhere.
    #[error("{address}: no address found: {reason}")]
    Lookup {
        /// The broker's address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The connection failed.
    #[error("{address}: {reason}")]
    Transport {
        /// The broker's address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The broker closed the connection.
    #[error("{address} closed the connection{}: {reason}", in_words(*code))]
    Closed {
        /// The broker's address.
        address: String,
        /// Why; `None`: for a reason that this version does not know.
        code: Option<CloseCode>,
        /// Why, for a person.
        reason: String,
    },
    /// What came is not the protocol.
    #[error("{address} does not follow the protocol: {error}")]
    Protocol {
        /// The broker's address.
        address: String,
        /// What came.
        error: WireError,
    },
    /// It took too long.
    #[error("{address} did not answer within {limit:?}; does it run, and is its UDP port open?")]
    TimedOut {
        /// The broker's address, or all of them.
        address: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A meta server's HTTP did not say where it is.
    #[error("{url} did not say where the meta server is: {reason}")]
    MetaLookup {
        /// The address that was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    ClientClosed,
}

fn in_words(code: Option<CloseCode>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

impl ConnectError {
    /// Whether trying again will not help before somebody changes something.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Closed { code, .. } => matches!(
                code,
                Some(CloseCode::Unauthorized | CloseCode::WrongNode | CloseCode::NoCommonVersion)
            ),
            Self::Config(_) | Self::ClientClosed => true,
            _ => false,
        }
    }
}
