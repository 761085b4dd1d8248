//! What goes wrong in QMQ's delay server, one test each: it would fail on QMQ's design. The numbers are those of our study of QMQ; what each
//! one was is said above its test.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

#[path = "qmq_defects/a_lost_messages.rs"]
mod a_lost_messages;
#[path = "qmq_defects/b_durability.rs"]
mod b_durability;
#[path = "qmq_defects/e_coupling.rs"]
mod e_coupling;
