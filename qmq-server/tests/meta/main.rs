//! Meta servers and the nodes that belong to them, over real QUIC and HTTP on loopback.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "../common/test_broker.rs"]
mod test_broker;
#[path = "../common/wire_client.rs"]
mod wire_client;

mod away;
mod cluster;
mod credentials;
mod liveness;
mod mistakes;
mod registering;
