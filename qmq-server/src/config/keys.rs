//! The table of all keys: of `broker.properties`, and of `client.properties`.
//!
//! QMQ's keys have QMQ's names. One that could have no meaning here is taken all the same, so that an installation's
//! files can stay as they are, and a warning says why nothing comes of it.

use super::key::{Fallback, Key, Kind, Status, TimeUnit};

const BOOL: Kind = Kind::Bool;
const PATH: Kind = Kind::Path;
const PORT: Kind = Kind::Integer {
    low: 1,
    high: 65_535,
    unit: "a port",
};
const MAYBE_PORT: Kind = Kind::Integer {
    low: 0,
    high: 65_535,
    unit: "a port, 0 for none",
};

const fn integer(low: u64, high: u64, unit: &'static str) -> Kind {
    Kind::Integer { low, high, unit }
}

const fn ms(low: u64, high: u64) -> Kind {
    let unit = TimeUnit::Milliseconds;
    Kind::Duration { unit, low, high }
}

const fn seconds(low: u64, high: u64) -> Kind {
    let unit = TimeUnit::Seconds;
    Kind::Duration { unit, low, high }
}

const fn hours(low: u64, high: u64) -> Kind {
    let unit = TimeUnit::Hours;
    Kind::Duration { unit, low, high }
}

const fn bytes(low: u64, high: u64) -> Kind {
    Kind::Bytes { low, high }
}

const fn text(bytes_max: usize) -> Kind {
    Kind::Text { bytes_max }
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    status: Status,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default: Fallback::Text(default),
        meaning,
        status,
    }
}

const fn works(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    key(name, kind, default, Status::Works, meaning)
}

const fn dynamic(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    key(name, kind, default, Status::Dynamic, meaning)
}

/// A key of QMQ's without effect; the meaning is QMQ's.
const fn idle(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    why: &'static str,
) -> Key {
    key(name, kind, default, Status::NoEffect(why), meaning)
}

