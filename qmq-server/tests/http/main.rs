//! Health and metrics of a broker that runs, over HTTP.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot talk to its broker has failed"
)]

mod broker;
mod exposition;
mod health;
mod limits;
mod metrics;
