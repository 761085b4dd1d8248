//! The meta server of qmq without its doors: who serves which subject, who lives, and where that is kept.
//!
//! | module | what it is about |
//! |---|---|
//! | `model` | subjects, broker groups, brokers, routes: the rows, as both databases have them |
//! | `database` | what a database must do |
//! | `meta` | the handle: everything that a meta server does, on such a database |
//! | `answers`, `options`, `problem`, `status` | what it is asked and answers, how it goes about it, why not, how it is |
//! | `share` | moving subjects between groups without losing a message |
//! | `sqlite` | the embedded database: one file, one meta server |
//! | `mysql` | MySQL and MariaDB: QMQ's own tables, and ours beside them |
//! | `jdbc` | `jdbc.url` as QMQ's operators write it |
//! | `migrate` | makes the tables |
//! | `columns`, `rows`, `fault` | what columns hold, rows as they lie there, what goes wrong: of both databases |

mod admin;
mod answers;
mod choice;
mod clients;
mod columns;
mod database;
mod drain;
mod entry;
mod error;
mod fault;
mod help;
mod jdbc;
mod meta;
mod migrate;
mod model;
mod mysql;
mod nodes;
mod options;
mod patience;
mod picture;
mod problem;
mod refresh;
mod routing;
mod rows;
mod share;
mod shared;
mod snapshot;
mod sqlite;
mod start;
mod status;

pub use answers::{Acquired, Heard, Presence, RouteAnswer, RouteRequest, RoutedGroup};
pub use database::{Database, Everything, Liveness, Now};
pub use error::DatabaseError;
pub use jdbc::{JdbcUrl, Tls};
pub use meta::Meta;
pub use migrate::{MigrateOptions, Report, migrate, migration_sql};
pub use model::{
    Broker, BrokerGroup, BrokerRole, ClientKind, ClientRow, DataSource, GroupKind, GroupState,
    OfflineRow, ReadonlyRow, Standing, Subject, SubjectRoute,
};
pub use mysql::{MySql, MySqlOptions};
pub use options::{MetaOptions, Random};
pub use problem::MetaError;
pub use share::{Emptiness, Move, Plan, Progress};
pub use sqlite::Sqlite;
pub use status::{DatabaseStatus, MetaStatus, NodeStatus};
