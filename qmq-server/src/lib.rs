//! The servers of qmq as a library: the same types that the `qmq` binary starts.

pub mod access;
pub mod broker;
pub mod config;
pub mod delay;
pub mod dev;
pub mod doors;
pub mod membership;
pub mod meta;
pub mod metrics;
pub mod rooms;
pub mod tls;

pub use broker::{Broker, BrokerError, BrokerOptions, NamedBy};
pub use delay::{DelayError, DelayOptions, DelayServer};
pub use membership::{Membership, MembershipOptions, NodeKind};
pub use meta::{MetaServer, MetaServerError, MetaServerOptions};
