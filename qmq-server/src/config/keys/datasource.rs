//! The keys of `datasource.properties`.

use super::super::key::{Key, Kind};
use super::make::{SECRET, idle, integer, required, text, works};

/// The keys of `datasource.properties`.
pub const DATASOURCE: &[Key] = &[
    required(
        "jdbc.url",
        Kind::JdbcUrl,
        "the database, as JDBC writes it; passwords in it are not shown",
    ),
    required("jdbc.username", text(80), "user of the database"),
    works(
        "jdbc.password",
        SECRET,
        "",
        "password of that user; jdbc.password.file names a file that has it",
    ),
    works(
        "pool.size.max",
        integer(1, 1_000, "connections"),
        "10",
        "most connections to the database",
    ),
    idle(
        "jdbc.driverClassName",
        text(255),
        "com.mysql.jdbc.Driver",
        "Java class of the driver",
        "the drivers are part of this program; jdbc.url says which is used",
    ),
];