/// The keys of `broker.properties`, by subject.
pub const BROKER: &[Key] = &[
    // Where it listens.
    works(
        "broker.name",
        text(100),
        "",
        "name of this broker in logs, metrics and certificates; empty: the host's name",
    ),
    works(
        "broker.group",
        text(100),
        "",
        "broker group that this broker belongs to",
    ),
    works(
        "broker.listen",
        Kind::Address,
        "0.0.0.0",
        "address of the native protocol (QUIC)",
    ),
    works(
        "broker.port",
        PORT,
        "20881",
        "UDP port of the native protocol (QUIC)",
    ),
    works(
        "http.listen",
        Kind::Address,
        "127.0.0.1",
        "address of health, metrics and administration over HTTP",
    ),
    Key {
        name: "http.port",
        kind: MAYBE_PORT,
        default: Fallback::Computed("broker.port + 10000"),
        meaning: "TCP port of health, metrics and administration over HTTP; 0: none",
        status: Status::Works,
    },
    // What it stores.
    works("store.root", PATH, "/data", "folder of the store"),
    works(
        "store.segment.bytes",
        bytes(64 << 10, 4 << 30),
        "64M",
        "size of a log segment; retention frees whole segments",
    ),
    Key {
        name: "message.max.bytes",
        kind: bytes(1, 1 << 30),
        default: Fallback::Computed("4M, or a quarter of store.segment.bytes if that is less"),
        meaning: "largest body of a message; at most a quarter of store.segment.bytes",
        status: Status::Works,
    },
    works(
        "flush.mode",
        Kind::Word(&["sync", "async"]),
        "sync",
        "sync: an answer waits until the message is on disk; async: until it is written, and a loss of power may take flush.interval.ms of it",
    ),
    works(
        "flush.interval.ms",
        ms(1, 3_600_000),
        "200",
        "longest time that written data stays unsynced",
    ),
    works(
        "messagelog.retention.hours",
        hours(1, 87_600),
        "72",
        "how long messages are kept",
    ),
    works(
        "log.expired.delete.enable",
        BOOL,
        "true",
        "false: messages are kept whatever their age",
    ),
    // Subjects and delivery.
    dynamic(
        "subject.auto.create",
        BOOL,
        "true",
        "whether the first message to an unknown subject creates it",
    ),
    dynamic(
        "message.retry.delay.seconds",
        seconds(0, 86_400),
        "5",
        "how long a refused message waits for its next try, unless the consumer says so",
    ),
    works(
        "consumer.session.timeout.ms",
        ms(100, 604_800_000),
        "10000",
        "a consumer not heard of for so long is gone, and its messages go to others",
    ),
    works(
        "consumer.ack.timeout.ms",
        ms(100, 604_800_000),
        "30000",
        "a message not acknowledged for so long is delivered again",
    ),
    works(
        "consumer.nack.max.ms",
        ms(0, 604_800_000),
        "600000",
        "longest delay that a consumer may ask for when it refuses a message",
    ),
    works(
        "consumer.max.attempts",
        integer(1, 1_000_000, "deliveries"),
        "32",
        "deliveries of a message before it goes to the dead-letter subject",
    ),
    works(
        "producer.dedup.window",
        integer(0, 1 << 20, "numbers"),
        "4096",
        "numbers remembered of each producer, to answer a repeated send as the first one; 0: none",
    ),
    works(
        "producer.dedup.producers.max",
        integer(1, 1_000_000, "producers"),
        "10000",
        "producers remembered; beyond it the least recent is forgotten",
    ),
    // Connections and memory.
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
        "longest time from a connection's first packet to its first request",
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
        "most bytes received on a connection and not yet taken",
    ),
    works(
        "memory.send.bytes",
        bytes(64 << 10, 4 << 30),
        "16M",
        "most bytes sent on a connection and not yet acknowledged",
    ),
    works(
        "memory.produce.bytes",
        bytes(1 << 20, 1 << 40),
        "256M",
        "most bytes of all produce requests that are not yet answered",
    ),
    works(
        "memory.deliver.bytes",
        bytes(1 << 20, 1 << 40),
        "256M",
        "most bytes of all deliveries not yet taken by their connections",
    ),
    works(
        "drain.ack.ms",
        ms(0, 600_000),
        "10000",
        "how long a stop waits for acks of what is delivered",
    ),
    works(
        "metrics.subjects.max",
        integer(0, 1_000_000, "subjects"),
        "1000",
        "subjects with metrics of their own; the others are added up",
    ),
    // Who may do what.
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
    // QMQ's keys from which nothing comes.
    idle(
        "meta.server.endpoint",
        text(4096),
        "",
        "address of the meta servers",
        "this broker needs no meta server",
    ),
    idle(
        "sync.port",
        PORT,
        "20882",
        "port for slaves",
        "this broker has no slaves yet",
    ),
    idle(
        "wait.slave.wrote",
        BOOL,
        "false",
        "whether an answer waits for a slave",
        "this broker has no slaves yet, so no answer waits for one; flush.mode says what an answer waits for",
    ),
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
        "slave.message.lag.time.max.seconds",
        seconds(0, 86_400),
        "5",
        "lag from which a slave is late",
        NO_SLAVES,
    ),
    idle(
        "slave.message.lag.mark_readonly",
        BOOL,
        "false",
        "whether a late slave makes its master read-only",
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
    idle(
        "consumerlog.retention.hours",
        hours(0, 87_600),
        "72",
        "how long the index is kept",
        WITH_MESSAGES,
    ),
    idle(
        "pulllog.retention.hours",
        hours(0, 87_600),
        "72",
        "how long the action log is kept",
        WITH_MESSAGES,
    ),
    idle(
        "smt.retention.hours",
        hours(0, 87_600),
        "72",
        "how long sorted tables are kept",
        WITH_MESSAGES,
    ),
    idle(
        "log.retention.check.interval.seconds",
        seconds(0, 86_400),
        "60",
        "how often old files are looked for",
        "the store looks by itself, whenever a segment ends and on a timer",
    ),
    idle(
        "checkpoint.retain.count",
        integer(0, 10_000, "checkpoints"),
        "5",
        "checkpoints kept",
        "the store keeps the last two, and needs no more",
    ),
    idle(
        "message.checkpoint.interval",
        integer(0, u64::MAX, "records"),
        "10000",
        "messages between two checkpoints",
        BY_BYTES,
    ),
    idle(
        "action.checkpoint.interval",
        integer(0, u64::MAX, "records"),
        "10000",
        "actions between two checkpoints",
        BY_BYTES,
    ),
    idle(
        "consumerlog.v2.enable",
        BOOL,
        "false",
        "second format of the index",
        OTHER_INDEX,
    ),
    idle(
        "smt.enable",
        BOOL,
        "false",
        "sorted tables instead of an index a subject",
        OTHER_INDEX,
    ),
    idle(
        "memtable.max_reserved",
        integer(0, 10_000, "tables"),
        "2",
        "spare tables in memory",
        OTHER_INDEX,
    ),
    idle(
        "memtable.max_active",
        integer(0, 10_000, "tables"),
        "4",
        "tables in memory",
        OTHER_INDEX,
    ),
    idle(
        "log_dispatcher.pause.millis",
        ms(0, 60_000),
        "5",
        "pause of the indexing thread",
        "messages are indexed as they are written, without a thread that pauses",
    ),
    idle(
        "receive.queue.size",
        integer(0, u64::MAX, "requests"),
        "50000",
        "requests that may wait to be written",
        "memory.produce.bytes bounds what waits, by its bytes",
    ),
    idle(
        "Receiver.RejectIllegalSubject",
        BOOL,
        "true",
        "whether names with slashes or white space are refused",
        "such names are always refused",
    ),
    idle(
        "put_need_retry_message.limiter",
        integer(0, 1_000_000, "messages a second"),
        "50",
        "retries written a second for each group",
        "a retry is a record of the group and copies no message, so it needs no limit",
    ),
    idle(
        "PullMessageProcessor.AllowNonPositiveRequestNum",
        BOOL,
        "false",
        "whether a pull may ask for no messages",
        "a pull says how many messages it can take, at least one",
    ),
    idle(
        "ConsumerStatusChecker.SkipCheckDuringOffline",
        BOOL,
        "true",
        "whether consumers are checked while the broker goes offline",
        "consumers are declared gone by consumer.session.timeout.ms alone",
    ),
    idle(
        "sub_env_isolation_filter.enable",
        BOOL,
        "false",
        "delivery by environment",
        NO_ENVIRONMENTS,
    ),
    idle(
        "sub_env_isolation_filter.rules_url",
        text(4096),
        "",
        "rules of delivery by environment",
        NO_ENVIRONMENTS,
    ),
];

