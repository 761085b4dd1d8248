//! Connections: one for each broker and one to a meta server, shared by all who use them, and made again when they are lost.

pub(crate) mod backoff;
pub(crate) mod breaker;
mod broker;
mod link;
pub(crate) mod meta;
pub(crate) mod pipe;
mod pool;
mod route;
pub(crate) mod tls;

pub(crate) use broker::Broker;
pub use broker::ConnectionState;
pub(crate) use link::{Dialer, Link, malformed};
pub(crate) use pool::Pool;
pub(crate) use route::Route;
