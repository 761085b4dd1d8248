//! What a broker promises those who speak the native protocol with it, over real QUIC.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "../common/relay.rs"]
mod relay;
#[path = "../common/test_broker.rs"]
mod test_broker;
#[path = "../common/wire_client.rs"]
mod wire_client;

mod certificates;
mod cuts;
mod defects;
mod drain;
mod dynamic;
mod fairness;
mod frames;
mod gate;
mod handshakes;
mod limits;
mod produce;
mod pull;
mod restart;
mod security;
mod subscribe;