const NO_SLAVES: &str = "this broker has no slaves yet";
const WITH_MESSAGES: &str = "it goes with its messages, by messagelog.retention.hours";
const BY_BYTES: &str = "checkpoints are taken by bytes written";
const OTHER_INDEX: &str = "the store has one index for all subjects, and no choice of format";
const NO_ENVIRONMENTS: &str =
    "there is no delivery by environment; use a subject or a tag for each";

/// The keys of `client.properties`.
pub const CLIENT: &[Key] = &[
    works(
        "broker.address",
        Kind::HostPorts,
        "",
        "brokers, as host:port with commas between them",
    ),
    works(
        "tls.ca",
        PATH,
        "",
        "certificates that sign those of the brokers, PEM",
    ),
    works("tls.cert", PATH, "", "certificate of this client, PEM"),
    works("tls.key", PATH, "", "its private key, PEM"),
    works(
        "tls.server.name",
        text(253),
        "",
        "name that the broker's certificate must have; empty: the host of broker.address",
    ),
    works(
        "token",
        Kind::Secret { bytes_max: 4096 },
        "",
        "token of this client; token.file names a file that has it",
    ),
    works(
        "consumer.id",
        text(255),
        "",
        "name of this consumer; empty: made from host and process",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::key::variable_of;
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        for key in BROKER.iter().chain(CLIENT) {
            if let Fallback::Text(default) = key.default
                && !default.is_empty()
            {
                assert!(key.kind.read(default).is_some(), "{}", key.name);
            }
            assert!(
                !key.meaning.is_empty() && !key.meaning.ends_with('.'),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn no_two_keys_share_a_name_or_a_variable() {
        for table in [BROKER, CLIENT] {
            let mut variables = BTreeMap::new();
            for key in table {
                let mut names = vec![key.name.to_owned()];
                if key.is_secret() {
                    names.push(format!("{}.file", key.name));
                }
                for name in names {
                    let variable = variable_of(&name);
                    assert!(!["QMQ_CLIENT", "QMQ_LOG"].contains(&&*variable), "{name}");
                    let other = variables.insert(variable, name.clone());
                    assert_eq!(other, None, "{name}");
                }
            }
        }
    }

    #[test]
    fn a_variable_is_the_name_in_capitals_with_underscores() {
        assert_eq!(variable_of("broker.port"), "QMQ_BROKER_PORT");
        assert_eq!(variable_of("a-b.c_d"), "QMQ_A_B_C_D");
        assert_eq!(
            variable_of("Receiver.RejectIllegalSubject"),
            "QMQ_RECEIVER_REJECTILLEGALSUBJECT"
        );
    }
}
