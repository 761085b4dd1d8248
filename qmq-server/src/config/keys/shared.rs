//! Keys that several files share, since they mean the same there.

use super::super::key::{Key, Kind};
use super::make::{
    MAYBE_PORT, PATH, SECRET, bytes, computed, differs, hours, idle, integer, ms, seconds, text,
    works,
};

/// Name, and where it listens.
pub(super) const LISTEN: &[Key] = &[
    works(
        "broker.name",
        text(100),
        "",
        "name that this server tells its clients and shows in its metrics; empty: the host's name",
    ),
    works(
        "broker.listen",
        Kind::Address,
        "0.0.0.0",
        "address of the native protocol (QUIC)",
    ),
    works(
        "http.listen",
        Kind::Address,
        "127.0.0.1",
        "address of health and metrics over HTTP",
    ),
    computed(
        "http.port",
        MAYBE_PORT,
        "broker.port + 10000",
        "TCP port of health and metrics over HTTP; 0: none",
    ),
];

/// What it stores.
pub(super) const STORE: &[Key] = &[
    differs(
        works("store.root", PATH, "/data", "folder of the store"),
        "the guides call it required; QMQ's code takes /data without it, and so does this program",
    ),
    works(
        "store.segment.bytes",
        bytes(64 << 10, 4 << 30),
        "64M",
        "size of a log segment; retention frees whole segments",
    ),
    computed(
        "message.max.bytes",
        bytes(1, 1 << 30),
        "4M, or a quarter of store.segment.bytes if that is less",
        "largest body of a message; at most a quarter of store.segment.bytes",
    ),
    works(
        "flush.mode",
        Kind::Word(&["sync", "async"]),
        "sync",
        "sync: an answer waits until the message is on disk; async: until it is written, and a loss of power may take flush.interval.ms of it",
    ),
    differs(
        works(
            "flush.interval.ms",
            ms(1, 3_600_000),
            "200",
            "longest time that written data stays unsynced",
        ),
        "not QMQ's: its documents call flushing configurable, its code flushes every 500 ms",
    ),
    differs(
        works(
            "messagelog.retention.hours",
            hours(1, 87_600),
            "72",
            "how long messages are kept",
        ),
        "QMQ takes a change while it runs; here it counts from the next start",
    ),
];

/// What its group and the meta servers know of it.
pub(super) const MEMBER: &[Key] = &[
    works(
        "meta.server.name",
        Kind::Host,
        "",
        "name that the certificates of the meta servers must have; empty: the host of meta.server.endpoint; what its HTTP answers is not trusted",
    ),
    works(
        "broker.group",
        text(100),
        "",
        "broker group that this server belongs to; where the meta servers' table says otherwise, the table counts",
    ),
    works(
        "qmq.host",
        Kind::Host,
        "",
        "host name under which it registers with the meta servers; empty: the host's own",
    ),
    works(
        "qmq.ip",
        Kind::Address,
        "",
        "address at which others reach this server, where the meta servers' table says no other; empty: its own address on the way to the meta server",
    ),
];

/// Limits on connections.
pub(super) const CONNECTIONS: &[Key] = &[
    works(
        "connection.max",
        integer(1, 1_000_000, "connections"),
        "10000",
        "most connections at a time",
    ),
    works(
        "connection.idle.ms",
        ms(1_000, 3_600_000),
        "30000",
        "a connection on which nothing arrives for so long is closed",
    ),
    works(
        "connection.stall.ms",
        ms(1_000, 3_600_000),
        "30000",
        "a connection that takes nothing of what waits for it for so long is closed",
    ),
    works(
        "handshake.timeout.ms",
        ms(100, 600_000),
        "5000",
        "longest time for TLS and HELLO",
    ),
    works(
        "streams.max",
        integer(8, 65_536, "streams"),
        "1024",
        "most streams of a connection at a time",
    ),
    works(
        "memory.receive.bytes",
        bytes(64 << 10, 4 << 30),
        "16M",
        "most bytes received on a connection and not yet taken; less when many are connected, see memory.windows.bytes",
    ),
    works(
        "memory.send.bytes",
        bytes(64 << 10, 4 << 30),
        "16M",
        "most bytes sent on a connection and not yet acknowledged; less when many are connected, see memory.windows.bytes",
    ),
    works(
        "memory.windows.bytes",
        bytes(1 << 20, 1 << 40),
        "2G",
        "most bytes of both, of all connections; each has at least 32 KiB each way",
    ),
];

/// Budgets of memory for messages.
pub(super) const BUDGETS: &[Key] = &[
    works(
        "memory.produce.bytes",
        bytes(1 << 20, 1 << 40),
        "256M",
        "most bytes of all requests that are not yet in the log; a connection has a quarter at most",
    ),
    works(
        "memory.deliver.bytes",
        bytes(1 << 20, 1 << 40),
        "256M",
        "most bytes of all deliveries not yet taken by their connections",
    ),
];

/// Who may do what.
pub(super) const SECURITY: &[Key] = &[
    works(
        "tls.cert",
        PATH,
        "tls/node.pem",
        "certificate of this node, PEM; re-read when the file changes",
    ),
    works(
        "tls.key",
        PATH,
        "tls/node.key",
        "its private key, PEM; re-read when the file changes",
    ),
    works(
        "tls.ca",
        PATH,
        "tls/ca.pem",
        "certificates that sign those of clients and nodes, PEM; re-read when the file changes",
    ),
    works(
        "client.auth",
        Kind::Word(&["optional", "required"]),
        "optional",
        "whether a client needs a certificate",
    ),
    works(
        "tokens.file",
        PATH,
        "client-tokens.properties",
        "tokens and their rights; re-read when the file changes",
    ),
    works(
        "anonymous.rights",
        Kind::Rights,
        "",
        "what a client without token and certificate may do, such as produce:*;consume:*",
    ),
    works(
        "cluster.token",
        SECRET,
        "",
        "secret that the nodes of a cluster share, for those without a certificate of its CA; cluster.token.file names a file that has it",
    ),
];

/// Keys of QMQ's that both of its stores have, from which nothing comes.
pub(super) const IDLE: &[Key] = &[
    idle(
        "slave.sync.timeout",
        ms(1, 3_600_000),
        "3000",
        "how long a slave waits for its master",
        NO_SLAVES,
    ),
    idle(
        "sync.batch.size",
        bytes(1, 1 << 30),
        "100000",
        "most bytes that a slave gets at a time",
        NO_SLAVES,
    ),
    idle(
        "message.sync.timeout.ms",
        ms(0, 3_600_000),
        "10",
        "how long the master holds a slave's request",
        NO_SLAVES,
    ),
    idle(
        "slave.server.http.port",
        MAYBE_PORT,
        "8080",
        "HTTP port of a slave",
        NO_SLAVES,
    ),
    idle(
        "query.max.threads",
        integer(0, 10_000, "threads"),
        "5",
        "threads of a slave's HTTP queries",
        NO_SLAVES,
    ),
    differs(
        idle(
            "log.retention.check.interval.seconds",
            seconds(0, 86_400),
            "60",
            "how often old files are looked for",
            "the store looks by itself, whenever a segment ends and on a timer",
        ),
        "the guides call it dynamic; QMQ's code reads it once, at start",
    ),
];

pub(super) const NO_SLAVES: &str = "there are no slaves yet";
