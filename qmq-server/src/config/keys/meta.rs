//! The keys of `metaserver.properties`.

use super::super::key::{Key, Kind};
use super::make::{
    PATH, PORT, computed, dynamic, idle, integer, joined, length, ms, seconds, text, works,
};
use super::shared;

/// The keys of `metaserver.properties`, by subject.
pub const META: &[Key] = &joined::<{ length(PARTS) }>(PARTS);

const PARTS: &[&[Key]] = &[OWN, shared::CONNECTIONS, shared::SECURITY, IDLE];

const OWN: &[Key] = &[
    works(
        "meta.name",
        text(100),
        "",
        "name that this server tells its clients and shows in its metrics; empty: the host's name",
    ),
    works(
        "meta.listen",
        Kind::Address,
        "0.0.0.0",
        "address of the native protocol (QUIC)",
    ),
    works(
        "meta.server.port",
        PORT,
        "20880",
        "UDP port of the native protocol (QUIC); /meta/address tells it",
    ),
    works(
        "http.listen",
        Kind::Address,
        "0.0.0.0",
        "address of HTTP: discovery, management, health and metrics",
    ),
    works(
        "meta.server.discover.port",
        PORT,
        "8080",
        "TCP port of HTTP: discovery, management, health and metrics",
    ),
    works(
        "http.compat",
        Kind::Word(&["auto", "true", "false"]),
        "auto",
        "true: lists and switches need no token, as in QMQ; false: they need one; auto: true if http.listen is a loopback address, else false",
    ),
    works(
        "qmq.host",
        Kind::Host,
        "",
        "host that /meta/address tells; empty: the address at which it was asked",
    ),
    // What is known, and where.
    works(
        "datasource.file",
        PATH,
        "datasource.properties",
        "file that names the MySQL or MariaDB database; without such a file meta.database is used",
    ),
    works(
        "meta.root",
        PATH,
        "meta",
        "folder of meta.database and meta.snapshot.file",
    ),
    computed(
        "meta.database",
        PATH,
        "meta.db in meta.root",
        "SQLite file, if no datasource.file says otherwise; one meta server at a time",
    ),
    computed(
        "meta.snapshot.file",
        PATH,
        "meta.snapshot in meta.root",
        "copy of what the database says, used only while the database is away",
    ),
    works(
        "refresh.period.seconds",
        seconds(1, 3_600),
        "5",
        "how often the database is read anew",
    ),
    dynamic(
        "heartbeat.timeout.ms",
        ms(1_000, 3_600_000),
        "30000",
        "a broker of which nothing is heard for so long is not sent to any more",
    ),
    dynamic(
        "min.group.num",
        integer(1, 1_000, "broker groups"),
        "2",
        "least broker groups that a new subject gets, if there are so many",
    ),
    // Other files.
    works(
        "valid.api.tokens.file",
        PATH,
        "valid-api-tokens.properties",
        "tokens of those who manage over HTTP; re-read when the file changes",
    ),
    works(
        "client.log.switch.file",
        PATH,
        "client_log_switch.properties",
        "subjects whose requests are logged in full; re-read when the file changes",
    ),
];

const IDLE: &[Key] = &[
    idle(
        "broker.http.port.map.file",
        PATH,
        "broker-http-port-map.properties",
        "HTTP ports of slaves that do not have the usual one",
        "there are no slaves with HTTP yet",
    ),
    idle(
        "meta.server.load.balance",
        Kind::Word(&["random"]),
        "random",
        "how broker groups are chosen for a new subject",
        "random is the only choice there is",
    ),
];
