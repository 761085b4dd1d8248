//! The HTTP of a meta server, on loopback over SQLite: what QMQ's operators and their `tools.sh` meet, and the commands that ask.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot talk to its meta server has failed"
)]

#[path = "../common/mod.rs"]
mod common;

mod actions;
mod door;
mod limits;
mod moves;
mod reach;
mod resets;
mod switches;
mod tokens;
mod tools;
mod transcript;
