//! What the tests share: a log in memory, a network, a cluster in virtual time, and what must always hold.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod healed;
pub(crate) mod log;
pub(crate) mod rng;
pub(crate) mod sim;

pub(crate) use log::ModelLog;
pub(crate) use rng::Rng;
pub(crate) use sim::{Faults, Setup, Sim};
