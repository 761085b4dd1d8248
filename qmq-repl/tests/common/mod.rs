//! What the tests share: a log in memory, a network, a cluster in virtual time, and what must always hold.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod healed;
pub(crate) mod log;
pub(crate) mod rng;
pub(crate) mod sim;

pub(crate) use log::ModelLog;
use qmq_repl::{Group, Peer};
pub(crate) use rng::Rng;
pub(crate) use sim::{Faults, Setup, Sim};

/// The group of so many members that the tests have.
pub(crate) fn group(nodes: usize, me: usize, min_insync: usize) -> Group {
    Group {
        name: "group".to_owned(),
        members: (0..nodes).map(|n| format!("node-{n}")).collect(),
        me: Peer(me as u16),
        min_insync,
    }
}
