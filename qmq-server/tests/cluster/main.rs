//! A cluster of processes on a real MariaDB: meta servers with the grants of QMQ's install documents, brokers and delay servers that operators have entered, clients.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../../../qmq-meta/tests/mariadb_server/mod.rs"]
mod mariadb_server;
#[path = "../common/broker.rs"]
mod user;

mod broker_killed;
mod database_away;
mod java;
mod migration;
mod mistakes;
mod nodes;
mod rows;
mod states;
mod traffic;
mod two_metas;
