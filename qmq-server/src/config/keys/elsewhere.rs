//! The keys of QMQ's servers that have no counterpart here yet. They are known, so that an installation's files pass their check, and each
//! says that nothing comes of it.

use super::super::key::{Key, Kind};
use super::make::{
    BOOL, MAYBE_PORT, PATH, bytes, differs, idle, integer, joined, length, ms, seconds, text,
};

const NO_WATCHDOG: &str = "there is no watchdog yet";
const NO_BACKUP: &str = "there is no backup server yet";
const METRICS: &str = "metrics are part of the servers, for Prometheus, at /metrics of their HTTP";

/// The keys of `watchdog.properties`.
pub const WATCHDOG: &[Key] = &[
    idle(
        "appCode",
        text(100),
        "",
        "name of the application",
        NO_WATCHDOG,
    ),
    idle(
        "meta.server.endpoint",
        text(4096),
        "",
        "address of the meta servers",
        NO_WATCHDOG,
    ),
    idle(
        "namespace",
        text(100),
        "default",
        "which databases it looks after: those registered with this room",
        NO_WATCHDOG,
    ),
    idle(
        "sendMessageTaskExecuteTimeout",
        ms(0, 86_400_000),
        "180000",
        "longest scan of one database",
        NO_WATCHDOG,
    ),
    idle(
        "refreshInterval",
        ms(0, 86_400_000),
        "180000",
        "how often the list of databases is read anew",
        NO_WATCHDOG,
    ),
    idle(
        "checkInterval",
        ms(0, 86_400_000),
        "60000",
        "age from which an unsent message is sent again",
        NO_WATCHDOG,
    ),
];

/// The keys of `backup.properties`.
pub const BACKUP: &[Key] =
    &joined::<{ length(&[BACKUP_PLACE, BACKUP_WORK]) }>(&[BACKUP_PLACE, BACKUP_WORK]);

/// The keys of `dead_backup.properties`.
pub const DEAD_BACKUP: &[Key] = BACKUP;

const BACKUP_PLACE: &[Key] = &[
    idle(
        "meta.server.endpoint",
        text(4096),
        "",
        "address of the meta servers",
        NO_BACKUP,
    ),
    idle(
        "acquire.server.meta.url",
        text(4096),
        "",
        "where the slaves of groups are asked for",
        NO_BACKUP,
    ),
    idle("store.root", PATH, "", "folder of its data", NO_BACKUP),
    idle(
        "rocks.db.path",
        PATH,
        "",
        "folder of its intermediate store",
        NO_BACKUP,
    ),
    idle(
        "rocks.db.ttl",
        seconds(0, 315_360_000),
        "7200",
        "how long that store keeps what it has",
        NO_BACKUP,
    ),
    idle(
        "broker.port",
        MAYBE_PORT,
        "20881",
        "port of the backup server",
        NO_BACKUP,
    ),
    idle(
        "backup.server.http.port",
        MAYBE_PORT,
        "8080",
        "HTTP port of its queries",
        NO_BACKUP,
    ),
    idle(
        "max.query.threads",
        integer(0, 10_000, "threads"),
        "3",
        "threads of its queries",
        NO_BACKUP,
    ),
    idle(
        "store.type",
        text(100),
        "hbase",
        "where it stores",
        NO_BACKUP,
    ),
];

const BACKUP_WORK: &[Key] = &[
    idle(
        "message.backup.batch.size",
        integer(0, 1_000_000, "messages"),
        "10",
        "messages stored at a time",
        NO_BACKUP,
    ),
    idle(
        "message.backup.max.retry.num",
        integer(0, 1_000_000, "tries"),
        "5",
        "tries to store a message",
        NO_BACKUP,
    ),
    idle(
        "record.backup.batch.size",
        integer(0, 1_000_000, "records"),
        "10",
        "records stored at a time",
        NO_BACKUP,
    ),
    differs(
        idle(
            "record.backup.max.retry.num",
            integer(0, 1_000_000, "tries"),
            "5",
            "tries to store a record",
            NO_BACKUP,
        ),
        "the guide's file has message.backup.max.retry.num twice and this key never",
    ),
    differs(
        idle(
            "dead.message.backup.thread.size",
            integer(0, 10_000, "threads"),
            "1",
            "threads for dead messages",
            NO_BACKUP,
        ),
        "declared and not used in QMQ's code",
    ),
    differs(
        idle(
            "dead.record.backup.thread.size",
            integer(0, 10_000, "threads"),
            "1",
            "threads for records of dead messages",
            NO_BACKUP,
        ),
        "declared and not used in QMQ's code",
    ),
    differs(
        idle(
            "enable.record",
            BOOL,
            "true",
            "whether records are stored",
            NO_BACKUP,
        ),
        "the guide's file says false; QMQ's code takes true without it",
    ),
    idle(
        "enable.index.log.delete",
        BOOL,
        "true",
        "whether its index log is deleted",
        NO_BACKUP,
    ),
    idle(
        "sync.offset.flush.interval",
        ms(0, 86_400_000),
        "500",
        "how often it writes how far it is",
        NO_BACKUP,
    ),
    differs(
        idle(
            "message.backup.hfile.size",
            bytes(0, u64::MAX),
            "10000",
            "messages of a bulk file",
            NO_BACKUP,
        ),
        "only a path that QMQ's code does not take reads it",
    ),
];

/// The keys of `hbase.properties`.
pub const HBASE: &[Key] = &[
    idle(
        "hbase.message.table",
        text(255),
        "qmq_backup",
        "table of messages",
        NO_BACKUP,
    ),
    idle(
        "hbase.delay.message.table",
        text(255),
        "qmq_backup_delay",
        "table of delayed messages",
        NO_BACKUP,
    ),
    idle(
        "hbase.record.table",
        text(255),
        "",
        "table of records",
        NO_BACKUP,
    ),
    idle(
        "hbase.dead.table",
        text(255),
        "",
        "table of dead messages",
        NO_BACKUP,
    ),
    idle(
        "hbase.dead.content.table",
        text(255),
        "",
        "table of the bodies of dead messages",
        NO_BACKUP,
    ),
    idle(
        "hbase.zookeeper.quorum",
        text(4096),
        "",
        "where HBase is found",
        NO_BACKUP,
    ),
    idle(
        "hbase.zookeeper.znode.parent",
        text(4096),
        "",
        "where HBase is in it",
        NO_BACKUP,
    ),
    idle(
        "hbase.*",
        text(65_536),
        "",
        "any other setting of HBase",
        NO_BACKUP,
    ),
];

/// The keys of `qmq.prometheus.properties`.
pub const PROMETHEUS: &[Key] = &[
    idle(
        "monitor.type",
        Kind::Word(&["prometheus", "graphite"]),
        "prometheus",
        "where metrics go",
        METRICS,
    ),
    idle(
        "monitor.action",
        Kind::Word(&["pull", "none"]),
        "pull",
        "how they go there",
        METRICS,
    ),
    idle(
        "monitor.port",
        MAYBE_PORT,
        "3333",
        "port at which they are fetched",
        METRICS,
    ),
    idle("graphite.host", text(253), "", "host of Graphite", METRICS),
    idle("graphite.port", MAYBE_PORT, "", "port of Graphite", METRICS),
];
