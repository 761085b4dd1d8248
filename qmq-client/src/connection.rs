//! Connections: one for each broker, shared by all who use it, and made again when it is lost.

pub(crate) mod backoff;
pub(crate) mod breaker;
mod broker;
mod link;
pub(crate) mod pipe;
mod route;
pub(crate) mod tls;

pub(crate) use broker::Broker;
pub use broker::ConnectionState;
pub(crate) use link::{Dialer, Link, malformed};
pub(crate) use route::Route;
