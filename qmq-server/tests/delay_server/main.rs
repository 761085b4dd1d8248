//! What a delay server promises: over real QUIC, with real brokers behind it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "../meta/cluster.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod cluster;
#[path = "../common/test_broker.rs"]
mod test_broker;
#[path = "../common/wire_client.rs"]
mod wire_client;

mod commands;
mod control;
mod decommission;
mod defects;
mod delivery;
mod http;
mod kill;
mod limits;
mod restart;
mod test_delay;
