//! MariaDB, with the grants of QMQ's install documents.

#![allow(clippy::unwrap_used, reason = "tests")]

#[macro_use]
#[path = "../database/mod.rs"]
mod database;
#[path = "../mariadb_server/mod.rs"]
mod mariadb_server;

mod away;
mod java;
mod migration;
mod names;
mod several;

use std::sync::Arc;

use database::Db;
use mariadb_server::{Scratch, Server};

mod with_qmqs_tables_of_today {
    use super::*;

    async fn empty(_: &str) -> (Db, Scratch) {
        let scratch = Server::shared().database().await;
        scratch.migrate().await;
        (Arc::new(scratch.meta()), scratch)
    }

    promises!(empty);
}

mod with_qmqs_tables_of_2018 {
    use super::*;

    async fn empty(_: &str) -> (Db, Scratch) {
        let scratch = Server::shared().database().await;
        scratch.migrate().await;
        scratch.older().await;
        (Arc::new(scratch.meta()), scratch)
    }

    promises!(empty);
}
