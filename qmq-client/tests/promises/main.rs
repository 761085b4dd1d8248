//! What the client promises, against a broker that follows a script.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot do its part has failed"
)]

mod admin;
mod chaos;
mod connecting;
mod consumer_chaos;
mod consuming;
mod delaying;
mod fake;
mod fake_meta;
mod fake_streams;
mod meta;
mod ordering;
mod producing;
mod routes;
mod tracing_context;
